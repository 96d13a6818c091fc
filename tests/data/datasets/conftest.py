"""What the tests of the data sets share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tlrun.data.datasets.base import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """An empty data root and an empty cache."""
    (tmp_path / "root").mkdir()
    return Places(root=tmp_path / "root", cache=tmp_path / "cache", download=False)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real data that cannot be shipped, or a skip."""
    root = os.environ.get("TLRUN_DATA")
    if not root:
        pytest.skip("TLRUN_DATA names no folder with the data sets that cannot be shipped")
    return Path(root)
