"""A file that the user named: whole or as it was, links stay, and pipes and devices are never replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tlrun.files import RunError
from tlrun.report.named_file import named_file


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.csv"
    with named_file(path) as put:
        put(b"one\n")
        assert not path.exists()
        put(b"two\n")
    assert path.read_text() == "one\ntwo\n"
    with pytest.raises(ZeroDivisionError), named_file(path) as put:
        put(b"%d" % (1 / 0))
    assert path.read_text() == "one\ntwo\n"
    assert [each.name for each in path.parent.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "out.csv", tmp_path / "link.csv"
    if there:
        target.write_text("before")
    link.symlink_to(Path("far") / "out.csv")
    with named_file(link) as put:
        put(b"after")
    assert link.is_symlink() and target.read_text() == "after"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["far", "link.csv", "out.csv"]


def test_a_folder_and_a_link_that_leads_to_itself_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {"folder": "it is a folder", "loop": "Too many levels of symbolic links"}.items():
        with pytest.raises(RunError) as error, named_file(tmp_path / name):
            pass
        assert str(error.value) == f"cannot write {tmp_path / name}: {reason}"
        assert (tmp_path / name).is_symlink()


def test_a_pipe_takes_the_bytes_as_they_come_and_stays(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    first = threading.Event()

    def reader() -> None:
        with pipe.open("rb", buffering=0) as file:
            read.append(file.read(100))
            first.set()
            read.append(file.read(100))

    thread = threading.Thread(target=reader)
    thread.start()
    with named_file(pipe) as put:
        put(b"one")
        assert first.wait(10)
        put(b"two")
    thread.join(10)
    assert read == [b"one", b"two"]
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_device_stays_and_what_it_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = []
    monkeypatch.setattr(os, "replace", lambda *paths: replaced.append(paths))  # root could do harm where this fails
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "link"):
        with named_file(path) as put:
            put(b"gone")
    said = r"^cannot write /dev/full: No space left on device$"
    with pytest.raises(RunError, match=said), named_file(Path("/dev/full")) as put:
        put(b"x")
    assert not replaced and Path("/dev/null").is_char_device() and (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: real(Path("/dev/full"), *args, **more))
    said = r"^cannot write .*out.csv: No space left on device$"
    with pytest.raises(RunError, match=said), named_file(tmp_path / "out.csv") as put:
        put(b"x" * 100_000)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a name for standard output")
def test_standard_output_by_its_name_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")  # as /dev/stdout is, which a failure would replace
    script = (
        "import os; from pathlib import Path; from tlrun.report.named_file import named_file\n"
        "with named_file(Path('stdout')) as put: put(b'one ')\n"
        "os.write(1, b'two')\n"
    )
    said = tmp_path / "said"
    said.write_text("before ")
    with said.open("ab") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, check=True, cwd=tmp_path)
    assert said.read_text() == "before one two"
