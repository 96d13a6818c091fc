"""How torchvision is imported; every other module that needs it asks here."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

OPERATORS = ("nms", "qnms")


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled library does not fit this torch; then its compiled operators are missing.

    The package index holds torchvision built for one kind of torch, so that beside another (torch for CPUs only, say)
    its library does not load, and the import fails where it describes the operator `torchvision::nms`, which only the
    library would define. Models and transforms use no such operator, so the names are declared here and the import is
    tried once more. Beside a torch that fits, the first import succeeds and nothing is declared.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for operator in OPERATORS:
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
    return importlib.import_module("torchvision")
