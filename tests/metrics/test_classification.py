"""The figures of a split against scikit-learn, and against loops where it has none."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from tlrun.metrics.classification import ClassificationMetrics

CPU = torch.device("cpu")


def measure(logits, y, *, num_classes=None, batch=None, bins=15):
    metrics = ClassificationMetrics(num_classes or logits.shape[1], CPU, bins=bins)
    for part in zip(logits.split(batch or max(len(logits), 1)), y.split(batch or max(len(y), 1)), strict=True):
        metrics.update(*part)
    return metrics.result()


def draw(rows, num_classes, *, seed=0, present=None):
    """Logits that are right more often than not, of classes `present`."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.tensor(range(num_classes) if present is None else present)
    y = present[torch.randint(len(present), (rows,), generator=generator)]
    logits = 2 * torch.randn(rows, num_classes, generator=generator)
    logits[torch.arange(rows), y] += 2
    return logits, y


def naive_calibration_error(logits, y, bins):
    """Guo et al. 2017, eq. 3, bin by bin, edges as the exact fractions m / bins."""
    probabilities = torch.softmax(logits.double(), 1).numpy()
    confidence, right = probabilities.max(1), probabilities.argmax(1) == y.numpy()
    error = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize(
    ("rows", "num_classes", "present"),
    [(500, 10, None), (1, 3, None), (40, 7, [1, 4]), (25, 2, [0]), (12, 20, None)],
)
def test_agrees_with_scikit_learn(rows, num_classes, present):
    logits, y = draw(rows, num_classes, present=present)
    result = measure(logits, y, batch=7)
    truth, predicted, labels = y.numpy(), logits.argmax(1).numpy(), list(range(num_classes))
    assert result.rows == rows
    assert result.confusion == confusion_matrix(truth, predicted, labels=labels).tolist()
    assert result.accuracy == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    assert result.macro_f1 == pytest.approx(
        f1_score(truth, predicted, average="macro", labels=np.union1d(truth, predicted), zero_division=0), abs=1e-12
    )
    probabilities = torch.softmax(logits.double(), 1).numpy()
    assert result.loss == pytest.approx(log_loss(truth, probabilities, labels=labels), rel=1e-9)


@pytest.mark.parametrize("present", [None, [0, 2, 5]])
def test_classes_agree_with_scikit_learn_and_are_none_where_it_has_nan(present):
    logits, y = draw(60, 8, present=present, seed=3)
    logits[:, 3] = -100  # never predicted
    figures = precision_recall_fscore_support(
        y.numpy(), logits.argmax(1).numpy(), labels=list(range(8)), zero_division=np.nan
    )
    for each, precision, recall, f1, count in zip(measure(logits, y).classes, *figures, strict=True):
        assert each.rows == count
        for ours, theirs in ((each.precision, precision), (each.accuracy, recall), (each.f1, f1)):
            assert (ours is None) == math.isnan(theirs)
            assert ours is None or ours == pytest.approx(theirs, abs=1e-12)


def test_absent_class_is_left_out_of_macro_f1_and_a_missed_one_counts_as_zero():
    logits = torch.tensor([[9.0, 0, 0, 0], [9, 0, 0, 0], [9, 0, 0, 0], [0, 9, 0, 0]])
    result = measure(logits, torch.tensor([0, 0, 2, 1]))
    assert [each.f1 for each in result.classes] == [pytest.approx(0.8), 1.0, 0.0, None]
    assert result.macro_f1 == pytest.approx(1.8 / 3)
    assert [each.accuracy for each in result.classes] == [1.0, 1.0, 0.0, None]
    assert [each.precision for each in result.classes] == [pytest.approx(2 / 3), 1.0, None, None]


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_calibration_error_agrees_with_the_loop(bins, scale):
    logits, y = draw(400, 5)
    result = measure(scale * logits, y, batch=64, bins=bins)
    assert result.calibration_error == pytest.approx(naive_calibration_error(scale * logits, y, bins), abs=1e-12)


def test_calibration_error_has_a_closed_form_where_all_rows_share_a_bin():
    logits = torch.tensor([[math.log(0.9), math.log(0.1)]]).double().repeat(4, 1)
    assert measure(logits, torch.tensor([0, 0, 0, 1])).calibration_error == pytest.approx(0.9 - 0.75)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # Two rows in (0.5, 0.75] and one at exactly 0.5, in (0.25, 0.5]: apart, their errors do not cancel.
    logits = torch.tensor([[0.0, 0.0], [math.log(0.7), math.log(0.3)]]).double()
    y = torch.tensor([1, 0])  # wrong at confidence 0.5, right at 0.7
    assert measure(logits, y, bins=4).calibration_error == pytest.approx((0.5 + 0.3) / 2)
    assert measure(logits, y, bins=1).calibration_error == pytest.approx(abs(1 - 1.2) / 2)


def test_full_confidence_lies_in_the_last_bin():
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    assert measure(logits, torch.tensor([0, 0])).calibration_error == 0
    assert measure(logits, torch.tensor([1, 1])).calibration_error == 1


def test_rows_without_a_known_class_are_left_out():
    logits, y = draw(50, 4)
    y[::3] = -1
    known = y >= 0
    assert measure(logits, y, batch=8) == measure(logits[known], y[known])


@pytest.mark.parametrize("batch", [1, 3, 50, 1000])
def test_the_cut_into_batches_does_not_matter(batch):
    logits, y = draw(200, 6)
    once, cut = asdict(measure(logits, y)), asdict(measure(logits, y, batch=batch))
    for figure in ("loss", "calibration_error"):  # summed in another order
        assert cut.pop(figure) == pytest.approx(once.pop(figure), abs=1e-12)
    assert cut == once


@pytest.mark.parametrize("y", [torch.zeros(0, dtype=torch.int64), torch.full((3,), -1)])
def test_without_rows_every_figure_is_none(y):
    result = measure(torch.randn(len(y), 2), y)
    assert result.rows == 0
    assert (result.accuracy, result.macro_f1, result.loss, result.calibration_error) == (None, None, None, None)
    assert result.confusion == [[0, 0], [0, 0]]
    assert [asdict(each) for each in result.classes] == 2 * [
        {"rows": 0, "accuracy": None, "precision": None, "f1": None}
    ]


def test_no_batch_at_all_is_no_rows():
    assert ClassificationMetrics(3, CPU).result().rows == 0


@pytest.mark.slow
def test_half_precision_logits_are_summed_in_float64():
    logits, y = draw(3000, 3)
    low = logits.bfloat16()
    expected = torch.nn.functional.cross_entropy(low.double(), y).item()
    assert measure(low, y, batch=1).loss == pytest.approx(expected, rel=1e-12)


def test_one_class_is_always_right():
    result = measure(torch.randn(5, 1), torch.zeros(5, dtype=torch.int64))
    assert (result.accuracy, result.macro_f1, result.loss, result.calibration_error) == (1, 1, 0, 0)


def test_of_equal_logits_the_first_class_is_predicted():
    assert measure(torch.zeros(3, 4), torch.tensor([0, 1, 2])).confusion[2][0] == 1


def test_a_row_that_is_left_out_may_have_an_infinite_loss():
    logits = torch.tensor([[-math.inf, 0.0], [2.0, 0.0]])
    result = measure(logits, torch.tensor([-1, 0]))
    assert result.loss == pytest.approx(math.log(1 + math.exp(-2)))


def test_result_is_plain_numbers_and_may_be_read_between_updates():
    logits, y = draw(20, 3)
    metrics = ClassificationMetrics(3, CPU)
    metrics.update(logits, y)
    assert metrics.result() == metrics.result()
    assert json.loads(json.dumps(asdict(metrics.result())))["rows"] == 20
    metrics.update(logits, y)
    assert metrics.result().rows == 40


def test_gradients_are_not_kept():
    metrics = ClassificationMetrics(2, CPU)
    metrics.update(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    assert metrics.result().rows == 3


@pytest.mark.parametrize(("logits", "y"), [((4, 2), (4,)), ((4, 3), (3,)), ((4, 3), (4, 3)), ((3,), (3,))])
def test_shapes_that_do_not_fit_are_refused(logits, y):
    with pytest.raises(ValueError, match=r"expected logits \(N, 3\) and y \(N,\)"):
        ClassificationMetrics(3, CPU).update(torch.zeros(logits), torch.zeros(y, dtype=torch.int64))


@pytest.mark.parametrize(("num_classes", "bins"), [(0, 15), (3, 0)])
def test_no_classes_or_bins_are_refused(num_classes, bins):
    with pytest.raises(ValueError, match="must be at least 1"):
        ClassificationMetrics(num_classes, CPU, bins=bins)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_device_agrees_with_the_cpu_and_is_not_waited_for():
    logits, y = draw(300, 6)
    y[::5] = -1
    device = torch.device("cuda")
    metrics = ClassificationMetrics(6, device)
    on_device = logits.to(device), y.to(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(*on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected, actual = asdict(measure(logits, y)), asdict(metrics.result())
    for figure in ("loss", "calibration_error"):
        assert actual.pop(figure) == pytest.approx(expected.pop(figure), abs=1e-12)
    assert actual == expected
