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
from tlrun.report.diagnosis import Diagnosis
from tlrun.report.groups import group
from tlrun.report.tables import Figure, Line, Table, line_of, tables


def lines(tmp_path: Path) -> tuple[list[Line], Collection]:
    found = collect([tmp_path])
    return [line_of(each) for each in group(found.runs)], found


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


def test_the_terminal_shows_results_verdicts_selection_and_cost(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    assert formats.terminal(tables(lines(tmp_path)[0])) == (
        """\
Results on the test rows, in % (mean ± sample standard deviation over n seeds)

pair        strategy     labels  n        target      macro-F1        source  gap closed  improvement
-----------------------------------------------------------------------------------------------------
mnist_usps  source_only       0  2  52.00 ± 2.83  52.00 ± 2.83  75.00 ± 0.00
mnist_usps  dann              0  2  72.50 ± 3.54  72.50 ± 3.54  75.00 ± 0.00        51 %      +39.4 %
mnist_usps  target_only     100  2  92.00 ± 2.83  92.00 ± 2.83  75.00 ± 0.00                  +76.9 %

Verdicts

pair        strategy     adaptation
-----------------------------------------------------
mnist_usps  dann         helps +20.5 [14.1, 26.9] n 2
mnist_usps  target_only  helps +40.0 [40.0, 40.0] n 2

Selection: target test accuracy in %

pair        strategy     n  selected by      selected          last        oracle       regret  warned
------------------------------------------------------------------------------------------------------
mnist_usps  source_only  2   source_val  52.00 ± 2.83  52.00 ± 2.83  52.00 ± 2.83  0.00 ± 0.00
mnist_usps  dann         2   source_val  72.50 ± 3.54  72.50 ± 3.54  72.50 ± 3.54  0.50 ± 0.71  1 of 2
mnist_usps  target_only  2         last  92.00 ± 2.83  92.00 ± 2.83  92.00 ± 2.83  0.00 ± 0.00

Cost of a run

pair        strategy     n     seconds  images/s  memory (MB)
-------------------------------------------------------------
mnist_usps  source_only  2   2.0 ± 0.0      1000          300
mnist_usps  dann         2  10.5 ± 0.7      1000          300
mnist_usps  target_only  2   2.0 ± 0.0      1000          300

gap closed: (run - source_only) / (target_only - source_only), where data.protocol=split;
improvement: (run - source_only) / source_only
adaptation: against source_only; transfer: against scratch with the same target labels; paired over n common seeds:
difference in points [95% t interval]; equal: the interval lies within ±0.5
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
    content = json.loads(formats.json_text(*lines(tmp_path), [], [], Diagnosis((), (), ())))
    assert (content["format"], len(content["runs"])) == (1, 6)
    assert [each["folder"] for each in content["left_out"]] == [str(tmp_path / "half")]
    dann = content["groups"][1]
    assert (dann["strategy"], dann["settings"], dann["seeds"]) == ("dann", {}, [0, 1])
    assert dann["figures"]["seconds"] == {"mean": 10.5, "std": pytest.approx(0.5**0.5), "n": 2}
    assert dann["adaptation"]["verdict"] == "helps"
    assert dann["transfer"] is None


ODD = Table("50 % & more_", ("a_b", "n"), ((r"x_y & {z} \ $1 #2 ~ ^ <|*`[c] _d_", "1.0 ± 0.2"),), 1)


def test_latex_is_escaped() -> None:
    assert formats.latex([ODD]).splitlines()[2 : -1 - len(formats.NOTES)] == [
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
