"""`tlrun eval RUN [KEY=VALUE ...]`: all figures of a finished run on its own data or on any other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from tlrun.config import ConfigError, DeviceSettings
from tlrun.verbs import Parser, add_machine, output_folder

if TYPE_CHECKING:
    from tlrun.data.split_domain import Role
    from tlrun.evaluation import Asked
    from tlrun.trained import Trained

Which = Literal["train", "val", "test", "all"]

EPILOG = """\
RUN is a run folder, or a checkpoint out of one. Settings of data are given as for a run, over those of the run itself;
what they name is evaluated: one domain (domain@data.target=..., data.target.KEY=...), a pair (data=...), or, without
any, the run's own pair. Rows become inputs as the run's did, normalised by its figures. Classes are aligned by name.

  tlrun eval outputs/RUN                                          the run's own pair, val and test
  tlrun eval outputs/RUN domain@data.target=usps                  another domain in the place of the target
  tlrun eval outputs/RUN data=mnist_digits --output DIR           another pair; everything to files as well
  tlrun eval outputs/RUN domain@data.target=folder data.target.root=photos --split all

--output writes evaluation.json, classes.csv, confusion_<domain>_<split>.csv and predictions_<domain>.csv, in
the place of an earlier evaluation's; nothing is ever written into the run's folder.
"""


def main(arguments: list[str]) -> int:
    """Raises ConfigError where the command, a setting or the data is wrong, RunError as `load_trained`."""
    parser = Parser("eval", "RUN [KEY=VALUE ...] [options]", EPILOG)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or its checkpoints/best.pt")
    parser.add_argument("--split", default="val,test", metavar="LIST", help="of train, val, test, all (val,test)")
    parser.add_argument("--domain", choices=("source", "target"), help="one of the domains alone")
    parser.add_argument("--output", type=output_folder, metavar="DIR", help="a folder for all figures and predictions")
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    add_machine(parser)
    asked, overrides = parser.parse_with_settings(arguments)
    splits = _splits(asked.split)
    from tlrun import predictions
    from tlrun.engine.runtime import resolve_device
    from tlrun.evaluation import asked_data
    from tlrun.trained import load_trained

    device = resolve_device(DeviceSettings(name=asked.device, threads=asked.threads))
    trained = load_trained(asked.run, device=device).natively()
    trained = trained.in_batches(predictions.batch_size(trained, asked.batch_size))
    data = asked_data(trained, overrides, config_dir=asked.config_dir)
    return _evaluate(trained, data, _domains(data, asked.domain), splits, asked)


def _splits(text: str) -> list[Which]:
    known: tuple[Which, ...] = get_args(Which)
    names = text.split(",")
    if wrong := [name for name in names if name not in known]:
        raise ConfigError(f"eval: --split {wrong[0]}: must be of {', '.join(known)}, or several with commas")
    return [name for name in known if name in names]


def _domains(data: Asked, only: Role | None) -> list[Role]:
    """The domains that the overrides name, else all there are; of these the one asked for."""
    there: list[Role] = ["target"] if data.data.source is None else ["source", "target"]
    named = [role for role in there if role in (data.domains or there)]
    if only is None:
        return named
    if only not in named:
        raise ConfigError(f"eval: --domain {only}: is not among what is evaluated ({', '.join(named)})")
    return [only]


def _evaluate(
    trained: Trained, data: Asked, domains: list[Role], splits: list[Which], asked: argparse.Namespace
) -> int:
    from tqdm import tqdm

    from tlrun.evaluation import evaluate
    from tlrun.report import evaluation

    with tqdm(disable=None, leave=False, file=sys.stderr, unit=" rows") as bar:
        found = list(evaluate(trained, data, domains=domains, splits=splits, advance=bar.update))
    if not found:
        raise ConfigError(f"eval: no rows in {', '.join(splits)} of {' and '.join(domains)}")
    classes = trained.task.classes
    print("\n".join(evaluation.lines(found, classes)))
    if asked.output is not None:
        about = {"run": str(asked.run), "classes": list(classes), "data": data.data.model_dump(mode="json")}
        evaluation.write(asked.output, found, classes, about)
        print(f"\nfiles: {asked.output}", file=sys.stderr)
    return 0
