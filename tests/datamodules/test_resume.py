import pytest
import torch
import torchvision.transforms.v2 as v2

from datamodules import ImageFolder
from tests.datamodules.runs import SaveAt, Witness, train

# 43 pictures make 5 batches of 8: steps 3 and 7 lie within an epoch, 5 and 10 end one
PLACES = [
    ("batch end", 3),
    ("batch end", 5),
    ("batch end", 7),
    ("validation end", 5),
    ("epoch end", 5),
    ("epoch end", 10),
]
pytestmark = pytest.mark.filterwarnings("ignore:.*num_workers.*", "ignore:.*GPU.*", "ignore:.*eval mode.*")


def make(root, workers):
    augment = [v2.RandomAffine(degrees=20), v2.RandomHorizontalFlip()]
    return ImageFolder(root=str(root), batch_size=8, num_workers=workers, augment=augment, seed=3)


def witness(asks_for_steps=True):
    torch.manual_seed(0)
    return Witness(num_pixels=3 * 6 * 8, num_classes=2, asks_for_steps=asks_for_steps)


@pytest.fixture(scope="module")
def whole(animals, tmp_path_factory):
    """What the uninterrupted run saw, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = witness()
    saves = [SaveAt(folder / f"{hook} {step}.ckpt", hook, step) for hook, step in PLACES]
    train(make(animals, 0), model, callbacks=saves, max_epochs=3)
    return model.seen, folder


def steps(seen):
    return [entry for entry in seen if isinstance(entry[1], int)]


def test_the_uninterrupted_run_is_as_expected(whole):
    seen, _ = whole
    assert [entry[:2] for entry in seen[:7]] == [*((0, batch) for batch in range(5)), (0, "validated"), (0, "ended")]
    assert len(steps(seen)) == 15


def test_two_workers_see_the_same(animals, whole):
    model = witness()
    train(make(animals, 2), model, max_epochs=3)
    assert model.seen == whole[0]


def test_loaders_that_are_rebuilt_see_the_same(animals, whole):
    model = witness()
    train(make(animals, 2), model, max_epochs=3, reload_dataloaders_every_n_epochs=1)
    assert model.seen == whole[0]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("hook", "step"), PLACES)
def test_a_resumed_run_sees_what_the_uninterrupted_run_saw(animals, whole, hook, step, workers, recwarn):
    """Same pictures, labels, numbers of batches and epochs, rates and validations, down to the bit."""
    seen, folder = whole
    model = witness()
    train(make(animals, workers), model, ckpt_path=folder / f"{hook} {step}.ckpt", max_epochs=3)
    assert steps(model.seen) == steps(seen)[step:]
    assert model.seen == seen[-len(model.seen) :]
    later = [entry[0] for entry in model.seen if entry[1] == "validated" and entry[0] > (step - 1) // 5]
    assert later == [1, 2][(step - 1) // 5 :]
    assert not [warning for warning in recwarn if "not resumable" in str(warning.message)]


def test_also_if_the_loader_is_built_after_the_counters_are_restored(animals, tmp_path):
    model, resumed = witness(asks_for_steps=False), witness(asks_for_steps=False)
    train(make(animals, 0), model, callbacks=[SaveAt(tmp_path / "a.ckpt", "batch end", 7)], max_epochs=2)
    train(make(animals, 0), resumed, ckpt_path=tmp_path / "a.ckpt", max_epochs=2)
    assert steps(resumed.seen) == steps(model.seen)[7:]


def test_limited_epochs_and_steps(animals, tmp_path):
    for number, limits in enumerate(({"max_epochs": 3, "limit_train_batches": 4}, {"max_steps": 12, "max_epochs": -1})):
        path = tmp_path / f"{number}.ckpt"
        model, resumed = witness(), witness()
        train(make(animals, 0), model, callbacks=[SaveAt(path, "batch end", 6)], **limits)
        train(make(animals, 0), resumed, ckpt_path=path, **limits)
        assert steps(resumed.seen) == steps(model.seen)[6:]


def test_a_resumed_run_keeps_its_seed(animals, whole):
    data = make(animals, 0)
    data.seed = 99
    model = witness()
    train(data, model, ckpt_path=whole[1] / "batch end 7.ckpt", max_epochs=3)
    assert steps(model.seen) == steps(whole[0])[7:]


def test_checkpoint_holds_plain_facts(animals, whole):
    state = torch.load(whole[1] / "batch end 7.ckpt", weights_only=True)["ImageFolder"]
    data = make(animals, 0)
    assert state == {"facts": data.facts, "seed": 3, "epoch": 1, "batches": 2, "global_batch": 8}
