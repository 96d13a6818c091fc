from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from tlrun.config import CropSettings
from tlrun.data.augment import geometry
from tlrun.data.augment.geometry import (
    crop_centre,
    draw_boxes,
    mirror_images,
    random_crop,
    resized_crop,
    shift_images,
    warp,
)


def random_images(rows: int = 6, height: int = 8, width: int = 8, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(rows + height + width + channels)
    return torch.randint(0, 256, (rows, height, width, channels), dtype=torch.uint8, generator=generator)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_middle_is_cut_out_and_larger_than_the_image_is_refused() -> None:
    x = random_images(2, 9, 8)
    assert torch.equal(crop_centre(x, (3, 4, 4)), x[:, 2:6, 2:6])
    assert torch.equal(crop_centre(x, (3, 9, 8)), x)
    with pytest.raises(ValueError, match="images of 9x8 have no middle of 9x9"):
        crop_centre(x, (3, 9, 9))


def test_boxes_lie_inside_with_area_and_aspect_in_their_ranges() -> None:
    top, left, height, width = draw_boxes(4000, (256, 256), (0.08, 1.0), (0.75, 4 / 3), drawn()).T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 256
    assert (left + width).max() <= 256
    area = (height * width) / 256**2
    aspect = width / height
    assert 0.078 < area.min() < 0.09
    assert 0.98 < area.max() <= 1.0
    assert 0.74 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 1.35


def test_boxes_are_spread_evenly_over_area_log_aspect_and_place() -> None:
    # Small enough that every draw fits, so that what is drawn is what comes.
    top, left, height, width = draw_boxes(20_000, (400, 400), (0.1, 0.3), (0.5, 2.0), drawn()).T
    area = height * width / 400**2
    assert abs(area.mean() - 0.2) < 0.002
    assert abs(area.std() - 0.2 / math.sqrt(12)) < 0.002
    assert abs((width / height).log().mean()) < 0.01
    assert abs((width / height).log().std() - 2 * math.log(2) / math.sqrt(12)) < 0.01
    for start, extent in ((top, height), (left, width)):
        place = start / (400 - extent)
        assert abs(place.mean() - 0.5) < 0.01
        assert abs(place.std() - 1 / math.sqrt(12)) < 0.01
    assert abs(torch.corrcoef(torch.stack((area, (width / height).log(), top / 400.0)))[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("size", "aspect", "box"),
    [
        ((10, 10), (1.0, 1.0), [0, 0, 10, 10]),
        ((10, 40), (0.5, 2.0), [0, 10, 10, 20]),
        ((40, 10), (0.5, 2.0), [10, 0, 20, 10]),
    ],
)
def test_where_nothing_fits_the_largest_centred_box_is_taken(
    size: tuple[int, int], aspect: tuple[float, float], box: list[int]
) -> None:
    # An area above the whole image never fits.
    assert draw_boxes(3, size, (1.5, 1.6), aspect, drawn()).tolist() == [box] * 3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("way", ["bytes", "products"])
def test_a_crop_is_the_rectangle_resized_as_pillow_does(channels: int, way: str) -> None:
    x = random_images(5, 40, 36, channels)
    boxes = torch.tensor([[0, 0, 40, 36], [3, 4, 20, 20], [10, 2, 7, 30], [39, 35, 1, 1], [8, 8, 20, 10]])
    function = resized_crop if way == "bytes" else geometry._resized_by_products
    cropped = function(x, boxes, (20, 24))
    assert cropped.shape == (5, 20, 24, channels)
    assert cropped.dtype == torch.uint8
    assert cropped.is_contiguous()
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        part = x[row, top : top + height, left : left + width].squeeze(2).numpy()
        wanted = np.asarray(Image.fromarray(part).resize((24, 20), Image.Resampling.BILINEAR)).reshape(20, 24, -1)
        assert np.abs(cropped[row].numpy().astype(int) - wanted).max() <= 1


def test_a_whole_image_at_its_own_size_is_cropped_to_itself() -> None:
    x = random_images(3, 11, 11)
    boxes = torch.tensor([[0, 0, 11, 11]] * 3)
    assert torch.equal(resized_crop(x, boxes, (11, 11)), x)
    assert torch.equal(geometry._resized_by_products(x, boxes, (11, 11)), x)


def test_each_image_is_cropped_at_its_own_box() -> None:
    x = random_images(1, 32, 32).expand(50, -1, -1, -1)
    settings = CropSettings(area=(0.2, 0.9), aspect=(0.75, 1.33))
    cropped = random_crop(x, settings, (16, 16), drawn())
    assert len({row.numpy().tobytes() for row in cropped}) == 50
    boxes = draw_boxes(50, (32, 32), (0.2, 0.9), (0.75, 1.33), drawn())
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        part = x[row, top : top + height, left : left + width].permute(2, 0, 1)[None].float()
        wanted = interpolate(part, (16, 16), mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        assert (cropped[row].float() - wanted).abs().max() < 1.1  # bytes are rounded after each direction


def test_mirroring_exchanges_left_and_right_of_those_chosen() -> None:
    x = random_images(3, 4, 5)
    mirrored = mirror_images(x, torch.tensor([True, False, True]))
    assert torch.equal(mirrored[1], x[1])
    for row in (0, 2):
        for column in range(5):
            assert torch.equal(mirrored[row, :, column], x[row, :, 4 - column])


@pytest.mark.parametrize("channels", [1, 3])
def test_shift_moves_each_image_and_repeats_the_edge(channels: int) -> None:
    x = random_images(5, 7, 7, channels)
    down, right = torch.tensor([0, 1, -2, 3, 6]), torch.tensor([0, -1, 2, 6, -3])
    moved = shift_images(x, down, right)
    for row in range(5):
        for i in range(7):
            for j in range(7):
                from_i = min(max(i - int(down[row]), 0), 6)
                from_j = min(max(j - int(right[row]), 0), 6)
                assert torch.equal(moved[row, i, j], x[row, from_i, from_j])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_affine_map_takes_each_pixel_from_where_it_says_and_repeats_the_edge(channels: int) -> None:
    x = random_images(4, 7, 9, channels)
    matrix = torch.tensor(
        [
            [[1.0, 0, 0], [0, 1, 0]],
            [[0.91, -0.41, 0.313], [0.41, 0.91, -1.217]],
            [[1, 0.31, 0], [0, 1, 0]],
            [[1, 0, 20], [0.1, 1, -2]],
        ]
    )
    warped = warp(x, matrix)
    assert torch.equal(warped[0], x[0])
    for row, ((a, b, c), (d, e, f)) in enumerate(matrix.tolist()):
        for i in range(7):
            for j in range(9):
                right, down = j - 4, i - 3
                column = min(max(round(a * right + b * down + c + 4), 0), 8)
                line = min(max(round(d * right + e * down + f + 3), 0), 6)
                assert torch.equal(warped[row, i, j], x[row, line, column])


def test_a_quarter_turn_is_numpys() -> None:
    x = random_images(1, 6, 6)
    turned = warp(x, torch.tensor([[[0.0, -1, 0], [1, 0, 0]]]))
    assert np.array_equal(turned[0].numpy(), np.rot90(x[0].numpy()))
