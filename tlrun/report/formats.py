"""Tables as text: for the terminal, Markdown and LaTeX what people read; in CSV and JSON every figure as it is."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tlrun.report.collect import Collection
from tlrun.report.diagnosis import Diagnosis
from tlrun.report.selection_rules import Judged
from tlrun.report.tables import FIGURES, Line, Table
from tlrun.report.verdicts import CONFIDENCE, MARGIN, Verdict

FORMAT = 1
"""The format that the JSON states."""

NOTES = (
    "gap closed: (run - source_only) / (target_only - source_only), where data.protocol=split;",
    "improvement: (run - source_only) / source_only",
    "adaptation: against source_only; transfer: against scratch with the same target labels; paired over n common seeds:",
    f"difference in points [{CONFIDENCE:.0%} t interval]; equal: the interval lies within ±{100 * MARGIN:g}",
)
"""What stands under the tables."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def terminal(tables: Sequence[Table]) -> str:
    """Aligned columns: words to the left, numbers to the right."""
    return "\n\n".join([*(f"{each.title}\n\n{_aligned(each)}" for each in tables), "\n".join(NOTES)]) + "\n"


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's tables."""
    return "\n\n".join([*(f"**{each.title}**\n\n{_markdown(each)}" for each in tables), "  \n".join(NOTES)]) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """A `table` each, with the rules of the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}", *(_latex(each) for each in tables)]
    return "\n\n".join([*parts, "\n".join(f"% {note}" for note in NOTES)]) + "\n"


def csv_text(lines: Sequence[Line]) -> str:
    """A line a group; `<figure>_mean`, `_std`, `_n` for each figure, as shares, seconds and bytes; blank where none."""
    keys = sorted({key for line in lines for key in line.differs})
    rows = [_flat(line, keys) for line in lines]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def json_text(lines: Sequence[Line], collection: Collection, judged: Sequence[Judged], diagnosis: Diagnosis) -> str:
    """Everything: groups with their figures and verdicts, the runs they are made of, what each selection rule would
    have chosen (`strategy` null: over all of them), the diagnosis class by class, and what was left out."""
    content = {
        "format": FORMAT,
        "groups": [_nested(line) for line in lines],
        "runs": [
            {"folder": str(run.folder.path), "pair": run.pair, "strategy": run.strategy, "seed": run.seed,
             **{name: run.figure(name) for name in FIGURES}}
            for run in collection.runs
        ],
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
    lines = [table.columns, *table.rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.columns))]

    def text(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if at < table.words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    head = text(table.columns)
    return "\n".join([head, "-" * sum((*widths, 2 * len(widths) - 2)), *(text(row) for row in table.rows)])


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
    for name in FIGURES:
        figure = line.figures.get(name)
        row[f"{name}_mean"] = figure.mean if figure else None
        row[f"{name}_std"] = figure.std if figure else None
        row[f"{name}_n"] = figure.n if figure else 0
    row |= {"gap_closed": line.gap_closed, "relative_improvement": line.relative_improvement}
    for of, found in (("adaptation", line.adaptation), ("transfer", line.transfer)):
        verdict = _verdict(found, of)
        row |= {of: verdict and verdict["verdict"]}
        row |= {f"{of}_{name}": verdict and verdict[name] for name in ("difference", "low", "high", "n")}
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
        "gap_closed": line.gap_closed,
        "relative_improvement": line.relative_improvement,
        "adaptation": _verdict(line.adaptation, "adaptation"),
        "transfer": _verdict(line.transfer, "transfer"),
        "floor": line.floor,
        "ceiling": line.ceiling,
        "scratch": line.scratch,
        "runs_warned": line.warnings,
    }


def _verdict(found: Verdict | None, of: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    interval = found.difference
    return {
        "verdict": found.told(of),
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
    }


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, bool | list | dict) else value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
