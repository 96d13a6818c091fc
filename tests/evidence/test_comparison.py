"""Which runs a comparison needs, in which settings, and what is wrong with a command that asks for one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tlrun.compose.plan import Request, settings
from tlrun.compose.resolve import name_choices
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.evidence.comparison import Comparison, plan_comparison, read_asked

TOY = ("data=toy_gaussians", "model=mlp", "engine.precision=fp32", "device=cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))
    return tmp_path


def planned(*settings: str) -> Comparison:
    return plan_comparison(read_asked(settings, config_dir=None))


def counted(comparison: Comparison) -> dict[str, int]:
    """How many runs of each strategy, in their order."""
    return dict(Counter(each.config.strategy.name for each in comparison.members))


def budget(config: ExperimentConfig) -> dict[str, object]:
    """What must be equal for a comparison to be fair."""
    engine = config.engine.model_dump(exclude={"select"})
    data = config.data.model_dump(exclude={"target_labels", "target_val_labels", "normalize", "mean", "std"})
    return {"engine": engine, "data": data, "optim": config.optim.model_dump(), "model": config.model.name}


def test_strategies_stand_between_floor_scratch_and_ceiling_seed_after_seed() -> None:
    found = planned(*TOY, "strategy=dann,mmd", "seeds=2", "data.target_labels=5")
    assert [(each.config.seed, each.config.strategy.name) for each in found.members] == [
        (seed, name) for seed in (0, 1) for name in ("source_only", "scratch", "dann", "mmd", "target_only")
    ]
    assert {each.state for each in found.members} == {"new"}
    assert (found.left_out, found.source_models) == ((), ())


@pytest.mark.slow
def test_scratch_is_added_only_where_target_labels_are_granted() -> None:
    assert counted(planned(*TOY, "strategy=dann", "seeds=1", "data.target_labels=none")) == {
        "source_only": 1,
        "dann": 1,
        "target_only": 1,
    }


def test_all_runs_have_one_budget_and_one_data() -> None:
    found = planned(*TOY, "strategy=dann,fine_tune", "seeds=1", "engine.epochs=4", "strategy.train=all")
    budgets = [budget(each.config) for each in found.members]
    assert len(budgets) == 5
    assert budgets == budgets[:1] * 5
    assert budgets[0]["engine"]["epochs"] == 4  # type: ignore[index]


@pytest.mark.slow
def test_settings_of_strategies_go_to_those_asked_for_alone() -> None:
    found = planned(*TOY, "strategy=mmd", "strategy.weight=3", "seeds=1")
    weights = {each.config.strategy.name: getattr(each.config.strategy, "weight", None) for each in found.members}
    assert weights == {"source_only": None, "scratch": None, "mmd": 3.0, "target_only": None}


@pytest.mark.slow
def test_a_label_curve_has_one_floor_and_one_ceiling() -> None:
    found = planned(*TOY, "strategy=dann", "labels=none,1,5", "seeds=3,9")
    assert counted(found) == {"source_only": 2, "scratch": 4, "dann": 6, "target_only": 2}
    assert {str(each.config.data.target_labels) for each in found.members if each.role == "scratch"} == {"1", "5"}
    assert {each.config.seed for each in found.members} == {3, 9}


@pytest.mark.slow
def test_a_floor_that_is_asked_for_by_name_is_one_run() -> None:
    assert counted(planned(*TOY, "strategy=source_only,dann", "seeds=1")) == {
        "source_only": 1,
        "scratch": 1,
        "dann": 1,
        "target_only": 1,
    }


@pytest.mark.slow
def test_a_source_model_is_listed_unless_the_floor_is_it() -> None:
    tune = (*TOY, "strategy=fine_tune", "seeds=1", "pretrain.engine.precision=fp32")
    assert planned(*tune).source_models == ()
    (model,) = planned(*tune, "pretrain.engine.epochs=2").source_models
    assert (model.config.strategy.name, model.config.engine.epochs, model.job) == ("source_only", 2, None)


@pytest.mark.slow
def test_scratch_starts_from_nothing_whatever_the_others_start_from() -> None:
    found = planned(*TOY, "strategy=fine_tune", "seeds=1", "model.weights=source", "model.head=keep")
    weights = {each.config.strategy.name: each.config.model.weights for each in found.members}
    assert weights == {"source_only": "random", "scratch": "random", "fine_tune": "source", "target_only": "random"}


@pytest.mark.slow
def test_a_ceiling_that_cannot_be_is_left_out_and_said() -> None:
    found = planned(*TOY, "strategy=dann", "seeds=1", "data.protocol=transductive", "data.target_labels=none")
    assert counted(found) == {"source_only": 1, "dann": 1}
    assert found.left_out == (
        "no ceiling (target_only): under data.protocol=transductive it would train on its test rows",
    )


@pytest.mark.slow
def test_a_floor_needs_a_source_and_a_ceiling_labels(folder: Path) -> None:
    from PIL import Image

    for path in ("labelled/a/1.png", "labelled/a/2.png", "labelled/b/1.png", "labelled/b/2.png", "bare/1.png"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16)).save(folder / path)
    small = ("model=lenet", "data.image_size=16", "engine.precision=fp32", "device=cpu", "seeds=1")
    alone = planned("data=folder", "data.target.root=./labelled", "strategy=scratch", *small)
    assert (counted(alone), alone.left_out) == (
        {"scratch": 1, "target_only": 1},
        ("no floor (source_only): there is no source to learn from",),
    )
    unlabelled = planned(
        *("data=folders", "data.source.root=./labelled", "data.target.root=./bare", "strategy=dann"), *small
    )
    assert (counted(unlabelled), unlabelled.left_out) == (
        {"source_only": 1, "dann": 1},
        ("no ceiling (target_only): no row of the target has a label",),
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("data=toy_gaussians",),
         ["strategy: must name what is compared, such as strategy=dann,mmd (tlrun list strategies)"]),
        (("strategy=glob(*)",), ["strategy=glob(*): must be a name, or several with commas between"]),
        (("strategy=dann", "seeds=0"),
         ["seeds: must be how many (above 0), or a list of whole numbers such as 3,4,9, got 0"]),
        (("strategy=dann", "seeds="),
         ["seeds: must be how many (above 0), or a list of whole numbers such as 3,4,9, got "]),
        (("strategy=dann", "seeds=100000"), ["seeds: must be at most 200, got 100,000"]),
        (("strategy=dann", "seeds=" + ",".join(map(str, range(201)))), ["seeds: must be at most 200, got 201"]),
        (("strategy=dann", "seeds=1,x", "seed=1", "engine.epochs=1,2", "data.target_labels=1,5"),
         ["seed=1: compare takes seeds: seeds=5 for 0 to 4, or a list such as seeds=3,4,9",
          "engine.epochs=1,2: compare varies strategy, seeds and labels alone; for more: tlrun -m ..., then tlrun report",
          "data.target_labels=1,5: write labels=1,5",
          "seeds: must be how many (above 0), or a list of whole numbers such as 3,4,9, got 1,x"]),
        (("strategy=dann", "strategy=mmd", "labels=1", "data.target_labels=1"),
         ["strategy: is given twice", "labels: and data.target_labels say the same thing; give one of them"]),
        (("strategy=dann", "labels="),
         ["labels: must be none, all, or numbers per class with commas between, such as labels=1,5,10"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_command_is_told_at_once(settings: tuple[str, ...], said: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        read_asked(settings, config_dir=None)
    assert error.value.problems == said


def test_seeds_are_how_many_or_which() -> None:
    asked = [read_asked(("strategy=dann", *more), config_dir=None) for more in ((), ("seeds=2",), ("seeds=7,",))]
    assert [each.seeds for each in asked] == [(0, 1, 2), (0, 1), (7,)]


@pytest.mark.slow
def test_what_composing_finds_is_told_once_for_all_runs() -> None:
    with pytest.raises(ConfigError) as error:
        planned(*TOY, "strategy=dan,mmd", "engine.epochz=3", "labels=1,few")
    key, strategy, labels = error.value.problems
    assert key == "engine.epochz=3: unknown key; did you mean engine.epochs?"
    assert strategy.startswith("strategy=dan: no such strategy; did you mean dann?")
    assert labels.startswith("data.target_labels: must be none, all or a whole number of at least 1, got 'few'")


def weighted(folder: Path) -> str:
    """A folder with an experiment that chooses mmd and sets its weight and what it matches."""
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "weighted.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /data: toy_gaussians\n  - override /model: mlp\n  - override /strategy: mmd\n  - _self_\n"
        "strategy:\n  weight: 7.0\n  match: [features, logits]\nengine:\n  epochs: 3\n"
    )
    return str(folder / "mine")


def test_an_experiment_gives_all_its_budget_and_its_strategy_alone_what_is_the_strategys(folder: Path) -> None:
    found = plan_comparison(
        read_asked(("strategy=mmd,dann", "experiment=weighted", *TOY[2:], "seeds=1"), config_dir=weighted(folder))
    )
    alone = planned(*TOY, "strategy=dann", "seeds=1", "engine.epochs=3")
    assert counted(found) == {"source_only": 1, "scratch": 1, "mmd": 1, "dann": 1, "target_only": 1}
    assert [budget(each.config) for each in found.members] == [budget(found.members[0].config)] * 5
    strategies = {each.config.strategy.name: each.config.strategy for each in found.members}
    assert (strategies["mmd"].weight, strategies["mmd"].match) == (7.0, ("features", "logits"))  # type: ignore[attr-defined]
    assert {each.folder.path for each in alone.members} < {each.folder.path for each in found.members}
    assert found.notes == (
        "experiment=weighted: of its settings strategy.weight, strategy.match goes to mmd alone",
    )  # fmt: skip
    (dann,) = [each.job for each in found.members if each.config.strategy.name == "dann"]
    assert dann is not None
    again = settings(Request(dann.overrides, config_dir=str(folder / "mine")))  # as the run's command has it
    assert name_choices(again).strategy == strategies["dann"]


@pytest.mark.slow
def test_the_settings_of_an_experiments_strategy_do_not_hinder_what_is_added(folder: Path) -> None:
    found = plan_comparison(
        read_asked(("strategy=mmd", "experiment=weighted", *TOY[2:], "seeds=1"), config_dir=weighted(folder))
    )
    assert counted(found) == {"source_only": 1, "scratch": 1, "mmd": 1, "target_only": 1}
    assert found.notes == ()


@pytest.mark.slow
def test_a_setting_reaches_the_strategies_that_have_its_key_and_the_others_are_named() -> None:
    found = planned(*TOY, "strategy=fine_tune,mmd,dann", "strategy.weight=3", "strategy.train=all", "seeds=1")
    weights = {each.config.strategy.name: getattr(each.config.strategy, "weight", None) for each in found.members}
    assert weights == {
        "source_only": None,
        "scratch": None,
        "fine_tune": None,
        "mmd": 3,
        "dann": 3,
        "target_only": None,
    }
    assert found.notes == ("strategy.weight=3: goes to mmd, dann; there is no such key in fine_tune",)
    assert [each.config.strategy.name for each in found.members if each.role is None] == ["fine_tune", "mmd", "dann"]


@pytest.mark.slow
def test_a_setting_that_no_strategy_has_is_an_error_for_each() -> None:
    with pytest.raises(ConfigError) as error:
        planned(*TOY, "strategy=fine_tune,mmd", "strategy.wrong=3", "seeds=1")
    assert [each.partition(" (")[0] for each in error.value.problems] == [
        f"strategy.wrong=3: unknown key with strategy={name}" for name in ("fine_tune", "mmd")
    ]
