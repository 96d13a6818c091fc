"""Which rows the validators see, what of them, and that no withheld label reaches them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tests.engine.runs import TOY
from tlrun.batch import Output
from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig
from tlrun.data.domain import load_pair
from tlrun.engine.evaluate import Evaluator
from tlrun.engine.validation import MMD_ROWS, ROWS, Sample, Validation, chosen, validate
from tlrun.experiment import build_engine
from tlrun.losses.mmd import mmd
from tlrun.run import RunFolder

CPU = torch.device("cpu")
WITHHELD = {"withheld_target_test_accuracy"}


def draw(rows: int, *, seed: int, mean: float = 0.0) -> Output:
    generator = torch.Generator().manual_seed(seed)
    features = mean + torch.randn(rows, 6, generator=generator)
    return Output(features, features[:, :3])


def sample(output: Output, y: torch.Tensor | None = None, *, batch: int = 100) -> Sample:
    gathered = Sample(len(output.logits))
    for start in range(0, len(output.logits), batch):
        rows = slice(start, start + batch)
        gathered.add(Output(output.features[rows], output.logits[rows]), None if y is None else y[rows])
    return gathered


def test_rows_are_chosen_by_number_alone_and_few_lie_in_the_order_of_many() -> None:
    assert sorted(chosen(10)) == list(range(10)) and list(chosen(10)) != list(range(10))
    many = chosen(50_000)
    assert len(many) == len(set(many.tolist())) == ROWS
    assert abs(many.mean() - 25_000) < 2_000
    assert np.array_equal(many, chosen(50_000))


@pytest.mark.parametrize("batch", [1, 333, 5000])
def test_a_sample_holds_the_chosen_rows_however_they_were_batched(batch: int) -> None:
    output, y = draw(2500, seed=0), torch.arange(2500)
    found, labels = sample(output, y, batch=batch).result()
    rows = torch.from_numpy(chosen(2500))
    assert labels is not None and torch.equal(labels, rows)
    assert torch.equal(found.features, output.features[rows]) and torch.equal(found.logits, output.logits[rows])


def test_discrepancy_is_the_negative_of_the_loss_on_the_first_chosen_rows() -> None:
    source, target = draw(800, seed=1), draw(700, seed=2, mean=1.0)
    found = validate(sample(source, source.logits.argmax(1)), sample(target)).feature_mmd
    first = [output.features[torch.from_numpy(chosen(len(output.features)))[:MMD_ROWS]] for output in (source, target)]
    expected = -float(mmd(*first, kernels=(1.0,), bandwidth="median", estimate="unbiased"))
    assert found == pytest.approx(expected)
    nearer = validate(sample(source, source.logits.argmax(1)), sample(draw(700, seed=2, mean=0.2))).feature_mmd
    assert found is not None and nearer is not None and nearer > found


def test_source_rows_of_unknown_class_count_for_nothing() -> None:
    source, target = draw(60, seed=3), draw(50, seed=4, mean=0.5)
    y = source.logits.argmax(1)
    unknown = torch.arange(60) % 3 == 0
    strange = Output(torch.where(unknown[:, None], 100.0, source.features), source.logits)
    found = validate(sample(strange, torch.where(unknown, -1, y)), sample(target))
    assert found.nearest_source == found.dev == 1.0
    assert found.feature_mmd is not None and found.feature_mmd > -0.2


@pytest.mark.parametrize(("rows", "expected"), [((0, 0), set()), ((3, 9), {"snd"}), ((9, 3), set())])
def test_too_few_rows_leave_blank_what_needs_them(rows: tuple[int, int], expected: set[str]) -> None:
    source, target = draw(rows[0], seed=5), draw(rows[1], seed=6)
    found = asdict(validate(sample(source, source.logits.argmax(1)), sample(target)))
    assert {name for name, value in found.items() if value is not None} == expected


def test_features_that_are_not_finite_leave_blank_what_compares_them() -> None:
    source, target = draw(30, seed=7), draw(30, seed=8)
    target.features[3, 2] = torch.inf
    found = validate(sample(source, source.logits.argmax(1)), sample(target))
    assert found == Validation(snd=found.snd)


@pytest.fixture
def evaluator(described: Callable[..., ExperimentConfig]) -> Evaluator:
    config = name_choices(described(*TOY, "strategy=mmd", "data.target_val_labels=3", "engine.select=target_val"))
    pair = load_pair(config.data, seed=0, device=CPU)
    torch.manual_seed(0)
    return build_engine(config, pair, RunFolder.of(config), CPU, source=None).evaluator


def test_no_rule_but_the_oracle_changes_with_withheld_labels(
    evaluator: Evaluator, described: Callable[..., ExperimentConfig]
) -> None:
    config = name_choices(described(*TOY, "strategy=mmd", "data.target_val_labels=3", "engine.select=target_val"))
    parts = dict(load_pair(config.data, seed=0, device=CPU).parts)
    before = evaluator.evaluate(parts).evidence(1)
    for name in ("target_val", "target_test"):
        part = parts[name]
        assert part.y is not None
        withheld = torch.ones(len(part), dtype=torch.bool) if part.granted is None else ~part.granted
        parts[name] = replace(part, y=torch.where(withheld, 1, part.y))
    after = evaluator.evaluate(parts).evidence(1)
    changed = {name for name, value in asdict(after).items() if value != asdict(before)[name]}
    assert changed == WITHHELD
    assert all(value is not None for value in asdict(before).values())
