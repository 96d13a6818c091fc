"""The figures of a report: a line a group, every figure with mean, sample standard deviation and n."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from tlrun.report.groups import Group, shown
from tlrun.report.verdicts import Verdict, gap_closed, relative_improvement, verdict

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


@dataclass(frozen=True)
class Line:
    """What a report says of one group, or of a reference that is no run."""

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
    warnings: int = 0
    is_run: bool = True


def line_of(group: Group) -> Line:
    """All figures of a group, held against its references."""
    names = {role: reference.runs[0].summary.get("name") for role, reference in group.references.items()}
    return Line(
        pair=group.pair,
        strategy=group.strategy,
        differs=group.differs,
        seeds=group.seeds,
        figures={name: Figure.of(group.figures(name)) for name in FIGURES},
        select=group.settings.get("engine.select"),
        protocol=group.settings.get("data.protocol"),
        gap_closed=None if group.role else gap_closed(group),
        relative_improvement=None if group.role == "floor" else relative_improvement(group),
        adaptation=None if group.role in ("floor", "scratch") else verdict(group, "floor"),
        transfer=None if group.role == "scratch" else verdict(group, "scratch"),
        floor=names.get("floor"),
        ceiling=names.get("ceiling"),
        scratch=names.get("scratch"),
        warnings=sum(bool(run.summary.get("warnings")) for run in group.runs),
    )


Section = Literal["results", "diagnosis", "labels", "selection", "cost", "warnings", "data", "runs"]
"""Under which heading of the page a table or a picture stands."""


@dataclass(frozen=True)
class Table:
    """A heading, columns and rows of text; the first `words` columns are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int
    section: Section = "results"


def tables(lines: Sequence[Line]) -> list[Table]:
    """What people read: results, verdicts where there are any, selection, cost. Accuracies are in per cent."""
    runs = [line for line in lines if line.is_run]
    judged = [line for line in runs if line.adaptation or line.transfer]
    results = "Results on the test rows, in % (mean ± sample standard deviation over n seeds)"
    return [
        _table(results, lines, _results),
        *([_table("Verdicts", judged, _verdicts, words=2)] if judged else []),
        replace(_table("Selection: target test accuracy in %", runs, _selection), section="selection"),
        replace(_table("Cost of a run", runs, _cost), section="cost"),
    ]


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
        "target": percent(line.figures.get("target_test_accuracy")),
        "macro-F1": percent(line.figures.get("target_test_macro_f1")),
        "source": percent(line.figures.get("source_test_accuracy")),
        "gap closed": "" if line.gap_closed is None else f"{100 * line.gap_closed:.0f} %",
        "improvement": "" if line.relative_improvement is None else f"{100 * line.relative_improvement:+.1f} %",
    }


def _verdicts(line: Line) -> dict[str, str]:
    return {"adaptation": told(line.adaptation, "adaptation"), "transfer": told(line.transfer, "transfer")}


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
    return {
        "n": str(len(line.seeds)),
        "seconds": seconds(line.figures["seconds"]),
        "pretraining": seconds(line.figures["pretrain_seconds"]),
        "images/s": "" if speed is None else f"{speed:.0f}",
        "memory (MB)": "" if memory is None else f"{memory / 1e6:.0f}",
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


def told(found: Verdict | None, of: Literal["adaptation", "transfer"]) -> str:
    """The verdict with its difference and interval in points: `helps +12.0 [9.1, 14.9] n 5`."""
    if found is None:
        return ""
    interval = found.difference
    assert interval.low is not None and interval.high is not None
    return f"{found.told(of)} {100 * interval.mean:+.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}] n {interval.n}"
