from __future__ import annotations

from pathlib import Path

import pytest

from tlrun.batch import Terms
from tlrun.run_files import metrics_columns, unknown_files


def test_undeclared_files_are_listed(tmp_path: Path) -> None:
    for name in ("notes.txt", "checkpoints/old.pt", "confusion_target.csv", "plots/deep/a.png", ".summary.json.12.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert unknown_files(tmp_path) == ["checkpoints/old.pt", "confusion_target.csv", "notes.txt"]


def test_metrics_columns_come_from_what_the_strategy_declares() -> None:
    terms = Terms(task=("classification",), transfer=("domain",), stats=("discriminator_accuracy",))
    columns = metrics_columns(terms, splits=["target_val"], rules=["entropy"], groups=["head"])
    assert columns == (
        *("epoch", "step", "phase", "loss", "loss_classification", "loss_domain", "gradient_domain"),
        *("discriminator_accuracy", "target_val_accuracy", "target_val_macro_f1", "target_val_loss"),
        *("target_val_calibration_error", "score_entropy", "largest_class_share", "lr", "lr_head"),
        *("seconds", "images_per_second"),
    )
    whole = metrics_columns(terms, rules=[], groups=[])
    assert [column for column in whole if column.endswith("_macro_f1")] == [
        f"{part}_macro_f1" for part in ("source_val", "source_test", "target_val", "target_test")
    ]


def test_metrics_column_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^metrics\.csv would have two columns named loss_domain, lr$"):
        metrics_columns(Terms(transfer=("domain",), stats=("lr", "loss_domain")), rules=[], groups=[])
