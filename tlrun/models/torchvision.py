"""torchvision's classification networks, cut into stages."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tlrun.config import ConfigError, ModelSettings
from tlrun.models.transfer import Backbone, image_shape, reset_parameters
from tlrun.models.vision import import_torchvision

logger = logging.getLogger(__name__)

RESNET = {
    "stem": ("conv1", "bn1", "relu", "maxpool"),
    "layer1": ("layer1",),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
}
"""Stage -> the parts of torchvision's network that it runs. Another family is another such table."""


class Torchvision(Backbone):
    """A network of torchvision without its last layer; now the residual networks (He et al. 2016, arXiv:1512.03385).

    Stages are the stem and the four groups of blocks, the last with global pooling: 512 features of resnet18 and 34,
    2048 of resnet50. Takes 3 channels and images of any size. Initial values are torchvision's.
    """

    class Config(ModelSettings):
        arch: Literal["resnet18", "resnet34", "resnet50"]

        has_imagenet_weights: ClassVar[bool] = True

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        image_shape(shape, model=config.arch, channels=3)
        network = models().get_model(config.arch, weights=None)
        stages = {name: part(network, names) for name, names in RESNET.items()}
        stages["layer4"].extend((network.avgpool, nn.Flatten()))
        super().__init__(stages, out_features=network.fc.in_features)
        self.arch = config.arch

    def reset_stage(self, name: str) -> None:
        reset_parameters(self.stages[name])
        for layer in self.stages[name].modules():
            if isinstance(layer, nn.Conv2d):  # He et al. 2015, arXiv:1502.01852, eq. 14, as torchvision does
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        stage_of = {own: name for name, names in RESNET.items() for own in names}
        named = {}
        for key, value in state.items():
            first, _, rest = key.partition(".")
            if first == "fc":
                named[f"head.out.{rest}"] = value
            elif first in stage_of:
                stage = stage_of[first]
                named[f"stages.{stage}.{rest if first == stage else key}"] = value
        return named

    def imagenet_weights(self) -> tuple[Path, tuple[str, ...]]:
        weights = models().get_model_weights(self.arch).DEFAULT
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        if not file.is_file():
            fetch(weights.url, file)
        return file, tuple(weights.meta["categories"])


def models() -> Any:
    import_torchvision()
    return importlib.import_module("torchvision.models")


def part(network: nn.Module, names: tuple[str, ...]) -> nn.Sequential:
    """Parts of a network in a row; one that is itself a row of blocks gives its blocks, which keep their names."""
    if len(names) == 1:
        return nn.Sequential(*network.get_submodule(names[0]).children())
    parts = nn.Sequential()
    for name in names:
        parts.add_module(name, network.get_submodule(name))
    return parts


def fetch(url: str, file: Path) -> None:
    """Fetches a file whose name ends in the start of its SHA-256, as those of torch's hub do."""
    logger.info("fetching %s to %s", url, file)
    digest = re.search(r"-([0-9a-f]{8,})\.", file.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), digest and digest.group(1), progress=False)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"model.weights: imagenet needs {file.name}, which is not in {file.parent} and could not be fetched from "
            f"{url} ({error}); put it there, or set model.weights=PATH to a local file"
        ) from error
