"""The verb `advise`: what it says, what it reads, that its commands are right ones, and what it refuses."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import trained_runs
from tests.engine.runs import TOY
from tlrun import experiment
from tlrun.cli import main
from tlrun.compose.plan import Request, settings
from tlrun.config import ExperimentConfig
from tlrun.data import domain
from tlrun.data.domain import DomainPair
from tlrun.verbs.advise import comparisons, lines

PAIR = ("data=toy_gaussians", "device=cpu")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def advise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tlrun advise ...` in an empty folder: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["advise", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.slow
def test_the_page_has_figures_an_order_costs_and_commands_that_are_right(advise: Run, tmp_path: Path) -> None:
    code, out, err = advise(*PAIR, "--json", "advice.json")
    assert (code, err) == (0, "")
    content = json.loads((tmp_path / "advice.json").read_text())
    assert list(lines(content)) == out.splitlines()
    assert content["format"] == 1
    assert (content["size"], content["closeness"]) == ("small", "different")
    assert [each["strategy"] for each in content["recommendations"]] == ["dann", "feature_extract", "fine_tune"]
    for each in content["recommendations"]:
        words = shlex.split(each["command"])
        assert words[0] == "tlrun"
        assert settings(Request(tuple(words[1:]))).strategy.name == each["strategy"]
        assert each["seconds"] > 0 and each["epochs"] == 10
        assert f"     {each['command']}" in out.splitlines()
    assert [bool(each["source_model_seconds"]) for each in content["recommendations"]] == [False, True, True]
    assert "rules of thumb from a few rows, not evidence" in out
    assert content["compare"] == [
        "tlrun compare strategy=dann,feature_extract data=toy_gaussians device=cpu seeds=3",
        "tlrun compare strategy=fine_tune strategy.train=last_k strategy.last_k=1 data=toy_gaussians device=cpu seeds=3",
    ]
    assert [line.strip() for line in out.splitlines()[-2:]] == content["compare"]
    assert not list(tmp_path.glob("outputs*"))  # nothing was trained


@pytest.mark.slow
def test_json_can_take_the_pages_place_and_quick_times_nothing(advise: Run) -> None:
    code, out, _ = advise(*PAIR, "--quick", "--json", "-")
    content = json.loads(out)
    assert code == 0 and content["format"] == 1
    assert all("seconds" not in each for each in content["recommendations"])
    assert "Cost" not in "\n".join(lines(content))


@pytest.mark.slow
def test_withheld_labels_change_nothing(advise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (*PAIR, "data.target_labels=5", "data.target_val_labels=2", "--quick", "--json", "-")
    load = domain.load_pair
    _, expected, _ = advise(*asked)

    def withheld_labels_changed(*given: Any, **named: Any) -> DomainPair:
        pair = load(*given, **named)
        parts = dict(pair.parts)
        for name in ("target_val", "target_test"):
            part = parts[name]
            assert part.y is not None and part.granted is not None
            parts[name] = replace(part, y=torch.where(part.granted, part.y, 1 - part.y))
        card = json.loads(json.dumps(pair.card))
        card["target"]["rows_per_class"] = {"train": {"a": 1}, "val": {"a": 1}, "test": {"a": 1}}
        return replace(pair, parts=parts, card=card)

    monkeypatch.setattr(domain, "load_pair", withheld_labels_changed)
    assert advise(*asked)[1] == expected


@pytest.mark.slow
def test_features_are_compared_once_the_source_model_is_trained_and_a_finished_run_costs_nothing(
    advise: Run, config: Callable[..., ExperimentConfig]
) -> None:
    tuned = config(*TOY, "strategy=feature_extract")
    outcome = experiment.run(tuned, command="a test")
    content = json.loads(advise(*TOY, "--json", "-")[1])
    assert [each["name"] for each in content["findings"]["spaces"]] == ["inputs", "start (the source model)"]
    assert content["findings"]["spaces"][1]["source_accuracy"] > 0.9
    by_name = {each["strategy"]: each for each in content["recommendations"]}
    assert Path(by_name["feature_extract"]["done"]).name == outcome.folder.name
    assert by_name["fine_tune"]["source_model_seconds"] is None
    assert f"Done already: {by_name['feature_extract']['done']}." in "\n".join(lines(content))


@pytest.mark.slow
def test_what_the_settings_do_not_allow_is_told_and_not_advised(advise: Run) -> None:
    code, out, _ = advise(*PAIR, "engine.epochs=1")
    assert code == 0
    impossible = [line for line in out.splitlines() if "advised, but not possible" in line]
    assert impossible and "dann" in impossible[0]
    assert "strategy=dann" not in out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of twelve pictures each."""
    return trained_runs.photos(tmp_path / "photos", shade=0, count=12)


@pytest.mark.slow
def test_random_weights_that_are_asked_for_are_not_told_as_missing(advise: Run) -> None:
    code, out, _ = advise(*PAIR, "model.weights=random", "data.target_labels=5", "--quick")
    assert code == 0
    assert "to start from   random weights, as model.weights=random asks" in out
    assert "fine_tune, progressive: start from trained weights, and model.weights=random asks for none" in out


NETWORK = ("model=lenet", "data.image_size=28", "device=cpu", "--quick")


@pytest.mark.slow
def test_a_folder_without_a_source_and_a_network_without_weights_leave_scratch(advise: Run, photos: Path) -> None:
    code, out, err = advise("data=folder", f"data.target.root={photos}", *NETWORK)
    assert (code, err) == (0, "")
    assert "1. scratch" in out and "2. " not in out
    assert "source      none" in out
    assert "tlrun compare" not in out and out.rstrip().endswith("not evidence.")


@pytest.mark.slow
def test_without_labels_and_source_there_is_nothing_to_try(advise: Run, photos: Path) -> None:
    code, out, _ = advise("data=folder", f"data.target.root={photos}", "data.target_labels=none", *NETWORK)
    assert code == 0
    assert "there is nothing to try" in out and "nothing can be learnt" in out


@pytest.mark.slow
def test_pictures_without_labels_and_source_are_refused(advise: Run, photos: Path) -> None:
    code, out, err = advise("data=folder", f"data.target.root={photos / 'red'}", *NETWORK)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "no source gives it classes" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("strategy=dann",), "tlrun advise: strategy=dann: which strategy to take is the question; leave it out"),
        (
            ("strategy.weight=2",),
            "tlrun advise: strategy.weight=2: which strategy to take is the question; leave it out",
        ),
        (
            ("experiment=exercise_3",),
            "tlrun advise: experiment=exercise_3: which strategy to take is the question; leave it out",
        ),
        (("--rows", "9"), "tlrun advise: --rows: must be at least 10, got 9"),
        (("--rows", "many"), "tlrun advise: argument --rows: invalid int value: 'many'"),
        (("--fast",), "advise: --fast: no such option; see tlrun advise --help"),
        (("seed=0,1",), "seed=0,1: several values need -m (tlrun -m ...); a list is [a,b]"),
        (("--config-dir", "nowhere"), "--config-dir nowhere: no such folder"),
        (
            ("data.target_labels=some",),
            "data.target_labels: must be none, all or a whole number of at least 1, got 'some'",
        ),
    ],
)
def test_a_wrong_command_is_one_line(advise: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = advise("data=toy_gaussians", *arguments)
    assert (code, out, err) == (2, "", f"{said}\n")


def test_a_pair_that_is_not_there_is_one_line(advise: Run) -> None:
    code, out, err = advise("data=mnist_mnitsm")
    assert (code, out) == (2, "") and err.count("\n") == 1 and "mnist_mnistm" in err


def test_a_file_that_cannot_be_written_is_told(advise: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlrun.verbs.advise._content", lambda overrides, asked: {})
    (tmp_path / "file").write_text("")
    code, out, err = advise(*PAIR, "--json", "file/advice.json")
    assert (code, out) == (1, "") and "advice.json" in err and err.count("\n") == 1


def test_a_comparison_takes_seeds_for_a_seed_and_quotes_what_the_shell_would_read() -> None:
    words = ("data=folders", "data.source.root=my photos", "model.bottleneck=64", "seed=4")
    head = ("strategy.train=head", "model.bottleneck=256")
    tried = [("dann", head), ("cdan", head), ("mcc", ()), ("source_only", ()), ("scratch", ())]
    assert comparisons(tried, words, ["--config-dir=mine"]) == [
        "tlrun compare --config-dir=mine strategy=dann,cdan strategy.train=head model.bottleneck=256 data=folders "
        "'data.source.root=my photos' seeds=3",
        "tlrun compare --config-dir=mine strategy=mcc data=folders 'data.source.root=my photos' model.bottleneck=64 seeds=3",
    ]
    assert comparisons([("scratch", ())], words, []) == []
