"""`tlrun advise KEY=VALUE ...`: which strategies are worth trying on a pair, why, what they would cost, with the commands."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tlrun.config import ConfigError
from tlrun.evidence.findings import LIKELY, UNLIKELY
from tlrun.verbs import Parser, output_file, tell

if TYPE_CHECKING:
    from tlrun.config import ExperimentConfig
    from tlrun.data.domain import DomainPair
    from tlrun.evidence.advice import Recommendation

FORMAT = 1
LEAST_ROWS = 10
WIDTH = 110

EPILOG = """\
  tlrun advise data=mnist_usps data.target_labels=10
  tlrun advise data=folders data.source.root=FOLDER data.target.root=FOLDER model=resnet18
  tlrun advise data=mnist_mnistm --quick --json advice.json

Settings are those of a run, without a strategy. Measured are sizes, granted labels, the distance of the domains (MMD,
proxy A-distance) and what quick probes lose from one to the other, in the inputs, and in the model's features where it
has ImageNet weights or its source model is trained. Rows are taken by a hash of their numbers. Withheld labels of the
target are never read. Each strategy's cost is measured: a few of its steps here, times those of the run.

What is advised follows rules of thumb, each named. They are no evidence; tlrun compare is.
"""

RULES_ONLY = (
    "All of this is by rules of thumb from a few rows, not evidence. What holds on this pair, a comparison shows:"
)
NOT_EVIDENCE = "All of this is by rules of thumb from a few rows, not evidence."


def main(arguments: list[str]) -> int:
    """Prints the advice. Raises ConfigError where the command, a setting or the data is wrong, RunError as a run does."""
    parser = Parser("advise", "KEY=VALUE ...  [options]", EPILOG)
    parser.add_argument("--rows", type=int, default=500, metavar="N", help="measure N rows of each domain (500)")
    parser.add_argument("--quick", action="store_true", help="leave out what it would cost: time no step")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="everything as JSON; - prints it in place of the page"
    )
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    asked, rest = parser.parse_with_settings(arguments)
    if asked.rows < LEAST_ROWS:
        raise ConfigError(f"tlrun advise: --rows: must be at least {LEAST_ROWS}, got {asked.rows}")
    if chosen := [text for text in rest if _key(text).partition(".")[0] in ("strategy", "experiment")]:
        raise ConfigError(f"tlrun advise: {' '.join(chosen)}: which strategy to take is the question; leave it out")
    content = _content(rest, asked)
    tell(lines(content), content, asked.json)
    return 0


def _content(overrides: Sequence[str], asked: Any) -> dict[str, Any]:
    """Everything that was found and is advised, as plain values."""
    from tlrun.data.domain import load_pair
    from tlrun.evidence.advice import advise
    from tlrun.evidence.probing import find, named_for_probing, start_of

    config = _settings(overrides, asked.config_dir)
    start = start_of(config)
    named, device = named_for_probing(config)
    pair = load_pair(named.data, seed=named.seed, device=device)
    found = find(named, pair, device, start=start, rows=asked.rows)
    advice = advise(found)
    origin = [f"--config-dir={asked.config_dir}"] if asked.config_dir else []
    tried = [_tried(each, overrides, origin, None if asked.quick else pair) for each in advice.recommendations]
    possible = [each for each in tried if "problem" not in each]
    return {
        "format": FORMAT,
        "pair": named.data.name,
        "model": config.model.name.rpartition(".")[2],
        "findings": asdict(found),
        "size": found.size,
        "closeness": found.closeness,
        "domains": {role: pair.card[role] and pair.card[role]["name"] for role in ("source", "target")},
        "situation": advice.situation,
        "recommendations": possible,
        "avoided": [*_impossible(tried), *(asdict(each) for each in advice.avoided)],
        "notes": [*advice.notes, *([] if asked.quick else _busy())],
        "compare": comparisons([(each["strategy"], tuple(each["settings"])) for each in possible], overrides, origin),
    }


def _settings(overrides: Sequence[str], config_dir: str | None) -> ExperimentConfig:
    """The settings with a strategy that needs nothing beyond the domains there are, typed; none is trained."""
    from tlrun.build import typed
    from tlrun.compose.plan import Request, composed

    for strategy in ("source_only", "scratch"):
        config = typed(composed(Request((*overrides, f"strategy={strategy}"), config_dir=config_dir)))
        if config.data.source is not None:
            break
    return config


def _tried(
    recommendation: Recommendation, overrides: Sequence[str], origin: Sequence[str], pair: DomainPair | None
) -> dict[str, Any]:
    """A recommendation as plain values, with its command and, given the pair, its cost; or what makes it impossible."""
    from tlrun.compose.plan import Request, settings

    words = command(recommendation, overrides)
    content = {**asdict(recommendation), "command": shlex.join(["tlrun", *origin, *words])}
    config_dir = origin[0].partition("=")[2] if origin else None
    try:
        config = settings(Request(tuple(words), config_dir=config_dir))
        content["epochs"] = config.engine.epochs
        return content | (_cost(config, pair) if pair is not None else {})
    except ConfigError as error:
        return content | {"problem": error.problems[0]}


def _cost(config: ExperimentConfig, pair: DomainPair) -> dict[str, Any]:
    """Seconds that the run and the source model which it waits for would take here; the folder where it is done."""
    from tlrun.evidence.probing import finished, run_pace

    if (folder := finished(config)) is not None:
        return {"done": str(folder)}
    own, source = run_pace(config, pair)
    return {
        "seconds": own.total,
        "of_it_encoding_seconds": own.encoding,
        "source_model_seconds": source.total if source else None,
    }


def _busy() -> Iterator[str]:
    """That what was timed was timed beside other work, where it was; not told by every system."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = os.cpu_count() or 1
    if load > cores:
        yield f"the machine is busy (load {load:.0f} on {cores} cores), and the costs are those of now: alone a run is quicker"


def _impossible(tried: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in tried:
        if "problem" in each:
            yield {
                "strategies": (each["strategy"],),
                "reason": f"advised, but not possible with these settings: {each['problem']}",
            }


def command(recommendation: Recommendation, overrides: Sequence[str]) -> list[str]:
    """The words of the run that is recommended, behind `tlrun`; scratch starts from no weights, whichever were named."""
    named = overrides
    if recommendation.strategy == "scratch":
        named = [text for text in overrides if _key(text) != "model.weights"]
    return [f"strategy={recommendation.strategy}", *_replacing(recommendation.settings, named)]


def comparisons(
    tried: Sequence[tuple[str, tuple[str, ...]]], overrides: Sequence[str], origin: Sequence[str]
) -> list[str]:
    """The commands that compare strategies, each with its settings: one for those whose settings are the same.

    What a comparison adds by itself, floor and `scratch`, is not named.
    """
    kept = [text for text in overrides if _key(text) != "seed"]
    groups: dict[tuple[str, ...], list[str]] = {}
    for strategy, own in tried:
        if strategy not in ("source_only", "scratch"):
            groups.setdefault(own, []).append(strategy)
    return [
        shlex.join(["tlrun", "compare", *origin, f"strategy={','.join(names)}", *_replacing(own, kept), "seeds=3"])
        for own, names in groups.items()
    ]


def _replacing(own: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """These settings, and the overrides that they do not replace."""
    replaced = {_key(text) for text in own}
    return [*own, *(text for text in overrides if _key(text) not in replaced)]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def lines(content: dict[str, Any]) -> Iterator[str]:
    """The page for a terminal."""
    yield f"{content['pair']}, {content['model']}"
    yield ""
    yield "found"
    yield from _found_lines(content)
    yield ""
    recommended = content["recommendations"]
    yield "try, in this order" if recommended else "there is nothing to try"
    if recommended:
        yield from _wrapped(_sentence(content["situation"]))
        yield ""
    for number, each in enumerate(recommended, start=1):
        yield from _recommendation_lines(number, each, content["situation"])
    if content["avoided"]:
        yield "do not bother with"
        for each in content["avoided"]:
            yield from _wrapped(f"{', '.join(each['strategies'])}: {each['reason']}")
        yield ""
    if content["notes"]:
        yield "note"
        for note in content["notes"]:
            yield from _wrapped(note)
        yield ""
    yield RULES_ONLY if content["compare"] else NOT_EVIDENCE
    if len(content["compare"]) > 1:
        yield "(What these have in common runs once; tlrun report then shows all runs together.)"
    yield from (f"  {text}" for text in content["compare"])


def _found_lines(content: dict[str, Any]) -> Iterator[str]:
    found = content["findings"]
    if content["domains"]["source"]:
        yield f"  source      {content['domains']['source']}, {found['source_rows']:,} training rows, {found['classes']} classes"
    else:
        yield "  source      none"
    granted = f"{found['granted']:,} labels granted" if found["granted"] else "no label granted"
    yield f"  target      {content['domains']['target']}, {found['target_rows']:,} training rows, {granted}"
    starts = {
        "imagenet": "ImageNet weights",
        "given": "the weights that were given",
        "source": "a model trained on the source (this network has no ImageNet weights)",
        "random": "random weights, as model.weights=random asks",
        "nowhere": "nothing: no ImageNet weights, no source",
    }
    yield f"  to start from   {starts[found['start']]}"
    for space in found["spaces"]:
        yield f"  in {'the ' if space['name'] == 'inputs' else ''}{space['name']}"
        yield f"    MMD {space['mmd']:.2f}, A-distance {space['a_distance']:.2f}"
        yield from (f"    {line}" for line in _probe_lines(space, found))
    if found["spaces"]:
        yield f"  (rule of thumb: MMD below {LIKELY}, transfer is likely to work; it or A-distance above {UNLIKELY}, unlikely)"
    how = {"between": "in between", "unknown": "not measured"}.get(content["closeness"], content["closeness"])
    size = {"none": "without labels"}.get(content["size"], content["size"])
    yield f"  read as     target {size}; domains {how}"


def _probe_lines(space: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    if space["source_accuracy"] is None:
        return
    said = f"linear probe of the source: {_percent(space['source_accuracy'])} on source rows"
    if space["target_accuracy"] is not None:
        said += f", {_percent(space['target_accuracy'])} on {found['granted']:,} granted target rows"
    yield said
    if space["granted_accuracy"] is not None:
        yield f"linear probe of the granted rows alone: {_percent(space['granted_accuracy'])}, cross-validated"
    source, target = _percent(space["source_agreement"]), _percent(space["target_agreement"])
    yield f"it and the nearest class mean agree on {source} of source rows, {target} of target rows"


def _recommendation_lines(number: int, each: dict[str, Any], situation: str) -> Iterator[str]:
    """One recommendation; the situation, which all have in common, stands above them."""
    settings = f" ({' '.join(each['settings'])})" if each["settings"] else ""
    yield f"  {number}. {each['strategy']}{settings}"
    why = each["reason"].removeprefix(f"{situation}: ")
    yield from _wrapped(_sentence(why), indent="     ")
    yield from _wrapped(f"Rule of thumb: {each['rule']}.", indent="     ")
    if "done" in each:
        yield f"     Done already: {each['done']}."
    elif "seconds" in each:
        yield f"     Cost: {_cost_text(each)}."
    yield f"     {each['command']}"
    yield ""


def _cost_text(each: dict[str, Any]) -> str:
    from tlrun.evidence.estimate import told

    said = f"about {told(each['seconds'])} for {each['epochs']} epochs on this machine"
    if each["of_it_encoding_seconds"] > each["seconds"] / 10:
        said += f", {told(each['of_it_encoding_seconds'])} of it to encode the rows once, which is kept"
    source = each["source_model_seconds"]
    return said + (f", and {told(source)} for the source model, once" if source is not None else "")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
