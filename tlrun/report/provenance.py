"""Where a report's figures come from: the runs with their commands, the environments, the data, whether terms were alive."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlrun import files
from tlrun.files import RunError
from tlrun.report.collect import Run
from tlrun.report.groups import Group
from tlrun.report.tables import Table, without_blank
from tlrun.report.words import warnings_of

Facts = tuple[tuple[str, str], ...]
"""Names and what there is to say under each."""

_ROLES = ("source", "target")


@dataclass(frozen=True)
class DataCard:
    """One version of a pair's data: where it was used, what is said of the pair and of each domain, rows by class."""

    pair: str
    used_by: tuple[Run, ...]
    facts: Facts
    domains: tuple[tuple[str, Facts], ...]
    classes: Table | None


@dataclass(frozen=True)
class Origin:
    """Of one run: its command, the number of its environment, None where that cannot be read, and its warnings."""

    run: Run
    command: str
    environment: int | None
    warnings: tuple[str, ...]


def run_table(runs: Sequence[Run]) -> Table:
    """A row a run."""
    columns = ("pair", "strategy", "run", "chosen by", "seed", "target test (%)", "epoch", "of", "steps", "seconds")
    rows = []
    for run in runs:
        accuracy, seconds = run.figure("target_test_accuracy"), run.figure("seconds")
        whole = [_whole(run.figure(name)) for name in ("selected_epoch", "epochs", "steps")]
        rows.append(
            (run.pair, run.strategy, run.folder.path.name, str(run.summary.get("select") or ""), str(run.seed),
             _number(accuracy, 100, 2), *whole, _number(seconds, 1, 1))
        )  # fmt: skip
    return without_blank(Table("All runs", columns, tuple(rows), 4))


def liveness(groups: Sequence[Group]) -> Table:
    """Whether each group's transfer terms reached the features, how well domains were told apart, how many runs warned."""
    rows = []
    for group in groups:
        told, share = (group.figures(name) for name in ("discriminator_accuracy", "largest_class_share"))
        discriminator = f"{100 * statistics.fmean(told):.1f}" if told else ""
        largest = f"{100 * max(share):.1f}" if share else ""
        warned = f"{sum(bool(warnings_of(run)) for run in group.runs)} of {len(group.runs)}"
        for name, values in _terms(group).items() or [("", [])]:
            least = f"{min(values):.2g}" if values else ""
            rows.append((group.pair, group.label, name, least, discriminator, largest, warned))
    columns = ("pair", "strategy", "term", "gradient", "domains told apart (%)", "largest class (%)", "warned")
    what = "gradient norm at the features, least over runs; share of target predictions in one class, most over runs"
    return without_blank(Table(f"Transfer terms: {what}", columns, tuple(rows), 3))


def origins(runs: Sequence[Run]) -> tuple[list[Origin], Table | None]:
    """Each run's origin, and a table with a column for each environment that differs from the others."""
    known: dict[str, int] = {}
    facts: list[dict[str, str]] = []
    found = []
    for run in runs:
        number = None
        if (content := _environment(run)) is not None:
            text = json.dumps(content, sort_keys=True)
            if text not in known:
                known[text] = len(known) + 1
                facts.append(content)
            number = known[text]
        found.append(Origin(run, _command(run), number, tuple(warnings_of(run))))
    if not facts:
        return found, None
    names = list(dict.fromkeys(name for each in facts for name in each))
    rows = tuple((name, *(each.get(name, "") for each in facts)) for name in names)
    columns = ("what", *(f"environment {number + 1}" for number in range(len(facts))))
    return found, Table("Environment", columns, rows, len(columns))


def data_cards(groups: Iterable[Group]) -> list[DataCard]:
    """The cards that differ in more than the labels granted, pair by pair."""
    found: dict[str, tuple[Mapping[str, Any], list[Run]]] = {}
    for run in (run for group in groups for run in group.runs):
        key = run.pair + json.dumps(_without_grants(run.card), sort_keys=True)
        found.setdefault(key, (run.card, []))[1].append(run)
    return [_card(card, runs) for card, runs in found.values()]


def _card(card: Mapping[str, Any], runs: Sequence[Run]) -> DataCard:
    pair_facts = {
        "classes": _names(card.get("classes")),
        "inputs": _shape(card.get("input_shape")),
        "normalised": str(card.get("normalize") or "").replace("_", " "),
        "protocol": _joined(card, "protocol", "protocol_means"),
        "departs from the model's input": "; ".join(map(str, card.get("departures_from_model_input") or ())),
        "fingerprint": str(card.get("fingerprint") or "")[:16],
    }
    domains = [(role, card[role]) for role in _ROLES if isinstance(card.get(role), Mapping)]
    told = tuple((f"{role}: {domain.get('name', '')}", tuple(_domain(domain))) for role, domain in domains)
    return DataCard(runs[0].pair, tuple(runs), _filled(pair_facts), told, _class_table(domains))


def _domain(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rows = _counts(card.get("rows"))
    unknown = {split: count for split, count in _counts(card.get("rows_without_label")).items() if count}
    wrong = {split: count for split, count in _counts(card.get("labels_made_wrong")).items() if count}
    yield from _filled(
        {
            "origin": str(card.get("origin") or ""),
            "notes": "; ".join(map(str, card.get("notes") or ())),
            "rows": _told(rows),
            "without label": _told(unknown),
            "labels made wrong": _told(wrong),
            "as they came": _shape(card.get("shape_before")),
            "fitted": str(card.get("fitting") or ""),
            "test split": str(card.get("test_split") or ""),
            "val split": str(card.get("val_split") or ""),
            "fingerprint": str(card.get("fingerprint") or "")[:16],
        }
    )


def _class_table(domains: Sequence[tuple[str, Mapping[str, Any]]]) -> Table | None:
    """Rows of each class, by domain and split."""
    columns: dict[str, Mapping[str, int]] = {}
    for role, card in domains:
        splits = card.get("rows_per_class")
        for split, counts in splits.items() if isinstance(splits, Mapping) else ():
            if counted := _counts(counts):
                columns[f"{role} {split}"] = counted
    names = list(dict.fromkeys(name for counts in columns.values() for name in counts))
    if not names:
        return None
    rows = tuple((name, *(str(counts.get(name, 0)) for counts in columns.values())) for name in names)
    return Table("Rows per class", ("class", *columns), rows, 1)


def _without_grants(card: Mapping[str, Any]) -> dict[str, Any]:
    grants = ("labels_used",)
    return {
        key: {name: item for name, item in value.items() if name not in grants} if isinstance(value, dict) else value
        for key, value in card.items()
    }


def _terms(group: Group) -> dict[str, list[float]]:
    """The largest gradient norm of each transfer term, run by run."""
    found: dict[str, list[float]] = {}
    for run in group.runs:
        alive = run.summary.get("transfer_alive")
        for name, value in alive.items() if isinstance(alive, Mapping) else ():
            if isinstance(value, int | float):
                found.setdefault(str(name), []).append(float(value))
    return found


def _environment(run: Run) -> dict[str, str] | None:
    """Each fact as text, versions by name; without the command, which is each run's own."""
    try:
        content = run.folder.read_environment()
    except RunError:
        return None
    facts = {}
    for name, value in content.items():
        if name in ("format", "command") or value is None:
            continue
        for key, item in value.items() if isinstance(value, Mapping) else [(name, value)]:
            facts[str(key)] = item if isinstance(item, str) else json.dumps(item)
    return facts


def _command(run: Run) -> str:
    try:
        return files.read_bytes(run.folder.command).decode(errors="replace").strip()
    except RunError:
        return ""


def _counts(value: Any) -> dict[str, int]:
    return {str(key): item for key, item in value.items() if isinstance(item, int)} if isinstance(value, dict) else {}


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _joined(card: Mapping[str, Any], name: str, meaning: str) -> str:
    return ": ".join(str(card[key]) for key in (name, meaning) if card.get(key))


def _names(value: Any) -> str:
    return f"{len(value)}: {', '.join(map(str, value))}" if isinstance(value, list) else ""


def _shape(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list) else ""


def _filled(facts: Mapping[str, str]) -> Facts:
    return tuple((name, value) for name, value in facts.items() if value)


def _number(value: float | None, scale: float, digits: int) -> str:
    return "" if value is None else f"{scale * value:.{digits}f}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
