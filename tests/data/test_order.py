"""The order in which rows are trained on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.conftest import compose_config
from tlrun.data.domain import Part
from tlrun.data.order import Balanced, Shuffled
from tlrun.data.rows import Held
from tlrun.data.streams import Stream
from tlrun.data.transforms import Statistics

COUNTS = {0: 50, 1: 7, 3: 1}
Y = torch.tensor([label for label, count in COUNTS.items() for _ in range(count)] + [-1, -1])


def stream(y: Tensor | None = Y, *, balanced: bool = True, batch_size: int = 7, seed: int = 3) -> Stream:
    x = torch.arange(len(Y), dtype=torch.float32)[:, None]
    part = Part("target_granted", "target", Held(x), y, torch.arange(len(Y)))
    statistics = Statistics.of([0.0], [1.0], (1,), torch.device("cpu"))
    return Stream(part, statistics=statistics, shape=(1,), batch_size=batch_size, seed=seed, augment=compose_config("augment=none", "data=mnist_usps").augment,
                  balanced=balanced)  # fmt: skip


def drawn(source: Stream, batches: int) -> Tensor:
    return torch.cat([source.positions(address) for address in range(batches)])


def test_every_round_has_each_class_once_and_rows_of_no_class_never_come() -> None:
    labels = Y[drawn(stream(batch_size=6), 100)].view(-1, 3)
    assert (labels.sort(dim=1).values == torch.tensor([0, 1, 3])).all()
    assert len({tuple(each.tolist()) for each in labels}) == 6  # in any order


def test_a_class_goes_through_all_its_rows_before_one_comes_again() -> None:
    cycle = Balanced(Y, 3, "target_granted").cycle(0)
    assert len(cycle) == 150
    first = cycle[Y[cycle] == 0]
    assert sorted(first.tolist()) == list(range(50))
    counts = torch.bincount(cycle[Y[cycle] == 1] - 50)
    assert counts.min() == 7 and counts.max() == 8
    for start in range(0, 49, 7):
        assert len(set(cycle[Y[cycle] == 1][start : start + 7].tolist())) == 7


def test_batches_depend_on_seed_and_number_alone() -> None:
    forward, backward = stream(), stream()
    addresses = [0, 5, 30, 31, 90]
    expected = {address: forward.positions(address) for address in addresses}
    for address in reversed(addresses):
        assert torch.equal(backward.positions(address), expected[address])
    assert not torch.equal(stream(seed=4).positions(0), expected[0])
    assert not torch.equal(drawn(stream(), 22)[:150], drawn(stream(), 44)[150:300])


def test_batch_carries_the_labels_of_the_rows_it_holds() -> None:
    batch = stream().batch(2)
    assert torch.equal(batch.y, Y[batch.index]) and torch.equal(batch.x[:, 0].long(), batch.index)


def test_rows_without_labels_are_shuffled_as_ever() -> None:
    assert torch.equal(drawn(stream(None), 10), drawn(stream(None, balanced=False), 10))
    assert torch.equal(drawn(stream(balanced=False), 10)[:60].sort().values, torch.arange(60))
    assert sorted(Shuffled(9, "any").cycle(4).tolist()) == list(range(9))


def test_a_part_without_any_class_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match="no row has a class"):
        Balanced(torch.tensor([-1, -1]), 0)
