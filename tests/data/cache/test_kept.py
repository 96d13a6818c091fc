"""Runs that share domains give what runs in processes of their own give, and memory holds one pair."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.engine.children import Child, start_server
from tests.engine.runs import DIGITS, TOY, differences
from tlrun import experiment
from tlrun.compose.plan import Request, plan
from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig, PairSettings
from tlrun.data import domain
from tlrun.data.cache.kept import domain_key, keeping_domains

CPU = torch.device("cpu")
DIFFERENT = (
    ("seed=0",),
    ("seed=1", "data.source_label_noise=0.5"),
    ("seed=1", "data.source_rows=60", "strategy=dann"),
    ("seed=1", "data.target_labels=2", "data.target_rows=40", "data.normalize=per_domain"),
    ("seed=0", "strategy=fine_tune", "data.target_labels=3"),
)
"""Runs of one pair that differ in what is made of its rows."""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))


def config(*overrides: str) -> ExperimentConfig:
    return name_choices(plan(Request(overrides)).here[0].settings)


@pytest.mark.slow
def test_runs_in_one_process_equal_runs_in_processes_of_their_own(tmp_path: Path) -> None:
    start_server()
    short = ("engine.epochs=2", "pretrain.engine.epochs=1", "data.target_labels=none", "strategy=source_only")
    for more in DIFFERENT:
        names = {each.partition("=")[0] for each in more}
        kept = [each for each in (*DIGITS, *short) if each.partition("=")[0] not in names]
        assert Child(config(*kept, *more, "run.root=apart")).end() == (0, "")
    with keeping_domains():
        for more in DIFFERENT:
            names = {each.partition("=")[0] for each in more}
            kept = [each for each in (*DIGITS, *short) if each.partition("=")[0] not in names]
            experiment.run(config(*kept, *more, "run.root=together"), command="a test")
    assert differences(tmp_path / "apart", tmp_path / "together") == []


def test_a_domain_is_read_once_and_only_those_of_one_pair_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    first = config(*TOY).data
    other = first.model_copy(update={"target": first.target.model_copy(update={"rotation": 10.0})})
    granted = first.model_copy(update={"target_labels": 1, "source_label_noise": 0.1})
    fewer = first.model_copy(update={"source_rows": 50})
    read: list[str] = []
    loaded = domain._loaded

    def reading(data: PairSettings, role: str, places: object) -> object:
        read.append(role)
        return loaded(data, role, places)  # type: ignore[arg-type]

    monkeypatch.setattr(domain, "_loaded", reading)

    def reads(*pairs: PairSettings) -> list[str]:
        read.clear()
        for seed, each in enumerate(pairs):
            domain.load_pair(each, seed=seed, device=CPU)
        return list(read)

    assert reads(first, first) == ["source", "target"] * 2
    with keeping_domains():
        assert reads(first, first, granted) == ["source", "target"]
        assert reads(fewer, fewer) == ["source"]
        assert reads(other, other, fewer) == ["source", "target", "source", "target"]
    assert reads(first) == ["source", "target"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of values that no setting would have
def test_what_a_run_makes_of_a_domain_is_no_part_of_its_key_and_all_else_is() -> None:
    plain = config(*TOY).data
    same = {"target_labels": 3, "target_val_labels": 2, "source_label_noise": 0.5, "label_sets": "open",
            "normalize": "shared", "mean": None, "std": None, "target_rows": 7}  # fmt: skip
    for key, value in same.items():
        assert domain_key(plain.model_copy(update={key: value}), "source") == domain_key(plain, "source"), key
    for key in sorted(set(PairSettings.model_fields) - {*same, "target", "name"}):
        assert domain_key(plain.model_copy(update={key: "another"}), "source") != domain_key(plain, "source"), key
    alone = plain.model_copy(update={"source": None})
    assert domain_key(alone, "target") != domain_key(plain, "target")  # which may take its classes from the source
