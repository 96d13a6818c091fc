"""Folders of finished runs, written in no time by the writers that real runs use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig
from tlrun.run import Prediction, RunFolder, digest
from tlrun.run_files import EVALUATION_PARTS, SUMMARY_FIELDS

DIGITS = ("data=mnist_usps", "engine.precision=fp32")


class Finished(Protocol):
    """Writes the folder of a run that says it is done."""

    def __call__(
        self, strategy: str, *overrides: str, seed: int = 0, accuracy: float | None = 0.5, **summary: Any
    ) -> RunFolder: ...


@pytest.fixture
def finished(tmp_path: Path, config: Callable[..., ExperimentConfig]) -> Finished:
    """`finished("dann", "optim.lr=0.1", seed=1, accuracy=0.9)`: a folder under tmp_path/runs."""

    def write(strategy: str, *overrides: str, seed: int = 0, accuracy: float | None = 0.5, **summary: Any) -> RunFolder:
        base = () if any(each.startswith("data=") for each in overrides) else DIGITS
        asked = config(f"strategy={strategy}", *base, *overrides).model_copy(update={"seed": seed})
        return write_run(tmp_path / "runs", name_choices(asked), accuracy, **summary)

    return write


def write_run(root: Path, config: ExperimentConfig, accuracy: float | None, **summary: Any) -> RunFolder:
    folder = RunFolder(root / f"{config.strategy.name}-s{config.seed}-{digest(config)}")
    folder.write_status("running")
    folder.write_config(config)
    figures = {f"{part}_accuracy": accuracy for part in EVALUATION_PARTS}
    rows = [{"epoch": epoch, "loss": 1 / epoch, **figures} for epoch in (1, 2, 3)]
    folder.write_metrics(["epoch", "loss", "loss_classification", *figures], rows)
    planar = config.data.name == "toy_gaussians"
    folder.write_data_card({"input_shape": [2] if planar else [1, 28, 28], "fingerprint": "f"})
    for domain in ("source", "target"):
        write_confusion(folder, domain, ("a", "b"))
    folder.write_confusion("source", "val", ("a", "b"), [[9, 1], [1, 9]])
    write_predictions(folder, "aaaaaaaaabbbbbbbbb", "aaaaaaaabbbbbbbbba", [0.75] * 18)
    values = dict.fromkeys(name for name in SUMMARY_FIELDS if name != "format") | {
        "status": "done",
        "strategy": config.strategy.name,
        "data": config.data.name,
        "seed": config.seed,
        "target_test_accuracy": accuracy,
        "source_test_accuracy": 0.75,
        "target_test_macro_f1": accuracy,
        "select": config.engine.select,
        "selected_epoch": 2,
        "last_target_test_accuracy": accuracy,
        "oracle_target_test_accuracy": accuracy,
        "regret": None if accuracy is None else 0.0,
        "rows_target_labels": 0,
        "seconds": 2.0,
        "images_per_second": 1000.0,
        "peak_memory_bytes": 300_000_000,
        "name": folder.path.name,
        "digest": digest(config),
        "warnings": [],
    }
    folder.write_summary(values | summary)
    folder.write_status("done")
    return folder


def write_confusion(folder: RunFolder, domain: str, classes: Sequence[str]) -> None:
    counts = [[8 if true == predicted else 1 for predicted in classes] for true in classes]
    folder.write_confusion(domain, "test", classes, counts)


def write_predictions(
    folder: RunFolder, labels: str, predictions: str, confidences: Sequence[float], *, classes: str = "ab"
) -> None:
    """Target test rows of classes named by a letter each, a label of `-` for none; other classes share what is left."""
    rows = []
    for row, (label, prediction, confidence) in enumerate(zip(labels, predictions, confidences, strict=True)):
        others = (1 - confidence) / (len(classes) - 1)
        shares = [confidence if name == prediction else others for name in classes]
        rows.append(Prediction("test", row, classes.find(label), shares))
    folder.write_predictions(tuple(classes), rows)


def write_outcomes(folder: RunFolder, right: Sequence[int]) -> None:
    """Rows of class a, predicted as b where `right` is 0."""
    rows = [Prediction("test", row, 0, (0.9, 0.1) if each else (0.2, 0.8)) for row, each in enumerate(right)]
    folder.write_predictions(("a", "b"), rows)
