"""albumentations, image by image: built through the allow-list, seeded per row, imported only where it is used."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlrun.build import leaf
from tlrun.config import ConfigError

MODEL_SIDE = "image_size"
"""Where an argument has this for a number, the side of the model's input stands."""
DRAWS = 4
"""Blank images that go through a pipeline before the first batch: what it cannot do should be told then."""


class PerImage:
    """A pipeline of albumentations operations that leaves channels and type as they are.

    operations: mappings `{_target_: albumentations.X, argument: value, ...}`; such mappings inside one (the transforms
    of a OneOf) are built alike. rows: (H, W, C) of the images; size: (height, width) of the model's input. An image may
    come out as large as it came, and is then cut to its middle, or as large as the model's input. where: the key to
    name in errors. Raises ConfigError, with all that is wrong, for a target that is not an operation of albumentations,
    for an argument it does not take, and for a pipeline that gives another size or type.
    """

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        rows: tuple[int, int, int],
        size: tuple[int, int],
        *,
        where: str = "augment.albumentations",
    ) -> None:
        problems: list[str] = []
        self._rows, self._size, self._where = rows, size, where
        built = [self._build(node, f"{where}.{number}", problems) for number, node in enumerate(operations)]
        if problems:
            raise ConfigError(problems)
        self._pipeline = importlib.import_module("albumentations").Compose(built)
        self(torch.zeros((DRAWS, *rows), dtype=torch.uint8), np.arange(DRAWS, dtype=np.uint64) << np.uint64(32))

    def __call__(self, x: Tensor, seeds: NDArray[np.uint64]) -> Tensor:
        """x (N, H, W, C) uint8 on any device, each image under its own seed (N,); returns (N, height, width, C)."""
        images = x.cpu().contiguous().numpy()
        out = np.empty((len(images), *self._size, self._rows[2]), dtype=np.uint8)
        for row, seed in enumerate((seeds >> np.uint64(32)).tolist()):
            # Global seeds do not reach a pipeline, and a seed of its own would make it depend on what came before.
            self._pipeline.set_random_seed(seed)
            out[row] = self._augmented(images[row])
        return torch.from_numpy(out).to(x.device)

    def _augmented(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        given = f"{image.dtype} {image.shape}"
        try:
            out: NDArray[Any] = self._pipeline(image=image)["image"]
        except Exception as error:  # some of the library's errors derive from nothing narrower
            raise ConfigError(f"{self._where}: an operation does not take {given} images: {_short(error)}") from error
        if out.dtype == np.uint8 and out.shape == (*self._size, self._rows[2]):
            return out
        if out.dtype != np.uint8 or out.shape != self._rows:
            allowed = dict.fromkeys(f"{height}x{width}" for height, width in (self._rows[:2], self._size))
            raise ConfigError(
                f"{self._where}: {given} images come out as {out.dtype} {out.shape}; they must be uint8 of "
                f"{' or '.join(allowed)} with as many channels (tlrun normalises afterwards)"
            )
        height, width = self._size
        top, left = (out.shape[0] - height) // 2, (out.shape[1] - width) // 2
        return out[top : top + height, left : left + width]

    def _build(self, node: Any, where: str, problems: list[str]) -> Any:
        """The value that a node of the config stands for, operations built; what is wrong is added to `problems`."""
        if isinstance(node, Mapping):
            before = len(problems)
            below = {
                key: self._build(value, f"{where}.{key}", problems) for key, value in node.items() if key != "_target_"
            }
            if "_target_" not in node:
                return below
            problems += _problems_of_transforms(node.get("transforms"), f"{where}.transforms")
            return _operation(node["_target_"], below, where, problems) if len(problems) == before else None
        if isinstance(node, list | tuple):
            return [self._build(value, f"{where}.{number}", problems) for number, value in enumerate(node)]
        if node == MODEL_SIDE:
            if self._size[0] != self._size[1]:
                problems.append(f"{where}: {MODEL_SIDE} stands for the side of square inputs; set data.image_size")
            return self._size[0]
        return node


def _problems_of_transforms(nodes: Any, where: str) -> list[str]:
    """What an operation that holds others, such as OneOf, would only trip over: entries that name no operation."""
    named = [
        (f"{where}.{number}", node) for number, node in enumerate(nodes if isinstance(nodes, list | tuple) else ())
    ]
    return [
        f"{place}._target_: must be given, as albumentations.<class>"
        for place, node in named
        if not (isinstance(node, Mapping) and "_target_" in node)
    ]


def _operation(target: str, arguments: dict[str, Any], where: str, problems: list[str]) -> Any:
    try:
        kind = leaf(target, "albumentations", arguments=arguments, where=where)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # some arguments it cannot use are only a warning there
            return kind(**arguments)
    except ConfigError as error:
        problems += error.problems
    except Exception as error:
        problems.append(f"{where}: {target} refuses its arguments: {_short(error)}")
    return None


def _short(error: BaseException) -> str:
    """A long report on one line, without its heading and links."""
    lines = [line.strip() for line in str(error).splitlines() if "://" not in line]
    return "; ".join(lines[1:] if len(lines) > 1 else lines)[:300]
