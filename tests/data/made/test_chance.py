from __future__ import annotations

import numpy as np

from tlrun.data.made.chance import normal, uniform
from tlrun.data.splits import row_keys


def test_a_row_draws_the_same_in_whatever_part_it_is_asked_for() -> None:
    for draw in (uniform, normal):
        whole = draw((10, 3, 2), 0, "salt", 7, "train")
        np.testing.assert_array_equal(draw((4, 3, 2), 5, "salt", 7, "train"), whole[5:9])
        for other in (("salt", 8, "train"), ("salt", 7, "test"), ("sal", 7, "train")):
            assert not np.isclose(draw((10, 3, 2), 0, *other), whole).any()


def test_uniform_numbers_are_spread_evenly_below_one() -> None:
    numbers = uniform((20_000, 5), 0, "even")
    assert numbers.dtype == np.float64
    assert 0 <= numbers.min() < 1e-4 and 1 - 1e-4 < numbers.max() < 1
    np.testing.assert_allclose(np.histogram(numbers, 10, (0, 1))[0] / numbers.size, 0.1, atol=0.004)


def test_normal_numbers_are_sums_of_eight_bytes_in_standard_units() -> None:
    numbers = normal((2000, 50), 0, "bell")
    assert numbers.dtype == np.float32
    keys = row_keys(np.arange(100), "chance", "bell").reshape(2, 50)
    by_hand = [[sum(int(key).to_bytes(8, "little")) for key in row] for row in keys]
    np.testing.assert_allclose(
        numbers[:2], (np.array(by_hand) - 1020) / np.std(np.arange(256)) / np.sqrt(8), rtol=1e-5, atol=1e-6
    )
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.std() - 1) < 0.01
    for reach, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert abs((np.abs(numbers) < reach).mean() - share) < 0.01


def test_numbers_never_change() -> None:
    np.testing.assert_array_equal(
        uniform((1, 3), 4, "for good"), [[0.8253056873830157, 0.5169034934729995, 0.4223169815578036]]
    )
    np.testing.assert_array_equal(
        normal((1, 3), 4, "for good"),
        np.array([[0.25356239080429077, -0.0861155316233635, -0.8802921175956726]], dtype=np.float32),
    )
