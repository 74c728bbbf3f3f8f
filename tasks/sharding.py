"""Several processes of which each has a part of every weight (Zhao et al. 2023, "PyTorch FSDP")."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    OptimStateKeyType,
    StateDictType,
)
from torch.optim import Optimizer


class Sharded(FSDPStrategy):
    """What `--trainer.strategy=fsdp` means: Lightning's, with some things put right (2.6.6, torch 2.14).

    Lightning does not tell torch that the device is the processor, and torch then looks for another. It divides a
    network anew when its test follows its training, of which each process then has a part of a part. And it numbers
    the parameters of a checkpoint's optimiser as the network has them, not as the optimiser has (those that decay
    apart from those that do not), so that one process would go on with other parameters' momenta.
    """

    divided: FullyShardedDataParallel
    """The network, of which this process has a part."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        if not hasattr(self, "divided"):
            self.divided = self._divide(model)
        return self.divided

    def _divide(self, model: nn.Module) -> FullyShardedDataParallel:
        if self.root_device.type != "cpu":
            return cast(FullyShardedDataParallel, super()._setup_model(model))
        return FullyShardedDataParallel(
            model,
            device_id=self.root_device,
            cpu_offload=self.cpu_offload,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            **self.kwargs,
        )

    def _whole(self, *, first_only: bool) -> AbstractContextManager[None]:
        """Where states are those of whole weights, of the first process alone or of all."""
        moves = self.root_device.type != "cpu"  # from there to there torch copies nothing, and writes over it
        of_weights = FullStateDictConfig(offload_to_cpu=moves, rank0_only=first_only)
        of_optimizer = FullOptimStateDictConfig(offload_to_cpu=moves, rank0_only=first_only)
        kind = StateDictType.FULL_STATE_DICT
        return FullyShardedDataParallel.state_dict_type(self.divided, kind, of_weights, of_optimizer)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """The state that one process would have; in all but the first it is empty."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        with self._whole(first_only=True):
            state = FullyShardedDataParallel.optim_state_dict(self.divided, optimizer)
            return _keyed(state, OptimStateKeyType.PARAM_ID, self.divided, optimizer) if state else state

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint of whole weights, and takes each process's part of it."""
        assert self.lightning_module is not None
        checkpoint = self.checkpoint_io.load_checkpoint(self.broadcast(checkpoint_path), weights_only=weights_only)
        with self._whole(first_only=False):
            self.divided.load_state_dict(checkpoint.pop("state_dict"))
            if self.lightning_module.trainer.state.fn == TrainerFn.FITTING:
                for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
                    named = _keyed(state, OptimStateKeyType.PARAM_NAME, self.divided, optimizer)
                    parts = FullyShardedDataParallel.optim_state_dict_to_load(self.divided, optimizer, named)
                    optimizer.load_state_dict(parts)
        return checkpoint


def _keyed(state: dict[str, Any], by: OptimStateKeyType, model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    return FullyShardedDataParallel.rekey_optim_state_dict(state, by, model, optim=optimizer)
