"""What a person sees of a run on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tlrun.engine import display
from tlrun.engine.display import Display


@contextmanager
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard error is a terminal of 80 columns, redrawn at once; gives the end at which it is read."""
    reading, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(terminal, "w") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        patch.setattr(display, "REFRESH_SECONDS", 0.0)
        yield reading
    os.close(reading)


def move(bar: Display, step: int) -> None:
    bar.move(step, speed=lambda: 28034.4, loss=lambda: 0.12345)


def shown(reading: int) -> str:
    """The bar as it was drawn last. A terminal hands on what was written a little later, and in pieces."""
    drawn = b""
    while select.select([reading], [], [], 0.5)[0]:
        drawn += os.read(reading, 10_000)
    return drawn.decode().split("\r")[-1].rstrip()


def test_bar_shows_time_left_loss_speed_and_accuracy_on_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"epoch": 1, "phase": "train", "loss": 1.0, "lr": 0.1, "images_per_second": 1.0, "seconds": 1.0}
    with eighty_columns(monkeypatch) as reading, Display(steps=3000, done=0) as bar:
        bar.epoch({**row, "target_test_accuracy": 0.735}, epochs=2)
        move(bar, 2078)
        text = shown(reading)
    assert text.startswith(" 69%|")
    assert text.endswith(" 2078/3000, 00:00 left, loss 0.123, 28,034 images/s, target test 73.5 %")


def test_time_left_after_a_resume_follows_from_the_pace_of_this_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with eighty_columns(monkeypatch) as reading, Display(steps=1000, done=900) as bar:
        bar.bar.start_t = time.time() - 10
        move(bar, 910)
        text = shown(reading)
    assert "910/1000, 01:30 left" in text


def test_there_is_no_bar_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with Display(steps=3, done=0) as bar:
        move(bar, 1)
    assert pipe.getvalue() == ""
