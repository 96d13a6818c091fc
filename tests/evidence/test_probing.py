"""What is measured of a pair before training, and which of its labels that reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.runs import DIGITS, TOY
from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig
from tlrun.data.domain import DomainPair, load_pair
from tlrun.evidence.findings import Findings
from tlrun.evidence.probing import find, finished, named_for_probing, run_pace, start_of

Config = Callable[..., ExperimentConfig]


def probed(config: ExperimentConfig, change: Callable[[DomainPair], DomainPair] = lambda pair: pair) -> Findings:
    named, device = named_for_probing(config)
    pair = change(load_pair(named.data, seed=named.seed, device=device))
    return find(named, pair, device, start=start_of(config), rows=100)


def test_sizes_and_grants_are_those_of_the_pair(config: Config) -> None:
    found = probed(config(*TOY, "strategy=source_only", "data.target_labels=7"))
    assert (found.classes, found.source_rows, found.target_rows, found.granted) == (2, 450, 180, 14)
    assert (found.test_labels, found.transductive, found.start) == (200, False, "source")
    assert (found.stages, found.has_batch_norm, found.has_bottleneck, found.epochs) == (2, False, False, 3)
    assert found.imbalance == pytest.approx(1.0) and not found.shares_exact


def test_granted_labels_judge_the_probes(config: Config) -> None:
    (none,) = probed(config(*TOY, "strategy=source_only", "data.target_labels=none")).spaces
    (many,) = probed(config(*TOY, "strategy=source_only", "data.target_labels=50")).spaces
    assert none.target_accuracy is None and none.granted_accuracy is None
    assert many.target_accuracy is not None and 0.5 < many.target_accuracy < 1
    assert many.granted_accuracy is not None and many.granted_accuracy > 0.95
    assert (none.mmd, none.a_distance, none.source_accuracy) == (many.mmd, many.a_distance, many.source_accuracy)


def test_parts_that_hold_withheld_labels_need_not_be_there(config: Config) -> None:
    asked = config(*TOY, "strategy=source_only", "data.target_labels=5")

    def without(pair: DomainPair) -> DomainPair:
        test = pair.parts["target_test"]
        assert test.y is not None
        parts = {name: part for name, part in pair.parts.items() if name not in ("target_val", "source_test")}
        return replace(pair, parts=parts | {"target_test": replace(test, y=(test.index % 3 == 0).long())}, card={})

    assert probed(asked, without) == probed(asked)


@pytest.mark.slow
def test_with_all_labels_granted_class_shares_are_counted(config: Config) -> None:
    asked = config(*DIGITS, "strategy=source_only", "data.target_labels=all")

    def of_few_classes(pair: DomainPair) -> DomainPair:
        granted = pair.parts["target_granted"]
        assert granted.y is not None
        few = granted.take((granted.y < 5).nonzero().flatten())
        return replace(pair, parts={**pair.parts, "target_granted": few})

    equal, moved = probed(asked), probed(asked, of_few_classes)
    assert equal.shares_exact and equal.shares_moved is not None and moved.shares_moved is not None
    assert equal.shares_moved < 0.1
    assert moved.shares_moved == pytest.approx(0.5, abs=0.1)


def test_too_few_rows_give_no_distance(config: Config) -> None:
    found = probed(config(*TOY, "strategy=source_only", "data.target_rows=8", "data.target_labels=none"))
    assert found.spaces == () and found.shares_moved is None and found.closeness == "unknown"


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (("data=mnist_usps", "model=lenet"), "source"),
        (("data=mnist_usps", "model=resnet18"), "imagenet"),
        (("data=mnist_usps", "model=lenet", "model.weights=runs/a"), "given"),
        (("data=mnist_usps", "model=lenet", "model.weights=random"), "random"),
        (("data=mnist_usps", "model=resnet18", "model.weights=source"), "source"),
        (("data=folder", "data.target.root=photos", "model=lenet"), "nowhere"),
        (("data=folder", "data.target.root=photos"), "imagenet"),
    ],
)
def test_where_trained_weights_would_come_from(config: Config, overrides: tuple[str, ...], start: str) -> None:
    assert start_of(config(*overrides)) == start


def test_a_source_model_that_is_not_there_is_timed_too_and_nothing_is_written(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = config(*TOY, "strategy=fine_tune", "data.target_labels=5")
    named, device = named_for_probing(asked)
    own, source = run_pace(asked, load_pair(named.data, seed=0, device=device))
    assert source is not None and source.training > 0 and own.total > own.training > 0
    assert finished(name_choices(asked)) is None
    assert not any(tmp_path.iterdir())
