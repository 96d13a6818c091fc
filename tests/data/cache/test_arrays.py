from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tlrun.config import ConfigError
from tlrun.data.cache import arrays as cache
from tlrun.data.cache.arrays import Arrays, cached_arrays

ARRAYS: Arrays = {
    "train": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4),
    "labels": np.array([3, 1, 2], dtype=np.int64),
}


class Maker:
    """Makes the arrays and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return ARRAYS


def load(folder: Path, make: Maker) -> Arrays:
    return cached_arrays(folder, "digits", inputs={"recipe": 1}, make=make)


def assert_right(arrays: Arrays) -> None:
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def entry_of(folder: Path) -> Path:
    (entry,) = folder.glob("digits-*")
    return entry


def test_arrays_are_made_once_and_then_read(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(3):
        assert_right(load(tmp_path / "new" / "cache", make))
    assert make.calls == 1
    names = {path.name for path in entry_of(tmp_path / "new" / "cache").iterdir()}
    assert names == {"contents.json", "labels.npy", "lock", "train.npy"}


def test_other_inputs_have_an_entry_of_their_own(tmp_path: Path) -> None:
    make = Maker()
    for recipe in (1, 2, 1):
        cached_arrays(tmp_path, "digits", inputs={"recipe": recipe}, make=make)
    assert make.calls == 2
    assert len(list(tmp_path.glob("digits-*"))) == 2


def test_the_order_in_which_inputs_are_written_makes_no_difference(tmp_path: Path) -> None:
    make = Maker()
    cached_arrays(tmp_path, "digits", inputs={"a": 1, "b": 2}, make=make)
    cached_arrays(tmp_path, "digits", inputs={"b": 2, "a": 1}, make=make)
    assert make.calls == 1


def test_arrays_that_do_not_lie_in_order_in_memory_are_kept_right(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    for _ in range(2):
        kept = cached_arrays(tmp_path, "views", inputs={}, make=lambda: {"x": array})
        np.testing.assert_array_equal(kept["x"], array)


def test_writing_to_an_array_changes_no_file(tmp_path: Path) -> None:
    make = Maker()
    load(tmp_path, make)["train"][:] = 99
    assert_right(load(tmp_path, make))
    assert make.calls == 1


def flip_last_byte(entry: Path) -> None:
    content = bytearray((entry / "train.npy").read_bytes())
    content[-1] ^= 1
    (entry / "train.npy").write_bytes(content)


def cut_off(entry: Path) -> None:
    content = (entry / "train.npy").read_bytes()
    (entry / "train.npy").write_bytes(content[:-5])


def put_in_another_array(entry: Path) -> None:
    np.save(entry / "train.npy", ARRAYS["train"].reshape(3, 2, 4))  # the same bytes in another shape


def edit_contents(entry: Path) -> None:
    (entry / "contents.json").write_text(json.dumps({"format": 1, "arrays": [1]}))


DAMAGES = {
    "flipped byte": flip_last_byte,
    "cut off": cut_off,
    "other shape": put_in_another_array,
    "array emptied": lambda entry: (entry / "train.npy").write_bytes(b""),
    "array gone": lambda entry: (entry / "train.npy").unlink(),
    "contents edited": edit_contents,
    "contents no JSON": lambda entry: (entry / "contents.json").write_text("{"),
    "contents gone": lambda entry: (entry / "contents.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_or_unfinished_entry_is_made_again(tmp_path: Path, damage) -> None:
    make = Maker()
    load(tmp_path, make)
    damage(entry_of(tmp_path))
    assert_right(load(tmp_path, make))
    assert make.calls == 2
    assert_right(load(tmp_path, make))
    assert make.calls == 2


def test_a_maker_that_fails_leaves_no_entry_and_no_lock_held(tmp_path: Path) -> None:
    def fail() -> Arrays:
        raise OSError("the photographs are gone")

    with pytest.raises(OSError, match="the photographs are gone"):
        cached_arrays(tmp_path, "digits", inputs={"recipe": 1}, make=fail)
    make = Maker()
    assert_right(load(tmp_path, make))
    assert make.calls == 1


def test_a_finished_entry_is_read_without_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, Maker())

    def refuse(path: Path) -> None:
        raise AssertionError("a finished entry needs no lock, so that a read-only cache serves too")

    monkeypatch.setattr(cache, "locked", refuse)
    assert_right(load(tmp_path, Maker()))


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "file", Maker())
    folder = str(tmp_path / "file" / "digits-")
    assert str(error.value).startswith(f"data.cache_root: cannot write under {folder}")
    assert str(error.value).endswith(
        "(Not a directory); set a folder that can be written and has room (or TLRUN_CACHE)"
    )


def test_a_full_disk_is_named_and_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(
            ConfigError, match=r"^data\.cache_root: cannot write under .* \(No space left on device\); "
        ):
            load(tmp_path, Maker())
    make = Maker()
    assert_right(load(tmp_path, make))
    assert make.calls == 1


PROCESS = """
import sys, time, numpy as np
from pathlib import Path
from tlrun.data.cache.arrays import cached_arrays

def make():
    with open(sys.argv[1] + "/made", "a") as file:
        file.write("made\\n")
    time.sleep(float(sys.argv[2]))
    return {"x": np.full((1000, 100), 7, dtype=np.uint8)}

print(int(cached_arrays(Path(sys.argv[1]), "digits", inputs={}, make=make)["x"].sum()))
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_of_two_processes_one_makes_and_both_read(tmp_path: Path) -> None:
    processes = [start(tmp_path, 0.5) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["700000\n", "700000\n"]
    assert (tmp_path / "made").read_text() == "made\n"


@pytest.mark.slow
def test_a_killed_maker_holds_no_lock(tmp_path: Path) -> None:
    first = start(tmp_path, 600)
    limit = time.monotonic() + 60
    while not (tmp_path / "made").exists() and time.monotonic() < limit:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    second = start(tmp_path, 0)
    assert second.communicate(timeout=60)[0] == "700000\n"
    assert (tmp_path / "made").read_text() == "made\nmade\n"
