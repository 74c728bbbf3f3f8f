"""A task's own commands: a function gets a trained module and its data, and its arguments are the command's."""

from pathlib import Path

import pytest
import torch

from tasks.catalogue import TASKS
from tasks.dispatch import run
from tasks.errors import UsageError
from tasks.help import _command_arguments
from tasks.vit.module import ViTModule
from tests.tasks.conftest import QUIET, best

calls = []


def measure(trainer, model, datamodule, *, output: str, stride: int | None = None) -> Path:
    """Measures what is asked for.

    Args:
        trainer: Runs the network.
        model: The module.
        datamodule: The data.
        output: The folder to write to.
        stride: Steps.
    """
    calls.append((trainer, model, datamodule, stride))
    return Path(output)


class Measuring(ViTModule):
    """A task with a command of its own."""

    commands = {"measure": measure}  # noqa: RUF012


def test_it_runs_with_the_weights_and_facts_of_the_checkpoint(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = [best(trained), *QUIET, "--output=there", "--stride=3", "--model.dropout=0.25"]
    assert run(Measuring, TASKS["vit"].config, ["measure", *args]) == "measure: there"
    trainer, model, datamodule, stride = calls.pop()
    assert stride == 3
    assert trainer.num_devices == 1
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    for name, tensor in checkpoint["state_dict"].items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert datamodule.facts == checkpoint["onecore"]["facts"]
    assert not list(tmp_path.iterdir()), "there is no run's folder"
    assert not {"ckpt_path", "output", "stride"} & set(model.config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=there", "--strid=3"], "did you mean --stride?"),
        (["--output=there", "--stride=x"], "stride=x is not of the type int"),
        (["--stride=3"], "measure.output"),
    ],
)
def test_mistakes_get_one_line(trained, arguments, message):
    with pytest.raises(UsageError, match=message):
        run(Measuring, TASKS["vit"].config, ["measure", best(trained), *QUIET, *arguments])
    assert not calls


def test_it_needs_weights():
    with pytest.raises(UsageError, match="measure needs --ckpt_path"):
        run(Measuring, TASKS["vit"].config, ["measure", "--output=there"])


def test_its_help_is_its_docstring():
    lines = _command_arguments("measure", "x.yaml", Measuring)
    assert "  --output STR" in lines
    assert lines[lines.index("  --stride INT") + 1].strip() == "Steps. Default: none."
    assert not [line for line in lines if "--trainer" in line or "--runs" in line]
