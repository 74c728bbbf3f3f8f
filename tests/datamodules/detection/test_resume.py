import pytest
import torch
import torchvision.transforms.v2 as v2

from datamodules import Coco
from tests.datamodules.detection.sets import document, write_part
from tests.datamodules.runs import SaveAt, Witness, train

pytestmark = pytest.mark.filterwarnings("ignore:.*num_workers.*", "ignore:.*GPU.*", "ignore:.*eval mode.*")


class DetectionWitness(Witness):
    """Notes each batch's pictures, boxes and labels."""

    def training_step(self, batch, batch_idx):
        sums = [batch["image"].double().sum().item(), *(boxes.double().sum().item() for boxes in batch["boxes"])]
        labels = [labels.tolist() for labels in batch["labels"]]
        self.seen.append((self.current_epoch, batch_idx, batch["image_id"], tuple(sums), labels))
        return self.head(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        assert len(batch["truth"]) == len(batch["image"])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    pictures = {f"{n}.png": ((40 + n, 50), [(3, n, 2 * n, 20, 15), (90, 10, 10, 12, 12)]) for n in range(11)}
    write_part(folder, "train", document(pictures))
    return write_part(folder, "val", document(pictures))


def make(root, workers):
    augment = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(), v2.RandomPhotometricDistort()]
    return Coco(root=str(root), batch_size=3, num_workers=workers, augment=augment, seed=3, image_size=32)


def witness():
    torch.manual_seed(0)
    return DetectionWitness(num_pixels=1, num_classes=1)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    model = witness()
    saves = [SaveAt(folder / f"{step}.ckpt", "batch end", step) for step in (2, 3, 5)]
    train(make(root, 0), model, callbacks=saves, max_epochs=3)
    return [entry for entry in model.seen if isinstance(entry[1], int)], folder


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_resumed_run_sees_what_the_uninterrupted_run_saw(root, whole, step, workers):
    seen, folder = whole
    assert len(seen) == 9
    model = witness()
    train(make(root, workers), model, ckpt_path=folder / f"{step}.ckpt", max_epochs=3)
    assert [entry for entry in model.seen if isinstance(entry[1], int)] == seen[step:]


def test_a_checkpoint_holds_plain_facts(root, whole):
    state = torch.load(whole[1] / "5.ckpt", weights_only=True)["Coco"]
    assert state == {"facts": make(root, 0).facts, "seed": 3, "epoch": 1, "batches": 2, "global_batch": 3}
