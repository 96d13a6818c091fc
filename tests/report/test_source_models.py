"""Source models are no second floor: left out where they had a budget of their own, kept where they are a floor as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.engine.runs import TOY
from tests.report.conftest import Finished
from tlrun import experiment
from tlrun.config import ExperimentConfig
from tlrun.report.collect import collect
from tlrun.report.contents import contents
from tlrun.report.source_models import ORIGIN, started_from, without_source_models


def test_a_real_run_names_its_source_model_which_is_told_and_no_row(
    config: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    asked = config("strategy=fine_tune", "data.target_labels=5", *TOY, f"run.root={tmp_path}")
    experiment.run(asked, command="a test")
    found = collect([tmp_path])
    tuned, start = sorted(found.runs, key=lambda run: run.strategy)
    assert (tuned.strategy, start.strategy) == ("fine_tune", "source_only")
    assert started_from(tuned) == start.folder.path.name and started_from(start) is None

    kept = without_source_models(found)
    assert kept.runs == (tuned,)
    assert [(each.path, each.reason) for each in kept.left_out] == [
        (start.folder.path, "the source model of 1 run here, with settings of its own")
    ]
    assert [line.strategy for line in contents([tmp_path]).lines if line.is_run] == ["fine_tune"]


def test_a_source_model_alone_is_a_run_like_any_other(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", "engine.epochs=5")
    assert len(without_source_models(collect([tmp_path])).runs) == 1


def test_a_source_model_with_the_settings_of_others_is_their_floor(finished: Finished, tmp_path: Path) -> None:
    start = finished("source_only", "engine.epochs=5")
    tuned = finished("fine_tune", "data.target_labels=5", "engine.epochs=3")
    tuned.write_environment({"weights_origin": f"{ORIGIN}elsewhere/{start.path.name}"})
    assert [run.strategy for run in without_source_models(collect([tmp_path])).runs] == ["fine_tune"]
    finished("mmd", "engine.epochs=5")
    kept = without_source_models(collect([tmp_path]))
    assert [run.strategy for run in kept.runs] == ["fine_tune", "mmd", "source_only"] and kept.left_out == ()
