"""Trains, tests and applies a `ViT` as an image classifier."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)
from torchvision.transforms import v2

from core.explain import each_sequence
from tasks.base import ForExport, TaskModule
from tasks.explanation import Explanation, Recorded
from tasks.means import Mean
from tasks.vit import report
from tasks.vit.explanation import draw, grid_part, patch_weights
from tasks.vit.model import ViT


class ViTModule(TaskModule):
    """Image classification with cross-entropy.

    Args:
        network: The network.
        facts: What the data knows: `class_names` at least.
        monitor: The metric that decides which checkpoint is the best.
        monitor_mode: Whether the best is the least or the greatest.
        label_smoothing: Share of the target that is spread over all classes (Szegedy et al. 2016).
        mixup: Alpha of mixup (Zhang et al. 2018); 0 = none.
        cutmix: Alpha of CutMix (Yun et al. 2019); 0 = none. With both, each batch gets one of them by chance.
        training: The arguments of `TaskModule`. `freeze: [patch_embedding, position, prefix_tokens, encoder]` trains
            a linear probe.
    """

    task = "vit"
    shown = "accuracy"
    network_class = ViT
    links = ("num_classes", "image_size", "num_channels")
    facts_to_agree = ("class_names", "num_channels")

    def __init__(
        self,
        network: ViT,
        *,
        facts: dict[str, Any],
        monitor: str = "val/accuracy",
        monitor_mode: Literal["min", "max"] = "max",
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        **training: Any,
    ) -> None:
        super().__init__(network, facts=facts, monitor=monitor, monitor_mode=monitor_mode, **training)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} is not a share in [0, 1)")
        if min(mixup, cutmix) < 0:
            raise ValueError(f"mixup={mixup} and cutmix={cutmix} must not be negative")
        self.label_smoothing = label_smoothing
        mixes = [mix(alpha=alpha) for mix, alpha in [(v2.MixUp, mixup), (v2.CutMix, cutmix)] if alpha > 0]
        self.mix = v2.RandomChoice(mixes) if mixes else None
        num_classes = network.head.out_features
        self.class_names: list[str] = facts["class_names"]
        metrics: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "ece": MulticlassCalibrationError(num_classes, n_bins=15),
        }
        if num_classes > 5:
            metrics["accuracy_top5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro")
        self.metrics = MetricCollection(metrics, compute_groups=False)
        self.confusion = MulticlassConfusionMatrix(num_classes)
        self.tested: Tensor | None = None

    def metric_names(self) -> list[str]:
        return [*super().metric_names(), *(f"val/{name}" for name in self.metrics)]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        image, target = batch["image"], batch["label"]
        if self.mix is not None:
            image, target = self.mix(image, F.one_hot(target, len(self.class_names)).to(image.dtype))
        loss = F.cross_entropy(self.network(image), target, label_smoothing=self.label_smoothing)
        self.log_training({"loss": loss})
        return loss

    def measure(self, batch: dict[str, Tensor], stage: str) -> None:
        logits, label = self.network(batch["image"]), batch["label"]
        losses = F.cross_entropy(logits, label, reduction="none")
        self.means.update({"loss": Mean.of(losses.sum(), len(label))})
        self.metrics.update(logits, label)
        if stage == "test":
            self.confusion.update(logits, label)

    def figures(self, stage: str) -> dict[str, Tensor]:
        found = {**super().figures(stage), **self.metrics.compute()}
        self.metrics.reset()
        if stage == "test":
            self.tested = self.confusion.compute()
            self.confusion.reset()
            recall = self.tested.diagonal() / self.tested.sum(1).clamp(min=1)
            found |= {f"accuracy/{name}": value for name, value in zip(self.class_names, recall, strict=True)}
        return found

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        probabilities = self.network(batch["image"]).softmax(-1) if len(batch["index"]) else batch["image"]
        return {"index": batch["index"], "failed": batch["failed"], "probabilities": probabilities}

    def for_export(self) -> ForExport:
        image = torch.randn(2, self.facts["num_channels"], *self.facts["image_size"])
        return ForExport(self.network, {"image": image}, free={"image": ("batch",)})

    def save_plots(self, folder: Path) -> None:
        if self.tested is not None:
            report.save_confusion(self.tested, self.class_names, folder / "confusion.png")

    def save_predictions(self, batches: list[dict[str, Any]], names: list[str], folder: Path) -> Path:
        return report.save_predictions(batches, names, self.class_names, folder)

    def explain(
        self, batch: dict[str, Any], predicted: dict[str, Any], recorded: Recorded, names: Sequence[str]
    ) -> Iterator[Explanation]:
        assert isinstance(self.network, ViT)
        size = (batch["image"].shape[2], batch["image"].shape[3])
        layers = zip(*map(each_sequence, recorded.values()), strict=True)
        rows = zip(batch["index"].tolist(), batch["shown"].tolist(), predicted["probabilities"], layers, strict=True)
        for index, shown, probabilities, calls in rows:
            weights = {name: each.float().cpu() for name, each in patch_weights(self.network, calls, size).items()}
            part, (probability, label) = grid_part(self.network, shown, size), probabilities.float().max(0)
            said: Any = {"label": self.class_names[int(label)], "probability": float(probability)}
            yield Explanation(
                index, "", weights | said | {"part": part}, draw(Path(names[int(index)]), weights, part, **said)
            )
