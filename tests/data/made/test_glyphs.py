from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tlrun.config import ConfigError
from tlrun.data.made import glyphs
from tlrun.data.made.glyphs import DRAWN, FONTS, GRID, SPAN, Glyphs, distances, draw_glyphs, font_folder


@pytest.fixture(scope="module")
def drawn() -> Glyphs:
    return draw_glyphs()


def places() -> np.ndarray:
    """The middles of the grid, in heights of a digit from the middle of the field."""
    return ((np.arange(GRID) + 0.5) / GRID - 0.5) * SPAN


def test_distances_to_a_disc_are_those_of_geometry() -> None:
    side = round(SPAN * DRAWN)
    at = np.arange(side) - (side - 1) / 2
    radius = 0.4 * DRAWN
    ink = np.hypot(*np.meshgrid(at, at)) <= radius
    exact = 0.4 - np.hypot(*np.meshgrid(places(), places()))
    assert np.abs(distances(ink) - exact).max() < 1 / DRAWN


def test_every_font_has_ten_digits_of_one_height_in_the_middle(drawn: Glyphs) -> None:
    assert drawn.fields.shape == (len(FONTS), 10, GRID, GRID)
    assert drawn.fields.dtype == np.float32
    for field in drawn.fields.reshape(-1, GRID, GRID):
        lines = places()[(field > 0).any(1)]
        assert lines.min() == pytest.approx(-0.5, abs=0.07)
        assert lines.max() == pytest.approx(0.5, abs=0.07)
        assert field[[0, -1]].max() < -0.15 and field[:, [0, -1]].max() < -0.1, "no ink at the border"
    flat = drawn.fields.reshape(len(FONTS) * 10, -1)
    nearest = [np.abs(flat[:number] - flat[number]).max(1).min() for number in range(1, len(flat))]
    assert min(nearest) > 0.01, "no two digits look alike, not even a box for a missing one"


def test_widths_are_those_of_the_fonts(drawn: Glyphs) -> None:
    assert drawn.widths.shape == (len(FONTS), 10)
    assert 0.6 < drawn.widths.min() <= drawn.widths.max() < 1


def test_a_missing_font_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "font_folder", lambda: tmp_path)
    with pytest.raises(ConfigError) as error:
        draw_glyphs()
    assert str(error.value) == (
        f"data: the font {tmp_path / 'DejaVuSans.ttf'} of matplotlib cannot be read (No such file or directory); "
        "install it again"
    )


def test_fonts_are_found_without_importing_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (font_folder() / "DejaVuSans.ttf").is_file()
    monkeypatch.setattr(glyphs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        font_folder()
    assert str(error.value) == (
        "data: synthetic_digits draws with the fonts of matplotlib, and matplotlib is not installed; install tlrun again"
    )


def test_the_unit_is_the_height_of_a_digit(drawn: Glyphs) -> None:
    zero = drawn.fields[FONTS.index("DejaVuSans"), 0]
    middle = zero[GRID // 2]
    assert middle[GRID // 2] < -0.1, "the hole of a zero"
    assert math.isclose(zero.max(), 0.065, abs_tol=0.02), "half a stroke"
