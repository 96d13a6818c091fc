"""`tlrun data show|check|prepare|cache [KEY=VALUE ...]`: the data that a run with these settings would read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tlrun.compose.inputs import run_card
from tlrun.compose.plan import Request, settings
from tlrun.compose.resolve import name_images
from tlrun.config import ExperimentConfig
from tlrun.verbs import Parser, output_file

NO_LABEL = "no label"

EPILOG = """\
show     the data card: counts per class and split, sizes, statistics, origin, labels granted; and a picture of both
         domains, as they came and as training sees them
check    what is wrong with the data: files that give no image, classes without rows or on one side alone, copies
         inside and across splits and domains, tiny images and such of one value, imbalance; exit code 1 where results
         would mislead
prepare  makes, fetches (with data.download=true) and caches all that a run needs, and says where it is from
cache    what lies in the cache (data.cache_root, TLRUN_CACHE): size, age since last use, what for; --clear removes all
         that was made, --clear NAME what has that name, whole or without its digest; it asks nothing, since all can be
         made or fetched again. Above data.cache_gigabytes a run lets go of what was used longest ago

  tlrun data show data=mnist_mnistm
  tlrun data check data=pair domain@data.source=mnist domain@data.target=usps
  tlrun data cache --clear encoded
"""


EVERYTHING = ""
"""What `--clear` alone stands for."""


def main(arguments: list[str]) -> int:
    """Raises ConfigError where the command, a setting or the data is wrong."""
    parser = Parser("data", "show|check|prepare|cache [KEY=VALUE ...]", EPILOG)
    parser.add_argument("what", choices=("show", "check", "prepare", "cache"))
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="your own YAML beside ours")
    parser.add_argument("--json", action="store_true", help="show: the card alone, as a run folder's data.json")
    parser.add_argument(
        "--picture", type=output_file, metavar="FILE", help="show: where the picture goes (data_<pair>.png)"
    )
    parser.add_argument("--no-picture", action="store_true", help="show: no picture")
    parser.add_argument("--clear", nargs="?", const=EVERYTHING, metavar="NAME", help="cache: remove it, or all of it")
    asked, rest = parser.parse_known_intermixed_args(arguments)
    if asked.clear is not None and asked.what != "cache":
        parser.error("--clear belongs to tlrun data cache")
    if asked.clear is not None and "=" in asked.clear:  # a setting, which follows a --clear without a name
        rest, asked.clear = [asked.clear, *rest], EVERYTHING
    config = settings(Request(tuple(rest), config_dir=asked.config_dir))
    if asked.what == "cache":
        return _cache(config, asked.clear)
    config = name_images(config)
    if asked.what == "show":
        picture = None if asked.no_picture or asked.json else Path(asked.picture or f"data_{config.data.name}.png")
        return _show(config, json_only=asked.json, picture=picture)
    return {"check": _check, "prepare": _prepare}[asked.what](config)


def _show(config: ExperimentConfig, *, json_only: bool, picture: Path | None) -> int:
    from tlrun.compose.resolve import name_choices
    from tlrun.data.preview import preview

    config = name_choices(config)
    pair, previews = preview(config, per_class=8)
    card = run_card(config, pair.card)
    if json_only:
        print(json.dumps(card, indent=2))
        return 0
    print("\n".join(card_lines(card)))
    if picture is not None:
        from tlrun.report.preview_picture import draw

        if draw(previews, picture):
            print(f"\npicture: {picture}")
        else:
            print("no picture: the rows are features of more than two dimensions", file=sys.stderr)
    return 0


def _check(config: ExperimentConfig) -> int:
    from tlrun.data.domain import split_pair
    from tlrun.data.faults import find_faults

    data = config.data.model_copy(update={"cache": "none"})  # each file itself is looked at
    everything = split_pair(data, keep_bad=True)
    used = split_pair(data) if data.on_bad_image == "skip" else everything
    found = find_faults(used, config.data.label_sets, with_bad=everything)
    for fault in found:
        named = fault.files or fault.rows
        more = " ..." if fault.more else ""
        rows = f" ({'files' if fault.files else 'rows'} {', '.join(map(str, named))}{more})" if named else ""
        print(f"{fault.weight}: {fault.where}: {fault.what}{rows}")
    problems = sum(fault.weight == "problem" for fault in found)
    print(f"{config.data.name}: {problems} problems, {len(found) - problems} notes")
    return 1 if problems else 0


def _prepare(config: ExperimentConfig) -> int:
    from tlrun.data.domain import find_places, split_pair

    for role, domain in split_pair(config.data).items():
        rows = ", ".join(f"{len(split):,} {name}" for name, split in domain.splits.items())
        print(f"{role}: {domain.name}: {rows}\n  {domain.origin}")
    print(f"cache: {find_places(config.data).cache}")
    return 0


def _cache(config: ExperimentConfig, clear: str | None) -> int:
    from tlrun.data.cache import housekeeping
    from tlrun.data.domain import find_places

    cache = find_places(config.data).cache
    if clear is not None:
        gone = housekeeping.clear(cache, clear or None)
        for entry in gone:
            print(f"removed {entry.name}")
        print(f"{cache}: removed {len(gone)} entries, {_gigabytes(sum(entry.size for entry in gone))}")
        return 0
    found = housekeeping.entries(cache)
    width = max((len(entry.name) for entry in found), default=0)
    for entry in found:
        state = "" if entry.state in ("whole", "fetched") else f" ({entry.state})"
        print(f"{entry.name:<{width}}  {_gigabytes(entry.size):>9}  {_age(entry.used):>8}  {entry.about}{state}")
    limit = config.data.cache_gigabytes
    bound = "no limit" if limit is None else f"kept below {limit:g} GB"
    print(f"{cache}: {len(found)} entries, {_gigabytes(sum(entry.size for entry in found))}; {bound}")
    return 0


def _gigabytes(size: int) -> str:
    return f"{size / 10**9:.2f} GB" if size >= 10**8 else f"{size / 10**6:.2f} MB"


def _age(used: float) -> str:
    """Time since then, in the largest unit that it fills twice."""
    seconds = max(time.time() - used, 0.0)
    units = (("days", 86400), ("h", 3600), ("min", 60))
    return next((f"{seconds / size:.0f} {unit}" for unit, size in units if seconds >= 2 * size), f"{seconds:.0f} s")


def card_lines(card: Mapping[str, Any]) -> Iterable[str]:
    """The data card for a terminal, the two domains below each other and their classes side by side."""
    shape = " x ".join(map(str, card["input_shape"]))
    yield f"{card['pair']}: {len(card['classes'])} classes, inputs {shape}, normalised {card['normalize'].replace('_', ' ')}"
    yield f"fingerprint {card['fingerprint'][:16]}"
    yield from card.get("departures_from_model_input", ())
    if card["protocol"] != "split":
        yield f"protocol {card['protocol']}: {card['protocol_means']}"
    for role in ("source", "target"):
        domain = card[role]
        if domain is None:
            continue
        yield ""
        yield f"{role}: {domain['name']}"
        yield f"  {domain['origin']}"
        yield from (f"  {note}" for note in domain["notes"])
        before = domain["shape_before"]
        came = f"rows {' x '.join(map(str, before))} as they came" if before else "rows are image files"
        yield f"  {came}; {domain['fitting']}"
        yield f"  test split: {domain['test_split']}; val split: {domain['val_split']}"
        for name, mean, std in (
            ("of train rows", "train_mean", "train_std"),
            ("normalised by", "normalized_by_mean", "normalized_by_std"),
        ):
            yield f"  {name:<13}  mean {_figures(domain[mean])}  std {_figures(domain[std])}"
        used = domain["labels_used"]
        yield f"  labels that training sees: {used['training']:,}; that selection sees: {used['selection']:,}"
        if wrong := {name: count for name, count in domain["labels_made_wrong"].items() if count}:
            yield "  labels made wrong: " + ", ".join(f"{count:,} {name}" for name, count in wrong.items())
    yield ""
    yield from _class_table(card)


def _class_table(card: Mapping[str, Any]) -> Iterable[str]:
    """Rows of each class in each split of both domains, and their sums."""
    roles = [role for role in ("source", "target") if card[role]]
    columns = [(role, split) for role in roles for split in card[role]["rows"]]
    names = list(dict.fromkeys([*card["classes"], *card["classes_of_target_alone"]]))
    width = max(len(NO_LABEL), *(len(name) for name in names))
    yield f"{'class':<{width}}" + "".join(f"{f'{role} {split}':>14}" for role, split in columns)
    for name in names:
        counts = (card[role]["rows_per_class"][split].get(name, 0) for role, split in columns)
        yield f"{name:<{width}}" + "".join(f"{count:>14,}" for count in counts)
    unknown = [card[role]["rows_without_label"][split] for role, split in columns]
    if any(unknown):
        yield f"{NO_LABEL:<{width}}" + "".join(f"{count:>14,}" for count in unknown)
    yield f"{'all':<{width}}" + "".join(f"{card[role]['rows'][split]:>14,}" for role, split in columns)


def _figures(values: list[float]) -> str:
    """A few channels' figures; of many features how far they reach."""
    if len(values) > 4:
        return f"{min(values):.3f} to {max(values):.3f}"
    return " ".join(f"{value:.3f}" for value in values)
