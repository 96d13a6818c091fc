"""`tlrun predict RUN PATH...`: what a finished run's model says of images, or of rows of numbers."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun.config import ConfigError, DeviceSettings
from tlrun.report.guesses import GuessRows, GuessTable, printable
from tlrun.report.named_file import named_file
from tlrun.verbs import Parser, add_machine, at_least_one, output_file

if TYPE_CHECKING:
    from tqdm import tqdm

    from tlrun.predictions import LeftOut, Predicted

EPILOG = """\
RUN is a run folder, or a checkpoint out of one; the data of the run need not be there. Images pass through the size,
crop and normalisation that the run gave its target domain. A folder stands for all images below it, a .csv for the
paths in it (a column headed path, else the first one; relative to its own folder), - for paths on standard input.
For a run on features PATH is a .csv of numbers, a row each.

  tlrun predict outputs/RUN photos                             a table: path, class, probability, second guess
  tlrun predict outputs/RUN photos --output labels.csv         path, prediction, confidence, every class's probability
  tlrun predict outputs/RUN 'new/**/*.jpg' list.csv --top 3 --output -
  find . -name '*.png' -print0 | tlrun predict outputs/RUN - --device cpu

Files that give no image are named on standard error and left out.
Exit codes: 0 done, 1 a file was left out or the run cannot be used, 2 the command is wrong.
"""


def main(arguments: list[str]) -> int:
    """Returns 0 where everything named was predicted, 1 where some was left out.

    Raises ConfigError where the command is wrong or something named is not there, RunError as `load_trained`.
    """
    asked = _parser().parse_args(arguments)
    from tlrun import predictions
    from tlrun.data.files.image_paths import image_paths
    from tlrun.engine.runtime import resolve_device
    from tlrun.trained import load_trained

    device = resolve_device(DeviceSettings(name=asked.device, threads=asked.threads))
    trained = load_trained(asked.run, device=device).natively()
    domain = asked.domain
    if domain not in trained.inputs:
        raise ConfigError(f"predict: --domain {domain}: the run has no {domain}, only {', '.join(trained.inputs)}")
    size = predictions.batch_size(trained, asked.batch_size)
    if len(trained.shape) == 1:
        paths = _number_files(asked.paths, trained.shape[0])
        found = predictions.predict_numbers(trained, paths, domain=domain, size=size)
        return _show(found, _writer(trained.task.classes, [f"{path}:9999" for path in paths], asked), None, asked)
    named = image_paths(asked.paths, pipe=sys.stdin.buffer, column=asked.column, root=asked.root)
    found = predictions.predict_images(trained, named, domain=domain, size=size, threads=asked.threads)
    return _show(found, _writer(trained.task.classes, [each.told for each in named], asked), len(named), asked)


def _parser() -> Parser:
    parser = Parser("predict", "RUN PATH ... [options]", EPILOG)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or its checkpoints/best.pt")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, folders, patterns, a .csv of paths, or -")
    parser.add_argument(
        "--output", type=output_file, metavar="FILE", help="a CSV file instead of the table; - prints it"
    )
    parser.add_argument(
        "--top", type=at_least_one, metavar="K", help="this many guesses a row (table: 2; CSV: every class)"
    )
    parser.add_argument("--domain", choices=("source", "target"), default="target", help="as which the rows are seen")
    parser.add_argument("--column", metavar="NAME", help="the heading of the paths in a .csv (path)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="what relative paths in a list start from")
    add_machine(parser)
    return parser


def _number_files(paths: Sequence[str], count: int) -> list[str]:
    """Raises ConfigError for all that cannot hold rows of numbers, or holds none."""
    from tlrun.data.number_rows import number_rows

    wrong = [path for path in paths if not path.lower().endswith(".csv")]
    missing = [path for path in paths if path not in wrong and not Path(path).is_file()]
    problems = [f"{path}: the run's rows are {count} numbers, not images; name a .csv of numbers" for path in wrong]
    if problems or missing:
        raise ConfigError([*problems, *(f"{path}: no such file" for path in missing)])
    if empty := [path for path in paths if next(number_rows(path, count), None) is None]:
        raise ConfigError(f"{path}: no row of numbers is there" for path in empty)
    return list(paths)


def _writer(classes: Sequence[str], told: Sequence[str], asked: argparse.Namespace) -> GuessTable | GuessRows:
    if asked.output is not None:
        return GuessRows(classes, top=asked.top)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return GuessTable(classes, told, guesses=asked.top or 2, width=width)


def _show(
    found: Generator[Predicted | LeftOut], writer: GuessTable | GuessRows, total: int | None, asked: argparse.Namespace
) -> int:
    """Takes every batch to where it was asked for, as it comes, and what is left out to standard error."""
    from tlrun.predictions import LeftOut

    count = bad = 0
    start = time.monotonic()
    with ExitStack() as stack:
        put = stack.enter_context(_output(asked.output))
        stack.callback(found.close)
        bar = stack.enter_context(_bar(total))
        put(writer.header())
        for each in found:
            if isinstance(each, LeftOut):
                bad += 1
                bar.write(f"left out: {printable(each.told)}: {printable(each.reason)}", file=sys.stderr)
                bar.update(1)
            else:
                count += len(each)
                put(writer.text(each.told, each.probabilities))
                bar.update(len(each))
    speed = count / max(time.monotonic() - start, 1e-9)
    where = "" if asked.output in (None, "-") else f", in {asked.output}"
    left = f", {bad:,} left out" if bad else ""
    print(f"{count:,} predicted{where}{left} ({speed:,.0f} a second)", file=sys.stderr)
    return 1 if bad else 0


@contextmanager
def _output(place: str | None) -> Iterator[Callable[[str], None]]:
    if place in (None, "-"):
        yield _say
        return
    with named_file(Path(place)) as put:
        # Names of files may be no UTF-8; they come out as the bytes they are.
        yield lambda text: put(text.encode("utf-8", "surrogateescape"))


def _say(text: str) -> None:
    """To standard output, above a progress bar where one is drawn; at once, for whoever reads along."""
    from tqdm import tqdm

    encoding = sys.stdout.encoding or "utf-8"
    with tqdm.external_write_mode(file=sys.stdout):
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()


def _bar(total: int | None) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(total=total, disable=None, leave=False, file=sys.stderr, unit="rows")
