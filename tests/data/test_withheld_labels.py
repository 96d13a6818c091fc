from __future__ import annotations

import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tlrun.data.datasets.base import DomainData
from tlrun.data.domain import DomainPair, Part

MakeData = Callable[..., DomainData]
MakePair = Callable[..., DomainPair]

COUNTS = {"cat": 40, "dog": 30, "owl": 20}
TRAINING = ("source_train", "target_unlabelled", "target_granted")


def true_labels(data: DomainData, part: Part) -> np.ndarray:
    assert part.rows is not None
    return data.train.y[part.rows.numpy()]


def arrays_within(thing: Any) -> Iterator[np.ndarray]:
    """Everything numeric that can be reached from an object, tensors with all of the memory they hold on to."""
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            memory = torch.empty(0, dtype=each.dtype).set_(each.untyped_storage())
            yield memory.numpy()
        elif isinstance(each, np.ndarray):
            yield each
        waiting += gc.get_referents(each)


def holds(memory: np.ndarray, labels: np.ndarray) -> bool:
    """Whether the labels lie in an array in their order, as numbers of any type."""
    flat = memory.reshape(-1)
    if flat.size < labels.size:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(flat, labels.size)
    return bool((windows == labels).all(1).any())


@pytest.mark.parametrize("grant", ["none", 2, "all"])
def test_training_parts_hold_no_withheld_label(images: MakeData, pair_of: MakePair, grant: str | int) -> None:
    target = images(dict.fromkeys("abcde", 30), draw=1)
    pair = pair_of(images(dict.fromkeys("abcde", 30)), target, target_labels=grant)
    withheld = [true_labels(target, pair.parts[name]) for name in ("target_val", "target_test")]
    everything = true_labels(target, pair.parts["target_unlabelled"])
    assert holds(everything, everything[3:40])
    assert not holds(everything[::-1], everything[3:40])
    if grant != "all":
        withheld.append(everything)
    for name in TRAINING:
        for memory in arrays_within(pair.parts[name]):
            # Any twelve of them in a row would be enough to tell.
            assert not any(holds(memory, labels[:12]) or holds(memory, labels[-12:]) for labels in withheld), name
    assert pair.parts["target_unlabelled"].y is None


def test_granted_labels_hold_on_to_nothing_else(images: MakeData, pair_of: MakePair) -> None:
    granted = pair_of(images(COUNTS), images(COUNTS, draw=1), target_labels=2).parts["target_granted"]
    assert granted.y is not None
    for tensor in (granted.x.tensor(), granted.y, granted.index):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_walk_finds_a_label_that_leaked(images: MakeData, pair_of: MakePair) -> None:
    target = images(COUNTS, draw=1)
    part = pair_of(images(COUNTS), target).parts["target_unlabelled"]
    labels = true_labels(target, part)
    leaks = (torch.from_numpy(labels)[:1], {"deep": [labels.astype(np.int32)]})
    for leak in leaks:
        assert any(holds(memory, labels[:12]) for memory in arrays_within((part, leak)))
