"""The warning of a target loss that rises while target labels are learnt from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.runs import TOY
from tlrun.engine import outcome
from tlrun.engine.outcome import rising_loss_warnings
from tlrun.run import RunFolder


def rows(*losses: float | None, split: str = "target_val") -> list[dict[str, Any]]:
    return [{"epoch": epoch, "phase": "only", f"{split}_loss": loss} for epoch, loss in enumerate(losses, start=1)]


def test_a_loss_that_rose_is_told_with_its_epochs() -> None:
    (said,) = rising_loss_warnings(rows(0.9, 0.4, 0.45, None, 0.6))
    assert said.startswith(
        "rising: while fine-tuning, the target val loss rose from 0.400 (epoch 2) to 0.600 (epoch 5)"
    )
    assert "rule of thumb" in said


@pytest.mark.parametrize("losses", [(), (None,), (0.5,), (0.9, 0.5, 0.4), (0.9, 0.5, 0.549)])
def test_a_loss_that_fell_or_barely_rose_is_not(losses: tuple[float | None, ...]) -> None:
    assert rising_loss_warnings(rows(*losses)) == []


def test_test_rows_stand_in_where_val_has_no_labels() -> None:
    assert "the target test loss rose" in rising_loss_warnings(rows(0.4, 0.6, split="target_test"))[0]


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        (("strategy=mmd", "strategy.finetune_share=0.5", "data.target_labels=5", "engine.epochs=4"), True),
        (("strategy=target_only",), False),  # it tunes nothing
        (("strategy=source_only",), False),
    ],
)
def test_fine_tuning_alone_is_watched(
    settings: tuple[str, ...], warned: bool, train: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "RISEN", 0.0)  # any loss counts as risen
    warnings = train(*TOY, *settings).read_summary()["warnings"]
    assert [each for each in warnings if each.startswith("rising: ")] == [each for each in warnings if "loss" in each]
    assert any(each.startswith("rising: ") for each in warnings) == warned
    if warned:
        assert "(epoch 1)" not in str(warnings) and "(epoch 2)" not in str(warnings)  # these were of the first phase
