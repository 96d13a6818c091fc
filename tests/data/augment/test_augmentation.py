from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tlrun.config import AugmentSettings, ConfigError
from tlrun.data.augment.augmentation import Augmentation, check_augmentation, pipelines
from tlrun.data.datasets.base import DomainData
from tlrun.data.domain import DomainPair
from tlrun.data.transforms import Statistics, to_batch

MakeAugment = Callable[..., AugmentSettings]
CPU = torch.device("cpu")
CROP = {"area": [0.2, 0.9], "aspect": [0.75, 1.33]}
ERASE = {"share": 1.0, "area": [0.1, 0.2], "aspect": [0.5, 2.0]}
RANDOM = {"operations": 3, "magnitude": 15}
EVERYTHING: dict[str, Any] = {
    "crop": CROP,
    "flip": 0.5,
    "shift": 2,
    "randaugment": RANDOM,
    "brightness": 0.4,
    "contrast": 0.3,
    "saturation": 0.4,
    "hue": 0.1,
    "erase": ERASE,
}


def random_images(rows: int = 6, size: int = 8, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(rows + size + channels)
    return torch.randint(0, 256, (rows, size, size, channels), dtype=torch.uint8, generator=generator)


def run(augmentation: Augmentation, x: Tensor, *, seed: int = 0) -> Tensor:
    return augmentation(x, generator=torch.Generator().manual_seed(seed), seeds=None)


def test_shift_and_contrast_draw_within_their_range(augment_settings: MakeAugment) -> None:
    x = torch.zeros(4000, 7, 7, 1, dtype=torch.uint8)
    x[:, 3, 3] = 255
    augment = Augmentation(augment_settings(shift=2), (1, 7, 7))
    moved = augment(x, generator=torch.Generator().manual_seed(0), seeds=None)
    places = moved[..., 0].float().sum(0).div(255)
    assert (places > 0).sum() == 25
    assert places[1:6, 1:6].min() > 100  # 160 on average
    contrast = Augmentation(augment_settings(contrast=0.5), (1, 7, 7))
    changed = contrast(torch.full_like(x, 0) + x // 2, generator=torch.Generator().manual_seed(0), seeds=None)
    mean = 127 / 49
    factors = (changed[:, 3, 3, 0] - mean) / (127 - mean)
    assert 0.5 <= factors.min() < 0.51
    assert 1.49 < factors.max() <= 1.5


def test_augmentation_leaves_the_rows_it_was_given_alone(augment_settings: MakeAugment) -> None:
    x = random_images()
    before = x.clone()
    augment = Augmentation(augment_settings(**EVERYTHING), (3, 8, 8))
    assert not torch.equal(augment(x, generator=torch.Generator().manual_seed(0), seeds=None), before)
    assert torch.equal(x, before)


def test_features_are_not_augmented(augment_settings: MakeAugment) -> None:
    with pytest.raises(ConfigError) as caught:
        Augmentation(augment_settings(contrast=0.1), (5,))
    assert str(caught.value) == "augment: the rows are features, not images; only augment=none fits them"
    Augmentation(augment_settings(), (5,))


def test_shift_as_large_as_the_image_is_refused(augment_settings: MakeAugment) -> None:
    with pytest.raises(ConfigError) as caught:
        Augmentation(augment_settings(shift=8), (3, 8, 9))
    assert str(caught.value) == "augment.shift: must be below the image side 8, got 8"


@pytest.mark.parametrize("settings", [{"shift": 2, "contrast": 0.3}, EVERYTHING])
@pytest.mark.parametrize("channels", [1, 3])
def test_everything_is_computed_on_the_device_of_the_rows(
    augment_settings: MakeAugment, channels: int, settings: dict[str, Any]
) -> None:
    meta = torch.device("meta")  # has no values, but refuses to be mixed with another device
    x = random_images(channels=channels).to(meta)
    augment = Augmentation(augment_settings(**settings), (3, 8, 8))
    changed = augment(x, generator=torch.Generator().manual_seed(0), seeds=None)
    batch = to_batch(changed, Statistics.of([0.1, 0.5, 0.9], [0.2, 0.3, 0.4], (3, 8, 8), meta), (3, 8, 8))
    assert batch.device == meta
    assert batch.shape == (6, 3, 8, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("settings", "tolerance"), [({"shift": 2, "contrast": 0.3}, 1e-5), ({"crop": CROP, "flip": 0.5, "shift": 1}, 0.04)]
)
def test_the_gpu_gives_the_same_batches(
    augment_settings: MakeAugment, settings: dict[str, Any], tolerance: float
) -> None:
    cuda = torch.device("cuda")
    augment = Augmentation(augment_settings(**settings), (3, 8, 8))
    for x in (random_images(), random_images(channels=1)):
        batches = []
        for device in (CPU, cuda):
            changed = augment(x.to(device), generator=torch.Generator().manual_seed(1), seeds=None)
            statistics = Statistics.of([0.1, 0.5, 0.9], [0.2, 0.3, 0.4], (3, 8, 8), device)
            batches.append(to_batch(changed, statistics, (3, 8, 8)))
        assert batches[1].device.type == "cuda"
        assert batches[1].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(batches[1].cpu(), batches[0], atol=tolerance, rtol=1e-5)
        assert math.isfinite(batches[1].sum().item())


def test_each_operation_is_drawn_for_each_image(augment_settings: MakeAugment) -> None:
    x = random_images(1, 16).repeat(60, 1, 1, 1)
    single = [{name: value} for name, value in EVERYTHING.items()]
    for settings in (*single, EVERYTHING):
        out = run(Augmentation(augment_settings(**settings), (3, 16, 16)), x)
        assert out.shape == x.shape
        different = len({row.numpy().tobytes() for row in out})
        least = {"flip": 2, "shift": 15, "randaugment": 40}.get(next(iter(settings)), 55) if len(settings) == 1 else 55
        assert different >= least, settings
        assert torch.equal(run(Augmentation(augment_settings(**settings), (3, 16, 16)), x), out)
        assert not torch.equal(run(Augmentation(augment_settings(**settings), (3, 16, 16)), x, seed=1), out)


def test_shares_of_flips_and_erasures_are_kept(augment_settings: MakeAugment) -> None:
    x = torch.zeros(4000, 6, 6, 1, dtype=torch.uint8)
    x[:, :, 0] = 200
    flipped = run(Augmentation(augment_settings(flip=0.3), (1, 6, 6)), x)[:, 0, 5, 0] == 200
    assert 0.27 < flipped.float().mean() < 0.33
    erased = run(Augmentation(augment_settings(erase=ERASE | {"share": 0.25}), (1, 6, 6)), x)
    assert 0.22 < (erased != x).flatten(1).any(1).float().mean() < 0.28


def test_brightness_draws_within_its_range(augment_settings: MakeAugment) -> None:
    x = torch.full((4000, 2, 2, 3), 100, dtype=torch.uint8)
    factors = run(Augmentation(augment_settings(brightness=0.4), (3, 2, 2)), x)[:, 0, 0, 0] / 100
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert abs(factors.mean() - 1) < 0.01


@pytest.mark.parametrize("settings", [{}, {"flip": 1.0}, {"crop": CROP}, EVERYTHING])
def test_larger_rows_come_out_at_the_models_size(augment_settings: MakeAugment, settings: dict[str, Any]) -> None:
    x = random_images(5, 20)
    out = run(Augmentation(augment_settings(**settings), (3, 16, 16), rows=(5, 20, 20, 3)), x)
    assert out.shape == (5, 16, 16, 3)
    if not settings:
        assert torch.equal(out, x[:, 2:18, 2:18])
    if settings == {"flip": 1.0}:
        assert torch.equal(out, x[:, 2:18, 2:18].flip(2))


def test_grey_rows_of_a_pair_in_colour_stay_grey(augment_settings: MakeAugment) -> None:
    x = random_images(5, 12, 1)
    out = run(Augmentation(augment_settings(**EVERYTHING), (3, 12, 12)), x)
    assert out.shape == x.shape


def test_colour_of_grey_images_is_refused(augment_settings: MakeAugment) -> None:
    with pytest.raises(ConfigError) as caught:
        Augmentation(augment_settings(saturation=0.1, hue=0.2), (1, 8, 8), where="augment.target")
    assert caught.value.problems == [
        "augment.target.saturation: grey images have no colour to change; set it to 0",
        "augment.target.hue: grey images have no colour to change; set it to 0",
    ]


def test_cutmix_of_features_is_refused_and_mixup_is_not(augment_settings: MakeAugment) -> None:
    Augmentation(augment_settings(mix={"mixup": 1.0, "cutmix": 0.0, "share": 1.0}), (5,))
    with pytest.raises(ConfigError) as caught:
        Augmentation(augment_settings(mix={"mixup": 0.0, "cutmix": 1.0, "share": 1.0}), (5,))
    assert str(caught.value) == (
        "augment: the rows are features, not images; augment.mix.cutmix must be 0 (mixup fits them)"
    )


def test_each_domain_and_each_view_has_its_own_pipeline(augment_settings: MakeAugment) -> None:
    strong, weak = augment_settings(shift=3), augment_settings(contrast=0.5, views=augment_settings(shift=1))
    settings = augment_settings(flip=0.5, target=weak, views=strong)
    source, target = (pipelines(settings, domain, (3, 8, 8)) for domain in ("source", "target"))
    assert [each.settings.flip for each in source] == [0.5, 0.0]
    assert source[1].settings is strong
    assert target[0].settings is weak
    assert target[1].settings.shift == 1
    alone = pipelines(augment_settings(flip=0.5, target=None), "target", (3, 8, 8))
    assert alone[0] is alone[1]
    assert alone[0].settings.flip == 0.5


def test_what_is_wrong_with_any_pipeline_is_told_at_once(
    augment_settings: MakeAugment, images: Callable[..., DomainData], pair_of: Callable[..., DomainPair]
) -> None:
    pair = pair_of(images({"cat": 9, "dog": 9}), images({"cat": 9, "dog": 9}, draw=1))
    wrong = augment_settings(shift=9, target=augment_settings(shift=8))
    with pytest.raises(ConfigError) as caught:
        check_augmentation(wrong, pair)
    assert caught.value.problems == [
        "augment.shift: must be below the image side 8, got 9",
        "augment.target.shift: must be below the image side 8, got 8",
    ]
    check_augmentation(augment_settings(shift=7), pair)
