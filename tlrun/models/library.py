"""What backbones share that are networks of a library: how their images are described, refused, and weights found.

Published weights are looked for in `model.weights_file`, in the folder `model.weights_root`, then where the library
keeps what it has fetched; they are fetched only with `model.download=true`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import nn

from tlrun.config import ConfigError, InputSpec, ModelSettings
from tlrun.models.cut import Cut, UncuttableError, cut

logger = logging.getLogger(__name__)


def last_layer(network: nn.Module) -> str:
    """The dotted name of the classifier: the last linear layer, or the last convolution where there is none."""
    for kind in (nn.Linear, nn.Conv2d):
        names: list[str] = [name for name, module in network.named_modules() if isinstance(module, kind)]
        if names:
            return names[-1]
    raise ValueError("the network has neither a linear layer nor a convolution")


def parted(
    network: nn.Module,
    shape: tuple[int, int, int],
    *,
    arch: str,
    published: InputSpec | None,
    classifier: str | None,
    left_out: tuple[str, ...] = (),
) -> Cut:
    """The stages of a network without its classifier. Raises ConfigError where it does not take images of `shape`."""
    try:
        return cut(network, shape, classifier=classifier, left_out=left_out)
    except UncuttableError as error:
        raise size_refused(arch, shape, published, str(error)) from error


def size_refused(
    arch: str, shape: tuple[int, int, int], published: InputSpec | None, reason: str | None = None
) -> ConfigError:
    """That a network does not take images of this size, and which it takes."""
    advice = f"set data.image_size={published.size}, or auto" if published else "set another data.image_size"
    return ConfigError(
        f"data.image_size: {arch} takes no images of {shape[1]} x {shape[2]} pixels"
        f"{f' ({reason})' if reason else ''}; {advice}"
    )


def redraw(stages: nn.ModuleDict, fresh: nn.ModuleDict, names: Collection[str]) -> None:
    """Copies freshly drawn values, batch statistics too, into the stages of these names."""
    for name in names:
        stages[name].load_state_dict(fresh[name].state_dict())


def local_file(config: ModelSettings, names: Sequence[str], caches: Sequence[Path] = ()) -> Path | None:
    """The file that holds a model's published weights on this machine, None where there is none.

    names: what the file may be called under `model.weights_root`. caches: where else it may be. Raises ConfigError
    where `model.weights_file` or `model.weights_root` is set and is not there.
    """
    if config.weights_file is not None:
        path = Path(config.weights_file).expanduser()
        if not path.is_file():
            raise ConfigError(f"model.weights_file: no file {path}; name one, or set null to look for it elsewhere")
        return path
    if config.weights_root is not None and not Path(config.weights_root).expanduser().is_dir():
        raise ConfigError(
            f"model.weights_root: no folder {config.weights_root}; name one that holds weights (TLRUN_WEIGHTS), or null"
        )
    folders = [] if config.weights_root is None else [Path(config.weights_root).expanduser()]
    places = [*(folder / name for folder in folders for name in names), *caches]
    return next((path for path in places if path.is_file()), None)


def not_found(config: ModelSettings, names: Sequence[str], *, elsewhere: str, remedy: str) -> ConfigError:
    """That published weights are nowhere on this machine: what was looked for, where, and each way to go on.

    elsewhere: where they might have been beside `model.weights_root`. remedy: what fetches or installs them.
    """
    root = config.weights_root or "model.weights_root (TLRUN_WEIGHTS, not set)"
    return ConfigError(
        f"model.weights: imagenet needs {' or '.join(names)}, found neither in {root} nor in {elsewhere}; {remedy}, "
        "or put it there by hand, or name it with model.weights_file=PATH, or set model.weights=random"
    )


def fetch_from_hub(url: str, file: Path) -> None:
    """Fetches a file by torch's hub, which holds it against the start of its SHA-256 in its name (`-f37072fd.pth`).

    Raises ConfigError.
    """
    logger.info("fetching %s to %s", url, file)
    digest = re.search(r"-([0-9a-f]{8,})\.", file.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), digest and digest.group(1), progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"model.download: {file.name} could not be fetched from {url} ({error}); put it into {file.parent} or "
            "model.weights_root by hand, or name it with model.weights_file=PATH"
        ) from error


def hub_cache() -> Path:
    """Where torch's hub keeps what it fetched (TORCH_HOME)."""
    return Path(torch.hub.get_dir()) / "checkpoints"
