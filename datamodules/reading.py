"""Reads pictures of every common kind into tensors, and says in one line what is wrong with a bad one."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_MODES = {1: "L", 3: "RGB"}
_WHITE = (255, 255, 255, 255)


def read_image(path: Path, num_channels: int) -> Tensor:
    """Reads a picture the way a person sees it.

    It is turned as its EXIF data say, transparent parts show a white ground, 16-bit grey is scaled by 1/257, CMYK is
    converted. Of an animation or a file with several pages the first picture is read.

    Args:
        path: A file: JPEG, PNG, BMP, WebP or TIFF.
        num_channels: 1 = grey, 3 = red, green, blue.

    Returns:
        uint8 of shape (num_channels, height, width).

    Raises:
        ValueError: If `num_channels` is neither, or the file cannot be read as a picture; one line that names the
            file and what is wrong.
        FileNotFoundError: If there is no such file.
    """
    if num_channels not in _MODES:
        raise ValueError(f"num_channels={num_channels} must be 1 (grey) or 3 (colour)")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            pixels = np.array(_convert(ImageOps.exif_transpose(image), _MODES[num_channels]))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ValueError(f"{path}: {_reason(path, error)}") from None
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], num_channels)).permute(2, 0, 1).contiguous()


def read_size(path: Path) -> tuple[int, int]:
    """Reads a picture's height and width from its header, after it is turned as its EXIF data say.

    Raises:
        ValueError: If the header cannot be read.
        FileNotFoundError: If there is no such file.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # Pillow decodes a whole PNG to look for EXIF data behind the pixels: only those before them are heeded here
            exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
            turned = exif.get(0x0112, 1) in {5, 6, 7, 8}
            return (image.width, image.height) if turned else (image.height, image.width)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except Exception as error:
        raise ValueError(f"{path}: {_reason(path, error)}") from None


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _from_deep_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    elif image.mode in {"P", "PA"}:
        image = image.convert("RGB")  # a palette turns grey by way of its colours
    return image if image.mode == mode else image.convert(mode)


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Brings 16-bit grey, in any of Pillow's modes, to 8 bits; Pillow itself would clip it."""
    if image.mode == "F":
        raise ValueError("has floating-point pixels, whose range is unknown; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError(f"has pixels from {values.min()} to {values.max()}, beyond 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _reason(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "is a folder, not a picture"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if path.is_file() and path.stat().st_size == 0:
        return "is empty"
    if isinstance(error, Image.DecompressionBombError):
        return f"claims more pixels than are safe to decode ({' '.join(str(error).split())})"
    if isinstance(error, UnidentifiedImageError):
        return "is not a readable picture (JPEG, PNG, BMP, WebP or TIFF)"
    detail = " ".join(str(error).split()) or type(error).__name__
    return detail if detail.startswith("has ") else f"is damaged ({detail})"
