"""What a person sees while a run trains: a bar on a terminal, and one line an epoch in the log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

log = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"
"""Short, so that loss, speed and accuracy are seen on 80 columns; which run it is, the lines above tell."""


class Display:
    """A progress bar over the planned steps; nothing at all where standard error is not a terminal.

    done: the steps that an earlier start has done already, which say nothing of this one's pace.
    """

    def __init__(self, *, steps: int, done: int) -> None:
        self.bar = tqdm(total=steps, initial=done, bar_format=BAR, disable=None, leave=False, file=sys.stderr)
        self.last = 0.0
        self.accuracy = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def move(self, step: int, *, speed: Callable[[], float], loss: Callable[[], float]) -> None:
        """Shows that `step` planned steps are done; asks for images per second and the loss only when it redraws."""
        if self.bar.disable:
            return
        self.bar.n = step
        now = time.monotonic()
        if now - self.last >= REFRESH_SECONDS:
            self.last = now
            text = f"loss {loss():.3f}, {speed():,.0f} images/s"
            self.bar.set_postfix_str(text + self.accuracy, refresh=False)
            self.bar.refresh()

    def encoding(self, name: str, done: int, count: int) -> None:
        """Shows how many rows of a part are through the frozen stages."""
        now = time.monotonic()
        if not self.bar.disable and (now - self.last >= REFRESH_SECONDS or done == count):
            self.last = now
            self.bar.set_postfix_str(f"encoding {name} {done:,}/{count:,}", refresh=True)

    def epoch(self, row: Mapping[str, Any], *, epochs: int) -> None:
        """One line for an evaluated epoch."""
        accuracies = [
            f"{split.replace('_', ' ')} {100 * row[f'{split}_accuracy']:.1f} %"
            for split in ("source_val", "target_val", "target_test")
            if row.get(f"{split}_accuracy") is not None
        ]
        if accuracies:
            self.accuracy = ", " + accuracies[-1]
        figures = (f"loss {row['loss']:.4f}", *accuracies, f"lr {row['lr']:.2g}")
        speed = f"{row['images_per_second']:.0f} images/s, {row['seconds']:.1f} s"
        log.info("epoch %d/%d, %s: %s, %s", row["epoch"], epochs, row["phase"], ", ".join(figures), speed)
