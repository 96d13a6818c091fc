"""Verdicts on cases whose answer is known because it was planted, from training to report, at three seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlrun import cli
from tlrun.report.contents import contents
from tlrun.report.tables import Line

pytestmark = pytest.mark.slow


def reported(root: Path, *overrides: str) -> dict[str, Line]:
    """What the report says of each strategy of a sweep on the two Gaussian clusters over seeds 0, 1 and 2."""
    settings = ("data=toy_gaussians", "engine.epochs=2", "engine.batch_size=32", "device=cpu", f"run.root={root}")
    assert cli.main(["-m", "seed=0,1,2", *settings, *overrides]) == 0
    return {line.strategy: line for line in contents([root]).lines}


def test_a_source_whose_labels_are_all_wrong_is_negative_transfer(tmp_path: Path) -> None:
    found = reported(tmp_path, "strategy=scratch,fine_tune", "data.source_label_noise=1", "data.target.num_rows=1000")
    verdict = found["fine_tune"].transfer
    assert verdict is not None and verdict.told("transfer") == "negative transfer"
    assert verdict.over_rows is not None and verdict.over_rows.high is not None and verdict.over_rows.high < -0.5


def test_adaptation_between_a_domain_and_itself_is_equal(tmp_path: Path) -> None:
    same = ("data.target.rotation=0", "data.target.shift=[0,0]", "data.target.draw=0", "data.target_labels=none")
    # 2,000 test rows: of fewer, three seeds could not tell 0.5 points from none.
    rows = ("data.source.num_rows=4000", "data.target.num_rows=4000")
    verdict = reported(tmp_path, "strategy=source_only,dann", *same, *rows)["dann"].adaptation
    assert verdict is not None and verdict.word == "equal"
