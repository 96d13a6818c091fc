"""The shipped experiments: what a heading promises, that its values are the ones a search chose, and that it holds."""

from __future__ import annotations

import csv
import itertools
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from tlrun import experiment
from tlrun.config import ExperimentConfig
from tlrun.data.datasets.usps import PUBLISHED

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))
SEARCHES = sorted(path.stem for path in (ROOT / "scripts" / "tuning").glob("*.csv"))
PAIRS = ("mnist_mnistm", "mnist_usps", "usps_mnist")
METHODS = ("source_only", "target_only", "dann", "mmd", "deep_coral", "cdan", "mcc")
LONGER = [name for name in EXPERIMENTS if name.endswith("_long")]
EXERCISES = [name for name in EXPERIMENTS if name.startswith(("exercise_1", "exercise_2"))]
BY_METHOD = [f"{pair}_{method}" for pair in PAIRS for method in METHODS]
WITHOUT_TARGET_LABELS = ("information_maximisation", "entropy", "source_val", "last")


@dataclass(frozen=True)
class Promise:
    """What a heading says of its experiment: accuracy in percent over seeds."""

    mean: float
    deviation: float
    seeds: tuple[int, ...]


def header(name: str) -> str:
    """The comment at the head of an experiment."""
    lines = (ROOT / "configs" / "experiment" / f"{name}.yaml").read_text().splitlines()
    return "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


def promise(name: str) -> Promise:
    found = re.search(r": ([\d.]+) \+- ([\d.]+) % over seeds ([\d, ]+)\n", header(name))
    assert found, f"{name}: the heading gives no mean and deviation over seeds"
    return Promise(float(found[1]), float(found[2]), tuple(int(seed) for seed in found[3].split(",")))


def value_at(config: ExperimentConfig, key: str) -> Any:
    value: Any = config.to_dict()
    for part in key.split("."):
        value = value[part]
    return value


def search(name: str) -> list[dict[str, str]]:
    """The rows of a search's table."""
    with (ROOT / "scripts" / "tuning" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", BY_METHOD)
def test_every_pair_has_an_experiment_of_every_method_and_it_is_what_its_name_says(
    name: str, config: Callable[..., ExperimentConfig]
) -> None:
    composed = config(f"experiment={name}")
    assert f"{composed.data.name}_{composed.strategy.name}" == name


@pytest.mark.parametrize("pair", PAIRS)
def test_every_method_of_a_pair_has_the_budget_network_and_data_of_its_floor(
    pair: str, config: Callable[..., ExperimentConfig]
) -> None:
    floor = config(f"experiment={pair}_source_only").to_dict()
    for method in METHODS:
        composed = config(f"experiment={pair}_{method}").to_dict()
        for node in ("data", "model", "optim", "schedule", "engine", "augment", "pretrain"):
            assert composed[node] == floor[node], f"{pair}_{method}: {node}"


@pytest.mark.parametrize("name", LONGER)
def test_a_longer_experiment_has_the_budget_network_and_data_of_its_own_floor(
    name: str, config: Callable[..., ExperimentConfig]
) -> None:
    longer = config(f"experiment={name}")
    assert f"{longer.data.name}_{longer.strategy.name}_long" == name
    floor, short = (config(f"experiment={longer.data.name}_source_only{end}") for end in ("_long", ""))
    for node in ("data", "model", "optim", "schedule", "engine", "augment", "pretrain"):
        assert longer.to_dict()[node] == floor.to_dict()[node], node
    rows, fewer = ((each.engine.steps_per_epoch or 0) * each.engine.batch_size for each in (longer, short))
    assert rows > fewer


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_heading_gives_the_command(name: str) -> None:
    commands = [shlex.split(line)[3] for line in header(name).splitlines() if line.startswith("#   tlrun -m ")]
    assert len(commands) == 1
    asked = commands[0].removeprefix("experiment=").removeprefix("glob(").removesuffix(")")
    assert fnmatchcase(name, asked)


@pytest.mark.parametrize("name", [*BY_METHOD, *LONGER, *EXERCISES])
def test_a_heading_gives_mean_and_deviation_over_three_seeds_or_more_and_what_they_cost(name: str) -> None:
    promised = promise(name)
    assert re.search(r"[\d.]+ minutes a run, .* on 2 cores", header(name))
    assert 0 < promised.deviation < promised.mean < 100
    assert len(promised.seeds) >= 3


@pytest.mark.parametrize("name", SEARCHES)
def test_the_shipped_values_are_the_best_of_all_that_were_tried(
    name: str, config: Callable[..., ExperimentConfig]
) -> None:
    rows = search(name)
    keys = [key for key in rows[0] if key not in ("seed", "rule", "score")]
    scores: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in rows:
        scores[tuple(row[key] for key in keys)].append(float(row["score"]))
    best = max(scores, key=lambda setting: mean(scores[setting]))
    shipped = config(f"experiment={name}")
    assert {key: value_at(shipped, key) for key in keys} == {
        key: yaml.safe_load(text) for key, text in zip(keys, best, strict=True)
    }


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_reads_no_target_label_and_no_seed_that_is_reported(name: str) -> None:
    rows = search(name)
    assert {row["rule"] for row in rows} <= set(WITHOUT_TARGET_LABELS)
    assert len({row["rule"] for row in rows}) == 1
    assert not {int(row["seed"]) for row in rows} & set(promise(name).seeds)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_heading_names_the_search_that_made_the_table(name: str) -> None:
    command = re.search(rf"#   scripts/tuning/search.py {name} (.+)\n?", header(name))
    assert command, "the heading does not name the search"
    axes = OverridesParser.create().parse_overrides(shlex.split(command[1].partition(" --")[0]))
    named = itertools.product(*(map(yaml.safe_load, axis.sweep_string_iterator()) for axis in axes))
    tried = [[yaml.safe_load(row[axis.key_or_group]) for axis in axes] for row in search(name)]
    assert sorted(map(str, tried)) == sorted(str(list(setting)) for setting in named)


@pytest.mark.slow
@pytest.mark.experiment
@pytest.mark.parametrize("method", METHODS)
def test_a_method_reaches_its_band(method: str, config: Callable[..., ExperimentConfig], tmp_path: Path) -> None:
    name = f"mnist_usps_{method}"
    folder = Path(os.environ.get("TLRUN_DATA", "data")) / "usps"
    if not all((folder / file).exists() for file in PUBLISHED.files):
        pytest.skip(f"no USPS in {folder} (TLRUN_DATA)")
    promised = promise(name)
    seed = promised.seeds[0]
    outcome = experiment.run(config(f"experiment={name}", f"seed={seed}", f"run.root={tmp_path}"), command="a test")
    assert 100 * outcome.summary["target_test_accuracy"] >= promised.mean - 2 * promised.deviation
    assert outcome.summary["warnings"] == []
