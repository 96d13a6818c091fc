#!/usr/bin/env python3
"""What pretraining saves: accuracy over granted target labels, and the steps after which it is as good as scratch.

    scripts/label_curve.py outputs/*          after: tlrun -m experiment=label_curve seed=0,1,2

A row a number of granted labels: mean and sample standard deviation over seeds of target test accuracy, for `scratch`
and for `fine_tune`, and for the floor `source_only`, which reads none of them; then paired over seeds how far fine-tuning
is above scratch (the mean and the least), how many labels scratch would need for the accuracy of fine-tuning (between
two measured numbers in proportion to their logarithms), and at which share of its steps fine-tuning reached the final
accuracy of scratch. The steps of pretraining are not in that share: they are spent once for all rows.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd

from tlrun.run import RunFolder

ACCURACY = "target_test_accuracy"
Runs = dict[int, dict[str, Any]]
"""The runs of one strategy with one number of labels, by seed."""


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    runs: dict[str, dict[int, Runs]] = defaultdict(lambda: defaultdict(dict))
    for folder in map(Path, sys.argv[1:]):
        run = RunFolder(folder)
        if run.state() == "done":
            summary = run.read_summary() | {"metrics": run.read_metrics()}
            runs[summary["strategy"]][summary["rows_target_labels"]][summary["seed"]] = summary
    scratch, tuned = runs["scratch"], runs["fine_tune"]
    floor = runs["source_only"].get(0, {})
    curve = [(labels, mean(accuracies(scratch[labels]))) for labels in sorted(scratch)]
    print(f"source_only (no target label): {spread(floor)}")
    print(
        f"{'labels':>7}{'scratch':>18}{'fine_tune':>18}{'above scratch':>18}{'scratch needs':>15}{'share of steps':>16}"
    )
    for labels in sorted(tuned.keys() & scratch.keys()):
        pairs = [(tuned[labels][seed], scratch[labels][seed]) for seed in tuned[labels].keys() & scratch[labels].keys()]
        gains = [100 * (ours[ACCURACY] - theirs[ACCURACY]) for ours, theirs in pairs]
        shares = [share_of_steps(ours["metrics"], theirs[ACCURACY]) for ours, theirs in pairs]
        share = f"{mean(each for each in shares if each is not None):.2f}" if all(shares) else "not reached"
        needed = labels_needed(curve, mean(accuracies(tuned[labels])))
        print(f"{labels:>7}{spread(scratch[labels]):>18}{spread(tuned[labels]):>18}"
              f"{f'{mean(gains):+.1f} (>= {min(gains):+.1f})':>18}{needed:>15}{share:>16}")  # fmt: skip


def accuracies(runs: Runs) -> list[float]:
    return [run[ACCURACY] for run in runs.values()]


def spread(runs: Runs) -> str:
    values = [100 * each for each in accuracies(runs)]
    return f"{mean(values):.1f} +- {stdev(values):.1f}" if len(values) > 1 else (f"{values[0]:.1f}" if values else "-")


def share_of_steps(metrics: pd.DataFrame, accuracy: float) -> float | None:
    """The first evaluated step at which a run was as good, as a share of all its steps; None where it never was."""
    good = metrics[metrics[ACCURACY] >= accuracy]
    return float(good["step"].iloc[0] / metrics["step"].iloc[-1]) if len(good) else None


def labels_needed(curve: list[tuple[int, float]], accuracy: float) -> str:
    """How many labels the curve needs for an accuracy."""
    if accuracy <= curve[0][1]:
        return f"<= {curve[0][0]}"
    for (fewer, low), (more, high) in pairwise(curve):
        if low < accuracy <= high:
            place = (accuracy - low) / (high - low)
            return f"{math.exp(math.log(fewer) + place * (math.log(more) - math.log(fewer))):.0f}"
    return f"> {curve[-1][0]}"


if __name__ == "__main__":
    main()
