"""How two finished runs on the same pair differ: settings, data, environment, results, and from which epoch on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun import files
from tlrun.config import ConfigError, flatten
from tlrun.files import RunError
from tlrun.report.collect import SIGNS, Run, read_run
from tlrun.run import RunFolder

if TYPE_CHECKING:
    import pandas

Both = tuple[Any, Any]
"""A value of the first run and one of the second; None where a run has none."""

FIGURES = (
    *("target_test_accuracy", "source_test_accuracy", "target_test_macro_f1", "target_test_loss"),
    *("target_test_calibration_error", "source_val_accuracy", "target_val_accuracy", "last_target_test_accuracy"),
    *("oracle_target_test_accuracy", "regret", "select", "select_score", "selected_epoch", "forgetting"),
    *("discriminator_accuracy", "largest_class_share", "twin_agreement"),
)
"""The fields of summary.json that are a result, in the order in which they are told."""

COST = (
    *("seconds", "encode_seconds", "pretrain_seconds", "images_per_second", "peak_memory_bytes", "parameters"),
    *("trainable_parameters", "epochs", "steps", "rows_target_labels"),
)
"""Those that say what a run took."""

TIMINGS = ("seconds", "images_per_second")
"""Columns of metrics.csv that no two runs share."""


@dataclass(frozen=True)
class ClassChange:
    """Target test rows of one class, and the share of them that each run has right; None without such rows."""

    name: str
    rows: tuple[int, int]
    accuracy: tuple[float | None, float | None]


@dataclass(frozen=True)
class Agreement:
    """Predictions of both runs for the same target test rows: how many they agree on, and who has which rows right.

    p: of McNemar's exact test that both are equally often right where only one is: two-sided, binomial with 1/2 over the
    rows that one alone has right (McNemar 1947, Psychometrika 12); 1 where there are none.
    """

    rows: int
    same: int
    labelled: int
    both_right: int
    first_alone: int
    second_alone: int
    p: float


@dataclass(frozen=True)
class Course:
    """How far two metrics.csv are the same to the bit, timings aside.

    equal: epochs from the first on that are. epochs: of each. epoch, step: of the first row that differs, with the
    columns that do; None where one table is the beginning of the other. alone: columns that only one of them has, which
    are not compared.
    """

    equal: int
    epochs: tuple[int, int]
    epoch: int | None
    step: int | None
    columns: tuple[str, ...]
    alone: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Difference:
    """Of settings, data card and environment what differs, under dotted keys; of results everything.

    agreement is None where the runs were tested on different rows.
    """

    folders: tuple[str, str]
    commands: tuple[str, str]
    config: Mapping[str, Both]
    data: Mapping[str, Both]
    environment: Mapping[str, Both]
    results: Mapping[str, Both]
    cost: Mapping[str, Both]
    classes: tuple[ClassChange, ...]
    agreement: Agreement | None
    course: Course


def difference(first: Path, second: Path) -> Difference:
    """Reads both run folders. Raises ConfigError where one is no finished run of ours, or they are of different pairs."""
    runs = _read(first), _read(second)
    pairs = [run.pair for run in runs]
    if pairs[0] != pairs[1]:
        raise ConfigError(
            f"diff: {first} is of {pairs[0]}, {second} of {pairs[1]}; only runs on the same pair can be held together"
        )
    try:
        return _difference(*runs)
    except RunError as error:
        raise ConfigError(f"diff: {error}") from error


def _read(path: Path) -> Run:
    if not path.is_dir():
        raise ConfigError(f"diff: {path} is {'a file' if path.exists() else 'not there'}, must be a run folder")
    if not any((path / sign).exists() for sign in SIGNS):
        raise ConfigError(f"diff: {path} is no run folder: it has none of {', '.join(SIGNS)}")
    try:
        return read_run(RunFolder(path))
    except RunError as error:
        raise ConfigError(f"diff: {path}: {error}") from error


def _difference(first: Run, second: Run) -> Difference:
    folders = first.folder, second.folder
    environments = [dict(folder.read_environment()) for folder in folders]
    commands = [str(each.pop("command", "")) for each in environments]
    cards = [folder.read_data_card() for folder in folders]
    if (classes := [card.get("classes") for card in cards])[0] != classes[1]:
        raise ConfigError(f"diff: {folders[0].path} and {folders[1].path} do not know the same classes: {classes}")
    summaries = first.summary, second.summary
    return Difference(
        folders=(str(folders[0].path), str(folders[1].path)),
        commands=(commands[0], commands[1]),
        config=_differing(first.config, second.config),
        data=_differing(*cards),
        environment=_differing(*environments),
        results=_both(summaries, FIGURES),
        cost=_both(summaries, COST),
        classes=_class_changes(first, second),
        agreement=_agreement(first, second),
        course=_course(first, second),
    )


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Both]:
    """Dotted key -> both values, of those that are not equal. In settings 1 and 1.0 are."""
    flat = flatten(first), flatten(second)
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return {key: (flat[0].get(key), flat[1].get(key)) for key in keys if flat[0].get(key) != flat[1].get(key)}


def _both(summaries: tuple[Mapping[str, Any], Mapping[str, Any]], names: Iterable[str]) -> dict[str, Both]:
    found = {name: (summaries[0].get(name), summaries[1].get(name)) for name in names}
    return {name: both for name, both in found.items() if both != (None, None)}


def _class_changes(first: Run, second: Run) -> tuple[ClassChange, ...]:
    """Of the selected checkpoints; nothing where no target test row has a label."""
    ours, theirs = (run.counts("target", "test") for run in (first, second))
    if ours is None or theirs is None:
        return ()
    (names, counts), (_, others) = ours, theirs
    changes = []
    for number, name in enumerate(names):
        rows = sum(counts[number]), sum(others[number])
        right = counts[number][number], others[number][number]
        shares = [right[at] / rows[at] if rows[at] else None for at in (0, 1)]
        changes.append(ClassChange(name, rows, (shares[0], shares[1])))
    return tuple(changes)


def _agreement(first: Run, second: Run) -> Agreement | None:
    """None where the target test rows, known by their number, path and label, are not the same."""
    from scipy.stats import binomtest

    ours, theirs = _test_rows(first), _test_rows(second)
    what = [name for name in ("row", "path", "label") if name in ours or name in theirs]
    if not set(what) <= set(ours) & set(theirs) or not ours[what].equals(theirs[what]):
        return None
    labelled = ours["label"] != ""
    right = [table["prediction"] == table["label"] for table in (ours, theirs)]
    alone = [int((labelled & right[at] & ~right[1 - at]).sum()) for at in (0, 1)]
    return Agreement(
        rows=len(ours),
        same=int((ours["prediction"] == theirs["prediction"]).sum()),
        labelled=int(labelled.sum()),
        both_right=int((labelled & right[0] & right[1]).sum()),
        first_alone=alone[0],
        second_alone=alone[1],
        p=float(binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0,
    )


def _test_rows(run: Run) -> pandas.DataFrame:
    table = run.test_rows()
    if missing := [name for name in ("row", "label", "prediction") if name not in table]:
        raise files.damaged(run.folder.predictions, f"it lacks {', '.join(missing)}")
    return table


def _course(first: Run, second: Run) -> Course:
    import pandas

    tables = [pandas.DataFrame(run.metrics) for run in (first, second)]
    columns = [[str(name) for name in table.columns] for table in tables]
    common = [name for name in columns[0] if name in columns[1] and name not in TIMINGS]
    alone = [tuple(name for name in columns[at] if name not in columns[1 - at]) for at in (0, 1)]
    rows = [table[common].to_dict("records") for table in tables]
    course = Course(0, (len(rows[0]), len(rows[1])), None, None, (), (alone[0], alone[1]))
    for equal, (ours, theirs) in enumerate(zip(*rows, strict=False)):
        if differing := tuple(name for name in common if not _same(ours[name], theirs[name])):
            epoch, step = (int(ours[name]) if name in ours else None for name in ("epoch", "step"))
            return replace(course, equal=equal, epoch=epoch, step=step, columns=differing)
    return replace(course, equal=min(course.epochs))


def _same(first: object, second: object) -> bool:
    """Whether two cells are, blank ones too."""
    blank = [isinstance(each, float) and math.isnan(each) for each in (first, second)]
    return all(blank) or first == second
