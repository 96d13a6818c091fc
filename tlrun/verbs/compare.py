"""`tlrun compare strategy=A,B data=PAIR`: strategies between floor and ceiling at one budget, over seeds."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tlrun.config import ConfigError
from tlrun.verbs import Parser, output_file, output_folder

if TYPE_CHECKING:
    from tlrun.evidence.comparison import Comparison, Member

EPILOG = """\
Runs what is missing of the strategies, the floor (source_only), the ceiling (target_only) and, where target labels are
granted, scratch; all with the same budget, splits and seeds. Then it shows the tables of `tlrun report` on these runs.
Given again, the command goes on where it was cut off, or shows the tables once more. A run that is done and whose
settings, summary or data card cannot be read is named, left out, and the exit code is 1; any other file that it has
lost is named where something would be told from it.

  seeds=5          seeds 0 to 4 (3 without it, 200 at most); seeds=3,4,9 are these; seeds=7, is the one
  labels=1,5,10    every run at each of these grants of target labels a class; else data.target_labels as it is
  strategy.KEY=... goes to those of the strategies named that have it, not to what is added to them
  experiment=NAME  gives all runs its settings, but those of its strategy to that strategy alone

  tlrun compare strategy=dann,mmd data=mnist_usps engine.epochs=6 --dry-run
  tlrun compare strategy=fine_tune,dann data=mnist_usps labels=1,5,10 seeds=5 --html compared.html
"""

_STANDS = {"new": "missing", "done": "done", "running": "running", "failed": "failed", "interrupted": "interrupted"}


def main(arguments: list[str]) -> int:
    """Runs what is missing and shows the tables, or with --dry-run lists the runs.

    Returns the exit code, as of a sweep. Raises ConfigError, before the first run starts, with all that is wrong.
    """
    parser = Parser("compare", "strategy=A,B data=PAIR [seeds=N] [labels=N,M] [KEY=VALUE ...] [options]", EPILOG)
    parser.add_argument("--dry-run", action="store_true", help="list the runs: done, missing, time expected")
    parser.add_argument(
        "--out", type=output_folder, default=Path("report"), metavar="DIR", help="for the pictures (report/)"
    )
    parser.add_argument("--no-plots", action="store_true", help="tables alone")
    parser.add_argument(
        "--html", type=output_file, metavar="FILE", help="the whole report as one page, pictures inside"
    )
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    chosen, overrides = parser.parse_with_settings(arguments)
    if chosen.html is not None and Path(chosen.html).is_dir():
        raise ConfigError(f"compare: --html {chosen.html}: is a folder; name a file")
    from tlrun.evidence.comparison import plan_comparison, read_asked

    comparison = plan_comparison(read_asked(overrides, config_dir=chosen.config_dir))
    for line in (*comparison.left_out, *comparison.notes, *_peeks(comparison.members)):
        print(line)
    if chosen.dry_run:
        print("\n".join(_listed(comparison)))
        return 0
    return _compare(comparison, arguments, chosen)


def _peeks(members: Sequence[Member]) -> list[str]:
    if not any(each.config.engine.select == "oracle" for each in members):
        return []
    return [
        "engine.select=oracle: epochs are chosen by withheld target test labels, so these accuracies are what peeking "
        "would give and no evidence of what a method gives without it"
    ]


def _compare(comparison: Comparison, arguments: list[str], chosen: argparse.Namespace) -> int:
    """Does what is left to do, then shows what is there."""
    from tlrun.session import DONE, FAILED, say

    code, left = DONE, [each for each in comparison.members if _is_to_do(each)]
    if left:
        session, code = _run(left, arguments, chosen.config_dir)
        if session:
            return FAILED
    done = {each.folder.path: _damage(each) for each in comparison.members if each.folder.state() == "done"}
    if folders := [path for path, damage in done.items() if damage is None]:
        _report(folders, out=None if chosen.no_plots else chosen.out, html=chosen.html)
    damaged = [f"{path}: {damage}" for path, damage in done.items() if damage is not None]
    if damaged:
        say(
            "left out of the comparison, though done; where it cannot be mended, remove the folder, and the same command "
            "makes the run again:"
        )
        say(*(f"  {each}" for each in damaged))
    return code or (FAILED if damaged else DONE)


def _damage(member: Member) -> str | None:
    """Why a run that is done cannot be compared; None where it can."""
    from tlrun.files import RunError
    from tlrun.report.collect import read_run

    try:
        read_run(member.folder)
    except RunError as error:
        return str(error)
    return None


def _is_to_do(member: Member) -> bool:
    """Whether a run is to be started, or looked at once more by the run itself: for its files, a requirement, pictures."""
    from tlrun.config import FileDomainSettings

    asked, data = member.config.run, member.config.data
    reads_files = any(isinstance(domain, FileDomainSettings) for domain in (data.source, data.target))
    return member.state != "done" or reads_files or asked.fresh or asked.require is not None or asked.plots


def _run(left: Sequence[Member], arguments: list[str], config_dir: str | None) -> tuple[bool, int]:
    """Does the runs, one after the other; returns whether it was stopped, and the exit code."""
    from tlrun.compose.plan import Plan, job_names
    from tlrun.session import carry_out

    jobs = tuple(each.job for each in left if each.job is not None)
    names = tuple(job_names([job.overrides for job in jobs]))
    planned = Plan(overrides=(), jobs=names, multirun=True, hides_sweep_dir=False, here=jobs)
    origin = [f"--config-dir={Path(config_dir).resolve()}"] if config_dir else []
    session = carry_out(planned, ["compare", *arguments], origin=origin)
    return session.ended_early, session.report()


def _report(folders: Sequence[Path], *, out: Path | None, html: str | None) -> None:
    """The tables, and pictures and page where they are not there from the last time.

    Drawing takes longer than all else here, so a file beside the pictures has the checksums of what was shown, the runs'
    tables and records, and of what shows it; where any of these has changed since, is gone or is new, all is drawn again,
    and always for a page that goes to a pipe.
    """
    from tlrun import files
    from tlrun.report.report import report

    shown = [path for folder in sorted(folders) for path in _told_from(folder)]
    page = None if html is None or html == "-" or (Path(html).exists() and not Path(html).is_file()) else Path(html)
    shown += [page] if page else []
    names = None if out is None else out / "compared.txt"
    drawn = names is not None and (html is None or page is not None) and _is_drawn(names, shown)
    pictures = report(folders, {"html": html} if html and not drawn else {}, plots=None if drawn else out)
    if names is not None and not drawn:
        files.write_bytes(names, _checksums([*shown, *(path for each in pictures for path in each.files)]).encode())


def _told_from(folder: Path) -> list[Path]:
    """The tables and records of a run, from which all is told but what its checkpoint would say."""
    kinds = (".csv", ".json", ".yaml")
    return sorted(path for path in folder.iterdir() if path.suffix in kinds and path.name != "status.json")


def _is_drawn(names: Path, shown: Sequence[Path]) -> bool:
    """Whether the file of checksums begins with those of `shown`, goes on with pictures alone, and all are right."""
    try:
        text = names.read_text()
        places = [Path(line.partition("  ")[2]) for line in text.splitlines()]
        pictures = places[len(shown) :]
        only = places[: len(shown)] == list(shown) and all(path.suffix in (".png", ".svg") for path in pictures)
        return only and _checksums(places) == text
    except (OSError, ValueError):
        return False


def _checksums(places: Sequence[Path]) -> str:
    """A line a file, as sha256sum has it."""
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}\n" for path in places)


def _listed(comparison: Comparison) -> list[str]:
    """A line a run: how it stands, what it is, how long the rest of it will take; then what that comes to."""
    from tlrun.evidence.estimate import Estimates, told

    first = comparison.members[0].config
    estimates = Estimates(Path(first.run.root))
    rows = [("", "strategy", "labels", "seed", "expected", "run")]
    open_runs, damaged, seconds, unknown = 0, 0, 0.0, []
    for each in (*comparison.source_models, *comparison.members):
        done = each.state == "done" and not each.config.run.fresh
        expected = None if done else estimates.seconds(each.config)
        open_runs += not done
        seconds += expected or 0.0
        unknown += [each.config.strategy.name] if not done and expected is None else []
        name = each.config.strategy.name if each.job else f"{each.config.strategy.name} (source model)"
        stands = "again" if each.state == "done" and not done else _STANDS[each.state]
        if done and _damage(each) is not None:
            damaged += 1
            stands = "damaged"
        time = "" if expected is None else told(expected)
        rows.append(
            (stands, name, str(each.config.data.target_labels), str(each.config.seed), time, each.folder.path.name)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, _total(len(rows) - 1, open_runs, damaged, seconds, unknown)]


def _total(count: int, open_runs: int, damaged: int, seconds: float, unknown: Sequence[str]) -> str:
    from tlrun.evidence.estimate import told

    total = f"{count - open_runs - damaged} of {count} done"
    if damaged:
        total += f", {damaged} damaged: what is wrong with them is told without --dry-run"
    if not open_runs:
        return total
    names = ", ".join(dict.fromkeys(unknown))
    if len(unknown) == open_runs:
        return f"{total}; how long the rest takes is not known before a first run has finished"
    if unknown:
        return f"{total}; {told(seconds)} for those with a time; not known before a first run of each: {names}"
    return f"{total}; {told(seconds)} for the rest"
