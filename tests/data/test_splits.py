from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from tlrun.data.splits import (
    carve,
    class_ranks,
    hash64,
    plant_noise,
    row_keys,
    stratified_order,
    take_per_class,
    take_subset,
)

COUNTS = (60, 25, 10, 4, 1)


def labels(counts: tuple[int, ...] = COUNTS) -> np.ndarray:
    y = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    np.random.RandomState(3).shuffle(y)
    return y


def test_hash_is_the_same_in_every_process() -> None:
    code = "from tlrun.data.splits import hash64; print(hash64('order', 7))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert hash64("order", 7) == int(other.stdout)
    assert hash64("order", 7) != hash64("order7") != hash64("order", "7")


def test_row_keys_are_those_of_splitmix64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlrun.data.splits.hash64", lambda *parts: 0)
    # The first three outputs of the published generator from state 0.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert row_keys(np.array([1, 2, 3]), "any").tolist() == published


def test_choice_is_pinned_for_good() -> None:
    y = np.arange(40, dtype=np.int64) % 2
    assert take_subset(y, np.arange(40), 6, "subset").tolist() == [8, 16, 19, 20, 23, 35]


def test_class_ranks_number_the_rows_of_each_class() -> None:
    y = labels()
    ranks = class_ranks(y, np.arange(len(y)), "salt")
    for number, count in enumerate(COUNTS):
        assert sorted(ranks[y == number]) == list(range(count))


def test_every_beginning_of_the_order_is_stratified() -> None:
    y = labels()
    order = stratified_order(y, np.arange(len(y)), "salt")
    assert sorted(order) == list(range(len(y)))
    for count in range(len(COUNTS), len(y) + 1):
        taken = np.bincount(y[order[:count]], minlength=len(COUNTS))
        assert taken.min() >= 1
        wanted = count * np.array(COUNTS) / len(y)
        # One row beyond the exact share, and one for each class that had to have its first row.
        assert np.abs(taken - np.maximum(wanted, 1)).max() <= 2


def test_carving_takes_the_fraction_of_every_class() -> None:
    y = labels((500, 300, 200))
    kept, aside = carve(y, np.arange(1000), 0.1, "val")
    assert np.bincount(y[aside]).tolist() == [50, 30, 20]
    assert sorted([*kept, *aside]) == list(range(1000))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(aside) > 0).all()


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_carving_leaves_and_takes_a_row_of_every_class_that_has_two(fraction: float) -> None:
    y = labels((60, 25, 10, 2, 1))
    kept, aside = carve(y, np.arange(len(y)), fraction, "val")
    assert np.bincount(y[aside], minlength=5)[:4].min() >= 1
    assert np.bincount(y[kept], minlength=5).min() >= 1
    assert np.bincount(y[aside], minlength=5)[4] == 0


def test_carving_takes_nothing_where_no_class_has_two_rows() -> None:
    kept, aside = carve(np.array([0, 1, 2]), np.arange(3), 0.5, "val")
    assert kept.tolist() == [0, 1, 2]
    assert len(aside) == 0


def test_smaller_subset_lies_in_the_larger() -> None:
    y = labels()
    rows = np.arange(len(y))
    subsets = [set(take_subset(y, rows, count, "subset").tolist()) for count in range(5, 101)]
    assert all(len(small) + 1 == len(large) and small < large for small, large in pairwise(subsets))


def test_rows_per_class_are_exact_and_nested_and_leave_out_foreign_labels() -> None:
    y = labels((30, 20, 10)) - 1
    three = take_per_class(y, np.arange(60), 3, "grant", 0)
    five = take_per_class(y, np.arange(60), 5, "grant", 0)
    assert np.bincount(y[three]).tolist() == [3, 3]
    assert set(three) < set(five)
    assert set(three) != set(take_per_class(y, np.arange(60), 3, "grant", 1))


def test_choice_follows_the_row_numbers_not_the_positions() -> None:
    y = labels((30, 20, 10))
    rows = np.arange(60)
    order = np.random.RandomState(0).permutation(60)
    chosen = rows[take_per_class(y, rows, 4, "grant")]
    shuffled = rows[order][take_per_class(y[order], rows[order], 4, "grant")]
    assert sorted(chosen) == sorted(shuffled)


def test_noise_replaces_the_exact_share_by_other_classes_evenly() -> None:
    y = labels((2000, 2000, 2000, 2000))
    noisy = plant_noise(y, np.arange(8000), 0.3, 4, "noise", 0)
    wrong = noisy != y
    assert wrong.sum() == 2400
    table = np.zeros((4, 4))
    np.add.at(table, (y[wrong], noisy[wrong]), 1)
    others = table[~np.eye(4, dtype=bool)]
    assert others.sum() == 2400
    assert np.abs(others - 200).max() < 5 * np.sqrt(200)  # twelve cells of 200 on average


def test_noise_depends_on_the_salt_and_more_noise_holds_less() -> None:
    y, rows = labels((200, 200)), np.arange(400)
    little, much, other = (
        plant_noise(y, rows, share, 2, "noise", seed) != y for share, seed in ((0.1, 0), (0.3, 0), (0.1, 1))
    )
    assert (much[little]).all()
    assert (little != other).any()
    assert np.array_equal(plant_noise(y, rows, 0.0, 2, "noise", 0), y)


def test_noise_among_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="two classes"):
        plant_noise(np.zeros(3, dtype=np.int64), np.arange(3), 0.5, 1, "noise")
