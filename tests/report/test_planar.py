"""Pictures and figures for which trained models and data are loaded: boundaries, features, scikit-learn's SVC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.svm import SVC

from tests.engine.runs import TOY
from tests.report.test_plots import overlapping
from tlrun import cli, experiment
from tlrun.config import ExperimentConfig
from tlrun.metrics.classification import ClassificationMetrics
from tlrun.report import planar, style
from tlrun.report.collect import collect
from tlrun.report.features import ROWS, tsne_figure
from tlrun.report.features import test_features as features_of
from tlrun.report.groups import Group, group
from tlrun.report.planar import Svc, boundaries, fitted, svc_lines
from tlrun.report.plots import with_floor
from tlrun.run import RunFolder
from tlrun.trained import load_run_pair, load_trained, read_config

Config = Callable[..., ExperimentConfig]


@pytest.fixture(scope="module")
def root(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of three strategies on the two clusters, trained for a moment."""
    root = tmp_path_factory.mktemp("toy")
    for strategy in ("source_only", "scratch", "mmd"):
        for seed in (0, 1):
            asked = config(*TOY, f"strategy={strategy}", f"seed={seed}", f"run.root={root}", "data.target_labels=5")
            experiment.run(asked, command="tlrun")
    return root


def groups(root: Path) -> list[Group]:
    return group(collect([root]).runs)


def test_macro_f1_of_the_svc_is_that_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of four classes one is neither there nor predicted, and one is predicted alone.
    y, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 3])
    monkeypatch.setattr(planar, "_labelled", lambda pair, part: (np.zeros((5, 2)), y))
    svc = Svc("SVC", 0, SimpleNamespace(predict=lambda x: predicted), 0, {})
    metrics = ClassificationMetrics(4, torch.device("cpu"))
    metrics.update(F.one_hot(torch.from_numpy(predicted), 4).float(), torch.from_numpy(y))
    figures = svc.figures(SimpleNamespace())
    assert figures["target_test_macro_f1"] == pytest.approx(metrics.result().macro_f1)
    assert figures["target_test_accuracy"] == figures["source_test_accuracy"] == pytest.approx(0.6)


@pytest.mark.slow
def test_the_svc_is_trained_on_source_rows_and_on_granted_target_rows(root: Path) -> None:
    direct, scratch = svc_lines(groups(root))
    assert (direct.strategy, scratch.strategy) == ("SVC, direct transfer", "SVC, from scratch")
    assert direct.seeds == scratch.seeds == (0, 1)
    assert not direct.is_run and not scratch.is_run
    assert (direct.figures["rows_target_labels"].mean, scratch.figures["rows_target_labels"].mean) == (0, 10)
    expected: dict[str, list[float]] = {"source_train": [], "target_granted": []}
    for run in next(each for each in groups(root) if each.strategy == "mmd").runs:
        parts = load_run_pair(run.folder, read_config(run.folder)).parts
        for name, found in expected.items():
            test = parts["target_test"]
            model = SVC().fit(parts[name].x.tensor().numpy(), parts[name].y.numpy())
            found.append(float(np.mean(model.predict(test.x.tensor().numpy()) == test.y.numpy())))
    assert direct.figures["target_test_accuracy"].mean == pytest.approx(np.mean(expected["source_train"]))
    assert scratch.figures["target_test_accuracy"].mean == pytest.approx(np.mean(expected["target_granted"]))
    assert expected["target_granted"][0] > expected["source_train"][0] + 0.1


def test_the_svc_of_a_setting_and_a_seed_is_fitted_once(root: Path) -> None:
    assert sorted((svc.name, svc.seed) for svc, _ in fitted(groups(root))) == [
        *(("SVC, direct transfer", seed) for seed in (0, 1)),
        *(("SVC, from scratch", seed) for seed in (0, 1)),
    ]


def test_without_granted_labels_there_is_no_svc_from_scratch(root: Path) -> None:
    floor = [each for each in groups(root) if each.strategy == "source_only"]
    assert [line.strategy for line in svc_lines(floor)] == ["SVC, direct transfer"]


@pytest.mark.slow
def test_every_strategy_and_the_svc_have_a_boundary_titled_with_its_own_accuracy(root: Path) -> None:
    with style.styled():
        figure = boundaries(groups(root))
        titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
        problems = overlapping(figure)
    names = [f"{strategy}, seed 0" for strategy in ("source_only", "scratch", "mmd")]
    accuracies = [each.runs[0].figure("target_test_accuracy") for each in groups(root)]
    assert titles[:3] == [
        f"{name}: {100 * share:.1f} %" for name, share in zip(names, accuracies, strict=True) if share
    ]
    assert [title.partition(":")[0] for title in titles[3:]] == [
        "SVC, direct transfer, seed 0",
        "SVC, from scratch, seed 0",
    ]
    assert problems == []


def test_features_are_those_of_the_same_test_rows_for_every_run(root: Path) -> None:
    floor, run = with_floor(groups(root))
    pair = load_run_pair(run.folder, read_config(run.folder))
    features, labels, is_target = features_of(load_trained(run.folder), pair, rows=50)
    assert features.shape == (100, 12)
    assert is_target.tolist() == [False] * 50 + [True] * 50
    others = features_of(load_trained(floor.folder), pair, rows=50)
    assert np.array_equal(labels, others[1])
    assert not np.array_equal(features, others[0])
    assert len(features_of(load_trained(run.folder), pair, rows=ROWS)[1]) == 500 + 200


@pytest.mark.slow
def test_features_are_drawn_in_two_columns_by_class_and_by_domain(root: Path) -> None:
    with style.styled():
        figure = tsne_figure(with_floor(groups(root)))
        assert overlapping(figure) == []
    assert [axes.get_title() for axes in figure.axes] == ["source_only, seed 0", "mmd, seed 0", "", ""]
    by_class, by_domain = figure.axes[1], figure.axes[3]
    assert sum(len(each.get_offsets()) for each in by_class.collections) == 700
    assert [len(each.get_offsets()) for each in by_domain.collections] == [500, 200]


@pytest.mark.slow
def test_the_report_of_toy_runs_has_the_svc_in_its_table_and_all_its_pictures(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(root), "--out", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert "\nSVC, direct transfer       0  2" in out
    pictures = {path.stem.removeprefix("toy_gaussians-") for path in tmp_path.iterdir()}
    assert pictures == {"curves", "bars", "confusion", "classes", "reliability", "boundary", "tsne"}
    assert "no picture" not in err


# --- run.plots


@pytest.mark.slow
def test_a_run_draws_its_pictures_where_it_is_asked_to(config: Config, tmp_path: Path) -> None:
    asked = (*TOY, "strategy=source_only", f"run.root={tmp_path}")
    folder = RunFolder(experiment.run(config(*asked), command="tlrun").folder)
    assert not folder.plots.exists()
    outcome = experiment.run(config(*asked, "run.plots=true"), command="tlrun")
    assert (outcome.state, outcome.folder) == ("already done", folder.path)
    assert sorted(path.name for path in folder.plots.iterdir()) == ["confusion.png", "curves.png"]
    before = [path.read_bytes() for path in sorted(folder.plots.iterdir())]
    experiment.run(config(*asked, "run.plots=true", "run.fresh=true"), command="tlrun")
    assert [path.read_bytes() for path in sorted(folder.plots.iterdir())] == before


def test_a_picture_that_fails_is_a_warning_and_fails_no_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: RunFolder) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("tlrun.report.curves.write_run", fail)
    asked = config(*TOY, "strategy=source_only", f"run.root={tmp_path}", "run.plots=true")
    outcome = experiment.run(asked, command="tlrun")
    assert RunFolder(outcome.folder).state() == "done"
    assert f"no pictures in {outcome.folder}/plots: ZeroDivisionError: by nought" in caplog.messages
