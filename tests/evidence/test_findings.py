"""How findings are read: sizes, likeness of the domains, what probes lose, label shift."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tlrun.evidence.findings import Findings, SpaceFound, size_of


def space(**changes: Any) -> SpaceFound:
    """A space where a probe is right on nine of ten source rows, and the probes agree a little less on target rows."""
    given = SpaceFound(
        name="inputs",
        mmd=0.3,
        a_distance=0.4,
        source_accuracy=0.9,
        target_accuracy=None,
        granted_accuracy=None,
        source_agreement=0.9,
        target_agreement=0.8,
    )
    return replace(given, **changes)


FOUND = Findings(
    classes=10,
    source_rows=54_000,
    target_rows=6_000,
    granted=0,
    test_labels=2_000,
    transductive=False,
    start="source",
    stages=4,
    has_batch_norm=True,
    has_bottleneck=False,
    epochs=10,
    imbalance=1.2,
    shares_moved=0.05,
    shares_exact=False,
    spaces=(space(),),
)


@pytest.mark.parametrize(
    ("per_class", "size"),
    [(0, "none"), (0.5, "small"), (1, "small"), (99, "small"), (100, "medium"), (999, "medium"), (1000, "large"),
     (4999, "large"), (5000, "very large")],
)  # fmt: skip
def test_sizes_go_by_labels_a_class(per_class: float, size: str) -> None:
    assert size_of(per_class) == size
    assert replace(FOUND, granted=round(per_class * 10)).size == size


@pytest.mark.parametrize(
    ("mmd", "a_distance", "closeness"),
    [(0.05, 0.4, "similar"), (0.1, 0.4, "between"), (0.5, 0.5, "between"), (0.51, 0.0, "different"),
     (0.3, 0.51, "different"), (0.05, 0.51, "between")],
)  # fmt: skip
def test_distances_tell_how_alike_the_domains_are(mmd: float, a_distance: float, closeness: str) -> None:
    assert replace(FOUND, spaces=(space(mmd=mmd, a_distance=a_distance),)).closeness == closeness


@pytest.mark.parametrize(
    ("target_agreement", "closeness"),
    [(0.95, "similar"), (0.86, "similar"), (0.80, "between"), (0.71, "between"), (0.69, "different")],
)
def test_probes_move_the_domains_a_step(target_agreement: float, closeness: str) -> None:
    assert replace(FOUND, spaces=(space(target_agreement=target_agreement),)).closeness == closeness


def test_no_step_leads_beyond_the_ends() -> None:
    near, far = space(mmd=0.0, target_agreement=0.9), space(mmd=1.0, target_agreement=0.1)
    assert [replace(FOUND, spaces=(each,)).closeness for each in (near, far)] == ["similar", "different"]


def test_the_last_space_decides_and_none_is_unknown() -> None:
    assert replace(FOUND, spaces=(space(mmd=1.0), space(mmd=0.05))).closeness == "similar"
    assert replace(FOUND, spaces=()).closeness == "unknown"


def test_granted_labels_judge_a_probe_once_there_are_enough() -> None:
    judged = space(target_accuracy=0.5)
    few, enough = (replace(FOUND, granted=granted, spaces=(judged,)) for granted in (49, 50))
    assert few.probe_loss(judged) == pytest.approx(0.1)
    assert enough.probe_loss(judged) == pytest.approx(0.4)


def test_a_probe_that_hardly_learns_its_source_says_nothing() -> None:
    chance = 0.1
    assert FOUND.probe_loss(space(source_accuracy=chance + 0.44)) is None
    assert FOUND.probe_loss(space(source_accuracy=chance + 0.46)) is not None
    assert FOUND.probe_loss(space(source_accuracy=None)) is None


def test_label_shift_is_suspected_where_class_shares_can_be_read() -> None:
    far = (space(mmd=0.9),)
    assert replace(FOUND, shares_moved=0.21).suspects_label_shift
    assert not replace(FOUND, shares_moved=0.2).suspects_label_shift
    assert not replace(FOUND, shares_moved=None).suspects_label_shift
    assert not replace(FOUND, shares_moved=0.9, spaces=far).suspects_label_shift
    assert replace(FOUND, shares_moved=0.9, spaces=far, shares_exact=True).suspects_label_shift


def test_a_source_is_tiny_by_its_rows_a_class() -> None:
    assert replace(FOUND, source_rows=199).has_tiny_source
    assert not replace(FOUND, source_rows=200).has_tiny_source
    assert not replace(FOUND, source_rows=0).has_tiny_source


def test_the_share_of_the_source_needs_a_source_and_labels() -> None:
    assert replace(FOUND, granted=5_400).share_of_source == pytest.approx(0.1)
    assert FOUND.share_of_source is None
    assert replace(FOUND, granted=100, source_rows=0).share_of_source is None
