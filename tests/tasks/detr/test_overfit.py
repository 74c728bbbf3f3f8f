"""Every kind of DETR learns what it is shown by heart."""

import pytest
import torch
from torch.optim import AdamW

from tasks.detr.boxes import to_pixels
from tasks.detr.evaluation import CocoEvaluation
from tasks.detr.targets import gather_targets
from tests.tasks.detr.helpers import CLASSES, KINDS, padded, training_loss
from tests.tasks.detr.helpers import detr as network

BY_DEFAULT = "plain"
"""The kind that is no slow test."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == BY_DEFAULT else pytest.mark.slow) for kind in KINDS]
)
def test_it_learns_eight_pictures_by_heart(kind):
    """Until the right boxes come out: AP50 = 1."""
    torch.manual_seed(0)
    image, padding = padded(*[(32, 32)] * 7, (32, 24))
    boxes, labels, truth = [], [], []
    for number in range(8):
        count = number % 3 + (number < 2)
        centres = torch.rand(count, 2) * 0.5 + 0.25
        boxes.append(torch.cat([centres, torch.rand(count, 2) * 0.3 + 0.2], dim=1))
        labels.append(torch.randint(CLASSES, (count,)))
        corners = to_pixels(boxes[-1], torch.tensor([100, 100]))
        size = corners[:, 2:] - corners[:, :2]
        truth.append({"boxes": corners, "labels": labels[-1], "area": size.prod(1), "crowd": torch.zeros(count).bool()})
    model = network(kind)
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    targets = gather_targets(boxes, labels)
    evaluation = CocoEvaluation([str(label) for label in range(CLASSES)])
    ap50 = 0.0
    for step in range(1, 1201):
        loss = training_loss(model, image, padding, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        if step % 50 == 0:
            logits, places = model.eval()(image, padding)
            model.train()
            evaluation.reset()
            scores, names, queries = model.classification.select(logits, 100)
            places = places.gather(1, queries[..., None].expand(-1, -1, 4))
            evaluation.update(
                list(range(8)),
                [
                    {"boxes": to_pixels(box, torch.tensor([100, 100])), "scores": score, "labels": name}
                    for box, score, name in zip(places.detach(), scores.detach(), names, strict=True)
                ],
                truth,
            )
            ap50 = evaluation.compute()["ap50"]
            if ap50 == 1.0:
                break
    assert ap50 == 1.0
