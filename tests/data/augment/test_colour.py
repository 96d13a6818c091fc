from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from tlrun.data.augment import colour
from tlrun.data.augment.colour import (
    autocontrast,
    colour_matrix,
    equalize,
    jitter,
    paint_boxes,
    posterize,
    scale_contrast,
    sharpen,
    solarize,
)

ONE, NONE = torch.ones(6), torch.zeros(6)


def random_images(rows: int = 6, size: int = 8, channels: int = 3, *, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(rows + size + channels)
    return torch.randint(low, high, (rows, size, size, channels), dtype=torch.uint8, generator=generator)


def pillow(row: Tensor) -> Image.Image:
    return Image.fromarray(row.squeeze(2).numpy())


def close(found: Tensor, wanted: Image.Image) -> bool:
    array = np.asarray(wanted).astype(int).reshape(found.shape)
    return bool(np.abs(found.numpy().astype(int) - array).max() <= 1)


def test_contrast_scales_the_distance_from_the_mean_and_clips() -> None:
    x = random_images()
    factor = torch.tensor([1.0, 0.5, 1.5, 0.0, 1.2, 0.9])
    values = x.double().numpy()
    mean = values.mean((1, 2, 3), keepdims=True)
    wanted = np.clip(mean + factor.double().numpy()[:, None, None, None] * (values - mean), 0, 255)
    got = scale_contrast(x, factor)
    np.testing.assert_allclose(got.double().numpy(), wanted, atol=1e-3)
    assert got.min() >= 0
    assert got.max() <= 255


@pytest.mark.parametrize("channels", [1, 3])
def test_factors_of_one_and_no_turn_change_nothing(channels: int) -> None:
    x = random_images(channels=channels)
    assert torch.equal(jitter(x, ONE, ONE, ONE, NONE), x)


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_is_each_images_own_factor(channels: int) -> None:
    x = random_images(channels=channels)
    factor = torch.tensor([0.0, 0.5, 0.8, 1.0, 1.3, 2.0])
    found = jitter(x, factor, ONE, ONE, NONE)
    for row in range(6):
        assert close(found[row], ImageEnhance.Brightness(pillow(x[row])).enhance(float(factor[row])))


def test_contrast_in_colour_jitter_is_that_of_contrast_alone() -> None:
    x = random_images()
    factor = torch.tensor([0.2, 0.5, 0.8, 1.0, 1.3, 1.9])
    alone = scale_contrast(x, factor)
    assert (jitter(x, ONE, factor, ONE, NONE).float() - alone).abs().max() <= 0.5 + 1e-3


def test_saturation_is_the_distance_from_the_luma_as_pillow_has_it() -> None:
    x = random_images()
    factor = torch.tensor([0.0, 0.5, 0.8, 1.0, 1.3, 1.9])
    found = jitter(x, ONE, ONE, factor, NONE)
    for row in range(6):
        assert close(found[row], ImageEnhance.Color(pillow(x[row])).enhance(float(factor[row])))


def test_hue_turns_about_grey_at_equal_luma_and_a_whole_turn_is_none() -> None:
    turns = torch.tensor([0.1, -0.3, 0.5])
    matrix = colour_matrix(torch.ones(3), torch.ones(3), turns)
    grey = torch.full((3,), 77.0, dtype=torch.float64)
    torch.testing.assert_close(matrix @ grey, grey.expand(3, 3), atol=1e-3, rtol=0)
    luma = torch.tensor(colour.LUMA, dtype=torch.float64)
    torch.testing.assert_close(luma @ matrix, luma.expand(3, 3), atol=1e-5, rtol=0)
    there_and_back = colour_matrix(torch.ones(3), torch.ones(3), -turns) @ matrix
    torch.testing.assert_close(there_and_back, torch.eye(3, dtype=torch.float64).expand(3, 3, 3))
    red = torch.tensor([255.0, 0, 0], dtype=torch.float64)
    assert (matrix @ red).argmax(1).tolist() != [0, 0, 0]


def test_brightness_saturation_and_contrast_follow_one_another() -> None:
    x = random_images(low=90, high=160)  # so that nothing is clipped on the way
    factors = torch.tensor([0.8, 0.9, 1.0, 1.1, 1.2, 0.7]), torch.tensor([1.2, 0.8, 1.1, 0.9, 1.0, 0.6])
    bright = x.double() * factors[0].double().view(-1, 1, 1, 1)
    luma = (bright * torch.tensor(colour.LUMA, dtype=torch.float64)).sum(3, keepdim=True)
    vivid = luma + factors[1].double().view(-1, 1, 1, 1) * (bright - luma)
    mean = vivid.mean((1, 2, 3), keepdim=True)
    wanted = mean + 1.1 * (vivid - mean)
    found = jitter(x, factors[0], torch.full((6,), 1.1), factors[1], NONE)
    assert (found - wanted).abs().max() <= 0.51


def test_colours_do_not_depend_on_how_many_images_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_images()
    factors = torch.linspace(0.7, 1.3, 6), torch.linspace(1.2, 0.8, 6), torch.linspace(0.5, 1.5, 6)
    whole = jitter(x, *factors, torch.linspace(-0.2, 0.2, 6))
    monkeypatch.setattr(colour, "CHUNK_VALUES", 2 * 8 * 8 * 3)
    assert torch.equal(jitter(x, *factors, torch.linspace(-0.2, 0.2, 6)), whole)


@pytest.mark.parametrize("channels", [1, 3])
def test_tones_are_pillows(channels: int) -> None:
    x = torch.cat((random_images(4, 9, channels), random_images(2, 9, channels, low=60, high=180)))
    x[3] = 200  # of one value
    x[4, :, :, 0] = 61
    found = {"autocontrast": autocontrast(x), "equalize": equalize(x)}
    for row in range(6):
        assert close(found["autocontrast"][row], ImageOps.autocontrast(pillow(x[row])))
        wanted = np.asarray(ImageOps.equalize(pillow(x[row]))).reshape(x[row].shape)
        assert np.array_equal(found["equalize"][row].numpy(), wanted)


def test_equalize_spreads_large_images_as_pillow_does() -> None:
    x = random_images(2, 64, 3, low=100, high=140)
    found = equalize(x)
    for row in range(2):
        assert np.array_equal(found[row].numpy(), np.asarray(ImageOps.equalize(pillow(x[row]))))
    assert found.max() - found.min() > 240


def test_solarize_and_posterize_are_pillows_each_at_its_own_strength() -> None:
    x = random_images()
    thresholds, bits = torch.tensor([0.0, 50, 128, 200, 255, 256]), torch.tensor([8, 7, 6, 4, 2, 1])
    solarized, posterized = solarize(x, thresholds), posterize(x, bits)
    for row in range(6):
        assert np.array_equal(solarized[row].numpy(), np.asarray(ImageOps.solarize(pillow(x[row]), thresholds[row])))
        assert np.array_equal(posterized[row].numpy(), np.asarray(ImageOps.posterize(pillow(x[row]), int(bits[row]))))


@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_is_the_distance_from_pillows_smoothing(channels: int) -> None:
    x = random_images(channels=channels)
    factor = torch.tensor([0.0, 0.1, 0.5, 1.0, 1.5, 1.9])
    found = sharpen(x, factor)
    for row in range(6):
        image = pillow(x[row])
        assert close(found[row], ImageEnhance.Sharpness(image).enhance(float(factor[row])))
    assert close(found[0], pillow(x[0]).filter(ImageFilter.SMOOTH))


def test_boxes_are_painted_in_the_mean_colour_of_the_image_where_asked() -> None:
    x = random_images(3, 10)
    boxes = torch.tensor([[1, 2, 3, 4], [0, 0, 10, 10], [8, 8, 2, 2]])
    painted = paint_boxes(x, boxes, torch.tensor([True, False, True]))
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        wanted = x[row].clone()
        if row != 1:
            mean = x[row].float().mean((0, 1)).round().to(torch.uint8)
            wanted[top : top + height, left : left + width] = mean
        assert torch.equal(painted[row], wanted)


def test_boxes_are_painted_on_floats_too() -> None:
    x = random_images(1, 6).float() + 0.25
    painted = paint_boxes(x, torch.tensor([[0, 0, 2, 2]]), torch.tensor([True]))
    torch.testing.assert_close(painted[0, 0, 0], x[0].mean((0, 1)))
    assert torch.equal(painted[0, 2:], x[0, 2:])
