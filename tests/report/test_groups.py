"""What is averaged together, what tells groups apart, and what each is held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.conftest import Finished
from tlrun.report.collect import collect
from tlrun.report.groups import Group, group


def groups(tmp_path: Path) -> dict[str, Group]:
    found = group(collect([tmp_path]).runs)
    by_label = {each.label: each for each in found}
    assert len(by_label) == len(found), "two groups have one label"
    return by_label


def names(references: dict) -> dict[str, str]:  # type: ignore[type-arg]
    return {role: each.label for role, each in references.items()}


def test_runs_that_differ_in_their_seed_alone_are_one_group(finished: Finished, tmp_path: Path) -> None:
    for seed in (10, 2, 0):
        finished("dann", seed=seed)
    (found,) = groups(tmp_path).values()
    assert (found.label, found.seeds) == ("dann", (0, 2, 10))


def test_whatever_else_differs_makes_a_group_and_is_named(finished: Finished, tmp_path: Path) -> None:
    finished("dann")
    finished("dann", "strategy.weight=0.5")
    finished("dann", "strategy.weight=0.5", "data.target_labels=5")
    finished("mmd")
    found = groups(tmp_path)
    # What mmd has and dann has not tells nothing that the name does not.
    keys = ["data.target_labels", "strategy.finetune_share", "strategy.weight"]
    assert all(sorted(each.differs) == keys for each in found.values())
    weights = {tuple(each.differs.values()) for each in found.values() if each.strategy == "dann"}
    assert weights == {("none", 0.0, 1.0), ("none", 0.0, 0.5), (5, 0.2, 0.5)}


def test_a_setting_that_differs_between_strategies_is_named_and_what_follows_from_them_is_not(
    finished: Finished, tmp_path: Path
) -> None:
    finished("source_only")
    finished("target_only")
    finished("scratch", "data.target_labels=5")
    finished("fine_tune", "data.target_labels=5", "engine.epochs=3")
    assert list(groups(tmp_path)) == [
        "source_only, epochs=10",
        "scratch, epochs=10",
        "fine_tune, epochs=3",
        "target_only, epochs=10",
    ]


def test_pairs_do_not_name_each_others_differences(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    finished("source_only", "data=usps_mnist", "engine.precision=bf16")
    found = group(collect([tmp_path]).runs)
    assert [(each.pair, each.label) for each in found] == [("mnist_usps", "source_only"), ("usps_mnist", "source_only")]


def test_floor_and_ceiling_are_shared_along_a_label_curve_and_scratch_is_not(
    finished: Finished, tmp_path: Path
) -> None:
    finished("source_only", "data.target_labels=5")
    finished("target_only", "data.target_labels=5")
    for labels in (5, 20):
        finished("scratch", f"data.target_labels={labels}")
        finished("fine_tune", f"data.target_labels={labels}")
    found = groups(tmp_path)
    for labels in (5, 20):
        assert names(found[f"fine_tune, target_labels={labels}"].references) == {
            "floor": "source_only, target_labels=none",
            "ceiling": "target_only, target_labels=all",
            "scratch": f"scratch, target_labels={labels}",
        }
    assert names(found["source_only, target_labels=none"].references) == {"ceiling": "target_only, target_labels=all"}


def test_a_method_without_labels_has_no_scratch(finished: Finished, tmp_path: Path) -> None:
    finished("scratch", "data.target_labels=5")
    finished("dann")
    assert groups(tmp_path)["dann"].references == {}


def test_a_floor_of_another_setting_is_none(finished: Finished, tmp_path: Path) -> None:
    finished("dann")
    for override in ("optim.lr=0.01", "engine.epochs=3", "data.source_rows=100", "model.dropout=0.5", "augment=light"):
        finished("source_only", override)
    finished("source_only", "data=usps_mnist")
    assert groups(tmp_path)[next(label for label in groups(tmp_path) if label.startswith("dann"))].references == {}


def test_of_floors_that_see_the_data_otherwise_the_one_that_sees_them_alike_is_taken(
    finished: Finished, tmp_path: Path
) -> None:
    for normalize in ("shared", "per_domain"):
        for strategy in ("source_only", "dann"):
            finished(strategy, f"data.normalize={normalize}")
    found = groups(tmp_path)
    for normalize in ("shared", "per_domain"):
        assert names(found[f"dann, normalize={normalize}"].references) == {
            "floor": f"source_only, normalize={normalize}"
        }


def test_a_floor_that_sees_the_data_otherwise_is_better_than_none(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", "data.normalize=shared")
    finished("dann", "data.normalize=per_domain")
    assert sorted(groups(tmp_path)["dann"].references) == ["floor"]


def test_a_rule_that_peeks_is_held_against_one_that_peeks(finished: Finished, tmp_path: Path) -> None:
    for select in ("oracle", "auto", "entropy"):
        finished("source_only", f"engine.select={select}")
    for select in ("oracle", "last", "entropy"):
        finished("dann", f"engine.select={select}")
    found = groups(tmp_path)
    held = {select: names(found[f"dann, select={select}"].references)["floor"] for select in ("oracle", "last", "entropy")}  # fmt: skip
    assert held == {
        "oracle": "source_only, select=oracle",
        "last": "source_only, select=source_val",
        "entropy": "source_only, select=entropy",
    }


def test_a_rule_that_peeks_has_no_reference_among_those_that_do_not_and_the_reverse(
    finished: Finished, tmp_path: Path
) -> None:
    finished("source_only", "engine.select=oracle")
    finished("target_only")
    finished("dann")
    finished("dann", "engine.select=oracle")
    references = {
        each.settings["engine.select"]: sorted(each.references)
        for each in groups(tmp_path).values()
        if each.strategy == "dann"
    }
    assert references == {"last": ["ceiling"], "oracle": ["floor"]}


@pytest.mark.slow
def test_a_source_model_counts_as_the_weights_it_started_from(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", "model=resnet18", "model.weights=random")
    finished("dann", "model=resnet18", "model.weights=imagenet")
    finished("fine_tune", "data.target_labels=5", "model=resnet18", "model.weights=source")
    finished("mmd", "model=resnet18", "model.weights=source", "pretrain.weights=imagenet")
    found = {each.strategy: sorted(each.references) for each in groups(tmp_path).values()}
    assert found == {"source_only": [], "dann": [], "fine_tune": ["floor"], "mmd": []}


def test_whole_numbers_are_equal_however_they_are_written(finished: Finished, tmp_path: Path) -> None:
    one, two = finished("dann", seed=0), finished("dann", seed=1)
    one.config.write_text(one.config.read_text().replace("weight: 1.0", "weight: 1"))
    assert repr(one.read_config()) != repr({**two.read_config(), "seed": 0})
    assert len(groups(tmp_path)) == 1


def test_runs_on_other_files_under_the_same_settings_are_no_group_and_no_floor(
    finished: Finished, tmp_path: Path
) -> None:
    for strategy, seed, target in (("source_only", 0, "a"), ("dann", 0, "a"), ("dann", 1, "a"), ("dann", 2, "b")):
        folder = finished(strategy, seed=seed)
        card = {"fingerprint": "x", "source": {"fingerprint": "s" * 64}, "target": {"fingerprint": target * 64}}
        folder.write_data_card(card)
    found = groups(tmp_path)
    assert {label: each.seeds for label, each in found.items()} == {
        "source_only, fingerprint=aaaaaaaa": (0,),
        "dann, fingerprint=aaaaaaaa": (0, 1),
        "dann, fingerprint=bbbbbbbb": (2,),
    }
    assert "floor" in found["dann, fingerprint=aaaaaaaa"].references
    assert "floor" not in found["dann, fingerprint=bbbbbbbb"].references
