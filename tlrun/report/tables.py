"""The figures of a report: a line a group, every figure with mean, sample standard deviation and n, and its tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from tlrun.report.cost import SHARE, Reached, epochs_to_share, steps_to_reference, unread
from tlrun.report.groups import REFERENCES, Group, Role, shown
from tlrun.report.intervals import CONFIDENCE, t_half_width
from tlrun.report.label_curve import Curve, Needed, label_curves
from tlrun.report.verdicts import FIGURE, MARGIN, Verdict, gap_closed, paired_runs, relative_improvement, verdicts

FIGURES = {
    "target_test_accuracy": "target",
    "source_test_accuracy": "source",
    "target_test_macro_f1": "target macro-F1",
    "last_target_test_accuracy": "last",
    "oracle_target_test_accuracy": "oracle",
    "regret": "regret",
    "seconds": "seconds",
    "pretrain_seconds": "pretraining",
    "images_per_second": "images/s",
    "peak_memory_bytes": "memory",
    "rows_target_labels": "target labels",
    "target_test_rows": "target test rows",
    "target_test_rows_labelled": "labelled target test rows",
}
"""Field of summary.json -> its heading; every one of them is in --csv and --json under the field's own name."""


EPOCHS = "epochs_to_90_percent"
"""The figure beside those of the summary: see `cost.epochs_to_share`."""

Of = Literal["adaptation", "transfer"]
AGAINST: dict[Of, Role] = {"adaptation": "floor", "transfer": "scratch"}


@dataclass(frozen=True)
class Figure:
    """mean and sample standard deviation of n values; both None without values, std None with one."""

    mean: float | None
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        mean = statistics.fmean(values) if values else None
        return cls(mean, statistics.stdev(values) if len(values) > 1 else None, len(values))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's t interval of the mean; None of fewer than two values."""
        if self.mean is None or self.std is None:
            return None
        half = t_half_width(self.std, self.n)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Line:
    """What a report says of one group, or of a reference that is no run. unread: why runs have no curve to tell cost by."""

    pair: str
    strategy: str
    differs: Mapping[str, Any]
    seeds: tuple[int, ...]
    figures: Mapping[str, Figure]
    select: str | None = None
    protocol: str | None = None
    gap_closed: float | None = None
    relative_improvement: float | None = None
    adaptation: Verdict | None = None
    transfer: Verdict | None = None
    floor: str | None = None
    ceiling: str | None = None
    scratch: str | None = None
    steps_to_scratch: Reached | None = None
    unread: tuple[str, ...] = ()
    scratch_labels: Needed | None = None
    warnings: int = 0
    is_run: bool = True


def lines_of(groups: Sequence[Group]) -> list[Line]:
    """All figures of each group, held against its references. All groups of a pair at once, since the tests are
    corrected for how many are compared to the same reference."""
    methods = [group for group in groups if group.role not in ("floor", "scratch")]
    adaptation = verdicts(methods, "floor")
    transfer = verdicts([group for group in groups if group.role != "scratch"], "scratch")
    needed = {point.group: point.needed for curve in label_curves(groups) for point in curve.points}
    return [
        replace(
            _line_of(group),
            adaptation=adaptation.get(group),
            transfer=transfer.get(group),
            scratch_labels=needed.get(group),
        )
        for group in groups
    ]


def _line_of(group: Group) -> Line:
    """What can be said of a group without regard to others than its references."""
    names = {role: reference.runs[0].summary.get("name") for role, reference in group.references.items()}
    figures = {name: Figure.of(group.figures(name)) for name in FIGURES}
    epochs = [epochs for run in group.runs if (epochs := epochs_to_share(run)) is not None]
    scratch = group.references.get("scratch")
    pairs = paired_runs(group, scratch) if scratch else []
    return Line(
        pair=group.pair,
        strategy=group.strategy,
        differs=group.differs,
        seeds=group.seeds,
        figures=figures | {EPOCHS: Figure.of(epochs)},
        select=group.settings.get("engine.select"),
        protocol=group.settings.get("data.protocol"),
        gap_closed=None if group.role else gap_closed(group),
        relative_improvement=None if group.role == "floor" else relative_improvement(group),
        floor=names.get("floor"),
        ceiling=names.get("ceiling"),
        scratch=names.get("scratch"),
        steps_to_scratch=steps_to_reference(pairs),
        unread=tuple(reason for run in group.runs if (reason := unread(run))),
        warnings=sum(bool(run.summary.get("warnings")) for run in group.runs),
    )


Section = Literal["results", "diagnosis", "labels", "selection", "cost", "warnings", "data", "runs"]
"""Under which heading of the page a table or a picture stands."""


@dataclass(frozen=True)
class Table:
    """A heading, columns and rows of text; the first `words` columns are words, the others numbers.

    notes: what a reader must know of the figures, a line each.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int
    section: Section = "results"
    notes: tuple[str, ...] = ()


INTERVAL = f"{CONFIDENCE:.0%} interval"
EPOCHS_HEADING = f"epochs to {SHARE:.0%}"
NOTES = {
    INTERVAL: "of the mean, Student's t over seeds",
    "gap closed": "(run - source_only) / (target_only - source_only), where data.protocol=split",
    "against": "source_only for adaptation, scratch with the same target labels for transfer; paired over n common seeds",
    "verdict": f"helps or hurts where p is at most {1 - CONFIDENCE:.2f}; equal where a test, corrected alike, finds less "
    f"than {100 * MARGIN:g} points",
    "over seeds": f"{CONFIDENCE:.0%} interval of Student's t, the spread taken for one test row at least",
    "p": "paired t-test, corrected by Holm for all strategies that are held against the same reference",
    "over rows": f"{CONFIDENCE:.0%} interval when the test rows are drawn again and the runs stay as they are (bootstrap)",
    "improvement": "(run - source_only) / source_only",
    EPOCHS_HEADING: f"until an evaluation has {SHARE:.0%} of the last one's target test accuracy",
    "steps to scratch": "share of its steps after which a run was as good as scratch in the end",
}
"""What a reader must know of a column, by its heading."""

LABEL_NOTES = (
    "between measured numbers of labels scratch is taken to grow with their logarithm; beyond them nothing is assumed:",
    "`> N` is better than scratch with any of them, `-` worse than scratch with the fewest",
)


def with_notes(table: Table) -> Table:
    """With the notes on those of its columns that need one, before its own."""
    found = tuple(f"{column}: {NOTES[column]}" for column in table.columns if column in NOTES)
    return replace(table, notes=(*found, *table.notes))


def tables(lines: Sequence[Line]) -> list[Table]:
    """What people read: accuracy, differences and verdicts where there are any, selection, cost. Accuracies in per cent."""
    runs = [line for line in lines if line.is_run]
    results = "Results on the test rows, in % (mean ± sample standard deviation over n seeds)"
    return [
        with_notes(_table(results, lines, _results)),
        *_differences(runs),
        replace(_table("Selection: target test accuracy in %", runs, _selection), section="selection"),
        with_notes(replace(_table("Cost of a run", runs, _cost), section="cost", notes=_unread(runs))),
    ]


def _unread(lines: Sequence[Line]) -> tuple[str, ...]:
    """A note on each run whose curve is missing from the figures of cost."""
    return tuple(f"no epochs and no steps of {line.strategy}: {reason}" for line in lines for reason in line.unread)


def _differences(lines: Sequence[Line]) -> list[Table]:
    """A row a line and reference that it is held against; none where no line is."""
    found = [(line, of, verdict) for line in lines for of in AGAINST if (verdict := getattr(line, of)) is not None]
    if not found:
        return []
    title = "Differences in target test accuracy, in points, and verdicts"
    table = table_of(title, [(line, _difference(line, of, verdict)) for line, of, verdict in found], words=2)
    why: dict[str, list[str]] = {}
    for line, _, verdict in found:
        if verdict.no_rows is not None:
            why.setdefault(verdict.no_rows, []).append(line.strategy)
    missing = [f"no interval over rows for {', '.join(dict.fromkeys(names))}: {text}" for text, names in why.items()]
    return [with_notes(replace(table, notes=tuple(missing)))]


def _difference(line: Line, of: Of, verdict: Verdict) -> dict[str, str]:
    improvement = line.relative_improvement if of == "adaptation" else None
    return {
        "against": REFERENCES[AGAINST[of]],
        "verdict": verdict.told(of),
        "n": str(verdict.difference.n),
        "difference": f"{100 * verdict.difference.mean:+.2f}",
        "over seeds": interval(verdict.difference.low, verdict.difference.high),
        "p": p_value(verdict.p),
        "over rows": interval(verdict.over_rows.low, verdict.over_rows.high) if verdict.over_rows else "",
        "improvement": "" if improvement is None else f"{100 * improvement:+.1f} %",
    }


def label_tables(curves: Sequence[Curve]) -> list[Table]:
    """Accuracy over granted target labels, a column a number of them; and how many more scratch would need to be as good."""
    if not curves:
        return []
    numbers = sorted({point.labels for curve in curves for point in curve.points})
    accuracies, saved = [], []
    for curve in curves:
        at = {point.labels: point for point in curve.points}
        accuracies.append(
            (curve, {f"{n}": percent(Figure.of(at[n].group.figures(FIGURE))) if n in at else "" for n in numbers})
        )
        if any(point.needed for point in curve.points):
            saved.append((curve, {f"{n}": labels_saved(n, at[n].needed) if n in at else "" for n in numbers}))
    title = "Label curve: target test accuracy in % over granted target labels"
    found = [replace(table_of(title, accuracies), section="labels")]
    if saved:
        title = "Labels saved: how many more target labels scratch would need to be as good, over granted ones"
        found.append(replace(table_of(title, saved), section="labels", notes=LABEL_NOTES))
    return found


def _table(title: str, lines: Sequence[Line], cells: Callable[[Line], dict[str, str]], *, words: int = 0) -> Table:
    """A row a line: pair, strategy, what tells it from others, then cells, of which the first `words` are words."""
    return table_of(title, [(line, cells(line)) for line in lines], words=words)


class Told(Protocol):
    """What a row of a table is about: a line or a group."""

    @property
    def pair(self) -> str: ...
    @property
    def strategy(self) -> str: ...
    @property
    def differs(self) -> Mapping[str, Any]: ...


def table_of(title: str, found: Sequence[tuple[Told, Mapping[str, str]]], *, words: int = 0) -> Table:
    """A row each: pair, strategy, what tells it from others, then its cells, of which the first `words` are words."""
    keys = sorted({key for told, _ in found for key in told.differs})
    rows = []
    columns: tuple[str, ...] = ()
    for told, cells in found:
        row = {"pair": told.pair, "strategy": told.strategy}
        row |= {key: shown(told.differs[key]) if key in told.differs else "" for key in keys} | dict(cells)
        columns = tuple(row)
        rows.append(tuple(row.values()))
    return without_blank(Table(title, columns, tuple(rows), 2 + len(keys) + words))


def without_blank(table: Table) -> Table:
    """Without the columns in which no row says anything."""
    kept = [at for at in range(len(table.columns)) if any(row[at] for row in table.rows)]
    rows = tuple(tuple(row[at] for at in kept) for row in table.rows)
    columns = tuple(table.columns[at] for at in kept)
    return replace(table, columns=columns, rows=rows, words=sum(at < table.words for at in kept))


def _results(line: Line) -> dict[str, str]:
    return {
        "protocol": "transductive" if line.protocol == "transductive" and "data.protocol" not in line.differs else "",
        "labels": count(line.figures.get("rows_target_labels")),
        "n": str(len(line.seeds)),
        "rows": judged(line),
        "target": percent(line.figures.get(FIGURE)),
        INTERVAL: accuracy_interval(line.figures.get(FIGURE)),
        "macro-F1": percent(line.figures.get("target_test_macro_f1")),
        "source": percent(line.figures.get("source_test_accuracy")),
        "gap closed": "" if line.gap_closed is None else f"{100 * line.gap_closed:.0f} %",
    }


def _selection(line: Line) -> dict[str, str]:
    return {
        "n": str(len(line.seeds)),
        "selected by": line.select or "",
        "selected": percent(line.figures["target_test_accuracy"]),
        "last": percent(line.figures["last_target_test_accuracy"]),
        "oracle": percent(line.figures["oracle_target_test_accuracy"]),
        "regret": percent(line.figures["regret"]),
        "warned": f"{line.warnings} of {len(line.seeds)}" if line.warnings else "",
    }


def _cost(line: Line) -> dict[str, str]:
    memory = line.figures["peak_memory_bytes"].mean
    speed = line.figures["images_per_second"].mean
    epochs = line.figures[EPOCHS].mean
    return {
        "n": str(len(line.seeds)),
        "target": percent(line.figures[FIGURE]),
        "seconds": seconds(line.figures["seconds"]),
        "pretraining": seconds(line.figures["pretrain_seconds"]),
        "images/s": "" if speed is None else f"{speed:.0f}",
        "MB": "" if memory is None else f"{memory / 1e6:.0f}",
        EPOCHS_HEADING: "" if epochs is None else f"{epochs:.1f}",
        "steps to scratch": reached(line.steps_to_scratch),
    }


def percent(figure: Figure | None) -> str:
    """`97.53 ± 0.21`, or the mean alone where n is 1; a share as per cent."""
    if figure is None or figure.mean is None:
        return ""
    return f"{100 * figure.mean:.2f}" + ("" if figure.std is None else f" ± {100 * figure.std:.2f}")


def seconds(figure: Figure) -> str:
    """Mean and standard deviation in seconds."""
    if figure.mean is None:
        return ""
    return f"{figure.mean:.1f}" + ("" if figure.std is None else f" ± {figure.std:.1f}")


def judged(line: Line) -> str:
    """Over how many target test rows the figures are, where not all of them have a label: `120 of 400`."""
    rows, labelled = (line.figures.get(name) for name in ("target_test_rows", "target_test_rows_labelled"))
    if rows is None or labelled is None or rows.mean is None or labelled.mean is None or rows.mean == labelled.mean:
        return ""
    return f"{labelled.mean:g} of {rows.mean:g}"


def count(figure: Figure | None) -> str:
    return "" if figure is None or figure.mean is None else f"{figure.mean:g}"


def interval(low: float | None, high: float | None) -> str:
    """`[9.1, 14.9]`, of shares in per cent."""
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def accuracy_interval(figure: Figure | None) -> str:
    found = figure.interval if figure else None
    return interval(*found) if found else ""


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def reached(found: Reached | None) -> str:
    """`31 %`, with `(2 of 3)` where not all runs got there."""
    if found is None:
        return ""
    if found.share is None:
        return "not reached"
    return f"{100 * found.share:.0f} %" + ("" if found.runs == found.of else f" ({found.runs} of {found.of})")


def labels_saved(labels: int, needed: Needed | None) -> str:
    """How many more labels than these are needed: `17`, `> 20` beyond what was measured, `-` below it."""
    if needed is None:
        return ""
    if needed.least is None:
        return "-"
    return f"> {needed.least - labels:.0f}" if needed.most is None else f"{needed.least - labels:.0f}"
