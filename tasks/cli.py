"""The command line of every task: LightningCLI, with what it gets wrong put right.

A checkpoint carries its run's whole configuration. Given `--ckpt_path`, that configuration is the first `--config`,
so whatever the command line says comes later and wins; nothing else has to be given again. Published weights are used
without a training by `--config` and `--model.pretrained` in its place.
"""

import json
import shlex
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import yaml
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.strategies import FSDPStrategy, ModelParallelStrategy

import core.attention  # noqa: F401  their short names are known where they are imported
import datamodules  # noqa: F401
from tasks.arguments import value_of
from tasks.base import TaskModule
from tasks.build import TaskParser, add_model_arguments, without_pretrained
from tasks.callbacks import BestCheckpoint, check_monitors
from tasks.checkpoint import check_shapes, is_exported, provenance_of, read_checkpoint
from tasks.commands import commands_of
from tasks.errors import TaskError, UsageError
from tasks.machine import commit
from tasks.mistakes import explain, find_null
from tasks.prediction import predict_files
from tasks.processes import end_others, is_first
from tasks.run import claimed_run_folder, now, write_whole
from tasks.trainer_parts import parts_of_a_run, parts_without_a_run
from tasks.transfer import keep_encoder, take_encoder

SHARDED = (FSDPStrategy, ModelParallelStrategy)
"""Strategies by which a process has a part of each weight."""
KEEPS_A_RUN = ("fit", "validate", "test")
"""The commands that read the data set and have a run's folder; the others read the user's files."""


class TaskCLI(LightningCLI):
    """Parses, builds and runs one command of one task.

    Args:
        module_class: The task's module.
        default_config: The experiment that `fit` without `--config` runs.
        args: The command line, command first.
    """

    def __init__(self, module_class: type[TaskModule], default_config: Path, args: list[str]) -> None:
        self.command = args[0]
        self.module_class = module_class
        self.commands = commands_of(module_class)
        self.default_config = default_config
        self.checkpoint: dict[str, Any] | None = None
        self.args = args
        self.has_checkpoint = value_of("--ckpt_path", args) is not None
        self.last_line = ""
        super().__init__(
            model_class=module_class,
            datamodule_class=LightningDataModule,
            # LightningCLI's commands are methods of its trainer.
            trainer_class=type("TaskTrainer", (Trainer,), self.commands),
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={
                "use_distributed_sampler": False,
                "log_every_n_steps": 10,
                **({} if self.command in KEEPS_A_RUN else {"devices": 1}),
            },
            parser_class=TaskParser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        skip = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders", "weights_only"}
        skip |= {"verbose", "return_predictions"}
        return {self.command: skip}  # a parser takes 0.1 s to build: the other commands' are not needed

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit" or not self.has_checkpoint:
            for fact in self.module_class.links:
                parser.link_arguments(f"data.{fact}", f"model.{fact}", apply_on="instantiate")
        if subcommand == "predict":
            parser.add_argument("--input", type=str, required=True, help="A file, or a folder of files.")
            parser.add_argument("--output", type=str, required=True, help="The folder to write to.")
        elif subcommand in self.commands:
            parser.add_argument("--ckpt_path", type=str, default=None, help="The checkpoint of a run.")
        elif subcommand in KEEPS_A_RUN:
            parser.add_argument("--runs", type=str, default="runs", help="Where the run's folder is made.")
        return parser

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in self.trainer_defaults.items()})
        add_model_arguments(parser, self.module_class)
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        command, rest = args[0], list(args[1:])
        with self._first_config(command, rest) as first:
            try:
                self.config = parser.parse_args([command, *first, *rest])
            except UsageError as error:
                files = [*first, *rest]
                known = _read_configs(value for option, value in pairwise(files) if option == "--config")
                raise UsageError(explain(str(error), self._parser(command), rest, known)) from error
        if null := find_null(self.config[command].as_dict()):
            raise UsageError(null)

    @contextmanager
    def _first_config(self, command: str, rest: list[str]) -> Iterator[list[str]]:
        """The configuration under all others: the checkpoint's, else for `fit` the default unless one is given."""
        path = value_of("--ckpt_path", rest)
        if path is None:
            given = value_of("--config", rest) or value_of("-c", rest)
            if command != "fit" and not given:
                raise UsageError(_needs_weights(command))
            yield [] if given else ["--config", str(self.default_config)]
            return
        if command == "fit" and is_exported(path):
            raise UsageError(
                f"--ckpt_path={path} holds weights alone, no training that could go on; give a run's last.ckpt, or "
                "start the encoder from a run by --model.encoder_from"
            )
        self.checkpoint = read_checkpoint(path, self.module_class.task)
        config = dict(self.checkpoint["onecore"]["config"])
        if command != "fit":
            config = {key: config[key] for key in ("model", "training", "data")}
        config["model"] = without_pretrained(config["model"])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "checkpoint.yaml")
            file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            yield ["--config", str(file)]

    def _parse_ckpt_path(self) -> None:
        """Done in `parse_arguments`: the parent's way lets the checkpoint win over the command line."""

    def instantiate_classes(self) -> None:
        command = cast(str, self.subcommand)
        parser, config = self._parser(command), self.config[command]
        if command != "fit" and self.checkpoint is None and not config["model"].get("pretrained"):
            raise UsageError(_needs_weights(command))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*instantiate_classes.*")
            try:
                init = parser.instantiate_classes(config)
            except TypeError as error:
                unknown = [fact for fact in self.module_class.links if f"'{fact}'" in str(error)]
                if not unknown:
                    raise
                raise UsageError(
                    f"data={config['data']['class_path']} does not know {', '.join(unknown)}: it is no data set for "
                    f"tasks.{self.module_class.task}"
                ) from error
        self.config_init = {command: init}
        self.datamodule = init["data"]
        facts = self._facts(command)
        resolved = self._resolve(config, facts)
        if self.checkpoint is None:
            take_encoder(init["model"], resolved["model"])
        else:
            keep_encoder(resolved["model"], self.checkpoint["onecore"]["config"]["model"], resumes=command == "fit")
        self.model = self.module_class(init["model"], facts=facts, **init["training"])
        self.model.config = resolved if command == "fit" else {**resolved, **self._saved_config()}
        self.model.provenance = self._provenance(command)
        check_monitors(init["trainer"]["callbacks"] or [], self.model.monitor, self.model.metric_names())
        if init["trainer"]["check_val_every_n_epoch"] == 0:
            raise UsageError("--trainer.check_val_every_n_epoch=0 must be at least 1")
        if self.checkpoint is not None:
            check_shapes(self.model, self.checkpoint, resolved)
        with self._run_folder(command, config) as self.run_folder:
            self.trainer = self.instantiate_trainer(**self._parts(init["trainer"]))
            self._check_strategy(command)
        if self.run_folder is not None and is_first():
            write_whole(self.run_folder / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))

    @contextmanager
    def _run_folder(self, command: str, config: Any) -> Iterator[Path | None]:
        """The run's folder, which the first process makes; the others write nothing, and need only a name."""
        if command not in KEEPS_A_RUN:
            yield None
        elif is_first():
            with claimed_run_folder(Path(config["runs"]), self.module_class.task) as folder:
                yield folder
        else:
            yield Path(config["runs"], self.module_class.task)

    def _parts(self, given: Any) -> dict[str, Any]:
        if self.run_folder is None:
            return parts_without_a_run(given)
        return parts_of_a_run(given, self.run_folder, self.model, trains=self.subcommand == "fit")

    def _check_strategy(self, command: str) -> None:
        if command not in KEEPS_A_RUN and self.trainer.world_size > 1:
            raise UsageError(f"{command} works in one process, not in {self.trainer.world_size}: --trainer.devices=1")
        if command == "fit" and self.model.ema_decay > 0 and isinstance(self.trainer.strategy, SHARDED):
            raise UsageError(
                f"training.ema_decay={self.model.ema_decay} averages whole weights, of which "
                f"{type(self.trainer.strategy).__name__} gives each process a part: --training.ema_decay=0"
            )

    def _saved_config(self) -> dict[str, Any]:
        """What of the run's configuration stays its own: the trainer and the seed."""
        if self.checkpoint is None:
            return {}
        config = self.checkpoint["onecore"]["config"]
        return {key: value for key, value in config.items() if key not in ("model", "training", "data")}

    def _provenance(self, command: str) -> dict[str, Any]:
        path = value_of("--ckpt_path", self.args)
        known: dict[str, Any] = {} if self.checkpoint is None else provenance_of(self.checkpoint, str(path))
        if command != "fit":
            return known
        typed = shlex.join(["python", "-m", f"tasks.{self.module_class.task}", *self.args])
        return {"commands": [*known.get("commands", []), typed], "commit": commit(), "date": now()}

    def _facts(self, command: str) -> dict[str, Any]:
        """What the data knows; a checkpoint's own facts are what its weights were trained with."""
        if self.checkpoint is None:
            return self.datamodule.facts
        saved = self.checkpoint["onecore"]["facts"]
        if command in KEEPS_A_RUN:
            for fact in self.module_class.facts_to_agree:
                here = self.datamodule.facts[fact]
                if here != saved[fact]:
                    raise TaskError(f"{fact} of the data is {here}, but the checkpoint was trained with {saved[fact]}")
        if command != "fit":
            self.datamodule.restore_facts(saved)
        return self.datamodule.facts

    def _resolve(self, config: Any, facts: dict[str, Any]) -> dict[str, Any]:
        """The configuration as plain values, with those that the data's facts set."""
        resolved = self.as_plain(config, skip_link_targets=False)
        if self.subcommand == "fit" or self.checkpoint is None:
            resolved["model"] |= {fact: facts[fact] for fact in self.module_class.links}
        return resolved

    def as_plain(self, config: Any, *, skip_link_targets: bool) -> dict[str, Any]:
        """A command's configuration as plain values, with an absolute root, without the call's own words.

        Args:
            config: What was parsed.
            skip_link_targets: Whether the arguments that the data's facts set are left out.
        """
        parser = self._parser(str(self.subcommand))
        resolved = yaml.safe_load(parser.dump(config, skip_link_targets=skip_link_targets, skip_none=False))
        own = self._subcommand_method_arguments[str(self.subcommand)]
        for key in ("ckpt_path", "input", "output", "runs", *own):
            resolved.pop(key, None)
        data = resolved["data"].get("init_args", {})
        if data.get("root") is not None:
            data["root"] = str(Path(data["root"]).expanduser().absolute())
        return resolved

    def fit(self, model: TaskModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Trains, then tests the best checkpoint."""
        self.trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
        kept = (each.best_model_path for each in self.trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint))
        best, metrics = next(kept, ""), {}
        sharded = isinstance(self.trainer.strategy, SHARDED)
        if best:
            checkpoint = read_checkpoint(best, model.task)
            metrics = checkpoint["onecore"]["metrics"]
            if not sharded:  # Lightning's way of loading would put the weights before averaging back
                model.load_state_dict(checkpoint["state_dict"])
        self.trainer.test(model, datamodule=datamodule, ckpt_path=best or None if sharded else None)
        self._finish(metrics)

    def validate(self, model: TaskModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Measures a checkpoint on the validation part."""
        self._load()
        self.trainer.validate(model, datamodule=datamodule)
        self._finish({})

    def test(self, model: TaskModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Measures a checkpoint on the test part."""
        self._load()
        self.trainer.test(model, datamodule=datamodule)
        self._finish({})

    def predict(self, model: TaskModule, datamodule: Any, ckpt_path: str | None = None) -> None:
        """Applies a checkpoint to the user's files."""
        config = self.config["predict"]
        self._load()
        files = datamodule.predict_files(Path(config["input"]))
        written = predict_files(self.trainer, model, datamodule, files, Path(config["output"]))
        self.last_line = f"predictions: {written}"

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            self._run_command(subcommand)
        except Exception as error:
            if reason := end_others(error, getattr(self.trainer.strategy.launcher, "procs", [])):
                raise reason from error
            raise

    def _run_command(self, subcommand: str) -> None:
        if subcommand not in self.commands:
            super()._run_subcommand(subcommand)
            return
        self._load()
        arguments = self._prepare_subcommand_kwargs(subcommand)
        written = self.commands[subcommand](self.trainer, **arguments)
        self.last_line = f"{subcommand}: {written}"

    def _load(self) -> None:
        if self.checkpoint is not None:
            self.model.load_state_dict(self.checkpoint["state_dict"])

    def _finish(self, metrics: dict[str, float]) -> None:
        assert self.run_folder is not None
        if not is_first():
            return
        metrics = {**{name: float(value) for name, value in self.trainer.callback_metrics.items()}, **metrics}
        metrics = {name: value for name, value in metrics.items() if not name.startswith("train/")}
        write_whole(self.run_folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
        if any(name.startswith("test/") for name in metrics):
            self.model.save_plots(self.run_folder)
        self.last_line = f"run: {self.run_folder}"


def _needs_weights(command: str) -> str:
    return (
        f"{command} needs --ckpt_path, a checkpoint of a run (checkpoints/best.ckpt), or else published weights: "
        "--config and --model.pretrained"
    )


def _read_configs(paths: Iterable[str]) -> dict[str, Any]:
    """The configurations that can be read, merged at the top level; only to guess what was meant."""
    known: dict[str, Any] = {}
    for path in paths:
        try:
            known |= yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, TypeError):
            continue
    return known
