"""What a run's numbers and speed may depend on beside its settings. Loads no torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGES = ("tlrun", "torch", "torchvision", "hydra-core", "omegaconf", "pydantic", "numpy", "albumentations")


def environment(*, command: str, device: str, threads: int, weights: str | None, origin: str) -> dict[str, Any]:
    """The content of environment.json, as plain values; weights is the hash of the starting weights, None if random; origin says where they came from."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "command": command,
        "versions": versions,
        "git": _git_revision(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "processor": processor(),
        "processors": os.cpu_count(),
        "device": device,
        "threads": threads,
        "weights": weights,
        "weights_origin": origin,
    }


def _git_revision() -> dict[str, Any] | None:
    """Commit of the working directory and whether tracked files differ from it; None outside a repository."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=2, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": text.removesuffix("-dirty"), "dirty": text.endswith("-dirty")}


def processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
