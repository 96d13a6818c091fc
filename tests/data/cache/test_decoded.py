"""The decoded cache: bit for bit what the files give, whole after a kill, mended where it is damaged."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.file_trees import damage, save_classes
from tlrun.config import ConfigError
from tlrun.data.cache.decoded import DecodedRows, decoded_rows
from tlrun.data.files.image_files import list_files
from tlrun.data.files.image_folder import find_layout
from tlrun.data.files.images import ImageFiles
from tlrun.data.rows import FileRows, Reading
from tlrun.files import RunError

READING = Reading(size=12, fit="crop", channels=3, interpolation="bilinear", workers=2)
Open = Callable[..., DecodedRows]


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    root = save_classes(tmp_path / "pets", 8)
    return ImageFiles(root, tuple(name for name, _ in find_layout(root).splits["train"]))


@pytest.fixture
def opened(tmp_path: Path, files: ImageFiles) -> Open:
    def opened(numbers: Any = range(24), reading: Reading = READING) -> DecodedRows:
        rows = FileRows(files, np.array(numbers, dtype=np.int64), reading)
        return decoded_rows(rows, list_files(files, workers=2), tmp_path / "cache")

    return opened


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths decoded from now on."""
    paths: list[str] = []
    image = Reading.image
    monkeypatch.setattr(Reading, "image", lambda self, path: paths.append(str(path)) or image(self, path))
    return paths


def test_rows_are_bit_for_bit_those_of_the_files(opened: Open) -> None:
    rows = opened()
    assert torch.equal(rows.tensor(), rows.source.tensor())
    positions = torch.tensor([3, 3, 20, 0])
    assert torch.equal(rows.take(positions), rows.source.take(positions))
    assert torch.equal(rows.start(positions)(), rows.source.take(positions))
    assert torch.equal(rows.subset(positions).tensor(), rows.source.take(positions))


def test_each_file_is_decoded_once(opened: Open, decoded: list[str]) -> None:
    opened(range(10))
    assert len(decoded) == 10
    opened(range(5, 24))
    assert len(decoded) == len(set(decoded)) == 24
    opened()
    assert len(decoded) == 24


def test_other_settings_and_changed_files_have_other_rows(opened: Open, files: ImageFiles, decoded: list[str]) -> None:
    first = opened()
    pad = opened(reading=Reading(size=12, fit="pad", channels=1, interpolation="bicubic", workers=2))
    assert pad.entry != first.entry and pad.shape == (24, 12, 12, 1)
    path = Path(files.path(0))
    path.write_bytes(Path(files.path(23)).read_bytes())
    again = opened()
    assert again.entry != first.entry
    assert torch.equal(again.read(0, 1), again.read(23, 24))


def test_a_damaged_row_is_decoded_again(opened: Open, decoded: list[str], caplog: pytest.LogCaptureFixture) -> None:
    rows = opened()
    decoded.clear()
    with (rows.entry / "pixels").open("r+b") as file:
        file.seek(12 * 12 * 3 * 7 + 5)
        file.write(b"\x00\x01\x02")
    assert torch.equal(rows.tensor(), rows.source.tensor())
    assert "row 7 fails its checksum and is decoded again" in caplog.text
    decoded.clear()
    assert torch.equal(rows.tensor()[7], rows.source.tensor()[7])
    assert sorted(decoded) == sorted(map(rows.source.path, range(24)))  # the source's alone, in any order


def test_a_cut_cache_is_made_again(opened: Open, decoded: list[str]) -> None:
    rows = opened()
    decoded.clear()
    with (rows.entry / "pixels").open("r+b") as file:
        file.truncate(1000)
    assert torch.equal(opened().tensor(), rows.source.tensor())


def test_a_bad_file_stops_the_decoding_with_its_path_and_keeps_what_was_done(
    opened: Open, files: ImageFiles, decoded: list[str]
) -> None:
    bad = damage(Path(files.path(20)))
    with pytest.raises(RunError, match=f"data.on_bad_image: {bad}: "):
        opened()
    decoded.clear()
    opened(range(10))
    assert decoded == []


def test_too_little_room_is_told_before_anything_is_written(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(ConfigError, match="data.cache: decoded needs 0.0 GiB under .* and 0.0 are free"):
        opened()


PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from tlrun.data.cache.decoded import decoded_rows
from tlrun.data.files.image_files import list_files
from tlrun.data.files.image_folder import find_layout
from tlrun.data.files.images import ImageFiles
from tlrun.data.rows import FileRows, Reading
root, cache = map(Path, sys.argv[1:])
files = ImageFiles(root, tuple(name for name, _ in find_layout(root).splits["train"]))
image = Reading.image
def slowly(self, path):
    time.sleep(0.1)
    return image(self, path)
Reading.image = slowly
reading = Reading(size=12, fit="crop", channels=3, interpolation="bilinear", workers=2)
decoded_rows(FileRows(files, np.arange(24), reading), list_files(files, workers=2), cache)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_what_it_had_done(
    tmp_path: Path, files: ImageFiles, opened: Open, decoded: list[str]
) -> None:
    child = subprocess.Popen([sys.executable, "-c", PROCESS, str(files.root), str(tmp_path / "cache")])
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        marks = [np.fromfile(path, dtype=np.uint64) for path in tmp_path.glob("cache/decoded-*/marks")]
        if marks and (marks[0] > 0).sum() >= 4:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    rows = opened()
    assert 0 < len(decoded) <= 20
    assert torch.equal(rows.tensor(), rows.source.tensor())
