"""Putting weights in place: reading files that may be damaged or foreign, and what of them fits the model."""

from __future__ import annotations

import hashlib
import importlib
import logging
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlrun.config import ConfigError, ModelSettings
from tlrun.models.transfer import TransferModel

logger = logging.getLogger(__name__)

FORMAT = 1
"""The format of checkpoints that this version reads."""

SHOWN = 3
"""How many parameter names an error lists."""

ADVICE = {
    "backbone": ("model.weights", "take the model, data.channels and data.image_size that it was made with"),
    "bottleneck": ("model.bottleneck", "set model.bottleneck as it is there, or model.head=new without one"),
    "head": (
        "model.head",
        "set model.head=new, or model.head_type, model.hidden and model.bottleneck as they are there",
    ),
}
"""For each part of a model the setting that an error is about, and what to do."""

Classes = tuple[str, ...]


@dataclass(frozen=True)
class LoadedWeights:
    """Where weights came from: origin in words, `weights_hash` (None for random ones), the stages that they fill."""

    origin: str
    sha256: str | None
    stages: tuple[str, ...]


def load_weights(
    model: TransferModel, config: ModelSettings, *, classes: Classes, source: Path | None = None
) -> LoadedWeights:
    """Puts into a freshly built model what `config.weights` and `config.head` ask for.

    classes: the task's, compared by name and order with those the weights were trained for. source: the checkpoint
    that stands for `weights=source`. Nothing is drawn at random. Raises ConfigError naming file and parameters where
    weights cannot be read or do not fit; then the model is as it was.
    """
    if config.weights_file is not None and config.weights != "imagenet":
        raise ConfigError(
            f"model.weights_file: has no effect with model.weights={config.weights}; set imagenet, or "
            f"model.weights={config.weights_file}"
        )
    if config.weights == "random":
        if config.head == "keep":
            raise ConfigError(
                "model.head: keep needs weights with a head, got model.weights=random; set model.head=auto"
            )
        return LoadedWeights("random", None, ())
    state, found, origin = named_weights(model, config, source)
    parts = parts_taken(model, config, state, classes=classes, found=found, origin=origin)
    stages = fill(model, state, parts, origin=origin)
    logger.info("weights from %s: %s", origin, ", ".join(stages))
    return LoadedWeights(origin, weights_hash(state), stages)


def load_backbone(model: TransferModel, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Fills the backbone from a state dict under this model's, its backbone's or the original architecture's names.

    Bottleneck and head stay as they are. origin says in errors where the state is from. Raises ConfigError naming the
    first parameters that are missing, unknown or of another shape; then the model is as it was.
    """
    fill(model, model_names(model, state, origin=origin), ("backbone",), origin=origin)


def named_weights(
    model: TransferModel, config: ModelSettings, source: Path | None
) -> tuple[dict[str, Tensor], Classes | None, str]:
    """The state dict under the model's names, the classes it was trained for if known, and its origin in words."""
    if config.weights == "auto":
        raise ValueError("model.weights=auto must be resolved before weights are loaded")
    if config.weights == "imagenet":
        published = model.backbone.imagenet_weights(config)
        values = published.state if published.state is not None else read_weights(published.path)[0]
        origin = f"imagenet ({published.path.name})"
        return model_names(model, values, origin=origin), published.classes, origin
    if config.weights == "source":
        if source is None:
            raise ValueError("model.weights=source needs the path of the source model")
        path, origin = source, f"the source model {source}"
    else:
        path = Path(config.weights).expanduser()
        origin = str(path)
    state, found = read_weights(path)
    return model_names(model, state, origin=origin), found, origin


def parts_taken(
    model: TransferModel,
    config: ModelSettings,
    state: Mapping[str, Tensor],
    *,
    classes: Classes,
    found: Classes | None,
    origin: str,
) -> tuple[str, ...]:
    """Which parts of the model the weights fill, by `config.head`.

    new: the backbone, and the bottleneck where both have one. keep: the head too. auto: as keep where the class names
    are equal, else as new. Raises ConfigError where keep is asked for and the names differ; where the weights come
    without names, the sizes decide.
    """
    if config.head == "keep" and found is not None and found != classes:
        raise ConfigError(
            f"model.head: keep needs weights trained for the same classes; {origin} knows {listed(found, 10)}, "
            f"the data have {listed(classes, 10)}; set model.head=new"
        )
    if config.head == "keep" or (config.head == "auto" and found == classes):
        return ("backbone", "bottleneck", "head")
    has_both = model.has_bottleneck and any(name.startswith("bottleneck.") for name in state)
    return ("backbone", "bottleneck") if has_both else ("backbone",)


def read_weights(path: Path) -> tuple[dict[str, Tensor], Classes | None]:
    """The state dict in a file, on the CPU, and the class names it was trained for (None where it does not say).

    path: a checkpoint of tlrun, a run folder (its best checkpoint), a plain state dict (.pth, .pt), or a .safetensors
    file where that package is installed. Nothing but tensors and plain values is ever unpickled. Raises ConfigError.
    """
    if path.is_dir():
        folder, path = path, path / "checkpoints" / "best.pt"
        if not path.is_file():
            raise ConfigError(
                f"model.weights: {folder} is a folder without checkpoints/best.pt; name a run folder or a file"
            )
    if not path.is_file():
        raise ConfigError(f"model.weights: no file {path}; set random, imagenet, source, or the path of a file or run")
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    classes: Classes | None = None
    if isinstance(content, dict) and {"format", "model", "classes"} <= content.keys():
        if content["format"] != FORMAT:
            raise ConfigError(
                f"model.weights: {path} has format {content['format']}, this version of tlrun reads {FORMAT}"
            )
        content, classes = content["model"], tuple(content["classes"])
    if not is_state(content):
        raise ConfigError(
            f"model.weights: {path} holds no state dict (names and tensors), but {described(content)}; "
            "save model.state_dict() alone"
        )
    return content, classes


def read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere inside the unpickler
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            raise ConfigError(
                f"model.weights: {path} holds Python objects, which are not loaded as they could run code; "
                "save model.state_dict() alone"
            ) from error
        raise ConfigError(
            f"model.weights: {path} cannot be read as weights, it is damaged or something else; name another file"
        ) from error


def read_safetensors(path: Path) -> Any:
    try:
        return importlib.import_module("safetensors.torch").load_file(path, device="cpu")
    except Exception as error:  # its error class lies in the package's compiled part
        raise ConfigError(
            f"model.weights: {path} cannot be read as weights, it is damaged or something else; name another file"
        ) from error


def model_names(model: TransferModel, state: Mapping[str, Tensor], *, origin: str) -> dict[str, Tensor]:
    """The same tensors under the names of a TransferModel. Raises ConfigError where no name is recognised."""
    if any(name.startswith("backbone.stages.") for name in state):
        return dict(state)
    own = dict(state) if any(name.startswith("stages.") for name in state) else model.backbone.own_names(state)
    if not any(name.startswith("stages.") for name in own):
        raise ConfigError(
            f"model.weights: {origin} is of another model: it holds {listed(state)}; "
            f"expected {listed(name for name in model.state_dict() if name.startswith('backbone.'))}"
        )
    return {f"backbone.{name}" if name.startswith("stages.") else name: tensor for name, tensor in own.items()}


def fill(model: TransferModel, state: Mapping[str, Tensor], parts: Iterable[str], *, origin: str) -> tuple[str, ...]:
    """Copies these parts into the model, all or, on a misfit, none; marks and returns the stages that they fill."""
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    problems: list[str] = []
    stages: tuple[str, ...] = ()
    for part in parts:
        expected, given = under(part, own), under(part, state)
        problems += misfits(expected, given, part=part, origin=origin)
        taken |= given
        stages += model.backbone_stages if part == "backbone" else (part,) if expected else ()
    if problems:
        raise ConfigError(problems)
    model.load_state_dict(taken, strict=False)
    model.pretrained |= set(stages)
    return stages


def under(part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(f"{part}.")}


def misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, part: str, origin: str) -> list[str]:
    """What keeps `state` from filling `own`: other shapes, names missing, names unknown; a line for each kind."""
    shapes = [
        f"{name} is {tuple(state[name].shape)} there and {tuple(tensor.shape)} here"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    # Files older than this counter lack it, and it only counts batches.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in own]
    setting, advice = ADVICE[part]
    kinds = (("does not fit", shapes), ("lacks", missing), ("has more than this model", unknown))
    return [f"{setting}: {origin} {kind}: {listed(names)}; {advice}" for kind, names in kinds if names]


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names: equal values, equal hash.

    Independent of the tensors' memory layout and device.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_state(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
    )


def described(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dict with {listed(map(str, content))}" if content else "an empty dict"
    return f"a {type(content).__name__}"


def listed(names: Iterable[str], most: int = SHOWN) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
