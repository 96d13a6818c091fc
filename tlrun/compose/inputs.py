"""What a model's published weights say of the images that it should see: `auto` settings of the data, and departures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlrun.config import ConfigError, ExperimentConfig, InputSpec, PairSettings
from tlrun.files import RunError, read_yaml


def name_inputs(config: ExperimentConfig, *, weights: str) -> PairSettings:
    """The node `data` with every `auto` named that tells how images are made; it is what the model was trained with.

    weights: what `model.weights` stands for. Channels are as many as the model must have, else one. Without published
    weights, crop and interpolation become 0.875 and bilinear. Normalisation is the model's where its published weights
    are what the run starts from, else shared.
    Imports a model's library only where its weights decide. Raises ConfigError where a model has nothing to say.
    """
    data, model = config.data, config.model
    if data.channels == "auto":
        data = data.model_copy(update={"channels": model.image_channels or 1})
    normalize = data.normalize
    if normalize == "auto":
        normalize = "model" if data.channels != 1 and _starts_as_published(config, weights) else "shared"
    needs_mean = normalize == "model" and data.mean is None
    autos = [key for key in ("image_size", "crop_fraction", "interpolation") if getattr(data, key) == "auto"]
    if not autos and not needs_mean:
        return data.model_copy(update={"normalize": normalize})
    spec = model.input_spec
    problems = []
    if spec is None and data.image_size == "auto":
        problems.append(
            f"data.image_size: auto is the size that a model's published weights were trained at, and model "
            f"{model.name} has none; set a number of pixels"
        )
    if spec is None and needs_mean:
        problems.append(
            f"data.normalize: model is by the mean and std that a model's published weights were trained with, and model "
            f"{model.name} has none; set shared or per_domain, or data.mean and data.std"
        )
    if problems:
        raise ConfigError(problems)
    found = {
        "image_size": spec.size if spec else None,
        "crop_fraction": spec.crop_fraction if spec else 0.875,
        "interpolation": spec.interpolation if spec else "bilinear",
    }
    update: dict[str, Any] = {"normalize": normalize, **{key: found[key] for key in autos}}
    if needs_mean and spec is not None:
        update |= {"mean": spec.mean, "std": spec.std}
    return data.model_copy(update=update)


def run_card(config: ExperimentConfig, card: Mapping[str, Any]) -> dict[str, Any]:
    """The data card of a resolved run: that of its pair, and the departures."""
    return {**card, "departures_from_model_input": departures(config)}


def departures(config: ExperimentConfig) -> list[str]:
    """Where the images of a resolved run differ from those that its starting weights were trained on, in sentences."""
    spec = config.model.input_spec if _starts_as_published(config, config.model.weights) else None
    if spec is None:
        return []
    data = config.data
    found = [_size(data.side, spec), _normalisation(data, spec)]
    return [sentence for sentence in found if sentence]


def _size(side: int | None, spec: InputSpec) -> str | None:
    if side == spec.size:
        return None
    seen = "images as they come" if side is None else f"images of {side} pixels a side"
    return f"the model sees {seen}, its weights were trained on {spec.size}"


def _normalisation(data: PairSettings, spec: InputSpec) -> str | None:
    if data.normalize == "model" and (data.mean, data.std) == (spec.mean, spec.std):
        return None
    how = {
        "model": f"mean {data.mean} and std {data.std}",
        "shared": "the source's own mean and std",
        "per_domain": "each domain's own mean and std",
    }[data.normalize]
    return f"inputs are normalised by {how}, the weights were trained with mean {spec.mean} and std {spec.std}"


def _starts_as_published(config: ExperimentConfig, weights: str) -> bool:
    """Whether the weights that a run starts from came from those that the model's library publishes."""
    if not config.model.has_imagenet_weights or weights == "random":
        return False
    if weights == "imagenet":
        return True
    if weights == "source":
        inner = config.pretrain.weights
        return _starts_as_published(config, "imagenet" if inner == "auto" else inner)
    return _was_normalized_so(Path(weights).expanduser())


def _was_normalized_so(path: Path) -> bool:
    """Whether the run that made these weights normalised as published; a file that no run made is taken to have."""
    folder = path if path.is_dir() else path.parent.parent
    try:
        saved = read_yaml(folder / "config.yaml")
    except RunError:
        return True
    data = saved.get("data")
    return not isinstance(data, dict) or data.get("normalize") == "model"
