"""The diagnosis of a whole report: which tables it has, what JSON says, and what damaged files leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.conftest import Finished
from tlrun.files import RunError
from tlrun.report.collect import collect
from tlrun.report.diagnosis import diagnose
from tlrun.report.groups import group
from tlrun.report.predicted import read_predicted
from tlrun.run import Prediction

TITLES = ["Classes: ", "Classes lost ", "Calibration ", "Label shift: "]


def test_floor_method_and_ceiling_have_the_tables_that_concern_them(finished: Finished, tmp_path: Path) -> None:
    for strategy in ("source_only", "dann", "target_only"):
        finished(strategy)
    finished("dann").write_confusion("target", "test", ("a", "b"), [[7, 2], [0, 9]])
    finished("dann", "optim.lr=1")  # without a floor
    tables = diagnose(group(collect([tmp_path]).runs)).tables()
    assert [table.title.startswith(title) for table, title in zip(tables, (TITLES[0], *TITLES[2:]), strict=True)]
    changes, calibration, shares = ([row[1] for row in table.rows] for table in tables)
    assert changes == ["dann"]
    assert calibration == ["source_only", "dann", "dann", "target_only"]
    assert shares == [
        "labels of source validation rows",
        "labels of target test rows",
        "source_only",
        "dann",
        "dann",
    ]


def test_two_pairs_have_a_table_of_shares_each(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    finished("source_only", "data=toy_gaussians")
    tables = diagnose(group(collect([tmp_path]).runs)).tables()
    assert [table.rows[0][0] for table in tables] == ["mnist_usps", "mnist_usps", "toy_gaussians"]


def test_json_has_every_figure(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    finished("dann").write_confusion("target", "test", ("a", "b"), [[6, 3], [0, 9]])
    found = json.loads(json.dumps(diagnose(group(collect([tmp_path]).runs)).plain(), allow_nan=False))
    (classes,) = found["classes"]
    assert (classes["strategy"], classes["seeds"], classes["lost"]) == ("dann", [0], [])
    assert classes["classes"][0]["differences"] == [pytest.approx(6 / 9 - 8 / 9)]
    (run,) = found["calibration"][0]["runs"]
    assert run == {"bins": [{"rows": 18, "confidence": 0.75, "accuracy": pytest.approx(16 / 18)}],
                   "error": pytest.approx(16 / 18 - 0.75)}  # fmt: skip
    assert found["label_shift"][0]["estimated"] == pytest.approx([0.5, 0.5])


def test_damaged_files_are_told_and_leave_out_their_group_alone(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished("source_only")
    folder = finished("dann")
    folder.predictions.write_text("row,label,prediction\n0,a\n")
    tables = diagnose(group(collect([tmp_path]).runs)).tables()
    assert [[row[1] for row in table.rows][-1] for table in tables] == ["dann", "source_only", "source_only"]
    told = capsys.readouterr().err.splitlines()
    why = f"{folder.predictions} is damaged (a row is longer or shorter than the header)"
    assert told == [f"no {what} of mnist_usps, dann: {why}" for what in ("calibration", "label shift")]


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        ("confusion_target_test.csv", "true/predicted,a,b\na,1,2\n", "classes"),
        ("confusion_target_test.csv", "true/predicted,a\na,1\n", "classes"),
        ("confusion_source_val.csv", "true/predicted,a,b\na,1,2\nb,1\n", "label shift"),
        ("predictions.csv", "row,label,prediction,confidence\n,a,a,0.5\n", "calibration"),
        ("predictions.csv", "row,label,prediction,confidence\n0,a,a,\n", "calibration"),
        ("predictions.csv", "row,label,prediction,confidence\n0,a,,0.5\n", "calibration"),
        ("predictions.csv", "", "calibration"),
    ],
)
def test_no_damage_ends_the_report(
    file: str, text: str, what: str, finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished("source_only")
    (finished("dann").path / file).write_text(text)
    diagnose(group(collect([tmp_path]).runs)).tables()
    assert f"no {what} of mnist_usps, dann: " in capsys.readouterr().err


def test_runs_of_other_classes_are_not_averaged(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished("source_only", seed=0)
    finished("source_only", seed=1).write_confusion("source", "val", ("a", "b", "c"), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    diagnose(group(collect([tmp_path]).runs)).tables()
    assert "confusion_source_val.csv: other classes than source_only-s0-" in capsys.readouterr().err


def test_test_rows_alone_are_read_and_numbers_may_be_classes(finished: Finished) -> None:
    folder = finished("source_only")
    rows = [("test", 4, 0, [0.25, 0.75]), ("train", 5, -1, [1.0, 0.0]), ("test", 6, -1, [0.5, 0.5])]
    folder.write_predictions(("01", "1"), [Prediction(*row) for row in rows])
    found = read_predicted(folder)
    assert found.classes == ("01", "1")
    assert (found.row.tolist(), found.label.tolist(), found.prediction.tolist()) == ([4, 6], [0, -1], [1, 0])
    assert found.confidence.tolist() == [0.75, 0.5]
    folder.predictions.write_text("split,row\ntest,0\n")
    with pytest.raises(RunError, match="it lacks label, prediction, confidence"):
        read_predicted(folder)
