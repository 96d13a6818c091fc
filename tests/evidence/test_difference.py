"""What differs between two finished runs: each part against folders whose differences are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Finished, finished
from tlrun.cli import main
from tlrun.config import ConfigError
from tlrun.evidence import difference as module
from tlrun.evidence.difference import Agreement, ClassChange, Course, difference
from tlrun.run import Prediction, RunFolder

__all__ = ["finished"]

CLASSES = ("a", "b")
CARD = {"pair": "mnist_usps", "classes": list(CLASSES), "fingerprint": "f", "target": {"rows": {"test": 8}}}
ENVIRONMENT = {"command": "tlrun seed=0", "versions": {"torch": "2.13.0"}, "git": None, "threads": 1}
METRICS = ("epoch", "step", "phase", "loss", "target_test_accuracy", "seconds")

Pair = Callable[..., tuple[Path, Path]]


def predicted(labels: str, predictions: str) -> list[Prediction]:
    """A row a letter; a dot is a label that nobody knows."""
    return [
        Prediction(
            "test", row, CLASSES.index(label) if label != "." else -1, [0.9, 0.1] if found == "a" else [0.2, 0.8]
        )
        for row, (label, found) in enumerate(zip(labels, predictions, strict=True))
    ]


def epochs(losses: Sequence[float | None]) -> list[dict[str, Any]]:
    return [
        {"epoch": number, "step": 4 * number, "phase": "train", "loss": loss, "seconds": number + (loss or 0.0)}
        for number, loss in enumerate(losses, 1)
    ]


@pytest.fixture
def write(finished: Finished) -> Callable[..., RunFolder]:
    """The folder of a finished run with all that a comparison reads."""

    def folder(
        *overrides: str,
        seed: int = 0,
        predictions: str = "aabb",
        labels: str = "aabb",
        losses: Sequence[float | None] = (3.0, 2.0, 1.0),
        **more: Any,
    ) -> RunFolder:
        run = finished("mmd", *overrides, seed=seed, **more.pop("summary", {}))
        run.write_data_card({**CARD, **more.get("card", {})})
        run.write_environment({**ENVIRONMENT, **more.get("environment", {})})
        run.write_predictions(CLASSES, predicted(labels, predictions))
        run.write_metrics(more.get("columns", METRICS), epochs(losses))
        run.write_confusion("target", "test", CLASSES, more.get("confusion", [[2, 0], [1, 3]]))
        return run

    return folder


@pytest.mark.slow
def test_only_settings_that_differ_are_told_under_their_full_names(write: Callable[..., RunFolder]) -> None:
    found = difference(write().path, write("optim.lr=0.5", seed=1).path)
    assert found.config == {"optim.lr": (found.config["optim.lr"][0], 0.5), "seed": (0, 1)}
    assert found.config["optim.lr"][0] != 0.5


def test_a_setting_that_one_run_alone_has_is_told(write: Callable[..., RunFolder], finished: Finished) -> None:
    first, second = write(), write(seed=1)
    content = second.config.read_text().replace("  plots: false\n", "")
    second.config.write_text(content)
    assert difference(first.path, second.path).config["run.plots"] == (False, None)


def test_data_and_environment_differ_under_dotted_keys(write: Callable[..., RunFolder]) -> None:
    first = write()
    second = write(
        seed=1,
        card={"fingerprint": "g", "target": {"rows": {"test": 9}}},
        environment={"command": "tlrun seed=1", "versions": {"torch": "2.14.0"}, "git": {"revision": "abc"}},
    )
    found = difference(first.path, second.path)
    assert found.data == {"fingerprint": ("f", "g"), "target.rows.test": (8, 9)}
    expected = {"versions.torch": ("2.13.0", "2.14.0"), "git": (None, None), "git.revision": (None, "abc")}
    assert found.environment == {key: both for key, both in expected.items() if key != "git"}
    assert found.commands == ("tlrun seed=0", "tlrun seed=1")


def test_results_are_all_told_and_those_that_neither_has_are_not(write: Callable[..., RunFolder]) -> None:
    first, second = write(summary={"accuracy": 0.5}), write(seed=1, summary={"accuracy": 0.75, "forgetting": 0.125})
    found = difference(first.path, second.path).results
    assert found["target_test_accuracy"] == (0.5, 0.75)
    assert found["forgetting"] == (None, 0.125)
    assert "twin_agreement" not in found


def test_predictions_are_counted_row_by_row_with_mcnemars_exact_p(write: Callable[..., RunFolder]) -> None:
    labels = "aaaaaaaaaabb.."
    first = write(labels=labels, predictions="aaaaaaaaaabbab")
    second = write(labels=labels, predictions="abbbbbaaaabaaa", seed=1)
    found = difference(first.path, second.path).agreement
    # Six rows that the first alone has right and none the other way: 2 * (1/2)^6.
    assert found == Agreement(rows=14, same=7, labelled=12, both_right=6, first_alone=6, second_alone=0, p=2 / 64)
    turned = difference(second.path, first.path).agreement
    assert turned is not None
    assert (turned.first_alone, turned.second_alone, turned.p) == (0, 6, 2 / 64)


def test_equal_predictions_have_p_1(write: Callable[..., RunFolder]) -> None:
    found = difference(write().path, write(seed=1).path).agreement
    assert found == Agreement(rows=4, same=4, labelled=4, both_right=4, first_alone=0, second_alone=0, p=1.0)


def test_predictions_for_other_rows_are_not_held_together(write: Callable[..., RunFolder]) -> None:
    first = write()
    assert difference(first.path, write(seed=1, labels="aaab").path).agreement is None
    assert difference(first.path, write(seed=2, labels="aab", predictions="aab").path).agreement is None


def test_predictions_of_the_first_folders_that_tlrun_wrote_are_read(write: Callable[..., RunFolder]) -> None:
    first, second = write(), write(seed=1)
    lines = [line.partition(",")[2] for line in second.predictions.read_text().splitlines()]
    assert lines[0].startswith("row,label")
    second.predictions.write_text("\n".join(lines) + "\n")
    found = difference(first.path, second.path).agreement
    assert found is not None and found.rows == 4


def test_a_class_changes_by_the_share_that_is_right(write: Callable[..., RunFolder]) -> None:
    found = difference(write().path, write(seed=1, confusion=[[0, 0], [2, 2]]).path).classes
    assert found == (ClassChange("a", (2, 0), (1.0, None)), ClassChange("b", (4, 4), (0.75, 0.5)))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((3.0, 2.0, 1.0), (3.0, 2.0, 1.0), Course(3, (3, 3), None, None, (), ((), ()))),
        ((3.0, 2.0, 1.0), (3.0, 2.0000000000000004, 1.0), Course(1, (3, 3), 2, 8, ("loss",), ((), ()))),
        ((3.0, None), (3.0, None, 1.0), Course(2, (2, 3), None, None, (), ((), ()))),
        ((3.0, None), (3.0, 1.0), Course(1, (2, 2), 2, 8, ("loss",), ((), ()))),
        ((1.0,), (3.0,), Course(0, (1, 1), 1, 4, ("loss",), ((), ()))),
    ],
)
def test_the_first_epoch_that_differs_in_a_bit_is_found_timings_aside(
    write: Callable[..., RunFolder], first: Sequence[float | None], second: Sequence[float | None], expected: Course
) -> None:
    folders = write(losses=first), write(losses=second, seed=1)
    rows = epochs(second)
    folders[1].write_metrics(METRICS, [row | {"seconds": 99.0} for row in rows])
    assert difference(folders[0].path, folders[1].path).course == expected


def test_columns_that_one_run_alone_has_are_named_and_not_compared(write: Callable[..., RunFolder]) -> None:
    folders = write(), write(seed=1, columns=(*METRICS, "score_new"))
    assert difference(folders[0].path, folders[1].path).course == Course(
        3, (3, 3), None, None, (), ((), ("score_new",))
    )


# -- wrong input ----------------------------------------------------------------------------------------------------


def newer(folder: RunFolder) -> None:
    folder.summary.write_text(folder.summary.read_text().replace('"format": 1', '"format": 2'))


def damage(name: str, text: str) -> Callable[[RunFolder], None]:
    return lambda folder: (folder.path / name).write_text(text) and None


def unfinished(folder: RunFolder) -> None:
    folder.write_status("failed", "out of memory")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (newer, "diff: {path}: {path}/summary.json was written by a newer tlrun (format 2, this one reads 1); update tlrun"),
        (unfinished, "diff: {path}: the run is failed (out of memory)"),
        (lambda folder: folder.status.unlink(), "diff: {path}: not a run folder, or half-written: it has summary.json and "
         "config.yaml and metrics.csv but no status.json"),
        (lambda folder: folder.metrics.unlink(), "diff: cannot read {path}/metrics.csv: No such file or directory"),
        (lambda folder: folder.environment.unlink(), "diff: cannot read {path}/environment.json: No such file or directory"),
        (damage("predictions.csv", "row,label\n1,a\n"), "diff: {path}/predictions.csv is damaged (it lacks prediction)"),
        (damage("summary.json", '{"format": 1, "regret": "x"}'), "diff: {path}: {path}/summary.json is damaged (regret must "
         "be float or None, got 'x')"),
        (lambda folder: shutil.rmtree(folder.path), "diff: {path} is not there, must be a run folder"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_whole_run_is_told_in_a_line(
    write: Callable[..., RunFolder], spoil: Callable[[RunFolder], None], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(), write(seed=1)
    spoil(second)
    assert main(["diff", str(first.path), str(second.path)]) == 2
    assert capsys.readouterr() == ("", told.format(path=second.path) + "\n")


def test_what_is_no_run_folder_is_told(tmp_path: Path, write: Callable[..., RunFolder]) -> None:
    first = write().path
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="file is a file, must be a run folder"):
        difference(tmp_path / "file", first)
    with pytest.raises(
        ConfigError, match="empty is no run folder: it has none of status.json, summary.json, config.yaml"
    ):
        difference(first, tmp_path / "empty")


def test_runs_of_different_pairs_are_refused(write: Callable[..., RunFolder], finished: Finished) -> None:
    other = finished("mmd", "data=usps_mnist", "engine.precision=fp32")
    with pytest.raises(ConfigError) as error:
        difference(write().path, other.path)
    assert str(error.value).endswith(
        f"of mnist_usps, {other.path} of usps_mnist; only runs on the same pair can be held together"
    )


# -- the verb -------------------------------------------------------------------------------------------------------


def test_the_verb_tells_everything_in_tables_and_sentences(
    write: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(summary={"accuracy": 0.5})
    second = write("optim.lr=0.5", seed=1, predictions="abbb", losses=(3.0, 2.0, 0.5), summary={"accuracy": 0.75})
    assert main(["diff", str(first.path), str(second.path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert f"first: {first.path}" in lines and f"second: {second.path}" in lines
    assert "optim.lr 0.002 0.5" in lines or any(
        line.startswith("optim.lr ") and line.endswith(" 0.5") for line in lines
    )
    assert "the same: data, environment" in lines
    assert "target_test_accuracy 50.00 % 75.00 % +25.00" in lines
    assert "regret 0.00 % 0.00 % =" in lines
    assert "b 4 4 75.00 75.00 =" in lines
    assert "predictions: the same for 3 of 4 target test rows" in lines
    assert (
        "right: of 4 with a label both have 3, the first alone 1, the second alone 0 (McNemar's exact test: p = 1)"
        in lines
    )
    assert "metrics.csv: bit-equal until epoch 2; at epoch 3 (step 12) they differ in loss" in lines


def test_json_holds_everything_and_a_dash_prints_it_alone(
    write: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folders = [str(write().path), str(write(seed=1).path)]
    assert main(["diff", *folders, "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["diff", *folders, "--json", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text()) == printed
    assert capsys.readouterr().out.startswith("first: ")
    assert printed["format"] == 1
    assert printed["config"] == {"seed": [0, 1]}
    assert printed["agreement"]["p"] == 1.0
    assert printed["course"]["equal"] == 3
    assert printed.keys() - {"format"} == module.Difference.__dataclass_fields__.keys()
