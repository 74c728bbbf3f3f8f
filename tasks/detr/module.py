"""DETR under Lightning: its loss, its metrics, its predictions."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from core.explain import each_sequence
from tasks.base import ForExport, TaskModule
from tasks.detr import report
from tasks.detr.boxes import to_pixels
from tasks.detr.evaluation import CocoEvaluation, format_figures, measured
from tasks.detr.explanation import cell_weights, draw, real_cells, shown_boxes
from tasks.detr.losses import Parts, SetLoss
from tasks.detr.matcher import HungarianMatcher
from tasks.detr.model import DETR, Found
from tasks.detr.targets import Targets, gather_targets
from tasks.errors import TaskError
from tasks.explanation import Explanation, Recorded
from tasks.means import shares

EXPORTED_SIZE = 256
"""Side of the pictures of an exported network, where the data's have no size of their own."""
_log = logging.getLogger(__name__)
Detections = dict[str, Tensor]
"""Of a picture: `boxes` (n, 4), absolute `x1, y1, x2, y2` in pixels of the original; `scores`, `labels` and
`queries`, which say what found each, (n,)."""


class DETRModule(TaskModule):
    """Object detection by set prediction.

    Args:
        network: The network.
        facts: What the data knows: `class_names` and `category_ids` at least.
        monitor: The metric that decides which checkpoint is the best.
        monitor_mode: Whether the best is the least or the greatest.
        matcher: Matches queries and objects.
        loss: Weighs class, box and generalised IoU.
        max_detections: The most boxes of a picture that are evaluated and written.
        min_score: Score from which on a predicted box is written.
        training: The arguments of `TaskModule`. `lr_scale: {backbone: 0.1}` trains the backbone at a tenth of the rate.
    """

    task = "detr"
    shown = "ap50"
    network_class = DETR
    links = ("num_classes", "category_ids")
    facts_to_agree = ("class_names",)

    def __init__(
        self,
        network: DETR,
        *,
        facts: dict[str, Any],
        monitor: str = "val/ap",
        monitor_mode: Literal["min", "max"] = "max",
        matcher: HungarianMatcher | None = None,
        loss: SetLoss | None = None,
        max_detections: int = 100,
        min_score: float = 0.05,
        **training: Any,
    ) -> None:
        super().__init__(network, facts=facts, monitor=monitor, monitor_mode=monitor_mode, **training)
        if max_detections < 1:
            raise ValueError(f"max_detections={max_detections} must be at least 1")
        if not 0 <= min_score <= 1:
            raise ValueError(f"min_score={min_score} is not in [0, 1]")
        self.detr = network
        self.matcher = HungarianMatcher() if matcher is None else matcher
        self.loss = SetLoss() if loss is None else loss
        self.max_detections = max_detections
        self.min_score = min_score
        self.evaluation = CocoEvaluation(facts["class_names"])
        self.reported: set[int] = set()

    def metric_names(self) -> list[str]:
        return [*super().metric_names(), "val/ap", "val/ap50", "val/ap75"]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        targets = self._targets(batch)
        denoising = self.detr.denoising
        noised = None if denoising is None else denoising(targets)
        output = self.detr.find(batch["image"], batch["padding_mask"], noised)
        parts = self._parts(output.found, targets, batch)
        losses = {"found": parts}
        if output.proposed is not None:
            losses["proposals"] = self._parts(output.proposed, targets, batch, output.padding)
        if noised is not None and output.restored is not None and denoising is not None:
            count = targets.num_objects * denoising.num_groups
            losses["denoising"] = self.loss.of_noised(output.restored, noised, count, self.detr.classification)
        every = shares({f"{name}/{part}": mean for name, each in losses.items() for part, mean in each.items()})
        totals = {name: torch.stack([every[f"{name}/{part}"] for part in each]).sum() for name, each in losses.items()}
        values = {"loss": torch.stack(list(totals.values())).sum()}
        values |= {f"{name}_loss": each for name, each in totals.items() if name != "found"}
        of_epoch = {f"{part}_loss": every[f"found/{part}"][-1] for part in parts}
        self.log_training(values, of_epoch, batch_size=len(batch["image"]))
        return values["loss"]

    def measure(self, batch: dict[str, Any], stage: str) -> None:
        found = self.detr.find(batch["image"], batch["padding_mask"]).found
        self.means.update(self._parts(found, self._targets(batch), batch))
        self.evaluation.update(batch["image_id"], self.detect(found, batch["original_size"]), batch["truth"])

    def figures(self, stage: str) -> dict[str, Tensor | float]:
        every, parts = self.evaluation.compute(), self.means.gather()
        self.evaluation.reset()
        found = measured(every)
        if self.trainer.state.fn != "fit":
            _log.info("%s", format_figures(every))
        if stage == "val" and "ap" not in found and self.monitor.startswith("val/ap"):
            raise TaskError(
                f"the validation part has no object, so there is no {self.monitor}: monitor val/loss instead"
            )
        losses = {f"{name}_loss": layers[-1] for name, layers in parts.items()}
        if parts:
            losses["loss"] = torch.stack(list(parts.values())).sum()
        return {**losses, **found}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        detections, real = [], []
        if len(batch["index"]):
            output = self.detr.find(batch["image"], batch["padding_mask"])
            detections = self.detect(output.found, batch["original_size"], min_score=self.min_score)
            real = real_cells(output.padding, output.grid, len(detections))
        return {"index": batch["index"], "failed": batch["failed"], "detections": detections, "real_cells": real}

    def for_export(self) -> ForExport:
        side = self.facts["image_size"] or EXPORTED_SIZE
        image = torch.randn(2, self.facts["num_channels"], side, side)
        return ForExport(self.network, {"image": image}, free={"image": ("batch",)})

    def save_predictions(self, batches: list[dict[str, Any]], names: list[str], folder: Path) -> Path:
        class_names, category_ids = self.facts["class_names"], self.facts["category_ids"]
        return report.save_predictions(batches, names, folder, class_names=class_names, category_ids=category_ids)

    def explained_layers(self) -> list[str]:
        return [*super().explained_layers(), f"decoder.layers.{len(self.detr.decoder.layers) - 1}.cross_attention"]

    def explain(
        self, batch: dict[str, Any], predicted: dict[str, Any], recorded: Recorded, names: Sequence[str]
    ) -> Iterator[Explanation]:
        layers = zip(*map(each_sequence, recorded.values()), strict=True)
        rows = zip(batch["index"].tolist(), batch["original_size"], predicted["real_cells"], strict=True)
        for (index, size, real), calls, detections in zip(rows, layers, predicted["detections"], strict=True):
            boxes = shown_boxes(detections)
            weights = cell_weights(calls, boxes, size, real)
            weights = {name: each.float().cpu() for name, each in weights.items()}
            boxes = {"boxes": boxes["boxes"].float(), "scores": boxes["scores"].float(), "labels": boxes["labels"]}
            boxes = {name: each.cpu() for name, each in boxes.items()}
            pictures = draw(Path(names[int(index)]), boxes, weights, self.facts["class_names"])
            yield Explanation(index, "", weights | boxes, pictures)

    def detect(self, found: Found, original_size: Tensor, *, min_score: float = 0.0) -> list[Detections]:
        """What the last layer has found in each picture, best first.

        Args:
            found: What the network gave.
            original_size: Height and width of each picture, in pixels.
            min_score: Score from which on a box counts.
        """
        scores, labels, queries = self.detr.classification.select(found.logits[-1], self.max_detections)
        boxes = found.boxes[-1].float().gather(1, queries[..., None].expand(-1, -1, 4))
        detections = []
        for number, size in enumerate(original_size):
            kept = scores[number] >= min_score
            corners = to_pixels(boxes[number][kept], size)
            each = {"scores": scores[number], "labels": labels[number], "queries": queries[number]}
            detections.append({"boxes": corners, **{name: values[kept] for name, values in each.items()}})
        return detections

    def _targets(self, batch: dict[str, Any]) -> Targets:
        targets = gather_targets(batch["boxes"], batch["labels"])
        self._report(batch, targets.skipped, "has a box that is not finite or far outside: the picture is skipped")
        return targets

    def _parts(self, found: Found, targets: Targets, batch: dict[str, Any], padding: Tensor | None = None) -> Parts:
        matches = self.matcher(found, targets, self.detr.classification, padding)
        self._report(batch, matches.repaired, "has matching costs that are not finite; they were replaced")
        return self.loss.of_matches(found, targets, matches, self.detr.classification, padding)

    def _report(self, batch: dict[str, Any], pictures: list[int], what: str) -> None:
        for number in pictures:
            image_id = batch["image_id"][number]
            if image_id not in self.reported:
                self.reported.add(image_id)
                rank_zero_warn(f"image {image_id} ({batch['file_name'][number]}) {what}")
