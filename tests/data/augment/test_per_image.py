from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tlrun.config import ConfigError
from tlrun.data.augment.per_image import PerImage

CONFIGS = Path(__file__).parents[3] / "configs"
NOISE = {"_target_": "albumentations.GaussNoise", "std_range": [0.1, 0.2], "p": 1.0}
TURN = {"_target_": "albumentations.Affine", "rotate": [-20, 20], "p": 1.0}


def images(rows: int = 4, channels: int = 3) -> torch.Tensor:
    """One picture several times, so that any difference comes from the augmentation."""
    picture = np.random.RandomState(0).randint(0, 256, (1, 12, 12, channels))
    return torch.from_numpy(picture.astype(np.uint8)).expand(rows, -1, -1, -1)


def seeds(*numbers: int) -> np.ndarray:
    return np.array([number << 32 for number in numbers], dtype=np.uint64)


def test_equal_seeds_give_equal_images_and_others_differ() -> None:
    pipeline = PerImage([TURN, NOISE], (12, 12, 3), (12, 12))
    first, second, again, third = pipeline(images(), seeds(1, 2, 1, 3))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_an_image_does_not_depend_on_those_before_it() -> None:
    alone = PerImage([TURN, NOISE], (12, 12, 3), (12, 12))(images(1), seeds(7))
    among = PerImage([TURN, NOISE], (12, 12, 3), (12, 12))(images(3), seeds(1, 2, 7))
    assert torch.equal(alone[0], among[2])


def test_global_generators_are_neither_read_nor_moved() -> None:
    pipeline = PerImage([TURN, NOISE], (12, 12, 3), (12, 12))
    outcomes = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        outcomes.append(pipeline(images(), seeds(1, 2, 3, 4)))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(*outcomes)


@pytest.mark.parametrize("channels", [1, 3])
def test_shipped_pipeline_fits_grey_and_colour(channels: int) -> None:
    file = OmegaConf.to_container(OmegaConf.load(CONFIGS / "augment" / "albumentations.yaml"))
    assert isinstance(file, dict)
    pipeline = PerImage(file["albumentations"], (28, 28, channels), (28, 28))
    x = torch.zeros(8, 28, 28, channels, dtype=torch.uint8)
    x[:, 8:20, 12:16] = 200
    out = pipeline(x, seeds(*range(8)))
    assert out.shape == x.shape
    assert out.dtype == torch.uint8
    assert len({row.numpy().tobytes() for row in out}) == 8
    # The stroke is still there and still in the middle: it was moved, not lost.
    assert out[:, 4:24, 7:21].float().mean() > 2 * out[:, :, [*range(7), *range(21, 28)]].float().mean()


def test_operations_within_operations_are_built() -> None:
    one_of = {"_target_": "albumentations.OneOf", "transforms": [TURN, NOISE], "p": 1.0}
    out = PerImage([one_of], (12, 12, 3), (12, 12))(images(), seeds(1, 2, 3, 4))
    assert len({row.numpy().tobytes() for row in out}) == 4


def told(operations: list[dict[str, Any]], shape: tuple[int, int, int] = (12, 12, 3)) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        PerImage(operations, shape, (12, 12))
    return caught.value.problems


def test_only_operations_of_albumentations_are_built() -> None:
    problems = told([NOISE, {"_target_": "os.system", "command": "true"}, {"_target_": "albumentations.Afine"}])
    assert len(problems) == 2
    assert problems[0] == "augment.albumentations.1._target_: must be albumentations.<class>, got 'os.system'"
    assert problems[1].startswith("augment.albumentations.2._target_: albumentations has no")
    assert problems[1].endswith("did you mean Affine?")


def test_entries_within_an_operation_must_name_operations() -> None:
    one_of = {"_target_": "albumentations.OneOf", "transforms": [{"p": 0.5}, TURN, 3]}
    given = "_target_: must be given, as albumentations.<class>"
    assert told([one_of]) == [f"augment.albumentations.0.transforms.{number}.{given}" for number in (0, 2)]
    (problem,) = told([{"_target_": "albumentations.OneOf", "transforms": [{"_target_": "os.system"}]}])
    assert problem.startswith("augment.albumentations.0.transforms.0._target_: must be albumentations.<class>, got ")
    (problem,) = told([{"_target_": "albumentations.OneOrOther", "first": {"p": 1.0}, "second": TURN}])
    assert problem.startswith("augment.albumentations.0: albumentations.OneOrOther refuses its arguments: ")


def test_argument_that_an_operation_does_not_take_is_refused() -> None:
    (problem,) = told([TURN | {"rotat": 3}])
    assert problem.startswith("augment.albumentations.0.rotat: albumentations.Affine takes no such argument")


@pytest.mark.parametrize("value", ["far", [0, 1, 2]])
def test_value_that_an_operation_does_not_take_is_refused_on_one_line(value: object) -> None:
    (problem,) = told([TURN | {"rotate": value}])
    assert problem.startswith("augment.albumentations.0: albumentations.Affine refuses its arguments: ")
    assert "\n" not in problem
    assert "://" not in problem


def test_value_that_the_library_would_change_with_a_warning_is_refused() -> None:
    (problem,) = told([{"_target_": "albumentations.MedianBlur", "blur_limit": [4, 6]}])
    assert problem.startswith("augment.albumentations.0: albumentations.MedianBlur refuses its arguments: ")
    assert "must be odd" in problem


def test_pipeline_that_changes_the_size_is_refused() -> None:
    (problem,) = told([{"_target_": "albumentations.RandomCrop", "height": 10, "width": 9}])
    assert problem == (
        "augment.albumentations: uint8 (12, 12, 3) images come out as uint8 (10, 9, 3); they must be uint8 of 12x12 "
        "with as many channels (tlrun normalises afterwards)"
    )


def test_pipeline_that_changes_the_type_is_refused() -> None:
    (problem,) = told([{"_target_": "albumentations.ToFloat"}])
    assert "come out as float32 (12, 12, 3)" in problem


def test_operation_for_colour_alone_is_refused_on_grey() -> None:
    (problem,) = told([{"_target_": "albumentations.RandomRain", "p": 1.0}], (12, 12, 1))
    assert problem.startswith("augment.albumentations: an operation does not take uint8 (12, 12, 1) images: ")


def test_crop_that_is_larger_than_the_image_is_refused() -> None:
    (problem,) = told([{"_target_": "albumentations.CenterCrop", "height": 50, "width": 50}])
    assert problem == (
        "augment.albumentations: an operation does not take uint8 (12, 12, 3) images: "
        "Crop size (height, width) exceeds image dimensions (height, width): (50, 50) vs (12, 12)"
    )


@pytest.mark.slow
def test_library_is_imported_only_for_a_pipeline_and_asks_no_network() -> None:
    code = """
import os, sys, torch
import yaml
from tlrun.config import AugmentSettings
from tlrun.data.augment.augmentation import Augmentation
plain = yaml.safe_load(open(sys.argv[1]))
Augmentation(AugmentSettings(**plain | {"shift": 1, "contrast": 0.1}), (1, 8, 8))
assert "albumentations" not in sys.modules
noise = {"_target_": "albumentations.GaussNoise"}
Augmentation(AugmentSettings(**plain | {"albumentations": [noise]}), (1, 8, 8))
assert "albumentations" in sys.modules and os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
"""
    subprocess.run([sys.executable, "-c", code, str(CONFIGS / "_base" / "augment.yaml")], check=True)


def test_an_operation_may_give_the_models_size_and_knows_it_by_name() -> None:
    crop = {"_target_": "albumentations.RandomResizedCrop", "size": ["image_size", "image_size"], "scale": [0.2, 1.0]}
    x = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (1, 20, 20, 3)).astype(np.uint8)).expand(
        4, -1, -1, -1
    )
    out = PerImage([crop], (20, 20, 3), (12, 12))(x, seeds(1, 2, 1, 3))
    assert out.shape == (4, 12, 12, 3)
    assert torch.equal(out[0], out[2])
    assert not torch.equal(out[0], out[1])


def test_images_that_keep_their_larger_size_lose_their_margin() -> None:
    flip = {"_target_": "albumentations.HorizontalFlip", "p": 1.0}
    x = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (2, 20, 20, 3)).astype(np.uint8))
    assert torch.equal(PerImage([flip], (20, 20, 3), (12, 12))(x, seeds(1, 2)), x.flip(2)[:, 4:16, 4:16])


def test_some_images_may_be_cropped_and_others_not() -> None:
    crop = {"_target_": "albumentations.RandomCrop", "height": 12, "width": 12, "p": 0.5}
    x = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (1, 20, 20, 3)).astype(np.uint8)).expand(
        40, -1, -1, -1
    )
    out = PerImage([crop], (20, 20, 3), (12, 12))(x, seeds(*range(40)))
    middle = [torch.equal(row, x[0, 4:16, 4:16]) for row in out]
    assert 10 < sum(middle) < 30


def test_size_that_is_neither_the_rows_nor_the_models_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        PerImage([{"_target_": "albumentations.RandomCrop", "height": 11, "width": 11}], (20, 20, 3), (12, 12))
    assert str(caught.value) == (
        "augment.albumentations: uint8 (20, 20, 3) images come out as uint8 (11, 11, 3); they must be uint8 of 20x20 "
        "or 12x12 with as many channels (tlrun normalises afterwards)"
    )


def test_image_size_stands_for_one_side_only() -> None:
    resize = {"_target_": "albumentations.RandomResizedCrop", "size": ["image_size", "image_size"]}
    with pytest.raises(ConfigError, match="image_size stands for the side of square inputs; set data.image_size"):
        PerImage([resize], (20, 20, 3), (12, 10), where="augment.target.albumentations")


@pytest.mark.parametrize("side", [28, 64])
def test_pipeline_for_photographs_crops_from_the_whole_row(side: int) -> None:
    file = OmegaConf.to_container(OmegaConf.load(CONFIGS / "augment" / "albumentations_photos.yaml"))
    assert isinstance(file, dict)
    x = torch.zeros(8, side, side, 3, dtype=torch.uint8)
    x[:, : side // 4] = 255  # of rows of 64, what a centre crop loses
    out = PerImage(file["albumentations"], (side, side, 3), (28, 28))(x, seeds(*range(8)))
    assert out.shape == (8, 28, 28, 3)
    assert out.max() > 100


def test_half_of_the_images_come_as_negatives() -> None:
    file = OmegaConf.to_container(OmegaConf.load(CONFIGS / "augment" / "invert.yaml"))
    assert isinstance(file, dict)
    x = images(200)
    out = PerImage(file["albumentations"], (12, 12, 3), (12, 12))(x, seeds(*range(200)))
    inverted = [torch.equal(row, 255 - x[0]) for row in out]
    assert all(is_inverted or torch.equal(row, x[0]) for row, is_inverted in zip(out, inverted, strict=True))
    assert 75 < sum(inverted) < 125
