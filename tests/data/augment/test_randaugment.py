from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from tlrun.config import RandAugmentSettings
from tlrun.data.augment import randaugment
from tlrun.data.augment.randaugment import OPERATIONS, rand_augment


def picture(rows: int = 1, size: int = 16, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(size + channels)
    one = torch.randint(30, 220, (1, size, size, channels), dtype=torch.uint8, generator=generator)
    return one.repeat(rows, 1, 1, 1)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_operations_are_the_fourteen_of_the_paper() -> None:
    names = (
        "identity autocontrast equalize rotate solarize color posterize contrast brightness sharpness "
        "shear-x shear-y translate-x translate-y"
    )
    assert list(OPERATIONS) == names.split()


def test_every_image_draws_its_own_operations_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    signs: list[float] = []

    def counting(name: str) -> randaugment.Operation:
        def count(x: Tensor, strength: Tensor) -> Tensor:
            counted[name] += len(x)
            signs.extend(strength.sign().tolist())
            assert torch.allclose(strength.abs(), torch.tensor(0.3))
            return x + 1  # each operation leaves its mark once

        return count

    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, counting(name))
    x = torch.zeros(7000, 2, 2, 1, dtype=torch.uint8)
    out = rand_augment(x, RandAugmentSettings(operations=2, magnitude=9), drawn())
    assert (out == 2).all()
    assert sum(counted.values()) == 14_000
    assert all(900 < count < 1100 for count in counted.values())
    assert abs(sum(signs)) / len(signs) < 0.03
    assert x.max() == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [each for each in OPERATIONS if each != "identity"])
def test_an_operation_changes_each_image_and_keeps_size_and_type(name: str, channels: int) -> None:
    x = picture(3, 32, channels)
    out = OPERATIONS[name](x, torch.tensor([0.9, -0.9, 0.9]))
    assert out.shape == x.shape
    assert out.dtype == torch.uint8
    assert torch.equal(out[0], out[2])
    changed = (out != x).flatten(1).any(1).tolist()
    assert changed == ([False] * 3 if (name, channels) == ("color", 1) else [True] * 3)
    directions = not torch.equal(out[0], out[1])
    one_way = name in ("autocontrast", "equalize", "solarize", "posterize") or (name, channels) == ("color", 1)
    assert directions != one_way


def test_magnitude_zero_leaves_all_but_the_tones_alone() -> None:
    x = picture(2)
    for name, operation in OPERATIONS.items():
        if name not in ("autocontrast", "equalize"):
            out = operation(x, torch.zeros(2))
            assert torch.equal(out, x), name


def test_full_magnitude_goes_as_far_as_torchvision_says() -> None:
    x = picture(1, 32)
    full = torch.ones(1)
    moved = OPERATIONS["translate-x"](x, full)
    pixels = round(150 / 331 * 32)
    assert torch.equal(moved[0, :, : 32 - pixels - 1], x[0, :, pixels : 32 - 1] if pixels * 331 != 150 * 32 else x[0])
    assert torch.equal(OPERATIONS["solarize"](x, full), 255 - x)
    assert torch.equal(OPERATIONS["posterize"](x, full), x & 0xF0)


def test_draws_depend_on_the_generator_alone() -> None:
    x = picture(20)
    settings = RandAugmentSettings(operations=2, magnitude=9)
    first, again, other = (rand_augment(x, settings, drawn(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({row.numpy().tobytes() for row in first}) > 12
