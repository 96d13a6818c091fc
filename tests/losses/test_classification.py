"""The task's loss against torch's own and against sums written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tlrun.batch import Examples
from tlrun.losses.classification import task_loss

ROWS, CLASSES = 7, 4


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return 3 * torch.randn(ROWS, CLASSES)


@pytest.fixture
def hard():
    return torch.tensor([0, 1, 2, 3, 3, 1, 0])


@pytest.fixture
def soft():
    torch.manual_seed(1)
    return torch.randn(ROWS, CLASSES).softmax(1)


def examples(y, weight=None):
    return Examples(x=torch.zeros(ROWS, 1), y=y, index=torch.arange(ROWS), domain="source", weight=weight)


def naive(logits, soft, *, smoothing=0.0, weight=None, class_weight=None):
    """Row by row and class by class, in Python floats."""
    total = mass = 0.0
    for n in range(len(logits)):
        log_sum = math.log(sum(math.exp(float(z)) for z in logits[n]))
        row_weight = 1.0 if weight is None else float(weight[n])
        shares = [(1.0 if class_weight is None else float(class_weight[c])) * float(soft[n, c]) for c in range(CLASSES)]
        for c in range(CLASSES):
            share = (1 - smoothing) * shares[c] + smoothing * sum(shares) / CLASSES
            total -= row_weight * share * (float(logits[n, c]) - log_sum)
        mass += row_weight * sum(shares)
    return total / mass


def test_rows_lean_to_no_rare_class_under_class_weights_and_label_smoothing():
    # Weighted, the classes onto which a label is smoothed would outweigh it: 0.9 * 0.02 against 0.1 / 3 * 1.
    logits = torch.zeros(2, 3, requires_grad=True)
    rows = examples(torch.tensor([0, 1]))
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(2000):
        optimizer.zero_grad()
        task_loss(logits, rows, label_smoothing=0.1, class_weight=torch.tensor([0.02, 0.02, 1.0])).backward()
        optimizer.step()
    smoothed = torch.full((2, 3), 0.1 / 3) + 0.9 * torch.eye(3)[:2]
    torch.testing.assert_close(logits.detach().softmax(1), smoothed, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("smoothing", "weighted"), [(0.0, False), (0.0, True), (0.1, False)])
def test_hard_labels_agree_with_torch(logits, hard, smoothing, weighted):
    class_weight = torch.tensor([1.0, 0.5, 2.0, 0.0]) if weighted else None
    expected = F.cross_entropy(logits, hard, weight=class_weight, label_smoothing=smoothing)
    actual = task_loss(logits, examples(hard), label_smoothing=smoothing, class_weight=class_weight)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("row_weighted", [False, True])
@pytest.mark.parametrize("class_weighted", [False, True])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_every_combination_agrees_with_the_written_out_sum(
    logits, hard, soft, smoothing, row_weighted, class_weighted, kind
):
    weight = torch.tensor([1.0, 0.0, 3.0, 0.5, 0.5, 2.0, 1.0]) if row_weighted else None
    class_weight = torch.tensor([1.0, 0.5, 2.0, 4.0]) if class_weighted else None
    y, shares = (hard, F.one_hot(hard, CLASSES).float()) if kind == "hard" else (soft, soft)
    actual = task_loss(logits, examples(y, weight), label_smoothing=smoothing, class_weight=class_weight)
    expected = naive(logits, shares, smoothing=smoothing, weight=weight, class_weight=class_weight)
    assert float(actual) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("class_weight", [None, torch.tensor([1.0, 0.5, 2.0, 4.0])])
def test_one_hot_labels_are_the_hard_ones(logits, hard, class_weight):
    options = {"label_smoothing": 0.2, "class_weight": class_weight}
    one_hot = F.one_hot(hard, CLASSES).float()
    torch.testing.assert_close(
        task_loss(logits, examples(one_hot), **options), task_loss(logits, examples(hard), **options)
    )


def test_row_weights_count_by_their_ratio_alone(logits, hard):
    weight = torch.tensor([1.0, 0.0, 3.0, 0.5, 0.5, 2.0, 1.0])
    torch.testing.assert_close(
        task_loss(logits, examples(hard, weight)), task_loss(logits, examples(hard, 10 * weight))
    )
    whole = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    repeated = torch.stack([logits[0], logits[2], logits[2]])
    torch.testing.assert_close(task_loss(logits, examples(hard, whole)), F.cross_entropy(repeated, hard[[0, 2, 2]]))


def test_no_weight_at_all_is_a_loss_of_zero_with_no_gradient(logits, hard):
    logits.requires_grad_()
    loss = task_loss(logits, examples(hard, torch.zeros(ROWS)))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_uniform_predictions_cost_the_logarithm_of_the_number_of_classes(hard):
    loss = task_loss(torch.zeros(ROWS, CLASSES), examples(hard), label_smoothing=0.4)
    assert float(loss) == pytest.approx(math.log(CLASSES))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_gradient_is_right(logits, hard, soft, kind):
    weight = torch.rand(ROWS, dtype=torch.float64)
    class_weight = torch.rand(CLASSES, dtype=torch.float64)
    labelled = examples({"hard": hard, "soft": soft}[kind], weight)

    def loss(z):
        return task_loss(z, labelled, label_smoothing=0.1, class_weight=class_weight)

    assert torch.autograd.gradcheck(loss, logits.double().requires_grad_())


def test_half_precision_logits_under_autocast_give_a_float32_loss(logits, hard, soft):
    low = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [
            task_loss(low, examples(y, torch.rand(ROWS).bfloat16()), class_weight=torch.rand(CLASSES).bfloat16())
            for y in (hard, soft.bfloat16())
        ]
        plain = task_loss(low, examples(hard))
    assert {loss.dtype for loss in losses} == {torch.float32}
    torch.testing.assert_close(plain, F.cross_entropy(low.float(), hard))


def test_withheld_labels_are_refused(logits):
    with pytest.raises(ValueError, match=r"^rows without labels cannot be classified against$"):
        task_loss(logits, examples(None))


@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(ROWS - 1, dtype=torch.int64),
        torch.zeros(ROWS, CLASSES + 1),
        torch.zeros(ROWS, CLASSES, dtype=torch.int64),
        torch.zeros(ROWS),
    ],
)
def test_labels_of_another_shape_are_refused(logits, y):
    with pytest.raises(ValueError, match=r"labels must be \(N,\) integers or \(N, C\) probabilities"):
        task_loss(logits, examples(y))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="with N > 0"):
        task_loss(torch.zeros(0, CLASSES), examples(torch.zeros(0, dtype=torch.int64)))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_label_smoothing_out_of_range_is_refused(logits, hard, smoothing):
    with pytest.raises(ValueError, match=rf"label_smoothing must be in \[0, 1\), got {smoothing}"):
        task_loss(logits, examples(hard), label_smoothing=smoothing)
