"""Settings of runs that take a second, and what of two such runs is not the same."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlrun.run import RunFolder, load_checkpoint

_SHORT = (
    *("device=cpu", "device.threads=1"),
    # What these tests are about should not change when the shipped defaults do.
    *("optim=sgd", "schedule=inverse_decay", "optim@pretrain.optim=sgd", "schedule@pretrain.schedule=inverse_decay"),
    *("engine.epochs=3", "engine.steps_per_epoch=4", "engine.batch_size=16", "engine.precision=fp32"),
    *("pretrain.engine.epochs=2", "pretrain.engine.steps_per_epoch=3", "pretrain.engine.batch_size=16"),
    "pretrain.engine.precision=fp32",
)
TOY = (*_SHORT, "data=toy_gaussians", "model=mlp", "model.widths=[24,12]", "optim.lr=0.1", "pretrain.optim.lr=0.1")
"""Two clusters in the plane and a small perceptron: 3 epochs of 4 steps."""
DIGITS = (
    *(*_SHORT, "data=pair", "model=digits_cnn", "domain@data.source=mnist", "domain@data.target=mnist"),
    *("data.source.name=tests.engine.small_digits", "+data.source.colours=false"),
    *("data.target.name=tests.engine.small_digits", "+data.target.colours=true"),
)
"""Three hundred grey digits and three hundred coloured ones on the network of the DANN paper, for as many steps."""

SAVING = ("run.checkpoint_seconds=0",)
"""A checkpoint after every step."""

TIMES = {
    "seconds",
    "training_seconds",
    "epoch_seconds",
    "encode_seconds",
    "pretrain_seconds",
    "images_per_second",
    "peak_memory_bytes",
}
"""What two runs of one config may differ in."""


def differences(first: Path, second: Path) -> list[str]:
    """What is not the same, to the bit, in the run folders below two roots, timings and `run` settings apart.

    Looked at are the names of all files and what is in checkpoints, tables, summaries and data cards.
    """
    names = [sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) for root in (first, second)]
    if names[0] != names[1]:
        return sorted(set(names[0]) ^ set(names[1]))
    found = []
    for name in names[0]:
        contents = [_content(root / name) for root in (first, second)]
        keys = [key for key in {**contents[0], **contents[1]} if not _same(*(each.get(key) for each in contents))]
        found += [f"{name}: {key}" for key in keys]
    return found


def _content(path: Path) -> dict[str, Any]:
    """What of a file is compared, under a name for each part."""
    if path.suffix == ".pt":
        return flat(load_checkpoint(path, digest=None))
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return {
                f"{number} {column}": cell
                for number, row in enumerate(csv.DictReader(file))
                for column, cell in row.items()
                if column not in TIMES
            }
    if path.name in ("summary.json", "data.json"):
        return flat(json.loads(path.read_text()))
    return {}


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """The leaves of nested plain values, under their whole keys, timings and `run` settings apart."""
    if isinstance(value, Mapping):
        nested = list(value.items())
    elif isinstance(value, list | tuple):
        nested = list(enumerate(value))
    else:
        return {key: value}
    kept = [(name, item) for name, item in nested if name not in TIMES and f"{key}.{name}" != ".config.run"]
    return {name: leaf for part, item in kept for name, leaf in flat(item, f"{key}.{part}").items()}


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and first.shape == second.shape and _bits(first) == _bits(second)
    # As text, so that a number that is none equals itself.
    return type(first) is type(second) and repr(first) == repr(second)


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def model_bits(path: Path) -> dict[str, bytes]:
    """The parameters and buffers of a checkpoint's model, by name."""
    return {name: _bits(tensor) for name, tensor in load_checkpoint(path, digest=None)["model"].items()}


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of metrics.csv."""
    table = folder.read_metrics()
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
