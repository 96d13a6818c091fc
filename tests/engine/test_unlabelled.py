"""Whole runs on a target without labels, on one domain alone, and under a transductive protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.runs import TOY
from tlrun.compose.resolve import check, name_choices
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.report.report import report
from tlrun.run import RunFolder
from tlrun.run_files import unknown_files

Train = Callable[..., RunFolder]
Config = Callable[..., ExperimentConfig]

MOONS = (*TOY[:-5], "data=moons", "model=mlp", "model.widths=[24,12]", "optim.lr=0.1", "pretrain.optim.lr=0.1")
_UNKNOWN = ("data.target.name=tests.engine.moons_unknown", "data.target.num_rows=200", "+data.target.official=false")
NOTHING_KNOWN = (*MOONS, *_UNKNOWN, "+data.target.known=0", "data.target.classes=[]")
HALF_KNOWN = (*MOONS, *_UNKNOWN, "+data.target.known=5")
ALONE = (*MOONS, "~domain@data.source")

TARGET_FIGURES = ("target_test_accuracy", "target_test_macro_f1", "target_test_loss", "target_val_accuracy", "regret",
                  "last_target_test_accuracy", "oracle_target_test_accuracy", "oracle_epoch")  # fmt: skip


@pytest.mark.slow
def test_run_without_target_labels_blanks_their_figures_and_predicts_every_row(train: Train) -> None:
    folder = train(*NOTHING_KNOWN, "strategy=mmd", "engine.select=information_maximisation")
    summary = folder.read_summary()
    assert {name: summary[name] for name in TARGET_FIGURES} == dict.fromkeys(TARGET_FIGURES)
    assert (summary["target_test_rows"], summary["target_test_rows_labelled"]) == (100, 0)
    assert summary["source_test_accuracy"] > 0.5
    assert summary["select_score"] is not None and summary["largest_class_share"] is not None
    metrics = folder.read_metrics()
    assert metrics["target_test_accuracy"].isna().all() and metrics["score_oracle"].isna().all()
    predictions = folder.read_predictions()
    assert predictions["split"].value_counts().to_dict() == {"test": 100, "train": 90, "val": 10}
    assert sorted(predictions["row"]) == list(range(200))
    assert set(predictions["label"]) == {""}
    assert not folder.confusion("target", "test").exists() and folder.confusion("source", "test").exists()
    assert unknown_files(folder.path) == []
    assert "NaN" not in folder.summary.read_text()


def test_partly_labelled_target_is_measured_over_its_labelled_rows(train: Train) -> None:
    folder = train(*HALF_KNOWN, "strategy=source_only")
    summary, predictions = folder.read_summary(), folder.read_predictions()
    known = predictions[(predictions["split"] == "test") & (predictions["label"] != "")]
    assert (summary["target_test_rows"], summary["target_test_rows_labelled"]) == (100, len(known))
    assert summary["target_test_accuracy"] == pytest.approx((known["label"] == known["prediction"]).mean())
    others = predictions[predictions["split"] != "test"]
    assert set(others["label"]) == {""} and len(others) == 50


@pytest.mark.slow
def test_no_unknown_label_reaches_training_of_a_partly_labelled_target(train: Train) -> None:
    folder = train(*HALF_KNOWN, "strategy=target_only")
    assert folder.read_summary()["rows_target_labels"] == 45


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("strategy=dann", "engine.select=oracle"), "engine.select: oracle has no labelled rows to read (highest"),
        (("strategy=target_only",), "data.target_labels: no train row of tests.engine.moons_unknown (target) has a label"),
        (("strategy=dann", "run.require='target_test_accuracy>0'"),
         "run.require: target_test_accuracy is a figure over labelled target test rows, and no target test row has"),
        (("strategy=dann", "run.require='regret<1'"), "run.require: regret is a figure over labelled target test rows"),
        (("strategy=mmd", "data.target_val_labels=1", "engine.select=target_val"),
         "data.target_val_labels: no val row of tests.engine.moons_unknown (target) has a label to grant"),
    ],
)  # fmt: skip
def test_what_needs_target_labels_is_refused_before_training(
    settings: tuple[str, ...], said: str, train: Train, described: Config
) -> None:
    with pytest.raises(ConfigError) as caught:
        train(*NOTHING_KNOWN, *settings)
    assert str(caught.value).startswith(said)
    folder = RunFolder.of(name_choices(described(*NOTHING_KNOWN, *settings)))
    assert not folder.metrics.exists()


@pytest.mark.slow
def test_report_of_runs_without_target_labels_has_blanks_and_no_nought(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*NOTHING_KNOWN, "strategy=source_only", "run.plots=true")
    train(*NOTHING_KNOWN, "strategy=mmd")
    report([tmp_path / "runs"], {"json": str(tmp_path / "all.json")}, plots=tmp_path / "plots")
    out, err = capsys.readouterr()
    assert "0 of 100" in out
    assert "0.00" not in out
    groups = json.loads((tmp_path / "all.json").read_text())["groups"]
    assert {each["figures"].get("target_test_accuracy", {}).get("mean") for each in groups} == {None}
    assert {each["adaptation"] for each in groups} == {None}
    names = {path.name.rpartition("-")[2] for path in (tmp_path / "plots").glob("*.png")}
    assert names == {"curves.png", "boundary.png", "tsne.png"}
    assert "no picture moons_tests.engine.moons_unknown-confusion: no target test row has a label" in err


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["scratch", "fine_tune", "feature_extract", "progressive", "target_only"])
def test_one_labelled_domain_is_trained_without_a_source(strategy: str, train: Train) -> None:
    weights = () if strategy in ("scratch", "target_only") else ("model.weights=random",)
    folder = train(*ALONE, f"strategy={strategy}", *weights, "data.target_labels=all", "data.target_val_labels=all")
    summary, metrics = folder.read_summary(), folder.read_metrics()
    assert summary["target_test_accuracy"] > 0.4
    assert summary["select"] == "target_val"
    blank = ("source_test_accuracy", "source_val_accuracy", "forgetting", "source_test_accuracy_before")
    assert {name: summary[name] for name in blank} == dict.fromkeys(blank)
    assert metrics["source_test_accuracy"].isna().all()
    assert folder.read_data_card()["source"] is None
    assert [path.name for path in sorted(folder.path.glob("confusion_*"))] == [
        "confusion_target_test.csv", "confusion_target_val.csv",
    ]  # fmt: skip


def test_without_a_source_and_without_granted_selection_the_last_epoch_is_taken(train: Train) -> None:
    assert train(*ALONE, "strategy=scratch", "data.target_labels=5").read_summary()["select"] == "last"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("strategy=dann",), "data.source: strategy dann learns from source rows and there is no source; name a source"),
        (("strategy=fine_tune", "data.target_labels=5"), "model.weights: auto for strategy fine_tune and model mlp means"),
        (("strategy=fine_tune", "data.target_labels=5", "model.weights=source"), "model.weights: source means a model"),
        (("strategy=scratch", "data.target_labels=5", "engine.select=source_val"), "engine.select: source_val reads"),
        (("strategy=scratch", "data.target_labels=5", "data.source_rows=9"), "data.source_rows: has no effect without"),
        (("strategy=fine_tune", "data.target_labels=5", "model.weights=random", "strategy.learns_from=both"),
         "data.source: strategy fine_tune learns from source rows"),
    ],
)  # fmt: skip
def test_what_needs_a_source_is_refused_where_there_is_none(
    settings: tuple[str, ...], said: str, config: Config
) -> None:
    (problem,) = check(config(*ALONE, *settings))
    assert problem.startswith(said)


@pytest.mark.slow
def test_transductive_run_tests_on_all_target_rows_and_selects_on_them_without_labels(train: Train) -> None:
    settings = (*MOONS, "strategy=mmd", "data.protocol=transductive", "engine.select=entropy")
    folder = train(*settings, "data.target.num_rows=150")
    summary = folder.read_summary()
    assert (summary["target_test_rows"], summary["target_test_rows_labelled"]) == (150, 150)
    assert (summary["target_val_accuracy"], summary["source_test_accuracy"]) == (None, None)
    assert summary["source_val_accuracy"] is not None
    assert folder.read_predictions()["split"].unique().tolist() == ["test"]
    tuned = train(*settings, "data.target.num_rows=150", "data.target_labels=5").read_summary()
    assert (tuned["rows_target_labels"], tuned["target_test_rows"]) == (10, 140)
    # The rule without labels reads the ten granted rows too: a share of 150 rows is no share of 140.
    assert (tuned["largest_class_share"] * 150) == pytest.approx(round(tuned["largest_class_share"] * 150))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("strategy=target_only",), "data.protocol: strategy target_only would train on its own test rows under"),
        (("strategy=scratch", "data.target_labels=all"), "data.target_labels: all would leave no test rows"),
        (("strategy=scratch", "data.target_labels=5", "data.target_val_labels=all", "engine.select=target_val"),
         "data.target_val_labels: all would leave no test rows"),
    ],
)  # fmt: skip
def test_transductive_protocol_refuses_what_would_train_on_test_rows(
    settings: tuple[str, ...], said: str, config: Config
) -> None:
    (problem,) = check(config(*MOONS, "data.protocol=transductive", *settings))
    assert problem.startswith(said)


def test_transductive_protocol_minds_no_grant_that_is_not_read(config: Config) -> None:
    grants = ("data.target_labels=all", "data.target_val_labels=all")
    assert check(config(*MOONS, "data.protocol=transductive", "strategy=source_only", *grants)) == []
