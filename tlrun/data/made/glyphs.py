"""The digits of the fonts inside matplotlib's wheel, as distances to the edge of their strokes.

A distance can be read between its places, at any size and angle, and still gives a clean edge: the image of a glyph is
how far inside each pixel lies, cut off at an edge as wide as one wants it blurred (Green 2007, SIGGRAPH courses).
"""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tlrun.config import ConfigError

if TYPE_CHECKING:
    from PIL import ImageFont

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique", "DejaVuSansMono-Oblique", "DejaVuSerif",
    "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic", "DejaVuSerif-Italic", "STIXGeneral",
    "STIXGeneralBol", "STIXGeneralBolIta", "STIXGeneralItalic", "cmb10", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
"""Those whose digits all stand on the line and are of one height."""

DRAWN = 96  # pixels of a drawn digit's height, from which distances are measured
GRID = 48  # places along a side of a distance field
SPAN = 1.5  # height and width that a field covers, in heights of a digit, which lies in its middle


@dataclass(frozen=True)
class Glyphs:
    """Digits of many fonts. In all lengths the unit is the height of a digit.

    fields: float32 (F, 10, GRID, GRID), distance inside the stroke, negative outside, over a square of SPAN around the
    digit's middle. widths: float32 (F, 10), of the digit with the white to its neighbours.
    """

    fields: NDArray[np.float32]
    widths: NDArray[np.float32]


def font_folder() -> Path:
    """Where matplotlib keeps its fonts; matplotlib itself is not imported. Raises ConfigError when it has none."""
    spec = importlib.util.find_spec("matplotlib")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        where = "matplotlib is not installed" if folder is None else f"{folder} is not there"
        raise ConfigError(
            f"data: synthetic_digits draws with the fonts of matplotlib, and {where}; install tlrun again"
        )
    return folder


def draw_glyphs() -> Glyphs:
    """The ten digits in every font of FONTS. Raises ConfigError when a font is missing or damaged."""
    from PIL import ImageFont

    fields = np.empty((len(FONTS), 10, GRID, GRID), dtype=np.float32)
    widths = np.empty((len(FONTS), 10), dtype=np.float32)
    folder = font_folder()
    for number, name in enumerate(FONTS):
        path = folder / f"{name}.ttf"
        try:
            # The content, not the path: where a file is not found Pillow takes one of that name from the system.
            content = io.BytesIO(path.read_bytes())
            trial = ImageFont.truetype(content, 200, layout_engine=ImageFont.Layout.BASIC)
            _, top, _, bottom = trial.getbbox("0")
            font = trial.font_variant(size=round(200 * DRAWN / (bottom - top)))
        except OSError as error:
            raise ConfigError(
                f"data: the font {path} of matplotlib cannot be read ({error.strerror or error}); install it again"
            ) from error
        for digit in range(10):
            fields[number, digit] = distances(_draw(font, str(digit)))
            widths[number, digit] = font.getlength(str(digit)) / DRAWN
    return Glyphs(fields, widths)


def _draw(font: ImageFont.FreeTypeFont, text: str) -> NDArray[np.bool_]:
    """The text in the middle of a square of SPAN, (S, S), True where there is ink."""
    from PIL import Image, ImageDraw

    side = round(SPAN * DRAWN)
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pen.text(((side - left - right) / 2, (side - top - bottom) / 2), text, fill=255, font=font)
    return np.asarray(image) >= 128


def distances(ink: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far inside the ink (S, S) each of GRID x GRID places lies, in heights of a digit; negative outside."""
    from scipy.ndimage import distance_transform_edt

    inside = distance_transform_edt(ink) - distance_transform_edt(~ink)
    inside += np.where(ink, -0.5, 0.5)  # from the edge, which lies between two pixels' middles
    side = len(ink)
    # Places are the middles of equal squares; read between the four pixels around each.
    at = (np.arange(GRID) + 0.5) * (side / GRID) - 0.5
    low = np.floor(at).astype(np.int64)
    share = at - low
    lines = inside[low] * (1 - share)[:, None] + inside[low + 1] * share[:, None]
    field = lines[:, low] * (1 - share) + lines[:, low + 1] * share
    scaled: NDArray[np.float32] = (field / DRAWN).astype(np.float32)
    return scaled
