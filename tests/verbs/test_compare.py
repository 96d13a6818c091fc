"""`tlrun compare` from outside: what it lists, runs, shows and does not do twice; stopped anywhere, it comes to the same."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from tests.engine.children import Moment, Rig, die_at_write, start_server
from tests.engine.runs import differences
from tlrun import experiment
from tlrun.cli import main
from tlrun.run import RunFolder

TOY = (
    *("compare", "data=toy_gaussians", "model=mlp", "engine.epochs=2", "engine.steps_per_epoch=2", "device=cpu"),
    *("device.threads=1", "engine.precision=fp32", "pretrain.engine.precision=fp32", "--no-plots"),
)
RUNS = ("source_only", "scratch", "mmd", "target_only")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which `strategy=mmd seeds=1` has been compared."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*TOY, "strategy=mmd", "seeds=1"]) == 0
    return folder


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that starts is a failure of the test."""

    def run(*arguments: object, **more: object) -> None:
        raise AssertionError("a run was started")

    monkeypatch.setattr(experiment, "run", run)


@pytest.mark.slow
def test_all_runs_are_there_and_have_one_budget(compared: Path) -> None:
    runs = [RunFolder(path) for path in (compared / "outputs").iterdir()]
    summaries = {run.read_summary()["strategy"]: run.read_summary() for run in runs}
    assert sorted(summaries) == sorted(RUNS)
    assert {(each["steps"], each["epochs"], each["seed"]) for each in summaries.values()} == {(4, 2, 0)}


def test_the_same_command_again_trains_nothing_and_shows_the_tables(
    compared: Path, untrained: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(compared)
    assert main([*TOY, "strategy=mmd", "seeds=1"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("Results on the test rows")
    assert err == ""
    for name in RUNS:
        assert f"\n{name} " in out


@pytest.mark.slow
def test_what_is_done_is_found_without_torch(compared: Path) -> None:
    script = "import sys; from tlrun.cli import main; assert main(sys.argv[1:]) == 0; sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", script, *TOY, "strategy=mmd", "seeds=1", "--dry-run"]
    assert subprocess.run(command, cwd=compared, check=False).returncode == 0


@pytest.mark.slow
def test_a_dry_run_lists_every_run_with_what_is_known_of_its_time(
    compared: Path, untrained: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(compared)
    (run,) = (compared / "outputs").glob("*-mmd-*")
    before = (run / "status.json").read_text()
    (run / "status.json").write_text(before.replace('"done"', '"interrupted"'))
    try:
        assert main([*TOY, "strategy=mmd,dann", "seeds=2", "--dry-run"]) == 0
    finally:
        (run / "status.json").write_text(before)
    heading, *lines, total = capfd.readouterr().out.splitlines()
    assert heading.split() == ["strategy", "labels", "seed", "expected", "run"]
    cells = [line.split() for line in lines]
    assert [each[:4] for each in cells[:4]] == [
        ["done", "source_only", "none", "0"],
        ["done", "scratch", "5", "0"],
        ["interrupted", "mmd", "5", "0"],
        ["missing", "dann", "5", "0"],
    ]
    assert cells[2][4] != "s"  # nothing finished tells how long mmd takes
    assert [each[1] for each in cells if each[0] == "missing" and "s" in each] == [*RUNS[:2], RUNS[3]]
    assert total.startswith("3 of 10 done; ")
    assert total.endswith("not known before a first run of each: mmd, dann")


@pytest.mark.slow
def test_peeking_is_said(
    compared: Path, untrained: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(compared)
    assert main([*TOY, "strategy=mmd", "seeds=1", "engine.select=oracle", "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("engine.select=oracle: epochs are chosen by withheld target test labels")
    assert "\n0 of 4 done; " in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "strategy=mmd"), "compare: -m: no such option; see tlrun compare --help\n"),
        (("strategy=mmd", "hydra.sweep.dir=mine"),
         "hydra: compare runs here, one run after the other; for a launcher or a search of Hydra's: tlrun -m ..., then "
         "tlrun report\n"),
        (("strategy=mmd", "engine.select=target_val", "seeds=1"),
         "engine.select: target_val reads labels of target validation rows and none are granted; "
         "set data.target_val_labels to a number per class, or to all\n"),
    ],
)  # fmt: skip
def test_a_wrong_command_starts_nothing(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    untrained: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TOY, *arguments]) == 2
    assert capfd.readouterr() == ("", said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_pictures_are_drawn_once(
    compared: Path, untrained: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tlrun.report import plots

    drawn: list[Path] = []
    monkeypatch.setattr(plots, "draw", lambda groups, folder, **_: drawn.append(folder) or [])
    monkeypatch.chdir(compared)
    command = [*(each for each in TOY if each != "--no-plots"), "strategy=mmd", "seeds=1", "--out", str(tmp_path / "p")]
    assert [main(command), main(command)] == [0, 0]
    assert drawn == [tmp_path / "p"]
    page = tmp_path / "page.html"
    assert [main([*command, "--html", str(page)]), main([*command, "--html", str(page)])] == [0, 0]
    assert drawn == 2 * [tmp_path / "p"]
    assert all(name in page.read_text() for name in RUNS)
    page.unlink()
    assert main([*command, "--html", str(page)]) == 0
    assert drawn == 3 * [tmp_path / "p"] and page.is_file()


@pytest.mark.slow
def test_pictures_that_are_gone_or_of_another_report_are_drawn_again(
    compared: Path, untrained: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tlrun.report import plots
    from tlrun.report.pictures import Picture

    drawn = []

    def draw(groups: object, folder: Path, **_: object) -> list[Picture]:
        drawn.append(folder)
        picture = Picture("toy_gaussians", "curves", folder / "toy_gaussians-curves")
        folder.mkdir(exist_ok=True)
        for path in picture.files:
            path.write_text("these runs")
        return [picture, Picture("toy_gaussians", "tsne", folder / "toy_gaussians-tsne", "no data")]

    monkeypatch.setattr(plots, "draw", draw)
    monkeypatch.chdir(compared)
    command = [*(each for each in TOY if each != "--no-plots"), "strategy=mmd", "seeds=1", "--out", str(tmp_path / "p")]
    assert main(command) == 0 and len(drawn) == 1
    (tmp_path / "p" / "toy_gaussians-curves.svg").unlink()
    assert main(command) == 0 and len(drawn) == 2
    (tmp_path / "p" / "toy_gaussians-curves.png").write_text("other runs")
    assert main(command) == 0 and len(drawn) == 3
    (summary,) = (compared / "outputs").glob("*-mmd-*/summary.json")
    before = summary.read_text()
    summary.write_text(f"{before} ")  # as a run that was done afresh
    try:
        assert [main(command), main(command)] == [0, 0]
    finally:
        summary.write_text(before)
    assert len(drawn) == 4
    (predictions,) = (compared / "outputs").glob("*-mmd-*/predictions.csv")
    kept = predictions.rename(compared / "kept.csv")
    try:
        assert main(command) == 0 and len(drawn) == 5
    finally:
        kept.rename(predictions)
    assert [main(command), main(command)] == [0, 0] and len(drawn) == 6


@pytest.mark.slow
def test_a_page_to_a_pipe_is_written_each_time(
    compared: Path, untrained: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tlrun.report import plots

    monkeypatch.setattr(plots, "draw", lambda *_, **__: [])
    monkeypatch.chdir(compared)
    command = [*(each for each in TOY if each != "--no-plots"), "strategy=mmd", "seeds=1", "--out", str(tmp_path / "p")]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for html in (str(pipe), str(pipe), "-"):
        reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) if html != "-" else None
        capfd.readouterr()
        assert main([*command, "--html", html]) == 0
        assert "</html>" in (reader.communicate()[0] if reader else capfd.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "data.json"])
def test_a_run_that_has_lost_a_file_is_named_and_the_exit_code_is_1(
    name: str, compared: Path, untrained: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(compared)
    (path,) = (compared / "outputs").glob(f"*-mmd-*/{name}")
    kept = path.rename(compared / name)
    try:
        code = main([*TOY, "strategy=mmd", "seeds=1"])
        out, err = capfd.readouterr()
        assert main([*TOY, "strategy=mmd", "seeds=1", "--dry-run"]) == 0
        listed = capfd.readouterr().out
    finally:
        kept.rename(path)
    folder = path.parent.relative_to(compared)
    assert code == 1
    assert "\nsource_only " in out and "\nmmd " not in out
    assert err == (
        "left out of the comparison, though done; where it cannot be mended, remove the folder, and the same command "
        "makes the run again:\n"
        f"  {folder}: cannot read {folder}/{name}: No such file or directory\n"
    )
    assert any(line.startswith("damaged ") and " mmd " in line for line in listed.splitlines())
    assert listed.endswith("3 of 4 done, 1 damaged: what is wrong with them is told without --dry-run\n")


def test_the_page_can_come_without_pictures(compared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(compared)
    page = tmp_path / "page.html"
    assert main([*TOY, "strategy=mmd", "seeds=1", "--html", str(page)]) == 0
    assert "target_only" in page.read_text()


def _compare(folder: str, rig: Rig | None) -> None:
    import os
    import sys

    os.chdir(folder)
    if rig is not None:
        rig()
    sys.exit(main([*TOY, "strategy=mmd,fine_tune", "seeds=1"]))


@pytest.mark.slow
def test_killed_at_any_five_writes_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    start_server()
    draw = random.Random(0)
    rigs: list[Rig | None] = [
        partial(die_at_write, draw.randint(1, 40), draw.choice(get_args(Moment))) for _ in range(5)
    ]
    for name, several in (("whole", [None]), ("killed", [*rigs, None])):
        (tmp_path / name).mkdir()
        for rig in several:
            context = multiprocessing.get_context("forkserver")
            child = context.Process(target=_compare, args=(str(tmp_path / name), rig))
            child.start()
            child.join()
            assert child.exitcode == (0 if rig is None else -signal.SIGKILL)
    assert differences(tmp_path / "whole" / "outputs", tmp_path / "killed" / "outputs") == []
