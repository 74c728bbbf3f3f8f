import pytest
import pytorch_lightning as pl
import torch

from tests.datamodules.runs import SaveAt, train
from tests.datamodules.series.sets import Given, noise, series_set

pytestmark = pytest.mark.filterwarnings("ignore:.*num_workers.*", "ignore:.*GPU.*", "ignore:.*eval mode.*")
PLACES = [2, 13, 17]  # of 13 steps an epoch: within the first, at its end, within the second


class Observer(pl.LightningModule):
    """Learns next to nothing, and notes each batch's values."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        sums = [batch[name].double().sum().item() for name in ("past", "future", "covariates")]
        self.seen.append((self.current_epoch, batch_idx, *sums, batch["past"][:, 0, 0].tolist()))
        return (self.gain * batch["past"]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", batch["naive"].mean())

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data_of(workers=0):
    return Given(series_set(noise(100, 2, missing=0.1)), calendar=True, num_workers=workers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    model = Observer()
    train(
        data_of(),
        model,
        callbacks=[SaveAt(folder / f"{step}.ckpt", "batch end", step) for step in PLACES],
        max_epochs=3,
    )
    return model.seen, folder


def test_epochs_have_other_batches(whole):
    seen, _ = whole
    assert [entry[:2] for entry in seen] == [(epoch, batch) for epoch in range(3) for batch in range(13)]
    assert len({tuple(entry[-1]) for entry in seen}) == 39


@pytest.mark.parametrize(("step", "workers"), [(2, 0), (13, 0), (17, 0), (17, 2)])
def test_a_resumed_run_sees_what_the_uninterrupted_run_saw(whole, step, workers):
    seen, folder = whole
    model = Observer()
    train(data_of(workers), model, ckpt_path=folder / f"{step}.ckpt", max_epochs=3)
    assert model.seen == seen[step:]


def test_a_checkpoint_holds_plain_facts(whole):
    state = torch.load(whole[1] / "17.ckpt", weights_only=True)["Given"]
    assert state == {"facts": data_of().facts, "seed": 3, "epoch": 1, "batches": 4, "global_batch": 4}
