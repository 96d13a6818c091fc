"""Small image files for tests: each one its own picture, of the class's colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"cat": (200, 60, 60), "dog": (60, 200, 60), "owl": (60, 60, 200)}


def save_image(path: Path, *, colour: tuple[int, int, int] = (90, 90, 90), draw: int = 0, side: int = 24) -> Path:
    """A PNG or JPEG of noise around a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(draw).randint(-40, 40, (side, side, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def save_classes(root: Path, count: int = 8, *, names: tuple[str, ...] = ("cat", "dog", "owl"), draw: int = 0) -> Path:
    """`count` images of each class below root, a folder a class."""
    for number, name in enumerate(names):
        for each in range(count):
            save_image(root / name / f"{each:03}.png", colour=COLOURS[name], draw=draw * 10000 + number * 1000 + each)
    return root


def damage(path: Path) -> Path:
    """Cuts the file in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path
