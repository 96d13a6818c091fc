"""Tables in every format: numbers worked out by hand, texts to the letter."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.report.conftest import Finished
from tlrun.report import formats
from tlrun.report.collect import Collection, collect
from tlrun.report.groups import group
from tlrun.report.tables import Figure, Line, Table, lines_of, tables


def lines(tmp_path: Path) -> tuple[list[Line], Collection]:
    found = collect([tmp_path])
    return lines_of(group(found.runs)), found


def sweep(finished: Finished) -> None:
    for seed, floor, ceiling, dann in ((0, 0.50, 0.90, 0.70), (1, 0.54, 0.94, 0.75)):
        finished("source_only", seed=seed, accuracy=floor)
        finished("target_only", seed=seed, accuracy=ceiling, rows_target_labels=100)
        finished(
            "dann", seed=seed, accuracy=dann, regret=0.01 * seed, warnings=["dead: ..."] * seed, seconds=10.0 + seed
        )


def test_a_figure_has_the_sample_standard_deviation() -> None:
    assert Figure.of([0.5, 0.7]) == Figure(pytest.approx(0.6), pytest.approx(0.02**0.5), 2)
    assert Figure.of([0.5]) == Figure(0.5, None, 1)
    assert Figure.of([]) == Figure(None, None, 0)


def test_the_terminal_shows_results_differences_selection_and_cost(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    floor = collect([tmp_path]).runs[2].folder
    assert formats.terminal(tables(lines(tmp_path)[0])) == (
        f"""\
mnist_usps: Results on the test rows, in % (mean ± sample standard deviation over n seeds)

strategy     labels  n        target   95% interval      macro-F1        source  gap closed
-------------------------------------------------------------------------------------------
source_only       0  2  52.00 ± 2.83   [26.6, 77.4]  52.00 ± 2.83  75.00 ± 0.00
dann              0  2  72.50 ± 3.54  [40.7, 104.3]  72.50 ± 3.54  75.00 ± 0.00        51 %
target_only     100  2  92.00 ± 2.83  [66.6, 117.4]  92.00 ± 2.83  75.00 ± 0.00

95% interval: of the mean, Student's t over seeds
gap closed: (run - source_only) / (target_only - source_only), where data.protocol=split

mnist_usps: Differences in target test accuracy, in points, and verdicts

strategy     against      verdict  n  difference    over seeds       p  improvement
-----------------------------------------------------------------------------------
dann         source_only  helps    2      +20.50  [14.1, 26.9]   0.016      +39.4 %
target_only  source_only  helps    2      +40.00  [40.0, 40.0]  <0.001      +76.9 %

against: source_only for adaptation, scratch with the same target labels for transfer; paired over n common seeds
verdict: helps or hurts where p is at most 0.05; equal where a test, corrected alike, finds less than 0.5 points
over seeds: 95% interval of Student's t, the spread taken for one test row at least
p: paired t-test, corrected by Holm for all strategies that are held against the same reference
improvement: (run - source_only) / source_only
no interval over rows for dann: cannot read DANN/predictions.csv: No such file or directory
no interval over rows for target_only: cannot read CEILING/predictions.csv: No such file or directory

mnist_usps: Selection: target test accuracy in %

                     selected
strategy     n             by      selected          last        oracle       regret  warned
--------------------------------------------------------------------------------------------
source_only  2  source_val  52.00 ± 2.83  52.00 ± 2.83  52.00 ± 2.83  0.00 ± 0.00
"""
    )


def test_one_seed_shows_no_deviation_and_no_verdict(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", accuracy=0.5)
    finished("dann", accuracy=0.7)
    found = tables(lines(tmp_path)[0])
    assert [each.title.split(":")[0].split(" ")[0] for each in found] == ["Results", "Selection", "Cost"]
    assert found[0].rows[1] == ("mnist_usps", "dann", "0", "1", "70.00", "70.00", "75.00", "+40.0 %")


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
    assert (dann["n"], dann["seeds"], dann["select"], dann["runs_warned"]) == ("2", "0 1", "source_val", "1")
    assert float(dann["target_test_accuracy_mean"]) == pytest.approx(0.725)
    assert float(dann["target_test_accuracy_std"]) == pytest.approx(0.05 / 2**0.5)
    assert float(dann["gap_closed"]) == pytest.approx(0.205 / 0.4)
    assert float(dann["relative_improvement"]) == pytest.approx(0.205 / 0.52)
    assert (dann["adaptation"], dann["adaptation_n"], dann["transfer"], dann["transfer_low"]) == ("helps", "2", "", "")
    # t of 1 degree of freedom is 12.706; the differences are 0.20 and 0.21.
    assert float(dann["adaptation_low"]) == pytest.approx(0.205 - 12.7062 * 0.005, rel=1e-4)
    assert dann["pretrain_seconds_mean"] == ""
    assert dann["floor"].startswith("source_only-s0-") and dann["scratch"] == ""


def test_json_holds_groups_runs_and_what_was_left_out(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "metrics.csv").touch()
    content = json.loads(formats.json_text(*lines(tmp_path), [], []))
    assert (content["format"], len(content["runs"])) == (1, 6)
    assert [each["folder"] for each in content["left_out"]] == [str(tmp_path / "half")]
    dann = content["groups"][1]
    assert (dann["strategy"], dann["settings"], dann["seeds"]) == ("dann", {}, [0, 1])
    assert dann["figures"]["seconds"] == {"mean": 10.5, "std": pytest.approx(0.5**0.5), "n": 2}
    assert dann["adaptation"]["verdict"] == "helps"
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
