"""What a whole run says of itself: selection, evidence, liveness, what learnt and what kept still, and that no label leaks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.runs import DIGITS, SAVING, TOY, differences, model_bits, rows
from tlrun.batch import Batch, Inputs, Losses, Output, Progress
from tlrun.compose.resolve import name_choices, pretrain_config
from tlrun.config import ConfigError, ExperimentConfig, Rule
from tlrun.data.domain import DomainPair, load_pair
from tlrun.engine import engine
from tlrun.engine.evaluate import Evaluation, Evaluator
from tlrun.engine.optimise import Optimiser
from tlrun.engine.selection import SCORES, Evidence
from tlrun.run import RunFolder, load_checkpoint, run_name
from tlrun.run_files import EVALUATION_PARTS, SUMMARY_FIELDS, unknown_files
from tlrun.strategies.base import Strategy
from tlrun.strategies.dann import Dann
from tlrun.strategies.mmd import Mmd
from tlrun.strategies.source_only import SourceOnly

Describe = Callable[..., ExperimentConfig]
Train = Callable[..., RunFolder]


ALIGNING = (*TOY, "data.target_labels=none")
"""One phase for every strategy."""


# -- what a run folder says ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_metrics_have_one_header_for_all_phases_and_blanks_where_a_phase_has_none(train: Train) -> None:
    folder = train(*TOY, "strategy=dann", "strategy.finetune_share=0.4", "strategy.update=alternating")
    lines = folder.metrics.read_text().splitlines()
    assert len(lines) == 4
    assert {line.count(",") for line in lines} == {lines[0].count(",")}
    table = folder.read_metrics()
    assert table["phase"].tolist() == ["train", "train", "finetune"]
    of_alignment = ["loss_discriminator", "loss_adversarial", "gradient_adversarial", "discriminator_accuracy"]
    for column in of_alignment:
        assert table[column].notna().tolist() == [True, True, False], column
    for column in ("loss", "loss_classification", "lr", "lr_head", "lr_hidden1", "source_val_accuracy", "seconds"):
        assert table[column].notna().all(), column


@pytest.mark.slow
def test_header_is_there_before_the_first_epoch_is_over(train: Train, described: Describe) -> None:
    settings = (*TOY, *SAVING, "strategy=mmd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "after_step", lambda self, progress: 1 // (progress.step < 2))
        with pytest.raises(ZeroDivisionError):
            train(*settings)
    folder = RunFolder.of(name_choices(described(*settings)))
    header = folder.metrics.read_text()
    assert header.count("\n") == 1
    assert train(*settings).metrics.read_text().startswith(header)


@pytest.mark.slow
def test_finished_run_holds_every_file_and_field_and_no_other(train: Train) -> None:
    folder = train(*TOY, "strategy=fine_tune")
    assert unknown_files(folder.path) == []
    confusions = [folder.confusion(*part.split("_")) for part in EVALUATION_PARTS]
    where_asked = (folder.plots, folder.loggers, folder.tensorboard, folder.wandb)
    for path in (*confusions, *(set(vars(folder).values()) - {folder.path, *where_asked})):
        assert path.is_file(), path
    summary = json.loads(folder.summary.read_text())
    assert list(summary) == list(SUMMARY_FIELDS)
    may_be_null = {"discriminator_accuracy", "twin_rows", "twin_agreement", "twin_cosine"}
    assert {name for name, value in summary.items() if value is None} == may_be_null


@pytest.mark.slow
def test_summary_agrees_with_tables_and_predictions(train: Train) -> None:
    folder = train(*DIGITS, "strategy=source_only", "engine.select=information_maximisation")
    summary, table, predictions = folder.read_summary(), folder.read_metrics(), folder.read_predictions()
    selected = table[table["epoch"] == summary["selected_epoch"]].iloc[0]
    for name in ("target_test_accuracy", "source_test_accuracy", "target_test_macro_f1", "target_test_loss",
                 "target_test_calibration_error", "source_val_accuracy", "target_val_accuracy"):  # fmt: skip
        assert summary[name] == pytest.approx(selected[name], rel=1e-6), name
    assert summary["select_score"] == selected["score_information_maximisation"]
    assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(summary["target_test_accuracy"])
    _, confusion = folder.read_confusion("target", "test")
    assert sum(confusion[label][label] for label in range(10)) / 100 == pytest.approx(summary["target_test_accuracy"])
    classes = folder.read_classes()
    of_epoch = classes[(classes["epoch"] == summary["selected_epoch"]) & (classes["domain"] == "target")]
    of_test = of_epoch[of_epoch["split"] == "test"]
    right = (of_test["accuracy"].fillna(0.0) * of_test["rows"]).sum()
    assert right / 100 == pytest.approx(summary["target_test_accuracy"])


def test_steps_epochs_and_images_are_counted(train: Train) -> None:
    settings = (*TOY, "strategy=mmd", "strategy.finetune_share=0", "engine.accumulate=2")
    folder = train(*settings)
    state = load_checkpoint(folder.last, digest=None)["state"]
    assert (state["optimizer_steps"], state["phase"], state["phase_step"]) == (12, 1, 0)
    assert state["images"] == 12 * 2 * (16 + 16)
    table = folder.read_metrics()
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table["step"].tolist() == [4, 8, 12]
    decayed = [0.1 * (1.0 + 10.0 * step / 12) ** -0.75 for step in (3, 7, 11)]
    assert table["lr"].tolist() == pytest.approx(decayed)


@pytest.mark.slow
def test_steps_of_an_epoch_follow_the_longer_domain_whatever_the_strategy_reads(train: Train) -> None:
    settings = (*ALIGNING, "engine.steps_per_epoch=null", "engine.epochs=1", "engine.batch_size=64")
    card = train(*settings, "strategy=source_only").read_data_card()
    longer = max(card[role]["rows"]["train"] for role in ("source", "target"))
    for strategy in ("source_only", "target_only", "mmd"):
        assert train(*settings, f"strategy={strategy}").read_summary()["steps"] == math.ceil(longer / 64)


# -- selection ---------------------------------------------------------------------------------------------------------

READS: dict[Rule, Callable[[dict[str, Any]], float]] = {
    "last": lambda row: float(row["epoch"]),
    "source_val": lambda row: row["source_val_accuracy"],
    "target_val": lambda row: row["target_val_accuracy"],
    "oracle": lambda row: row["target_test_accuracy"],
}
"""What a score is, where metrics.csv says it twice; all target validation labels granted."""


OFTEN = (*READS, "information_maximisation", "dev")
"""Rules tried each time: every way to a score; the others differ in their formula alone."""


@pytest.mark.parametrize(
    "rule", [rule if rule in OFTEN else pytest.param(rule, marks=pytest.mark.slow) for rule in SCORES]
)
def test_selection_takes_the_epoch_that_its_rule_says_from_the_last_phase(rule: Rule, train: Train) -> None:
    folder = train(
        *(*TOY, "strategy=mmd", "strategy.finetune_share=0.5", "data.target_labels=5", "data.target_val_labels=all"),
        *("engine.epochs=8", "engine.steps_per_epoch=2", f"engine.select={rule}"),
    )
    last_phase = [row for row in rows(folder) if row["phase"] == "finetune"]
    assert len(last_phase) == 4
    if rule in READS:
        assert [row[f"score_{rule}"] for row in last_phase] == [READS[rule](row) for row in last_phase]
    chosen = max(last_phase, key=lambda row: (row[f"score_{rule}"], row["epoch"]))
    summary = folder.read_summary()
    assert (summary["select"], summary["selected_epoch"]) == (rule, chosen["epoch"])
    assert summary["select_score"] == chosen[f"score_{rule}"]
    assert summary["target_test_accuracy"] == pytest.approx(chosen["target_test_accuracy"])
    assert load_checkpoint(folder.best, digest=None)["step"] == chosen["step"]
    best = max(last_phase, key=lambda row: (row["target_test_accuracy"], row["epoch"]))
    assert (summary["oracle_epoch"], summary["oracle_target_test_accuracy"]) == (
        best["epoch"],
        best["target_test_accuracy"],
    )
    assert summary["regret"] == pytest.approx(best["target_test_accuracy"] - chosen["target_test_accuracy"])
    assert summary["last_target_test_accuracy"] == last_phase[-1]["target_test_accuracy"]


def test_best_checkpoint_is_the_model_of_the_epoch_that_was_chosen(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = Evaluation.evidence
    scores = {1: 0.5, 2: 0.9, 3: 0.7}
    seen: dict[int, dict[str, Tensor]] = {}

    def second_is_best(self: Evaluation, epoch: int) -> Evidence:
        return replace(evidence(self, epoch), source_val_accuracy=scores[epoch])

    def after_step(self: Strategy, progress: Progress) -> None:
        seen[progress.step + 1] = {name: value.clone() for name, value in self.model.state_dict().items()}

    monkeypatch.setattr(Evaluation, "evidence", second_is_best)
    monkeypatch.setattr(Strategy, "after_step", after_step)
    folder = train(*TOY, "strategy=source_only", "model.bottleneck=4")
    summary = folder.read_summary()
    assert (summary["select"], summary["selected_epoch"], summary["select_score"]) == ("source_val", 2, 0.9)
    content = load_checkpoint(folder.best, digest=summary["digest"])
    assert (content["epoch"], content["step"]) == (2, 8)
    for name, value in content["model"].items():
        assert torch.equal(value, seen[8][name]), name
    assert model_bits(folder.best) != model_bits(folder.last)


def test_granted_validation_labels_alone_are_read_by_target_val(train: Train) -> None:
    folder = train(*TOY, "strategy=target_only", "data.target_val_labels=3")
    scores = [row["score_target_val"] for row in rows(folder)]
    assert folder.read_summary()["select"] == "target_val"
    assert all(round(6 * score, 9) == round(6 * score) for score in scores)
    assert folder.read_metrics()["target_val_accuracy"].nunique() >= 1


# -- what learns and what keeps still ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_frozen_backbone_keeps_weights_and_batch_statistics(train: Train, described: Describe) -> None:
    settings = (*DIGITS, "strategy=feature_extract", "data.target_labels=3", "model.map_dropout=0.3")
    for encode_once in ("true", "false"):
        overrides = (*settings, f"strategy.encode_once={encode_once}")
        folder = train(*overrides)
        source = model_bits(RunFolder.of(pretrain_config(described(*overrides))).best)
        after = model_bits(folder.last)
        same = {name for name, bits in after.items() if bits == source[name]}
        assert same == {name for name in after if name.startswith("backbone.")}
        assert any("running_mean" in name for name in same)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rows_encoded_once_lead_to_the_same_predictions(precision: str, train: Train) -> None:
    settings = (*DIGITS, "strategy=feature_extract", "data.target_labels=3", f"engine.precision={precision}",
                "model.map_dropout=0.3", "optim.lr=0.05")  # fmt: skip
    encoded, plain = (train(*settings, f"strategy.encode_once={once}").read_predictions() for once in ("true", "false"))
    assert encoded["prediction"].nunique() > 2
    assert encoded["prediction"].tolist() == plain["prediction"].tolist()
    shares = [name for name in encoded if str(name).startswith("probability_")]
    difference = (encoded[shares] - plain[shares]).abs().to_numpy().max()
    assert difference < (1e-5 if precision == "fp32" else 0.02)


def test_encoding_once_refuses_augmentation_that_it_would_undo(train: Train) -> None:
    with pytest.raises(ConfigError) as error:
        train(
            *(*DIGITS, "strategy=feature_extract", "strategy.encode_once=true"),
            *("data.target_labels=3", "augment=light"),
        )
    assert error.value.problems == [
        "strategy.encode_once: runs frozen stages once per image, so augmentation would have no effect; "
        "set augment=none, strategy.encode_once=false, or strategy.encode_views to a number of views of each row"
    ]


def test_encoding_once_refuses_mixing(train: Train) -> None:
    with pytest.raises(ConfigError) as error:
        train(
            *TOY, "strategy=feature_extract", "strategy.encode_once=true", "data.target_labels=3", "augment/mix=mixup"
        )
    assert error.value.problems == [
        "strategy.encode_once: runs frozen stages once per image, and augment.mix makes new images in every step; "
        "set augment/mix=none, or strategy.encode_once=false"
    ]


@pytest.mark.slow
def test_mixed_labels_reach_the_loss_and_never_the_evaluation(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    loss = SourceOnly.loss

    def watched(self: SourceOnly, batch: Batch, progress: Progress) -> Losses:
        assert batch.source is not None
        assert batch.source.y is not None
        seen.append(batch.source.y)
        return loss(self, batch, progress)

    monkeypatch.setattr(SourceOnly, "loss", watched)
    folder = train(*DIGITS, "strategy=source_only", "augment/mix=both")
    assert {y.shape for y in seen} == {(16, 10)}
    assert all(torch.allclose(y.sum(1), torch.ones(16)) and (y.max(1).values < 1).any() for y in seen)
    assert set(folder.read_predictions()["label"]) == set("0123456789")
    assert 0 <= folder.read_summary()["source_test_accuracy"] <= 1


def test_augmentation_that_does_not_fit_is_refused_before_a_source_model_is_trained(
    train: Train, described: Describe
) -> None:
    settings = (*TOY, "strategy=fine_tune", "augment=light")
    with pytest.raises(ConfigError, match="augment"):
        train(*settings)
    assert not RunFolder.of(pretrain_config(described(*settings))).path.exists()


def test_every_phase_trains_its_parameters_and_no_others(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: dict[str, set[str]] = {}
    step = Optimiser.step

    def watched(self: Optimiser, *args: Any) -> None:
        strategy = watching[0]
        before = {name: value.detach().clone() for name, value in strategy.named_parameters()}
        step(self, *args)
        changed = {name for name, value in strategy.named_parameters() if not torch.equal(value, before[name])}
        moved.setdefault(phase[0], set()).update(changed)

    watching: list[Strategy] = []
    phase: list[str] = []

    def begin_phase(self: Strategy, each: Any, access: object) -> None:
        watching[:], phase[:] = [self], [each.name]

    monkeypatch.setattr(Optimiser, "step", watched)
    monkeypatch.setattr(Strategy, "begin_phase", begin_phase)
    folder = train(*TOY, "strategy=progressive", "optim.weight_decay=0.1", "model.bottleneck=4")
    top = {"model.head.out.weight", "model.head.out.bias", *(f"model.bottleneck.{name}" for name in
           ("0.weight", "0.bias", "1.weight", "1.bias"))}  # fmt: skip
    second = {f"model.backbone.stages.hidden2.0.{name}" for name in ("weight", "bias")}
    first = {f"model.backbone.stages.hidden1.1.{name}" for name in ("weight", "bias")}
    assert {name: moved[name] for name in ("head", "from_hidden2", "from_hidden1")} == {
        "head": top,
        "from_hidden2": top | second,
        "from_hidden1": top | second | first,
    }
    counts = [4 * 2 + 2 + 12 * 4 + 4 + 4 + 4, 24 * 12 + 12, 2 * 24 + 24]
    summary = folder.read_summary()
    assert summary["trainable_parameters_by_phase"] == {
        "head": counts[0],
        "from_hidden2": counts[0] + counts[1],
        "from_hidden1": sum(counts),
    }
    assert summary["trainable_parameters"] == summary["parameters"] == sum(counts)


def test_forgetting_is_what_the_source_lost_since_the_source_model(train: Train, described: Describe) -> None:
    settings = (*TOY, "strategy=fine_tune", "optim.lr=1.0", "data.target.rotation=180.0")
    summary = train(*settings).read_summary()
    source = RunFolder.of(pretrain_config(described(*settings))).read_summary()
    assert summary["source_test_accuracy_before"] == pytest.approx(source["source_test_accuracy"])
    assert summary["forgetting"] == pytest.approx(source["source_test_accuracy"] - summary["source_test_accuracy"])
    assert summary["forgetting"] > 0.2
    assert summary["pretrain_seconds"] == source["seconds"]


@pytest.mark.parametrize(
    "overrides",
    [
        ("strategy=fine_tune", "strategy.learns_from=source"),
        ("strategy=progressive", "strategy.learns_from=source"),
        ("strategy=dann", "strategy.train=last_k", "strategy.last_k=1"),
    ],
    ids=["fine_tune", "progressive", "dann"],
)
def test_forgetting_counts_from_the_trained_start_whatever_the_run_reads(
    overrides: tuple[str, ...], train: Train, described: Describe
) -> None:
    summary = train(*TOY, *overrides).read_summary()
    source = RunFolder.of(pretrain_config(described(*TOY, *overrides))).read_summary()
    assert summary["source_test_accuracy_before"] == pytest.approx(source["source_test_accuracy"])


def test_forgetting_counts_from_before_the_last_phase_of_an_adaptation_from_random_weights(train: Train) -> None:
    folder = train(*TOY, "strategy=dann", "strategy.finetune_share=0.3")
    before = [row["source_test_accuracy"] for row in rows(folder) if row["phase"] == "train"][-1]
    assert folder.read_summary()["source_test_accuracy_before"] == before


def test_looking_back_at_the_source_is_no_training_time(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0.0

    def accuracy(self: Evaluator, part: object) -> float:
        nonlocal passed
        passed += 1000.0
        return 0.5

    monkeypatch.setattr(Evaluator, "accuracy", accuracy)
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed))
    folder = train(*TOY, "strategy=fine_tune")
    assert folder.read_summary()["seconds"] > 1000
    assert rows(folder)[0]["seconds"] < 500
    assert folder.read_summary()["images_per_second"] > 1


def test_forgetting_is_blank_where_nothing_was_known_before(train: Train) -> None:
    summary = train(*TOY, "strategy=scratch").read_summary()
    assert (summary["source_test_accuracy_before"], summary["forgetting"]) == (None, None)


# -- liveness ------------------------------------------------------------------------------------------------------------


def warnings_of(folder: RunFolder) -> list[str]:
    """The first words of the summary's warnings."""
    return [text.partition(":")[0] for text in folder.read_summary()["warnings"]]


@pytest.mark.parametrize(("strategy", "term"), [("mmd", "mmd"), ("dann", "adversarial")])
def test_transfer_term_that_works_is_alive(strategy: str, term: str, train: Train) -> None:
    folder = train(*ALIGNING, f"strategy={strategy}")
    assert "dead" not in warnings_of(folder)
    assert folder.read_summary()["transfer_alive"][term] > 1e-4
    assert folder.read_metrics()[f"gradient_{term}"].max() == folder.read_summary()["transfer_alive"][term]


@pytest.mark.parametrize("settings", [("strategy=mcc",), ("strategy=mmd", "strategy.match=[logits]")])
def test_a_term_of_the_logits_is_alive_where_both_domains_pass_jointly(settings: tuple[str, ...], train: Train) -> None:
    alive = {}
    for batch_norm in ("joint", "apart"):
        folder = train(*ALIGNING, *settings, f"strategy.batch_norm={batch_norm}")
        assert "dead" not in warnings_of(folder)
        (alive[batch_norm],) = folder.read_summary()["transfer_alive"].values()
    # The model has no batch normalisation, so that the two compute the same.
    assert alive["joint"] == pytest.approx(alive["apart"], rel=1e-4) and alive["joint"] > 1e-5


def test_transfer_term_cut_off_from_the_features_is_reported_dead(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Mmd.loss

    def detached(self: Mmd, batch: Batch, progress: Progress) -> Losses:
        losses = loss(self, batch, progress)
        return replace(losses, transfer={"mmd": losses.transfer["mmd"].detach()})

    monkeypatch.setattr(Mmd, "loss", detached)
    summary = train(*ALIGNING, "strategy=mmd").read_summary()
    assert summary["transfer_alive"] == {"mmd": 0.0}
    assert summary["warnings"] == [
        "dead: the gradient of the transfer term 'mmd' never reached the features (largest norm 0.0e+00), "
        "so adaptation did nothing"
    ]


def test_adversary_that_trains_alone_is_reported_dead(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlrun.strategies.dann.reverse_gradient", lambda features, weight: features.detach())
    folder = train(*ALIGNING, "strategy=dann")
    assert "dead" in warnings_of(folder)
    assert folder.read_summary()["transfer_alive"] == {"adversarial": 0.0}


@pytest.mark.slow
def test_discriminator_that_still_tells_the_domains_apart_is_reported(train: Train) -> None:
    far = (
        "strategy=dann",
        "strategy.discriminator_hidden=[100]",
        "data.target.shift=[40.0,40.0]",
        "engine.epochs=6",
        "strategy.weight=1e-6",
    )
    folder = train(*ALIGNING, *far)
    assert "separable" in warnings_of(folder)
    assert folder.read_summary()["discriminator_accuracy"] >= 0.99
    assert "separable" not in warnings_of(train(*ALIGNING, "strategy=dann"))


def test_predictions_of_one_class_are_reported_as_collapsed(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Strategy.predict

    def one_class(self: Strategy, x: Inputs, *args: str) -> Output:
        output = predict(self, x, *args)
        return Output(output.features, output.logits * 0 + torch.tensor([0.0, 1.0]))

    monkeypatch.setattr(Strategy, "predict", one_class)
    summary = train(*ALIGNING, "strategy=source_only").read_summary()
    assert summary["largest_class_share"] == 1.0
    assert summary["warnings"] == ["collapsed: 100 % of the target predictions are class 'positive'"]


def test_undeclared_term_is_an_error_of_the_strategy(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Dann.loss

    def more(self: Dann, batch: Batch, progress: Progress) -> Losses:
        losses = loss(self, batch, progress)
        return replace(losses, stats={**losses.stats, "surprise": losses.features[0].mean()})

    monkeypatch.setattr(Dann, "loss", more)
    with pytest.raises(ValueError, match="the strategy reports surprise, which its `terms` do not declare"):
        train(*ALIGNING, "strategy=dann")


# -- withheld labels -------------------------------------------------------------------------------------------------


def permute_withheld(pair: DomainPair) -> DomainPair:
    """Every target label that was not granted becomes another class's."""
    parts = dict(pair.parts)
    for name in ("target_val", "target_test"):
        part = parts[name]
        assert part.y is not None
        assert part.granted is not None
        other = (part.y + 1 + part.index % (pair.task.num_classes - 1)) % pair.task.num_classes
        parts[name] = replace(part, y=torch.where(part.granted, part.y, other))
    assert parts["target_unlabelled"].y is None
    return replace(pair, parts=parts)


def load_permuted(*args: Any, **options: Any) -> DomainPair:
    return permute_withheld(load_pair(*args, **options))


@pytest.mark.parametrize(
    ("strategy", "select"),
    [
        ((*TOY, "strategy=source_only"), "source_val"),
        ((*TOY, "strategy=source_only"), "information_maximisation"),
        ((*TOY, "strategy=dann"), "source_val"),
        ((*DIGITS, "strategy=dann", "data.target_labels=2", "data.target_val_labels=1"), "target_val"),
        ((*TOY, "strategy=mmd", "data.target_labels=none"), "entropy"),
        ((*TOY, "strategy=mmd", "data.target_labels=2"), "last"),
    ],
)
def test_withheld_target_labels_change_reported_figures_and_nothing_else(
    strategy: tuple[str, ...], select: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*strategy, f"engine.select={select}")
    before = train(*settings, root="true")
    monkeypatch.setattr("tlrun.experiment.load_pair", load_permuted)
    after = train(*settings, root="permuted")

    for path in ("last.pt", "best.pt"):
        assert model_bits(before.last.with_name(path)) == model_bits(after.last.with_name(path))
    found = differences(tmp_path / "true", tmp_path / "permuted")
    assert any("target_test_accuracy" in each for each in found)
    withheld = ("target_test", "target_val", "score_oracle", "oracle", "regret")
    for each in found:
        file, key = each.removeprefix(f"{before.path.name}/").split(": ")
        if file in ("confusion_target_val.csv", "confusion_target_test.csv"):
            continue
        if file == "classes.csv":
            number = int(key.split()[0])
            assert before.read_classes().iloc[number]["domain"] == "target", each
        elif file == "predictions.csv":
            assert key.endswith(" label"), each
        else:
            assert any(word in key for word in withheld) or ".state.class_rows" in key, each
    assert before.read_summary()["selected_epoch"] == after.read_summary()["selected_epoch"]
    assert before.read_summary()["select_score"] == after.read_summary()["select_score"]


def test_permuting_labels_would_be_seen_by_the_oracle(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*TOY, "strategy=source_only", "engine.select=oracle")
    before = train(*settings, root="true").read_summary()["select_score"]
    monkeypatch.setattr("tlrun.experiment.load_pair", load_permuted)
    assert train(*settings, root="permuted").read_summary()["select_score"] != before


# -- seeds -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_same_seed_gives_the_same_bits_and_another_seed_others(train: Train, tmp_path: Path) -> None:
    settings = (*TOY, "strategy=dann", "model.dropout=0.2")
    zero = train(*settings, "seed=0")
    train(*settings, "seed=0", root="again")
    assert differences(tmp_path / "runs", tmp_path / "again") == []
    one = train(*settings, "seed=1")
    assert one.path != zero.path
    assert all(one_bits != zero_bits for one_bits, zero_bits in zip(
        model_bits(one.best).values(), model_bits(zero.best).values(), strict=True))  # fmt: skip
    assert one.read_summary()["seed"] == 1
    assert zero.read_summary()["seed"] == 0


def test_what_ran_before_in_the_process_does_not_matter(train: Train, tmp_path: Path) -> None:
    settings = (*TOY, "strategy=mmd", "model.dropout=0.2")
    train(*settings)
    train(*TOY, "strategy=source_only", "engine.epochs=1", "engine.precision=bf16", root="others")
    torch.rand(5)
    train(*settings, root="again")
    assert differences(tmp_path / "runs", tmp_path / "again") == []


def test_threads_do_not_change_the_name_of_a_run(config: Callable[..., ExperimentConfig]) -> None:
    names = {run_name(name_choices(config(*TOY, "strategy=mmd", f"device.threads={threads}"))) for threads in (1, 2)}
    assert len(names) == 1
