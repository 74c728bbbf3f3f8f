"""Matching: the assignment of least cost, whatever the boxes are."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.loss.loss_for_object_detection import HungarianMatcher as PublishedMatcher

from tasks.detr.classification import FocalClassification, SoftmaxClassification
from tasks.detr.losses import SetLoss
from tasks.detr.matcher import HungarianMatcher
from tasks.detr.model import Found
from tasks.detr.targets import gather_targets
from tests.tasks.detr.helpers import CLASSES, objects

READINGS = [SoftmaxClassification(), FocalClassification()]
BOTH = pytest.mark.parametrize("classification", READINGS, ids=["softmax", "focal"])


def found(layers: int, batch: int, queries: int, logits: int = CLASSES + 1, seed: int = 0) -> Found:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(layers, batch, queries, 4, generator=generator) * 0.5 + 0.2
    return Found(torch.randn(layers, batch, queries, logits, generator=generator), boxes)


@BOTH
@pytest.mark.parametrize("counts", [(3, 1), (0, 4), (5, 2)])
def test_no_permutation_costs_less(classification, counts):
    """Fewer objects than queries, as many, and more."""
    guesses, targets = found(2, 2, 4, classification.num_logits(CLASSES)), gather_targets(*objects(*counts))
    matcher = HungarianMatcher(1.5, 4.0, 2.5)
    matches, costs = matcher(guesses, targets, classification), matcher.costs(guesses, targets, classification)
    for layer in range(2):
        first = 0
        for picture, count in enumerate(counts):
            mine = (matches.layer == layer) & (matches.picture == picture)
            assert mine.sum() == min(count, 4)
            cost = costs[layer, picture, :, :count]
            found_cost = costs[layer, picture, matches.query[mine], matches.target[mine] - first].sum()
            cost = cost.T if count > 4 else cost
            orders = permutations(range(cost.shape[0]), cost.shape[1])
            least = min(float(cost[list(order), range(cost.shape[1])].sum()) for order in orders)
            assert float(found_cost) == pytest.approx(least, abs=1e-5)
            first += count


def test_transformers_matches_the_same():
    guesses, (boxes, labels) = found(1, 3, 9), objects(4, 0, 6)
    theirs = PublishedMatcher(class_cost=1, bbox_cost=5, giou_cost=2)(
        {"logits": guesses.logits[0], "pred_boxes": guesses.boxes[0]},
        [{"class_labels": label, "boxes": box} for box, label in zip(boxes, labels, strict=True)],
    )
    matches = HungarianMatcher()(guesses, gather_targets(boxes, labels), SoftmaxClassification())
    first = 0
    for picture, (query, target) in enumerate(theirs):
        mine = matches.picture == picture
        assert matches.query[mine].tolist() == query.tolist()
        assert (matches.target[mine] - first).tolist() == target.tolist()
        first += len(boxes[picture])


def test_costs_that_are_not_finite_are_matched_last_and_reported():
    guesses, targets = found(1, 2, 4), gather_targets(*objects(2, 2))
    guesses.boxes[0, 1, 2] = torch.nan
    guesses.logits[0, 1, 3] = torch.inf
    matches = HungarianMatcher()(guesses, targets, SoftmaxClassification())
    assert matches.repaired == [1]
    assert sorted(matches.query[matches.picture == 1].tolist()) == [0, 1]


numbers = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0, -3.0, 7.0, 1e30, float("nan"), float("inf")]))
some_boxes = st.lists(st.lists(numbers, min_size=4, max_size=4), max_size=6)


@BOTH
@settings(max_examples=60, deadline=None)
@given(pictures=st.lists(some_boxes, min_size=1, max_size=3), seed=st.integers(0, 9))
def test_whatever_the_boxes_are_the_loss_is_finite_or_the_picture_skipped(classification, pictures, seed):
    """Zero area, duplicates, outside, NaN, none at all, more than the queries."""
    boxes = [torch.tensor(picture).reshape(-1, 4) for picture in pictures]
    targets = gather_targets(boxes, [torch.zeros(len(picture), dtype=torch.int64) for picture in boxes])
    no_boxes = [number for number, picture in enumerate(boxes) if not (picture.abs() < 1e3).all()]
    assert targets.skipped == no_boxes
    guesses = found(2, len(boxes), 4, classification.num_logits(CLASSES), seed)
    matches = HungarianMatcher()(guesses, targets, classification)
    parts = SetLoss().of_matches(guesses, targets, matches, classification)
    assert all(torch.isfinite(part.value).all() for part in parts.values())
