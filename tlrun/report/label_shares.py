"""How common each class is in the target: estimated from predictions alone, beside the truth where labels tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tlrun.files import RunError
from tlrun.report.collect import Run
from tlrun.report.groups import Group
from tlrun.report.tables import Table, Told, table_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shares = NDArray[np.float64]

SHOWN = 10
"""Of more classes, those are shown whose share differs most from the source's."""


SOURCE, TARGET = "labels of source validation rows", "labels of target test rows"


@dataclass(frozen=True)
class Labels:
    """Where the shares of a line were counted, not estimated."""

    pair: str
    strategy: str
    differs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """Shares (C,) of the classes of one group: of source validation rows, of labelled target test rows (None without
    any), and of target test rows as estimated, mean over n seeds (None where `refused` says why not)."""

    group: Group
    classes: tuple[str, ...]
    source: Shares
    true: Shares | None
    estimated: Shares | None
    n: int
    refused: str | None

    def plain(self) -> dict[str, Any]:
        """As it is, for JSON."""
        shares = {"source": self.source, "true": self.true, "estimated": self.estimated}
        told = {name: None if each is None else each.tolist() for name, each in shares.items()}
        return {"classes": list(self.classes), **told, "n": self.n, "refused": self.refused}


def estimate(group: Group) -> Estimate | None:
    """By black-box shift estimation, of each run's own classifier. None where a run has no source validation labels.

    Raises RunError where its files are missing or damaged.
    """
    import numpy as np

    from tlrun.metrics.label_shift import target_shares

    found, refused = [], None
    read = [counted for run in group.runs if (counted := run.counts("source", "val")) is not None]
    if len(read) < len(group.runs):
        return None
    classes, counts = read[0]
    for run, (names, of_run) in zip(group.runs, read, strict=True):
        if names != classes:
            other = group.runs[0].folder.path.name
            raise RunError(f"{run.folder.confusion('source', 'val')}: other classes than {other}")
        try:
            found.append(target_shares(np.asarray(of_run), _counts(classes, run, "prediction")))
        except ValueError as error:
            refused = str(error)
    source = np.sum(counts, axis=1)
    true = _counts(classes, group.runs[0], "label")
    return Estimate(
        group=group,
        classes=classes,
        source=source / source.sum(),
        true=true / true.sum() if true.any() else None,
        estimated=np.mean(found, axis=0) if found else None,
        n=len(found),
        refused=refused,
    )


def share_table(found: Sequence[Estimate]) -> Table:
    """Of one pair and the same classes: the source's shares, the target's by its labels, and each group's estimate."""
    chosen = _chosen(found)
    rows: list[tuple[Told, dict[str, str]]] = []
    said: list[dict[str, str]] = []
    for each in found:
        known = {SOURCE: _cells(each, each.source, chosen)}
        if each.true is not None:
            known[TARGET] = _cells(each, each.true, chosen) | {"off by": ""}
        if list(known.values()) != said:
            rows += [(Labels(each.group.pair, name), cells) for name, cells in known.items()]
        said = list(known.values())
        cells = _cells(each, each.estimated, chosen)
        rows.append((each.group, cells | {"n": str(each.n), "no estimate": each.refused or ""}))
    count = len(found[0].classes)
    some = f"; the {len(chosen)} of {count} classes whose share differs most" if len(chosen) < count else ""
    title = (
        "Label shift: share of each class in %, of target test rows as estimated from predictions (BBSE), which holds "
        f"where a class looks the same in both domains{some}"
    )
    return table_of(title, rows)


def _counts(classes: Sequence[str], run: Run, column: Literal["label", "prediction"]) -> NDArray[np.int64]:
    """Target test rows by class (C,)."""
    import numpy as np

    found = run.predicted
    counts = np.bincount(getattr(found, column) + 1, minlength=len(found.classes) + 1)[1:]
    by_name = dict(zip(found.classes, counts.tolist(), strict=True))
    return np.asarray([by_name.get(name, 0) for name in classes], dtype=np.int64)


def _chosen(found: Sequence[Estimate]) -> list[int]:
    """Up to SHOWN classes, in their order: those whose true (else estimated) share differs most from the source's."""
    import numpy as np

    moved = np.zeros(len(found[0].classes))
    for each in found:
        shares = each.estimated if each.true is None else each.true
        moved = moved if shares is None else np.maximum(moved, np.abs(shares - each.source))
    return sorted(np.argsort(-moved, kind="stable")[:SHOWN].tolist())


def _cells(found: Estimate, shares: Shares | None, chosen: Sequence[int]) -> dict[str, str]:
    """The shares, and how far they are from the true ones; blank where there are none."""
    from tlrun.metrics.label_shift import total_variation

    cells = {"n": ""}
    for at in chosen:
        cells[found.classes[at]] = "" if shares is None else f"{100 * shares[at]:.1f}"
    off = "" if shares is None or found.true is None else f"{100 * total_variation(shares, found.true):.1f}"
    return cells | {"off by": off, "no estimate": ""}
