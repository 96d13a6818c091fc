"""The rows that adaptation changes most: which, why, and where their images come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.runs import DIGITS
from tests.report.conftest import Finished, write_predictions
from tests.report.test_plots import overlapping
from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig
from tlrun.data.domain import load_pair
from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.changed_rows import ChangedRow, changed_picture, changed_rows, is_of_images
from tlrun.report.collect import Run, collect
from tlrun.run import Prediction, RunFolder

Pair = Callable[..., tuple[Run, Run]]


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with style.styled():
        yield


@pytest.fixture
def pair(finished: Finished, tmp_path: Path) -> Pair:
    """`pair(write, *settings)`: a floor and a method, `write` called with the folder of each and whether it is the floor."""

    def made(write: Callable[[RunFolder, bool], Any], *settings: str) -> tuple[Run, Run]:
        for strategy in ("source_only", "dann"):
            write(finished(strategy, *settings), strategy == "source_only")
        dann, floor = collect([tmp_path / "runs"]).runs
        return floor, dann

    return made


@pytest.mark.slow
def test_rows_that_one_alone_has_right_are_ranked_by_the_probability_of_the_true_class(pair: Pair) -> None:
    def write(folder: RunFolder, is_floor: bool) -> None:
        guesses = "bbaabb" if is_floor else "aaabba"
        confidences = [0.9, 0.6, 0.9, 0.9, 0.6, 0.7] if is_floor else [0.9, 0.9, 0.6, 0.8, 0.9, 0.5]
        write_predictions(folder, "aaaaa-", guesses, confidences)

    gained, lost = changed_rows(*pair(write))
    assert gained == [
        ChangedRow(0, None, "a", ("b", 0.9), ("a", 0.9), pytest.approx(0.8)),
        ChangedRow(1, None, "a", ("b", 0.6), ("a", 0.9), pytest.approx(0.5)),
    ]
    assert [(each.row, each.change) for each in lost] == [(3, pytest.approx(-0.7))]  # 2 and 4 keep their prediction


def test_without_labels_the_confidence_ranks_them(pair: Pair) -> None:
    def write(folder: RunFolder, is_floor: bool) -> None:
        write_predictions(folder, "---", "abb" if is_floor else "baa", [0.6, 0.7, 0.9] if is_floor else [0.9, 0.8, 0.6])

    gained, lost = changed_rows(*pair(write))
    assert [(each.row, each.label) for each in gained] == [(0, None), (1, None)]
    assert [each.row for each in lost] == [2]


def test_a_row_that_neither_has_right_is_neither_gained_nor_lost(pair: Pair) -> None:
    assert changed_rows(
        *pair(lambda folder, is_floor: write_predictions(folder, "c", "a" if is_floor else "b", [0.9], classes="abc"))
    ) == ([], [])


def test_at_most_twelve_each_and_no_class_fills_the_picture(pair: Pair) -> None:
    def write(folder: RunFolder, is_floor: bool) -> None:
        labels = "a" * 30 + "b" * 2 + "c" * 20
        guesses = "b" * 30 + "a" * 2 + "c" * 20 if is_floor else labels[:32] + "a" * 20
        rising = np.linspace(0.5, 0.95, len(labels)).tolist()
        write_predictions(folder, labels, guesses, rising, classes="abc")

    gained, lost = changed_rows(*pair(write))
    assert [each.row for each in gained] == [31, 29, 30, *range(28, 19, -1)]  # b, a, b, then what is left of a
    assert [each.row for each in lost] == list(range(51, 39, -1))


@pytest.mark.slow
def test_images_that_are_files_are_shown_as_they_are(pair: Pair, tmp_path: Path) -> None:
    def write(folder: RunFolder, is_floor: bool) -> None:
        rows = []
        for row in range(3):
            path = tmp_path / f"{row}.png"
            Image.new("RGB", (40, 20), (80 * row, 0, 0)).save(path)
            shares = [0.9, 0.1] if is_floor else [0.2, 0.8]
            rows.append(Prediction("test", row, int(row > 0), shares, str(path)))
        folder.write_predictions(("a very long name, a", "b"), rows)

    runs = pair(write)
    figure = changed_picture(runs)
    images = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    assert [image.shape for image in images] == [(20, 40, 3)] * 3
    assert [int(image[0, 0, 0]) for image in images] == [80, 160, 0]  # gained 1 and 2, lost 0
    told = [axes.get_xlabel() for axes in figure.axes if axes.images]
    assert told[0] == "b\na very …ame, a (90 %)\nb (80 %)"
    assert overlapping(figure) == []
    (tmp_path / "1.png").unlink()
    with pytest.raises(RunError, match=r"cannot show .*1\.png: "):
        changed_picture(runs)


@pytest.fixture
def digits(pair: Pair, config: Callable[..., ExperimentConfig]) -> tuple[tuple[Run, Run], Any]:
    """Two runs on coloured digits held in memory, and their pair."""
    data = load_pair(name_choices(config("strategy=dann", *DIGITS)).data, seed=0, device=torch.device("cpu"))
    rows = data.parts["target_test"].rows
    assert rows is not None

    def write(folder: RunFolder, is_floor: bool) -> None:
        shares = [0.9, 0.1] if is_floor else [0.2, 0.8]
        folder.write_predictions(("0", "1"), [Prediction("test", row, row % 2, shares) for row in rows.tolist()])
        folder.write_data_card({"input_shape": list(data.shape), "fingerprint": data.fingerprint})

    return pair(write, *DIGITS), data


@pytest.mark.slow
def test_images_held_in_memory_are_those_of_the_rows(digits: tuple[tuple[Run, Run], Any]) -> None:
    runs, data = digits
    figure = changed_picture(runs)
    gained, lost = changed_rows(*runs)
    part = data.parts["target_test"]
    places = [part.rows.tolist().index(each.row) for each in (*gained, *lost)]
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    assert len(shown) == 24
    assert all(np.array_equal(*pair) for pair in zip(shown, part.x.take(torch.tensor(places)).numpy(), strict=True))
    assert overlapping(figure) == []


def test_settings_of_another_version_are_told_in_one_line(digits: tuple[tuple[Run, Run], Any]) -> None:
    runs, _ = digits
    path = runs[1].folder.config
    path.write_text(path.read_text().replace("image_size:", "image_width:"))
    with pytest.raises(RunError, match=r"config.yaml does not fit this installation of tlrun: .* \(and 1 more\)$"):
        changed_picture(runs)


def test_two_runs_that_agree_have_no_picture(pair: Pair) -> None:
    runs = pair(lambda folder, _: write_predictions(folder, "ab", "ab", [0.9, 0.9]))
    with pytest.raises(RunError, match="source_only and dann predict the same of every target test row"):
        changed_picture(runs)


def test_rows_that_are_no_images_are_known_by_the_data_card(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    finished("source_only", "data=toy_gaussians")
    assert {run.pair: is_of_images(run) for run in collect([tmp_path]).runs} == {
        "mnist_usps": True,
        "toy_gaussians": False,
    }
