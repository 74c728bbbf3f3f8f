import numpy as np
import pytest
import torch
from PIL import Image

from tasks.detr.explanation import centre_cells, draw_attention
from tests.tasks.detr.conftest import CLASS_NAMES, found

DETECTIONS = found((10, 5, 40, 35, 0.6, 0), (20.25, 10, 80, 60, 0.9, 2), (1, 2, 3, 4, 0.1, 1))


def maps(count=3, heads=2, rows=4, columns=5):
    generator = torch.Generator().manual_seed(count)
    weights = torch.rand(count, heads, rows * columns, generator=generator)
    return (weights / weights.sum(-1, keepdim=True)).reshape(count, heads, rows, columns)


def draw(picture, folder, detections=DETECTIONS, name="1", cross=None, encoder=None, **options):
    cross = maps() if cross is None else cross
    encoder = maps() if encoder is None else encoder
    return draw_attention(
        picture,
        detections,
        folder,
        name,
        cross_attention=cross,
        encoder_attention=encoder,
        class_names=CLASS_NAMES,
        **options,
    )


def pixels(path):
    return np.array(Image.open(path).convert("RGB")).astype(int)


def test_a_png_for_each_box_and_the_weights_beside(pictures, tmp_path):
    cross, encoder = maps(), maps().flip(-1)
    written = draw(pictures[0], tmp_path, name="a/1", cross=cross, encoder=encoder, picture_share=(0.75, 1.0))
    assert written == [tmp_path / f"attention/a/1_0{number}.png" for number in (1, 2, 3)]
    first, second = (pixels(path) for path in written[:2])
    assert first.shape == second.shape
    assert (first != second).any()
    with np.load(tmp_path / "attention/a/1.npz") as saved:
        np.testing.assert_array_equal(saved["cross_attention"], cross[[1, 0, 2]].numpy())
        np.testing.assert_array_equal(saved["encoder_attention"], encoder[[1, 0, 2]].numpy())
        np.testing.assert_allclose(saved["scores"], [0.9, 0.6, 0.1])
        np.testing.assert_array_equal(saved["labels"], [2, 0, 1])
        np.testing.assert_array_equal(saved["boxes"], DETECTIONS["boxes"][[1, 0, 2]].numpy())
        np.testing.assert_array_equal(saved["picture_share"], [0.75, 1.0])


def test_no_more_boxes_than_wanted_the_surest_first(pictures, tmp_path):
    assert len(draw(pictures[0], tmp_path, limit=2)) == 2
    with np.load(tmp_path / "attention/1.npz") as saved:
        np.testing.assert_allclose(saved["scores"], [0.9, 0.6])


def heat(tmp_path, *cells):
    """The PNG, less its box panel, of a black picture with weights in some cells of a map that is half padding."""
    Image.new("RGB", (80, 60)).save(tmp_path / "black.png")
    weights = torch.zeros(1, 2, 6, 8)
    for row, column, weight in cells:
        weights[:, :, row, column] = weight
    options = {"cross": weights, "encoder": torch.zeros(1, 2, 6, 8), "picture_share": (0.5, 0.5)}
    (path,) = draw(tmp_path / "black.png", tmp_path, found((30, 20, 50, 40, 0.8, 0)), **options)
    picture = pixels(path)
    return picture[:, picture.shape[1] // 3 :].sum(-1)


def test_the_heat_is_where_the_weight_is(tmp_path):
    upper_left, lower_right = (heat(tmp_path, (*cell, 1.0)) for cell in [(0, 0), (2, 3)])
    first, second = (np.argwhere(spot > 100).mean(0) for spot in (upper_left - lower_right, lower_right - upper_left))
    assert (first + 60 < second).all()
    half = upper_left.shape[1] // 2
    assert (upper_left == lower_right)[:, half:].all(), "the encoder's panel stays as it is"


def test_padding_is_neither_seen_nor_sets_the_scale(tmp_path):
    plain = heat(tmp_path, (1, 1, 1.0))
    padded = heat(tmp_path, (1, 1, 1.0), (5, 7, 9.0), (0, 4, 9.0), (3, 0, 9.0))
    assert (plain == padded).all()
    assert (plain != heat(tmp_path, (1, 1, 1.0), (0, 3, 9.0))).any()


def test_nothing_found_writes_nothing(pictures, tmp_path):
    assert draw(pictures[0], tmp_path, found(), cross=maps(0), encoder=maps(0)) == []
    assert not (tmp_path / "attention").exists()


def test_earlier_files_stay(pictures, tmp_path):
    for _ in range(2):
        draw(pictures[0], tmp_path, limit=1)
    assert len(list((tmp_path / "attention").glob("1_01*.png"))) == 2
    assert len(list((tmp_path / "attention").glob("1*.npz"))) == 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1)])
def test_pictures_of_any_shape(tmp_path, height, width):
    Image.new("L", (width, height), 80).save(tmp_path / "line.png")
    detections = found((0, 0, width, height, 0.9, 1))
    (path,) = draw(tmp_path / "line.png", tmp_path, detections, cross=maps(1), encoder=maps(1))
    assert Image.open(path).size[1] < 3000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit=0 must be at least 1"),
        ({"picture_share": (0.0, 1.0)}, "picture_share="),
        ({"picture_share": (1.0, 1.5)}, "picture_share="),
        ({"cross": maps(2)}, "cross_attention of 2 boxes and encoder_attention of 3, but there are 3 detections"),
    ],
)
def test_bad_arguments(pictures, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        draw(pictures[0], tmp_path, **options)
    assert not (tmp_path / "attention").exists()


def test_cells_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [90, 40, 100, 50], [45, 20, 55, 30], [100, 50, 100, 50]])
    assert centre_cells(boxes, (50, 100), (4, 8), (0.5, 1.0)).tolist() == [0, 15, 12, 15]
    assert centre_cells(boxes, torch.tensor([50, 100]), (4, 8)).tolist() == [0, 31, 20, 31]
    assert centre_cells(boxes[:0], (50, 100), (4, 8)).tolist() == []


def test_a_centre_cell_holds_the_centre():
    """A cell's own rectangle, in pixels of the original, has the box's centre inside."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([640.0, 480.0])
    boxes = corners.flatten(1)
    (rows, columns), share = (13, 20), (0.8, 0.9)
    cells = centre_cells(boxes, (480, 640), (rows, columns), share)
    row, column = cells // columns, cells % columns
    x, y = corners.mean(1).unbind(1)
    side_x, side_y = 640 / share[1] / columns, 480 / share[0] / rows
    assert ((column * side_x <= x + 1e-3) & (x - 1e-3 <= (column + 1) * side_x)).all()
    assert ((row * side_y <= y + 1e-3) & (y - 1e-3 <= (row + 1) * side_y)).all()
