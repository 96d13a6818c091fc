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

WHERE = "augment.albumentations"


class PerImage:
    """A pipeline of albumentations operations that leaves size, channels and type as they are.

    operations: mappings `{_target_: albumentations.X, argument: value, ...}`; such mappings inside one (the transforms
    of a OneOf) are built alike. shape: (C, H, W) of the images. Raises ConfigError, with all that is wrong, for a
    target that is not an operation of albumentations, for an argument it does not take, and for a pipeline that changes
    size or type.
    """

    def __init__(self, operations: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> None:
        problems: list[str] = []
        built = [_build(node, f"{WHERE}.{number}", problems) for number, node in enumerate(operations)]
        if problems:
            raise ConfigError(problems)
        self._shape = (shape[1], shape[2], shape[0])
        self._pipeline = importlib.import_module("albumentations").Compose(built)
        self(torch.zeros((1, *self._shape), dtype=torch.uint8), np.zeros(1, dtype=np.uint64))  # fails now or not at all

    def __call__(self, x: Tensor, seeds: NDArray[np.uint64]) -> Tensor:
        """x (N, H, W, C) uint8 on any device, each image under its own seed (N,); returns the like of x."""
        images = x.cpu().contiguous().numpy()
        out = np.empty_like(images)
        for row, seed in enumerate((seeds >> np.uint64(32)).tolist()):
            # Global seeds do not reach a pipeline, and a seed of its own would make it depend on what came before.
            self._pipeline.set_random_seed(seed)
            out[row] = self._augmented(images[row])
        return torch.from_numpy(out).to(x.device)

    def _augmented(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        given = f"{image.dtype} {image.shape}"
        try:
            out: NDArray[Any] = self._pipeline(image=image)["image"]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{WHERE}: an operation does not take {given} images: {_short(error)}") from error
        if out.dtype != np.uint8 or out.shape != self._shape:
            raise ConfigError(
                f"{WHERE}: {given} images come out as {out.dtype} {out.shape}; size and type must stay as they are "
                "(tlrun normalises afterwards)"
            )
        return out


def _build(node: Any, where: str, problems: list[str]) -> Any:
    """The value that a node of the config stands for, operations built; what is wrong is added to `problems`."""
    if isinstance(node, Mapping):
        below = {key: _build(value, f"{where}.{key}", problems) for key, value in node.items() if key != "_target_"}
        return _operation(str(node["_target_"]), below, where, problems) if "_target_" in node else below
    if isinstance(node, list | tuple):
        return [_build(value, f"{where}.{number}", problems) for number, value in enumerate(node)]
    return node


def _operation(target: str, arguments: dict[str, Any], where: str, problems: list[str]) -> Any:
    try:
        kind = leaf(target, "albumentations", arguments=arguments, where=where)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # some arguments it cannot use are only a warning there
            return kind(**arguments)
    except ConfigError as error:
        problems += error.problems
    except (Warning, ValueError, TypeError) as error:
        problems.append(f"{where}: {target} refuses its arguments: {_short(error)}")
    return None


def _short(error: BaseException) -> str:
    """A long report on one line, without its heading and links."""
    lines = [line.strip() for line in str(error).splitlines() if "://" not in line]
    return "; ".join(lines[1:] if len(lines) > 1 else lines)[:300]
