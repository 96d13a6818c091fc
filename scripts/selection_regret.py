#!/usr/bin/env python3
"""What each selection rule would have cost: target test accuracy of the best epoch less that of the epoch it chooses.

    scripts/selection_regret.py outputs/*-s[0-2]-*

Reads metrics.csv of finished runs, where every rule's score of every evaluation stands, so nothing is trained again.
A row a pair and strategy, a column a rule: mean regret over the runs and, after the slash, the worst, in points. Rules
that had nothing to read in any run are left out, and so is the oracle, whose regret is 0 by definition.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd

from tlrun.run import RunFolder

ACCURACY = "target_test_accuracy"


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    regrets: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in map(Path, sys.argv[1:]):
        run = RunFolder(folder)
        if run.state() != "done":
            print(f"{folder}: not a finished run, left out", file=sys.stderr)
            continue
        summary = run.read_summary()
        for rule, regret in of_run(run.read_metrics()).items():
            regrets[summary["data"], summary["strategy"]][rule].append(100 * regret)
    rules = list(dict.fromkeys(rule for found in regrets.values() for rule in found))
    print(f"{'pair':<14}{'strategy':<14}{'runs':>5}" + "".join(f"{rule:>26}" for rule in rules))
    for (pair, strategy), found in sorted(regrets.items()):
        cells = [f"{sum(found[rule]) / len(found[rule]):.2f} / {max(found[rule]):.2f}" if found[rule] else "-"
                 for rule in rules]  # fmt: skip
        runs = max(map(len, found.values()))
        print(f"{pair:<14}{strategy:<14}{runs:>5}" + "".join(f"{cell:>26}" for cell in cells))


def of_run(metrics: pd.DataFrame) -> dict[str, float]:
    """Each rule's regret on the evaluations of the last phase; of equal scores the later counts, as in a run."""
    rows = metrics[(metrics["phase"] == metrics["phase"].iloc[-1]) & metrics[ACCURACY].notna()]
    found = {}
    for column in (each for each in rows.columns if each.startswith("score_")):
        scores = rows[column].dropna()
        if len(scores) and column != "score_oracle":
            chosen = scores[scores == scores.max()].index[-1]
            found[column.removeprefix("score_")] = float(rows[ACCURACY].max() - rows.loc[chosen, ACCURACY])
    return found


if __name__ == "__main__":
    main()
