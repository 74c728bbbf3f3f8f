import pytest
import pytorch_lightning as pl
import torch

from tests.datamodules.runs import SaveAt, train
from tests.datamodules.speech.test_base import make

pytestmark = pytest.mark.filterwarnings("ignore:.*num_workers.*", "ignore:.*GPU.*", "ignore:.*eval mode.*")


class Listener(pl.LightningModule):
    """Learns next to nothing, and notes each batch's names and samples."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch["name"], batch["audio"].double().sum().item()))
        return (self.gain * batch["audio"]).square().mean()

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data_of(manifest, workers=0):
    return make(manifest, batch_seconds=5, speeds=[0.9, 1.0, 1.1], num_workers=workers)


@pytest.fixture(scope="module")
def whole(manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    model = Listener()
    batches = len(data_of(manifest).train_dataloader())
    saves = [SaveAt(folder / f"{step}.ckpt", "batch end", step) for step in (2, batches, batches + 3)]
    train(data_of(manifest), model, callbacks=saves, max_epochs=3)
    return model.seen, folder, batches


def test_epochs_have_other_batches(whole):
    seen, _, batches = whole
    assert batches > 4
    assert [entry[:2] for entry in seen] == [(epoch, batch) for epoch in range(3) for batch in range(batches)]
    assert len({tuple(names) for _, _, names, _ in seen}) > batches


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_resumed_run_sees_what_the_uninterrupted_run_saw(manifest, whole, place, workers):
    seen, folder, batches = whole
    step = (2, batches, batches + 3)[place]
    model = Listener()
    train(data_of(manifest, workers), model, ckpt_path=folder / f"{step}.ckpt", max_epochs=3)
    assert model.seen == seen[step:]


def test_a_checkpoint_holds_plain_facts(manifest, whole):
    _, folder, batches = whole
    state = torch.load(folder / f"{batches + 3}.ckpt", weights_only=True)["SpeechManifest"]
    assert state == {"facts": data_of(manifest).facts, "seed": 3, "epoch": 1, "batches": 3, "global_batch": 1}


def test_overfitting_a_batch_runs(manifest):
    model = Listener()
    with pytest.warns(UserWarning, match="overfit"):
        train(data_of(manifest), model, max_epochs=2, overfit_batches=1)
    assert len(model.seen) == 2
    assert model.seen[0][2:] == model.seen[1][2:]
