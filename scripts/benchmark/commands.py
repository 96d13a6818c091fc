"""Whole commands: how long they take, what they reach, how much memory they hold.

python commands.py start       `tlrun --help`, and the time to the first optimizer step beyond `import torch`
python commands.py default     the default command from an empty cache: seconds, first epoch's line, memory
python commands.py accuracy    dann and its floor on MNIST-M: released where TLRUN_DATA holds it, and made
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from table import at_least, at_most, show

TLRUN = [sys.executable, "-m", "tlrun"]
FIRST_STEP = """
import os, sys, time
import torch
imported = time.time()
from tlrun.engine.optimise import Optimiser
def first(self, turn):
    print(time.time() - imported, flush=True)
    os._exit(0)
Optimiser.step = first
from tlrun.cli import main
main(sys.argv[1:])
"""


def start() -> None:
    """Both on a warm disk: one run before the counted ones."""
    times = []
    for _ in range(6):
        began = time.monotonic()
        subprocess.run([*TLRUN, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.monotonic() - began)
    at_most("tlrun --help", median(times[1:]), 1.0, " s")
    with tempfile.TemporaryDirectory() as root:
        steps = [
            float(subprocess.run([sys.executable, "-c", FIRST_STEP, f"run.root={root}", f"seed={seed}"], check=True,
                                 capture_output=True, text=True).stdout.split()[-1])
            for seed in range(4)
        ]  # fmt: skip
    at_most("command to first optimizer step beyond import torch", median(steps[1:]), 3.0, " s")


def default() -> None:
    """As after installation: nothing cached, the shipped data."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"TLRUN_CACHE": f"{folder}/cache", "TLRUN_DATA": f"{folder}/data"}
        command = [*TLRUN, "strategy=dann", "data=mnist_mnistm", f"run.root={folder}/outputs"]
        began = time.monotonic()
        first = None
        with subprocess.Popen(command, env=os.environ | places, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if first is None and line.startswith("epoch 1/"):
                    first = time.monotonic() - began
        seconds = time.monotonic() - began
        assert process.returncode == 0 and first is not None
    at_most("the default command, from nothing", seconds, 300.0, " s")
    at_most("its first epoch's line", first, 30.0, " s")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    at_most("its resident memory", memory, 1.5, " GB")


def accuracy() -> None:
    """One seed; nothing is selected by target labels."""
    with tempfile.TemporaryDirectory() as root:
        for images in ("released", "made"):
            if images == "released" and not (Path(os.environ.get("TLRUN_DATA", "data")) / "mnist_m").is_dir():
                show("dann on the released MNIST-M: skipped, TLRUN_DATA names no folder that holds mnist_m")
                continue
            found = {}
            for strategy in ("dann", "source_only"):
                found[strategy] = run([f"strategy={strategy}", f"data.target.images={images}", f"run.root={root}"])
            dann, floor = (found[name]["target_test_accuracy"] for name in ("dann", "source_only"))
            show(f"{images}: dann {dann:.4f} in {found['dann']['seconds']:.0f} s, source_only {floor:.4f}")
            if images == "released":
                at_least("dann on the released MNIST-M", dann, 0.85)
            else:
                at_least("dann above source_only on the made MNIST-M", 100 * (dann - floor), 25.0, " points")


def run(overrides: list[str]) -> dict[str, Any]:
    """The summary of one run."""
    done = subprocess.run([*TLRUN, "data=mnist_mnistm", *overrides], check=True, stdout=subprocess.PIPE, text=True)
    summary: dict[str, Any] = json.loads((Path(done.stdout.split()[0]) / "summary.json").read_text())
    return summary


if __name__ == "__main__":
    {"start": start, "default": default, "accuracy": accuracy}[sys.argv[1]]()
