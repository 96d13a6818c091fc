"""The rules of thumb, as a table: what is advised of which findings, and that every command which can come of it composes."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import pytest

from tests.evidence.test_findings import FOUND, space
from tlrun.compose.plan import Request, settings
from tlrun.evidence.advice import Advice, advise
from tlrun.evidence.findings import Findings
from tlrun.listing import config_folder, headings
from tlrun.verbs.advise import command

CLOSE = (space(mmd=0.05, a_distance=0.2),)
BETWEEN = (space(mmd=0.3, a_distance=0.4),)
FAR = (space(mmd=0.6, a_distance=1.9),)
IMAGENET = {"start": "imagenet"}
NO_SOURCE: dict[str, Any] = {"source_rows": 0, "spaces": (), "shares_moved": None}
TINY = {"source_rows": 190}


def found(**changes: Any) -> Findings:
    """Ten classes, a large source, 6,000 target rows without labels; the changes are fields of Findings."""
    return replace(FOUND, **changes)


def tried(advice: Advice) -> list[str]:
    """Each recommendation as it stands in a command, without what repeats."""
    return [" ".join((each.strategy, *each.settings)).replace("strategy.", "") for each in advice.recommendations]


HEAD = "train=head model.bottleneck=256"
TABLE: list[tuple[str, dict[str, Any], list[str]]] = [
    ("no labels, similar", {"spaces": CLOSE}, ["source_only", "mcc", "cdan"]),
    ("no labels, in between", {"spaces": BETWEEN}, ["cdan", "mcc", "dann"]),
    ("no labels, different", {"spaces": FAR}, ["dann", "cdan", "mmd"]),
    ("no labels, not measured", {"spaces": ()}, ["dann", "cdan", "mmd"]),
    ("no labels, few rows, ImageNet", {"spaces": FAR, "target_rows": 999, **IMAGENET},
     [f"dann {HEAD}", f"cdan {HEAD}", f"mmd {HEAD}"]),
    ("no labels, few rows, given weights", {"spaces": FAR, "target_rows": 999, "start": "given"},
     [f"dann {HEAD}", f"cdan {HEAD}", f"mmd {HEAD}"]),
    ("no labels, few rows, a bottleneck", {"spaces": FAR, "target_rows": 999, "has_bottleneck": True, **IMAGENET},
     ["dann train=head", "cdan train=head", "mmd train=head"]),
    ("no labels, few rows, no ImageNet", {"spaces": FAR, "target_rows": 999}, ["dann", "cdan", "mmd"]),
    ("no labels, many rows, ImageNet", {"spaces": FAR, "target_rows": 1_000, **IMAGENET}, ["dann", "cdan", "mmd"]),
    ("no labels, tiny source", {"spaces": FAR, **TINY}, ["dann", "cdan", "mmd"]),
    ("no labels, no source", {**NO_SOURCE, **IMAGENET}, []),
    ("1 label a class, similar", {"granted": 10, "spaces": CLOSE},
     ["feature_extract", "fine_tune train=last_k last_k=2", "cdan"]),
    ("1 label a class, different", {"granted": 10, "spaces": FAR},
     ["dann", "feature_extract", "fine_tune train=last_k last_k=2"]),
    ("small, in between", {"granted": 990, "spaces": BETWEEN},
     ["feature_extract", "dann", "fine_tune train=last_k last_k=2"]),
    ("small, not measured", {"granted": 100, "spaces": ()},
     ["feature_extract", "dann", "fine_tune train=last_k last_k=2"]),
    ("small, different, ImageNet", {"granted": 100, "spaces": FAR, **IMAGENET},
     [f"dann {HEAD}", "feature_extract", "fine_tune train=last_k last_k=2"]),
    ("small, two stages", {"granted": 100, "spaces": CLOSE, "stages": 2},
     ["feature_extract", "fine_tune train=last_k last_k=1", "cdan"]),
    ("small, one stage", {"granted": 100, "spaces": CLOSE, "stages": 1},
     ["feature_extract", "fine_tune train=last_k last_k=1", "cdan"]),
    ("medium, similar", {"granted": 1_000, "spaces": CLOSE},
     ["fine_tune train=last_k last_k=2", "feature_extract", "fine_tune"]),
    ("medium, in between", {"granted": 1_000, "spaces": BETWEEN},
     ["fine_tune train=last_k last_k=2", "dann train=progressive", "fine_tune"]),
    ("medium, different", {"granted": 1_000, "spaces": FAR}, ["dann train=progressive", "progressive", "fine_tune"]),
    ("medium, not measured", {"granted": 1_000, "spaces": ()},
     ["fine_tune train=last_k last_k=2", "progressive", "fine_tune"]),
    ("medium, different, too few epochs for the stages", {"granted": 1_000, "spaces": FAR, "epochs": 4},
     ["dann train=last_k last_k=2", "fine_tune train=last_k last_k=2", "fine_tune"]),
    ("medium, different, epochs for all but the fine-tuning", {"granted": 1_000, "spaces": FAR, "epochs": 5},
     ["dann train=last_k last_k=2", "progressive", "fine_tune"]),
    ("medium, more than a tenth of the source", {"granted": 6_000, "spaces": FAR},
     ["dann train=progressive", "progressive", "scratch"]),
    ("large, similar", {"granted": 10_000, "source_rows": 200_000, "spaces": CLOSE},
     ["fine_tune", "progressive", "fine_tune train=last_k last_k=2"]),
    ("large, different", {"granted": 10_000, "source_rows": 200_000, "spaces": FAR},
     ["fine_tune", "progressive", "fine_tune train=last_k last_k=2"]),
    ("large, more than a tenth of the source", {"granted": 10_000, "spaces": FAR},
     ["fine_tune", "progressive", "scratch"]),
    ("very large", {"granted": 50_000, "spaces": FAR}, ["fine_tune", "scratch"]),
    ("small, no source", {"granted": 100, **NO_SOURCE, **IMAGENET},
     ["feature_extract", "fine_tune train=last_k last_k=2"]),
    ("medium, no source", {"granted": 1_000, **NO_SOURCE, **IMAGENET},
     ["fine_tune train=last_k last_k=2", "progressive", "fine_tune"]),
    ("no source, no weights", {"granted": 1_000, **NO_SOURCE, "start": "nowhere"}, ["scratch"]),
    ("random weights asked for", {"granted": 100, "spaces": FAR, "start": "random"}, ["dann", "scratch"]),
    ("tiny source", {"granted": 100, "spaces": FAR, **TINY}, ["scratch", "fine_tune"]),
    ("tiny source, ImageNet", {"granted": 100, "spaces": FAR, **TINY, **IMAGENET},
     ["feature_extract", "fine_tune train=last_k last_k=2"]),
    ("label shift, as a probe tells", {"spaces": BETWEEN, "shares_moved": 0.3}, ["mcc", "cdan", "dann"]),
    ("label shift, as labels tell", {"granted": 100, "spaces": FAR, "shares_moved": 0.3, "shares_exact": True},
     ["feature_extract", "fine_tune train=last_k last_k=2", "dann"]),
    ("transductive", {"spaces": FAR, "transductive": True}, ["dann", "cdan", "mmd"]),
    ("no test label", {"spaces": FAR, "test_labels": 0}, ["dann", "cdan", "mmd"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in TABLE], ids=[case[0] for case in TABLE])
def test_the_table_of_rules(changes: dict[str, Any], expected: list[str]) -> None:
    assert tried(advise(found(**changes))) == expected


@functools.cache
def grid() -> list[Findings]:
    """Findings of every sort, one of each combination."""
    sources: list[dict[str, Any]] = [{}, TINY, NO_SOURCE]
    return [
        found(**{
            "granted": granted, "spaces": spaces, "start": start, "stages": stages, "epochs": epochs,
            "target_rows": rows, "shares_moved": shares, "has_bottleneck": bottleneck, **source,
        })
        for granted, spaces, start, stages, epochs, rows, shares, bottleneck, source in itertools.product(
            (0, 10, 2_000, 20_000, 60_000), (CLOSE, BETWEEN, FAR, ()), ("imagenet", "given", "source", "random", "nowhere"),
            (1, 5), (3, 10), (500, 6_000), (0.0, 0.5), (False, True), sources,
        )
        if not (start == "source" and source is NO_SOURCE) and not (start == "nowhere" and source is not NO_SOURCE)
    ]  # fmt: skip


def test_every_strategy_is_advised_or_advised_against_or_left_open_but_never_both() -> None:
    known = set(headings(config_folder() / "strategy"))
    for each in grid():
        advice = advise(each)
        chosen = [one.strategy for one in advice.recommendations]
        avoided = [name for one in advice.avoided for name in one.strategies]
        assert set(chosen) | set(avoided) <= known
        assert not set(chosen) & set(avoided)
        assert len(avoided) == len(set(avoided))
        assert len(set(tried(advice))) == len(chosen) <= 3


def test_scratch_has_one_verdict_and_a_reason_that_is_true_of_the_data() -> None:
    for each in grid():
        advice = advise(each)
        if any("scratch" in one.strategies for one in advice.avoided):
            assert not any("scratch may do as well" in note for note in advice.notes)
        for one in advice.recommendations:
            if one.strategy == "scratch":
                assert ("very large" in one.rule) == (each.size == "very large")


@pytest.mark.parametrize(
    ("changes", "reason", "rule"),
    [
        ({"granted": 50_000, "spaces": FAR}, "see whether transfer is needed at all", "very large: from scratch too"),
        ({"granted": 100, **NO_SOURCE, "start": "nowhere"}, "since no trained weights are there", "nothing to transfer"),
        ({"granted": 100, "spaces": FAR, "start": "random"}, "since random weights are asked for", "nothing to transfer"),
        ({"granted": 100, "spaces": FAR, **TINY}, "since 190 source rows teach little more", "source tiny: from scratch"),
        ({"granted": 6_000, "spaces": FAR}, "see whether transfer is needed at all",
         "transfer is worth considering below 10 % as many labels as source rows, here 11 %: from scratch too"),
    ],
)  # fmt: skip
def test_scratch_is_advised_for_what_is_there(changes: dict[str, Any], reason: str, rule: str) -> None:
    (scratch,) = [one for one in advise(found(**changes)).recommendations if one.strategy == "scratch"]
    assert scratch.reason.endswith(reason) and scratch.rule.startswith(rule)


def test_a_small_target_beside_a_small_source_is_not_told_that_scratch_may_do() -> None:
    advice = advise(found(granted=100, source_rows=900, spaces=FAR))
    assert ("scratch",) in [each.strategies for each in advice.avoided] and advice.notes == ()


@pytest.mark.parametrize(
    ("alone", "source_rows", "expected"), [(0.99, 900, True), (0.82, 900, False), (0.99, 1_001, False)]
)
def test_scratch_is_left_open_where_many_labels_teach_a_probe_more_than_the_source(
    alone: float, source_rows: int, expected: bool
) -> None:
    spaces = (space(mmd=0.6, a_distance=1.9, target_accuracy=0.82, granted_accuracy=alone),)
    advice = advise(found(granted=100, source_rows=source_rows, spaces=spaces))
    assert (("scratch",) not in [each.strategies for each in advice.avoided]) == expected
    assert any("scratch may do as well" in note for note in advice.notes) == expected


def test_what_cannot_run_is_never_advised() -> None:
    needs_labels = {"feature_extract", "fine_tune", "progressive", "scratch"}
    for each in grid():
        chosen = {one.strategy for one in advise(each).recommendations}
        if not each.granted:
            assert not chosen & needs_labels
        if not each.has_source:
            assert chosen <= needs_labels


def base_of(each: Findings) -> tuple[str, ...]:
    """Settings of a pair and a model that such findings could come from."""
    labels = f"data.target_labels={10 if each.granted else 'none'}"
    if each.has_source:
        model = {
            "imagenet": ("model=resnet18", "data.channels=3"),
            "source": ("model=digits_cnn",),
            "given": ("model=digits_cnn", "model.weights=outputs/a_run"),
            "random": ("model=digits_cnn", "model.weights=random"),
        }[each.start]
        return ("data=mnist_usps", *model, labels)
    model = {
        "imagenet": (),
        "given": ("model.weights=outputs/a_run",),
        "random": ("model.weights=random",),
        "nowhere": ("model=lenet", "data.image_size=28"),
    }[each.start]
    return ("data=folder", "data.target.root=photos", *model, labels)


@pytest.mark.slow
def test_every_command_that_can_be_advised_composes() -> None:
    commands: dict[Any, tuple[str, ...]] = {}
    for each in grid():
        for one in advise(each).recommendations if each.stages > 1 else ():
            kind = (one.strategy, one.settings, each.has_source, each.granted > 0)
            commands[kind] = tuple(command(one, base_of(each)))
    assert len(commands) > 20
    for words in commands.values():
        settings(Request(words))  # raises ConfigError otherwise


def test_a_reason_names_the_figures_that_decided_and_every_rule_its_source() -> None:
    advice = advise(found(granted=100, spaces=(space(mmd=0.63, a_distance=1.95, target_accuracy=0.3),)))
    assert advice.recommendations[0].reason == (
        "10 target labels a class are few and the domains are far apart (MMD 0.63, A-distance 1.95, a source probe loses "
        "60 points): bring the domains' features together, then fine-tune on the granted labels"
    )
    for each in grid():
        for one in advise(each).recommendations:
            assert any(word in one.rule for word in ("et al.", "arXiv", "MMD below", "README")), one.rule


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"granted": 10, "spaces": FAR}, "1 target label a class can neither select nor judge"),
        ({"granted": 3, "spaces": FAR}, "less than 1 target labels a class can neither"),
        ({"granted": 6_000, "spaces": FAR}, "the target has 11 % as many labels as the source has rows"),
        ({"spaces": FAR}, "mcc is a bet"),
        ({**TINY, "spaces": BETWEEN}, "the source is tiny, 190 rows for 10 classes"),
        ({"imbalance": 10.0, "spaces": BETWEEN}, "the commonest class has 10 times the rows of the rarest"),
        ({"shares_moved": 0.25, "spaces": BETWEEN}, "class shares seem to differ between the domains, by 25 %"),
        ({"shares_moved": 0.25, "shares_exact": True, "granted": 100, "spaces": FAR}, "class shares differ between"),
        ({"transductive": True, "spaces": BETWEEN}, "there is no ceiling to compare with"),
        ({"test_labels": 0, "spaces": BETWEEN}, "no target test row has a label"),
        ({**NO_SOURCE}, "nothing can be learnt"),
    ],
)
def test_what_else_the_figures_say_is_a_note(changes: dict[str, Any], words: str) -> None:
    (note,) = advise(found(**changes)).notes
    assert words in note


def test_figures_without_a_catch_have_no_note() -> None:
    assert advise(found(spaces=BETWEEN)).notes == ()
    assert advise(found(granted=200, spaces=FAR)).notes == ()
    assert (
        advise(found(granted=200, spaces=FAR, shares_moved=0.9)).notes == ()
    )  # at that distance a probe's shares say nothing


@pytest.mark.parametrize(
    ("changes", "strategy", "words"),
    [
        ({"spaces": FAR}, "fine_tune", "none is granted; data.target_labels=N grants N a class"),
        ({"spaces": FAR}, "source_only", "compare runs it as the floor"),
        ({"spaces": FAR, "has_batch_norm": False}, "adabn", "no batch normalisation"),
        ({"spaces": FAR}, "adabn", "keep each domain's own batch statistics"),
        ({"spaces": FAR}, "deep_coral", "covariances alone"),
        ({"spaces": CLOSE}, "dann", "at MMD 0.05 there is little to align"),
        ({"granted": 100, "spaces": FAR}, "scratch", "10 target labels a class, 0.2 % of the source's rows, teach"),
        ({"granted": 50_000, "spaces": FAR}, "dann", "leave little that rows without labels could add"),
        ({"granted": 100, **NO_SOURCE, **IMAGENET}, "dann", "need a source"),
        ({"granted": 100, **NO_SOURCE, "start": "nowhere"}, "fine_tune", "model=resnet18 has ImageNet's"),
        ({"granted": 100, "spaces": FAR, "start": "random"}, "fine_tune", "and model.weights=random asks for none"),
        ({"granted": 100, "spaces": FAR, **TINY}, "dann", "too few to adapt from"),
    ],
)
def test_what_not_to_bother_with_has_its_reason(changes: dict[str, Any], strategy: str, words: str) -> None:
    (reason,) = [each.reason for each in advise(found(**changes)).avoided if strategy in each.strategies]
    assert words in reason
