"""t-SNE of a method's features beside its floor's, coloured by class and by domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tlrun.report import style
from tlrun.report.collect import Run

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from tlrun.data.domain import DomainPair
    from tlrun.trained import Trained

ROWS = 1000
"""At most so many test rows of each domain."""


def tsne_figure(runs: Sequence[Run]) -> Figure:
    """A column for each run of one pair, all on the same test rows: above by class, below by domain.

    Raises ConfigError and RunError as `load_trained` and `load_run_pair` do.
    """
    from tlrun.trained import load_run_pair, load_trained

    figure = style.figure(height=0.7 + 2 * style.WIDTH / max(2, len(runs)))
    halves: Any = figure.subfigures(2, 1)
    upper, lower = halves
    by_class, by_domain = (each.subplots(1, len(runs), squeeze=False)[0] for each in (upper, lower))
    pair = None
    for at, run in enumerate(runs):
        trained = load_trained(run.folder)
        pair = load_run_pair(run.folder, trained.config, known=pair)
        features, labels, is_target = test_features(trained, pair, rows=ROWS)
        points = embed(features)
        classes = _by_class(by_class[at], points, labels, is_target, pair.task.classes)
        domains = _by_domain(by_domain[at], points, is_target)
        by_class[at].set_title(f"{run.strategy}, seed {run.seed}")
        for each in (by_class[at], by_domain[at]):
            each.set(xticks=[], yticks=[])
            each.spines[:].set_visible(True)
            each.set_aspect("equal", adjustable="datalim")
    assert pair is not None
    by_class[0].set_ylabel("by class (filled: source, open: target)")
    by_domain[0].set_ylabel("by domain")
    if classes:
        style.legend_below(upper, classes, [str(handle.get_label()) for handle in classes])
    else:
        upper.supxlabel(f"{pair.task.num_classes} classes, a colour each", fontsize=7.5)
    style.legend_below(lower, domains, [str(handle.get_label()) for handle in domains])
    return figure


def test_features(trained: Trained, pair: DomainPair, *, rows: int) -> tuple[Any, Any, Any]:
    """Features (N, D) of up to `rows` test rows of each domain, labels (N,), -1 where unknown, and which are target (N,).

    The same rows for every run of a pair: drawn without the run's seed.
    """
    from dataclasses import replace

    import numpy as np
    import torch

    found = []
    for domain in style.DOMAINS:
        part = pair.parts[f"{domain}_test"]
        if not len(part):
            continue
        order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:rows].sort().values
        assert part.y is not None
        part = replace(part, x=part.x.subset(order), y=part.y[order], index=part.index[order], granted=None, rows=None)
        assert part.y is not None
        found.append((trained.encode(part).features.float().numpy(), part.y.numpy(), domain == "target"))
    features, labels = (np.concatenate([each[at] for each in found]) for at in (0, 1))
    return features, labels, np.repeat([each[2] for each in found], [len(each[1]) for each in found])


def embed(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """t-SNE (van der Maaten and Hinton 2008, JMLR 9) of features (N, D) in the plane, (N, 2); the same at every call."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if (
        min(features.shape) > 50
    ):  # as the paper does, section 4.2: distances in 50 dimensions cost less and say the same
        features = PCA(50, random_state=0).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    # Half of scikit-learn's iterations and a coarser tree: half the time, and 5 % more divergence on 2 x 1,000 digits.
    tsne = TSNE(perplexity=perplexity, init="pca", max_iter=500, angle=0.8, random_state=0)
    points: NDArray[np.float32] = tsne.fit_transform(features)
    return points


def _by_class(axes: Axes, points: Any, labels: Any, is_target: Any, classes: Sequence[str]) -> list[Any]:
    """Filled marks for the source, open ones for the target; returns handles for the legend, of up to ten classes."""
    few = len(classes) <= len(style.CLASSES)
    handles = []
    if (labels < 0).any():
        unknown = _scatter(axes, points[labels < 0], marker="o", c="0.7", linewidths=0, alpha=0.6, label="no label")
        handles += [unknown] if few else []
    for number, name in enumerate(classes):
        colour = style.CLASSES[number] if few else _many(number, len(classes))
        marker = style.MARKERS[number] if few else "o"
        for target in (False, True):
            chosen = points[(labels == number) & (is_target == target)]
            look: Any = {"facecolors": "none" if target else colour, "edgecolors": colour if target else "none"}
            drawn = _scatter(axes, chosen, marker=marker, linewidths=0.6, alpha=0.75, label=name, **look)
            if few and target == bool(is_target.all()):
                handles.append(drawn)
    return handles


def _by_domain(axes: Axes, points: Any, is_target: Any) -> list[Any]:
    handles = []
    for target, (domain, (colour, marker)) in enumerate(style.DOMAINS.items()):
        chosen = points[is_target == bool(target)]
        if not len(chosen):
            continue
        handles.append(_scatter(axes, chosen, marker=marker, c=colour, linewidths=0, alpha=0.6, label=domain))
    return handles


def _scatter(axes: Axes, points: Any, **look: Any) -> Any:
    return axes.scatter(points[:, 0], points[:, 1], s=9, **look)


def _many(number: int, count: int) -> Any:
    """Neighbours in the list of classes get colours that are far apart on the scale."""
    import matplotlib

    return matplotlib.colormaps["viridis"]((number * 37 % count) / max(1, count - 1))
