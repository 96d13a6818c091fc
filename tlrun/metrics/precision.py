"""The precision that metrics are summed in."""

from __future__ import annotations

import torch


def sum_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on the one kind of device that lacks it (mps)."""
    return torch.float32 if device.type == "mps" else torch.float64
