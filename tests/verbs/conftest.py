"""The small domains of the data tests."""

from tests.data.conftest import pair_of

__all__ = ["pair_of"]
