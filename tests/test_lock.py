from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.forked import child
from tlrun import locks
from tlrun.run import RunError, RunFolder

# Newer Pythons warn of fork in a process with threads; the children here only write files. And they would wait for
# ever for torch's other threads, which fork does not copy.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def hold(path: Path, *, wait: bool = False) -> Callable[[Connection], None]:
    """A task that takes the run's lock, says so, and gives it back when told to."""

    def task(pipe: Connection) -> None:
        with RunFolder(path).lock(wait=wait):
            pipe.send("locked")
            pipe.recv()

    return task


def test_second_process_on_a_run_folder_is_told_who_has_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "run")
    with child(hold(folder.path)) as (process, pipe):
        pipe.recv()
        with pytest.raises(RunError) as error, folder.lock(wait=False):
            pass
        who = f"process {process.pid} on {socket.gethostname()}"
        assert str(error.value) == f"{folder.path} is in use by {who}; wait until it ends, or stop it"
        folder.lock_file.write_bytes(b"\xff")
        with pytest.raises(RunError, match="is in use by another process; wait"), folder.lock(wait=False):
            pass
        pipe.send("stop")
        process.join()
    with folder.lock(wait=False) as same:
        assert same is folder
        assert folder.lock_file.read_text() == f"{os.getpid()} {socket.gethostname()}\n"
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on "), folder.lock(wait=False):
            pass
    assert folder.lock_file.read_text() == ""


def test_waiting_for_a_run_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path)
    with child(hold(folder.path)) as (process, pipe), caplog.at_level(logging.INFO, logger="tlrun"):
        pipe.recv()
        threading.Timer(0.5, pipe.send, ["stop"]).start()
        with folder.lock(wait=True):
            process.join(5)
            assert not process.is_alive()
    who = f"process {process.pid} on {socket.gethostname()}"
    assert caplog.messages == [f"waiting for {folder.path}, which is in use by {who}"]


def test_lock_ends_with_its_process_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def task(pipe: Connection) -> None:
        with RunFolder(tmp_path).lock(wait=False):
            worker = os.fork()
            if worker == 0:
                time.sleep(30)
                os._exit(0)
            pipe.send(worker)
            pipe.recv()

    with child(task) as (process, pipe):
        worker = pipe.recv()
        try:
            with pytest.raises(RunError, match=f"in use by process {process.pid} on"), folder.lock(wait=False):
                pass
            process.kill()
            process.join()
            with folder.lock(wait=False):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_forked_child_that_leaves_the_block_does_no_harm(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(folder.lock(wait=False))
        worker = os.fork()
        if worker == 0:
            with suppress(BaseException):
                stack.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(worker, 0)[1] == 0
        assert locks.is_locked(folder.lock_file)
        assert folder.lock_file.read_text() == f"{os.getpid()} {socket.gethostname()}\n"


def test_reader_keeps_neither_an_owner_out_nor_another_reader(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.lock_file.open("w") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert not locks.is_locked(folder.lock_file)
        threading.Timer(0.05, fcntl.flock, [reader, fcntl.LOCK_UN]).start()
        with folder.lock(wait=False):
            assert locks.is_locked(folder.lock_file)
    assert not locks.is_locked(folder.lock_file)
    assert not locks.is_locked(tmp_path / "nowhere")


def test_lock_file_removed_while_waiting_is_taken_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with child(hold(tmp_path)) as (first, pipe), child(hold(tmp_path, wait=True)) as (_, waiting):
        pipe.recv()
        time.sleep(0.5)
        folder.lock_file.unlink()
        first.kill()
        assert waiting.poll(5)
        assert locks.is_locked(folder.lock_file)


def test_killed_run_is_interrupted(tmp_path: Path) -> None:
    def task(pipe: Connection) -> None:
        with RunFolder(tmp_path).lock(wait=False) as folder:
            folder.write_status("running")
            pipe.send("running")
            pipe.recv()

    folder = RunFolder(tmp_path)
    with child(task) as (process, pipe):
        pipe.recv()
        assert folder.state() == "running"
        process.kill()
        process.join()
        assert folder.read_status()["state"] == "running"
        assert folder.state() == "interrupted"
