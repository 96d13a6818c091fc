"""`tlrun distance KEY=VALUE ... | RUN`: how far apart two domains are, as they come and in a model's features."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun.config import ConfigError
from tlrun.evidence.findings import LIKELY, UNLIKELY
from tlrun.verbs import Parser, output_file, tell

if TYPE_CHECKING:
    from tlrun.evidence.spaces import Side, Space, SplitName

FORMAT = 1
THUMB = "rule of thumb (a habit of practice, from no paper)"

EPILOG = """\
  tlrun distance data=mnist_usps                   raw inputs, before anything is trained
  tlrun distance data=mnist_usps model=resnet18    and features of the model that a run would start from
  tlrun distance outputs/mnist_usps-dann-s0-...    inputs, features at the run's start, features of its selected model

A-distance   2 (1 - 2 e), e the cross-validated error of telling the domains apart, in [0, 2] (Ben-David et al. 2007)
MMD          maximum mean discrepancy with the p-value of equal domains under permutation (Gretton et al. 2012)
CORAL        distance of the covariances (Sun and Saenko 2016)
Fréchet      of two normal distributions, as in FID (Dowson and Landau 1982)
sliced Wasserstein   over 128 random projections (Bonneel et al. 2015)
KL           Kullback-Leibler divergence in nats, by nearest neighbours (Wang et al. 2009)

Rows are taken equally from both domains, by a hash of their numbers, at most --rows of each: training rows, or of a RUN
test rows, which it has not learnt from. No distance reads a label. Raw inputs are pixels in [0, 1], images above 32
pixels averaged down. Of the three terms of the bound of Ben-David et al. 2010 each is shown under what it is an
estimate of; their sum bounds nothing, since a proxy from few rows may fall short of the divergence.

Rules of thumb are named as such: an A-distance or MMD above 0.5, transfer is unlikely to work without adaptation; an
MMD below 0.1, it is likely to. They are habits of practice; no paper that we know of gives these thresholds, and they
forget the scale: an A-distance is 2 where domains are always told apart, as pixels of two cameras mostly are, and the
MMD under this kernel cannot reach 1.42.
"""

NOTES = (
    "MMD depends on its kernel, here a Gaussian one as wide as the median distance of these rows: compare it only with",
    "MMDs under the same one. CORAL, Fréchet and sliced Wasserstein are in the units of the space: compare within a column",
    "across pairs or runs, not across columns. Kullback-Leibler distances are of the first 10 principal components.",
)


def main(arguments: list[str]) -> int:
    """Prints the distances. Raises ConfigError where the command, a setting or the data is wrong, RunError as a run does."""
    parser = Parser("distance", "KEY=VALUE ... | RUN  [options]", EPILOG)
    parser.add_argument(
        "--rows", type=int, default=1000, metavar="N", help="at most so many rows of each domain (1000)"
    )
    parser.add_argument("--split", choices=("train", "val", "test"), help="of which split (train; of a RUN test)")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="everything as JSON; - prints it in place of the table"
    )
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    asked, rest = parser.parse_with_settings(arguments)
    if asked.rows < 10:
        raise ConfigError(f"tlrun distance: --rows: must be at least 10, got {asked.rows}")
    runs = [text for text in rest if "=" not in text and not text.startswith("~")]
    if runs and len(rest) > 1:
        raise ConfigError(f"tlrun distance: name one RUN, or settings; got {' '.join(rest)}")
    content = _of_run(Path(runs[0]), asked) if runs else _of_settings(rest, asked)
    tell(lines(content), content, asked.json)
    return 0


def _of_settings(overrides: Sequence[str], asked: Any) -> dict[str, Any]:
    """Raw inputs, and the features of the model where one is named."""
    from tlrun.compose.plan import Request, settings

    config = settings(Request(tuple(overrides), config_dir=asked.config_dir))
    _check_two_domains(config.data.source)
    from tlrun.compose.resolve import name_choices, name_machine
    from tlrun.data.domain import load_pair
    from tlrun.evidence import spaces

    named, device = name_machine(name_choices(config))
    # A strategy that reads no target label has its grant taken back; the joint error may read what was granted.
    data = named.data.model_copy(update={"target_labels": config.data.target_labels})
    pair = load_pair(data, seed=named.seed, device=device)
    split: SplitName = asked.split or "train"
    parts = spaces.choose_parts(pair, split, rows=asked.rows, with_labels=False)
    found = [spaces.raw_inputs(pair, parts)]
    if any(text.lstrip("+").partition("=")[0].partition(".")[0] == "model" for text in overrides):
        found.append(spaces.start(named, pair, parts, device))
    return _content(data.name, split, found, labels="granted")


def _of_run(path: Path, asked: Any) -> dict[str, Any]:
    """Raw inputs, the features that the run began with, and those that it ended with."""
    from tlrun.evidence import spaces
    from tlrun.report.collect import read_run
    from tlrun.run import RunFolder
    from tlrun.trained import load_run_pair, load_trained

    if not path.is_dir():
        raise ConfigError(f"tlrun distance: {path} is no run folder, and no setting (KEY=VALUE) either")
    folder = RunFolder(path)
    if not folder.status.exists():
        held = "it holds run folders, name one of them" if any(path.glob("*/status.json")) else "it has no status.json"
        raise ConfigError(f"tlrun distance: {path} is no run folder: {held}")
    run = read_run(folder)
    _check_two_domains(run.config["data"].get("source"))
    import torch

    trained = load_trained(folder)
    pair = load_run_pair(folder, trained.config)
    split: SplitName = asked.split or "test"
    parts = spaces.choose_parts(pair, split, rows=asked.rows, with_labels=split != "train")
    found = [spaces.raw_inputs(pair, parts)]
    try:
        found.append(spaces.start(trained.config, pair, parts, torch.device("cpu")))
    except ConfigError as error:
        print(f"no features of the start: {error}", file=sys.stderr)
    found.append(spaces.selected(trained.evaluator, parts))
    return _content(trained.config.data.name, split, found, labels="granted" if split == "train" else "withheld")


def _check_two_domains(source: object) -> None:
    if source is None:
        raise ConfigError("data.source: a distance needs two domains, got null; name the source too")


def _content(pair: str, split: str, found: Sequence[Space], *, labels: str) -> dict[str, Any]:
    """Everything that is measured, as plain values. labels: how target labels, if any, came to be read."""
    return {
        "format": FORMAT,
        "pair": pair,
        "split": split,
        "rows": len(found[0].source.x),
        "spaces": [_measured(space, labels) for space in found],
    }


def _measured(space: Space, labels: str) -> dict[str, Any]:
    from dataclasses import asdict

    from tlrun.metrics.distance import measure

    distances = {name: asdict(each) for name, each in measure(space.source.x, space.target.x).items()}
    return {
        "name": space.name,
        "features": space.source.x.shape[1],
        "distances": distances,
        "terms": _terms(space, labels) | {"divergence": distances["a_distance_linear"]["value"]},
        "rules_of_thumb": rules_of_thumb({name: each["value"] for name, each in distances.items()}),
    }


def _terms(space: Space, labels: str) -> dict[str, Any]:
    """Source error and joint error, each with where it comes from; None where labels are missing."""
    from tlrun.metrics.bound import FOLDS, probe_errors

    def known(side: Side | None) -> tuple[Any, Any] | None:
        if side is None or side.y is None or (side.y >= 0).sum() < FOLDS:
            return None
        return side.x[side.y >= 0], side.y[side.y >= 0]

    source, target = known(space.source), known(space.granted)
    own = space.source.error
    error = own if own is not None or source is None else probe_errors([source])[0]
    joint = None if source is None or target is None else probe_errors([source, target])
    return {
        "source_error": error,
        "source_error_of": "the model's head" if own is not None else "a linear probe, cross-validated",
        "joint_error": None if joint is None else sum(joint),
        "joint_error_rows": 0 if target is None else len(target[1]),
        "joint_error_labels": None if joint is None else labels,
    }


def rules_of_thumb(values: dict[str, float | None]) -> list[str]:
    """What the field's rules of thumb say of these distances, each named as one, with where it comes from."""
    said = []
    for name, called in (("a_distance_linear", "A-distance"), ("mmd", "MMD")):
        value = values.get(name)
        if value is not None and value > UNLIKELY:
            said.append(
                f"{THUMB}: {called} {value:.2f} is above {UNLIKELY}, transfer is unlikely to work without adaptation"
            )
    discrepancy = values.get("mmd")
    if discrepancy is not None and discrepancy < LIKELY:
        said.append(f"{THUMB}: MMD {discrepancy:.2f} is below {LIKELY}, transfer is likely to work")
    return said


def lines(content: dict[str, Any]) -> Iterator[str]:
    """The distances for a terminal: a line a distance, for each space its value and the seconds that it took."""
    from tlrun.metrics.distance import DISTANCES

    found = content["spaces"]
    yield f"{content['pair']}: {content['rows']} {content['split']} rows of each domain"
    for space in found:
        yield f"  {space['name']}: {space['features']} numbers a row"
    yield ""
    widths = [max(18, len(space["name"]) + 2) for space in found]
    left = max(map(len, DISTANCES.values())) + 2
    yield " " * left + "".join(f"{space['name']:>{width}}{'s':>7}" for space, width in zip(found, widths, strict=True))
    for name, called in DISTANCES.items():
        cells = [
            f"{_figure(space['distances'][name]):>{width}}{space['distances'][name]['seconds']:>7.1f}"
            for space, width in zip(found, widths, strict=True)
        ]
        yield f"{called:<{left}}{''.join(cells)}"
    yield ""
    yield "the terms of the bound: target error <= source error + divergence / 2 + joint error"
    for space in found:
        yield from _term_lines(space)
    for space in found:
        yield from (f"{space['name']}: {text}" for text in space["rules_of_thumb"])
    yield ""
    yield from NOTES


def _term_lines(space: dict[str, Any]) -> Iterator[str]:
    terms = space["terms"]
    yield f"  {space['name']}"
    error = terms["source_error"]
    yield "    source error  " + (
        "no source label is known" if error is None else f"{error:.4f}  of {terms['source_error_of']}"
    )
    yield f"    divergence    {terms['divergence']:.4f}  proxy A-distance, linear: an estimate, from below where a linear classifier misses a difference"
    if terms["joint_error"] is None:
        yield "    joint error   not known: no target label may be read (data.target_labels=N grants some)"
    else:
        yield (
            f"    joint error   {terms['joint_error']:.4f}  estimate: a linear probe trained on both domains, "
            f"with {terms['joint_error_rows']} {terms['joint_error_labels']} target labels"
        )


def _figure(measurement: dict[str, Any]) -> str:
    value, p_value = measurement["value"], measurement["p_value"]
    if value is None:
        return "-"
    return f"{value:.4g}" + ("" if p_value is None else f" (p {p_value:.3f})")
