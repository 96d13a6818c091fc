"""What is wrong with a pair of domains before anything is trained on it: gaps, copies, leaks, empty images, imbalance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tlrun.data.split_domain import Role, Split, SplitDomain
from tlrun.data.splits import class_counts

IMBALANCE = 10.0
"""From this ratio of the largest class to the smallest on, accuracy alone tells little."""
EXAMPLES = 5
"""So many row numbers are named of each fault."""


@dataclass(frozen=True)
class Fault:
    """Something found in the data. problem: results would mislead; note: worth knowing.

    rows: numbers of the rows concerned, as the domain numbers those of `train` and `val` together and of `test`.
    """

    weight: Literal["problem", "note"]
    where: str
    what: str
    rows: tuple[int, ...] = ()


def find_faults(domains: Mapping[Role, SplitDomain]) -> list[Fault]:
    """Everything found in the domains as training would read them, problems first."""
    found = []
    for domain in domains.values():
        found += [*_gaps(domain), *_imbalance(domain), *_constant(domain)]
    keys = {
        (role, name): row_digests(split.x.tensor().numpy())
        for role, domain in domains.items()
        for name, split in domain.splits.items()
    }
    for (role, name), own in keys.items():
        found += _copies_within(domains[role], name, domains[role].splits[name], own)
    for (first, ours), (second, theirs) in combinations(keys.items(), 2):
        found += _copies_across(domains, first, ours, second, theirs)
    return sorted(found, key=lambda fault: fault.weight != "problem")


def row_digests(x: NDArray[Any]) -> NDArray[np.uint64]:
    """A number (N,) for each row of x (N, ...): equal rows have equal numbers, and others almost surely have not."""
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    digests = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype=np.uint64)


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


def _constant(domain: SplitDomain) -> Iterator[Fault]:
    for name, split in domain.splits.items():
        flat = split.x.tensor().flatten(1)
        rows = np.flatnonzero((flat.amax(1) == flat.amin(1)).numpy()) if domain.is_image else np.array([], dtype=int)
        if len(rows):
            yield Fault(
                "problem", f"{domain.told}, {name}", f"{len(rows)} images of one value throughout", _some(split, rows)
            )


def _copies_within(domain: SplitDomain, name: str, split: Split, keys: NDArray[np.uint64]) -> Iterator[Fault]:
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[inverse] != np.arange(len(keys)))
    if not len(copies):
        return
    where = f"{domain.told}, {name}"
    yield Fault("note", where, f"{len(copies)} rows repeat another one of the split", _some(split, copies))
    labels, others = split.y[copies], split.y[first[inverse[copies]]]
    contradicting = copies[(labels != others) & (labels >= 0) & (others >= 0)]
    if len(contradicting):
        what = f"{len(contradicting)} rows repeat another one under another label"
        yield Fault("problem", where, what, _some(split, contradicting))


def _copies_across(
    domains: Mapping[Role, SplitDomain],
    first: tuple[Role, Any],
    ours: NDArray[np.uint64],
    second: tuple[Role, Any],
    theirs: NDArray[np.uint64],
) -> Iterator[Fault]:
    """Rows of the second split that stand in the first too."""
    if domains[first[0]].splits[first[1]] is domains[second[0]].splits[second[1]]:
        return  # under a transductive protocol train and test are one
    shapes = [domains[role].splits[name].x.shape[1:] for role, name in (first, second)]
    copies = np.flatnonzero(np.isin(theirs, ours)) if shapes[0] == shapes[1] else np.array([], dtype=int)
    if len(copies):
        others, mine = (f"{domains[role].told}, {name}" for role, name in (first, second))
        what = f"{len(copies)} rows stand in {others} too"
        # A domain's own splits must not meet; of two domains, what is trained on must not be what is held out or hidden.
        leak = "train" in (first[1], second[1]) or first[0] == second[0]
        weight: Literal["problem", "note"] = "problem" if leak else "note"
        yield Fault(weight, mine, what, _some(domains[second[0]].splits[second[1]], copies))


def _some(split: Split, positions: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(row) for row in split.rows[positions[:EXAMPLES]])
