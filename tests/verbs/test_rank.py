"""The verb `rank`: what it starts from, which labels it reads, what it shows, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.runs import TOY
from tlrun.cli import main
from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig
from tlrun.data.cache import encoded
from tlrun.data.domain import load_pair
from tlrun.evidence import ranking
from tlrun.evidence.ranking import Candidate, ordered, places
from tlrun.metrics.transferability import SCORES, leep, logme
from tlrun.run import RunFolder
from tlrun.strategies.base import Strategy
from tlrun.trained import load_trained
from tlrun.verbs.rank import lines

SETTINGS = tuple(each for each in TOY if not each.startswith(("model=", "data=")))
MODELS = ("models=mlp", "data=toy_gaussians", *SETTINGS)
SOURCES = ("sources=toy_gaussians,moons", "data=toy_gaussians", "data.source.classes=[negative,positive]", *SETTINGS)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tlrun rank ...` in an empty folder: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["rank", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def silent(*_: object) -> None:
    pass


def test_a_target_without_labels_is_told_that_scores_read_them(rank: Run, tmp_path: Path) -> None:
    for number in range(20):
        Image.new("L", (28, 28), number * 10).save(tmp_path / f"{number}.png")
    target = ("domain@data.target=folder", f"data.target.root={tmp_path}", "data.target_labels=2", "model=lenet")
    code, out, err = rank("sources=digits,synthetic_digits", *target)
    assert (code, out) == (2, "")
    assert err.startswith(
        f"rank: no train row of {tmp_path.name} has a label that data.target_labels=2 could grant, and"
    )
    assert "tlrun distance" in err and err.count("\n") == 1


@pytest.mark.slow
def test_sources_are_trained_once_and_ranked(rank: Run, tmp_path: Path) -> None:
    code, out, err = rank(*SOURCES)
    assert code == 0
    assert [line.partition(": training its source model outputs/")[0] for line in err.splitlines()] == [
        "toy_gaussians", "moons"
    ]  # fmt: skip
    assert {path.name.rpartition("-s0")[0] for path in (tmp_path / "outputs").iterdir()} == {
        "toy_gaussians-source_only", "moons_toy_gaussians-source_only"
    }  # fmt: skip
    shown = out.splitlines()
    assert shown[0].startswith("toy_gaussians: 10 labelled train rows of 2 classes (data.target_labels=5, seed 0)")
    assert shown[2].split() == ["source", *(word for name in SCORES.values() for word in (name, "#")), "start"]
    best = shown[3].split()[0]
    assert {best, shown[4].split()[0]} == {"toy_gaussians", "moons"}
    assert "ordered by LogME" in shown
    assert shown[-1].startswith("to start from the first: tlrun strategy=fine_tune data=toy_gaussians ")
    assert shown[-1].endswith(f" domain@data.source={best}")
    code, table, err = rank(*SOURCES, "--by", "knn", "--csv", "-", "--json", tmp_path / "rank.json")
    assert (code, err) == (0, "")  # nothing is trained again
    check_files(list(csv.DictReader(table.splitlines())), json.loads((tmp_path / "rank.json").read_text()))


def check_files(rows: list[dict[str, str]], content: dict[str, Any]) -> None:
    """The CSV and the JSON say the same, in the order that was asked for."""
    assert (content["format"], content["by"], content["ranked"], content["rows"]) == (1, "knn", "sources", 10)
    assert [row["name"] for row in rows] == [each["name"] for each in content["candidates"]]
    for row, each in zip(rows, content["candidates"], strict=True):
        assert each["source_model_trained_now"] is False and each["source_model_seconds"] > 0
        for name in SCORES:
            assert float(row[name]) == each["scores"][name]["value"]
            assert int(row[f"{name}_rank"]) == each["scores"][name]["rank"]
            assert float(row[f"{name}_seconds"]) == each["scores"][name]["seconds"]
    accuracies = [each["scores"]["knn"]["value"] for each in content["candidates"]]
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.slow
def test_scores_are_those_of_the_source_models_own_output_on_the_granted_rows(
    rank: Run, config: Callable[..., ExperimentConfig]
) -> None:
    _, out, _ = rank(*MODELS, "--json", "-")
    (folder,) = Path("outputs").iterdir()
    trained = load_trained(folder)
    data = name_choices(config(*TOY, "strategy=fine_tune")).data
    granted = load_pair(data, seed=0, device=torch.device("cpu")).parts["target_granted"]
    output = trained.encode(granted)
    assert granted.y is not None
    x, y = output.features.double().numpy(), granted.y.numpy()
    (found,) = json.loads(out)["candidates"]
    assert found["scores"]["logme"]["value"] == pytest.approx(logme(x, y), abs=1e-6)
    probabilities = output.logits.double().softmax(1).numpy()
    assert found["scores"]["leep"]["value"] == pytest.approx(leep(probabilities, y), abs=1e-6)
    assert (found["features"], found["start"]) == (12, "mlp trained on toy_gaussians")
    assert [found["scores"][name]["rank"] for name in SCORES] == [1] * len(SCORES)


def test_labels_that_were_not_granted_are_not_read(
    config: Callable[..., ExperimentConfig], monkeypatch: pytest.MonkeyPatch, run_of: Callable[..., RunFolder]
) -> None:
    candidate = Candidate("run", config(*TOY, "strategy=fine_tune"), run_of("strategy=source_only").path)
    whole = ranking.load_pair

    def without_other_labels(*arguments: Any, **keywords: Any) -> Any:
        pair = whole(*arguments, **keywords)
        assert pair.parts["target_unlabelled"].y is None
        for name in ("target_val", "target_test"):
            pair.parts[name].y.fill_(0)
        return pair

    before = ranking.score(ranking.find_start(candidate, command="", tell=silent), most=99, between_blocks=silent)
    monkeypatch.setattr(ranking, "load_pair", without_other_labels)
    after = ranking.score(ranking.find_start(candidate, command="", tell=silent), most=99, between_blocks=silent)
    assert {name: each.value for name, each in before.scores.items()} == {
        name: each.value for name, each in after.scores.items()
    }
    assert len(before.rows.y) == 10


def test_rows_are_encoded_once_and_kept(
    config: Callable[..., ExperimentConfig],
    run_of: Callable[..., RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = f"data.cache_root={tmp_path / 'cache'}"
    candidate = Candidate("run", config(*TOY, "strategy=fine_tune", cache), run_of("strategy=source_only").path)
    start = ranking.find_start(candidate, command="", tell=silent)
    monkeypatch.setattr(encoded, "_is_worth_keeping", lambda blocks, began: True)
    first = ranking.encode(start, most=99, between_blocks=silent)
    monkeypatch.setattr(Strategy, "encode_prefix", lambda *_: pytest.fail("encoded again"))
    again = ranking.encode(start, most=99, between_blocks=silent)
    assert np.array_equal(first.features, again.features) and np.array_equal(first.y, again.y)
    some = ranking._some(start.pair.parts["target_granted"], 4)
    assert len(some) == 4 and set(some.index.tolist()) < set(start.pair.parts["target_granted"].index.tolist())


@pytest.mark.slow
def test_a_run_folder_may_know_other_classes_and_what_it_learnt_is_told(
    rank: Run, run_of: Callable[..., RunFolder]
) -> None:
    other = run_of("data=moons", "strategy=source_only", "model.widths=[6]").path
    same = run_of("strategy=target_only").path
    code, out, err = rank(f"sources={other},{same}", "domain@data.target=toy_gaussians", "data.target_labels=4",
                          "data.image_size=null", "data.channels=null", "model=mlp", "device=cpu")  # fmt: skip
    assert (code, err) == (0, "")
    assert "mlp by source_only on moons" in out and "mlp by target_only on toy_gaussians" in out
    assert f"note: {same} has learnt from labels of toy_gaussians itself (all), which flatters it" in out
    assert f"note: {other}" not in out and "blank" not in out
    assert out.splitlines()[3].split()[0] in map(str, (other, same)) and "to start from" not in out


@pytest.mark.slow
def test_a_model_without_a_trained_head_leaves_blanks_and_says_why(rank: Run) -> None:
    random = (*MODELS, "model.weights=random")
    code, out, _ = rank(*random)
    assert code == 0
    assert out.splitlines()[3].split()[3:5] == ["-", "-"]
    assert "LEEP and NCE of mlp are blank: random weights, seed 0: no trained head" in out
    code, out, err = rank(*random, "--by", "leep")
    assert (code, out) == (2, "")
    assert err == "rank: --by leep: needs a trained head, and no candidate has one; leave it out, or take knn\n"


def test_places_are_shared_and_what_has_no_value_is_last() -> None:
    values = {"a": 1.0, "b": None, "c": 3.0, "d": 1.0}
    assert places(values) == {"a": 2, "b": None, "c": 1, "d": 2}
    assert ordered(values) == ["c", "a", "d", "b"]


def test_disagreement_about_the_first_is_told() -> None:
    def content(**first: list[str]) -> dict[str, Any]:
        cell = {"value": 1.0, "rank": 1, "seconds": 0.0}
        one = {"start": "", "scores": dict.fromkeys(SCORES, cell), "encode_seconds": 0.0, "no_head": None, "notes": [],
               "source_model_seconds": None, "command": None}  # fmt: skip
        common = {
            "target": "t",
            "target_labels": 5,
            "seed": 0,
            "rows": 9,
            "classes": 3,
            "by": "knn",
            "ranked": "models",
        }
        return {**common, "first": first, "candidates": [{**one, "name": name} for name in ("a", "b")]}

    assert "scores disagree about the first: LogME, k-NN: a; LEEP: a = b" in list(
        lines(content(logme=["a"], leep=["a", "b"], knn=["a"]))
    )
    assert "all scores put first: b" in list(lines(content(logme=["b"], knn=["b"])))


@pytest.mark.slow
def test_a_source_that_does_not_fit_is_told_before_any_is_trained(rank: Run, tmp_path: Path) -> None:
    code, out, err = rank(*(each for each in SOURCES if not each.startswith("data.source.classes")))
    assert (code, out) == (2, "")
    assert err.startswith("data.label_sets: closed does not allow that only moons (source) has upper, lower")
    assert err.endswith("[in moons]\n") and not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_run_folder_that_is_none_is_told_before_another_candidate_is_trained(rank: Run, tmp_path: Path) -> None:
    code, out, err = rank(*MODELS[1:], "models=mlp,./nowhere")
    assert (code, out) == (2, "") and not (tmp_path / "outputs").exists()
    assert err == "nowhere: no such run folder, and no checkpoint of this name\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("data=toy_gaussians",), "rank: name what to choose from, models=A,B,C or sources=A,B,C, one of the two; got neither"),
        (("models=mlp", "sources=moons"), "rank: name what to choose from, models=A,B,C or sources=A,B,C, one of the two; "
                                          "got models and sources"),
        (("models=mlp,mlp",), "rank: models=mlp,mlp: must be names or paths with commas between them, each once"),
        (("models=mlp,",), "rank: models=mlp,: must be names or paths with commas between them, each once"),
        (("models=mlp", "model=mlp"), "rank: model=mlp: models= chooses it; leave it out"),
        (("models=mlp", "moons"), "rank: moons: is no setting (KEY=VALUE)"),
        (("models=mlp", "--bye"), "rank: --bye: no such option; see tlrun rank --help"),
        (("models=mlp", "--by", "accuracy"), "tlrun rank: argument --by: invalid choice: 'accuracy'"),
        (("models=mlp", "--csv", "-", "--json", "-"), "rank: --csv and --json cannot both go to standard output"),
        ((*MODELS[1:], "models=mlpp"), "model=mlpp: no such model; did you mean mlp?"),
        ((*MODELS[1:], "sources=moon,toy_gaussians"), "domain@data.source=moon: no such domain; did you mean moons?"),
        ((*MODELS, "seed=0,1"), "rank: takes one value of every setting, and neither a launcher nor a sweeper of Hydra"),
        ((*MODELS, "data.target_labels=none"), "rank: data.target_labels: every score reads target labels and none are granted"),
        ((*MODELS, "data.target_labels=none", "strategy=dann"), "rank: data.target_labels: every score reads target labels"),
        ((*MODELS, "data.target_labels=1"), "rank: the labelled rows of toy_gaussians (data.target_labels=1) are too few"),
        ((*MODELS, "--rows", "1"), "rank: the labelled rows of toy_gaussians (data.target_labels=5) are all of one class"),
    ],
)  # fmt: skip
def test_a_wrong_command_says_what_is_wrong_in_a_line(rank: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = rank(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said) and err.count("\n") == 1
