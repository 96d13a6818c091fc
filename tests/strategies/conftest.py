"""Strategies with their shipped settings, on a small network and two small domains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tlrun.batch import Batch, Examples, Progress, Task
from tlrun.build import component_class
from tlrun.config import ExperimentConfig
from tlrun.models.transfer import build_model
from tlrun.strategies.base import Strategy

CLASSES = ("zero", "one", "two")
SIZES = {"source_train": 40, "target_unlabelled": 30, "target_granted": 6}
SMALL = ("data=toy_gaussians", "model.widths=[8, 6]", "data.target_labels=2")


@pytest.fixture
def build(config: Callable[..., ExperimentConfig]) -> Callable[..., Strategy]:
    """The strategy of this name with overrides, on an mlp over two features, trained start or not."""

    def make(name: str, *overrides: str, trained: bool = True) -> Strategy:
        whole = config(f"strategy={name}", *SMALL, *overrides)
        torch.manual_seed(0)
        model = build_model(whole.model, shape=(2,), num_classes=len(CLASSES))
        if trained:
            model.pretrained = set(model.stage_names)
        settings = whole.strategy.resolved(whole.data.target_labels, augmented=not whole.augment.is_identity)
        strategy = component_class("strategy", name)(
            settings, model, Task(CLASSES, SIZES), label_smoothing=whole.optim.label_smoothing
        )
        assert isinstance(strategy, Strategy)
        return strategy

    return make


def rows(domain: str, count: int, seed: int, *, labelled: bool) -> Examples:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, generator=draw) + (1.0 if domain == "target" else 0.0)
    y = torch.randint(len(CLASSES), (count,), generator=draw)
    return Examples(x, y if labelled else None, torch.arange(count), domain)


@pytest.fixture
def batch() -> Batch:
    """Twelve source rows, six granted target rows, ten without labels."""
    return Batch(
        source=rows("source", 12, 1, labelled=True),
        target=rows("target", 6, 2, labelled=True),
        unlabelled=rows("target", 10, 3, labelled=False),
    )


def progress(phase: str = "train", *, fraction: float = 0.5, **changes: Any) -> Progress:
    step = round(100 * fraction)
    values: dict[str, Any] = {"step": step, "steps": 100, "epoch": 0, "phase_step": step, "phase_steps": 100}
    return Progress(phase=phase, **{**values, **changes})
