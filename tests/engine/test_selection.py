"""Selection rules: what they read, which epoch they choose, and what `auto` means."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import get_args

import pytest

from tlrun.config import RULES, Rule
from tlrun.engine.selection import SCORES, Best, Evidence, Patience

NOTHING = Evidence(0, *[None] * (len(fields(Evidence)) - 1))
READS = {
    "last": {"epoch"},
    "source_val": {"source_val_accuracy"},
    "target_val": {"granted_target_val_accuracy"},
    "entropy": {"entropy"},
    **{
        rule: {rule}
        for rule in ("information_maximisation", "bnm", "snd", "dev", "iwv", "nearest_source", "feature_mmd")
    },
    "oracle": {"withheld_target_test_accuracy"},
}


def test_every_rule_has_a_score_and_a_description() -> None:
    assert set(SCORES) == set(RULES) == set(get_args(Rule)) == set(READS)


@pytest.mark.parametrize("rule", sorted(READS))
def test_a_rule_reads_its_own_evidence_and_nothing_else(rule: Rule) -> None:
    base = Evidence(1, *[0.5] * (len(fields(Evidence)) - 1))
    for field in fields(Evidence):
        changed = SCORES[rule](replace(base, **{field.name: 2})) != SCORES[rule](base)
        assert changed == (field.name in READS[rule]), field.name


def test_only_the_oracle_reads_withheld_labels() -> None:
    peeking = {rule for rule, reads in READS.items() if "withheld_target_test_accuracy" in reads}
    assert peeking == {"oracle"}


def test_low_entropy_and_high_information_win() -> None:
    assert SCORES["entropy"](replace(NOTHING, entropy=0.1)) > SCORES["entropy"](replace(NOTHING, entropy=0.2))
    score = SCORES["information_maximisation"]
    assert score(replace(NOTHING, information_maximisation=2.0)) > score(replace(NOTHING, information_maximisation=1.0))


def test_of_equal_scores_the_later_is_kept_and_a_lower_one_never() -> None:
    best = Best("source_val")
    offers = [best.offer(replace(NOTHING, epoch=epoch, source_val_accuracy=accuracy), epoch * 10)
              for epoch, accuracy in enumerate([0.5, 0.9, 0.9, 0.8], start=1)]  # fmt: skip
    assert offers == [True, True, True, False]
    assert (best.epoch, best.step, best.score) == (3, 30, 0.9)


def test_what_has_no_score_is_not_chosen() -> None:
    best = Best("target_val")
    assert not best.offer(NOTHING, 5) and best.epoch is None


def test_a_score_that_is_not_finite_is_none() -> None:
    best, patience = Best("entropy"), Patience("entropy", 2)
    offers = [(0.5, True), (math.nan, False), (0.9, False), (-math.inf, False), (0.4, True)]
    for epoch, (entropy, taken) in enumerate(offers):
        assert best.offer(replace(NOTHING, epoch=epoch, entropy=entropy), epoch) == taken
    assert (best.epoch, best.score) == (4, -0.4)
    # The first look decides nothing; of the others each is better than all before.
    assert [patience.exhausted(replace(NOTHING, entropy=each)) for each in (math.nan, 0.5, 0.4, 0.3)] == [False] * 4


def test_patience_ends_after_so_many_looks_without_improvement_and_survives_a_checkpoint() -> None:
    patience = Patience("source_val", 2)
    outcomes = []
    for accuracy in [0.5, 0.6, 0.6, 0.59, 0.7]:
        patience = Patience.from_dict(patience.to_dict())
        outcomes.append(patience.exhausted(replace(NOTHING, source_val_accuracy=accuracy)))
    assert outcomes == [False, False, False, True, False]
