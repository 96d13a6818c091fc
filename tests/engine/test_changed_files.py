"""A finished run is taken for this one only while the files that it was made from are there unchanged."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.file_trees import save_classes, save_image
from tests.engine.runs import TOY
from tlrun import experiment
from tlrun.cli import main
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.files import RunError
from tlrun.run import RunFolder

Describe = Callable[..., ExperimentConfig]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_classes(tmp_path / "photos", 6)


def settings(photos: Path, *more: str) -> tuple[str, ...]:
    short = [each for each in TOY if not each.startswith(("data", "model", "engine.epochs"))]
    photo = ("data=folder", f"data.target.root={photos}", "data.image_size=28", "model=lenet", "engine.epochs=1")
    return (*short, *photo, "strategy=scratch", "data.target_labels=2", *more)


def run(config: ExperimentConfig) -> experiment.Outcome:
    return experiment.run(config, command="a test")


def test_finished_run_is_refused_once_its_files_changed(described: Describe, photos: Path) -> None:
    config = described(*settings(photos))
    assert run(config).state == "done"
    assert run(config).state == "already done"
    (photos / "cat" / "000.png").rename(photos / "dog" / "moved.png")
    with pytest.raises(
        RunError, match=r"is of other files of data\.target than are there now .* run\.fresh=true starts over$"
    ):
        run(config)
    (photos / "dog" / "moved.png").rename(photos / "cat" / "000.png")
    assert run(config).state == "already done"


@pytest.mark.parametrize("stray", ["stray.png", "newclass"])
def test_files_that_are_no_such_domain_any_more_are_no_files_that_are_gone(
    described: Describe, photos: Path, stray: str
) -> None:
    config = described(*settings(photos))
    run(config)
    save_image(photos / stray) if stray.endswith(".png") else (photos / stray).mkdir()
    with pytest.raises(ConfigError, match=f"data.target: .*{stray}"):
        run(config)


def test_eval_does_not_split_changed_files_anew(
    described: Describe, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = run(described(*settings(photos))).folder
    asked = ["eval", str(folder), "--device", "cpu"]
    assert main(asked) == 0
    save_image(photos / "cat" / "0000.png")
    capfd.readouterr()
    for split in ("test", "train", "all"):
        assert main([*asked, "--split", split]) == 1
        assert "eval: the data found here are not those of the run (fingerprint " in capfd.readouterr().err
    assert main([*asked, f"data.target.root={photos}"]) == 0


def test_another_picture_of_the_same_name_is_a_change(described: Describe, photos: Path) -> None:
    config = described(*settings(photos))
    folder = run(config).folder
    before = RunFolder(folder).read_data_card()["fingerprint"]
    save_image(photos / "owl" / "003.png", draw=99)
    with pytest.raises(RunError, match="is of other files of data.target than are there now"):
        run(config)
    fresh = config.model_copy(update={"run": config.run.model_copy(update={"fresh": True})})
    assert run(fresh).state == "done"
    assert RunFolder(folder).read_data_card()["fingerprint"] != before
    assert run(config).state == "already done"


def test_files_that_are_gone_leave_a_finished_run_as_it_is(
    described: Describe, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = described(*settings(photos))
    run(config)
    shutil.rmtree(photos)
    with caplog.at_level(logging.INFO, logger="tlrun"):
        assert run(config).state == "already done"
    assert "data.target: its files are not here" in caplog.text


def test_a_source_model_of_other_files_is_not_started_from(described: Describe, photos: Path, tmp_path: Path) -> None:
    other = save_classes(tmp_path / "other", 6, draw=1)
    pair = ("data=folders", f"data.source.root={other}", f"data.target.root={photos}", "strategy=fine_tune")
    small = ("pretrain.engine.epochs=1", "pretrain.engine.steps_per_epoch=2")
    config = described(
        *[each for each in settings(photos) if not each.startswith(("data=", "strategy="))], *pair, *small
    )
    run(config)
    save_image(other / "owl" / "more.png")
    longer = config.model_copy(update={"engine": config.engine.model_copy(update={"epochs": 2})})
    with pytest.raises(
        RunError,
        match=r"source_only.* is of other files of data\.source .* remove the folder, and it is trained again$",
    ):
        run(longer)
    # Nor does a fresh start, which cannot come to its first step, cost the run that is done.
    fresh = config.model_copy(update={"run": config.run.model_copy(update={"fresh": True})})
    with pytest.raises(RunError, match="remove the folder, and it is trained again$"):
        run(fresh)
    (other / "owl" / "more.png").unlink()
    assert run(config).state == "already done"


def test_compare_refuses_what_was_done_on_other_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [each for each in settings(photos) if not each.startswith("strategy=")]
    asked = ["compare", "strategy=scratch", "seeds=1", "--no-plots", *asked]
    assert main(asked) == 0
    assert main(asked) == 0
    save_image(photos / "owl" / "more.png")
    capfd.readouterr()
    assert main(asked) == 1
    assert "is of other files of data.target than are there now" in capfd.readouterr().err
