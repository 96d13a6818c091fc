from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tlrun.data.datasets import synthetic_digits
from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.synthetic_digits import CONTRAST, LUMA, Style, SyntheticDigits, coloured, labels, render
from tlrun.data.made.chance import uniform
from tlrun.data.made.glyphs import Glyphs, draw_glyphs

SETTINGS: dict[str, Any] = {"name": "synthetic_digits", "train_rows": 300, "test_rows": 100, "size": 32, "draw": 0}


@pytest.fixture(scope="module")
def drawn() -> Glyphs:
    return draw_glyphs()


def load(places: Places, **changed: Any) -> DomainData:
    return SyntheticDigits(SyntheticDigits.Config(**{**SETTINGS, **changed}), places).load()


def styles(count: int = 2000, size: int = 32) -> Style:
    return Style(uniform((count, Style.NUMBERS), 0, "test").astype(np.float32), size)


def test_rows_have_the_size_and_number_asked_for(places: Places) -> None:
    data = load(places, size=20)
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert data.train.x.shape == (300, 20, 20, 3)
    assert data.test.x.shape == (100, 20, 20, 3)
    assert data.notes == ("not the SYN NUMBERS of the paper: accuracies do not compare with published tables",)
    assert data.origin == (
        "digits drawn from 20 fonts shipped with matplotlib, after SYN NUMBERS of Ganin et al. 2016; draw 0"
    )


def test_an_image_depends_on_draw_split_and_number_alone(drawn: Glyphs, monkeypatch: pytest.MonkeyPatch) -> None:
    y = labels(60, draw=3, split="train")
    np.testing.assert_array_equal(labels(25, draw=3, split="train"), y[:25])
    images = render(y, drawn, 32, draw=3, split="train")
    monkeypatch.setattr(synthetic_digits, "CHUNK_PIXELS", 7 * 32 * 32)
    np.testing.assert_array_equal(render(y[:25], drawn, 32, draw=3, split="train"), images[:25])
    for draw, split in ((4, "train"), (3, "test")):
        other = render(y[:25], drawn, 32, draw=draw, split=split)
        assert (np.abs(other.astype(int) - images[:25]).mean((1, 2, 3)) > 1).all()


@pytest.mark.slow
def test_images_are_made_once(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(places)
    monkeypatch.setattr(synthetic_digits, "render", None)
    np.testing.assert_array_equal(load(places).train.x, first.train.x)
    with pytest.raises(TypeError):
        load(places, draw=1)


def test_every_digit_is_as_likely() -> None:
    counts = np.bincount(labels(50_000, draw=0, split="train"), minlength=10)
    assert len(counts) == 10
    assert np.abs(counts / 5000 - 1).max() < 0.06


def test_a_digit_and_its_ground_differ_in_luma_by_the_stated_contrast() -> None:
    style = styles()
    ground, ink, outline = (each @ LUMA for each in (style.ground, style.ink, style.outline))
    assert np.abs(ground - ink).min() >= CONTRAST - 1e-5
    assert np.abs(outline - ink).min() >= CONTRAST - 1e-5
    for colour in (style.ground, style.ink, style.outline):
        assert colour.min() >= -1e-5 and colour.max() <= 1 + 1e-5
    assert 0.3 < (ink > ground).mean() < 0.7, "light on dark as often as dark on light"


def test_a_colour_has_exactly_its_luma() -> None:
    chance = uniform((500, 5), 0, "colours").astype(np.float32)
    made = coloured(chance[:, 0], chance[:, 1], chance[:, 2:])
    np.testing.assert_allclose(made @ LUMA, chance[:, 0], atol=1e-5)
    np.testing.assert_allclose(coloured(chance[:, 0], np.zeros(500, np.float32), chance[:, 2:]).std(1), 0, atol=1e-6)
    assert made.std(1).mean() > 0.08


def test_lengths_go_with_the_size_of_the_image() -> None:
    small, large = styles(size=32), styles(size=64)
    for name in ("height", "x", "y"):
        np.testing.assert_allclose(getattr(large, name), 2 * getattr(small, name), rtol=1e-6)
    np.testing.assert_allclose(small.cosine**2 + small.sine**2, 1, rtol=1e-5)
    assert 14 < np.degrees(np.arcsin(small.sine.max())) < 18


def test_no_two_properties_are_decided_by_the_same_number() -> None:
    base = np.full((1, Style.NUMBERS), 0.4, dtype=np.float32)
    fields = [name for name in vars(Style(base, 32)) if name != "neighbours"]

    def values(chance: np.ndarray) -> dict[str, np.ndarray]:
        style = Style(chance, 32)
        flat = {f"neighbour {k}": np.concatenate(each) for k, each in enumerate(style.neighbours)}
        return {name: getattr(style, name) for name in fields} | flat

    changed: dict[int, set[str]] = {}
    for number in range(Style.NUMBERS):
        chance = base.copy()
        chance[0, number] = 0.8
        before, after = values(base), values(chance)
        changed[number] = {name for name in before if not np.allclose(before[name], after[name])}
    together = [names - {"cosine", "sine", "ground", "ink", "outline"} for names in changed.values()]
    assert all(len(names) <= 1 for names in together)
    assert set().union(*changed.values()) >= set(fields) - {"outline_width"}


def test_the_middle_digit_lies_nearest_to_the_middle(drawn: Glyphs) -> None:
    style = styles()
    y = np.zeros(len(style.font), dtype=np.int64)
    for side, place in zip((-1, 1), synthetic_digits._places(y, style, drawn)[1:], strict=True):
        rows = place.rows
        assert (np.sign(place.along) == side).all()
        at = np.hypot(style.x - 16, style.y - 16)[rows]
        beside = np.hypot(
            style.x[rows] + place.along * style.cosine[rows] - 16, style.y[rows] + place.along * style.sine[rows] - 16
        )
        assert (at < beside).all()
        assert 0.4 < len(rows) / len(y) < 0.6


def test_a_drawn_digit_is_its_glyph(drawn: Glyphs) -> None:
    """Without turn, slant and blur, ink is where the field says, scaled to the height and moved to the place."""
    style = styles(1)
    for name, value in {
        "height": 24, "stretch": 1, "slant": 0, "weight": 0, "cosine": 1, "sine": 0, "x": 16, "y": 16, "font": 4,
    }.items():  # fmt: skip
        setattr(style, name, np.array([value], dtype=np.int64 if name == "font" else np.float32))
    place = synthetic_digits._places(np.array([7]), style, drawn)[0]
    inside = synthetic_digits._distance(place, style, drawn, 32).reshape(32, 32)
    assert inside.dtype == np.float32
    field = drawn.fields[4, 7]
    at = ((np.arange(32) + 0.5 - 16) / 24 / 1.5 + 0.5) * 48 - 0.5
    for line in range(4, 28, 5):
        for column in range(4, 28, 5):
            top, left = int(at[line]), int(at[column])
            down, right = at[line] - top, at[column] - left
            corners = field[top : top + 2, left : left + 2]
            exact = np.array([1 - down, down]) @ corners @ np.array([1 - right, right])
            assert inside[line, column] == pytest.approx(24 * exact, abs=1e-3)


@pytest.mark.parametrize(
    "changed", [{"train_rows": 10}, {"test_rows": 0}, {"size": 8}, {"size": 500}, {"draw": -1}], ids=str
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SyntheticDigits.Config(**{**SETTINGS, **changed})
