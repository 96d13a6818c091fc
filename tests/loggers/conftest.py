"""Short runs in this process and in others that are killed: as those of the engine's tests."""

from __future__ import annotations

from tests.engine.conftest import children, described, train

__all__ = ["children", "described", "train"]
