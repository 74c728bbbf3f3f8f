"""Where a network looked for each box: the weights by hand, and where the heat is drawn."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.explain import each_sequence
from tasks.detr.explanation import MOST_BOXES, centre_cells, draw, real_cells, shown_boxes
from tasks.detr.module import DETRModule
from tasks.pictures import GAP, SIDE, TEXT
from tests.core.helpers import ATTENTIONS, assert_same, with_each
from tests.tasks.detr.conftest import CATEGORY_IDS, CLASS_NAMES, found
from tests.tasks.detr.helpers import KINDS, detr, padded
from tests.tasks.explaining import explained, last_layer, rollout

DETECTIONS = found((10, 5, 40, 35, 0.6, 0), (20.25, 10, 80, 60, 0.9, 2), (1, 2, 3, 4, 0.1, 1))


def explain(kind, sizes, attention=None):
    """A module's explanations of pictures of these heights and widths, four pixels of a file for each of theirs."""
    network = detr(kind, **({"attention": attention} if attention else {}))
    module = DETRModule(network, facts={"class_names": CLASS_NAMES, "category_ids": CATEGORY_IDS}, min_score=0.0)
    image, padding = padded(*sizes)
    batch = {"image": image, "padding_mask": padding, "index": torch.arange(len(sizes)), "failed": []}
    batch["original_size"] = 4 * torch.tensor(sizes)
    explanations, recorded = explained(module, batch, [f"{number}.png" for number in range(len(sizes))])
    return module, batch, explanations, recorded


@with_each(ATTENTIONS)
@pytest.mark.parametrize("sizes", [[(24, 40), (24, 40)], [(24, 40), (40, 16)]], ids=["alike", "padded"])
def test_weights_are_those_of_the_boxs_query_and_of_its_middle(attention, sizes):
    module, batch, explanations, recorded = explain("proposals", sizes, attention)
    predicted = module.predict_step(batch, 0)
    for number, explanation in enumerate(explanations):
        grid = tuple(side // 4 for side in sizes[number])
        *encoder, decoder = (each_sequence(calls)[number] for calls in recorded.values())
        boxes = shown_boxes(predicted["detections"][number])
        cells = centre_cells(boxes["boxes"], batch["original_size"][number], grid)
        real = predicted["real_cells"][number].flatten()
        seen = decoder.weights().mean(1)[0, boxes["queries"]][:, real]
        expected = {"cross_attention": seen, "last_layer": last_layer(encoder)[0, cells]}
        expected["rollout"] = seen @ rollout(encoder)[0]
        for name, rows in expected.items():
            found = explanation.weights[name]
            assert found.shape == (len(cells), *grid)
            assert_same(found.flatten(1), rows)
        assert torch.equal(explanation.weights["boxes"], boxes["boxes"])
        assert_same(explanation.weights["cross_attention"].sum((1, 2)), torch.ones(len(cells)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_query_is_explained(kind):
    *_, explanations, _ = explain(kind, [(24, 40)])
    assert explanations[0].weights["cross_attention"].std() > 1e-4


def test_sure_boxes_are_shown_and_the_surest_always():
    assert shown_boxes(DETECTIONS)["scores"].tolist() == pytest.approx([0.9, 0.6])
    unsure = {**DETECTIONS, "scores": torch.tensor([0.2, 0.3, 0.1])}
    assert shown_boxes(unsure)["labels"].tolist() == [2]
    many = found(*[(0, 0, 1, 1, 0.6 + number / 100, 0) for number in range(20)])
    assert shown_boxes(many)["scores"].tolist() == pytest.approx([0.79 - number / 100 for number in range(MOST_BOXES)])
    assert len(shown_boxes(found())["scores"]) == 0


def test_a_picture_has_its_upper_left_cells():
    padding = torch.ones(2, 3, 4, dtype=torch.bool)
    padding[0, :2, :4] = padding[1, :3, :1] = False
    first, second = real_cells(padding.flatten(1), (3, 4), 2)
    assert first.nonzero().tolist() == [[row, column] for row in range(2) for column in range(4)]
    assert second.sum() == 3
    assert all(each.all() for each in real_cells(None, (3, 4), 2))


def panels(tmp_path, cells):
    """The panels of the first box over a black picture of 80 x 60: pixels of the box and of each measure."""
    Image.new("RGB", (80, 60)).save(tmp_path / "black.png")
    weights = {name: torch.full((1, 3, 4), 1e-3) for name in ("cross_attention", "last_layer", "rollout")}
    for name, *cell in cells:
        weights[name][0][tuple(cell)] = 1.0
    ((_, drawn),) = draw(tmp_path / "black.png", found((30, 20, 50, 40, 0.8, 0)), weights, CLASS_NAMES)
    pixels = np.array(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int).sum(-1)
    bottom = pixels.shape[0] - GAP - 2 * TEXT
    top = bottom - round(SIDE * 60 / 80)
    return [pixels[top:bottom, left : left + SIDE] for left in range(GAP, GAP + 4 * (SIDE + GAP), SIDE + GAP)]


@pytest.mark.parametrize("name", ["cross_attention", "last_layer", "rollout"])
def test_the_heat_is_where_the_weight_is(tmp_path, name):
    """A cell of 3 x 4 has 20 x 20 of 80 x 60 pixels; the other panels stay as they are."""
    one, other = (panels(tmp_path, [(name, *cell)]) for cell in [(0, 0), (2, 3)])
    changed = [bool((first != second).any()) for first, second in zip(one, other, strict=True)]
    assert changed == [False, *(name == each for each in ("cross_attention", "last_layer", "rollout"))]
    position = changed.index(True)
    scale = SIDE / 80
    for bright, corner in [(one[position] - other[position], (0, 0)), (other[position] - one[position], (40, 60))]:
        rows, columns = np.nonzero(bright > 100)
        assert rows.min() == pytest.approx(corner[0] * scale, abs=2)
        assert rows.max() == pytest.approx((corner[0] + 20) * scale, abs=2)
        assert columns.min() == pytest.approx(corner[1] * scale, abs=2)
        assert columns.max() == pytest.approx((corner[1] + 20) * scale, abs=2)


def test_a_row_a_box(pictures):
    weights = {name: torch.rand(3, 4, 5) for name in ("cross_attention", "last_layer", "rollout")}
    heights = []
    for count in (1, 3):
        some, its = ({name: each[:count] for name, each in every.items()} for every in (DETECTIONS, weights))
        ((_, drawn),) = draw(Path(pictures[0]), some, its, CLASS_NAMES)
        heights.append(Image.open(io.BytesIO(drawn)).size[1])
    assert heights[1] > 2 * heights[0]
    assert list(draw(Path(pictures[0]), found(), {name: each[:0] for name, each in weights.items()}, CLASS_NAMES)) == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1)])
def test_pictures_of_any_shape(tmp_path, height, width):
    Image.new("L", (width, height), 80).save(tmp_path / "line.png")
    detections = found((0, 0, width, height, 0.9, 1))
    weights = {name: torch.rand(1, 4, 5) for name in ("cross_attention", "last_layer", "rollout")}
    ((_, drawn),) = draw(tmp_path / "line.png", detections, weights, CLASS_NAMES)
    assert max(Image.open(io.BytesIO(drawn)).size) < 3000


def test_cells_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [90, 40, 100, 50], [45, 20, 55, 30], [100, 50, 100, 50]])
    assert centre_cells(boxes, torch.tensor([50, 100]), (4, 8)).tolist() == [0, 31, 20, 31]
    assert centre_cells(boxes[:0], (50, 100), (4, 8)).tolist() == []


def test_a_centre_cell_holds_the_centre():
    """A cell's own rectangle, in pixels of the original, has the box's centre inside."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([640.0, 480.0])
    boxes = corners.flatten(1)
    rows, columns = 13, 20
    cells = centre_cells(boxes, (480, 640), (rows, columns))
    row, column = cells // columns, cells % columns
    x, y = corners.mean(1).unbind(1)
    side_x, side_y = 640 / columns, 480 / rows
    assert ((column * side_x <= x + 1e-3) & (x - 1e-3 <= (column + 1) * side_x)).all()
    assert ((row * side_y <= y + 1e-3) & (y - 1e-3 <= (row + 1) * side_y)).all()
