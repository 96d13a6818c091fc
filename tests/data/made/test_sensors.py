from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from tlrun.data.datasets.mnist import read_images
from tlrun.data.made import sensors
from tlrun.data.made.sensors import SENSORS, UNIT, coarse_weights, gaussian_weights, resample

DIGITS = read_images("test")[:40][..., None]
PHOTOS = np.random.default_rng(0).integers(0, 256, (7, 12, 20, 3), dtype=np.uint8)
LEVELS = range(1, 6)


def difference(kind: str, severity: int) -> float:
    worse = SENSORS[kind](DIGITS, severity, "train")
    return float(np.abs(worse.astype(int) - DIGITS).mean())


@pytest.mark.parametrize("kind", SENSORS)
def test_a_higher_severity_is_further_from_the_sound_image(kind: str) -> None:
    distances = [difference(kind, severity) for severity in LEVELS]
    assert distances == sorted(distances)
    assert distances[0] > 0
    assert distances[4] > 1.5 * distances[0]


@pytest.mark.parametrize("kind", SENSORS)
@pytest.mark.parametrize("x", [DIGITS, PHOTOS, DIGITS[:, :1, :3]], ids=["grey", "colour and oblong", "tiny"])
def test_an_image_is_the_same_whatever_it_is_seen_with(
    kind: str, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SENSORS[kind](x, 3, "train")
    assert whole.shape == x.shape and whole.dtype == np.uint8
    monkeypatch.setattr(sensors, "CHUNK_VALUES", 2 * x[0].size)
    np.testing.assert_array_equal(SENSORS[kind](x, 3, "train"), whole)


@pytest.mark.parametrize("kind", ["noise", "low_light", "occlusion"])
def test_what_chance_decides_is_not_shared_by_rows_or_splits(kind: str) -> None:
    same = np.repeat(DIGITS[:1], 2, axis=0)
    first, second = SENSORS[kind](same, 3, "train")
    assert not np.array_equal(first, second)
    assert not np.array_equal(SENSORS[kind](same, 3, "test")[0], first)


def test_the_input_is_left_alone() -> None:
    x = DIGITS.copy()
    for sensor in SENSORS.values():
        sensor(x, 5, "train")
    np.testing.assert_array_equal(x, DIGITS)


def test_mixing_by_weights_equals_a_double_loop() -> None:
    down, across = gaussian_weights(12, 0.8), coarse_weights(20, 7)
    mixed = resample(PHOTOS, down, across)
    for row in range(2):
        for channel in range(3):
            exact = down / UNIT @ PHOTOS[row, :, :, channel].astype(float) @ (across / UNIT).T
            assert np.abs(mixed[row, :, :, channel] - exact).max() < 0.6  # half a level, and 1/16 between the two steps


def test_whole_numbers_are_added_exactly_in_float32() -> None:
    white = np.full((1, 28, 28, 1), 255, dtype=np.uint8)
    for weights in (gaussian_weights(28, 2.0), coarse_weights(28, 6)):
        assert (weights.sum(1) == UNIT).all()
        assert (weights >= 0).all()
        np.testing.assert_array_equal(resample(white, weights, weights), white)


def test_blur_is_a_gaussian_with_the_edge_going_on() -> None:
    weights = gaussian_weights(9, 1.0) / UNIT
    bell = np.array([math.exp(-(k**2) / 2) for k in range(-3, 4)])
    np.testing.assert_allclose(weights[4, 1:8], bell / bell.sum(), atol=5e-4)
    np.testing.assert_allclose(weights[0, 0], bell[:4].sum() / bell.sum(), atol=5e-4)


def test_low_resolution_means_areas_and_goes_straight_between_them() -> None:
    weights = coarse_weights(8, 4) / UNIT
    line = np.array([0, 2, 10, 12, 20, 22, 40, 44.0])
    means = np.array([1, 11, 21, 42])
    np.testing.assert_allclose(weights @ line, np.interp(np.arange(8) + 0.5, [1, 3, 5, 7], means), atol=0.02)
    np.testing.assert_allclose(coarse_weights(5, 1) / UNIT, 0.2, atol=3e-4)


def test_noise_has_the_stated_spread() -> None:
    grey = np.full((200, 28, 28, 1), 128, dtype=np.uint8)
    noisy = SENSORS["noise"](grey, 2, "train").astype(float)
    assert abs(noisy.mean() - 128) < 0.5
    assert abs(noisy.std() - 31) < 0.5
    assert abs(np.corrcoef(noisy[:, 0, 0, 0], noisy[:, 0, 1, 0])[0, 1]) < 0.2


def test_in_low_light_noise_grows_with_the_root_of_the_light() -> None:
    levels = np.repeat(np.array([64, 255], dtype=np.uint8), 100)[:, None, None, None]
    seen = SENSORS["low_light"](np.broadcast_to(levels, (200, 28, 28, 1)).copy(), 2, "train").astype(float)
    for rows, level in ((seen[:100], 64), (seen[100:], 255)):
        electrons = 160 * level / 255
        gain = 255 * 0.45 / 160
        assert rows.mean() == pytest.approx(electrons * gain, abs=0.2)
        assert rows.std() == pytest.approx(gain * math.sqrt(electrons + 4), rel=0.03)


def test_one_rectangle_of_one_grey_hides_the_stated_share() -> None:
    x = np.zeros((300, 28, 28, 3), dtype=np.uint8)
    for severity, area in zip(LEVELS, (0.1, 0.18, 0.26, 0.34, 0.42), strict=True):
        hidden = SENSORS["occlusion"](x, severity, "train")
        for image in hidden:
            (grey,) = np.unique(image[image > 0]).tolist() or [0]
            lines, columns = np.flatnonzero((image > 0).any((1, 2))), np.flatnonzero((image > 0).any((0, 2)))
            if grey:
                box = image[lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1]
                assert (box == grey).all()
                assert box[..., 0].size == pytest.approx(area * 784, rel=0.1)


def test_what_is_in_the_way_grows_where_it_is() -> None:
    x = np.zeros((50, 28, 28, 1), dtype=np.uint8)
    slight, severe = (SENSORS["occlusion"](x, severity, "train") for severity in (1, 5))
    for small, large in zip(slight, severe, strict=True):
        assert small.max() == large.max(), "the same grey"


@pytest.mark.parametrize("x", [DIGITS[:3], PHOTOS[:3]], ids=["grey", "colour"])
def test_images_packed_in_a_strip_come_out_as_each_by_itself(x: np.ndarray) -> None:
    together = SENSORS["jpeg"](x, 3, "train")
    height, width, channels = x.shape[1:]
    for image, worse in zip(x, together, strict=True):
        padded = np.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
        packed = io.BytesIO()
        Image.fromarray(padded[..., 0] if channels == 1 else padded).save(packed, "JPEG", quality=12, subsampling=0)
        with Image.open(packed) as alone:
            np.testing.assert_array_equal(worse, np.asarray(alone).reshape(*padded.shape)[:height, :width])


def test_the_same_bits_come_out_everywhere() -> None:
    """JPEG is left out: its bits are those of the library inside Pillow."""
    sums = {
        kind: int(SENSORS[kind](DIGITS, 3, "train").astype(np.int64).ravel() @ np.arange(DIGITS.size))
        for kind in SENSORS
        if kind != "jpeg"
    }
    assert sums == {
        "blur": 14467483969,
        "noise": 21564125325,
        "low_light": 5048021563,
        "occlusion": 25372406344,
        "low_resolution": 14476587872,
    }
