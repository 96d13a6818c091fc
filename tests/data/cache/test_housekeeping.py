"""The cache as a whole: what is listed, what is cleared, what is let go of when it grows too large."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tlrun import locks
from tlrun.config import ConfigError
from tlrun.data.cache import arrays as kept
from tlrun.data.cache.arrays import cached_arrays
from tlrun.data.cache.housekeeping import GIGABYTE, clear, entries, keep_below


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three entries of a kilobyte and some, `c` used last, as another process would have left them, and fetched data."""
    monkeypatch.setattr(kept, "used", set())
    for age, name in enumerate(("c", "b", "a")):
        add(tmp_path, name)
        for contents in tmp_path.glob(f"{name}-*/contents.json"):
            os.utime(contents, (1e9 - age, 1e9 - age))
    (tmp_path / "usps").mkdir()
    (tmp_path / "usps" / "usps.bz2").write_bytes(b"x" * 5000)
    kept.used.clear()
    return tmp_path


def add(folder: Path, name: str) -> np.ndarray:
    return cached_arrays(
        folder, name, inputs={}, make=lambda: {"x": np.arange(1000, dtype=np.uint8)}, about=f"all of {name}"
    )["x"]


def names(folder: Path) -> list[str]:
    return [entry.name.partition("-")[0] for entry in entries(folder)]


def test_entries_are_listed_last_used_first_with_what_they_are_for(cache: Path) -> None:
    assert names(cache) == ["usps", "c", "b", "a"]
    first, second, *_ = entries(cache)
    assert (first.state, first.size) == ("fetched", 5000)
    assert (second.state, second.about, second.used) == ("whole", "all of c", 1e9)
    assert 1000 < second.size < 2000


def test_an_entry_without_words_is_told_by_its_name(tmp_path: Path) -> None:
    cached_arrays(tmp_path, "digits", inputs={}, make=lambda: {"x": np.zeros(3)})
    assert [entry.about for entry in entries(tmp_path)] == ["digits"]


def test_reading_an_entry_makes_it_the_last_used(cache: Path) -> None:
    add(cache, "a")
    assert names(cache)[0] == "a"


def test_above_the_limit_what_was_used_longest_ago_goes_first(cache: Path) -> None:
    size = sum(entry.size for entry in entries(cache) if entry.state != "fetched")
    keep_below(cache, size / GIGABYTE)
    assert names(cache) == ["usps", "c", "b", "a"]
    keep_below(cache, (size - 1) / GIGABYTE)
    assert names(cache) == ["usps", "c", "b"]
    keep_below(cache, None)
    assert names(cache) == ["usps", "c", "b"]


def test_what_this_process_uses_and_what_another_makes_stays(cache: Path) -> None:
    add(cache, "a")
    (b,) = cache.glob("b-*")
    with locks.locked(b / "lock", wait=False):
        keep_below(cache, 1e-9)
    assert sorted(names(cache)) == ["a", "b", "usps"]


def test_rows_that_are_mapped_outlive_their_entry(cache: Path) -> None:
    rows = add(cache, "a")
    clear(cache, None)
    assert names(cache) == ["usps"]
    assert rows[999] == 999 % 256


def test_clearing_takes_what_was_made_and_fetched_data_only_by_name(cache: Path) -> None:
    (b,) = cache.glob("b-*")
    assert [entry.name for entry in clear(cache, b.name)] == [b.name]
    assert [entry.name.partition("-")[0] for entry in clear(cache, "c")] == ["c"]
    clear(cache, None)
    assert names(cache) == ["usps"]
    assert [path.name for path in cache.iterdir()] == ["usps"]
    clear(cache, "usps")
    assert entries(cache) == []


def test_clearing_names_what_there_is_where_a_name_is_unknown(cache: Path) -> None:
    found = ", ".join(entry.name for entry in entries(cache))
    with pytest.raises(ConfigError) as error:
        clear(cache, "encodde")
    assert str(error.value) == f"tlrun data cache --clear: nothing is named encodde in {cache}; there is {found}"


def test_clearing_an_entry_that_is_being_made_is_refused_by_name(cache: Path) -> None:
    (b,) = cache.glob("b-*")
    with locks.locked(b / "lock", wait=False), pytest.raises(ConfigError, match=f"{b.name} is being made by another"):
        clear(cache, "b")


def test_an_entry_cleared_between_making_its_folder_and_its_lock_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked, cleared = locks.locked, []

    def slow(path: Path, *, wait: bool):  # type: ignore[no-untyped-def]
        if not cleared:
            cleared.append(path)
            path.parent.rmdir()
        return locked(path, wait=wait)

    monkeypatch.setattr(locks, "locked", slow)
    assert add(tmp_path, "a")[3] == 3
    assert cleared


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_before_anything_is_written_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> dict[str, np.ndarray]:
        raise error

    with pytest.raises(error):
        cached_arrays(tmp_path, "a", inputs={}, make=fail)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_had_only_begun_is_listed_and_cleared(tmp_path: Path) -> None:
    lock = tmp_path / f"statistics-{'0' * 12}" / "lock"
    lock.parent.mkdir()
    lock.touch()
    with locks.locked(lock, wait=False):
        assert [entry.state for entry in entries(tmp_path)] == ["in use"]
        assert clear(tmp_path, None) == []
    (found,) = entries(tmp_path)
    assert (found.name, found.state, found.size) == (lock.parent.name, "unfinished", 0)
    assert clear(tmp_path, None) == [found]
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert entries(tmp_path / "none") == []
    keep_below(tmp_path / "none", 1.0)
