"""Pairs in the plane: the decision boundary of each strategy, and scikit-learn's SVC to hold them against."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlrun.report import style
from tlrun.report.collect import Run
from tlrun.report.groups import Group
from tlrun.report.tables import Figure as Numbers
from tlrun.report.tables import Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tlrun.data.domain import DomainPair

DIRECT, SCRATCH = "SVC, direct transfer", "SVC, from scratch"
GRID = 200
"""Points along each axis at which a boundary is asked for."""


def is_planar(run: Run) -> bool:
    """Whether the run's rows are points of the plane, as its data card says."""
    return bool(run.card.get("input_shape") == [2])


@dataclass(frozen=True)
class Svc:
    """A fitted SVC of one seed: kernel rbf at scikit-learn's defaults, on raw rows."""

    name: str
    seed: int
    model: Any
    rows_target_labels: int
    differs: Mapping[str, Any]

    def figures(self, pair: DomainPair) -> dict[str, float]:
        """Its numbers under the names of summary.json."""
        from sklearn.metrics import f1_score

        found: dict[str, float] = {"rows_target_labels": self.rows_target_labels}
        for domain in style.DOMAINS:
            x, y = _labelled(pair, f"{domain}_test")
            if not len(x):
                continue
            predicted = self.model.predict(x)
            found[f"{domain}_test_accuracy"] = float((predicted == y).mean())
            if domain == "target":
                found["target_test_macro_f1"] = float(f1_score(y, predicted, average="macro"))
        return found


def svc_lines(groups: Sequence[Group]) -> list[Line]:
    """A line for the SVC by direct transfer and from scratch on every version of one planar pair among the groups.

    Raises ConfigError and RunError where the data are not to be had.
    """
    found: dict[str, list[tuple[Svc, dict[str, float]]]] = {}
    for svc, pair in fitted(groups):
        key = json.dumps([svc.name, dict(svc.differs)], sort_keys=True)
        found.setdefault(key, []).append((svc, svc.figures(pair)))
    lines = []
    for each in found.values():
        first = each[0][0]
        names = each[0][1]
        lines.append(
            Line(
                pair=groups[0].pair,
                strategy=first.name,
                differs=first.differs,
                seeds=tuple(svc.seed for svc, _ in each),
                figures={name: Numbers.of([numbers[name] for _, numbers in each]) for name in names},
                is_run=False,
            )
        )
    return sorted(lines, key=lambda line: line.strategy)


def fitted(groups: Sequence[Group]) -> Iterator[tuple[Svc, DomainPair]]:
    """For every data setting and seed of the groups: the SVC on source rows, and on granted target rows if any are."""
    from sklearn.svm import SVC

    seen = set()
    for group in groups:
        differs = {key: value for key, value in group.differs.items() if key.startswith("data.")}
        for run in group.runs:
            data = dict(run.config["data"]) | {"target_val_labels": "none"}
            grants = data.pop("target_labels")
            kinds = [(DIRECT, "source_train", "none")] if data["source"] is not None else []
            if grants not in ("none", "all"):
                kinds.append((SCRATCH, "target_granted", grants))
            wanted = []
            for kind in kinds:
                key = json.dumps([kind, data, run.seed], sort_keys=True)
                wanted += [] if key in seen else [kind]
                seen.add(key)
            if not wanted:
                continue
            pair = _pair(run)
            for name, part, grant in wanted:
                x, y = _rows(pair, part)
                own = {key: value for key, value in differs.items() if key != "data.target_labels" or grant != "none"}
                yield Svc(name, run.seed, SVC().fit(x, y), len(x) if part == "target_granted" else 0, own), pair


def boundaries(groups: Sequence[Group]) -> Figure:
    """What each strategy predicts for target points all over the plane, a panel each, of its first seed; one pair.

    Target test rows are marked by class, granted ones ringed, source test rows faint. The SVCs have the last panels.
    """
    from tlrun.trained import load_run_pair, load_trained

    panels: list[tuple[str, DomainPair, Any]] = []
    for group in groups:
        trained = load_trained(group.runs[0].folder)
        pair = load_run_pair(group.runs[0].folder, trained.config)
        panels.append((f"{group.label}, seed {group.seeds[0]}", pair, _asked(trained)))
    svcs = {svc.name: (svc, pair) for svc, pair in fitted([Group(group.runs[:1]) for group in reversed(groups)])}
    panels += [
        (f"{name}, seed {svcs[name][0].seed}", svcs[name][1], svcs[name][0].model.predict)
        for name in (DIRECT, SCRATCH)
        if name in svcs
    ]
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = style.figure(width=style.WIDTH, height=0.5 + rows * style.WIDTH / max(2, columns) * 0.84)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    handles: list[Any] = []
    for at, each in enumerate(axes.flat):
        if at >= len(panels):
            each.set_visible(False)
            continue
        name, pair, predict = panels[at]
        each.tick_params(labelbottom=at + columns >= len(panels))  # also above a place that stays empty
        x, y = _labelled(pair, "target_test")
        accuracy = f": {100 * float((predict(x) == y).mean()):.1f} %" if len(x) else ""
        each.set_title(f"{style.wrapped(name, 34)}{accuracy}")
        found = _panel(each, pair, predict)
        handles = max(handles, found, key=len)
    style.legend_below(figure, handles, [str(handle.get_label()) for handle in handles])
    return figure


def _panel(axes: Any, pair: DomainPair, predict: Any) -> list[Any]:
    """Draws one panel; returns handles for the legend."""
    import numpy as np
    from matplotlib.colors import ListedColormap

    target, labels = _rows(pair, "target_test")
    source, source_labels = _rows(pair, "source_test")
    granted, _ = _rows(pair, "target_granted")
    every = np.concatenate((source, target))
    low, high = every.min(axis=0) - 0.5, every.max(axis=0) + 0.5
    across, up = np.meshgrid(*(np.linspace(low[at], high[at], GRID, dtype=np.float32) for at in (0, 1)))
    regions = predict(np.stack((across.ravel(), up.ravel()), axis=1)).reshape(across.shape)
    count = pair.task.num_classes
    colours = [style.CLASSES[number % len(style.CLASSES)] for number in range(count)]
    levels = np.arange(count + 1) - 0.5
    axes.contourf(across, up, regions, levels=levels, cmap=ListedColormap(colours), alpha=0.18)
    axes.contour(across, up, regions, levels=levels[1:-1], colors="black", linewidths=0.9)
    handles = []
    for number, name in enumerate(pair.task.classes):
        colour, marker = colours[number], style.MARKERS[number % len(style.MARKERS)]
        faint, strong = source[source_labels == number], target[labels == number]
        axes.scatter(faint[:, 0], faint[:, 1], s=3, marker=marker, c="0.45", linewidths=0, alpha=0.45)
        look = {"s": 10, "marker": marker, "c": colour, "linewidths": 0.25, "edgecolors": "white"}
        handles.append(axes.scatter(strong[:, 0], strong[:, 1], label=f"target, {name}", **look))
    if (unknown := target[labels < 0]).size:
        look = {"s": 8, "marker": "x", "c": "black", "linewidths": 0.5}
        handles.append(axes.scatter(unknown[:, 0], unknown[:, 1], label="target, no label", **look))
    if len(source):
        handles.append(axes.scatter([], [], s=6, c="0.45", linewidths=0, label="source"))
    if 0 < len(granted) <= 100:
        ring = {
            "s": 26,
            "facecolors": "none",
            "edgecolors": "black",
            "linewidths": 0.9,
            "label": "granted target label",
        }
        handles.append(axes.scatter(granted[:, 0], granted[:, 1], **ring))
    axes.set_aspect("equal")
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return handles


def _asked(trained: Any) -> Any:
    def predict(points: Any) -> Any:
        import torch

        return trained.predict(torch.from_numpy(points), "target").numpy()

    return predict


def _pair(run: Run) -> DomainPair:
    from tlrun.trained import load_run_pair, read_config

    return load_run_pair(run.folder, read_config(run.folder))


def _rows(pair: DomainPair, part: str) -> tuple[Any, Any]:
    """x (N, 2) float32 and y (N,) of a part."""
    found = pair.parts[part]
    assert found.y is not None
    return found.x.tensor().numpy(), found.y.numpy()


def _labelled(pair: DomainPair, part: str) -> tuple[Any, Any]:
    """Those of them that have a label."""
    x, y = _rows(pair, part)
    return x[y >= 0], y[y >= 0]
