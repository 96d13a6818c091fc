"""`tlrun report PATH...`: tables and pictures from any set of run folders."""

from __future__ import annotations

import sys
from pathlib import Path

from tlrun import files
from tlrun.config import ConfigError
from tlrun.verbs import Parser, output_file

FORMATS = ("csv", "markdown", "latex", "json", "html")


def main(arguments: list[str]) -> int:
    """Prints the tables, or writes them where told to, then draws the pictures.

    Returns 0 where there is anything to report. Raises ConfigError where there is not, or an option is wrong.
    """
    parser = Parser("report", "PATH ... [options]")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="DIR", help="for the pictures (report/)")
    parser.add_argument("--no-plots", action="store_true", help="tables alone")
    parser.add_argument("--rules", action="store_true", help="the selection rules for each strategy apart, too")
    for name in FORMATS:
        what = (
            "all of it as one page, pictures inside" if name == "html" else "the tables in this format; - prints them"
        )
        parser.add_argument(f"--{name}", type=output_file, metavar="FILE", help=what)
    chosen = parser.parse_args(arguments)
    wanted = {name: getattr(chosen, name) for name in FORMATS if getattr(chosen, name) is not None}
    if len(to_stdout := [f"--{name}" for name, place in wanted.items() if place == "-"]) > 1:
        raise ConfigError(f"report: {' and '.join(to_stdout)} cannot both go to standard output")
    from tlrun.report.report import report

    try:
        report(chosen.paths, wanted, plots=None if chosen.no_plots else chosen.out, rules_by_strategy=chosen.rules)
    except files.RunError as error:  # a table or a picture cannot be written
        print(error, file=sys.stderr)
        return 1
    return 0
