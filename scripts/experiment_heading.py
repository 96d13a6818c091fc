#!/usr/bin/env python3
"""The figures for an experiment's heading, from its finished runs.

    scripts/experiment_heading.py outputs/mnist_usps-dann-*      after: tlrun -m experiment=mnist_usps_dann seed=0,1,2

Prints, in percent, mean and sample standard deviation over seeds of the target test accuracy that the runs selected,
of their last and of their oracle epoch, and the mean minutes of a run. Refuses runs that differ in more than their seed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean, stdev

from tlrun.files import RunError
from tlrun.run import RunFolder


def main() -> None:
    folders = [RunFolder(Path(each)) for each in sys.argv[1:]]
    if len(folders) < 2:
        sys.exit(__doc__)
    settings = {str({**folder.read_config(), "seed": 0, "run": {}, "device": {}}) for folder in folders}
    if len(settings) > 1:
        sys.exit("these runs differ in more than their seed")
    runs = sorted((folder.read_summary() for folder in folders), key=lambda run: run["seed"])
    seeds = ", ".join(str(run["seed"]) for run in runs)
    for name in ("target_test_accuracy", "last_target_test_accuracy", "oracle_target_test_accuracy"):
        values = [100 * run[name] for run in runs]
        print(f"{name}: {mean(values):.2f} +- {stdev(values):.2f} % over seeds {seeds}")
    print(
        f"{mean(run['seconds'] for run in runs) / 60:.1f} minutes a run, {runs[0]['steps']} steps, {runs[0]['precision']}"
    )


if __name__ == "__main__":
    try:
        main()
    except RunError as error:  # a run that is not finished, or none
        sys.exit(str(error))
