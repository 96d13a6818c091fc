"""Predictions as text: what fits a terminal, and which guess comes first."""

from __future__ import annotations

import torch

from tlrun.report.guesses import GuessRows, GuessTable, columns_of, printable, shortened

CLASSES = ("cat", "a long name of a class")
PROBABILITIES = torch.tensor([[0.25, 0.75], [1.0, 0.0]])


def test_a_table_fits_the_terminal_by_shortening_the_beginning_of_paths() -> None:
    told = ["some/very/deep/folder/of/photographs/first.jpg", "b.jpg"]
    for width in (70, 80, 100):
        table = GuessTable(CLASSES, told, guesses=2, width=width)
        lines = (table.header() + table.text(told, PROBABILITIES)).splitlines()
        assert max(map(columns_of, lines)) <= width
        assert lines[1].startswith("…") and "first.jpg" in lines[1]
    whole = GuessTable(CLASSES, told, guesses=2, width=None)
    assert whole.text(told, PROBABILITIES).splitlines() == [
        f"{told[0]}  a long name of a class       75.0 %  cat                      25.0 %",
        f"{told[1]:<46}  cat                         100.0 %  a long name of a class    0.0 %",
    ]
    assert whole.header().split() == ["path", "class", "probability", "second", "guess"]


def test_wide_letters_take_two_columns_and_marks_none() -> None:
    assert [columns_of(text) for text in ("abc", "图片", "e\N{COMBINING ACUTE ACCENT}")] == [3, 4, 1]
    assert shortened("图片图片", 5) == "图片…"
    assert shortened("图片图片", 5, keep="end") == "…图片"
    assert shortened("short", 5) == "short"


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert printable("a\x1b[31mb\n\udcff") == "a�[31mb��"


def test_of_equal_probabilities_the_first_class_is_the_guess() -> None:
    rows = GuessRows(("a", "b", "c"), top=None)
    assert rows.header() + rows.text(["x"], torch.tensor([[0.25, 0.375, 0.375]])) == (
        "path,prediction,confidence,probability_a,probability_b,probability_c\nx,b,0.375,0.25,0.375,0.375\n"
    )
