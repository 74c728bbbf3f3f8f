import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torchvision.ops import generalized_box_iou

from tasks.detr.boxes import (
    check_detections,
    cxcywh_to_xyxy,
    generalized_iou_pairs,
    to_pixels,
    xyxy_to_cxcywh,
)

SIDES = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, -1.0, 2.0, 1e-45, 1e-30, 1e-13, 1e-7, 1e30, -1e30]),
    st.floats(-2, 2, width=32),
    st.floats(-(2.0**100), 2.0**100, width=32),
)
ANY_BOX = st.lists(SIDES, min_size=4, max_size=4)
ANY_PAIR = st.one_of(st.tuples(ANY_BOX, ANY_BOX), ANY_BOX.map(lambda box: (box, box)))


def ordered(box):
    return [min(box[::2]), min(box[1::2]), max(box[::2]), max(box[1::2])]


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), max_size=5))
def test_formats_convert_back(boxes):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes, atol=1e-6, rtol=0)


def test_pixels_by_hand():
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.4, 0.4]], [[0.5, 0.5, 1.0, 1.0], [2.0, 2.0, 0.1, 0.1]]])
    pixels = to_pixels(boxes, torch.tensor([[100, 200], [30, 40]]))
    expected = [[[50, 25, 150, 75], [0, 70, 60, 100]], [[0, 0, 40, 30], [40, 30, 40, 30]]]
    torch.testing.assert_close(pixels, torch.tensor(expected, dtype=torch.float32))


def test_pixels_of_half_precision_are_float32():
    pixels = to_pixels(torch.tensor([[0.5, 0.5, 0.25, 1.0]], dtype=torch.bfloat16), torch.tensor([1001, 3333]))
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels, torch.tensor([[1249.875, 0, 2083.125, 1001]]))


@given(st.lists(st.floats(width=32), min_size=4, max_size=4), st.integers(1, 5000), st.integers(1, 5000))
def test_pixels_stay_inside_the_picture(box, height, width):
    pixels = to_pixels(torch.tensor([box]), torch.tensor([height, width]))
    if all(abs(side) < 1e38 for side in box):
        assert torch.isfinite(pixels).all()
    inside = (pixels >= 0) & (pixels <= torch.tensor([width, height, width, height]))
    assert (inside | pixels.isnan()).all()


@given(st.lists(st.lists(st.integers(0, 400), min_size=4, max_size=4), min_size=2, max_size=8))
def test_generalized_iou_is_torchvisions(boxes):
    boxes = torch.tensor([ordered(box) for box in boxes], dtype=torch.float32) / 4
    boxes[:, 2:] += 0.25
    expected = generalized_box_iou(boxes.double(), boxes.double()).float()
    torch.testing.assert_close(generalized_iou_pairs(boxes[:, None], boxes), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(
        generalized_iou_pairs(boxes, boxes.flip(0)), expected.flip(1).diagonal(), atol=2e-6, rtol=0
    )


def test_generalized_iou_by_hand():
    a = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 4, 4]])
    b = torch.tensor([[1.0, 0, 3, 1], [3, 3, 4, 4], [1, 1, 3, 3], [1, 1, 3, 3]])
    expected = torch.tensor([1 / 3, -14 / 16, 1 / 7 - 2 / 9, 1 / 4])
    torch.testing.assert_close(generalized_iou_pairs(a, b), expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 1.0),  # the same point
        ([0, 1, 2, 1], [0, 1, 2, 1], 1.0),  # the same line
        ([0, 1, 2, 1], [1, 1, 3, 1], 1 / 3),  # two intervals
        ([0, 0, 0, 0], [2, 1, 2, 1], -1.0),  # two points
        ([0, 0, 0, 0], [2, 0, 2, 0], -1.0),
        ([1, 1, 1, 1], [0, 0, 2, 2], 0.0),  # a point in a box
        ([3, 1, 3, 1], [0, 0, 2, 2], -1 / 3),  # a point outside it
    ],
)
def test_generalized_iou_without_area(a, b, expected):
    value = generalized_iou_pairs(torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32))
    assert value.item() == pytest.approx(expected, abs=1e-6)


@given(ANY_PAIR)
def test_generalized_iou_of_any_boxes_is_finite_and_so_is_its_gradient(pair):
    a, b = (torch.tensor([box], requires_grad=True) for box in pair)
    value = generalized_iou_pairs(a, b)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()


@given(ANY_BOX, ANY_BOX)
def test_generalized_iou_of_ordered_boxes_is_from_minus_1_to_1(a, b):
    a, b = torch.tensor([ordered(a)]), torch.tensor([ordered(b)])
    value = generalized_iou_pairs(a, b)
    assert -1 - 1e-5 <= value.item() <= 1 + 1e-5
    assert value == generalized_iou_pairs(b, a)
    assert generalized_iou_pairs(a, a).item() == pytest.approx(1)


@given(ANY_BOX, st.integers(0, 3), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_generalized_iou_of_what_is_not_finite_leaves_others_alone(box, place, value):
    bad = box.copy()
    bad[place] = value
    boxes = torch.tensor([bad, box])
    matrix = generalized_iou_pairs(boxes[:, None], boxes)
    assert matrix.shape == (2, 2)
    assert torch.isfinite(matrix[1, 1])


def test_generalized_iou_moves_a_box_without_area_towards_its_target():
    box = torch.tensor([[0.2, 0.2, 0.2, 0.4], [0.6, 0.6, 0.6, 0.6]], requires_grad=True)
    generalized_iou_pairs(box, torch.tensor([[0.1, 0.1, 0.5, 0.5]])).sum().backward()
    assert box.grad[0, 2] > 0 > box.grad[0, 0], "a line inside should become wider"
    assert (box.grad[1, 2:] < 0).all(), "a point outside should come nearer"


def test_generalized_iou_of_half_precision_is_computed_in_float32():
    a, b = (torch.rand(50, 2, 2).sort(dim=1).values.flatten(1).bfloat16() for _ in range(2))
    expected = generalized_iou_pairs(a.float(), b.float())
    assert (generalized_iou_pairs(a, b) == expected).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert (generalized_iou_pairs(a, b) == expected).all()


@given(st.lists(ANY_BOX, max_size=3), st.lists(ANY_BOX, max_size=3))
def test_generalized_iou_of_empty_sets(a, b):
    assume(not (a and b))
    matrix = generalized_iou_pairs(torch.tensor(a).reshape(-1, 1, 4), torch.tensor(b).reshape(-1, 4))
    assert matrix.shape == (len(a), len(b))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": torch.tensor([[0.0, 0.0, math.nan, 1.0]])}, "a.png: a box or score that was found is not finite"),
        ({"scores": torch.tensor([math.inf])}, "not finite"),
        ({"labels": torch.tensor([3])}, "a.png: labels from 3 to 3, but there are 3 classes"),
        ({"labels": torch.tensor([-1])}, "labels from -1"),
        ({"labels": torch.tensor([1, 1])}, r"labels \(2,\)"),
        ({"boxes": torch.tensor([[3.0, 0.0, 2.0, 1.0]])}, "a.png: boxes are not x1, y1, x2, y2"),
        ({"boxes": torch.zeros(1, 5)}, r"boxes \(1, 5\)"),
    ],
)
def test_bad_detections_are_refused_in_one_line(change, message):
    good = {"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.tensor([2])}
    check_detections(good, "a.png", 3)
    with pytest.raises(ValueError, match=message) as caught:
        check_detections({**good, **change}, "a.png", 3)
    assert "\n" not in str(caught.value)
