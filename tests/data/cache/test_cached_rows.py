"""Rows kept as they come: whole or gone on with, checked, made by one process at a time."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tlrun.config import ConfigError
from tlrun.data.cache.cached_rows import cached_rows

COUNT, BLOCK = 10, 4
ROWS = np.random.default_rng(0).normal(size=(COUNT, 3)).astype(np.float32)


class Maker:
    """Gives ROWS in blocks; falls over after so many of them, and remembers from where it was asked."""

    def __init__(self, blocks: int = 99) -> None:
        self.starts: list[int] = []
        self.blocks = blocks

    def __call__(self, start: int) -> Iterator[NDArray[Any]]:
        self.starts.append(start)
        for number, first in enumerate(range(start, COUNT, BLOCK)):
            if number == self.blocks:
                raise KeyboardInterrupt
            yield ROWS[first : first + BLOCK]


def load(folder: Path, make: Maker) -> NDArray[Any]:
    return cached_rows(folder, "rows", inputs={"recipe": 1}, about="ten rows", count=COUNT, make=make)


def part_of(folder: Path) -> Path:
    (part,) = folder.glob("rows-*/rows.part")
    return part


def test_rows_are_made_once_and_then_mapped_from_the_disk(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(2):
        rows = load(tmp_path, make)
        np.testing.assert_array_equal(rows, ROWS)
        assert isinstance(rows.base, np.memmap) or isinstance(rows, np.memmap)
    assert make.starts == [0]
    assert {path.name for path in tmp_path.glob("rows-*/*")} == {"contents.json", "lock", "rows.npy"}


def interrupted(folder: Path, blocks: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        load(folder, Maker(blocks))


def test_after_an_interruption_only_the_missing_rows_are_made(tmp_path: Path) -> None:
    interrupted(tmp_path, 2)
    make = Maker()
    np.testing.assert_array_equal(load(tmp_path, make), ROWS)
    assert make.starts == [2 * BLOCK]
    np.testing.assert_array_equal(load(tmp_path, make), ROWS)


def cut_off(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-1])


def flip_a_bit_of_the_second_block(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)


def half_a_line(part: Path) -> None:
    progress = part.with_name("rows.progress")
    progress.write_text(progress.read_text()[:-5])


def more_than_is_noted(part: Path) -> None:
    with part.open("ab") as file:
        file.write(b"half a block")


@pytest.mark.parametrize(
    ("damage", "start"),
    [(cut_off, BLOCK), (flip_a_bit_of_the_second_block, BLOCK), (half_a_line, BLOCK), (more_than_is_noted, 2 * BLOCK)],
)
def test_what_a_killed_process_left_damaged_is_made_again_and_no_more(tmp_path: Path, damage: Any, start: int) -> None:
    interrupted(tmp_path, 2)
    damage(part_of(tmp_path))
    interrupted(tmp_path, 0)  # a second one that dies at once keeps what is whole
    make = Maker()
    np.testing.assert_array_equal(load(tmp_path, make), ROWS)
    assert make.starts == [start]
    np.testing.assert_array_equal(load(tmp_path, Maker(0)), ROWS)


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    load(tmp_path, Maker())
    (rows,) = tmp_path.glob("rows-*/rows.npy")
    flip_a_bit_of_the_second_block(rows)
    make = Maker()
    np.testing.assert_array_equal(load(tmp_path, make), ROWS)
    assert make.starts == [0]


def test_a_full_disk_is_named_and_what_was_made_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    interrupted(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr("tlrun.data.cache.cached_rows.json", SimpleNamespace(dumps=full, loads=json.loads))
        with pytest.raises(ConfigError, match=r"^data\.cache_root: cannot write under .*No space left on device"):
            load(tmp_path, Maker())
    np.testing.assert_array_equal(load(tmp_path, Maker()), ROWS)


PROCESS = """
import sys, time, numpy as np
from pathlib import Path
from tlrun.data.cache.cached_rows import cached_rows

def make(start):
    for first in range(start, 100, 10):
        with open(sys.argv[1] + "/made", "a") as file:
            file.write(f"{first}\\n")
        time.sleep(float(sys.argv[2]))
        yield np.full((10, 1000), 7, dtype=np.uint8)

rows = cached_rows(Path(sys.argv[1]), "rows", inputs={}, about="", count=100, make=make)
print(int(rows.sum(dtype=np.int64)))
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def made(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "made").read_text().split()] if (folder / "made").exists() else []


def test_of_two_processes_one_makes_and_both_read(tmp_path: Path) -> None:
    processes = [start(tmp_path, 0.02) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["700000\n", "700000\n"]
    assert made(tmp_path) == list(range(0, 100, 10))


@pytest.mark.slow
def test_a_killed_process_leaves_its_rows_to_the_next(tmp_path: Path) -> None:
    first = start(tmp_path, 0.2)
    limit = time.monotonic() + 60
    while len(made(tmp_path)) < 4 and time.monotonic() < limit:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    before = len(made(tmp_path))
    assert start(tmp_path, 0).communicate(timeout=60)[0] == "700000\n"
    after = made(tmp_path)[before:]
    assert after == list(range(after[0], 100, 10))
    assert after[0] >= 20
