"""What the system itself tells of the machine, for commands that only name runs: torch takes seconds to load.

`runtime.py` decides; what is told here is what it would decide, or nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

DEVICES = Path("/dev")
PROCESSOR = Path("/proc/cpuinfo")

_GPUS = ("nvidia*", "kfd", "dxg")
"""Device files without which no driver of NVIDIA, of AMD, or of either under Windows' Linux, can be reached."""
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Flags of processors that multiply bfloat16, as Linux and torch alike call them."""


def has_no_gpu() -> bool:
    """Whether it is certain that torch would find none; False also where it is not known."""
    return sys.platform == "linux" and not any(any(DEVICES.glob(pattern)) for pattern in _GPUS)


def cpu_precision() -> Literal["fp32", "bf16"] | None:
    """What `engine.precision=auto` is on this processor; None where the system does not say."""
    try:
        lines = PROCESSOR.read_text().splitlines()
    except OSError:
        return None
    listed = (line.partition(":") for line in lines)
    flags = next((set(names.split()) for key, _, names in listed if key.strip() in ("flags", "Features")), None)
    if flags is None:
        return None
    return "bf16" if flags & _BF16 else "fp32"
