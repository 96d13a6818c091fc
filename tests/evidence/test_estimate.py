"""How long runs will take, told to people."""

from __future__ import annotations

import pytest

from tlrun.evidence.estimate import told


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (40.4, "40 s"), (89, "89 s"), (91, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_a_duration_is_told_no_more_exactly_than_it_is_known(seconds: float, words: str) -> None:
    assert told(seconds) == words
