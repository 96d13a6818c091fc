"""The label-free figures against numpy, scipy and cases known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from tlrun.metrics.label_free import (
    LabelFree,
    LabelFreeMetrics,
    entropy,
    information_maximisation,
    largest_class_share,
    nuclear_norm,
)

CPU = torch.device("cpu")
ROWS, CLASSES = 60, 5


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return 4 * torch.randn(ROWS, CLASSES) + torch.tensor([3.0, 0, 0, 0, 0])


def measure(logits, *, batch=None):
    metrics = LabelFreeMetrics(logits.shape[1], CPU)
    for part in logits.split(batch or max(len(logits), 1)):
        metrics.update(part)
    return metrics.result()


def test_entropy_agrees_with_numpy_and_scipy(logits):
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    assert float(entropy(logits)) == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-12)
    assert float(entropy(logits)) == pytest.approx(scipy.stats.entropy(p, axis=1).mean(), rel=1e-12)


def test_information_maximisation_agrees_with_scipy(logits):
    p = scipy.special.softmax(logits.double().numpy(), axis=1)
    expected = scipy.stats.entropy(p.mean(0)) - scipy.stats.entropy(p, axis=1).mean()
    assert float(information_maximisation(logits)) == pytest.approx(expected, rel=1e-12)


def test_nuclear_norm_is_that_worked_out_by_hand():
    sure = 1000 * torch.eye(2)
    assert float(nuclear_norm(sure)) == pytest.approx(2 / 2)  # two singular values of 1 over two rows
    assert float(nuclear_norm(sure[[0, 0, 0, 0]])) == pytest.approx(2 / 4)  # one of the root of 4
    assert float(nuclear_norm(torch.zeros(4, 2))) == pytest.approx(2**0.5 / 4)  # one of the root of 8 / 4
    assert float(nuclear_norm(sure[[0, 1, 0, 1]])) > float(nuclear_norm(sure[[0, 0, 0, 1]]))


def test_nuclear_norm_agrees_with_numpy(logits):
    p = scipy.special.softmax(logits.double().numpy(), axis=1)
    assert float(nuclear_norm(logits)) == pytest.approx(np.linalg.norm(p, "nuc") / ROWS, rel=1e-9)


def test_a_nuclear_norm_of_what_is_not_finite_is_not_a_number():
    assert math.isnan(measure(torch.tensor([[math.nan, 1.0], [0.0, 1.0]])).nuclear_norm)


def test_largest_class_share_agrees_with_numpy(logits):
    counts = np.bincount(logits.numpy().argmax(1))
    assert float(largest_class_share(logits)) == pytest.approx(counts.max() / ROWS)


@pytest.mark.parametrize("batch", [1, 7, ROWS])
def test_batches_give_the_figures_of_all_rows_together(logits, batch):
    result = measure(logits, batch=batch)
    assert result.rows == ROWS
    assert result.entropy == pytest.approx(float(entropy(logits)), rel=1e-12)
    assert result.information_maximisation == pytest.approx(float(information_maximisation(logits)), rel=1e-12)
    assert result.nuclear_norm == pytest.approx(float(nuclear_norm(logits)), rel=1e-9)
    assert result.largest_class_share == pytest.approx(float(largest_class_share(logits)))
    assert result.largest_class == 0


def test_one_sure_class_throughout_scores_best_by_entropy_and_worst_by_information():
    logits = torch.zeros(20, CLASSES)
    logits[:, 3] = 1000
    assert measure(logits) == LabelFree(20, 0.0, 0.0, pytest.approx(20**-0.5), 1.0, 3)


def test_sure_and_even_predictions_score_best_by_both():
    result = measure(1000 * torch.eye(CLASSES).repeat(4, 1))
    assert result.entropy == 0
    assert result.information_maximisation == pytest.approx(math.log(CLASSES), rel=1e-12)
    assert result.largest_class_share == pytest.approx(1 / CLASSES)


def test_uniform_predictions_have_the_entropy_of_the_classes_and_no_information():
    result = measure(torch.full((9, CLASSES), -7.0))
    assert result.entropy == pytest.approx(math.log(CLASSES), rel=1e-12)
    assert result.information_maximisation == pytest.approx(0, abs=1e-12)


def test_information_lies_between_zero_and_the_entropy_of_the_mean():
    for seed in range(20):
        logits = 5 * torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
        assert -1e-12 <= float(information_maximisation(logits)) <= math.log(3)


@pytest.mark.parametrize("logit", [1e4, 1e30, math.inf])
def test_enormous_logits_are_no_trouble(logit):
    low = torch.tensor([[0.0, -logit, -logit], [0.0, 0.0, -logit]])
    assert measure(low).entropy == pytest.approx(math.log(2) / 2)


def test_half_precision_logits_are_summed_in_float64():
    logits = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert measure(logits, batch=1).entropy == pytest.approx(float(entropy(logits.double())), rel=1e-12)


def test_of_equally_frequent_classes_the_first_is_named():
    assert measure(torch.eye(3)[[2, 1, 1, 2, 0]]).largest_class == 1


@pytest.mark.parametrize("batches", [0, 1])
def test_without_rows_every_figure_is_none(batches):
    metrics = LabelFreeMetrics(3, CPU)
    for _ in range(batches):
        metrics.update(torch.zeros(0, 3))
    assert metrics.result() == LabelFree(0, None, None, None, None, None)


@pytest.mark.parametrize("shape", [(4, 2), (3,)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected logits \(N, 3\)"):
        LabelFreeMetrics(3, CPU).update(torch.zeros(shape))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_device_agrees_with_the_cpu_and_is_not_waited_for(logits):
    metrics = LabelFreeMetrics(CLASSES, torch.device("cuda"))
    on_device = logits.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    actual, expected = metrics.result(), measure(logits)
    assert actual.entropy == pytest.approx(expected.entropy, rel=1e-12)
    assert actual.information_maximisation == pytest.approx(expected.information_maximisation, rel=1e-12)
    assert (actual.rows, actual.largest_class) == (expected.rows, expected.largest_class)
