#!/usr/bin/env python3
"""Tries settings of an experiment and keeps every one, with a score that reads no target label.

    scripts/tuning/search.py EXPERIMENT KEY=V1,V2 [KEY=V1,V2 ...] [--rule RULE] [--seed SEED] [--set KEY=VALUE ...]

Every combination is trained as `tlrun -m experiment=EXPERIMENT ...` does, into outputs/tuning, at a seed that no reported
figure uses (100). scripts/tuning/EXPERIMENT.csv gets a row for each: the settings, the seed, the rule, and the score by
which that rule chose the run's epoch. Run again it finds what is done. What --set gives is fixed (a device, a folder).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tlrun.run import RunFolder

FOLDER = Path(__file__).parent
RULES = ("information_maximisation", "entropy", "source_val", "last")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("axes", nargs="+", metavar="KEY=V1,V2")
    parser.add_argument("--rule", choices=RULES, default=RULES[0])
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    keys = [axis.partition("=")[0] for axis in asked.axes]
    folders = sweep(asked)
    rows = []
    for folder in folders:
        config, summary = RunFolder(folder).read_config(), RunFolder(folder).read_summary()
        assert summary["select"] == asked.rule
        settings = {key: value_at(config, key) for key in keys}
        rows.append({**settings, "seed": asked.seed, "rule": asked.rule, "score": f"{summary['select_score']:.6f}"})
    write(FOLDER / f"{asked.experiment}.csv", rows)


def sweep(asked: argparse.Namespace) -> list[Path]:
    """The run folders of every combination, in order."""
    command = [
        *(sys.executable, "-m", "tlrun", "-m", f"experiment={asked.experiment}", *asked.axes, f"seed={asked.seed}"),
        *(f"engine.select={asked.rule}", "run.root=outputs/tuning", *asked.set),
    ]
    print(" ".join(command), file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"the sweep ended with {done.returncode}; no table was written")
    return [Path(line) for line in done.stdout.splitlines()]


def value_at(config: dict[str, Any], key: str) -> str:
    """A setting of a run, as it is written on the command line."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return json.dumps(value) if isinstance(value, list) or value is None else str(value)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The table, best score first."""
    rows.sort(key=lambda row: -float(row["score"]))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
