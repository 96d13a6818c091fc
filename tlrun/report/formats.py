"""Tables as text: for the terminal, Markdown and LaTeX what people read; in CSV and JSON every figure as it is."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from tlrun.report.collect import Collection
from tlrun.report.diagnosis import Diagnosis
from tlrun.report.label_curve import Curve, Needed
from tlrun.report.selection_rules import Judged
from tlrun.report.tables import AGAINST, EPOCHS, FIGURES, Figure, Line, Of, Table
from tlrun.report.verdicts import FIGURE, Verdict

FORMAT = 1
"""The format that the JSON states."""

WIDTH = 120
"""Columns of a terminal that tables are made to fit, as far as breaking their headings makes them."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def terminal(tables: Sequence[Table]) -> str:
    """Aligned columns: words to the left, numbers to the right; below each table its notes.

    A pair that all rows share is named above; in a table wider than WIDTH, headings longer than their column are broken.
    """
    parts = []
    for each in tables:
        pairs = {row[0] for row in each.rows} if each.columns[0] == "pair" else set()
        shared = pairs.pop() if len(pairs) == 1 else None
        shown = _without_first(each) if shared is not None else each
        parts += [f"{each.title}, on {shared}" if shared else each.title, _aligned(shown), *_block(each.notes, "\n")]
    return "\n\n".join(parts) + "\n"


def _without_first(table: Table) -> Table:
    return replace(table, columns=table.columns[1:], rows=tuple(row[1:] for row in table.rows), words=table.words - 1)


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's tables."""
    parts = [
        part
        for each in tables
        for part in (f"**{each.title}**", _markdown(each), *_block(map(escape_markdown, each.notes), "  \n"))
    ]
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """A `table` each, with the rules of the package booktabs; its notes as comments below it."""
    parts = [part for each in tables for part in (_latex(each), *_block((f"% {note}" for note in each.notes), "\n"))]
    return "\n\n".join(["% needs \\usepackage{booktabs}", *parts]) + "\n"


def _block(lines: Iterable[str], between: str) -> list[str]:
    """One text of all lines; none of none."""
    text = between.join(lines)
    return [text] if text else []


def csv_text(lines: Sequence[Line]) -> str:
    """A line a group; `<figure>_mean`, `_std`, `_n` for each figure, as shares, seconds and bytes; blank where none."""
    keys = sorted({key for line in lines for key in line.differs})
    rows = [_flat(line, keys) for line in lines]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def json_text(
    lines: Sequence[Line],
    collection: Collection,
    judged: Sequence[Judged],
    curves: Sequence[Curve],
    diagnosis: Diagnosis,
) -> str:
    """Everything: groups with their figures and verdicts, the runs they are made of, accuracy over granted labels, what
    each selection rule would have chosen (`strategy` null: over all of them), the diagnosis class by class, and what was
    left out."""
    content = {
        "format": FORMAT,
        "groups": [_nested(line) for line in lines],
        "runs": [
            {"folder": str(run.folder.path), "pair": run.pair, "strategy": run.strategy, "seed": run.seed,
             **{name: run.figure(name) for name in FIGURES}}
            for run in collection.runs
        ],
        "label_curves": [_curve(each) for each in curves],
        "selection_rules": [asdict(each) for each in judged],
        "diagnosis": diagnosis.plain(),
        "left_out": [{"folder": str(each.path), "reason": each.reason} for each in collection.left_out],
    }  # fmt: skip
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table; an underscore inside a word needs no escape."""
    return re.sub(r"([\\`*|<\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _aligned(table: Table) -> str:
    widest = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    full = sum(max(len(name), width) + 2 for name, width in zip(table.columns, widest, strict=True))
    heads = [
        _broken(name, width) if full > WIDTH else [name] for name, width in zip(table.columns, widest, strict=True)
    ]
    height = max(map(len, heads))
    above = [[*[""] * (height - len(head)), *head] for head in heads]
    lines = [*zip(*above, strict=True), *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def text(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if at < table.words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "-" * sum((*widths, 2 * len(widths) - 2))
    return "\n".join([*map(text, lines[:height]), rule, *map(text, table.rows)])


def _broken(heading: str, width: int) -> list[str]:
    """A heading in lines of this width as far as it has spaces and dots to break at."""
    lines: list[str] = []
    for part in re.findall(r"[^ .]+[ .]?", heading):
        if lines and len(lines[-1] + part.rstrip()) <= width:
            lines[-1] += part
        else:
            lines.append(part)
    return [line.rstrip() for line in lines] or [heading]


def _markdown(table: Table) -> str:
    rule = ["---" if at < table.words else "---:" for at in range(len(table.columns))]
    rows = [[escape_markdown(cell) for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _latex(table: Table) -> str:
    columns = "l" * table.words + "r" * (len(table.columns) - table.words)
    head, *rows = [" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in (table.columns, *table.rows)]
    body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    inner = "\n".join([rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"])
    caption = rf"\caption{{{escape_latex(table.title)}}}"
    return "\n".join([r"\begin{table}", r"\centering", caption, inner, r"\end{table}"])


def _flat(line: Line, keys: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"pair": line.pair, "strategy": line.strategy}
    row |= {key: _plain(line.differs.get(key)) for key in keys}
    row |= {"n": len(line.seeds), "seeds": " ".join(map(str, line.seeds)), "select": line.select}
    for name in (*FIGURES, EPOCHS):
        figure = line.figures.get(name, Figure(None, None, 0))
        row |= {f"{name}_mean": figure.mean, f"{name}_std": figure.std, f"{name}_n": figure.n}
        if name == FIGURE:
            row |= {
                f"{name}_low": (figure.interval or (None, None))[0],
                f"{name}_high": (figure.interval or (None, None))[1],
            }
    row |= {"gap_closed": line.gap_closed, "relative_improvement": line.relative_improvement}
    for of in AGAINST:
        verdict = _verdict(line, of) or dict.fromkeys(VERDICT)
        row |= {of: verdict.pop("verdict")} | {f"{of}_{name}": value for name, value in verdict.items()}
    row |= {f"steps_to_scratch_{name}": value for name, value in _reached(line).items()}
    row |= {f"scratch_labels_{name}": value for name, value in _needed(line.scratch_labels).items()}
    return row | {"floor": line.floor, "ceiling": line.ceiling, "scratch": line.scratch, "runs_warned": line.warnings}


def _nested(line: Line) -> dict[str, Any]:
    return {
        "pair": line.pair,
        "strategy": line.strategy,
        "settings": dict(line.differs),
        "seeds": list(line.seeds),
        "n": len(line.seeds),
        "is_run": line.is_run,
        "select": line.select,
        "figures": {name: asdict(figure) for name, figure in line.figures.items()},
        "accuracy_interval": line.figures[FIGURE].interval if FIGURE in line.figures else None,
        "gap_closed": line.gap_closed,
        "relative_improvement": line.relative_improvement,
        **{of: _verdict(line, of) for of in AGAINST},
        "steps_to_scratch": _reached(line),
        "unread": list(line.unread),
        "scratch_labels": _needed(line.scratch_labels),
        "floor": line.floor,
        "ceiling": line.ceiling,
        "scratch": line.scratch,
        "runs_warned": line.warnings,
    }


VERDICT = (
    *("verdict", "difference", "low", "high", "n", "p", "p_equal", "compared"),
    *("rows_low", "rows_high", "rows", "no_rows"),
)
"""The fields of a verdict: as `verdicts.Verdict`, the interval over rows flat."""


def _verdict(line: Line, of: Of) -> dict[str, Any] | None:
    found: Verdict | None = getattr(line, of)
    if found is None:
        return None
    over_seeds, over_rows = found.difference, found.over_rows
    values = (
        *(found.told(of), over_seeds.mean, over_seeds.low, over_seeds.high, over_seeds.n),
        *(found.p, found.p_equal, found.compared),
        *((over_rows.low, over_rows.high, over_rows.n) if over_rows else (None, None, None)),
        found.no_rows,
    )
    return dict(zip(VERDICT, values, strict=True))


def _reached(line: Line) -> dict[str, Any]:
    """Of `cost.Reached`; null without a scratch, or where no curve can be read."""
    return asdict(line.steps_to_scratch) if line.steps_to_scratch else dict.fromkeys(("share", "runs", "of"))


def _needed(found: Needed | None) -> dict[str, Any]:
    """Of `label_curve.Needed`: the fewest and the most labels, null beyond what was measured or where none was."""
    return {"least": found.least if found else None, "most": found.most if found else None}


def _curve(curve: Curve) -> dict[str, Any]:
    points = [
        {
            "target_labels": point.labels,
            "figure": asdict(Figure.of(point.group.figures(FIGURE))),
            "scratch_labels": _needed(point.needed),
        }
        for point in curve.points
    ]
    return {"pair": curve.pair, "strategy": curve.strategy, "settings": dict(curve.differs), "points": points}


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, bool | list | dict) else value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
