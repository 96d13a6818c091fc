"""The views over which an evaluation averages."""

from __future__ import annotations

import pytest
import torch

from tlrun.config import ConfigError, ViewSettings
from tlrun.data.augment.evaluation_views import check_views, num_views, views_of


def settings(*, flip: bool = False, shift: int = 0) -> ViewSettings:
    return ViewSettings(flip=flip, shift=shift)


X = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).view(2, 4, 4, 3)


def test_flip_mirrors_left_and_right() -> None:
    (view,) = views_of(X, settings(flip=True))
    assert torch.equal(view[:, :, 0], X[:, :, 3]) and torch.equal(view[:, 0], X[:, 0].flip(1))


def test_shift_moves_towards_each_corner_and_repeats_the_edge() -> None:
    views = list(views_of(X, settings(shift=1)))
    up_left, down_right = views[0], views[3]
    assert len(views) == 4
    assert torch.equal(up_left[:, :3, :3], X[:, 1:, 1:]) and torch.equal(up_left[:, 3, 3], X[:, 3, 3])
    assert torch.equal(down_right[:, 1:, 1:], X[:, :3, :3]) and torch.equal(down_right[:, 0, 0], X[:, 0, 0])


@pytest.mark.parametrize(("flip", "shift", "number"), [(False, 0, 1), (True, 0, 2), (False, 2, 5), (True, 2, 10)])
def test_views_are_as_many_as_said_and_all_different(flip: bool, shift: int, number: int) -> None:
    each = settings(flip=flip, shift=shift)
    views = [X, *views_of(X, each)]
    assert len(views) == num_views(each) == number == len({view.numpy().tobytes() for view in views})
    assert all(view.dtype == X.dtype and view.shape == X.shape for view in views)


def test_rows_that_have_no_views_are_refused() -> None:
    check_views(settings(), (2,), encoded=True)
    for shape, encoded, expected in (
        ((2,), False, "engine.test_time: the rows are features, not images; set flip=false and shift=0"),
        ((1, 4, 8), False, "engine.test_time.shift: must be below the image side 4, got 4"),
        ((1, 8, 8), True, "engine.test_time: views need the images, of which strategy.encode_once keeps what frozen "
                          "stages made; set strategy.encode_once=false, or flip=false and shift=0"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            check_views(settings(shift=4), shape, encoded=encoded)
        assert caught.value.problems == [expected]
