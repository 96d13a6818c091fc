from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tlrun.data.datasets import digits
from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.digits import Digits


def load(places: Places, frame: str = "stretched") -> DomainData:
    return Digits(Digits.Config(name="digits", frame=frame), places).load()


def test_rows_are_those_of_scikit_learn_with_its_levels_spread(places: Places) -> None:
    data, theirs = load(places), load_digits()
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert data.train.x.shape == (1797, 8, 8, 1)
    assert data.test is None
    np.testing.assert_array_equal(data.train.y, theirs.target)
    np.testing.assert_array_equal(data.train.x[..., 0], np.floor(theirs.images * 255 / 16 + 0.5))
    assert set(np.unique(data.train.x)) >= {0, 16, 128, 255}


def test_padded_digits_get_two_pixels_of_background(places: Places) -> None:
    stretched, padded = load(places), load(places, "padded")
    assert padded.train.x.shape == (1797, 12, 12, 1)
    np.testing.assert_array_equal(padded.train.x[:, 2:10, 2:10], stretched.train.x)
    assert padded.train.x.astype(int).sum() == stretched.train.x.astype(int).sum()


def test_the_data_card_says_the_frame(places: Places) -> None:
    frame = "padded by 2 to 12x12, so that digits keep some of MNIST's margin once resized to 28x28"
    data = load(places, "padded")
    assert data.origin == f"the digits shipped with scikit-learn (Alpaydin and Kaynak 1998; UCI; CC BY 4.0); {frame}"
    assert data.notes == (f"frame padded: {frame}", "grey levels 0..16 spread over 0..255")


def test_scikit_learn_is_needed_once(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(places)
    monkeypatch.setattr(digits, "read", None)
    np.testing.assert_array_equal(load(places).train.x, first.train.x)
    code = "import sys, tlrun.data.datasets.digits; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
