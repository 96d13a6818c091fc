"""`tlrun rank models=A,B,C | sources=A,B,C [KEY=VALUE ...]`: what to start from, told before training from a few labels."""

from __future__ import annotations

import argparse
import csv
import io
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun.config import ConfigError
from tlrun.config.error_text import unknown
from tlrun.metrics.transferability import SCORES
from tlrun.report.named_file import named_file
from tlrun.verbs import Parser, at_least_one, output_file

if TYPE_CHECKING:
    from tlrun.evidence.ranking import Candidate, Scored

FORMAT = 1
AXES = {"models": "model", "sources": "domain@data.source"}
"""What is ranked -> the choice that tells one candidate from another."""
UNUSED = "domain@data.source=digits"
"""A pair must have a source; candidates that are run folders bring their own, and this one is never read."""

EPILOG = """\
models=    which model to start from: each with the weights that a fine_tune run would start from, ImageNet's where it
           has such, else a source model (model.weights=... says it for all of them)
sources=   which source to start from: each is the source model of a run on that pair, found, or trained now, as for
           model.weights=source
In either list a path with a slash is a finished run folder, whose classes may be others than the target's.

  tlrun rank models=resnet18,efficientnet_lite0 data=office31_amazon_webcam data.target_labels=3
  tlrun rank sources=mnist,mnistm,./outputs/RUN domain@data.target=usps data.target_labels=10 model=lenet

Scores, larger is better; all but k-NN judge the rows that they are computed from:
logme     evidence of a linear model on the features (You et al. 2021)
leep      likelihood of the labels given the probabilities of the source's classes (Nguyen et al. 2020)
nce       the same, given the source class that is assigned (Tran et al. 2019)
h_score   variance between classes, with a shrunk covariance (Bao et al. 2019, Ibrahim et al. 2022)
knn       accuracy of the nearest neighbours' vote, one row left out at a time

Every score reads target labels: those of train rows that data.target_labels=N|all grants, at most --rows of them, and
no others. Without any, `tlrun distance` compares source and target in a model's features. LEEP and NCE need a trained
head. Settings are those of a run; strategy=fine_tune and, with sources=, data=pair stand where none is named.
"""

NO_LABELS = (
    "rank: data.target_labels: every score reads target labels and none are granted; set it to a number per class, or to "
    "all; without labels, tlrun distance says how far source and target lie apart in a model's features"
)


@dataclass(frozen=True)
class Asked:
    """The command: what is ranked, its candidates, and the settings of every run."""

    axis: str
    names: tuple[str, ...]
    overrides: tuple[str, ...]
    options: argparse.Namespace

    @property
    def named(self) -> list[str]:
        """Those that are choices; the others are paths."""
        return [name for name in self.names if "/" not in name]


def main(arguments: list[str]) -> int:
    """Prints the table. Raises ConfigError where the command, a setting or the data is wrong, RunError as a run does."""
    asked = _asked(arguments)
    candidates, commands = _candidates(asked)
    content = _content(asked, candidates, commands, shlex.join(["tlrun", "rank", *arguments]))
    shown = "\n".join(lines(content))
    for place, text in ((asked.options.csv, _csv(content)), (asked.options.json, _json(content))):
        if place == "-":
            shown = text
        elif place is not None:
            with named_file(Path(place)) as put:
                put(f"{text}\n".encode())
    print(shown)
    return 0


def _asked(arguments: list[str]) -> Asked:
    parser = Parser("rank", "models=A,B,C | sources=A,B,C [KEY=VALUE ...] [options]", EPILOG)
    parser.add_argument(
        "--by", choices=tuple(SCORES), default="logme", metavar="SCORE", help="what orders the table (logme)"
    )
    parser.add_argument("--rows", type=at_least_one, default=1000, metavar="N", help="at most so many rows (1000)")
    parser.add_argument(
        "--csv", type=output_file, metavar="FILE", help="the table as CSV; - prints it in place of the table"
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="everything as JSON; - prints it in place of the table"
    )
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    options, rest = parser.parse_with_settings(arguments)
    if options.csv == options.json == "-":
        raise ConfigError("rank: --csv and --json cannot both go to standard output")
    given = {text.partition("=")[0]: text.partition("=")[2] for text in rest if text.partition("=")[0] in AXES}
    overrides = tuple(text for text in rest if text.partition("=")[0] not in AXES)
    if bare := [text for text in overrides if "=" not in text and not text.startswith("~")]:
        raise ConfigError(f"rank: {bare[0]}: is no setting (KEY=VALUE){unknown(bare[0], AXES)}")
    if len(given) != 1:
        found = " and ".join(given) or "neither"
        raise ConfigError(f"rank: name what to choose from, models=A,B,C or sources=A,B,C, one of the two; got {found}")
    ((axis, text),) = given.items()
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"rank: {axis}={text}: must be names or paths with commas between them, each once")
    if twice := [each for each in overrides if each.startswith(f"{AXES[axis]}=")]:
        raise ConfigError(f"rank: {twice[0]}: {axis}= chooses it; leave it out")
    return Asked(axis, names, overrides, options)


def _candidates(asked: Asked) -> tuple[list[Candidate], dict[str, str]]:
    """Every candidate, typed and cross-checked, and the command of a run that starts from it, of those that are named."""
    from tlrun.compose.plan import Request, plan
    from tlrun.evidence.ranking import Candidate

    overrides = _with_defaults(asked)
    sweep = [f"{AXES[asked.axis]}={','.join(asked.named)}"] if asked.named else []
    try:
        jobs = plan(Request((*overrides, *sweep), multirun=bool(sweep), config_dir=asked.options.config_dir)).here
    except ConfigError as error:
        # What the strategy would say of it is not all that there is to say here.
        told = (NO_LABELS if each.startswith("data.target_labels: strategy ") else each for each in error.problems)
        raise ConfigError(dict.fromkeys(told)) from error
    if len(jobs) != max(len(asked.named), 1):
        raise ConfigError("rank: takes one value of every setting, and neither a launcher nor a sweeper of Hydra")
    if any(job.settings.data.target_labels == "none" for job in jobs):
        raise ConfigError(NO_LABELS)
    of_name = dict(zip(asked.named, jobs, strict=False))
    return (
        [
            Candidate(name, of_name[name].settings)
            if name in of_name
            else Candidate(name, jobs[0].settings, Path(name))
            for name in asked.names
        ],
        {name: shlex.join(["tlrun", *job.overrides]) for name, job in of_name.items()},
    )


def _with_defaults(asked: Asked) -> tuple[str, ...]:
    """The overrides behind what stands where nothing is named; an experiment names it all."""
    named = {text.partition("=")[0] for text in asked.overrides}
    before = [] if {"strategy", "experiment"} & named else ["strategy=fine_tune"]
    if asked.axis == "sources" and not {"data", "experiment"} & named:
        before += ["data=pair", *([] if asked.named else [UNUSED])]
    return (*before, *asked.overrides)


def _content(asked: Asked, candidates: Sequence[Candidate], commands: dict[str, str], command: str) -> dict[str, Any]:
    """Everything that is measured, as plain values, in the order of the score that was asked for."""
    from tlrun.evidence import ranking

    _check(asked, candidates)
    # Those that are there come first, so that what is wrong with one is told before another is trained.
    there_first = sorted(candidates, key=lambda each: not ranking.is_trained(each))
    found = {each.name: _measured(each, asked.options.rows, command) for each in there_first}
    scores = {each.name: found[each.name].scores for each in candidates}
    by, first, y = asked.options.by, ranking.firsts(scores), found[candidates[0].name].rows.y
    if by not in first:
        raise ConfigError(f"rank: --by {by}: needs a trained head, and no candidate has one; leave it out, or take knn")
    places = {name: ranking.places({key: each[name].value for key, each in scores.items()}) for name in SCORES}
    config = candidates[0].config
    return {
        "format": FORMAT,
        "ranked": asked.axis,
        "by": by,
        "target": config.data.target.called,
        "target_labels": config.data.target_labels,
        "seed": config.seed,
        "rows": len(y),
        "classes": len(set(y.tolist())),
        "first": first,
        "candidates": [
            _plain(found[name], {score: places[score][name] for score in SCORES}) | {"command": commands.get(name)}
            for name in ranking.ordered({name: each[by].value for name, each in scores.items()})
        ],
    }


def _measured(candidate: Candidate, most: int, command: str) -> Scored:
    """One candidate's scores, its source model trained first where it has to be, with a bar on a terminal."""
    from tqdm import tqdm

    from tlrun.evidence import ranking

    start = ranking.find_start(candidate, command=command, tell=lambda text: print(text, file=sys.stderr))
    with tqdm(disable=None, leave=False, file=sys.stderr, unit=" rows", desc=f"encoding for {start.name}") as bar:

        def show(_: str, done: int, count: int) -> None:
            bar.total = count
            bar.update(done - bar.n)

        return ranking.score(start, most=most, between_blocks=show)


def _plain(scored: Scored, places: dict[str, int | None]) -> dict[str, Any]:
    start = scored.start
    return {
        "name": start.name,
        "start": start.origin,
        "features": scored.rows.features.shape[1],
        "encode_seconds": scored.rows.seconds,
        "source_model_seconds": start.train_seconds,
        "source_model_trained_now": start.trained_now,
        "no_head": start.no_head,
        "notes": list(start.notes),
        "scores": {
            name: {"value": each.value, "rank": places[name], "seconds": each.seconds}
            for name, each in scored.scores.items()
        },
    }


def _check(asked: Asked, candidates: Sequence[Candidate]) -> None:
    """Tells what is wrong before a source model is trained. Raises ConfigError."""
    from tlrun.compose.plan import located
    from tlrun.evidence import ranking
    from tlrun.rehearsal import rehearse

    ranking.check_labels(candidates[0], most=asked.options.rows)
    if all(ranking.is_trained(each) for each in candidates):
        return
    named = [each for each in candidates if each.path is None]
    problems: dict[str, list[str]] = {}
    for candidate, told in zip(named, rehearse([each.config for each in named]), strict=True):
        for problem in told:
            problems.setdefault(problem, []).append(candidate.name)
    if problems:
        raise ConfigError(located(problems, len(named)))


def lines(content: dict[str, Any]) -> Iterator[str]:
    """The table for a terminal, what its scores say together, and what it took."""
    found, by = content["candidates"], content["by"]
    yield (
        f"{content['target']}: {content['rows']} labelled train rows of {content['classes']} classes "
        f"(data.target_labels={content['target_labels']}, seed {content['seed']}); larger is better, # is the place"
    )
    yield ""
    left = max(12, *(len(each["name"]) + 2 for each in found))
    yield f"{content['ranked'][:-1]:<{left}}" + "".join(f"{SCORES[name]:>9}  #" for name in SCORES) + "  start"
    for each in found:
        yield f"{each['name']:<{left}}" + "".join(_cell(each["scores"][name]) for name in SCORES) + f"  {each['start']}"
    yield ""
    yield (
        f"{'seconds':<{left}}"
        + "".join(f"{SCORES[name]:>9}   " for name in SCORES)
        + f"{'encoding':>10}{'source model':>14}"
    )
    for each in found:
        cells = "".join(f"{each['scores'][name]['seconds']:>9.3f}   " for name in SCORES)
        yield f"{each['name']:<{left}}{cells}{each['encode_seconds']:>10.2f}{_training(each):>14}"
    yield ""
    yield from _said(content)
    yield f"ordered by {SCORES[by]}"
    if found[0]["command"]:
        yield f"to start from the first: {found[0]['command']}"


def _said(content: dict[str, Any]) -> Iterator[str]:
    """What the scores say together, and what a reader should know of them."""
    by_candidate: dict[tuple[str, ...], list[str]] = {}
    for name, first in content["first"].items():
        by_candidate.setdefault(tuple(first), []).append(SCORES[name])
    if len(content["candidates"]) > 1:
        each = [f"{', '.join(scores)}: {' = '.join(first)}" for first, scores in by_candidate.items()]
        agree = len(by_candidate) == 1
        yield (
            f"all scores put first: {each[0].partition(': ')[2]}"
            if agree
            else f"scores disagree about the first: {'; '.join(each)}"
        )
    for each in content["candidates"]:
        if each["no_head"]:
            yield f"LEEP and NCE of {each['name']} are blank: {each['no_head']}"
        yield from (f"note: {note}" for note in each["notes"])


def _cell(score: dict[str, Any]) -> str:
    value, place = score["value"], score["rank"]
    return f"{'-':>9}   " if value is None else f"{value:>9.4f}{place:>3}"


def _training(each: dict[str, Any]) -> str:
    if each["source_model_seconds"] is None:
        return "-"
    return f"{each['source_model_seconds']:.1f}{'' if each['source_model_trained_now'] else ' (found)'}"


def _csv(content: dict[str, Any]) -> str:
    """A row a candidate: its scores with place and seconds."""
    rows = []
    for each in content["candidates"]:
        plain = ("name", "start", "features", "encode_seconds", "source_model_seconds", "source_model_trained_now")
        row = {"target": content["target"], "rows": content["rows"]} | {key: each[key] for key in plain}
        for name, score in each["scores"].items():
            row |= {name: score["value"], f"{name}_rank": score["rank"], f"{name}_seconds": score["seconds"]}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip()


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False)
