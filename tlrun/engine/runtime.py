"""Device, precision, threads, random states and memory: the only file that decides where and how a run computes."""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from tlrun.config import ConfigError, DeviceSettings

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
DEFAULT_THREADS = torch.get_num_threads()
"""What torch chose at import; a sweep in one process comes back to it after a run that asked for another number."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Runtime:
    """Where and how one run computes."""

    def __init__(self, device: torch.device, precision: Precision) -> None:
        self.device = device
        self.precision = precision
        # Only fp16 has so small a range that gradients need scaling; torch offers the scaler on every device type.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32")

    def random_state(self) -> dict[str, torch.Tensor]:
        """The states of torch's generators, for a checkpoint."""
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        if self.device.type == "mps":
            state["mps"] = torch.mps.get_rng_state()
        return state

    def set_random_state(self, state: dict[str, torch.Tensor]) -> None:
        """Puts back what `random_state` gave; a generator that the state lacks keeps its own."""
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)
        if self.device.type == "mps" and "mps" in state:
            torch.mps.set_rng_state(state["mps"])

    def synchronize(self) -> None:
        """Waits until the device has done what it was given, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.device.type == "mps":
            torch.mps.synchronize()

    def peak_memory_bytes(self) -> int:
        """The most memory held: on a GPU by torch there, else by this process (over all runs it has done)."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def kernels(self) -> str:
        """What decides how results are rounded, beside the precision: the device's kind, on the CPU its instructions."""
        if self.device.type == "cpu":
            return f"cpu {torch.backends.cpu.get_cpu_capability()}"
        return self.describe() if self.device.type == "cuda" else self.device.type

    def describe(self) -> str:
        """The device's name, as people know it."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        name = torch.cpu.get_capabilities().get("cpu_name") if self.device.type == "cpu" else None
        return f"{self.device} ({name})" if name else str(self.device)


def resolve_device(settings: DeviceSettings) -> torch.device:
    """The device asked for, and torch's threads set; `auto` is the GPU where there is one, else the CPU.

    Raises ConfigError for a device that this machine or this torch does not have.
    """
    torch.set_num_threads(settings.threads or DEFAULT_THREADS)
    keep_freed_memory()
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if settings.name == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[settings.name]:
        have = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(f"device: {settings.name} is not available here (torch {torch.__version__}); have: {have}")
    return torch.device(settings.name)


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """A named precision; `auto` is bf16 where the processor computes it natively, else fp32.

    Raises ConfigError for fp16 on the CPU, where torch's convolutions have no fp16 kernels worth the name.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("engine.precision: fp16 needs a GPU; on the CPU use bf16 or fp32")
    if precision in ("fp32", "bf16", "fp16"):
        return precision  # type: ignore[return-value]
    return "bf16" if has_native_bf16(device) else "fp32"


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; in emulation it would be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def keep_freed_memory() -> None:
    """Lets the C library keep what a step frees for the next step. Without effect where it is not glibc.

    By default glibc hands blocks of some size back to the system when they are freed, and the page faults of asking
    for them again cost a small network on the CPU up to a third of its speed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    mallopt(mmap_threshold, 32 << 20)  # the most that glibc takes
    mallopt(trim_threshold, 512 << 20)


def seed_everything(seed: int) -> None:
    """Seeds torch on every device. Data order, augmentation and grants have generators of their own."""
    torch.manual_seed(seed)
