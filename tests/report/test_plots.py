"""Pictures: what is in them, that no two texts lie upon each other, and that they are the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.conftest import Finished, write_confusion
from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.bars import bars
from tlrun.report.collect import collect
from tlrun.report.confusion import confusions, matrices
from tlrun.report.curves import curves, run_curves
from tlrun.report.features import embed
from tlrun.report.groups import Group, group
from tlrun.report.plots import draw, file_name, spread, with_floor


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with style.styled():
        yield


def found(tmp_path: Path) -> list[Group]:
    return group(collect([tmp_path]).runs)


def overlapping(figure: Any) -> list[tuple[str, str]]:
    """Pairs of texts that lie upon each other, and texts that leave the page, when the figure is drawn."""
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure).draw()
    texts = [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]
    unseen = {id(text) for axes in figure.findobj(Axes) for text in _ticks_out_of_view(axes)}
    texts = [each for each in texts if id(each) not in unseen and (each.axes is None or each.axes.get_visible())]
    boxes = [(each.get_text(), each.get_window_extent().padded(-1)) for each in texts]
    page = figure.bbox.padded(1)
    problems = [(name, "page") for name, box in boxes if not (page.x0 <= box.x0 and box.x1 <= page.x1)]
    problems += [(name, "page") for name, box in boxes if not (page.y0 <= box.y0 and box.y1 <= page.y1)]
    return problems + [
        (name, other)
        for number, (name, box) in enumerate(boxes)
        for other, another in boxes[:number]
        if box.overlaps(another)
    ]


def _ticks_out_of_view(axes: Any) -> list[Any]:
    """Labels that matplotlib makes and does not draw."""
    ticks = [(axis, tick) for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_major_ticks()]
    views = [(sorted(axis.get_view_interval()), tick) for axis, tick in ticks]
    return [
        label
        for (low, high), tick in views
        if not low <= tick.get_loc() <= high
        for label in (tick.label1, tick.label2)
    ]


def test_a_curve_is_the_mean_over_seeds_in_a_band_of_one_deviation(finished: Finished, tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.4, 0.5, 0.9)):
        finished("source_only", seed=seed, accuracy=accuracy)
    target = curves(found(tmp_path)).axes[0]
    (line,) = target.lines
    assert list(line.get_xdata()) == [1, 2, 3]
    assert np.asarray(line.get_ydata()) == pytest.approx([60.0] * 3)
    band = target.collections[0].get_paths()[0].vertices[:, 1]
    deviation = 100 * np.std([0.4, 0.5, 0.9], ddof=1)
    assert (band.min(), band.max()) == pytest.approx((60 - deviation, 60 + deviation))


def test_bars_have_their_interval_and_the_lines_of_their_own_references(finished: Finished, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished("source_only", seed=seed, accuracy=0.5)
        finished("target_only", seed=seed, accuracy=0.9)
        finished("dann", seed=seed, accuracy=0.7 + 0.01 * seed)
        finished("mmd", "optim.lr=0.1", seed=seed, accuracy=0.6)
    figure = bars(found(tmp_path))
    axes = figure.axes[0]
    assert [patch.get_width() for patch in axes.patches[:4]] == pytest.approx([50, 70.5, 60, 90])
    lines = {(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in axes.lines if len(line.get_xdata()) == 2}
    floors = {at for (x, _), (at, _) in lines if x == pytest.approx(50)}
    ceilings = {at for (x, _), (at, _) in lines if x == pytest.approx(90)}
    assert floors == {-0.5, 0.5, 2.5}  # not the third, mmd, which has another rate
    assert ceilings == {-0.5, 0.5, 2.5}
    assert overlapping(figure) == []


def test_confusions_are_summed_over_seeds_and_shown_as_shares_of_the_true_class(
    finished: Finished, tmp_path: Path
) -> None:
    one, two = finished("source_only", seed=0), finished("source_only", seed=1)
    one.write_confusion("target", "test", ("a", "b"), [[1, 0], [0, 0]])
    two.write_confusion("target", "test", ("a", "b"), [[2, 1], [0, 0]])
    image = confusions(found(tmp_path)).axes[0].images[0]
    assert np.asarray(image.get_array()).tolist() == [[75.0, 25.0], [0.0, 0.0]]


def test_runs_of_other_classes_are_not_summed(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", seed=0)
    write_confusion(finished("source_only", seed=1), "target", ("a", "c"))
    with pytest.raises(RunError, match="confusion_target_test.csv: other classes than source_only-s0-"):
        confusions(found(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 10, 12, 13, 29, 31, 100, 345])
@pytest.mark.parametrize("panels", [1, 2, 3, 4])
def test_confusion_matrices_are_legible_with_any_number_of_classes(count: int, panels: int) -> None:
    classes = [f"class number {number:03d}" for number in range(count)]
    titles = ["source_only (n = 3)", "dann, learning_rate=0.001, weight=2 (n = 3)", "mmd", "target_only"]
    counts = np.random.default_rng(0).integers(1, 9, (count, count))
    figure = matrices([(title, classes, counts) for title in titles[:panels]])
    assert overlapping(figure) == []
    numbers = [text for axes in figure.axes for text in axes.texts]
    assert bool(numbers) == (count <= 12)


@pytest.mark.slow
def test_no_texts_lie_upon_each_other_in_a_picture_of_many_groups(finished: Finished, tmp_path: Path) -> None:
    for rate in (0.1, 0.01, 0.001, 0.0001):
        for strategy in ("source_only", "dann"):
            finished(strategy, f"optim.lr={rate}", "model.dropout=0.25")
    finished("source_only", "optim.weight_decay=0.125")
    for kind in (curves, bars, confusions):
        assert overlapping(kind(found(tmp_path)[:9])) == [], kind


def test_looks_differ_in_colour_and_in_marker_dash_or_hatch() -> None:
    looks = style.lines(["source_only", "scratch", "target_only", *(f"method{number}" for number in range(15))])
    assert len({(look.colour, look.dash) for look in looks}) == len(looks)
    assert len({(look.marker, look.dash) for look in looks}) == len(looks)


@pytest.mark.slow
def test_a_picture_of_the_same_runs_has_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    written = []
    for folder in ("one", "two"):
        draw(found(tmp_path / "runs"), tmp_path / folder)
        written.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    assert written[0] == written[1]


@pytest.mark.slow
def test_many_groups_are_spread_over_several_pictures(finished: Finished, tmp_path: Path) -> None:
    for number in range(9):
        finished("source_only", f"optim.lr={1 + number}")
    draw(found(tmp_path / "runs"), tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    pages = {f"mnist_usps-{kind}-{number}" for kind in ("curves", "classes") for number in (1, 2)}
    assert names == pages | {"mnist_usps-bars", "mnist_usps-confusion", "mnist_usps-reliability"}


def test_every_picture_of_many_repeats_the_few_references(finished: Finished, tmp_path: Path) -> None:
    for strategy in ("source_only", "target_only", *(f"dann optim.lr={1 + number}" for number in range(5))):
        finished(*strategy.split())
    pages = spread(found(tmp_path), 4)
    assert [[(group.strategy, group.settings["optim.lr"]) for group in page] for page in pages] == [
        [("source_only", 0.002), ("dann", low), *([("dann", low + 1)] if low < 5 else []), ("target_only", 0.002)]
        for low in (1, 3, 5)
    ]
    assert len(spread(found(tmp_path)[:4], 4)) == 1


def test_pictures_have_names_that_every_system_takes() -> None:
    assert file_name("my lab/pair", "curves", 2) == "my_lab_pair-curves-2"


@pytest.mark.slow
def test_the_settings_of_matplotlib_stay_as_they_were(finished: Finished, tmp_path: Path) -> None:
    import matplotlib

    finished("source_only")
    before = dict(matplotlib.rcParams)
    draw(found(tmp_path / "runs"), tmp_path / "out")
    assert dict(matplotlib.rcParams) == before


def test_a_runs_curve_marks_the_selected_epoch(finished: Finished) -> None:
    figure = run_curves(finished("source_only"))
    assert [text.get_text() for text in figure.findobj(match=_is_legend_text)] == [
        "loss",
        "source test",
        "target test",
        "selected (source_val)",
    ]
    assert overlapping(figure) == []


def _is_legend_text(artist: Any) -> bool:
    from matplotlib.text import Text

    return isinstance(artist, Text) and artist.get_text() in {
        "loss", "loss_classification", "source test", "target test", "selected (source_val)",
    }  # fmt: skip


def test_features_are_shown_of_the_best_method_beside_its_floor_at_a_common_seed(
    finished: Finished, tmp_path: Path
) -> None:
    for seed in (1, 2):
        finished("source_only", seed=seed)
        finished("mmd", seed=seed, accuracy=0.6)
    for seed in (0, 2):
        finished("dann", seed=seed, accuracy=0.8)
    finished("dann", "optim.lr=1", accuracy=0.9)  # better, and without a floor
    assert [(run.strategy, run.seed) for run in with_floor(found(tmp_path))] == [("source_only", 2), ("dann", 2)]


def test_features_of_references_alone_are_not_shown(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    finished("target_only")
    assert with_floor(found(tmp_path)) == []


def test_embedding_keeps_clusters_apart_and_is_the_same_every_time() -> None:
    generator = np.random.default_rng(0)
    centres = np.repeat(10 * np.eye(3, 60), 30, axis=0)
    features = (centres + generator.normal(size=centres.shape)).astype(np.float32)
    points = embed(features)
    assert np.array_equal(points, embed(features))
    middles = points.reshape(3, 30, 2).mean(axis=1)
    spread = np.linalg.norm(points.reshape(3, 30, 2) - middles[:, None], axis=2).mean()
    apart = min(np.linalg.norm(middles[one] - middles[two]) for one, two in ((0, 1), (0, 2), (1, 2)))
    assert apart > 3 * spread


@pytest.mark.slow
def test_a_method_has_the_same_colour_in_every_picture_of_its_pair(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib.colors

    for rate in range(9):
        finished("dann", f"optim.lr={1 + rate}")
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(style, "save", lambda figure, path: drawn.setdefault(path.name, figure) and [path])
    draw(found(tmp_path / "runs"), tmp_path / "out")
    curve = drawn["mnist_usps-curves-2"].axes[0].lines[0].get_color()
    bar = drawn["mnist_usps-bars"].axes[0].patches[8].get_facecolor()
    assert matplotlib.colors.to_rgba(curve) == bar == matplotlib.colors.to_rgba(style.METHODS[8 % 6])


def test_few_rows_of_many_features_are_embedded_too() -> None:
    assert embed(np.random.default_rng(0).normal(size=(8, 80)).astype(np.float32)).shape == (8, 2)
