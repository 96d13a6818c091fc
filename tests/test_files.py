from __future__ import annotations

import errno
import io
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy
import pytest
import torch
from omegaconf import OmegaConf

from tests.forked import child
from tlrun import files
from tlrun.config import ConfigError
from tlrun.run import RunError, RunFolder, load_checkpoint, save_checkpoint
from tlrun.run_files import unknown_files

# Newer Pythons warn of fork in a process with threads; the children here only write files. And they would wait for
# ever for torch's other threads, which fork does not copy.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]

FULL = "No space left on device"


# --- JSON and tables


def test_json_states_its_format_and_writes_null_for_what_is_no_number(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_data_card({"mean": [0.5, float("nan")], "deep": {"x": (float("inf"),)}, "name": "ü"})
    assert json.loads(folder.data_card.read_text()) == {
        "format": 1,
        "mean": [0.5, None],
        "deep": {"x": [None]},
        "name": "ü",
    }
    folder.write_environment({"threads": 2})
    assert folder.read_environment() == {"format": 1, "threads": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (b'{"format": 1, "a"', "{path} is damaged (Expecting ':' delimiter: line 1 column 18 (char 17))"),
        (b"\xff", "{path} is damaged ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
        (b"[1]", "{path} was not written by tlrun: it states no format"),
        (b'{"a": 1}', "{path} was not written by tlrun: it states no format"),
        (b'{"format": 2}', "{path} was written by a newer tlrun (format 2, this one reads 1); update tlrun"),
    ],
)
def test_json_that_cannot_be_trusted_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    folder = RunFolder(tmp_path)
    if content is not None:
        folder.data_card.write_bytes(content)
    with pytest.raises(RunError) as error:
        folder.read_data_card()
    assert str(error.value) == message.format(path=folder.data_card)


def test_tables_keep_bits_words_and_blanks(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    third = float(numpy.float32(1 / 3))
    rows: list[Mapping[str, Any]] = [
        {"epoch": 0, "domain": "target", "split": "val", "class": "0", "rows": 3, "accuracy": third},
        {"epoch": 0, "domain": "target", "split": "val", "class": 'NA, "x"\ny', "f1": numpy.float64(0.1)},
        {"epoch": 0, "domain": "target", "split": "val", "class": "2", "accuracy": float("nan"), "f1": float("inf")},
    ]
    folder.write_classes(rows)
    assert folder.classes.read_text().splitlines()[:2] == [
        "epoch,domain,split,class,rows,accuracy,precision,f1",
        "0,target,val,0,3,0.3333333432674408,,",
    ]
    table = folder.read_classes()
    assert list(table["class"]) == ["0", 'NA, "x"\ny', "2"]
    assert table["accuracy"][0] == third
    assert table["f1"][1] == 0.1
    assert table["accuracy"].isna().tolist() == [False, True, True]
    assert table["f1"].isna().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no header"),
        ("epoch,loss\n1\n", "a row is longer or shorter than the header"),
        ("epoch,loss\n1,2\n3\n", "a row is longer or shorter than the header"),
        ("epoch,loss\n1,low\n", "could not convert string to float: 'low'"),
    ],
)
def test_damaged_table_is_named(tmp_path: Path, content: str, why: str) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.write_text(content)
    with pytest.raises(RunError) as error:
        folder.read_metrics()
    assert str(error.value) == f"{folder.metrics} is damaged ({why})"


# --- disks that refuse


def test_yaml_gives_back_values_and_words_that_look_like_values(tmp_path: Path) -> None:
    words = [
        "1e-3",
        "1_000",
        "0x1f",
        "no",
        "on",
        "~",
        "null",
        "2024-01-01",
        "12:30:01",
        "1.",
        "",
        "'",
        "=",
        " x ",
        "a: b",
    ]
    values = {
        "words": words,
        "numbers": [1e-3, 1e22, 1.5e-7, 1e16, 2**60, -0.0, True, None, "${no.key}"],
        "1": {"on": 2},
    }
    (tmp_path / "a.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    assert repr(files.read_yaml(tmp_path / "a.yaml")) == repr(values)


def test_temporaries_of_a_killed_write_go_at_the_next_opening(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_checkpoint(folder.last, {"digest": "d", "step": 1})

    def task(pipe: Connection) -> None:
        with folder.lock(wait=False):
            os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
            save_checkpoint(folder.last, {"digest": "d", "step": 2})

    with child(task) as (process, _):
        process.join()
        left = [path.name for path in folder.last.parent.iterdir() if path != folder.last]
        assert left == [f".last.pt.{process.pid}.tmp"]
        assert files.TEMPORARY.fullmatch(left[0])
        assert load_checkpoint(folder.last, digest="d")["step"] == 1
    (folder.path / ".notes.tmp").touch()
    with folder.lock(wait=False):
        assert list(folder.last.parent.iterdir()) == [folder.last]
    assert unknown_files(folder.path) == [".notes.tmp"]


def test_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "run", "Not a directory")):
        with pytest.raises(RunError) as error, RunFolder(path).lock(wait=False):
            pass
        assert str(error.value) == f"cannot make the run folder {path}: {reason}"
    (tmp_path / "run" / "lock").mkdir(parents=True)
    with pytest.raises(RunError) as error, RunFolder(tmp_path / "run").lock(wait=False):
        pass
    assert str(error.value) == f"cannot lock {tmp_path / 'run' / 'lock'}: Is a directory"


def test_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.last.parent.touch()
    with pytest.raises(RunError) as error:
        save_checkpoint(folder.last, {"digest": "d"})
    assert str(error.value) == f"cannot write {folder.last}: {folder.last.parent} is no folder"
    folder.data_card.mkdir()
    with pytest.raises(RunError) as error:
        folder.write_data_card({})
    assert str(error.value) == f"cannot write {folder.data_card}: Is a directory; what was complete is still there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "data.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError) as error:
        folder.write_status("running")
    assert str(error.value) == f"cannot write {folder.status}: Permission denied; what was complete is still there"


def test_disk_that_fills_up_leaves_the_old_checkpoint_and_no_litter(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_checkpoint(folder.last, {"digest": "d", "step": 1})

    def task(pipe: Connection) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_checkpoint(folder.last, {"digest": "d", "step": 2, "x": torch.zeros(250_000)})
        except RunError as error:
            pipe.send(str(error))

    with child(task) as (_, pipe):
        assert pipe.recv() == f"cannot write {folder.last}: File too large; what was complete is still there"
    assert list(folder.last.parent.iterdir()) == [folder.last]
    assert load_checkpoint(folder.last, digest="d")["step"] == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_every_refusal_of_the_system_becomes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_command("first")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(RunError) as error:
        folder.write_command("second")
    assert str(error.value) == f"cannot write {folder.command}: {FULL}; what was complete is still there"
    assert folder.command.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [folder.command]


def test_write_is_on_the_disk_before_and_after_the_file_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    replace = os.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: calls.append("folder" if S_ISDIR(os.fstat(number).st_mode) else "file")
    )
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("name"), replace(*paths)))
    RunFolder(tmp_path).write_command("x")
    assert calls == ["file", "name", "folder"]


def test_write_broken_off_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path).write_command("x")
    assert list(tmp_path.iterdir()) == []


# --- the log


def test_log_is_appended_and_the_logger_left_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    package = logging.getLogger("tlrun")
    before = (package.level, list(package.handlers))
    for word in ("first", "second"):
        with folder.logging():
            logging.getLogger("tlrun.engine").info("%s line", word)
            logging.getLogger("other").error("not ours")
    assert (package.level, list(package.handlers)) == before
    lines = folder.log.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO first line", "INFO second line"]


def test_error_that_ends_a_run_is_in_its_log_with_a_traceback_unless_it_was_foreseen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(tmp_path)
    for error in (RunError("the disk is full"), ConfigError("seed: too large"), ZeroDivisionError("by nought")):
        with pytest.raises(type(error)), folder.logging():
            raise error
    lines = folder.log.read_text().splitlines()
    foreseen = [line.split(" ", 2)[2] for line in lines[:3]]
    assert foreseen == ["ERROR the disk is full", "ERROR seed: too large", "ERROR ZeroDivisionError: by nought"]
    assert lines[3] == "Traceback (most recent call last):" and lines[-1] == "ZeroDivisionError: by nought"
    assert caplog.records == []  # the command line tells it; on a terminal it would be there twice


def test_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log.mkdir()
    with pytest.raises(RunError) as error, folder.logging():
        pass
    assert str(error.value) == f"cannot write {folder.log}: Is a directory"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_log_on_a_full_disk_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    folder.log.symlink_to("/dev/full")
    with folder.logging():
        logging.getLogger("tlrun").info("lost")
    assert capsys.readouterr().err == ""


def test_mistake_in_a_log_line_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    package = logging.getLogger("tlrun")
    monkeypatch.setattr(package, "propagate", False)
    with RunFolder(tmp_path).logging():
        package.info("%d", "word")
    assert "TypeError" in said.getvalue()
