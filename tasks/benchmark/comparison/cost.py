"""What each mechanism costs in a task: parameters, FLOPs, time of a train step and of an inference, peak memory.

All mechanisms of an experiment are measured on the same batch of its own data, in turns, in fresh processes.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from tasks.base import TaskModule
from tasks.benchmark.comparison.experiments import Experiment, class_of
from tasks.benchmark.measure import MEBIBYTE, interleave, peak_memory, prepare
from tasks.build import TaskParser, build
from tasks.catalogue import TASKS
from tasks.cli import TaskCLI
from tasks.errors import TaskError, UsageError, first_line
from tasks.mistakes import explain
from tasks.optim import build_optimizer

Shape = Sequence[int]
INPUTS = {
    "vit": ("image",),
    "detr": ("image", "padding_mask"),
    "asr": ("audio", "audio_lengths"),
    "forecast": ("past", "past_mask", "covariates"),
}
"""What of a batch goes into a task's network."""


class _Unrun(TaskCLI):
    """Builds all that `fit` needs and leaves it there."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


@dataclass(frozen=True)
class Bench:
    """An experiment's first batch of training, and what makes its module with another mechanism.

    Attributes:
        batch: The batch.
        samples: How many samples it has.
        single: The network's inputs of the first of them alone.
        make: Makes the module, given a mechanism.
    """

    batch: Mapping[str, Any]
    samples: int
    single: tuple[Tensor | None, ...]
    make: Callable[[str], TaskModule]

    def step(self, attention: str) -> Callable[[], object]:
        """Makes a network and its train step: the task's own losses, and its optimiser at a constant rate."""
        module = self.make(attention).train()
        optimizer = build_optimizer(
            module.network, module.optimizer_factory, layer_decay=module.layer_decay, lr_scale=module.lr_scale
        )
        # One of its own, so that no network of before stays in memory: a shared trainer would keep its optimiser.
        module.trainer = SimpleNamespace(optimizers=[optimizer])  # pyright: ignore[reportAttributeAccessIssue]

        def step() -> None:
            optimizer.zero_grad()
            loss = module.training_step(self.batch, 0)
            assert isinstance(loss, Tensor)
            loss.backward()
            optimizer.step()

        return step

    def inference(self, network: nn.Module) -> Callable[[], object]:
        """Makes an inference of one sample: the encoder's, and what answers by one forward pass."""
        network.eval()
        return torch.inference_mode()(lambda: network(*self.single))


def measure_costs(
    experiment: Experiment,
    attentions: Sequence[str],
    args: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    threads: int,
    thorough: bool,
) -> dict[str, dict[str, Any]]:
    """Measures all mechanisms of an experiment in this process.

    Args:
        experiment: The experiment.
        attentions: The mechanisms.
        args: What follows `fit` for any of them.
        rounds: Rounds in which they take turns.
        seconds: Time of each in a round, at least.
        threads: Threads of torch.
        thorough: Whether what is the same in every process is measured too: parameters, FLOPs, memory.

    Returns:
        Of each mechanism its figures, or the `reason` why there are none.
    """
    prepare(threads)
    bench = make_bench(experiment, args)
    found: dict[str, dict[str, Any]] = {}
    train, inference = {}, {}
    for attention in attentions:
        try:
            found[attention] = _counts(bench, attention) if thorough else {}
            train[attention] = bench.step(attention)
            train[attention]()
            inference[attention] = bench.inference(bench.make(attention).network)
        except (TaskError, ValueError, RuntimeError, MemoryError) as error:
            train.pop(attention, None)
            found[attention] = {"reason": _reason(error)}
    times = interleave(train, rounds, seconds), interleave(inference, rounds, seconds)
    for name in train:
        found[name] |= {"samples": bench.samples, "train_ms": times[0][name], "inference_ms": times[1][name]}
    return found


def _reason(error: Exception) -> str:
    """In a line; what the parser says takes many."""
    return explain(str(error), TaskParser(), [], {}) if isinstance(error, UsageError) else first_line(error)


def make_bench(experiment: Experiment, args: Sequence[str]) -> Bench:
    """Builds an experiment from its command line; nothing is trained, and nothing is left on the disk."""
    module_class: type[TaskModule] = TASKS[experiment.task].module_class
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", f"--runs={folder}"]
        cli = _Unrun(module_class, Path(), ["fit", *args, *quiet])
    data, config, facts = cli.datamodule, cli.model.config, cli.model.facts
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))

    @cache
    def prototype(attention: str) -> TaskModule:
        torch.manual_seed(0)
        module = build(module_class, _with_attention(config, experiment, attention), facts)
        module.log = lambda *_, **__: None  # there is no loop whose results it could join
        return module

    def make(attention: str) -> TaskModule:
        return copy.deepcopy(prototype(attention))

    samples = len(batch[INPUTS[experiment.task][0]])
    return Bench(batch, samples, _first(batch, INPUTS[experiment.task]), make)


def _with_attention(config: Mapping[str, Any], experiment: Experiment, attention: str) -> dict[str, Any]:
    name = class_of(attention)
    path = name if "." in name else f"core.{name}"
    chosen = {"class_path": path, "init_args": dict(experiment.settings.get(attention, {}))}
    encoder = config["model"]["encoder"]
    encoder = {**encoder, "init_args": {**encoder["init_args"], "attention": chosen}}
    return {**config, "model": {**config["model"], "encoder": encoder}}


def _first(batch: Mapping[str, Any], names: Sequence[str]) -> tuple[Tensor | None, ...]:
    """The first sample by itself, without the padding that the others caused."""
    inputs: dict[str, Any] = {name: None if batch.get(name) is None else batch[name][:1] for name in names}
    if "audio_lengths" in inputs:
        inputs["audio"] = inputs["audio"][:, : int(inputs["audio_lengths"])]
    nothing_masked = {name for name in inputs if name.endswith("_mask") and not inputs[name].any()}
    return tuple(None if name in nothing_masked else value for name, value in inputs.items())


def _counts(bench: Bench, attention: str) -> dict[str, Any]:
    """What does not depend on the machine, and the peak of memory, from the making of the network on."""
    network = bench.make(attention).network.eval().requires_grad_(False)  # the counter's hooks want it so
    tokens: list[int] = []
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    handle = encoder.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].shape[1]))
    flops = _flops(lambda: network(*bench.single))
    handle.remove()
    train_flops = _flops(bench.step(attention)) / bench.samples
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "tokens": tokens[0],
        "flops": flops,
        "train_flops": train_flops,
        "peak_bytes": int(peak_memory(lambda: bench.step(attention)) * MEBIBYTE),
    }


def _flops(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False, custom_mapping=_FUSED) as counter:
        call()
    return float(counter.get_total_flops())


def _fused(q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    return sdpa_flop_count(q, k, v)


def _fused_backward(output: Shape, q: Shape, k: Shape, v: Shape, *_: object, **__: object) -> int:
    return sdpa_backward_flop_count(output, q, k, v)


_FUSED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _fused_backward,
}
"""Fused attention on the CPU, which the counter knows on the GPU alone."""
