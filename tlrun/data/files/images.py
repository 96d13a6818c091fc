"""One image file to one array: any common format, upright, RGB or grey, fitted to a square.

What Pillow leaves to its callers is decided here, so that training, checks and prediction read a file alike: pixels of
12 or 16 bits are scaled and not clipped, transparent ones lie on white, the camera's orientation is applied, of several
frames or pages the first is taken.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

Fit = Literal["crop", "squash", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Channels = Literal[1, 3]
Size = tuple[int, int]

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)
"""Names with these endings, in either case, are taken for images; nothing else is."""

DECODING = f"pillow {PIL.__version__}, 2"
"""What the pixels of a file depend on beside the settings: Pillow's decoders and their rounding, and a number that is
raised when this module makes others of the same file."""
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation (CIPA DC-008, 4.6.4) to the turn that undoes it."""
_GREY_STEP = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies grey of fewer than 8 bits by."""
_SYSTEM = {errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM}
"""Errors that say nothing about the file: one left out for such a reason would be missing by chance."""


class BadImage(Exception):
    """A file that gives no image: missing, empty, truncated, damaged, or of a kind that has no 8-bit picture in it."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type[BadImage], tuple[Path, str]]:
        return BadImage, (self.path, self.reason)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files in a fixed order: each one's path below `root`, or its whole path, (N,)."""

    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, number: int) -> str:
        return os.path.join(self.root, self.names[number])  # noqa: PTH118  # pathlib takes four times as long


@dataclass(frozen=True)
class Header:
    """What a file says of its image before it is decoded. size: width and height as stored."""

    size: Size
    is_grey: bool
    is_transparent: bool
    is_deep: bool


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden files never are."""
    stem, dot, suffix = name.rpartition(".")
    return bool(stem) and not name.startswith(".") and f"{dot}{suffix}".lower() in SUFFIXES


def read_image(
    path: Path | str, *, size: int, fit: Fit, channels: Channels, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """The image at path as uint8 (size, size, channels), writable; grey by luma (ITU-R BT.601) where channels is 1.

    crop: the central square, resized; squash: the whole image, its aspect changed; pad: the whole image as it is, with
    its edges repeated to fill the square. Resizing is antialiased. A JPEG is decoded at a half, a quarter or an eighth
    where that still leaves as many pixels as are wanted. Raises BadImage; OSError only where the system fails (too many
    open files, a broken disk).
    """
    image = _decoded(path, channels, wanted=lambda found: _fitted(found, size, fit))
    return fit_image(image, size=size, fit=fit, interpolation=interpolation)


def read_whole(path: Path | str, *, channels: Channels) -> NDArray[np.uint8]:
    """The image at path as it is, upright, uint8 (H, W, channels). Raises as `read_image`."""
    return _array(_decoded(path, channels))


def image_size(path: Path | str) -> Size:
    """Width and height that the file's header gives, without decoding. Raises BadImage."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:
        raise BadImage(path, " ".join(str(error).split())[:200] or type(error).__name__) from error


def read_header(image: ImageFile.ImageFile) -> Header:
    """Of an image that was opened and not decoded; `_plain` is what its kind decides."""
    stored, most = _stored(image)
    # Colour of 16 bits, and grey with an alpha channel, is opened as colour of 8 bits.
    deep = image.mode.startswith("I") or ";16" in stored or most > 255
    grey = image.mode.startswith("I") or image.mode in ("1", "L", "LA", "La") or stored.startswith("LA")
    return Header(image.size, grey, image.has_transparency_data, deep)


def _stored(image: ImageFile.ImageFile) -> tuple[str, int]:
    """How the pixels of an image that was opened and not decoded lie in its file, in Pillow's words (`RGB;16B`, `L;4`),
    and the largest value that a PPM file states, 0 of others."""
    decoder, _, _, how = image.tile[0] if image.tile else ("", None, 0, "")
    words = how if isinstance(how, tuple) else (how,)
    kind = words[0] if words and isinstance(words[0], str) else ""
    return kind, words[1] if decoder in ("ppm", "ppm_plain") else 0


def read_thumbnail(path: Path | str, *, side: int) -> NDArray[np.uint8]:
    """The whole image at path in RGB, aspect kept, its longer side at most `side`. Raises as `read_image`."""
    image = _decoded(path, 3, wanted=lambda found: _fitted(found, side, "pad"))
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return _array(image)


def fit_image(image: Image.Image, *, size: int, fit: Fit, interpolation: Interpolation) -> NDArray[np.uint8]:
    """An image of mode RGB or L as uint8 (size, size, C); see `read_image` for what fit means."""
    width, height = image.size
    resampling = _RESAMPLING[interpolation]
    if fit == "squash":
        return _array(image.resize((size, size), resampling))
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return _array(image.resize((size, size), resampling, box=(left, top, left + side, top + side)))
    inner = _fitted(image.size, size, fit)
    pixels = _array(image.resize(inner, resampling))
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    margins = ((top, size - inner[1] - top), (left, size - inner[0] - left), (0, 0))
    return np.pad(pixels, margins, mode="edge")


def _decoded(path: Path | str, channels: Channels, wanted: Callable[[Size], Size] | None = None) -> Image.Image:
    """The file's image, upright, RGB or L. wanted: from its size to the one that at least must be left of it."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        if error.errno in _SYSTEM:
            raise
        raise BadImage(path, (error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a NUL byte in the path, which a list may have and no file
        raise BadImage(path, str(error)) from error
    if not content:
        raise BadImage(path, "an empty file")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if wanted is not None and image.format in ("JPEG", "MPO"):
                image.draft("L" if channels == 1 else None, wanted(image.size))
            return _plain(image, channels)
    except UnidentifiedImageError as error:
        raise BadImage(path, "not an image of a known format, or its beginning is damaged") from error
    except Image.DecompressionBombError as error:
        raise BadImage(path, "more than 178 million pixels, which Pillow refuses to decode") from error
    except Exception as error:  # damage makes Pillow's plugins raise nearly anything
        raise BadImage(path, " ".join(str(error).split())[:200] or type(error).__name__) from error


def _fitted(found: Size, side: int, fit: Fit) -> Size:
    """Width and height to which an image of this size is resized; for crop, those of its central square."""
    if fit != "pad":
        return side, side
    width, height = (max(1, round(each * side / max(found))) for each in found)
    return width, height


def _plain(opened: ImageFile.ImageFile, channels: Channels) -> Image.Image:
    """Decoded, 8 bits a channel, RGB or L, nothing transparent, upright."""
    stored, _ = _stored(opened)
    opened.load()
    turn = _UPRIGHT.get(_orientation(opened))
    image = _eight_bits(opened, stored)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # the pixels are sound, and a tag that cannot be read asks for nothing
        return None


def _eight_bits(image: Image.Image, stored: str) -> Image.Image:
    """Grey of 12 or 16 bits brought to 8 over its whole range, and the colour that a PNG has for transparent with it.

    Pillow itself would clip the one at 255, and compare the other, which is of the file's bits, with pixels of 8.
    """
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = np.asarray(image).astype(np.int64)
        most = 4095 if stored == "I;12" else 65535
        grey = ((values * 255 + most // 2) // most).astype(np.uint8)
        if clear is None:
            return Image.fromarray(grey)
        return Image.fromarray(np.stack((grey, np.where(values == clear, 0, 255).astype(np.uint8)), axis=2))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits have no known range; convert the file to 8 or 16 bits")
    if clear is not None and stored in _GREY_STEP:
        image.info["transparency"] = clear * _GREY_STEP[stored]
    elif clear is not None and stored.startswith("RGB;16"):  # of a colour Pillow keeps the upper 8 bits alone
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return image


def _array(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
