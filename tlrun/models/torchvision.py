"""torchvision's classification networks, any of them by name."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from tlrun.config import ConfigError, InputSpec, ModelSettings
from tlrun.config.error_text import MISSING, unknown
from tlrun.models.library import (
    fetch_from_hub,
    hub_cache,
    last_layer,
    local_file,
    not_found,
    parted,
    redraw,
    size_refused,
)
from tlrun.models.transfer import Backbone, PublishedWeights, image_shape
from tlrun.models.vision import import_torchvision

SIZED = {"vit": "image_size", "maxvit": "input_size"}
"""Families built for one size of image, and the argument that gives it."""

SHIFTED = ("googlenet", "inception_v3")
"""Trained by TensorFlow's convention, inputs in [-1, 1]; torchvision converts its usual inputs back to that."""

AUXILIARY = ("AuxLogits", "aux1", "aux2")
"""Second classifiers that only their own training uses."""


class Torchvision(Backbone):
    """A network of torchvision without its last layer, cut into stages (see `cut.py`), for 3 channels.

    Initial values are torchvision's. Where the last layer is a convolution followed by pooling (SqueezeNet), the
    features are what it would see, pooled, and its published classifier cannot be kept.
    """

    class Config(ModelSettings):
        arch: str

        has_imagenet_weights: ClassVar[bool] = True
        image_channels: ClassVar[Literal[1, 3] | None] = 3

        @property
        def input_spec(self) -> InputSpec:
            from tlrun.models import torchvision

            return torchvision.input_spec(self.arch)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        shape = image_shape(shape, model=config.arch, channels=config.image_channels)
        spec = input_spec(config.arch)
        is_sized = config.arch.partition("_")[0] in SIZED
        if is_sized and config.weights == "imagenet" and shape[1:] != (spec.size, spec.size):
            raise size_refused(config.arch, shape, spec, "its weights are for one size")
        network = build(config.arch, shape)
        classifier = last_layer(network)
        keeps = isinstance(network.get_submodule(classifier), nn.Linear)
        network.set_submodule(classifier, nn.Identity())
        made = parted(
            network,
            shape,
            arch=config.arch,
            published=spec,
            classifier=classifier if keeps else None,
            left_out=AUXILIARY if keeps else (*AUXILIARY, classifier),
        )
        super().__init__(made.stages, out_features=made.out_features)
        self.config, self.shape, self.names = config, shape, made.names

    def reset_stages(self, names: Collection[str]) -> None:
        redraw(self.stages, type(self)(self.config, self.shape).stages, names)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.names.own(state)

    def imagenet_weights(self, config: ModelSettings) -> PublishedWeights:
        published = published_weights(self.config.arch)
        name = published.url.rpartition("/")[2]
        cached = hub_cache() / name
        path = local_file(config, [name], [cached])
        if path is None:
            if not config.download:
                size = f"{published.meta['_file_size']:.0f} MB"
                remedy = f"fetch it from {published.url} with model.download=true ({size})"
                raise not_found(config, [name], elsewhere=str(hub_cache()), remedy=remedy)
            fetch_from_hub(published.url, cached)
            path = cached
        return PublishedWeights(path, tuple(published.meta["categories"]))


def models() -> Any:
    import_torchvision()
    return importlib.import_module("torchvision.models")


def published_weights(arch: str) -> Any:
    """torchvision's entry for the weights that it takes by default. Raises ConfigError where there is no such model."""
    if arch == MISSING:
        raise ConfigError(
            "model.arch: must be given, such as swin_t; torchvision.models.list_models(module=torchvision.models) names "
            "them all"
        )
    library = models()
    known = library.list_models(module=library)
    if arch not in known:
        raise ConfigError(f"model.arch: torchvision has no classification model {arch!r}{unknown(arch, known)}")
    return library.get_model_weights(arch).DEFAULT


def input_spec(arch: str) -> InputSpec:
    """What images the published weights were trained for. Raises ConfigError where there is no such model."""
    transforms = published_weights(arch).transforms()
    (size,), (resized,) = transforms.crop_size, transforms.resize_size
    half = (0.5, 0.5, 0.5)
    return InputSpec(
        size=size,
        mean=half if arch in SHIFTED else tuple(transforms.mean),
        std=half if arch in SHIFTED else tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        crop_fraction=size / resized,
    )


def build(arch: str, shape: tuple[int, int, int]) -> nn.Module:
    """The network with random values and its classifier of 1,000 classes. Raises ConfigError."""
    spec = input_spec(arch)
    options: dict[str, Any] = {"init_weights": True, "aux_logits": False} if arch in SHIFTED else {}
    if argument := SIZED.get(arch.partition("_")[0]):
        if shape[1] != shape[2]:
            raise size_refused(arch, shape, spec, "it takes square ones")
        options[argument] = shape[1] if argument == "image_size" else shape[1:]
    try:
        network: nn.Module = models().get_model(arch, weights=None, **options)
    except (AssertionError, ValueError, RuntimeError) as error:  # each family refuses in its own way
        raise size_refused(arch, shape, spec, str(error).partition("\n")[0]) from error
    return network
