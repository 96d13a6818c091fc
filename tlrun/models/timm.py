"""timm's networks, any of them by name, with its own description of what images they take (extra `timm`)."""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from tlrun.config import ConfigError, InputSpec, ModelSettings
from tlrun.config.error_text import MISSING
from tlrun.models.library import (
    fetch_from_hub,
    hub_cache,
    local_file,
    not_found,
    parted,
    redraw,
    size_refused,
)
from tlrun.models.transfer import Backbone, PublishedWeights, image_shape
from tlrun.models.vision import import_torchvision

logger = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".pth", ".bin")
INTERPOLATIONS = ("bilinear", "bicubic")


class Timm(Backbone):
    """A network of timm without its classifier, cut into stages (see `cut.py`), for 3 channels.

    `arch` is timm's name, with the tag of its weights or without: `resnet50.a1_in1k`, `convnext_tiny`. Features are
    what timm itself gives without a classifier. `weights=imagenet` means the weights that timm publishes under that
    name, whatever they were trained on. Initial values are timm's. A network that cannot be cut is one stage.
    """

    class Config(ModelSettings):
        arch: str

        has_imagenet_weights: ClassVar[bool] = True
        image_channels: ClassVar[Literal[1, 3] | None] = 3

        @property
        def input_spec(self) -> InputSpec:
            from tlrun.models import timm

            return timm.input_spec(self.arch)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        shape = image_shape(shape, model=config.arch, channels=config.image_channels)
        spec, published = input_spec(config.arch), description(config.arch)
        if published.fixed_input_size and config.weights == "imagenet" and shape[1:] != (spec.size, spec.size):
            raise size_refused(config.arch, shape, spec, "its weights are for one size")
        network = build(config.arch, shape)
        kept, dropped = classifiers(network)
        network.reset_classifier(0)  # type: ignore[operator]
        made = parted(network, shape, arch=config.arch, published=spec, classifier=kept, left_out=dropped)
        super().__init__(made.stages, out_features=made.out_features)
        self.config, self.shape, self.names = config, shape, made.names

    def reset_stages(self, names: Collection[str]) -> None:
        redraw(self.stages, type(self)(self.config, self.shape).stages, names)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.names.own(state)

    def imagenet_weights(self, config: ModelSettings) -> PublishedWeights:
        arch = self.config.arch
        path = find_weights(arch, config)
        # Through timm, which knows how the files of each family differ from its networks.
        options = sized(description(arch), self.shape)
        try:
            network = library().create_model(
                arch, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options
            )
        except Exception as error:  # damaged files and foreign ones fail in many ways
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ConfigError(f"model.weights: {path} does not hold the weights of {arch} ({reason})") from error
        return PublishedWeights(path, None, network.state_dict())


def library() -> Any:
    """timm, imported. Raises ConfigError where it is not installed."""
    import_torchvision()  # which timm imports, in the way that fails beside some builds of torch
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError("model.name: timm is not installed; install it with: pip install 'tlrun[timm]'") from error


def description(arch: str) -> Any:
    """timm's entry for a network and its weights. Raises ConfigError where it knows no such name."""
    if arch == MISSING:
        raise ConfigError(
            "model.arch: must be given, such as convnext_tiny.fb_in22k; timm.list_models() names them all"
        )
    timm = library()
    name, _, tag = arch.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}" if near else "; timm.list_models() names them all"
        raise ConfigError(f"model.arch: timm {timm.__version__} has no model {name!r}{hint}")
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"model.arch: timm's {name} has no weights tagged {tag!r}; it has {', '.join(tags) or 'none at all'}"
        )
    return timm.get_pretrained_cfg(arch)


def input_spec(arch: str) -> InputSpec:
    """What images timm's weights of that name were trained for. Raises ConfigError where it knows no such name."""
    found = description(arch)
    _, height, width = found.input_size
    if height != width or found.interpolation not in INTERPOLATIONS:
        raise ConfigError(
            f"model.arch: {arch} was trained on images of {height} x {width} pixels, {found.interpolation}; "
            f"only square ones and {' or '.join(INTERPOLATIONS)} can be made here"
        )
    return InputSpec(
        size=height,
        mean=tuple(found.mean),
        std=tuple(found.std),
        interpolation=found.interpolation,
        crop_fraction=found.crop_pct,
    )


def sized(published: Any, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What tells timm the size of the images, for a network that is built for one size."""
    fixed = published.fixed_input_size and shape[1:] != tuple(published.input_size[1:])
    return {"img_size": shape[1:]} if fixed else {}


def build(arch: str, shape: tuple[int, int, int]) -> nn.Module:
    """The network with random values and its classifier, for images of that size. Raises ConfigError."""
    published = description(arch)
    try:
        network: nn.Module = library().create_model(arch, pretrained=False, **sized(published, shape))
    except Exception as error:  # it depends on the family how a size is refused
        raise size_refused(arch, shape, input_spec(arch), str(error).partition("\n")[0]) from error
    return network


def classifiers(network: nn.Module) -> tuple[str | None, tuple[str, ...]]:
    """The name of the classifier where it is one linear layer that a head can take the place of; else all its names."""
    names = network.pretrained_cfg["classifier"] or ()  # type: ignore[index]
    names = (names,) if isinstance(names, str) else tuple(names)
    found = dict(network.named_modules())
    if len(names) == 1 and isinstance(found.get(names[0]), nn.Linear):
        return names[0], ()
    return None, names


def find_weights(arch: str, config: ModelSettings) -> Path:
    """The local file of timm's weights, fetched where `model.download` allows it. Raises ConfigError."""
    published = description(arch)
    whole = f"{published.architecture}.{published.tag}" if published.tag else arch
    names = [f"{whole}{suffix}" for suffix in SUFFIXES]
    if published.hf_hub_id:
        return find_on_hugging_face(published, config, names)
    if not published.url:
        raise ConfigError(
            f"model.weights: timm publishes no weights for {arch}; set model.weights=random, source or a path"
        )
    cached = hub_cache() / published.url.rpartition("/")[2]
    path = local_file(config, [*names, cached.name], [cached])
    if path is None and not config.download:
        remedy = f"fetch it from {published.url} with model.download=true"
        raise not_found(config, names[:1], elsewhere=str(hub_cache()), remedy=remedy)
    if path is None:
        fetch_from_hub(published.url, cached)
    return path or cached


def find_on_hugging_face(published: Any, config: ModelSettings, names: list[str]) -> Path:
    """As `find_weights`, of a repository there; names: what the file may be called in `model.weights_root`."""
    hub = importlib.import_module("huggingface_hub")
    repository, _, revision = published.hf_hub_id.partition("@")
    files = [published.hf_hub_filename] if published.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    known = [hub.try_to_load_from_cache(repository, file, revision=revision or None) for file in files]
    path = local_file(config, names, [Path(each) for each in known if isinstance(each, str)])
    if path is not None:
        return path
    if not config.download:
        remedy = f"fetch it from {hub.constants.ENDPOINT}/{repository} with model.download=true"
        raise not_found(config, names[:1], elsewhere=hub.constants.HF_HUB_CACHE, remedy=remedy)
    failure: Exception | None = None
    for file in files:
        logger.info("fetching %s of %s/%s", file, hub.constants.ENDPOINT, repository)
        try:
            return Path(hub.hf_hub_download(repository, file, revision=revision or None))
        except Exception as error:  # the library's own, its transport's, the system's
            failure = failure or error
    reason = str(failure).partition("\n")[0]
    raise ConfigError(
        f"model.download: the weights of {repository} could not be fetched from {hub.constants.ENDPOINT} ({reason}); "
        f"put {names[0]} into model.weights_root by hand, or name it with model.weights_file=PATH"
    ) from failure
