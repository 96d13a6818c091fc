"""The summary in words: each sentence against figures worked out by hand, also where there is little to tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.report.conftest import Finished
from tlrun.report.contents import contents
from tlrun.report.selection_rules import Judged
from tlrun.report.tables import Figure
from tlrun.report.words import Words, best, short_names, summary


def told(tmp_path: Path) -> list[Words]:
    return summary(contents([tmp_path / "runs"]))


def sentences(tmp_path: Path) -> dict[str, str]:
    (words,) = told(tmp_path)
    return dict(words.sentences)


def test_a_whole_comparison_reads_as_its_figures_say(finished: Finished, tmp_path: Path) -> None:
    for seed, (floor, ceiling, dann, mmd, mcc) in enumerate(
        ((0.50, 0.90, 0.70, 0.60, 0.40), (0.54, 0.94, 0.74, 0.50, 0.44))
    ):
        steps = {"steps": 2000, "target_test_rows": 1000}
        finished("source_only", seed=seed, accuracy=floor, regret=0.01, **steps)
        finished("target_only", seed=seed, accuracy=ceiling, rows_target_labels=100, regret=0.01, **steps)
        finished("dann", seed=seed, accuracy=dann, regret=0.01 + 0.02 * seed, **steps)
        finished("mmd", seed=seed, accuracy=mmd, regret=0.01, **steps)
        finished("mcc", seed=seed, accuracy=mcc, warnings=["collapsed: all one class"] * seed, regret=0.01, **steps)
    domain = {"rows": {"train": 1}}
    card = {"classes": ["a", "b"], "source": {"name": "mnist", **domain}, "target": {"name": "usps", **domain}}
    for run in contents([tmp_path / "runs"]).collection.runs:
        run.folder.write_data_card(card)
    (words,) = told(tmp_path)
    assert words.figures == (
        ("Floor", "52.0 %", "source_only"),
        ("Ceiling", "92.0 %", "target_only"),
        ("Best without target labels", "72.0 %", "dann"),
        ("Gap closed", "50 %", "by dann"),
    )
    # Each half interval is 12.706 x s / sqrt(2), s the sample deviation of two values: 25.4 points where they differ by 4.
    assert dict(words.sentences) == {
        "Compared": "10 runs of 5 strategies (source_only, dann, mcc, mmd and target_only), seeds 0 and 1; from mnist to usps,"
        " 2 classes; 1,000 target test rows; 2,000 optimizer steps a run.",
        "Floor": "Trained on the source alone, source_only reaches 52.0 % target test accuracy (95 % interval 26.6 to 77.4,"
        " 2 seeds).",
        "Ceiling": "Trained on all target labels, target_only reaches 92.0 % target test accuracy (95 % interval 66.6 to 100.0,"
        " 2 seeds).",
        "Best without target labels": "dann reaches 72.0 % target test accuracy (95 % interval 46.6 to 97.4, 2 seeds), 20.0"
        " points above its floor, and closes 50 % of the gap between floor and ceiling. That it is the best of 3 was read off"
        " the test rows.",
        "Helps": "Against source_only, in points with the 95 % interval over seeds: dann +20.0 [20.0, 20.0].",
        "Hurts": "Worse than source_only: mcc -10.0 [-10.0, -10.0].",
        "Undecided": "Against source_only, these seeds do not tell a gain from a loss, allowing for the 4 strategies that were"
        " compared: mmd +3.0 [-85.9, 91.9]. More seeds would narrow the interval.",
        "Selection": "Choosing the epoch without withheld target labels cost 1.2 points against the best epoch, on average over"
        " 10 runs; at most 3.0 (dann, seed 1).",
        "Warnings": "1 of 10 runs: mcc, seed 1: collapsed: all one class.",
    }


def test_one_seed_gives_no_interval_and_no_verdict(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", accuracy=0.5)
    finished("dann", accuracy=0.4)
    words = sentences(tmp_path)
    assert words["Compared"].startswith("2 runs of 2 strategies (source_only and dann), seed 0")
    assert words["Best without target labels"] == (
        "dann reaches 40.0 % target test accuracy (one seed), 10.0 points below its floor."
    )
    assert words["No verdict"] == "A verdict needs two seeds that a strategy has in common with its floor: dann."
    assert not {"Helps", "Hurts", "Undecided"} & set(words)


def test_a_single_run_says_what_is_missing_beside_it(finished: Finished, tmp_path: Path) -> None:
    finished("dann", accuracy=0.4)
    words = sentences(tmp_path)
    assert words["Compared"].startswith("1 run of 1 strategy (dann), seed 0")
    assert words["Floor"].startswith("There is none: without a run of source_only")
    assert words["Ceiling"].startswith("There is none: a run of target_only")
    assert words["Best without target labels"] == "dann reaches 40.0 % target test accuracy (one seed)."
    assert (
        words["Selection"] == "Choosing the epoch without withheld target labels cost nothing against the best epoch."
    )
    assert "No verdict" not in words


def test_without_labels_nothing_is_said_of_accuracy(finished: Finished, tmp_path: Path) -> None:
    for strategy in ("source_only", "dann"):
        finished(strategy, accuracy=None)
    words = sentences(tmp_path)
    assert list(words) == ["Compared", "No accuracy", "Warnings"]
    assert not told(tmp_path)[0].figures


def test_methods_that_saw_target_labels_are_told_apart(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", accuracy=0.5)
    finished("dann", accuracy=0.6)
    finished("mmd", "engine.select=oracle", accuracy=0.9)
    finished("mcc", accuracy=0.8, rows_target_labels=10)
    words = sentences(tmp_path)
    assert words["Best without target labels"].startswith("dann reaches 60.0 %")
    assert words["Best with target labels"].startswith("mmd reaches 90.0 %")
    assert words["Peeked"] == "1 run chose the epoch by withheld target labels (oracle)."
    (pair,) = contents([tmp_path / "runs"]).by_pair.values()
    assert (found := best(pair, with_labels=False)) is not None and found[0].strategy == "dann"


def test_transfer_that_hurts_is_called_negative(finished: Finished, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished("scratch", "data.target_labels=5", seed=seed, accuracy=0.8, rows_target_labels=50)
        finished("dann", "data.target_labels=5", seed=seed, accuracy=0.7, rows_target_labels=50)
    words = sentences(tmp_path)
    assert words["Negative transfer"] == "Worse than scratch, from the same target labels: dann -10.0 [-10.0, -10.0]."
    assert words["Scratch"].startswith("Trained on the granted target labels alone, scratch reaches 80.0 %")


def test_equal_is_told_with_its_margin(finished: Finished, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished("source_only", seed=seed, accuracy=0.8)
        finished("dann", seed=seed, accuracy=0.801)
    assert sentences(tmp_path)["No difference"] == "Within ±0.5 points of source_only: dann +0.1 [0.1, 0.1]."


def test_every_pair_has_its_own_words(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", accuracy=0.5)
    finished("source_only", "data=mnist_mnistm", "engine.precision=fp32", accuracy=0.6)
    words = {each.pair: dict(each.sentences)["Floor"] for each in told(tmp_path)}
    assert "60.0 %" in words["mnist_mnistm"] and "50.0 %" in words["mnist_usps"]


def test_a_group_is_named_by_what_tells_it_from_others_of_its_strategy_alone(
    finished: Finished, tmp_path: Path
) -> None:
    finished("source_only")
    for rate in (0.5, 0.25):
        finished("dann", f"optim.lr={rate}")
    found = contents([tmp_path / "runs"])
    assert list(short_names(found.groups).values()) == ["source_only", "dann (lr=0.25)", "dann (lr=0.5)"]


def test_of_many_only_the_first_are_named(finished: Finished, tmp_path: Path) -> None:
    for number in range(8):
        finished("dann", f"optim.lr={1 + number}", warnings=["w"])
    found = sentences(tmp_path)
    assert found["Warnings"].count("dann") == 6 and found["Warnings"].endswith("; and 2 more.")


def test_what_label_free_scores_would_have_chosen_is_told_beside_the_best(finished: Finished, tmp_path: Path) -> None:
    def judged(
        rule: str, strategy: str | None, accuracy: float | None, regret: float | None, settings: int = 1
    ) -> Judged:
        none = Figure.of([])
        return Judged("mnist_usps", strategy, 0, rule, 4, none, none, 0.0, none, settings, accuracy, regret, None)

    finished("source_only")
    found = contents([tmp_path / "runs"])
    rules = [judged("entropy", None, 0.5, 0.25), judged("snd", None, 0.7, 0.05), judged("last", None, None, None)]
    rules += [judged("oracle", None, 0.75, 0.0), judged("target_val", None, 0.74, 0.01)]
    (alone,) = summary(replace(found, judged=tuple(rules)))
    assert "Chosen by score alone" not in dict(alone.sentences)  # of one strategy
    (words,) = summary(replace(found, judged=(*rules, judged("snd", "dann", 0.7, 0.0))))
    assert dict(words.sentences)["Chosen by score alone"] == (
        "Left to choose among all epochs of the 4 runs without target labels by its own score, snd gives 70.0 % and"
        " entropy gives 50.0 %; the best of them has 75.0 %."
    )
    several = (judged("snd", None, 0.7, 0.05, settings=2), judged("snd", "dann", 0.7, 0.0))
    (words,) = summary(replace(found, judged=several))
    assert dict(words.sentences)["Chosen by score alone"] == (
        "Left to choose among all epochs of the 4 runs without target labels by its own score, in each of 2 settings of data"
        " and budget apart, snd gives 70.0 %; the best of each have a mean of 75.0 %."
    )
