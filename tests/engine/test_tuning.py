"""Fine-tuning in whole runs: what is evaluated and kept, when it ends, which rows count, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.runs import DIGITS, TOY, differences, rows
from tlrun.batch import Batch, Examples, Output
from tlrun.compose.resolve import check, name_choices
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.data.domain import load_pair
from tlrun.engine.balance import class_weights
from tlrun.engine.engine import Engine
from tlrun.engine.evaluate import mean_output
from tlrun.layers.ema import warmed_up
from tlrun.run import RunFolder, load_checkpoint, run_name
from tlrun.strategies.base import Strategy
from tlrun.trained import load_run_pair, load_trained

Describe = Callable[..., ExperimentConfig]
Train = Callable[..., RunFolder]
TUNE = (*TOY, "strategy=fine_tune", "model.bottleneck=4")
NORMED = (*DIGITS, "strategy=fine_tune", "data.target_labels=3", "model.batch_norm=true")


def model_of(folder: RunFolder, name: str = "best") -> dict[str, Tensor]:
    content: dict[str, Tensor] = load_checkpoint(getattr(folder, name), digest=None)["model"]
    return content


# -- the moving average ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [True, False])
def test_what_is_kept_is_the_average_of_every_steps_weights(warmup: bool, train: Train) -> None:
    live: list[dict[str, Tensor]] = []

    def after_step(self: Strategy, progress: object) -> None:
        live.append({name: value.clone() for name, value in self.model.state_dict().items()})

    settings = (*TUNE, "engine.select=last", "engine.ema.decay=0.7", f"engine.ema.warmup={str(warmup).lower()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "after_step", after_step)
        folder = train(*settings)
    live = live[-12:]  # those before are the source model's
    source = model_of(RunFolder(next(folder.path.parent.glob("*source_only*"))))
    kept = model_of(folder)
    for name, average in source.items():
        for step, state in enumerate(live, start=1):
            decay = warmed_up(0.7, step) if warmup else 0.7
            average = decay * average + (1 - decay) * state[name] if average.is_floating_point() else state[name]
        torch.testing.assert_close(kept[name], average, rtol=1e-4, atol=1e-5, msg=name)
    assert not torch.equal(kept["head.out.weight"], live[-1]["head.out.weight"])
    assert torch.equal(model_of(folder, "last")["head.out.weight"], live[-1]["head.out.weight"])
    summary = folder.read_summary()
    assert summary["weights"] == "moving average"
    assert summary["target_test_loss"] == pytest.approx(rows(folder)[-1]["target_test_loss"])


@pytest.mark.slow
def test_average_does_not_touch_training(train: Train) -> None:
    plain, averaged = train(*TUNE), train(*TUNE, "engine.ema.decay=0.9")
    first, second = model_of(plain, "last"), model_of(averaged, "last")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert plain.read_summary()["weights"] == "last step"
    assert [row["loss"] for row in rows(plain)] == [row["loss"] for row in rows(averaged)]


# -- phases -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_head_learns_on_kept_features_first_and_the_backbone_afterwards(train: Train) -> None:
    settings = (*NORMED, "strategy.head_share=0.4", "schedule.per_phase=true", "engine.select=last")
    seen: dict[str, list[Any]] = {}

    def after_step(self: Strategy, progress: Any) -> None:
        if self.config.name == "fine_tune":
            norm = self.model.backbone.stages["conv1"][2]
            seen.setdefault(progress.phase, []).append((norm.running_mean.clone(), norm.weight.detach().clone()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "after_step", after_step)
        folder = train(*settings)
    assert [row["phase"] for row in rows(folder)] == ["head", "train", "train"]
    assert rows(folder)[0]["lr"] == pytest.approx(0.01 * (1 + 10 * 3 / 4) ** -0.75)
    for place in (0, 1):  # running mean, scale
        assert all(torch.equal(each[place], seen["head"][0][place]) for each in seen["head"])
        assert not torch.equal(seen["train"][0][place], seen["train"][-1][place])
    trainable = folder.read_summary()["trainable_parameters_by_phase"]
    assert trainable["head"] < trainable["train"]


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["frozen_statistics", "frozen"])
def test_frozen_batch_normalisation_is_still_to_the_end(kept: str, train: Train) -> None:
    folder = train(*NORMED, f"strategy.batch_norm={kept}", "engine.select=last")
    before, after = model_of(RunFolder(next(folder.path.parent.glob("*source_only*")))), model_of(folder)
    norms = [name for name in before if name.startswith(("backbone.stages.conv1.2", "backbone.stages.conv2.2"))]
    assert len(norms) == 10
    for name in norms:
        still = kept == "frozen" or "running" in name or "num_batches" in name
        assert torch.equal(before[name], after[name]) == still, name
    assert not torch.equal(before["backbone.stages.conv1.0.weight"], after["backbone.stages.conv1.0.weight"])


@pytest.mark.slow
def test_phase_without_progress_on_granted_validation_labels_ends_early_and_says_so(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    stop = ("engine.early_stop.metric=target_val", "engine.early_stop.patience=2", "data.target_val_labels=3")
    with caplog.at_level("INFO", "tlrun"):
        folder = train(*TUNE, *stop, "engine.epochs=9", "optim.lr=1e-9")
    summary = folder.read_summary()
    assert (summary["epochs"], summary["select"], summary["ended_early"]) == (3, "target_val", {"train": "target_val"})
    assert "phase 'train' ended 6 epochs early: target_val had not improved for 2 evaluations" in caplog.messages
    assert train(*TUNE).read_summary()["ended_early"] == {}


# -- which rows count ---------------------------------------------------------------------------------------------------


def test_class_weights_count_granted_labels_alone(described: Describe) -> None:
    settings = described(
        *DIGITS, "strategy=fine_tune", "data.target_labels=all", "optim.class_weights=inverse_frequency"
    )
    pair = load_pair(name_choices(settings).data, seed=0, device=torch.device("cpu"))
    granted = pair.parts["target_granted"]
    few = replace(granted, y=granted.y[:40])
    pair = replace(pair, parts={**pair.parts, "target_granted": few})
    weights = class_weights(settings.optim, pair)
    counts = torch.bincount(few.y, minlength=10)
    torch.testing.assert_close(weights["target"], 40 / ((counts > 0).sum() * counts.clamp(min=1)) * (counts > 0))
    counts = torch.bincount(pair.parts["source_train"].y)
    torch.testing.assert_close(weights["source"], counts.sum() / (10 * counts))
    assert class_weights(described(*DIGITS).optim, pair) == {}


@pytest.mark.slow
def test_class_weights_reach_the_loss_of_a_run(train: Train) -> None:
    seen: list[dict[str, Tensor]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "after_step", lambda self, progress: seen.append(self.class_weights))
        train(*DIGITS, "strategy=source_only", "optim.class_weights=effective_number", "optim.effective_beta=0.9")
    assert all(each["source"].shape == (10,) and each["source"].std() > 0 for each in seen)


@pytest.mark.slow
def test_balanced_batches_hold_every_class_of_labelled_rows_equally_often(train: Train) -> None:
    seen: list[Batch] = []
    own = Engine._batch

    def batch(self: Engine, address: int) -> Batch:
        seen.append(own(self, address))
        return seen[-1]

    settings = ("strategy=dann", "data.target_labels=all", "strategy.finetune_share=0.4", "engine.batch_size=20")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "_batch", batch)
        train(*DIGITS, *settings, "engine.sampling=balanced")
    labelled = [part for each in seen for part in (each.source, each.target) if part is not None]
    assert {part.domain for part in labelled} == {"source", "target"}
    assert all(torch.bincount(part.y, minlength=10).tolist() == [2] * 10 for part in labelled)


# -- views ----------------------------------------------------------------------------------------------------------------


def test_mean_of_views_is_that_of_probabilities() -> None:
    outputs = [Output(torch.randn(4, 3), torch.randn(4, 5)) for _ in range(3)]
    mean = mean_output(outputs)
    expected = sum(output.logits.softmax(1) for output in outputs) / 3
    torch.testing.assert_close(mean.logits.softmax(1), expected)
    torch.testing.assert_close(mean.features, sum(output.features for output in outputs) / 3)
    assert mean.logits.logsumexp(1).abs().max() < 1e-5


@pytest.mark.slow
def test_views_change_what_is_measured_and_nothing_of_training(train: Train) -> None:
    views = ("engine.test_time.shift=2", "engine.test_time.flip=true")
    plain, averaged = train(*NORMED, "engine.select=last"), train(*NORMED, "engine.select=last", *views)
    assert all(torch.equal(value, model_of(averaged)[name]) for name, value in model_of(plain).items())
    summary = averaged.read_summary()
    assert summary["test_time_views"] == 10 and plain.read_summary()["test_time_views"] == 1
    assert summary["target_test_loss"] != plain.read_summary()["target_test_loss"]
    assert summary["target_test_loss"] == pytest.approx(rows(averaged)[-1]["target_test_loss"])
    predictions = averaged.read_predictions()
    assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(summary["target_test_accuracy"])
    of_label = [row[f"probability_{row['label']}"] for _, row in predictions.iterrows()]
    trained = load_trained(averaged)
    part = load_run_pair(averaged, trained.config).parts["target_test"]
    for logits in (trained.encode(part).logits, trained.output(part.x.take(torch.arange(len(part))), "target").logits):
        shares = logits.softmax(1).max(1).values
        assert shares.tolist() == pytest.approx(predictions["confidence"].tolist(), rel=1e-4)
    assert -sum(map(math.log, of_label)) / 100 == pytest.approx(summary["target_test_loss"], rel=1e-4)


@pytest.mark.slow
def test_strategies_see_rows_as_they_are_whatever_the_evaluation_averages(train: Train) -> None:
    found: list[Examples] = []

    def begin_epoch(self: Strategy, access: Any) -> None:
        found.append(next(access.examples("source_train")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "begin_epoch", begin_epoch)
        train(*DIGITS, "strategy=source_only", "engine.test_time.flip=true")
    assert found and all(each.views == () for each in found)


# -- names and refusals ---------------------------------------------------------------------------------------------------

SETTINGS = (
    "strategy.rates={hidden1: 0.5}",
    "strategy.head_share=0.3",
    "strategy.batch_norm=frozen",
    "engine.ema.decay=0.9",
    "engine.sampling=balanced",
    "engine.test_time.shift=1",
    "optim.class_weights=inverse_frequency",
)


def test_every_setting_has_a_run_of_its_own(described: Describe) -> None:
    names = {run_name(name_choices(described(*TUNE, *each))) for each in [(), *((setting,) for setting in SETTINGS)]}
    assert len(names) == len(SETTINGS) + 1


def test_classes_are_evened_out_once(described: Describe) -> None:
    both = ("engine.sampling=balanced", "optim.class_weights=inverse_frequency")
    line = "engine.sampling: balanced and optim.class_weights=inverse_frequency even out the classes twice; choose one of them"
    assert check(described(*TUNE, *both)) == [line]
    before = [f"pretrain.{each}" for each in both]
    assert check(described(*TUNE, *before)) == [
        line.replace("engine.", "pretrain.engine.").replace("optim.", "pretrain.optim.")
    ]
    assert check(described(*TUNE, "strategy=source_only", *before)) == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (("strategy=mmd", "strategy.estimate=linear"),
         "engine.batch_size: one row is too few in phase 'train' (the linear estimate needs 2 rows a domain, got 1 and 1); "
         "set at least 2"),
        (("strategy=mmd", "strategy.estimate=unbiased"),
         "engine.batch_size: one row is too few in phase 'train' (the unbiased estimate needs 2 rows a domain, got 1 and 1); "
         "set at least 2"),
        (("strategy=fine_tune", "model.bottleneck=4"),
         "engine.batch_size: one row is too few in phase 'train' (Expected more than 1 value per channel when training, "
         "got input size torch.Size([1, 4])); set at least 2"),
    ],
)  # fmt: skip
def test_one_row_a_batch_is_refused_where_a_phase_needs_two(
    settings: tuple[str, ...], problem: str, train: Train
) -> None:
    with pytest.raises(ConfigError) as caught:
        train(*TOY, *settings, "engine.batch_size=1")
    assert caught.value.problems == [problem]


@pytest.mark.slow
def test_one_row_a_batch_trains_where_nothing_needs_two_and_the_trial_draws_nothing(
    train: Train, tmp_path: Any
) -> None:
    settings = (*TOY, "strategy=mmd", "engine.batch_size=1", "model.dropout=0.3")
    train(*settings, root="with")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlrun.engine.engine.check_single_rows", lambda *_: None)
        train(*settings, root="without")
    assert differences(tmp_path / "with", tmp_path / "without") == []
