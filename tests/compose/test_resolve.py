"""From what was asked to what will be computed: combinations, automatic values, names that runs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tlrun.compose.resolve import check, name_choices, name_machine, pretrain_config
from tlrun.config import ExperimentConfig
from tlrun.run import digest, run_name

Config = Callable[..., ExperimentConfig]


def named(config: ExperimentConfig) -> ExperimentConfig:
    return name_machine(name_choices(config))[0]


def test_the_default_command_has_no_problem(config: Config) -> None:
    assert check(config()) == []


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["strategy=fine_tune"],
            "data.target_labels: strategy fine_tune learns from target labels and none are granted; "
            "set data.target_labels to a number per class, or to all",
        ),
        (
            ["strategy=scratch", "data.target_labels=5", "model.weights=source"],
            "model.weights: strategy scratch starts from random weights, got source",
        ),
        (
            ["model.weights=imagenet"],
            "model.weights: model digits_cnn has no imagenet weights; set random, source, or a path",
        ),
        (
            ["model.weights=random", "model.head=keep"],
            "model.head: keep needs weights with a head, got model.weights=random; set model.head=auto",
        ),
        (
            ["engine.select=target_val"],
            "engine.select: target_val reads labels of target validation rows and none are granted; "
            "set data.target_val_labels to a number per class, or to all",
        ),
        (
            ["engine.early_stop.metric=last"],
            "engine.early_stop.metric: 'last' never stops improving; name another rule, or null",
        ),
        (
            ["strategy=progressive", "data.target_labels=5", "strategy.plateau=last"],
            "strategy.plateau: 'last' never stops improving; name another rule, or null",
        ),
        (
            ["strategy=progressive", "data.target_labels=5", "strategy.plateau=target_val"],
            "strategy.plateau: target_val reads labels of target validation rows and none are granted; "
            "set data.target_val_labels to a number per class, or to all",
        ),
        (
            ["strategy=scratch", "data.target_labels=5", "data.source=null", "engine.early_stop.metric=source_val"],
            "engine.early_stop.metric: source_val reads source rows and there is no source; name a source with "
            "domain@data.source=NAME",
        ),
        (
            ["strategy=feature_extract", "data.target_labels=5", "strategy@pretrain.strategy=target_only"],
            "pretrain.strategy: must be trained on the source from the start, such as source_only, got target_only",
        ),
        (
            ["strategy=feature_extract", "data.target_labels=5", "pretrain.weights=source"],
            "pretrain.weights: must be auto, random, imagenet or a path, got source",
        ),
        (
            ["strategy=feature_extract", "data.target_labels=5", "pretrain.engine.select=oracle"],
            "pretrain.engine.select: oracle peeks at target labels that engine.select does not; name both",
        ),
        (["run.require=accuracy"], None),
    ],
)
def test_what_does_not_go_together_is_told(overrides: list[str], problem: str | None, config: Config) -> None:
    problems = check(config(*overrides))
    assert len(problems) == 1
    assert problem is None or problems == [problem]


def test_all_problems_are_told_at_once(config: Config) -> None:
    assert len(check(config("strategy=fine_tune", "engine.select=target_val", "run.require=nonsense"))) == 3


@pytest.mark.parametrize(
    ("overrides", "weights"),
    [
        (["strategy=dann"], "random"),
        (["strategy=source_only", "model=resnet18"], "imagenet"),
        (["strategy=scratch", "model=resnet18", "data.target_labels=1"], "random"),
        (["strategy=fine_tune", "data.target_labels=1"], "source"),
        (["strategy=fine_tune", "data.target_labels=1", "model=resnet18"], "imagenet"),
        (["strategy=dann", "strategy.train=last_k", "strategy.last_k=1"], "source"),
        (["strategy=fine_tune", "data.target_labels=1", "model.weights=random"], "random"),
    ],
)
def test_automatic_weights_suit_what_the_method_starts_from(overrides: list[str], weights: str, config: Config) -> None:
    assert name_choices(config(*overrides)).model.weights == weights


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["strategy=source_only"], "source_val"),
        (["strategy=dann"], "last"),
        (["strategy=adabn"], "last"),
        (["strategy=mmd", "strategy.finetune_share=0", "data.target_labels=5"], "last"),
        (["strategy=dann", "data.target_labels=5"], "last"),
        (["strategy=dann", "data.target_labels=5", "data.target_val_labels=5"], "target_val"),
        (["strategy=target_only"], "last"),
        (["strategy=fine_tune", "data.target_labels=5", "data.target_val_labels=all"], "target_val"),
        (["strategy=fine_tune", "data.target_labels=5", "strategy.learns_from=both"], "source_val"),
        (["strategy=dann", "engine.select=oracle"], "oracle"),
    ],
)
def test_automatic_selection_follows_the_labels_of_the_last_phase(
    overrides: list[str], rule: str, config: Config
) -> None:
    assert name_choices(config(*overrides)).engine.select == rule


@pytest.mark.slow
def test_the_oracle_is_never_chosen_by_itself(config: Config) -> None:
    for strategy in ("source_only", "target_only", "scratch", "feature_extract", "fine_tune", "dann", "mmd"):
        for labels in ("none", "5", "all"):
            asked = config(f"strategy={strategy}", f"data.target_labels={labels}", f"data.target_val_labels={labels}")
            assert name_choices(asked).engine.select != "oracle"


@pytest.mark.slow
def test_frozen_features_are_encoded_once_unless_images_are_augmented(config: Config) -> None:
    for augment, once in (("none", True), ("light", False)):
        asked = config("strategy=feature_extract", "data.target_labels=1", f"augment={augment}")
        assert name_choices(asked).strategy.encode_once is once


def test_mixing_counts_as_augmentation(config: Config) -> None:
    asked = config("strategy=feature_extract", "data.target_labels=1", "augment=none", "augment/mix=mixup")
    assert name_choices(asked).strategy.encode_once is False


@pytest.mark.parametrize(
    ("data", "share"),
    [
        (["data=mnist_mnistm"], 0.0),
        (["data=svhn_mnist"], 0.0),
        (["data=mnist_degraded"], 0.0),
        (["data=fashion_degraded"], 0.5),
        (["data=pair", "domain@data.source=fashion", "domain@data.target=usps"], 0.0),
    ],
)
def test_digits_and_letters_are_not_mirrored_unless_asked_for(data: list[str], share: float, config: Config) -> None:
    pipelines = ("augment=standard", "augment@augment.target=strong")
    found = name_choices(config("strategy=dann", *data, *pipelines)).augment
    assert found.flip == share
    assert found.target is not None
    assert found.target.flip == share
    assert name_choices(config("strategy=dann", *data, *pipelines, "augment.flip=0.3")).augment.flip == 0.3


@pytest.mark.slow
def test_augmentation_of_target_rows_is_taken_back_where_none_are_read(config: Config) -> None:
    ways: dict[str, tuple[str, ...]] = {"shared": (), "apart": ("augment@augment.target=contrast",)}
    names = {
        way: [run_name(named(config(f"strategy={each}", "augment=light", *more))) for each in ("source_only", "dann")]
        for way, more in ways.items()
    }
    assert names["shared"][0] == names["apart"][0]
    assert names["shared"][1] != names["apart"][1]


def test_further_views_are_refused_where_the_strategy_reads_one(config: Config) -> None:
    views = "strategy dann reads one view of a row, so this would have no effect; leave it null"
    assert check(config("strategy=dann", "augment@augment.views=light")) == [f"augment.views: {views}"]
    nested = config("strategy=dann", "augment@augment.target=light", "+augment@augment.target.views=contrast")
    assert check(nested) == [f"augment.target.views: {views}"]


def test_further_views_are_none_of_the_source_models(config: Config) -> None:
    asked = config("strategy=fine_tune", "data.target_labels=1", "augment=light", "augment@augment.views=contrast")
    plain = config("strategy=fine_tune", "data.target_labels=1", "augment=light")
    assert run_name(named(pretrain_config(asked))) == run_name(named(pretrain_config(plain)))


def test_a_grant_that_is_not_read_does_not_change_the_run(config: Config) -> None:
    floors = {
        run_name(named(config("strategy=source_only", f"data.target_labels={labels}", "data.target_val_labels=all")))
        for labels in ("none", "1", "50", "all")
    }
    assert len(floors) == 1
    adapted = {run_name(named(config("strategy=dann", f"data.target_labels={labels}"))) for labels in ("none", "1")}
    assert len(adapted) == 2


def test_the_ceiling_asks_for_all_labels_itself(config: Config) -> None:
    assert name_choices(config("strategy=target_only")).data.target_labels == "all"


def test_the_source_model_is_the_same_run_as_the_floor(config: Config) -> None:
    floor = named(config("strategy=source_only"))
    tuned = named(config("strategy=fine_tune", "data.target_labels=5", "optim.lr=0.5", "engine.epochs=3"))
    assert digest(named(pretrain_config(tuned))) == digest(floor)


def test_tuning_the_second_stage_leaves_the_source_model_alone_and_tuning_the_first_does_not(config: Config) -> None:
    base = ["strategy=fine_tune", "data.target_labels=5"]
    first = digest(named(pretrain_config(config(*base))))
    assert digest(named(pretrain_config(config(*base, "optim=adamw", "schedule=cosine", "engine.epochs=2")))) == first
    assert digest(named(pretrain_config(config(*base, "pretrain.engine.epochs=2")))) != first
    assert digest(named(pretrain_config(config(*base, "model.hidden=64")))) != first


def test_the_pretrain_node_names_a_run_only_where_its_model_is_used(config: Config) -> None:
    for overrides, counts in (
        (["strategy=dann"], False),
        (["strategy=feature_extract", "data.target_labels=5"], True),
    ):
        one, two = (digest(named(config(*overrides, f"pretrain.engine.epochs={epochs}"))) for epochs in (1, 2))
        assert (one != two) == counts


def test_where_a_run_computes_and_writes_does_not_change_its_name(config: Config, tmp_path: Path) -> None:
    names = {
        run_name(named(config(*overrides)))
        for overrides in (
            [],
            ["device=cpu"],
            ["device.threads=1"],
            [f"run.root={tmp_path}", "run.fresh=true", "run.require='target_test_accuracy>=0.5'"],
            ["data.download=true", f"data.cache_root={tmp_path}"],
            ["engine.epochs=10"],
        )
    }
    assert len(names) == 1


@pytest.mark.slow
def test_every_other_setting_changes_its_name(config: Config) -> None:
    overrides = [
        [], ["seed=1"], ["optim.lr=0.02"], ["schedule=step"], ["engine.batch_size=64"], ["strategy.weight=0.5"], ["data=mnist_usps"],
        ["data.source_rows=100"], ["model.hidden=64"], ["engine.select=source_val"], ["augment=light"],
        ["schedule.final=0.1"], ["optim.label_smoothing=0.1"], ["engine.precision=fp32"], ["data.normalize=shared"],
    ]  # fmt: skip
    asked = [run_name(named(config("model.dropout=0.123", "engine.precision=bf16", *each))) for each in overrides]
    assert len(set(asked)) == len(asked)


def test_automatic_choices_and_their_names_are_one_run(config: Config) -> None:
    automatic = named(config())
    spelled = named(
        config(
            f"engine.precision={automatic.engine.precision}",
            f"engine.select={automatic.engine.select}",
            f"model.weights={automatic.model.weights}",
            f"data.target.images={automatic.data.target.images}",
            "strategy.finetune_share=0",
        )
    )
    assert run_name(automatic) == run_name(spelled)
