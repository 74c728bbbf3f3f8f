import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.reading import read_image, read_size

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def saved(path, pixels, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF", "a.webp", "a.jpg", "a.JPEG"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_every_format(tmp_path, name, num_channels):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, 8:] = RED
    options = {"lossless": True} if name.endswith("webp") else {}
    picture = read_image(saved(tmp_path / name, pixels, **options), num_channels)
    assert picture.dtype == torch.uint8
    assert picture.shape == (num_channels, 16, 24)
    expected = RED if num_channels == 3 else (76,)  # ITU-R 601: 0.299 * 255
    assert np.abs(picture[:, 8, 20].numpy().astype(int) - expected).max() <= 3
    assert picture[:, 8, 2].max() <= 3


def test_the_first_of_a_phones_two_pictures(tmp_path):
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    assert read_image(tmp_path / "a.jpg", 3)[0].min() > 250


def test_grey_becomes_colour(tmp_path):
    picture = read_image(saved(tmp_path / "a.png", np.array([[0, 128, 255]], np.uint8)), 3)
    assert picture.tolist() == [[[0, 128, 255]]] * 3


def test_one_bit(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[0, 255]], np.uint8), mode="1")
    assert Image.open(path).mode == "1"
    assert read_image(path, 1).tolist() == [[[0, 255]]]


def test_palette(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[RED, GREEN, BLUE]], np.uint8), mode="P")
    assert Image.open(path).mode == "P"
    assert read_image(path, 3).permute(1, 2, 0).tolist() == [[list(RED), list(GREEN), list(BLUE)]]


def test_grey_of_a_palette_is_that_of_its_colours(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[RED, GREEN, BLUE]], np.uint8), mode="P")
    assert read_image(path, 1).tolist() == [[[76, 150, 29]]]


def test_transparent_palette_shows_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([*RED, *GREEN])
    path = saved(tmp_path / "a.png", image, transparency=0)
    assert read_image(path, 3)[:, 0].T.tolist() == [[255, 255, 255], list(GREEN)]


@pytest.mark.parametrize("num_channels", [1, 3])
def test_alpha_is_composed_over_white(tmp_path, num_channels):
    path = saved(tmp_path / "a.png", np.array([[[0, 0, 0, 0], [0, 0, 0, 51], [0, 0, 0, 255]]], np.uint8))
    assert read_image(path, num_channels)[0, 0].tolist() == [255, 204, 0]


def test_grey_with_alpha(tmp_path):
    image = Image.merge("LA", [Image.new("L", (1, 1), 10), Image.new("L", (1, 1), 0)])
    assert read_image(saved(tmp_path / "a.png", image), 1).item() == 255


def test_cmyk(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    red, green, blue = read_image(path, 3)[:, 4, 4].tolist()
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("name", ["a.png", "little.tif", "big.tif", "integers.tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, name):
    values = np.array([[0, 128, 129, 257, 25700, 65535]])
    if name == "integers.tif":
        image = Image.fromarray(values.astype(np.int32))
    elif name == "big.tif":
        image = Image.frombytes("I;16B", (6, 1), values.astype(">u2").tobytes())
    else:
        image = Image.fromarray(values.astype(np.uint16))
    path = saved(tmp_path / name, image)
    assert Image.open(path).mode == {"integers.tif": "I", "big.tif": "I;16B"}.get(name, "I;16")
    assert read_image(path, 1).tolist() == [[[0, 0, 1, 1, 100, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, orientation):
    """The stored picture, turned as the viewer must, is red at the upper left and green at the upper right."""
    upright = Image.new("RGB", (32, 16), BLUE)
    upright.paste(RED, (0, 0, 8, 8))
    upright.paste(GREEN, (24, 0, 32, 8))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose: what turns upright to stored
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.jpg", stored, exif=exif, quality=95, subsampling=0)
    picture = read_image(path, 3)
    assert picture.shape == (3, 16, 32)
    assert read_size(path) == (16, 32)
    assert picture[0, 4, 4] > 240
    assert picture[1, 4, 28] > 240
    assert picture[2, 12, 4] > 240


def test_one_pixel(tmp_path):
    assert read_image(saved(tmp_path / "a.png", np.full((1, 1), 9, np.uint8)), 3).tolist() == [[[9]]] * 3


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


BAD = {
    "empty.jpg": (b"", "is empty"),
    "text.png": (b"hello, this is no picture", "is not a readable picture"),
    "truncated.jpg": (encoded("JPEG")[:2000], "is damaged"),
    "truncated.png": (encoded("PNG")[:2000], "is damaged"),
    "truncated.webp": (encoded("WEBP")[:200], "is"),
    "truncated.bmp": (encoded("BMP")[:2000], "is damaged"),
    "truncated.tif": (encoded("TIFF")[:2000], "is"),
    "header.png": (encoded("PNG")[:20], "is"),
    "flipped.png": (encoded("PNG").replace(b"IDAT", b"IDAX"), "is"),
    "bomb.png": (bomb(), "claims more pixels than are safe"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(tmp_path, name):
    content, reason = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_image(path, 3)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_floats_and_32_bits_have_no_known_range(tmp_path):
    floats = saved(tmp_path / "a.tif", Image.new("F", (2, 2), 0.5))
    with pytest.raises(ValueError, match=r"a\.tif: has floating-point pixels"):
        read_image(floats, 1)
    wide = saved(tmp_path / "b.tif", Image.fromarray(np.array([[70000]], np.int32)))
    with pytest.raises(ValueError, match="70000, beyond 16 bits"):
        read_image(wide, 1)


def test_folder_missing_file_and_channels(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        read_image(tmp_path, 3)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_image(tmp_path / "none.png", 3)
    with pytest.raises(ValueError, match="num_channels=2"):
        read_image(tmp_path, 2)


def test_read_size_fails_as_read_image_does(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_size(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_size(tmp_path / "none.png")
