"""A folder of many image files: what listing it takes, when the first step comes, and what memory does as it grows.

    python many_files.py [--images 100000]

Makes a folder of that many links to a few JPEG files in 100 classes, and one of a fiftieth of them; trains ResNet-18 on
each from random weights for some steps, in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from table import at_most, plain

CLASSES = 100
FILES = 50
"""So many different images, 300 pixels a side, as Office-31's amazon has them."""
STEPS = 20
SMALLER = 50

PROGRAM = f"""
import os, resource, sys, time
import tlrun.data.opened as opened
import tlrun.experiment as experiment
from tlrun.cli import main
from tlrun.engine.optimise import Optimiser

load_pair, list_files, step = experiment.load_pair, opened.list_files, Optimiser.step
times = []

def begin(*arguments, **options):
    times.append(time.monotonic())
    return load_pair(*arguments, **options)

def listed(*arguments, **options):
    found = list_files(*arguments, **options)
    times.append(time.monotonic())
    return found

def steps(*arguments, **options):
    step(*arguments, **options)
    times.append(time.monotonic())
    if len(times) == 2 + {STEPS}:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(times[1] - times[0], times[2] - times[1], peak, flush=True)
        os._exit(0)

experiment.load_pair, opened.list_files, Optimiser.step = begin, listed, steps
sys.exit(main(sys.argv[1:]) or 1)
"""
"""Prints seconds of the listing, from there to the end of the first step, and the most memory held (GB)."""


def linked(root: Path, count: int) -> Path:
    """A folder of links in class folders, a file behind each of them."""
    files = root / "files"
    files.mkdir(parents=True)
    noise = np.random.RandomState(0)
    for number in range(FILES):
        small = Image.fromarray(noise.randint(0, 256, (24, 24, 3)).astype(np.uint8))
        small.resize((300, 300), Image.Resampling.BICUBIC).save(files / f"{number}.jpg")
    for number in range(count):
        place = root / "photos" / f"class{number % CLASSES:03}" / f"{number:06}.jpg"
        if number < CLASSES:
            place.parent.mkdir(parents=True)
        place.symlink_to(files / f"{number % FILES}.jpg")
    return root / "photos"


def measured(folder: Path, count: int) -> tuple[float, float, float]:
    root = folder / str(count)
    command = (
        *("data=folder", f"data.target.root={linked(root, count)}", "strategy=scratch", "model=resnet18"),
        *("model.weights=random", "engine.batch_size=32", f"engine.steps_per_epoch={STEPS + 1}", "engine.epochs=1"),
        *(f"run.root={root / 'outputs'}", f"data.cache_root={root / 'cache'}"),
    )
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command], check=True, stdout=subprocess.PIPE, text=True)
    listing, first, memory = map(float, done.stdout.split())
    return listing, first, memory


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="tlrun-benchmark-") as name:
        fewer = max(images // SMALLER, 10 * CLASSES)
        *_, small = measured(Path(name), fewer)
        listing, first, memory = measured(Path(name), images)
    plain(f"listing {images:,} image files", listing, " s")
    at_most("  from there to the end of the first step", first, 10.0, " s")
    at_most(f"  the most memory held in {STEPS} steps", memory, 2.0, " GB")
    plain(f"  the same with {fewer:,} files", small, " GB")
