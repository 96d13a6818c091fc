#!/usr/bin/env python3
"""Holds what `tlrun rank` and `tlrun advise` put first against what training brings, on pairs of digits.

    scripts/judge.py rank   [--seeds 0,1] [KEY=VALUE ...]
    scripts/judge.py advise [--seeds 0]   [KEY=VALUE ...]

rank: each domain in turn is the target, the others are the sources to choose from, 5 target labels a class are granted;
a source is worth what `fine_tune` from its source model reaches. advise: every pair without target labels and with 10 a
class; an advice is worth what its first command reaches, beside all strategies that could have been named. LeNet, 1,500
steps of 64 rows for runs and source models alike. Runs go to
outputs/judge, those that are there are not trained again. Domains whose files TLRUN_DATA does not hold are left out, and
said. Settings given are those of every run (a device, fewer steps).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean

from tlrun.metrics.transferability import SCORES
from tlrun.run import RunFolder

DOMAINS = ("mnist", "usps", "mnistm", "synthetic_digits", "digits")
PAIRS = ("mnist_mnistm", "mnist_usps", "usps_mnist", "synthetic_mnist", "mnist_digits", "mnist_degraded")
UNLABELLED = ("source_only", "dann", "cdan", "mmd", "deep_coral", "mcc")
LABELLED = ("scratch", "feature_extract", "fine_tune", "progressive", "dann", "mmd")
BUDGET = ("model=lenet", "run.root=outputs/judge", "engine.epochs=10", "engine.steps_per_epoch=150",
          "engine.batch_size=64", "engine.evaluate_every=5", "pretrain.engine.epochs=10",
          "pretrain.engine.steps_per_epoch=150", "pretrain.engine.batch_size=64")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("rank", "advise"))
    parser.add_argument("--seeds")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_intermixed_args()
    common = (*BUDGET, *asked.overrides)
    judge, seeds = (judge_rank, "0,1") if asked.verb == "rank" else (judge_advise, "0")
    for row in judge((asked.seeds or seeds).split(","), common):
        print("| " + " | ".join(row) + " |", flush=True)


def judge_rank(seeds: Sequence[str], common: Sequence[str]) -> Iterator[Sequence[str]]:
    """A row a target: what its best source reaches, and by each score the points lost by the source put first."""
    yield ("target", "best source", "its accuracy", "worst", *(f"{SCORES[name]} loses" for name in SCORES))
    yield ("---", "---", "---:", "---:", *("---:" for _ in SCORES))
    domains = present(DOMAINS, lambda name: f"domain@data.target={name}")
    lost: dict[str, list[float]] = {name: [] for name in SCORES}
    for target in domains:
        sources = [each for each in domains if each != target]
        fixed = ("strategy=fine_tune", "data=pair", f"domain@data.target={target}", "data.image_size=28",
                 "data.channels=1", "data.target_labels=5", *common)  # fmt: skip
        reached: dict[str, list[float]] = {each: [] for each in sources}
        here: dict[str, list[float]] = {name: [] for name in SCORES}
        for seed in seeds:
            ranked = json.loads(tlrun("rank", f"sources={','.join(sources)}", *fixed, f"seed={seed}", "--json", "-"))
            for source in sources:
                reached[source].append(accuracy(run(f"domain@data.source={source}", *fixed, f"seed={seed}")))
            best = max(reached[source][-1] for source in sources)
            for name, first in ranked["first"].items():
                here[name].append(best - mean(reached[each][-1] for each in first))
        means = {source: mean(values) for source, values in reached.items()}
        best_source = max(means, key=lambda source: means[source])
        for name in SCORES:
            lost[name] += here[name]
        yield (f"`{target}`", f"`{best_source}`", f"{means[best_source]:.1f}", f"{min(means.values()):.1f}",
               *(f"{mean(here[name]):.1f}" for name in SCORES))  # fmt: skip
    yield ("mean", "", "", "", *(f"{mean(lost[name]):.1f}" for name in SCORES))


def judge_advise(seeds: Sequence[str], common: Sequence[str]) -> Iterator[Sequence[str]]:
    """A row a pair and grant: what was put first, the best of all that could have been, and the points between."""
    yield ("pair", "labels a class", "read as", "put first", "its accuracy", "the best", "its accuracy", "points lost")
    yield ("---", "---", "---", "---", "---:", "---", "---:", "---:")
    for pair in present(PAIRS, lambda name: f"data={name}"):
        for labels, strategies in (("none", UNLABELLED), ("10", LABELLED)):
            fixed = (f"data={pair}", f"data.target_labels={labels}", *common)
            advice = json.loads(tlrun("advise", *fixed, "--quick", "--json", "-"))
            first = advice["recommendations"][0]
            chosen = (first["strategy"], *first["settings"])
            reached = {
                tried: mean(accuracy(run(f"strategy={tried[0]}", *tried[1:], *fixed, f"seed={seed}")) for seed in seeds)
                for tried in dict.fromkeys((*((strategy,) for strategy in strategies), chosen))
            }
            best = max(reached, key=lambda tried: reached[tried])
            yield (f"`{pair}`", labels, f"{advice['size']}, {advice['closeness']}", f"`{' '.join(chosen)}`",
                   f"{reached[chosen]:.1f}", f"`{' '.join(best)}`", f"{reached[best]:.1f}",
                   f"{reached[best] - reached[chosen]:.1f}")  # fmt: skip


def present(names: Iterable[str], choice: Callable[[str], str]) -> list[str]:
    """Those whose files are there."""
    found = []
    for name in names:
        chosen = choice(name)
        pair = ("data=pair", "domain@data.source=mnist") if chosen.startswith("domain@") else ()
        command = (sys.executable, "-m", "tlrun", "data", "prepare", *pair, chosen)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"left out {name}: {done.stderr.strip()}", file=sys.stderr)
        else:
            found.append(name)
    return found


def run(*overrides: str) -> Path:
    """The folder of one run, done now or found."""
    return Path(tlrun(*overrides).strip())


def accuracy(folder: Path) -> float:
    """Target test accuracy in percent."""
    return 100 * float(RunFolder(folder).read_summary()["target_test_accuracy"])


def tlrun(*arguments: str) -> str:
    """What the command prints. Ends the script where it fails."""
    done = subprocess.run((sys.executable, "-m", "tlrun", *arguments), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"tlrun {' '.join(arguments)}: exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
