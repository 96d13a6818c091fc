"""What a report comes to, in plain sentences made from its figures: what was compared, what came out, what stays open."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tlrun.report.collect import Run
from tlrun.report.contents import Contents
from tlrun.report.groups import Group, short, shown
from tlrun.report.intervals import t_interval
from tlrun.report.selection_rules import Judged
from tlrun.report.tables import Line
from tlrun.report.verdicts import FIGURE, MARGIN, Verdict

MOST = 6
"""So many things are named in one sentence; of more, it is said how many there are."""

BEST = ("Best without target labels", "Best with target labels")

PEEKING = ("oracle", "target_val")
"""Selection rules that read target labels: withheld ones, and granted ones."""

Told = tuple[Group, Line]
Names = Mapping[Group, str]
Of = Literal["adaptation", "transfer"]


@dataclass(frozen=True)
class Words:
    """On one pair: its key figures (what, number, remark), and sentences, each after the word that it is about."""

    pair: str
    figures: tuple[tuple[str, str, str], ...]
    sentences: tuple[tuple[str, str], ...]


def summary(contents: Contents) -> list[Words]:
    """What there is to say of each pair, in the order of the report."""
    found = []
    for pair, told in contents.by_pair.items():
        groups = [group for group, _ in told]
        names = short_names(groups)
        sentences = [("Compared", _compared(groups))]
        if any(group.figures(FIGURE) for group in groups):
            judged = [each for each in contents.judged if each.pair == pair]
            sentences += [*_references(groups, names), *_best(told, names), *_choice(judged)]
            sentences += [*_verdicts(told, "adaptation", names), *_verdicts(told, "transfer", names)]
            sentences += _no_verdict(told, names)
            sentences += _selection(groups)
        else:
            unknown = (
                "No target test row has a label, so no accuracy can be told; predictions.csv of each run has its rows."
            )
            sentences.append(("No accuracy", unknown))
        found.append(Words(pair, tuple(_figures(told, names)), (*sentences, *_warnings(groups))))
    return found


def short_names(groups: Sequence[Group]) -> Names:
    """What to call each group of one pair: its strategy, and in brackets what tells it from others of that strategy."""
    names = {}
    for group in groups:
        others = [each for each in groups if each.strategy == group.strategy and each is not group]
        keys = [key for key, value in group.differs.items() if any(each.differs.get(key) != value for each in others)]
        settings = ", ".join(f"{short(key)}={shown(group.differs[key])}" for key in keys)
        names[group] = f"{group.strategy} ({settings})" if settings else group.strategy
    return names


def best(told: Sequence[Told], *, with_labels: bool) -> Told | None:
    """The method of highest mean target test accuracy, of those that saw target labels, or of those that saw none."""
    methods = [each for each in told if not each[0].role and each[0].figures(FIGURE)]
    candidates = [each for each in methods if saw_labels(each[0]) == with_labels]
    return max(candidates, key=lambda each: _mean(each[0]) or 0.0, default=None)


def saw_labels(group: Group) -> bool:
    """Whether target labels took part in a group's training or in its selection."""
    if group.settings.get("engine.select") in PEEKING:
        return True
    return any(run.figure("rows_target_labels") != 0 for run in group.runs)


def _figures(told: Sequence[Told], names: Names) -> Iterator[tuple[str, str, str]]:
    """Floor, ceiling, the best strategy and the share of the gap that it closes, as far as there is one of each."""
    without = best(told, with_labels=False)
    found = without or best(told, with_labels=True)
    groups = [group for group, _ in told]
    for role, name in (("floor", "Floor"), ("ceiling", "Ceiling")):
        own = [found[0].references[role]] if found and role in found[0].references else []
        those = own if found else [group for group in groups if group.role == role]
        if len(those) == 1 and (mean := _mean(those[0])) is not None:
            yield name, _percent(mean), names[those[0]]
    if found is not None:
        yield BEST[found is not without], _percent(_mean(found[0]) or 0.0), names[found[0]]
        if found[1].gap_closed is not None:
            yield "Gap closed", f"{100 * found[1].gap_closed:.0f} %", f"by {names[found[0]]}"


def _compared(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    strategies = list(dict.fromkeys(group.strategy for group in groups))
    text = f"{_count(len(runs), 'run')} of {_count(len(strategies), 'strategy', 'strategies')} ({_named(strategies)})"
    seeds = sorted({run.seed for run in runs})
    text += f", seed{'s' if len(seeds) > 1 else ''} {_listing(map(str, seeds[:12]))}{' and more' * (len(seeds) > 12)}"
    if any(len(group.seeds) != len(seeds) for group in groups):
        text += ", not each with every one"
    if domains := _domains(runs):
        text += f"; {domains}"
    rows, steps = ({run.figure(name) for run in runs} - {None} for name in ("target_test_rows", "steps"))
    text += f"; {_span(rows)} target test rows" if rows else ""
    text += f"; {_span(steps)} optimizer steps a run" if steps else ""
    keys = sorted({key for group in groups for key in group.differs})
    # Of settings that differ in the report, those that do so in this pair.
    if differing := [short(key) for key in keys if len({shown(group.differs.get(key, "")) for group in groups}) > 1]:
        text += f". Settings that differ: {_named(differing)}"
    return f"{text}."


def _domains(runs: Sequence[Run]) -> str:
    """`from mnist to mnistm, 10 classes`, as far as the first data card says so."""
    card = runs[0].card
    source, target = (card[role].get("name") if isinstance(card.get(role), dict) else None for role in _ROLES)
    classes = card.get("classes")
    named = f"from {source} to {target}" if source and target else f"on {target}" if target else ""
    count = f"{len(classes)} classes" if isinstance(classes, list) else ""
    return ", ".join(each for each in (named, count) if each)


_ROLES = ("source", "target")


def _references(groups: Sequence[Group], names: Names) -> Iterator[tuple[str, str]]:
    transductive = any(group.settings.get("data.protocol") == "transductive" for group in groups)
    missing = {
        "floor": "There is none: without a run of source_only at the same settings nobody can tell what adaptation brought.",
        "ceiling": "There is none: under the transductive protocol target_only would train on its own test rows."
        if transductive
        else "There is none: a run of target_only at the same settings would show what all target labels bring.",
    }
    told = {"floor": "Trained on the source alone", "ceiling": "Trained on all target labels"}
    told["scratch"] = "Trained on the granted target labels alone"
    for role, what in told.items():
        found = [group for group in groups if group.role == role and group.figures(FIGURE)]
        if len(found) == 1:
            yield role.capitalize(), f"{what}, {names[found[0]]} reaches {_accuracy(found[0])}."
        elif found:
            means = [_mean(group) or 0.0 for group in found]
            span = f"from {_percent(min(means))} to {_percent(max(means))}"
            yield role.capitalize(), f"{what}, there are {len(found)} settings of {found[0].strategy}: {span}."
        elif role in missing:
            yield role.capitalize(), missing[role]


def _best(told: Sequence[Told], names: Names) -> Iterator[tuple[str, str]]:
    methods = [group for group, _ in told if not group.role and group.figures(FIGURE)]
    for with_labels in (False, True):
        found = best(told, with_labels=with_labels)
        if found is None:
            continue
        group, line = found
        text = f"{names[group]} reaches {_accuracy(group)}"
        if (above := _above(group)) is not None:
            text += f", {abs(100 * above):.1f} points {'above' if above >= 0 else 'below'} its floor"
        if line.gap_closed is not None and line.gap_closed >= 0:
            text += f", and closes {100 * line.gap_closed:.0f} % of the gap between floor and ceiling"
        others = sum(saw_labels(each) == with_labels for each in methods)
        text += f". That it is the best of {others} was read off the test rows" if others > 1 else ""
        yield BEST[with_labels], f"{text}."


def _choice(judged: Sequence[Judged]) -> Iterator[tuple[str, str]]:
    """What label-free rules would have chosen among all runs and epochs without target labels."""
    rules = [each for each in judged if each.strategy is None and each.labels == 0 and each.rule not in PEEKING]
    chosen = [(each, each.run_accuracy) for each in rules if each.run_accuracy is not None]
    # Strategies are judged apart where there are several.
    if not chosen or not any(each.strategy and each.labels == 0 for each in judged):
        return
    ordered = sorted(chosen, key=lambda each: -each[1])
    gives = _named([f"{each.rule} gives {_percent(accuracy)}" for each, accuracy in ordered])
    best = max(accuracy + (each.run_regret or 0.0) for each, accuracy in ordered)
    runs = max(each.runs for each, _ in ordered)
    settings = max(each.settings for each, _ in ordered)
    apart = f", in each of {settings} settings of data and budget apart" if settings > 1 else ""
    text = f"Left to choose among all epochs of the {runs} runs without target labels by its own score{apart}, {gives}"
    best_of = "the best of each have a mean of" if settings > 1 else "the best of them has"
    yield "Chosen by score alone", f"{text}; {best_of} {_percent(best)}."


def _verdicts(told: Sequence[Told], of: Of, names: Names) -> Iterator[tuple[str, str]]:
    """A sentence a word, the methods by their difference."""
    found = [(group, verdict) for group, line in told if not group.role and (verdict := getattr(line, of)) is not None]
    found.sort(key=lambda each: -each[1].difference.mean)
    against = "source_only" if of == "adaptation" else "scratch, from the same target labels"
    sentences = {
        "helps": ("Helps", f"Against {against}, in points with the 95 % interval over seeds:"),
        "hurts": ("Negative transfer" if of == "transfer" else "Hurts", f"Worse than {against}:"),
        "equal": ("No difference", f"Within ±{100 * MARGIN:g} points of {against}:"),
        "undecided": ("Undecided", f"Against {against}, these seeds do not tell a gain from a loss{_of(found)}:"),
    }
    for word, (name, text) in sentences.items():
        if those := [f"{names[group]} {_difference(verdict)}" for group, verdict in found if verdict.word == word]:
            more = " More seeds would narrow the interval." if word == "undecided" else ""
            yield name, f"{text} {_named(those)}.{more}"


def _of(found: Sequence[tuple[Group, Verdict]]) -> str:
    """How many strategies the tests allow for, where that is more than one."""
    most = max((verdict.compared for _, verdict in found), default=1)
    return f", allowing for the {most} strategies that were compared" if most > 1 else ""


def _no_verdict(told: Sequence[Told], names: Names) -> Iterator[tuple[str, str]]:
    """Methods on which there is no verdict on adaptation though there is a floor for them: too few seeds."""
    methods = [group for group, line in told if not group.role and line.adaptation is None and group.figures(FIGURE)]
    few = [names[group] for group in methods if "floor" in group.references]
    if few:
        yield "No verdict", f"A verdict needs two seeds that a strategy has in common with its floor: {_named(few)}."
    lonely = [names[group] for group in methods if "floor" not in group.references]
    if lonely and len(lonely) < len([group for group, _ in told if not group.role]):
        yield "No verdict", f"Without a floor of the same settings: {_named(lonely)}."


def _selection(groups: Sequence[Group]) -> Iterator[tuple[str, str]]:
    runs = [run for group in groups for run in group.runs if run.figure("regret") is not None]
    peeked = [run for run in runs if run.summary.get("select") == "oracle"]
    if chosen := [run for run in runs if run not in peeked]:
        regrets = [run.figure("regret") or 0.0 for run in chosen]
        worst = chosen[regrets.index(max(regrets))]
        cost = f"{100 * statistics.fmean(regrets):.1f} points" if max(regrets) >= 0.0005 else "nothing"
        text = f"Choosing the epoch without withheld target labels cost {cost} against the best epoch"
        if cost != "nothing" and len(chosen) > 1:
            most = f"at most {100 * max(regrets):.1f} ({worst.strategy}, seed {worst.seed})"
            text += f", on average over {len(chosen)} runs; {most}"
        yield "Selection", f"{text}."
    if peeked:
        yield "Peeked", f"{_count(len(peeked), 'run')} chose the epoch by withheld target labels (oracle)."


def _warnings(groups: Sequence[Group]) -> Iterator[tuple[str, str]]:
    runs = [run for group in groups for run in group.runs]
    warned = [run for run in runs if run.summary.get("warnings")]
    if warned:
        texts = [f"{run.strategy}, seed {run.seed}: {'; '.join(warnings_of(run))}" for run in warned]
        more = f"; and {len(texts) - MOST} more" if len(texts) > MOST else ""
        yield "Warnings", f"{len(warned)} of {_count(len(runs), 'run')}: {'; '.join(texts[:MOST])}{more}."
    else:
        yield "Warnings", "None of the runs gave one."


def warnings_of(run: Run) -> list[str]:
    """The warnings in a run's summary."""
    found = run.summary.get("warnings")
    return [str(each) for each in found] if isinstance(found, list) else []


def _above(group: Group) -> float | None:
    """Its mean accuracy less its floor's, over the seeds that both have."""
    floor = group.references.get("floor")
    if floor is None or not (common := [seed for seed in group.seeds if seed in floor.by_seed]):
        return None
    ours, theirs = group.figures(FIGURE, common), floor.figures(FIGURE, common)
    return statistics.fmean(ours) - statistics.fmean(theirs) if len(ours) == len(theirs) == len(common) else None


def _accuracy(group: Group) -> str:
    interval = t_interval(group.figures(FIGURE))
    if interval.low is None or interval.high is None:
        return f"{_percent(interval.mean)} target test accuracy (one seed)"
    low, high = 100 * max(0.0, interval.low), 100 * min(1.0, interval.high)
    return f"{_percent(interval.mean)} target test accuracy (95 % interval {low:.1f} to {high:.1f}, {interval.n} seeds)"


def _difference(verdict: Verdict) -> str:
    interval = verdict.difference
    assert interval.low is not None and interval.high is not None
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _mean(group: Group) -> float | None:
    values = group.figures(FIGURE)
    return statistics.fmean(values) if values else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _span(values: Iterable[float | None]) -> str:
    numbers = sorted(value for value in values if value is not None)
    low, high = f"{numbers[0]:,.0f}", f"{numbers[-1]:,.0f}"
    return low if low == high else f"{low} to {high}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _named(names: Sequence[str]) -> str:
    more = [f"{len(names) - MOST} more"] if len(names) > MOST + 1 else []
    return _listing([*names[:MOST], *more] if more else names)


def _listing(names: Iterable[str]) -> str:
    *before, last = names
    comma = ";" if any("," in each for each in (*before, last)) else ","
    return f"{f'{comma} '.join(before)}{';' if comma == ';' else ''} and {last}" if before else last
