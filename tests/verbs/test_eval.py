"""The verb `eval`: a run's own figures again, and those on any other domain, split or pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.file_trees import damage
from tests.trained_runs import CLASSES, photos
from tlrun.cli import main
from tlrun.files import read_table
from tlrun.run import RunFolder
from tlrun.run_files import unknown_files

Run = Callable[..., tuple[int, str, str]]

COLOURED = ("domain@data.target=mnist", "data.target.name=tests.engine.small_digits", "+data.target.colours=true")


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tlrun eval ...` in an empty folder: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["eval", *map(str, arguments), "--device", "cpu", "--threads", "1"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.slow
def test_a_runs_own_data_give_its_own_figures_and_files(digits: RunFolder, evaluate: Run, tmp_path: Path) -> None:
    before = sorted(digits.path.rglob("*"))
    code, out, err = evaluate(digits.path, "--output", "out")
    assert (code, err) == (0, "\nfiles: out\n")
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    found = {f"{each['domain']}_{each['split']}": each for each in written["splits"]}
    summary = digits.read_summary()
    assert list(found) == ["source_val", "source_test", "target_val", "target_test"]
    assert all(each["accuracy"] == summary[f"{name}_accuracy"] for name, each in found.items())
    for figure in ("macro_f1", "loss", "calibration_error"):
        assert found["target_test"][figure] == pytest.approx(summary[f"target_test_{figure}"], abs=1e-6)
    place = RunFolder(tmp_path / "out")
    assert place.read_confusion("target", "test") == digits.read_confusion("target", "test")
    predictions = read_table(tmp_path / "out" / "predictions_target.csv")
    predictions = predictions[predictions["split"] == "test"].reset_index(drop=True)
    assert predictions.equals(digits.read_predictions())
    classes, own = place.read_classes(), digits.read_classes()
    assert classes.equals(own[own["epoch"] == summary["selected_epoch"]].drop(columns="epoch").reset_index(drop=True))
    assert f"target test   100       100    {100 * summary['target_test_accuracy']:.1f} %" in out
    assert sorted(digits.path.rglob("*")) == before and unknown_files(digits.path) == []


@pytest.mark.slow
def test_another_domain_in_the_targets_place_is_evaluated_alone(digits: RunFolder, evaluate: Run) -> None:
    code, out, _ = evaluate(digits.path, *COLOURED, "--split", "test")
    assert code == 0
    assert out.startswith("target: tests.engine.small_digits\n")
    accuracy = digits.read_summary()["target_test_accuracy"]
    assert f"target test   100       100    {100 * accuracy:.1f} %" in out  # it is the run's own under another hand
    assert "source" not in out
    other = evaluate(digits.path, "domain@data.source=digits", "--split", "test")[1]
    assert "source test   359       359" in other and "target" not in other


@pytest.mark.slow
def test_a_pair_is_evaluated_whole_or_one_domain_of_it(digits: RunFolder, evaluate: Run) -> None:
    pair = ("data=pair", "domain@data.source=digits", "domain@data.target=digits", "data.test_fraction=0.1")
    code, out, _ = evaluate(digits.path, *pair, "--split", "test")
    assert (code, out.count("test   180       180")) == (0, 2)
    assert "source" not in evaluate(digits.path, *pair, "--domain", "target")[1]


@pytest.mark.slow
def test_all_of_a_folder_is_evaluated_also_where_it_lacks_classes_or_labels(
    photo: RunFolder, evaluate: Run, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "mine", shade=40, count=2)
    place = ("domain@data.target=folder", f"data.target.root={folder}", "--split", "all")
    code, out, _ = evaluate(photo.path, *place, "--output", "out")
    assert (code, out.splitlines()[0]) == (0, "target: mine")
    assert "target all     6         6" in out
    found = read_table(tmp_path / "out" / "predictions_target.csv")
    assert set(found["label"]) == set(CLASSES) and set(found["split"]) == {"all"}
    assert sorted(found["path"]) == sorted(str(path) for path in folder.rglob("*.*"))

    (folder / CLASSES[0]).rename(tmp_path / "flat")
    code, _, err = evaluate(photo.path, *place)
    assert (code, err) == (
        2,
        "data.label_sets: closed does not allow that only the run has blue bag; "
        "set data.label_sets=partial if that is meant\n",
    )
    assert "target all     4         4" in evaluate(photo.path, *place, "data.label_sets=partial")[1]
    code, out, _ = evaluate(photo.path, *place[:1], f"data.target.root={tmp_path / 'flat'}", "--split", "all")
    assert (code, "target all     2         0" in out, "by class" in out) == (0, True, False)


@pytest.mark.slow
def test_files_that_are_left_out_are_told_once(
    photo: RunFolder, evaluate: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = photos(tmp_path / "mine", shade=40, count=8)
    damage(folder / CLASSES[2] / "0.png")
    place = ("domain@data.target=folder", f"data.target.root={folder}", "data.on_bad_image=skip")
    code, out, _ = evaluate(photo.path, *place, "--split", "train,test")
    assert (code, out.splitlines()[0]) == (0, "target: mine")
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        f"mine: 1 of 24 image files left out, which give no image: {CLASSES[2]}/0.png; `tlrun data check` names all of them"
    ]


@pytest.mark.slow
def test_classes_that_the_run_does_not_know_are_named(photo: RunFolder, evaluate: Run, tmp_path: Path) -> None:
    folder = photos(tmp_path / "mine", shade=40, count=3)
    (folder / CLASSES[1]).rename(folder / "yellow")
    place = ("domain@data.target=folder", f"data.target.root={folder}", "--split", "all")
    said = "data.label_sets: {} does not allow that only mine (target) has yellow and only the run has green,bin\n"
    assert evaluate(photo.path, *place) == (2, "", said.format("closed"))
    (folder / CLASSES[0]).rename(folder / CLASSES[1])
    (folder / CLASSES[1] / "0.png").rename(folder / "0.png")
    (folder / CLASSES[0]).mkdir()
    (folder / "0.png").rename(folder / CLASSES[0] / "0.png")
    out = evaluate(photo.path, *place, "data.label_sets=open")[1]
    assert "target all     9         6" in out  # those of class yellow have no right answer


def test_a_finished_runs_data_need_not_be_there_for_other_data(photo: RunFolder, evaluate: Run) -> None:
    code, _, err = evaluate(photo.path)
    assert code == 2
    assert "source" in err and "is not there" in err  # its own source is gone
    kept = photo.path.parent / "kept"
    code, out, _ = evaluate(photo.path, f"data.target.root={kept}", "--split", "test")
    assert (code, out.splitlines()[0]) == (0, "target: kept")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("optim.lr=1", "strategy=dann"), [
            "optim.lr: not a setting of data; an evaluation takes data=..., domain@data...=... and data.<key>=...",
            "strategy: not a setting of data; an evaluation takes data=..., domain@data...=... and data.<key>=...",
        ]),
        (("data.image_size=32",), ["data.image_size: is the run's own (28), since its model takes no other inputs"]),
        (("data.rot=x",), ["data.rot=x: unknown key; did you mean data.root?"]),
        (("data=toy_gaussians",), ["data: toy_gaussians (source) has 2 features, and the run's model takes images of 28x28"]),
        (("--split", "tst"), ["eval: --split tst: must be of train, val, test, all, or several with commas"]),
        (("--spilt", "test"), ["eval: --spilt: no such option; see tlrun eval --help"]),
        ((*COLOURED, "--domain", "source"), ["eval: --domain source: is not among what is evaluated (target)"]),
        (("data.workers=0",), ["data.workers: must be at least 1, got 0"]),
        (("data.val_fraction=0.4",), [
            "data.val_fraction: would split the run's own rows anew, so that rows it has learnt from could be tested; name "
            "what to evaluate on, with domain@data.target=... or data.target.KEY=..."
        ]),
    ],
)  # fmt: skip
def test_a_wrong_command_says_what_is_wrong(
    arguments: tuple[str, ...], said: list[str], digits: RunFolder, evaluate: Run
) -> None:
    code, out, err = evaluate(digits.path, *arguments)
    assert (code, out, err.splitlines()) == (2, "", said)


def test_nothing_is_written_into_a_run(digits: RunFolder, evaluate: Run) -> None:
    said = f"lies in the run folder {digits.path}; name another place\n"
    for place in (digits.path, digits.path / "plots"):
        code, _, err = evaluate(digits.path, "--output", place)
        assert (code, err) == (2, f"tlrun eval: argument --output: {place} {said}")


def test_an_output_that_is_no_folder_is_told_before_anything_is_read(evaluate: Run) -> None:
    Path("file.py").touch()
    Path("link").symlink_to("nowhere")
    for place, wrong in (("file.py", "file.py"), ("file.py/deep/er", "file.py"), ("link", "link")):
        told = f"tlrun eval: argument --output: {wrong} is no folder\n"
        assert evaluate("nowhere", "--output", place) == (2, "", told)


def test_an_evaluation_takes_the_place_of_an_earlier_one(digits: RunFolder, evaluate: Run, tmp_path: Path) -> None:
    def names() -> list[str]:
        return sorted(path.name for path in (tmp_path / "out").iterdir())

    (tmp_path / "out").mkdir()
    for name in ("confusion_source_val.csv", "notes.txt"):
        (tmp_path / "out" / name).touch()
    assert evaluate(digits.path, "--output", "out", "--domain", "target", "--split", "test")[0] == 0
    target = ["classes.csv", "confusion_source_val.csv", "confusion_target_test.csv", "evaluation.json", "notes.txt"]
    assert names() == [*target, "predictions_target.csv"]  # without an evaluation.json it was no evaluation's
    assert evaluate(digits.path, "--output", "out", "--domain", "source", "--split", "test")[0] == 0
    source = ["classes.csv", "confusion_source_test.csv", "evaluation.json", "notes.txt", "predictions_source.csv"]
    assert names() == source
