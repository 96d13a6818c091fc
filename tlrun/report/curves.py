"""Learning curves: of a set of groups over their seeds, and of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.collect import Run
from tlrun.report.groups import Group
from tlrun.run import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"target_test_accuracy": "target test accuracy (%)", "source_test_accuracy": "source test accuracy (%)"}


def curves(groups: Sequence[Group], looks: Sequence[style.Line] | None = None) -> Figure:
    """Accuracy by epoch on both domains: the mean over seeds, in a band of one sample standard deviation.

    A domain without labelled test rows has no panel. looks: one for each group, where several pictures share them.
    Raises RunError where no domain has such rows.
    """
    import pandas

    tables = [[pandas.DataFrame(run.metrics) for run in group.runs] for group in groups]
    panels = {name: title for name, title in PANELS.items() if any(_has(run, name) for each in tables for run in each)}
    if not panels:
        raise RunError("no test row has a label")
    figure = style.figure(height=2.7 + 0.16 * len(groups) / 3)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles = []
    for look, runs in zip(looks or style.lines([group.strategy for group in groups]), tables, strict=True):
        for each, column in zip(axes, panels, strict=True):
            handle = _band(each, runs, column, look)
        handles.append(handle)
    for each, label in zip(axes, panels.values(), strict=True):
        _dress(each, max((int(run["epoch"].max()) for runs in tables for run in runs if len(run)), default=1))
        each.set_title(label)
    style.legend_below(figure, handles, [f"{group.label} (n = {len(group.runs)})" for group in groups])
    return figure


def run_curves(folder: RunFolder) -> Figure:
    """One run: its loss, and its accuracy on both domains, with the epoch that its selection rule chose."""
    import pandas

    run = Run(folder, folder.read_config(), folder.read_summary(), folder.read_data_card())
    metrics, summary = pandas.DataFrame(run.metrics), run.summary
    figure = style.figure(height=3.1)
    halves: Any = figure.subfigures(1, 2)
    loss, accuracy = (half.subplots() for half in halves)
    terms = ["loss", *(name for name in metrics.columns if name.startswith("loss_"))]
    terms = terms[:1] if len(terms) == 2 else terms  # one term is the loss
    for look, term in zip(style.lines(["run"] * len(terms)), terms, strict=True):
        loss.plot(metrics["epoch"], metrics[term], color=look.colour, marker=look.marker, ls=look.dash, label=term)
    for domain, (colour, marker) in style.DOMAINS.items():
        if not _has(metrics, f"{domain}_test_accuracy"):
            continue
        shown = metrics.dropna(subset=[f"{domain}_test_accuracy"])
        accuracy.plot(
            shown["epoch"], 100 * shown[f"{domain}_test_accuracy"], color=colour, marker=marker, label=f"{domain} test"
        )
    if (chosen := summary["selected_epoch"]) is not None:
        accuracy.axvline(chosen, color="0.4", ls=":", lw=1, zorder=0, label=f"selected ({summary['select']})")
    for half, each, title in zip(halves, (loss, accuracy), ("training loss", "accuracy (%)"), strict=True):
        _dress(each, int(metrics["epoch"].max()))
        each.set_title(title)
        handles, labels = each.get_legend_handles_labels()
        style.legend_below(half, handles, labels, width=style.WIDTH / 2)
    loss.set_ylim(bottom=min(0.0, loss.get_ylim()[0]))
    accuracy.set_ylim(top=102)
    return figure


def write_run(folder: RunFolder) -> list[Path]:
    """Draws `plots/curves.png` of a finished run."""
    with style.styled():
        return style.save(run_curves(folder), folder.plots / "curves", kinds=("png",))


def _band(axes: Axes, runs: Sequence[Any], column: str, look: style.Line) -> Any:
    """The mean over runs by epoch, of those runs that have the epoch, and the band around it; returns the line."""
    import pandas

    every = pandas.concat([run[["epoch", column]].dropna() for run in runs]).astype(float)
    by_epoch = 100 * every.groupby("epoch")[column].agg(["mean", "std"])
    mean, std = by_epoch["mean"], by_epoch["std"].fillna(0.0)
    step = max(1, len(mean) // 10)
    (line,) = axes.plot(mean.index, mean, color=look.colour, marker=look.marker, ls=look.dash, markevery=step)
    low, high = (mean - std).clip(lower=0), (mean + std).clip(upper=100)
    axes.fill_between(mean.index, low, high, color=look.colour, alpha=0.15, lw=0)
    return line


def _has(metrics: Any, column: str) -> bool:
    """Whether a table of metrics says anything in a column."""
    return column in metrics and bool(metrics[column].notna().any())


def _dress(axes: Axes, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlim(min(1, epochs) - 0.02 * epochs, epochs + 0.02 * epochs + 0.01)
    axes.grid(visible=True, color="0.92", lw=0.6)
