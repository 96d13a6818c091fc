"""An evaluation of a finished run: tables for the terminal, files for everything else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun import files
from tlrun.report.guesses import columns_of, padded, printable
from tlrun.run import RunFolder
from tlrun.run_files import CLASS_COLUMNS

if TYPE_CHECKING:
    from tlrun.evaluation import Evaluated

FIGURES = ("rows", "accuracy", "macro_f1", "loss", "calibration_error")
_OF_DOMAIN = re.compile(r"predictions_(source|target)\.csv|confusion_(source|target)_(train|val|test|all)\.csv")

WIDEST = 12
"""Up to so many classes, every count of the confusion matrix is shown; of more, the commonest mistake."""


def lines(found: Sequence[Evaluated], classes: Sequence[str]) -> Iterator[str]:
    """All splits below each other, then the classes of the last one of each domain."""
    names = [f"{each.domain} {each.split}" for each in found]
    last = {each.domain: each for each in found}
    for each in last.values():
        yield f"{each.domain}: {printable(each.name)}"
        yield f"  {printable(each.origin)}"
    yield ""
    figures = [_figures(each) for each in found]
    heads = ("split", "rows", "labelled", "accuracy", "macro F1", "loss", "calibration error")
    yield from _aligned([heads, *((name, *cells) for name, cells in zip(names, figures, strict=True))])
    for each in last.values():
        if each.metrics.rows:
            yield ""
            yield f"{each.domain} {each.split}, by class; to the right what its rows are taken for"
            yield from _aligned(_classes(each, [printable(name) for name in classes]))


def _figures(each: Evaluated) -> tuple[str, ...]:
    metrics = each.metrics
    loss, error = ("" if value is None else f"{value:.3f}" for value in (metrics.loss, metrics.calibration_error))
    rows = (f"{len(each.predictions):,}", f"{metrics.rows:,}")
    return (*rows, _share(metrics.accuracy), _share(metrics.macro_f1), loss, error)


def _classes(each: Evaluated, classes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A class each: its rows and figures, and what its rows are taken for."""
    few = len(classes) <= WIDEST
    yield ("class", "rows", "accuracy", "precision", "F1", *(classes if few else ["mostly mistaken for"]))
    for number, (name, figures) in enumerate(zip(classes, each.metrics.classes, strict=True)):
        counts = each.metrics.confusion[number]
        shown = list(map(str, counts))
        if not few:
            wrong = [count if other != number else 0 for other, count in enumerate(counts)]
            shown = [f"{classes[wrong.index(max(wrong))]} ({max(wrong)})" if any(wrong) else ""]
        shares = map(_share, (figures.accuracy, figures.precision, figures.f1))
        yield (name, f"{figures.rows:,}", *shares, *shown)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _aligned(rows: Any) -> Iterator[str]:
    """Words to the left, the rest to the right; no wider than it must be."""
    rows = list(rows)
    widths = [max(columns_of(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [
            padded(cell, width) if at == 0 else " " * (width - columns_of(cell)) + cell
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _clear(folder: Path) -> None:
    """Removes the files of an evaluation, where there is one; its evaluation.json last, without which it is none."""
    index = folder / "evaluation.json"
    if not index.is_file():
        return
    named = [path for path in folder.iterdir() if _OF_DOMAIN.fullmatch(path.name)]
    for path in (*named, folder / "classes.csv", index):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise files.RunError(f"cannot remove {path}: {files.reason_of(error)}") from error


def write(folder: Path, found: Sequence[Evaluated], classes: Sequence[str], about: dict[str, Any]) -> None:
    """evaluation.json, classes.csv, and by domain predictions_<domain>.csv and confusion_<domain>_<split>.csv.

    What an earlier evaluation wrote there goes first. about: what evaluation.json tells beside the figures. Raises
    RunError where files cannot be written.
    """
    _clear(folder)
    place = RunFolder(folder)  # for its formats
    rows = []
    for each in found:
        if each.metrics.rows:
            place.write_confusion(each.domain, each.split, classes, each.metrics.confusion)
        where = {"domain": each.domain, "split": each.split}
        rows += [
            where | {"class": name} | asdict(figures)
            for name, figures in zip(classes, each.metrics.classes, strict=True)
        ]
    for domain in dict.fromkeys(each.domain for each in found):
        place.predictions = folder / f"predictions_{domain}.csv"
        of_domain = [row for each in found if each.domain == domain for row in each.predictions]
        place.write_predictions(classes, of_domain)
    files.write_table(folder / "classes.csv", CLASS_COLUMNS[1:], rows)
    splits = [
        {"domain": each.domain, "split": each.split, "name": each.name, "origin": each.origin}
        | {"rows": len(each.predictions), "rows_labelled": each.metrics.rows}
        | {name: getattr(each.metrics, name) for name in FIGURES[1:]}
        for each in found
    ]
    files.write_json(folder / "evaluation.json", {**about, "splits": splits})
