"""Confidence against accuracy: bins, the calibration error, the table and the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.report.conftest import Finished, write_predictions
from tests.report.test_plots import overlapping
from tlrun.files import RunError
from tlrun.metrics.classification import ClassificationMetrics
from tlrun.report import style
from tlrun.report.collect import collect
from tlrun.report.groups import Group, group
from tlrun.report.reliability import binned, calibration_table, of_group, reliabilities


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with style.styled():
        yield


def groups(tmp_path: Path) -> list[Group]:
    return group(collect([tmp_path]).runs)


def test_a_bin_is_open_below_and_closed_above() -> None:
    found = binned(np.array([0.5, 0.51, 1.0, 0.2]), np.array([True, False, True, True]), bins=2)
    assert found.rows.tolist() == [2, 2]
    assert found.confidence == pytest.approx([0.7, 1.51])
    assert found.correct.tolist() == [2, 1]
    assert found.calibration_error == pytest.approx((1.3 + 0.51) / 4)


def test_the_error_is_the_one_that_a_run_writes_into_its_summary() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 5, (2000,), generator=generator)
    metrics = ClassificationMetrics(5, torch.device("cpu"))
    metrics.update(logits, y)
    confidence, prediction = logits.softmax(dim=1).max(dim=1)
    found = binned(confidence.numpy(), (prediction == y).numpy())
    assert found.calibration_error == pytest.approx(metrics.result().calibration_error)


def test_the_table_tells_how_much_too_sure_a_group_is(finished: Finished, tmp_path: Path) -> None:
    write_predictions(finished("source_only", seed=0), "aabb", "aaaa", [0.9, 0.9, 0.9, 0.9])
    write_predictions(finished("source_only", seed=1), "aabb-", "aabab", [0.8, 0.8, 0.8, 0.8, 0.6])  # one unknown
    reliability = of_group(groups(tmp_path)[0])
    assert reliability is not None
    table = calibration_table([reliability])
    assert table is not None
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "pair": "mnist_usps",
        "strategy": "source_only",
        "n": "2",
        "accuracy": "62.50 ± 17.68",
        "confidence": "85.00 ± 7.07",
        "too sure by": "+22.5",
        "ECE": "22.50 ± 24.75",
    }


def test_rows_without_labels_have_no_reliability(finished: Finished, tmp_path: Path) -> None:
    write_predictions(finished("source_only"), "---", "aab", [0.9, 0.8, 0.7])
    assert of_group(groups(tmp_path)[0]) is None
    assert calibration_table([]) is None
    with pytest.raises(RunError, match="no target test row has a label"):
        reliabilities(groups(tmp_path))


def test_the_picture_shows_accuracy_and_rows_of_all_seeds_by_confidence(finished: Finished, tmp_path: Path) -> None:
    for seed in (0, 1):
        write_predictions(finished("source_only", seed=seed), "aaab", "aaaa", [0.99, 0.99, 0.72, 0.72])
    upper, lower = sorted(reliabilities(groups(tmp_path)).axes, key=lambda axes: axes.get_ylabel())
    assert upper.get_title() == "source_only (n = 2)\nECE 11.50 ± 0.00 %"
    (_, curve) = upper.lines
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == (pytest.approx([72, 99]), pytest.approx([50, 100]))
    (rows,) = lower.patches
    assert [count for count in rows.get_data().values.tolist() if count] == [4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_panels_of_any_number_are_legible(count: int, finished: Finished, tmp_path: Path) -> None:
    for number in range(count):
        finished("source_only", f"optim.lr={0.001 * (1 + number)}", "model.dropout=0.25")
    assert overlapping(reliabilities(groups(tmp_path))) == []
