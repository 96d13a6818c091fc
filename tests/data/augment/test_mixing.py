from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tlrun.config import MixSettings
from tlrun.data.augment.mixing import Mixture, draw_mixture

CPU = torch.device("cpu")
SHAPE = (3, 12, 16)


def settings(mixup: float = 0.0, cutmix: float = 0.0, share: float = 1.0) -> MixSettings:
    return MixSettings(mixup=mixup, cutmix=cutmix, share=share)


def mixture(mix: MixSettings, rows: int = 64, *, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Mixture:
    return draw_mixture(mix, shape, rows, seed=seed, device=CPU)


def images(rows: int = 64) -> Tensor:
    x = torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mix", [settings(0.4), settings(0.0, 1.0), settings(0.3, 0.7), settings(0.3, 0.7, 0.5)])
def test_each_row_is_the_weighted_mean_of_itself_and_its_partner(mix: MixSettings) -> None:
    x, y = images(), torch.arange(64) % 5
    drawn = mixture(mix)
    mixed, labels = drawn.rows(x), drawn.labels(y, 5)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert labels.shape == (64, 5)
    assert labels.dtype == torch.float32
    for row in range(64):
        partner = int(drawn.partner[row])
        own = drawn.own[row].expand(1, 12, 16).double()
        wanted = own * x[row].double() + (1 - own) * x[partner].double()
        torch.testing.assert_close(mixed[row].double(), wanted, atol=1e-5, rtol=0)
        # The label's share is the image's: the weight of mixup, the area of cutmix.
        share = float(drawn.own_label[row])
        assert math.isclose(share, own.mean().item(), abs_tol=1e-6)
        expected = torch.zeros(5)
        expected[y[row]] += share
        expected[y[partner]] += 1 - share
        torch.testing.assert_close(labels[row], expected)


def test_labels_sum_to_one_and_partners_are_a_permutation() -> None:
    drawn = mixture(settings(0.5, 1.0), 500)
    torch.testing.assert_close(drawn.labels(torch.arange(500) % 7, 7).sum(1), torch.ones(500))
    assert torch.equal(drawn.partner.sort().values, torch.arange(500))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_draws_a_beta_distribution_for_each_row(alpha: float) -> None:
    share = mixture(settings(alpha), 40_000, shape=(3,)).own_label
    assert abs(share.mean() - 0.5) < 0.01
    assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.005


def test_cutmix_pastes_one_rectangle_of_the_area_that_was_drawn() -> None:
    drawn = mixture(settings(0.0, 1.0), 4000)
    own = drawn.own[:, 0]
    assert set(own.unique().tolist()) <= {0.0, 1.0}
    cut = own == 0
    # A rectangle is the product of its lines and columns.
    assert torch.equal(cut, cut.any(2, keepdim=True) & cut.any(1, keepdim=True))
    for occupied in (cut.any(2), cut.any(1)):
        edges = torch.nn.functional.pad(occupied.int(), (1, 1)).diff(dim=1)
        assert (edges == 1).sum(1).max() == 1
    # Beta(1, 1) is even, and cutting off at the edges leaves some three quarters of each side on average.
    assert 0.6 < drawn.own_label.mean() < 0.75
    assert cut.any(0).all()  # any place can be pasted over


def test_both_methods_share_the_rows_evenly_and_share_says_how_many_are_mixed() -> None:
    drawn = mixture(settings(1.0, 1.0, 0.5), 4000)
    own = drawn.own.flatten(1)
    whole = (own == 1).all(1)
    even = own.amin(1) == own.amax(1)
    assert 0.45 < 1 - whole.float().mean() < 0.55 + 0.02
    assert 0.2 < (even & ~whole).float().mean() < 0.3
    none = mixture(settings(1.0, 1.0, 0.0), 50)
    assert torch.equal(none.rows(images(50)), images(50))


def test_a_mixture_is_a_function_of_its_seed() -> None:
    first, again, other = (mixture(settings(0.5, 0.5), seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("partner", "own", "own_label"))
    assert not torch.equal(first.partner, other.partner)


def test_global_generators_are_neither_read_nor_moved() -> None:
    outcomes = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        outcomes.append(mixture(settings(0.5, 0.5)).own_label)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(*outcomes)


def test_features_are_mixed_up_too() -> None:
    x = torch.randn(10, 4)
    drawn = mixture(settings(0.5), 10, shape=(4,))
    weight = drawn.own_label[:, None]
    torch.testing.assert_close(drawn.rows(x), weight * x + (1 - weight) * x[drawn.partner])
