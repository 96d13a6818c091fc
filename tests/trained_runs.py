"""Finished runs for the verbs that use them: on small photographs made here, on digits as arrays, and in the plane."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.engine.runs import DIGITS, TOY
from tlrun import experiment
from tlrun.config import ExperimentConfig
from tlrun.data.datasets.base import DomainData
from tlrun.data.domain import load_domain
from tlrun.run import RunFolder

Config = Callable[..., ExperimentConfig]
CLASSES = ("blue bag", "green,bin", "red")
"""With a space and a comma, which tables and CSV files must bear."""
PHOTOS = (
    *(each for each in TOY if not each.startswith(("data=", "model", "engine.batch_size"))),
    *("strategy=dann", "strategy.batch_norm=apart", "data=pair", "data.normalize=per_domain", "data.image_size=16"),
    *("domain@data.source=folder", "domain@data.target=folder", "model=digits_cnn_wide", "engine.batch_size=8"),
    "engine.select=last",
)


def photos(root: Path, *, shade: int, count: int = 8) -> Path:
    """A folder of images of three classes, of several sizes and formats: noise around a colour, darker by `shade`."""
    random = np.random.RandomState(shade)
    for number, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for row in range(count):
            pixels = random.randint(0, 90, (20 + row, 26, 3))
            pixels[..., 2 - number] += 160 - shade
            suffix = ("png", "jpg", "bmp")[row % 3]
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{row}.{suffix}")
    return root


def photo_run(config: Config, root: Path) -> RunFolder:
    """A run on two folders of photographs; its data are gone when this returns, their target's copy lies beside."""
    source, target = photos(root / "source", shade=0), photos(root / "target", shade=80)
    place = (f"data.source.root={source}", f"data.target.root={target}", f"data.cache_root={root / 'cache'}")
    outcome = experiment.run(config(*PHOTOS, *place, f"run.root={root}"), command="tlrun strategy=dann")
    shutil.rmtree(source)
    return RunFolder(target.rename(root / "kept").parent / outcome.folder.name)


def digit_run(config: Config, root: Path) -> RunFolder:
    outcome = experiment.run(config(*DIGITS, "strategy=adabn", f"run.root={root}"), command="tlrun")
    return RunFolder(outcome.folder)


def toy_run(config: Config, root: Path) -> RunFolder:
    overrides = (*TOY, "strategy=mmd", "engine.select=source_val", f"run.root={root}")
    return RunFolder(experiment.run(config(*overrides), command="tlrun").folder)


def domain_data(config: ExperimentConfig) -> DomainData:
    """The target of a run as it comes."""
    return load_domain(config.data, "target")
