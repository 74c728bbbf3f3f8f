"""What `python -m tasks.benchmark transfer` trains; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.benchmark.comparison.experiments import EMBEDDED, REFERENCE, Experiment
from tasks.trainings import Training

ENCODER = {"embed_dim": 96, "num_heads": 4, "num_layers": 3, "ffn_dim": 192, "dropout": 0.0}
"""One encoder for all tasks, so that each can start as any other's."""
DECODED = ("detr", "asr")
"""Tasks with a decoder, which has the encoder's width."""
EPOCHS = {"vit": 5, "detr": 3, "asr": 2, "forecast": 10}
"""How long a target is trained: half to two thirds of what its source is, and so never the same training again."""
RANDOM = "random"
"""The start that nothing has been learnt for: the control."""
MODES = {"trained": (), "frozen": ("--model.freeze_encoder=true",)}
"""Whether the encoder learns on, and the arguments that say so."""
_QUICK = ("--trainer.limit_train_batches=20", "--trainer.limit_val_batches=2", "--trainer.limit_test_batches=4")


@dataclass(frozen=True)
class Plan:
    """The command's options.

    Attributes:
        tasks: Which tasks are sources and targets.
        seeds: How many trainings of each kind, sources included.
        quick: Whether each training has a few steps only, to see that all works.
        jobs: Trainings at once.
        threads: Threads of torch in each.
    """

    tasks: tuple[str, ...]
    seeds: int
    quick: bool
    jobs: int
    threads: int

    @classmethod
    def of(cls, *, quick: bool, seeds: int | None = None, **options: Any) -> "Plan":
        """Makes the plan of a command line, in which the seeds may not be given."""
        return cls(quick=quick, seeds=seeds or (1 if quick else 3), **options)

    def experiments(self) -> list[Experiment]:
        """The default experiments of the tasks."""
        return [each for each in EMBEDDED if each.inputs == "default" and each.task in self.tasks]

    def starts(self) -> list[str]:
        """What a target's encoder can start as."""
        return [RANDOM, *(each.task for each in self.experiments())]

    def epochs(self, experiment: Experiment) -> tuple[int, int]:
        """Those of a task as a source, and as a target."""
        return (1, 1) if self.quick else (experiment.epochs, EPOCHS[experiment.task])

    def trainings(self) -> list[Training]:
        """The sources, then each target from each start: all of the first seed first, so that a part is a table too."""
        made = []
        for seed in range(self.seeds):
            for each in self.experiments():
                args, seconds = self._args(each, self.epochs(each)[0])
                made.append(Training(source_name(each.task, seed), each.task, args, seed, seconds))
            made += [
                self._target(each, start, mode, seed, shuffled=shuffled)
                for each in self.experiments()
                for mode in MODES
                for start in self.starts()
                for shuffled in ([False, True] if from_another(start, each.task) else [False])
            ]
        return made

    def _target(self, experiment: Experiment, start: str, mode: str, seed: int, *, shuffled: bool) -> Training:
        args, seconds = self._args(experiment, self.epochs(experiment)[1])
        after = () if start == RANDOM else (source_name(start, seed),)
        args += tuple(f"--model.encoder_from={{run:{name}}}" for name in after)
        args += (("--model.shuffle_encoder=true",) if shuffled else ()) + MODES[mode]
        name = target_name(experiment.task, start, mode, seed, shuffled=shuffled)
        return Training(name, experiment.task, args, seed, seconds, after)

    def _args(self, experiment: Experiment, epochs: int) -> tuple[tuple[str, ...], float]:
        """What follows `fit`, and the seconds that it takes, about."""
        args = [f"--model.encoder.{name}={value}" for name, value in ENCODER.items()]
        if experiment.task in DECODED:
            args += [f"--model.decoder.{name}={ENCODER[name]}" for name in ("embed_dim", "num_heads", "ffn_dim")]
        # In so few steps an average would for the most part be of what the network was at the start.
        args.append("--training.ema_decay=0")
        args += _QUICK if self.quick else ()
        seconds = 10 + (5 if self.quick else experiment.seconds * epochs / experiment.epochs)
        return (*experiment.args(REFERENCE, epochs=epochs, data_root=Path()), *args), seconds


def source_name(task: str, seed: int) -> str:
    """Names a source's folder."""
    return f"source.{task}.{seed}"


def target_name(task: str, start: str, mode: str, seed: int, *, shuffled: bool = False) -> str:
    """Names a target's folder."""
    return f"{task}.{start}{'-shuffled' if shuffled else ''}.{mode}.{seed}"


def from_another(start: str, task: str) -> bool:
    """Whether a start is another task's encoder, which is tried with its numbers shuffled too."""
    return start not in (RANDOM, task)
