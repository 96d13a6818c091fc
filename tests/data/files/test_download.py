from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.server import Server, serve
from tlrun.config import ConfigError
from tlrun.data.files import download
from tlrun.data.files.download import Remote, fetch, fetch_missing

CONTENT = hashlib.shake_128(b"a file").digest(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve({"file.bin": CONTENT}) as server:
        yield server


def remote(server: Server, *, md5: str = MD5) -> Remote:
    return Remote("file.bin", (server.address("file.bin"),), md5)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def problem(error: pytest.ExceptionInfo[ConfigError]) -> str:
    (line,) = error.value.problems
    return line


def test_a_file_gets_its_name_once_it_is_whole(server: Server, tmp_path: Path) -> None:
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == {"file.bin"}
    assert server.asked == [("file.bin", None)]


def test_a_broken_connection_is_taken_up_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cut_after = [100_000, 50_000]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_what_an_earlier_call_left_is_gone_on_from(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(CONTENT[:123_456])
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("file.bin", "bytes=123456-")]
    assert names(tmp_path) == {"file.bin"}


def test_a_part_that_was_complete_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("file.bin", "bytes=300000-")]


def test_without_ranges_a_file_is_fetched_from_its_start(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [100_000]
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-"]


@pytest.mark.parametrize("left", [b"another file's beginning", CONTENT + b"and more"], ids=["other", "too long"])
def test_a_part_of_something_else_is_started_over(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / ".file.bin.part").write_bytes(left)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("file.bin", f"bytes={len(left)}-"), ("file.bin", None)]


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        fetch(remote(server, md5="0" * 32), tmp_path)
    assert problem(error) == (
        f"data.download: fetching file.bin into {tmp_path} failed ({server.address('file.bin')}: 300,000 bytes came, "
        f"whose MD5 is {MD5}, not the published {'0' * 32}); try again, or put the file there by hand, or set data.root"
    )
    assert names(tmp_path) == set()
    assert len(server.asked) == 1


def test_a_file_that_ends_too_early_without_saying_so_is_refused(server: Server, tmp_path: Path) -> None:
    server.states_length = False
    server.cut_after = [1000]
    with pytest.raises(ConfigError, match=r"1,000 bytes came, whose MD5 is [0-9a-f]{32}, not the published"):
        fetch(remote(server), tmp_path)
    assert names(tmp_path) == set()


def test_a_connection_that_keeps_breaking_is_told_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.cut_after = [70_000, 0, 0, 0, 0]
    with pytest.raises(ConfigError) as error:
        fetch(remote(server), tmp_path)
    assert problem(error) == (
        f"data.download: fetching file.bin into {tmp_path} failed ({server.address('file.bin')}: the connection ended "
        "at 70,000 of 300,000 bytes); 70,000 bytes are kept and the same command goes on from there; try again, or put "
        "the file there by hand, or set data.root"
    )
    assert len(server.asked) == 2, "a connection that brings nothing is not tried for ever"
    server.cut_after = []
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("file.bin", "bytes=70000-")


def test_a_server_that_sends_a_little_each_time_is_given_up(server: Server, tmp_path: Path) -> None:
    server.cut_after = [10] * 100
    with pytest.raises(ConfigError, match=r"the connection ended at 50 of 300,000 bytes\)"):
        fetch(remote(server), tmp_path)
    assert len(server.asked) == download.MAX_BROKEN


def test_a_missing_file_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        fetch(Remote("gone.bin", (server.address("gone.bin"),), MD5), tmp_path)
    assert problem(error) == (
        f"data.download: fetching gone.bin into {tmp_path} failed ({server.address('gone.bin')}: HTTP 404 Not Found); "
        "try again, or put the file there by hand, or set data.root"
    )
    assert names(tmp_path) == set()


def test_a_refused_connection_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConfigError) as error:
        fetch(Remote("file.bin", ("http://127.0.0.1:9/file.bin",), MD5), tmp_path)
    assert problem(error) == (
        f"data.download: fetching file.bin into {tmp_path} failed (http://127.0.0.1:9/file.bin: Connection refused); "
        "try again, or put the file there by hand, or set data.root"
    )


def test_the_next_address_is_tried_and_all_failures_are_told(server: Server, tmp_path: Path) -> None:
    gone, found = server.address("gone.bin"), server.address("file.bin")
    assert fetch(Remote("file.bin", (gone, found), MD5), tmp_path).read_bytes() == CONTENT
    with pytest.raises(ConfigError) as error:
        fetch(Remote("file.bin", (gone, "http://127.0.0.1:9/"), MD5), tmp_path)
    assert f"({gone}: HTTP 404 Not Found; http://127.0.0.1:9/: Connection refused)" in problem(error)


def test_no_bar_is_drawn_where_nobody_looks(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(remote(server), tmp_path)
    assert capsys.readouterr() == ("", "")


def test_a_bar_with_the_name_is_drawn_on_a_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fetch(remote(server), tmp_path)
    assert "file.bin" in terminal.getvalue() and "300k" in terminal.getvalue()


def test_a_fetch_that_fails_leaves_no_lock(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    gone = Remote("gone.bin", (server.address("gone.bin"),), MD5)
    with pytest.raises(ConfigError, match="HTTP 404"):
        fetch_missing(lambda: {"gone.bin": gone}, dict, folder, otherwise=folder)
    assert names(folder) == set()


def test_of_two_that_want_a_file_one_fetches_it(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "root"

    def find() -> dict[str, Path]:
        return {path.name: path for path in folder.glob("file.bin")}

    def want() -> None:
        fetch_missing(lambda: {"file.bin": remote(server)}, find, folder, otherwise=tmp_path / "cache")

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert names(folder) == {"file.bin"}


PROCESS = """
import sys
from pathlib import Path
from tlrun.data.files.download import Remote, fetch_missing
folder = Path(sys.argv[1])
find = lambda: {path.name: path for path in folder.glob("file.bin")}
fetch_missing(lambda: {"file.bin": Remote("file.bin", (sys.argv[2],), sys.argv[3])}, find, folder, otherwise=folder)
print((folder / "file.bin").stat().st_size)
"""


def test_of_two_processes_one_fetches(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path), server.address("file.bin"), MD5]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["300000\n", "300000\n"]
    assert len(server.asked) == 1
