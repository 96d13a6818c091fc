"""What is wrong with a pair of domains before anything is trained on it: gaps, copies, leaks, empty images, imbalance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tlrun.config import ConfigError
from tlrun.data.labels import LabelSets, align_classes
from tlrun.data.split_domain import Role, Split, SplitDomain, SplitName
from tlrun.data.splits import class_counts
from tlrun.data.survey import Survey, survey

IMBALANCE = 10.0
"""From this ratio of the largest class to the smallest on, accuracy alone tells little."""
TINY = 0.5
"""Of the side that files are fitted to: below that, an image is enlarged more than twice."""
EXAMPLES = 5
"""So many row numbers are named of each fault."""


@dataclass(frozen=True)
class Fault:
    """Something found in the data. problem: results would mislead; note: worth knowing.

    rows: numbers of the rows concerned, as the domain numbers them; files: where rows are files, their paths. more:
    whether these are the first of several.
    """

    weight: Literal["problem", "note"]
    where: str
    what: str
    rows: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True)
class _Seen:
    """One split and what was seen of it."""

    domain: SplitDomain
    name: SplitName
    survey: Survey

    @property
    def split(self) -> Split:
        return self.domain.splits[self.name]

    @property
    def where(self) -> str:
        return f"{self.domain.told}, {self.name}"

    def fault(
        self, weight: Literal["problem", "note"], what: str, positions: NDArray[Any], named: int = EXAMPLES
    ) -> Fault:
        """One that concerns the rows at these positions, of which the first `named` are told."""
        first = positions[:named].tolist()
        names = self.survey.names
        files = () if names is None else tuple(names[position] for position in first)
        rows = tuple(int(self.split.rows[position]) for position in first)
        return Fault(weight, self.where, what, rows, files, more=len(positions) > named)


def find_faults(
    domains: Mapping[Role, SplitDomain],
    label_sets: LabelSets = "closed",
    *,
    with_bad: Mapping[Role, SplitDomain] | None = None,
) -> list[Fault]:
    """Everything found in the domains as training would read them, problems first. Reads every row, files too.

    with_bad: the same domains with the files that give no image among their rows, where these are without them.
    """
    found = [*_one_sided(domains, label_sets)]
    for domain in domains.values():
        found += [*_gaps(domain), *_imbalance(domain)]
    seen = _looked_at(domains)
    for each in seen if with_bad is None or with_bad is domains else _looked_at(with_bad):
        found += _damaged(each)
    for each in seen:
        found += [*_constant(each), *_tiny(each), *_copies_within(each)]
    for first, second in combinations(seen, 2):
        if first.split is not second.split:
            found += _copies_across(first, second)
    return sorted(found, key=lambda fault: fault.weight != "problem")


def _looked_at(domains: Mapping[Role, SplitDomain]) -> list[_Seen]:
    """Every split of every domain; one that stands for two is read once."""
    seen: list[_Seen] = []
    for domain in domains.values():
        for name, split in domain.splits.items():
            same = [each for each in seen if each.split is split]  # as test is train under a transductive protocol
            looked = same[0].survey if same else survey(
                split.x, is_image=domain.is_image, what=f"{domain.told}, {name}"
            )  # fmt: skip
            seen.append(_Seen(domain, name, looked))
    return seen


def _one_sided(domains: Mapping[Role, SplitDomain], label_sets: LabelSets) -> Iterator[Fault]:
    """Classes that one domain has alone: a problem where the run would refuse them, else a note."""
    if len(domains) < 2:
        return
    source, target = domains["source"], domains["target"]
    try:
        align_classes(source, target, label_sets)
    except ConfigError as error:
        yield from (Fault("problem", "classes", problem) for problem in error.problems)
        return
    for domain, other in ((source, target), (target, source)):
        alone = [name for name in domain.classes if name not in other.classes]
        if alone and not other.has_unknown:
            yield Fault("note", domain.told, f"{other.told} has no rows of {', '.join(alone)}")


def _damaged(seen: _Seen) -> Iterator[Fault]:
    damaged = seen.survey.damaged
    for reason, count in Counter(damaged.values()).most_common():
        positions = np.array([position for position, why in damaged.items() if why == reason])
        # All are named: what to mend or to leave out is read nowhere else.
        yield seen.fault("problem", f"{count} files give no image: {reason}", positions, named=count)


def _tiny(seen: _Seen) -> Iterator[Fault]:
    sides = seen.survey.sides
    if sides is None:
        return
    least = int(seen.split.x.shape[1] * TINY)
    positions = np.flatnonzero((sides > 0) & (sides < least))
    if len(positions):
        smallest = int(sides[positions].min())
        yield seen.fault(
            "note",
            f"{len(positions)} images are below {least} pixels ({smallest} the smallest), and enlarged",
            positions,
        )


def _gaps(domain: SplitDomain) -> Iterator[Fault]:
    for name, split in domain.splits.items():
        where, unknown = f"{domain.told}, {name}", int((split.y < 0).sum())
        if unknown:
            figures = "figures are over the others" if unknown < len(split) else "there will be no figures for it"
            yield Fault("note", where, f"{unknown} of {len(split)} rows have no label; {figures}")
        if unknown == len(split):  # also where it is empty, as the protocol has it
            continue
        counts = class_counts(split.y, len(domain.classes))
        absent = [label for label, count in zip(domain.classes, counts, strict=True) if count == 0]
        if absent:
            yield Fault(
                "note" if unknown else "problem",
                where,
                f"no {'labelled ' if unknown else ''}rows of {', '.join(absent)}",
            )


def _imbalance(domain: SplitDomain) -> Iterator[Fault]:
    counts = class_counts(domain.splits["train"].y, len(domain.classes))
    if not len(counts):
        return
    few, many = int(counts.argmin()), int(counts.argmax())
    if 0 < counts[few] * IMBALANCE <= counts[many]:
        yield Fault(
            "note",
            f"{domain.told}, train",
            f"class {domain.classes[many]} has {counts[many] / counts[few]:.0f} times the rows of {domain.classes[few]} "
            f"({counts[many]} and {counts[few]}); read macro-F1 beside accuracy",
        )


def _constant(seen: _Seen) -> Iterator[Fault]:
    rows = np.flatnonzero(seen.survey.constant)
    if len(rows):
        yield seen.fault("problem", f"{len(rows)} images of one value throughout", rows)


def _copies_within(seen: _Seen) -> Iterator[Fault]:
    keys, split = seen.survey.keys, seen.split
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[inverse] != np.arange(len(keys)))
    if not len(copies):
        return
    yield seen.fault("note", f"{len(copies)} rows repeat another one of the split", copies)
    labels, others = split.y[copies], split.y[first[inverse[copies]]]
    contradicting = copies[(labels != others) & (labels >= 0) & (others >= 0)]
    if len(contradicting):
        yield seen.fault("problem", f"{len(contradicting)} rows repeat another one under another label", contradicting)


def _copies_across(first: _Seen, second: _Seen) -> Iterator[Fault]:
    """Rows of the second split that stand in the first too."""
    alike = first.split.x.shape[1:] == second.split.x.shape[1:]
    copies = np.flatnonzero(np.isin(second.survey.keys, first.survey.keys)) if alike else np.array([], dtype=int)
    if len(copies):
        # A domain's own splits must not meet; of two domains, what is trained on must not be what is held out or hidden.
        leak = "train" in (first.name, second.name) or first.domain is second.domain
        yield second.fault("problem" if leak else "note", f"{len(copies)} rows stand in {first.where} too", copies)
