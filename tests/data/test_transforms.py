from __future__ import annotations

import numpy as np
import pytest
import torch

from tlrun.data import transforms
from tlrun.data.transforms import (
    Statistics,
    describe_fitting,
    fit,
    fitting,
    measure,
    to_batch,
)

CPU = torch.device("cpu")


def random_images(rows: int = 6, size: int = 8, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows + size + channels)
    return torch.randint(0, 256, (rows, size, size, channels), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("height", "width", "size", "how"),
    [
        (28, 28, 28, "none"),
        (30, 20, None, "none"),
        (32, 32, 28, "crop"),
        (256, 256, 224, "crop"),
        (32, 32, 24, "crop"),
        (32, 28, 28, "crop"),
        (32, 32, 22, "resize"),  # a margin of 10 is more than a quarter of 32
        (31, 31, 28, "resize"),  # 3 cannot be halved
        (16, 16, 28, "resize"),
        (32, 20, 28, "resize"),
    ],
)
def test_size_is_fitted_by_crop_where_a_small_even_margin_allows(
    height: int, width: int, size: int | None, how: str
) -> None:
    assert fitting(height, width, size) == how


def test_fitting_is_told_in_words() -> None:
    assert describe_fitting((32, 32, 3), size=28, channels=3) == "centre crop from 32x32 to 28x28"
    assert describe_fitting((16, 20, 1), size=28, channels=3) == (
        "antialiased bilinear resize from 16x20 to 28x28, aspect changed, grey repeated in three channels"
    )
    assert describe_fitting((28, 28, 3), size=28, channels=1) == "size as it came, 28x28, colour made grey by luma"
    assert describe_fitting((7,), size=None, channels=None) == "none"


def test_rows_are_copied_in_the_order_asked_for() -> None:
    x = random_images().numpy()
    rows = np.array([4, 0, 4])
    fitted = fit(x, rows, size=8, channels=3)
    assert np.array_equal(fitted.numpy(), x[rows])
    fitted[:] = 0
    assert x[rows].any()


def test_crop_takes_the_middle() -> None:
    x = random_images(size=10).numpy()
    assert np.array_equal(fit(x, np.arange(6), size=8, channels=3).numpy(), x[:, 1:9, 1:9])


@pytest.mark.parametrize(("before", "after"), [(16, 28), (40, 28), (28, 17)])
def test_resize_agrees_with_pillow(before: int, after: int) -> None:
    from PIL import Image

    x = random_images(3, before).numpy()
    fitted = fit(x, np.arange(3), size=after, channels=3).numpy()
    wanted = np.stack(
        [np.asarray(Image.fromarray(each).resize((after, after), Image.Resampling.BILINEAR)) for each in x]
    )
    assert np.abs(fitted.astype(int) - wanted.astype(int)).max() <= 1


def test_grey_agrees_with_pillow() -> None:
    from PIL import Image

    x = random_images(3, 16).numpy()
    fitted = fit(x, np.arange(3), size=None, channels=1).numpy()
    wanted = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in x])[..., None]
    assert fitted.shape == (3, 16, 16, 1)
    assert np.abs(fitted.astype(int) - wanted.astype(int)).max() <= 1


def test_grey_rows_stay_grey_in_memory() -> None:
    assert fit(random_images(channels=1).numpy(), np.arange(6), size=12, channels=3).shape == (6, 12, 12, 1)


def test_fitting_by_chunks_gives_what_fitting_at_once_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x = random_images(7, 16).numpy()
    whole = fit(x, np.arange(7), size=28, channels=1)
    monkeypatch.setattr(transforms, "CHUNK", 3)
    assert torch.equal(fit(x, np.arange(7), size=28, channels=1), whole)


def test_features_pass_unfitted() -> None:
    x = np.random.RandomState(0).normal(size=(5, 3)).astype(np.float32)
    assert np.array_equal(fit(x, np.array([1, 3]), size=None, channels=None).numpy(), x[[1, 3]])


@pytest.mark.parametrize("rows", [1, 300])
def test_channel_statistics_agree_with_numpy(rows: int) -> None:
    x = random_images(rows)
    mean, std = measure(x)
    values = x.numpy() / 255
    assert mean == pytest.approx(values.mean((0, 1, 2)).tolist(), abs=1e-14)
    assert std == pytest.approx(values.std((0, 1, 2)).tolist(), abs=1e-14)


def test_feature_statistics_agree_with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "CHUNK", 3)
    x = np.random.RandomState(0).normal(100, 0.1, (10, 4)).astype(np.float32)
    mean, std = measure(torch.from_numpy(x))
    assert mean == pytest.approx(x.astype(float).mean(0).tolist(), rel=1e-12)
    assert std == pytest.approx(x.astype(float).std(0).tolist(), rel=1e-9)


def test_batch_is_normalised_by_channel_in_channels_last_memory() -> None:
    x = random_images()
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    batch = to_batch(x, Statistics.of(mean, std, (3, 8, 8), CPU), (3, 8, 8))
    wanted = (x.permute(0, 3, 1, 2).double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch.double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("statistics", [([0.3], [0.2]), ([0.1, 0.5, 0.9], [0.2, 0.3, 0.4])])
def test_grey_rows_are_repeated_in_every_channel(statistics: tuple[list[float], list[float]]) -> None:
    x = random_images(channels=1)
    normalise = Statistics.of(*statistics, (3, 8, 8), CPU)
    batch = to_batch(x, normalise, (3, 8, 8))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, to_batch(x.repeat(1, 1, 1, 3), normalise, (3, 8, 8)))


def test_normalised_rows_have_mean_0_and_spread_1() -> None:
    x = random_images(200)
    batch = to_batch(x, Statistics.of(*measure(x), (3, 8, 8), CPU), (3, 8, 8)).double()
    assert batch.mean((0, 2, 3)).abs().max() < 1e-6
    assert (batch.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6


def test_features_are_normalised_each_by_itself() -> None:
    x = torch.randn(50, 4) * torch.tensor([1.0, 2.0, 3.0, 0.0]) + 7.3
    batch = to_batch(x, Statistics.of(*measure(x), (4,), CPU), (4,))
    assert batch.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(batch.std(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_constant_channel_is_centred_and_no_more() -> None:
    x = random_images()
    x[..., 1] = 100
    batch = to_batch(x, Statistics.of(*measure(x), (3, 8, 8), CPU), (3, 8, 8))
    assert batch[:, 1].abs().max() < 1e-6


def test_constant_feature_with_a_rounding_spread_is_centred_and_no_more() -> None:
    statistics = Statistics.of([1e6], [1e-6], (1,), CPU)
    assert to_batch(torch.full((3, 1), 1e6), statistics, (1,)).abs().max() == 0


@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_no_and_one_row_keep_their_shape(rows: int) -> None:
    statistics = Statistics.of([0.5], [0.5], (3, 8, 8), CPU)
    assert to_batch(random_images(channels=1)[:rows], statistics, (3, 8, 8)).shape == (rows, 3, 8, 8)
