"""The verb `predict`: what it says of files is what the run said of them, and of what is no image it says so."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trained_runs import CLASSES, domain_data, toy_run
from tlrun.cli import main
from tlrun.config import ExperimentConfig
from tlrun.run import RunFolder
from tlrun.trained import load_trained, read_config

Config = Callable[..., ExperimentConfig]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def toy(config: Config, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return toy_run(config, tmp_path_factory.mktemp("toy"))


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tlrun predict ...` in an empty folder: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["predict", *map(str, arguments), "--device", "cpu", "--threads", "1"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def shares(rows: list[dict[str, Any]], classes: tuple[str, ...]) -> np.ndarray[Any, Any]:
    return np.array([[float(row[f"probability_{name}"]) for name in classes] for row in rows])


def kept(run: RunFolder) -> Path:
    """What is left of the run's target images."""
    return run.path.parent / "kept"


@pytest.mark.slow
def test_test_images_get_the_predictions_that_the_run_wrote_though_its_data_are_gone(
    photo: RunFolder, predict: Run, tmp_path: Path
) -> None:
    before = sorted(path.relative_to(kept(photo)) for path in kept(photo).rglob("*.*"))
    written = photo.read_predictions()
    names = [str(before[row]) for row in written["row"]]
    code, out, err = predict(photo.path, *(kept(photo) / name for name in names), "--output", "out.csv")
    assert (code, out) == (0, "")
    assert re.fullmatch(rf"{len(names)} predicted, in out.csv \([\d,]+ a second\)\n", err)
    found = table((tmp_path / "out.csv").read_text())
    assert [row["path"] for row in found] == [str(kept(photo) / name) for name in names]
    assert [row["prediction"] for row in found] == written["prediction"].tolist()
    classes = tuple(load_trained(photo).task.classes)
    assert sorted(classes) == sorted(CLASSES)
    assert shares(found, classes) == pytest.approx(shares(written.to_dict("records"), classes), abs=1e-6)


@pytest.mark.slow
def test_digits_held_as_arrays_are_predicted_from_files_of_their_own_size_to_the_bit(
    digits: RunFolder, predict: Run, tmp_path: Path
) -> None:
    (tmp_path / "png").mkdir()
    test = domain_data(read_config(digits)).test
    assert test is not None
    for number, image in enumerate(test.array):
        Image.fromarray(image).save(tmp_path / "png" / f"{number:04d}.png")
    assert predict(digits.path, "png", "--output", "out.csv", "--batch-size", 500)[0] == 0
    found, written = table((tmp_path / "out.csv").read_text()), digits.read_predictions()
    assert [row["prediction"] for row in found] == written["prediction"].tolist()
    classes = load_trained(digits).task.classes
    assert np.array_equal(shares(found, classes), shares(written.to_dict("records"), classes))


def test_images_of_another_size_are_brought_to_that_of_the_digits(
    digits: RunFolder, predict: Run, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "large.jpg")
    code, out, _ = predict(digits.path, "large.jpg", "--output", "-", "--top", 1)
    assert (code, len(table(out))) == (0, 1)


def test_rows_are_seen_as_the_targets_or_as_the_sources_with_each_ones_statistics(
    photo: RunFolder, predict: Run
) -> None:
    trained = load_trained(photo)
    rows = {}
    for domain in ("target", "source"):
        code, out, _ = predict(photo.path, kept(photo), "--domain", domain, "--output", "-")
        assert code == 0
        rows[domain] = shares(table(out), trained.task.classes)
    assert not np.allclose(rows["source"], rows["target"], atol=1e-3)
    assert trained.statistics["source"].mean != trained.statistics["target"].mean
    assert trained.strategy.statistics is not None


def test_a_checkpoint_alone_is_enough(photo: RunFolder, predict: Run, tmp_path: Path) -> None:
    shutil.copy(photo.best, tmp_path / "model.pt")
    assert predict("model.pt", kept(photo), "--output", "-")[1] == predict(photo.path, kept(photo), "--output", "-")[1]


def test_bad_files_are_named_left_out_and_counted(photo: RunFolder, predict: Run, tmp_path: Path) -> None:
    whole = next(kept(photo).rglob("*.jpg")).read_bytes()
    (tmp_path / "in").mkdir()
    contents = {"empty.jpg": b"", "text.jpg": b"no picture", "cut.jpg": whole[: len(whole) // 2], "good.jpg": whole}
    for name, content in contents.items():
        (tmp_path / "in" / name).write_bytes(content)
    (tmp_path / "list.csv").write_text("path\nin/good.jpg\nin/gone.jpg\nin/\0.jpg\n")
    code, out, err = predict(photo.path, "in", "list.csv", "--output", "-")
    assert code == 1
    assert [row["path"] for row in table(out)] == ["in/good.jpg", "in/good.jpg"]
    told = err.splitlines()
    assert [line.split(":")[1].strip() for line in told[:-1]] == [
        "in/cut.jpg", "in/empty.jpg", "in/text.jpg", "in/gone.jpg", "in/\ufffd.jpg",
    ]  # fmt: skip
    assert "left out: in/empty.jpg: an empty file" in told
    assert told[-1].startswith("2 predicted, 5 left out (")


def test_the_table_shows_path_class_probability_and_second_guess(photo: RunFolder, predict: Run) -> None:
    code, out, _ = predict(photo.path, kept(photo))
    rows = table(predict(photo.path, kept(photo), "--output", "-", "--top", 2)[1])
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 25)
    assert lines[0].split() == ["path", "class", "probability", "second", "guess"]
    for line, row in zip(lines[1:], rows, strict=True):
        words = [row["path"], row["prediction"], f"{100 * float(row['confidence']):.1f} %"]
        words += [row["prediction_2"], f"{100 * float(row['confidence_2']):.1f} %"]
        assert line.split() == " ".join(words).split()


def test_top_gives_so_many_guesses_and_no_more_than_there_are(photo: RunFolder, predict: Run) -> None:
    one = table(predict(photo.path, kept(photo), "--output", "-", "--top", 1)[1])
    assert list(one[0]) == ["path", "prediction", "confidence"]
    many = table(predict(photo.path, kept(photo), "--output", "-", "--top", 9)[1])
    assert {row[f"prediction{place}"] for row in many for place in ("", "_2", "_3")} == set(CLASSES)
    assert all(float(row["confidence"]) >= float(row["confidence_2"]) >= float(row["confidence_3"]) for row in many)
    assert "prediction_4" not in many[0]


def test_paths_on_a_pipe_and_names_that_are_no_utf8(
    photo: RunFolder, predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.fsdecode(b"odd \xff\n name.png")
    shutil.copy(next(kept(photo).rglob("*.png")), tmp_path / name)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(name) + b"\0")))
    assert predict(photo.path, "-", "--output", "out.csv")[0] == 0
    assert b"\xff\n name.png" in (tmp_path / "out.csv").read_bytes()
    code, out, _ = predict(photo.path, name)
    assert (code, len(out.splitlines())) == (0, 2)


def test_batches_of_any_size_say_the_same(photo: RunFolder, predict: Run) -> None:
    classes = load_trained(photo).task.classes
    few, many = (
        shares(table(predict(photo.path, kept(photo), "--output", "-", "--batch-size", size)[1]), classes)
        for size in (1, 100)
    )
    assert few == pytest.approx(many, abs=1e-5)


@pytest.mark.slow
def test_rows_of_numbers_are_predicted_for_a_model_of_features(toy: RunFolder, predict: Run, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("x,y\n1.5,-2\n\n3,four\n-4,0.5\n1,2,3\nnan,1\n")
    code, out, err = predict(toy.path, "points.csv", "--output", "-")
    assert code == 1
    found = table(out)
    assert [row["path"] for row in found] == ["points.csv:2", "points.csv:5"]
    trained = load_trained(toy)
    expected = trained.output(torch.tensor([[1.5, -2.0], [-4.0, 0.5]]), "target").logits.softmax(1).numpy()
    assert shares(found, trained.task.classes) == pytest.approx(expected, abs=1e-6)
    assert err.splitlines()[:3] == [
        "left out: points.csv:4: 'four' is no finite number",
        "left out: points.csv:6: has 3 values, the model takes 2",
        "left out: points.csv:7: 'nan' is no finite number",
    ]
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("x,y\n\n")
    code, out, err = predict(toy.path, "empty.csv", "points.csv", "header.csv", "--output", "none.csv")
    said = "empty.csv: no row of numbers is there\nheader.csv: no row of numbers is there\n"
    assert (code, out, err, Path("none.csv").exists()) == (2, "", said, False)
    code, _, err = predict(toy.path, "photo.jpg", "gone.csv")
    assert (code, err) == (
        2,
        "photo.jpg: the run's rows are 2 numbers, not images; name a .csv of numbers\ngone.csv: no such file\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("RUN",), "tlrun predict: the following arguments are required: PATH\n"),
        (("RUN", "gone.jpg", "--top", "0"), "tlrun predict: argument --top: must be a whole number above 0, got 0\n"),
        (("RUN", "gone.jpg", "*.tif"), "gone.jpg: no such file or folder\n*.tif: matches nothing\n"),
        (("nowhere", "x.jpg"), "nowhere: no such run folder, and no checkpoint of this name\n"),
        ((".", "x.jpg"), ". is no run folder: it has no status.json\n"),
        (("RUN/..", "x.jpg"), "RUN/.. holds run folders and is none itself; name one of them\n"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    arguments: tuple[str, ...], said: str, photo: RunFolder, predict: Run
) -> None:
    code, out, err = predict(*(each.replace("RUN", str(photo.path)) for each in arguments))
    assert (code, out, err) == (2, "", said.replace("RUN", str(photo.path)))


def test_runs_that_cannot_be_used_are_told_in_one_line(photo: RunFolder, predict: Run, tmp_path: Path) -> None:
    def copy(name: str) -> RunFolder:
        return RunFolder(Path(shutil.copytree(photo.path, tmp_path / name)))

    half = copy("half")
    half.write_status("interrupted")
    half.best.unlink()
    newer = copy("newer")
    content = torch.load(newer.best)
    torch.save(content | {"format": 2}, newer.best)
    older = copy("older")
    settings = content["config"] | {
        "data": {key: each for key, each in content["config"]["data"].items() if key != "fit"}
    }
    torch.save(content | {"config": settings}, older.best)
    lacking = copy("lacking")
    torch.save({key: each for key, each in content.items() if key != "inputs"}, lacking.best)
    cut = copy("cut")
    cut.best.write_bytes(cut.best.read_bytes()[:1000])
    weights = tmp_path / "weights.pth"
    torch.save(content["model"], weights)
    said = {
        half.path: f"{half.path}: the run is interrupted, not done; give its command again to end it\n",
        newer.path: f"{newer.best} was written by a newer tlrun (format 2, this one reads 1); update tlrun\n",
        older.path: f"{older.best} does not fit this installation of tlrun: data.fit: missing",
        lacking.path: f"{lacking.best} does not fit this installation of tlrun: it lacks inputs\n",
        cut.path: f"{cut.best} is damaged (",
        weights: f"{weights} was not written by tlrun: it states no format\n",
    }
    for place, line in said.items():
        code, out, err = predict(place, kept(photo))
        assert (code, out, err[: len(line)], err.count("\n")) == (1, "", line, 1)


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "predictions.csv", "arrays.npz", "empty"])
def test_a_file_that_is_no_checkpoint_is_told_so(
    photo: RunFolder, predict: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("arrays.npz", a=np.zeros(3))
    Path("empty").touch()
    place = Path(name) if Path(name).exists() else photo.path / name
    told = f"{place} is no checkpoint; give a run folder or a checkpoint\n"
    assert predict(place, kept(photo)) == (2, "", told)
    assert main(["eval", str(place)]) == 2
    assert capsys.readouterr() == ("", told)


def test_what_cannot_be_written_is_told_before_anything_is_predicted(photo: RunFolder, predict: Run) -> None:
    Path("taken").mkdir()
    assert predict(photo.path, kept(photo), "--output", "taken") == (1, "", "cannot write taken: it is a folder\n")
    told = "tlrun predict: argument --output: new/ is no folder; name a file\n"
    assert predict(photo.path, kept(photo), "--output", "new/") == (2, "", told)
    assert not Path("new").exists()
    Path("file").touch()
    code, _, err = predict(photo.path, kept(photo), "--output", "file/out.csv")
    assert (code, err) == (1, "cannot write file/out.csv: Not a directory\n")


def test_no_file_of_a_run_is_overwritten(photo: RunFolder, predict: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in photo.path.rglob("*")}
    Path("link.csv").symlink_to(photo.predictions)
    for place in (photo.predictions, photo.best, photo.path / "new.csv", "link.csv"):
        told = f"tlrun predict: argument --output: {place} lies in the run folder {photo.path}; name another place\n"
        assert predict(photo.path, kept(photo), "--output", place) == (2, "", told)
    assert {path: path.stat().st_mtime_ns for path in photo.path.rglob("*")} == before


def test_standard_output_is_no_file_of_the_run_that_one_stands_in(
    photo: RunFolder, predict: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.path)
    assert predict(photo.path, kept(photo), "--output", "-")[0] == 0


def test_an_interruption_leaves_the_file_as_it_was(
    photo: RunFolder, predict: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out.csv").write_text("before")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tlrun.trained.Trained.output", interrupted)
    assert predict(photo.path, kept(photo), "--output", "out.csv") == (1, "", "interrupted\n")
    assert [path.name for path in Path.cwd().iterdir()] == ["out.csv"]
    assert Path("out.csv").read_text() == "before"


def test_pixels_are_held_of_a_few_batches_alone(
    photo: RunFolder, predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far reading is ahead of the model, over 400 paths that are links to one image."""
    from tlrun.data.files import row_reader
    from tlrun.data.files.image_paths import Named
    from tlrun.predictions import predict_images

    begun, done, furthest = 0, 0, 0
    real = row_reader.RowReader.read

    def read(self: row_reader.RowReader, path: str) -> Any:
        nonlocal begun
        begun += 1
        return real(self, path)

    monkeypatch.setattr(row_reader.RowReader, "read", read)
    image = next(kept(photo).rglob("*.png"))
    named = [Named(str(number), str(image)) for number in range(400)]
    for batch in predict_images(load_trained(photo), named, domain="target", size=10, threads=2):
        done += len(batch)  # type: ignore[arg-type]
        furthest = max(furthest, begun - done)
    assert done == 400
    assert 0 < furthest <= 40


@pytest.mark.slow
def test_a_reader_who_closes_early_is_no_error(photo: RunFolder) -> None:
    command = [
        sys.executable,
        "-m",
        "tlrun",
        "predict",
        str(photo.path),
        *[str(kept(photo))] * 200,
        "--batch-size",
        "8",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"path")
        process.stdout.close()
        assert (process.wait(timeout=120), process.stderr.read()) == (0, b"")


@pytest.mark.slow
def test_an_interruption_while_a_reading_thread_starts_does_not_keep_the_process(photo: RunFolder) -> None:
    """Threads that the pool does not know yet when the signal comes would be waited for without end."""
    script = (
        "import sys, threading\n"
        "real = threading.Thread.start\n"
        "def start(self):\n"
        "    real(self)\n"
        "    if self.name.startswith('tlrun-read'):\n"
        "        raise KeyboardInterrupt\n"
        "threading.Thread.start = start\n"
        "from tlrun.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", script, "predict", str(photo.path), str(kept(photo)), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "interrupted\n")
