"""Which finished runs lie under some folders, and what else lies there and why it is no part of the report."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from tlrun import files
from tlrun.config import ConfigError
from tlrun.config import flatten as flatten
from tlrun.files import RunError
from tlrun.report.predicted import Predicted, read_predicted
from tlrun.run import RunFolder

if TYPE_CHECKING:
    import pandas

SIGNS = ("status.json", "summary.json", "config.yaml", "metrics.csv")
"""A folder that holds any of these is taken for a run folder, whole or not."""

_NODES = ("strategy", "data", "model", "optim", "schedule", "engine", "augment", "pretrain")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its resolved settings as plain values, its summary, its data card.

    What it reads of the other files is all that the run wrote: a file that the summary says must be there and is not, or
    that has fewer rows than it says, is a RunError that names the file.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    card: Mapping[str, Any]

    @property
    def pair(self) -> str:
        return str(self.summary["data"])

    @property
    def strategy(self) -> str:
        """The strategy's name; of a user's own module, its last part, as in the run's name."""
        return str(self.summary["strategy"]).rpartition(".")[2]

    @property
    def seed(self) -> int:
        return int(self.summary["seed"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted key -> value of every setting that decides the numbers, the seed apart, and each domain's fingerprint.

        Under one path other files may lie at another time, and other files are another experiment.
        """
        decide = {key: value for key, value in flatten(self.config).items() if _decides(key, self.config)}
        return decide | self._fingerprints()

    @cached_property
    def metrics(self) -> dict[str, list[Any]]:
        """metrics.csv by column. Raises RunError where it is missing, damaged or cut."""
        found = files.read_columns(self.folder.metrics)
        self._check_count(self.folder.metrics, len(next(iter(found.values()), [])), "epochs", "epochs")
        return found

    @cached_property
    def predicted(self) -> Predicted:
        """What it says of each target test row. Raises RunError where that cannot be read, or not of all of them."""
        found = read_predicted(self.folder)
        self._check_count(self.folder.predictions, len(found), "target_test_rows", "target test rows")
        return found

    def test_rows(self) -> pandas.DataFrame:
        """The target test rows of predictions.csv with every column of it. Raises RunError as `predicted`."""
        found = self.folder.read_predictions()
        # The first folders that tlrun wrote have the test rows alone, and no column of splits.
        found = found[found["split"] == "test"].reset_index(drop=True) if "split" in found else found
        self._check_count(self.folder.predictions, len(found), "target_test_rows", "target test rows")
        return found

    def counts(self, domain: str, split: str) -> tuple[tuple[str, ...], list[list[int]]] | None:
        """Class names and confusion matrix; None where no such row has a label, for which there is no file.

        Raises RunError where the file is missing all the same, or damaged.
        """
        # An accuracy is over labelled rows, so the summary has none exactly where there are none.
        if not self.folder.confusion(domain, split).exists() and self.figure(f"{domain}_{split}_accuracy") is None:
            return None
        return self.folder.read_confusion(domain, split)

    def _check_count(self, path: Path, found: int, field: str, what: str) -> None:
        """Raises RunError where a file has not as many rows as the summary says, if it says so."""
        wanted = self.figure(field)
        if wanted is not None and found != wanted:
            raise files.damaged(path, f"it has {found} {what}, {self.folder.summary.name} says {wanted:g}")

    def _fingerprints(self) -> dict[str, str]:
        """By dotted key the first digits of what the data card has of a domain's content."""
        card = self.card
        domains = {role: card[role] for role in ("source", "target") if isinstance(card.get(role), Mapping)}
        return {f"data.{role}.fingerprint": str(each.get("fingerprint"))[:8] for role, each in domains.items()}

    def figure(self, name: str) -> float | None:
        """A number of the summary; None where it has none."""
        value = self.summary.get(name)
        return float(value) if is_number(value) else None


@dataclass(frozen=True)
class LeftOut:
    """A folder that is no part of the report, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Collection:
    """What was found: finished runs, sorted by pair, strategy, folder and seed, and what was left out."""

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]


def collect(paths: Sequence[Path]) -> Collection:
    """All finished runs in these folders or anywhere below them, each once.

    Raises ConfigError where a path is no folder, and where there is no finished run at all.
    """
    if wrong := [f"report: {path} is {_what(path)}, must be a folder" for path in paths if _what(path) != "a folder"]:
        raise ConfigError(wrong)
    runs: dict[str, Run] = {}
    left_out: list[LeftOut] = []
    seen: set[Path] = set()
    taken: list[Path] = []
    for path in paths:
        known = len(taken)
        for folder in candidates(path, seen):
            taken.append(folder.resolve())
            try:
                run = read_run(RunFolder(folder))
            except RunError as error:
                left_out.append(LeftOut(folder, str(error)))
                continue
            first = runs.setdefault(str(run.summary["digest"]), run)
            if first is not run:
                left_out.append(LeftOut(folder, f"the same run as {first.folder.path}"))
        if len(taken) == known and not any(each.is_relative_to(path.resolve()) for each in taken):
            left_out.append(LeftOut(path, "no run folder in it"))
    if not runs:
        told = [f"  {each.path}: {each.reason}" for each in left_out]
        raise ConfigError([f"report: no finished run under {', '.join(map(str, paths))}", *told])
    ordered = sorted(runs.values(), key=lambda run: (run.pair, run.strategy, str(run.folder.path), run.seed))
    return Collection(tuple(ordered), tuple(left_out))


def candidates(path: Path, seen: set[Path]) -> Iterator[Path]:
    """The folders from `path` down that hold any of SIGNS, sorted, links followed, each real folder once.

    seen: real paths of folders already visited, to which this one's are added.
    """
    for name, folders, names in os.walk(path, followlinks=True):
        folder = Path(name)
        real = folder.resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        if any(sign in names for sign in SIGNS):
            yield folder


def read_run(folder: RunFolder) -> Run:
    """The finished run in a folder. Raises RunError, with the reason, where it is not finished, damaged or not ours."""
    if not folder.status.exists():
        ours = [each.name for each in (folder.summary, folder.config, folder.metrics) if each.exists()]
        raise RunError(f"not a run folder, or half-written: it has {' and '.join(ours)} but no status.json")
    state = folder.state()
    if state != "done":
        reason = folder.read_status().get("reason")
        raise RunError(f"the run is {state}{f' ({reason})' if reason else ''}")
    config, summary = folder.read_config(), folder.read_summary()
    if missing := [node for node in _NODES if not isinstance(config.get(node), Mapping)]:
        raise RunError(f"{folder.config} lacks {', '.join(missing)}")
    kinds = {"data": str, "strategy": str, "seed": int, "digest": str}
    if missing := [name for name, kind in kinds.items() if not isinstance(summary.get(name), kind)]:
        raise RunError(f"{folder.summary} lacks {', '.join(missing)}")
    if (config.get("seed"), config["strategy"].get("name")) != (summary["seed"], summary["strategy"]):
        raise RunError(f"{folder.config} and {folder.summary} are of different runs")
    return Run(folder, config, summary, folder.read_data_card())


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _decides(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a setting is part of a run's digest, as `run.digest` has it; the seed is not asked for here."""
    places = ("data.root", "data.download", "data.cache_root", "data.cache_gigabytes", "data.cache", "data.workers")
    if key in ("seed", *places, "model.weights_root", "model.download") or key.startswith(("run.", "device.")):
        return False
    return not key.startswith("pretrain.") or config["model"].get("weights") == "source"


def _what(path: Path) -> str:
    try:
        return "a folder" if path.is_dir() else "a file" if path.exists() else "not there"
    except OSError as error:  # no name of a file, or not to be looked at
        return f"not to be had ({files.reason_of(error)})"
