from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tlrun.data import datasets
from tlrun.data.datasets.base import SHIPPED, DomainData, Rows


def images(num_rows: int, *, channels: int = 1, size: int = 4) -> np.ndarray:
    return np.zeros((num_rows, size, size, channels), dtype=np.uint8)


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (images(2).astype(np.float32), labels(0, 1)),
        (images(2, channels=2), labels(0, 1)),
        (images(2)[..., 0], labels(0, 1)),
        (np.zeros((2, 3)), labels(0, 1)),
        (images(2), labels(0)),
        (images(2), labels(0, 1).astype(np.int32)),
        (images(2), labels(0, 1)[:, None]),
    ],
    ids=[
        "float images",
        "two channels",
        "no channels",
        "float64 features",
        "too few labels",
        "int32 labels",
        "2-D labels",
    ],
)
def test_rows_of_another_shape_or_type_are_refused(x: np.ndarray, y: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        Rows(x, y)


def test_rows_are_images_or_features() -> None:
    assert len(Rows(images(3, channels=3), labels(0, 0, 1))) == 3
    assert len(Rows(np.zeros((2, 5), dtype=np.float32), labels(0, 1))) == 2


def test_a_label_without_a_class_is_refused() -> None:
    assert DomainData(("a", "b"), Rows(images(2), labels(0, -1)), None, "made up").train.y[1] == -1
    for wrong in (-2, 2):
        with pytest.raises(ValueError, match=r"^labels must lie in 0\.\.1, or be -1"):
            DomainData(("a", "b"), Rows(images(2), labels(0, wrong)), None, "made up")
    with pytest.raises(ValueError, match=r"^labels must lie in 0\.\.1, or be -1"):
        DomainData(("a", "b"), Rows(images(2), labels(0, 1)), Rows(images(1), labels(2)), "made up")


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="class names must differ"):
        DomainData(("a", "a"), Rows(images(2), labels(0, 1)), None, "made up")


def test_splits_of_different_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="train rows are uint8"):
        DomainData(("a", "b"), Rows(images(1), labels(0)), Rows(images(1, size=5), labels(1)), "made up")


def test_no_data_set_imports_torch() -> None:
    names = sorted(path.stem for path in Path(datasets.__file__).parent.glob("[a-z]*.py"))
    assert len(names) > 10
    imports = ", ".join(f"tlrun.data.datasets.{name}" for name in names)
    code = f"import sys, {imports}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_shipped_file_is_attributed() -> None:
    attribution = (SHIPPED / "ATTRIBUTION.md").read_text(encoding="utf-8")
    photos = [path.name for path in (SHIPPED / "photos").iterdir()]
    assert len(photos) == 11
    assert [name for name in photos if name not in attribution] == []
    assert "Yann LeCun, Corinna Cortes and Christopher J.C. Burges" in attribution
    assert {path.name for path in SHIPPED.iterdir()} == {"ATTRIBUTION.md", "mnist", "photos"}
