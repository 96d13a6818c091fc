"""Tables in every format: numbers worked out by hand, texts to the letter."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.conftest import Finished, write_outcomes
from tlrun.report import formats
from tlrun.report.collect import Collection, collect
from tlrun.report.diagnosis import Diagnosis
from tlrun.report.groups import group
from tlrun.report.label_curve import label_curves
from tlrun.report.tables import Figure, Line, Table, label_tables, lines_of, tables


def lines(tmp_path: Path) -> tuple[list[Line], Collection]:
    found = collect([tmp_path])
    return lines_of(group(found.runs)), found


def sweep(finished: Finished) -> None:
    for seed, floor, ceiling, dann in ((0, 0.50, 0.90, 0.70), (1, 0.54, 0.94, 0.75)):
        finished("source_only", seed=seed, accuracy=floor)
        finished("target_only", seed=seed, accuracy=ceiling, rows_target_labels=100)
        warned = {"regret": 0.01 * seed, "warnings": ["dead: ..."] * seed}
        finished("dann", seed=seed, accuracy=dann, seconds=10.0 + seed, **warned)


def test_a_figure_has_the_sample_standard_deviation() -> None:
    assert Figure.of([0.5, 0.7]) == Figure(pytest.approx(0.6), pytest.approx(0.02**0.5), 2)
    assert Figure.of([0.5]) == Figure(0.5, None, 1)
    assert Figure.of([]) == Figure(None, None, 0)


def test_the_terminal_shows_results_differences_selection_and_cost(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    text = formats.terminal(tables(lines(tmp_path)[0]))
    for name in ("dann", "target_only"):
        text = text.replace(str(next((tmp_path / "runs").glob(f"{name}-s0*"))), name.upper())
    assert text == (
        """\
Results on the test rows, in % (mean ± sample standard deviation over n seeds), on mnist_usps

strategy     labels  n        target   95% interval      macro-F1        source  gap closed
-------------------------------------------------------------------------------------------
source_only       0  2  52.00 ± 2.83   [26.6, 77.4]  52.00 ± 2.83  75.00 ± 0.00
dann              0  2  72.50 ± 3.54  [40.7, 104.3]  72.50 ± 3.54  75.00 ± 0.00        51 %
target_only     100  2  92.00 ± 2.83  [66.6, 117.4]  92.00 ± 2.83  75.00 ± 0.00

95% interval: of the mean, Student's t over seeds
gap closed: (run - source_only) / (target_only - source_only), where data.protocol=split

Differences in target test accuracy, in points, and verdicts, on mnist_usps

strategy     against      verdict  n  difference    over seeds       p  improvement
-----------------------------------------------------------------------------------
dann         source_only  helps    2      +20.50  [14.1, 26.9]   0.016      +39.4 %
target_only  source_only  helps    2      +40.00  [40.0, 40.0]  <0.001      +76.9 %

against: source_only for adaptation, scratch with the same target labels for transfer; paired over n common seeds
verdict: helps or hurts where p is at most 0.05; equal where a test, corrected alike, finds less than 0.5 points
over seeds: 95% interval of Student's t, the spread taken for one test row at least
p: paired t-test, corrected by Holm for all strategies that are held against the same reference
improvement: (run - source_only) / source_only
no interval over rows for dann: DANN/predictions.csv has an accuracy of 0.8889, the summary of 0.7000
no interval over rows for target_only: TARGET_ONLY/predictions.csv has an accuracy of 0.8889, the summary of 0.9000

Selection: target test accuracy in %, on mnist_usps

strategy     n  selected by      selected          last        oracle       regret  warned
------------------------------------------------------------------------------------------
source_only  2   source_val  52.00 ± 2.83  52.00 ± 2.83  52.00 ± 2.83  0.00 ± 0.00
dann         2         last  72.50 ± 3.54  72.50 ± 3.54  72.50 ± 3.54  0.50 ± 0.71  1 of 2
target_only  2         last  92.00 ± 2.83  92.00 ± 2.83  92.00 ± 2.83  0.00 ± 0.00

Cost of a run, on mnist_usps

strategy     n        target     seconds  images/s   MB  epochs to 90%
----------------------------------------------------------------------
source_only  2  52.00 ± 2.83   2.0 ± 0.0      1000  300            1.0
dann         2  72.50 ± 3.54  10.5 ± 0.7      1000  300            1.0
target_only  2  92.00 ± 2.83   2.0 ± 0.0      1000  300            1.0

epochs to 90%: until an evaluation has 90% of the last one's target test accuracy
"""
    )


def test_a_table_too_wide_for_a_terminal_breaks_its_headings() -> None:
    long = Table("t", ("pair", "data.target_labels", "odd word here", "x" * 110), (("a", "none", "1", ""),) * 2, 2)
    head = formats.terminal([long]).splitlines()
    assert head[0] == "t, on a"
    assert [line.split() for line in head[2:5]] == [["odd"], ["data.", "word"], ["target_labels", "here", "x" * 110]]
    short = Table("t", ("pair", "data.target_labels"), (("a", "none"), ("b", "3")), 2)
    assert formats.terminal([short]).splitlines()[2] == "pair  data.target_labels"


def test_notes_stand_below_their_table_in_every_format() -> None:
    noted = replace(ODD, notes=("a_1: first", "b: second"))
    assert formats.terminal([noted, ODD]).count("\n\na_1: first\nb: second\n\n") == 1
    assert formats.markdown([noted]).endswith(" |\n\na_1: first  \nb: second\n")
    assert formats.latex([noted]).endswith("\\end{table}\n\n% a_1: first\n% b: second\n")


def test_one_seed_shows_no_deviation_and_no_verdict(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", accuracy=0.5)
    finished("dann", accuracy=0.7)
    found = tables(lines(tmp_path)[0])
    assert [each.title.split(":")[0].split(" ")[0] for each in found] == ["Results", "Selection", "Cost"]
    assert found[0].rows[1] == ("mnist_usps", "dann", "0", "1", "70.00", "70.00", "75.00")


def test_what_differs_has_its_config_key_as_its_column(finished: Finished, tmp_path: Path) -> None:
    for rate in ("0.01", "1e-5"):
        finished("dann", f"optim.lr={rate}")
    found = tables(lines(tmp_path)[0])[0]
    assert found.columns[:3] == ("pair", "strategy", "optim.lr")
    assert [row[2] for row in found.rows] == ["1e-05", "0.01"]


def test_csv_holds_every_figure_as_it_is(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    rows = {row["strategy"]: row for row in csv.DictReader(io.StringIO(formats.csv_text(lines(tmp_path)[0])))}
    dann = rows["dann"]
    assert (dann["n"], dann["seeds"], dann["select"], dann["runs_warned"]) == ("2", "0 1", "last", "1")
    assert float(dann["target_test_accuracy_mean"]) == pytest.approx(0.725)
    assert float(dann["target_test_accuracy_std"]) == pytest.approx(0.05 / 2**0.5)
    assert float(dann["gap_closed"]) == pytest.approx(0.205 / 0.4)
    assert float(dann["relative_improvement"]) == pytest.approx(0.205 / 0.52)
    assert (dann["adaptation"], dann["adaptation_n"], dann["transfer"], dann["transfer_low"]) == ("helps", "2", "", "")
    # t of 1 degree of freedom is 12.706; the differences are 0.20 and 0.21.
    assert float(dann["adaptation_low"]) == pytest.approx(0.205 - 12.7062 * 0.005, rel=1e-4)
    assert float(dann["target_test_accuracy_low"]) == pytest.approx(0.725 - 12.7062 * 0.025, rel=1e-4)
    # t = 0.205 / 0.005 with one degree of freedom; of two strategies, the other has the smaller p.
    assert float(dann["adaptation_p"]) == pytest.approx(2 * math.atan(0.005 / 0.205) / math.pi)
    assert (dann["adaptation_compared"], dann["adaptation_rows_low"], dann["transfer_p"]) == ("2", "", "")
    assert dann["adaptation_no_rows"].endswith("predictions.csv has an accuracy of 0.8889, the summary of 0.7000")
    assert (dann["epochs_to_90_percent_mean"], dann["steps_to_scratch_share"], dann["scratch_labels_least"]) == (
        "1.0",
        "",
        "",
    )
    assert dann["pretrain_seconds_mean"] == ""
    assert dann["floor"].startswith("source_only-s0-") and dann["scratch"] == ""


def test_json_holds_groups_runs_and_what_was_left_out(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "metrics.csv").touch()
    content = json.loads(formats.json_text(*lines(tmp_path), [], [], Diagnosis((), (), ())))
    assert (content["format"], len(content["runs"])) == (1, 6)
    assert [each["folder"] for each in content["left_out"]] == [str(tmp_path / "half")]
    dann = content["groups"][1]
    assert (dann["strategy"], dann["settings"], dann["seeds"]) == ("dann", {}, [0, 1])
    assert dann["figures"]["seconds"] == {"mean": 10.5, "std": pytest.approx(0.5**0.5), "n": 2}
    assert dann["adaptation"]["verdict"] == "helps"
    assert (dann["adaptation"]["compared"], dann["adaptation"]["rows_low"]) == (2, None)
    assert dann["accuracy_interval"] == pytest.approx([0.725 - 12.7062 * 0.025, 0.725 + 12.7062 * 0.025], rel=1e-4)
    assert content["label_curves"] == []
    assert dann["transfer"] is None


ODD = Table("50 % & more_", ("a_b", "n"), ((r"x_y & {z} \ $1 #2 ~ ^ <|*`[c] _d_", "1.0 ± 0.2"),), 1)


def test_latex_is_escaped() -> None:
    assert formats.latex([ODD]).splitlines()[2:] == [
        r"\begin{table}",
        r"\centering",
        r"\caption{50 \% \& more\_}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & n \\",
        r"\midrule",
        r"x\_y \& \{z\} \textbackslash{} \$1 \#2 \textasciitilde{} \textasciicircum{} \textless{}|*`[c] \_d\_"
        r" & 1.0 $\pm$ 0.2 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_markdown_is_escaped() -> None:
    assert formats.markdown([ODD]).splitlines()[2:5] == [
        "| a_b | n |",
        "| --- | ---: |",
        r"| x_y & {z} \\ $1 #2 ~ ^ \<\|\*\`\[c\] \_d\_ | 1.0 ± 0.2 |",
    ]


def test_the_interval_over_rows_labels_and_steps_against_scratch_are_in_every_format(
    finished: Finished, tmp_path: Path
) -> None:
    for labels, scratch, tuned in ((5, [1, 0, 0, 0], [1, 1, 1, 0]), (20, [1, 1, 1, 1], [1, 1, 1, 1])):
        for strategy, right in (("scratch", scratch), ("fine_tune", tuned)):
            for seed in (0, 1):
                grant = {"accuracy": sum(right) / 4, "rows_target_labels": 10 * labels}
                write_outcomes(finished(strategy, f"data.target_labels={labels}", seed=seed, **grant), right)
    groups = group(collect([tmp_path]).runs)
    found, curves = lines_of(groups), label_curves(groups)
    text = formats.terminal([*tables(found), *label_tables(curves)])
    needed = 50 * 4 ** (2 / 3)
    assert f"\nfine_tune  {100 * 0.75:.2f} ± 0.00  100.00 ± 0.00\n" in text
    assert f"\nfine_tune  {needed - 50:.0f}    0\n" in text
    (row,) = (row for row in csv.DictReader(io.StringIO(formats.csv_text(found))) if row["strategy"] == "fine_tune"
              and row["data.target_labels"] == "5")  # fmt: skip
    assert (row["transfer_rows_low"], row["transfer_rows_high"], row["transfer_rows"]) == ("0.0", "1.0", "4")
    assert float(row["scratch_labels_least"]) == float(row["scratch_labels_most"]) == pytest.approx(needed)
    content = json.loads(formats.json_text(found, collect([tmp_path]), [], curves, Diagnosis((), (), ())))
    curve = next(each for each in content["label_curves"] if each["strategy"] == "fine_tune")
    assert [each["target_labels"] for each in curve["points"]] == [50, 200]
    assert curve["points"][0]["figure"] == {"mean": 0.75, "std": 0.0, "n": 2}
    assert curve["points"][0]["scratch_labels"]["least"] == pytest.approx(needed)
