"""The verb `distance`: what it measures of settings and of runs, which labels it reads, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.runs import TOY
from tlrun.cli import main
from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig
from tlrun.data.domain import load_pair
from tlrun.evidence.spaces import choose_parts, raw_inputs
from tlrun.run import RunFolder
from tlrun.verbs.distance import rules_of_thumb

PAIR = ("data=toy_gaussians", "device=cpu")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tlrun distance ...` in an empty folder: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["distance", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def spaces(text: str) -> dict[str, Any]:
    return {each["name"]: each for each in json.loads(text)["spaces"]}


def test_without_a_model_raw_inputs_are_compared(distance: Run) -> None:
    code, out, err = distance(*PAIR, "data.target_labels=none")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["toy_gaussians: 180 train rows of each domain", "  inputs: 2 numbers a row"]
    (mmd,) = [line.split() for line in lines if line.startswith("MMD  ")]
    assert float(mmd[1]) > 0.3 and mmd[2:4] == ["(p", "0.002)"]
    assert "    joint error   not known: no target label may be read (data.target_labels=N grants some)" in lines
    assert any(
        line.startswith("inputs: rule of thumb (a habit of practice, from no paper): A-distance ") for line in lines
    )


def test_a_domain_is_no_distance_from_itself(distance: Run) -> None:
    same = ("data.target.rotation=0", "data.target.shift=[0,0]", "data.target.num_rows=1000")
    _, out, _ = distance(*PAIR, *same, "--json", "-", "--rows", 400)
    found = spaces(out)["inputs"]
    assert found["distances"]["a_distance_linear"]["value"] < 0.2
    assert found["distances"]["mmd"]["p_value"] > 0.01
    assert found["rules_of_thumb"] == [f"rule of thumb (a habit of practice, from no paper): MMD {found['distances']['mmd']['value']:.2f} is below 0.1, "
                                       "transfer is likely to work"]  # fmt: skip


@pytest.mark.slow
def test_a_named_model_is_compared_in_its_features_too_and_the_same_each_time(distance: Run) -> None:
    first, second = (distance(*PAIR, "model=mlp", "model.widths=[24,12]", "--json", "-")[1] for _ in range(2))
    assert list(spaces(first)) == ["inputs", "start (random weights, seed 0)"]
    values = [
        {name: each["distances"][name]["value"] for name in each["distances"]}
        for text in (first, second)
        for each in spaces(text).values()
    ]
    assert values[:2] == values[2:]


@pytest.mark.slow
def test_granted_labels_alone_are_read_for_the_joint_error(distance: Run) -> None:
    for grant, rows in (("none", 0), ("3", 6)):
        terms = spaces(distance(*PAIR, f"data.target_labels={grant}", "--json", "-")[1])["inputs"]["terms"]
        assert terms["joint_error_rows"] == rows
        assert (terms["joint_error"] is None) == (grant == "none")
        assert terms["joint_error_labels"] == (None if grant == "none" else "granted")
        assert terms["source_error"] == 0 and terms["source_error_of"] == "a linear probe, cross-validated"


@pytest.mark.slow
def test_a_run_is_compared_at_its_start_and_in_its_selected_model(
    distance: Run, run_of: Callable[..., RunFolder]
) -> None:
    folder = run_of("strategy=source_only", "engine.epochs=6")
    code, out, err = distance(folder.path, "--json", "-")
    assert (code, err) == (0, "")
    found = spaces(out)
    assert list(found) == ["inputs", "start (random weights, seed 0)", "selected"]
    head = found["selected"]["terms"]
    assert head["source_error_of"] == "the model's head" and head["joint_error_labels"] == "withheld"
    rows = json.loads(out)["rows"]
    assert (rows, json.loads(out)["split"]) == (200, "test")
    _, again, _ = distance(*PAIR, "model=mlp", "model.widths=[24,12]", "--split", "test", "--json", "-")
    names = ("start (random weights, seed 0)",) * 2
    values = [
        spaces(text)[name]["distances"]["frechet"]["value"] for text, name in zip((out, again), names, strict=True)
    ]
    assert values[0] == values[1]  # the run did start there


@pytest.mark.slow
def test_a_start_that_is_gone_is_told_and_the_rest_is_measured(distance: Run, run_of: Callable[..., RunFolder]) -> None:
    folder = run_of("strategy=fine_tune", "data.target_labels=5")
    found = spaces(distance(folder.path, "--json", "-")[1])
    assert list(found) == ["inputs", "start (the source model)", "selected"]
    for other in folder.path.parent.iterdir():
        if other != folder.path:
            (other / "status.json").unlink()
    code, out, err = distance(folder.path, "--json", "-")
    assert code == 0 and list(spaces(out)) == ["inputs", "selected"]
    assert err.startswith("no features of the start: model.weights: the source model ")


def test_raw_inputs_are_what_was_drawn_and_large_images_are_averaged_down(
    config: Callable[..., ExperimentConfig],
) -> None:
    data = name_choices(config(*TOY, "strategy=source_only")).data
    pair = load_pair(data, seed=0, device=torch.device("cpu"))
    parts = choose_parts(pair, "test", rows=50, with_labels=True)
    space = raw_inputs(pair, parts)
    assert space.source.x.shape == (50, 2) and space.granted is space.target
    drawn = {tuple(row) for row in pair.parts["source_test"].x.tensor().double().tolist()}
    assert {tuple(row) for row in space.source.x.tolist()} <= drawn


def test_rules_of_thumb_are_named_as_such() -> None:
    assert rules_of_thumb({"a_distance_linear": 0.5, "mmd": 0.3}) == []
    said = rules_of_thumb({"a_distance_linear": 0.51, "mmd": 0.6})
    assert len(said) == 2 and all(
        text.startswith("rule of thumb (a habit of practice, from no paper): ") and "unlikely" in text for text in said
    )
    assert rules_of_thumb({"a_distance_linear": 0.2, "mmd": None}) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data=toy_gausians",), "data=toy_gausians: no such pair; did you mean toy_gaussians?"),
        (("nowhere",), "tlrun distance: nowhere is no run folder, and no setting (KEY=VALUE) either\n"),
        ((".",), "tlrun distance: . is no run folder: it has no status.json\n"),
        (("a", "b"), "tlrun distance: name one RUN, or settings; got a b\n"),
        ((*PAIR, "--rows", "9"), "tlrun distance: --rows: must be at least 10, got 9\n"),
        ((*PAIR, "--split", "all"), "tlrun distance: argument --split: invalid choice: 'all'"),
        ((*PAIR, "--spit", "test"), "distance: --spit: no such option; see tlrun distance --help\n"),
        (
            (*PAIR, "data.source_rows=5"),
            "distance: needs 10 train rows of each domain, got 5 of the source and 180 of ",
        ),
        ((*PAIR, "strategy=fine_tune", "model=mlp"), "model.weights: the source model outputs/"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(distance: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = distance(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)


def test_a_folder_of_runs_is_no_run(distance: Run, run_of: Callable[..., RunFolder]) -> None:
    folder = run_of("strategy=source_only")
    code, _, err = distance(folder.path.parent)
    assert code == 2 and err.endswith("is no run folder: it holds run folders, name one of them\n")
    folder.write_status("failed", "the disk is full")
    assert distance(folder.path)[::2] == (1, "the run is failed (the disk is full)\n")
