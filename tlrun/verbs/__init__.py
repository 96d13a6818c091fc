"""What `tlrun VERB ...` does beside training: one module a verb, each with `main(arguments) -> exit code`.

A module is imported when its verb is called, and imports what it needs itself; `--help` and `list` load no torch.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tlrun.config import ConfigError
from tlrun.report.named_file import named_file

VERBS = ("list", "data", "doctor", "distance", "rank", "advise", "compare", "report", "diff", "predict", "eval")
"""Every verb, in the order in which help shows them."""


class Parser(argparse.ArgumentParser):
    """A parser of one verb: shows the verb's help, and tells a wrong option as everything else that is wrong is told.

    usage and epilog are shown as they are written.
    """

    def __init__(self, verb: str, usage: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"tlrun {verb}",
            usage=f"tlrun {verb} {usage}",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}")

    def parse_with_settings(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """The options, and all else in its order: settings, and what a verb takes beside them. Raises ConfigError."""
        options, rest = self.parse_known_intermixed_args(arguments)
        if unknown := [text for text in rest if text.startswith("-")]:
            verb = self.prog.removeprefix("tlrun ")
            raise ConfigError([f"{verb}: {text}: no such option; see {self.prog} --help" for text in unknown])
        return options, rest


def tell(lines: Iterable[str], content: Mapping[str, Any], place: str | None) -> None:
    """Prints the lines, or all of `content` as JSON where `place` is `-`; another place is a file that gets the JSON.

    Raises RunError where the file cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    if place is not None and place != "-":
        with named_file(Path(place)) as put:
            put(f"{text}\n".encode())
    print(text if place == "-" else "\n".join(lines))


def at_least_one(text: str) -> int:
    """For argparse: a whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text}")
    return number


def output_file(text: str) -> str:
    """For argparse: a file that may be written, or `-`; none in a run's folder, and no folder's name where none is."""
    if text != "-":
        _check_outside_runs(Path(text))
        if text.endswith(("/", os.sep)) and not Path(text).is_dir():
            raise argparse.ArgumentTypeError(f"{text} is no folder; name a file")
    return text


def output_folder(text: str) -> Path:
    """For argparse: a folder that is there or can be made, outside every run's folder."""
    path = Path(text)
    _check_outside_runs(path)
    there = next(each for each in (path, *path.parents, Path()) if os.path.lexists(each))
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there} is no folder")
    return path


def _check_outside_runs(path: Path) -> None:
    """Raises ArgumentTypeError for a place in a run's folder, which holds the run's own files and nothing else."""
    place = Path(os.path.realpath(path))
    for folder in (place, *place.parents):
        if os.path.exists(folder / "status.json"):  # noqa: PTH110  # False, too, where nobody may look
            raise argparse.ArgumentTypeError(f"{path} lies in the run folder {folder}; name another place")


def add_machine(parser: Parser) -> None:
    """Options of the verbs that run a trained model: --device, --threads, --batch-size."""
    devices = ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--device", choices=devices, default="auto", help="where to compute (auto: a GPU, if any)")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="threads that compute, and that read files")
    parser.add_argument("--batch-size", type=at_least_one, metavar="N", help="rows at a time (as memory allows)")
