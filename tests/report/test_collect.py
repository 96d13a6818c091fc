"""Which folders are part of a report, which are not, and what is said of those."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.report.conftest import Finished
from tlrun.config import ConfigError
from tlrun.files import RunError
from tlrun.report.collect import Collection, collect, read_run
from tlrun.run import RunFolder


def left_out(collection: Collection, root: Path) -> dict[str, str]:
    return {each.path.relative_to(root).as_posix(): each.reason.replace(f"{root}/", "") for each in collection.left_out}


def test_finished_runs_are_found_however_deep_they_lie(finished: Finished, tmp_path: Path) -> None:
    folders = [finished("source_only", seed=seed).path for seed in (0, 1)]
    deep = tmp_path / "runs" / "a" / "b" / "c"
    shutil.copytree(finished("dann").path, deep)
    shutil.rmtree(tmp_path / "runs" / next(path.name for path in (tmp_path / "runs").glob("dann*")))
    found = collect([tmp_path])
    assert {run.folder.path for run in found.runs} == {deep, *folders}
    assert found.left_out == ()
    first = found.runs[0]
    assert (first.pair, first.strategy, first.seed) == ("mnist_usps", "dann", 0)


def test_a_run_given_twice_counts_once_and_a_copy_is_named(finished: Finished, tmp_path: Path) -> None:
    folder = finished("dann")
    shutil.copytree(folder.path, tmp_path / "runs" / "z_copy")
    found = collect([tmp_path / "runs", folder.path, tmp_path])
    assert [run.folder.path for run in found.runs] == [folder.path]
    assert left_out(found, tmp_path) == {"runs/z_copy": f"the same run as runs/{folder.path.name}"}


def test_links_are_followed_and_loops_end(finished: Finished, tmp_path: Path) -> None:
    folder = finished("dann")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to(folder.path)
    (tmp_path / "links" / "loop").symlink_to(tmp_path / "links")
    assert [run.folder.path for run in collect([tmp_path / "links"]).runs] == [tmp_path / "links" / "one"]


def test_folders_that_are_no_finished_run_are_named_with_the_reason(finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    runs = {name: finished("mmd", seed=seed) for seed, name in enumerate("abcdefghijklmn")}
    runs["a"].write_status("failed", "loss_mmd is nan at step 3")
    runs["b"].write_status("running")
    runs["c"].summary.write_text('{"format": 1, "stat')
    runs["d"].summary.write_text(json.dumps({**runs["d"].read_summary(), "format": 2}))
    runs["e"].config.unlink()
    runs["n"].data_card.unlink()
    runs["f"].config.write_text("a: [1,")
    runs["g"].status.unlink()
    runs["j"].status.write_text('{"format": 1, "state": 5}')
    runs["k"].summary.write_text("[" * 100_000)
    runs["l"].config.write_bytes(b"\x00\xff")
    runs["m"].status.write_text(json.dumps({**runs["m"].read_status(), "format": 2}))
    runs["h"].summary.write_text('{"format": 1}')
    runs["i"].write_config(collect_config(runs["a"]))
    for name, folder in runs.items():
        folder.path.rename(tmp_path / "runs" / name)
    foreign = tmp_path / "runs" / "foreign"
    foreign.mkdir()
    (foreign / "summary.json").write_text('{"loss": 1}')
    (foreign / "status.json").write_text("[1]")
    found = collect([tmp_path / "runs"])
    assert [run.strategy for run in found.runs] == ["source_only"]
    told = left_out(found, tmp_path / "runs")
    assert re.fullmatch(r"c/summary\.json is damaged \(.+\)", told.pop("c"))
    assert re.fullmatch(r"k/summary\.json is damaged \(maximum recursion .+", told.pop("k"))
    assert re.fullmatch(r"l/config\.yaml is damaged \(.+\)", told.pop("l"))
    assert re.fullmatch(r"f/config\.yaml is damaged \(.+\)", told.pop("f"))
    assert told == {
        "a": "the run is failed (loss_mmd is nan at step 3)",
        "b": "the run is interrupted",
        "d": "d/summary.json was written by a newer tlrun (format 2, this one reads 1); update tlrun",
        "e": "cannot read e/config.yaml: No such file or directory",
        "n": "cannot read n/data.json: No such file or directory",
        "foreign": "foreign/status.json was not written by tlrun: it states no format",
        "g": "not a run folder, or half-written: it has summary.json and config.yaml and metrics.csv but no status.json",
        "h": "h/summary.json lacks data, strategy, seed, digest",
        "i": "i/config.yaml and i/summary.json are of different runs",
        "j": "j/status.json is damaged (no state of a run: 5)",
        "m": "m/status.json was written by a newer tlrun (format 2, this one reads 1); update tlrun",
    }


def collect_config(folder: RunFolder):  # type: ignore[no-untyped-def]
    from tlrun.trained import read_config

    return read_config(folder)


def test_an_empty_set_is_an_error_that_says_what_was_there(finished: Finished, tmp_path: Path) -> None:
    folder = finished("dann")
    folder.write_status("failed", "the disk is full")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as error:
        collect([tmp_path / "runs", tmp_path / "empty"])
    assert error.value.problems == [
        f"report: no finished run under {tmp_path}/runs, {tmp_path}/empty",
        f"  {folder.path}: the run is failed (the disk is full)",
        f"  {tmp_path}/empty: no run folder in it",
    ]


def test_paths_that_are_no_folders_are_all_told_at_once(finished: Finished, tmp_path: Path) -> None:
    folder = finished("dann")
    with pytest.raises(ConfigError) as error:
        collect([tmp_path / "no", folder.summary, folder.path])
    assert error.value.problems == [
        f"report: {tmp_path}/no is not there, must be a folder",
        f"report: {folder.summary} is a file, must be a folder",
    ]


@pytest.mark.slow
def test_settings_are_those_that_name_a_run(finished: Finished, tmp_path: Path) -> None:
    finished("dann", "run.root=elsewhere", "device=cpu", "data.root=there")
    finished("fine_tune", "data.target_labels=5")
    dann, tuned = collect([tmp_path]).runs
    assert dann.settings["optim.lr"] == 0.002
    assert not [key for key in dann.settings if key.startswith(("run.", "device.", "pretrain.")) or key == "seed"]
    assert {"data.root", "data.download", "data.cache_root"}.isdisjoint(dann.settings)
    assert tuned.settings["pretrain.engine.epochs"] == 10


def test_a_path_that_can_be_no_file_is_named(finished: Finished) -> None:
    with pytest.raises(ConfigError) as error:
        collect([Path("a" * 300)])
    assert error.value.problems == [f"report: {'a' * 300} is not to be had (File name too long), must be a folder"]


def test_files_with_fewer_rows_than_the_summary_says_are_refused(finished: Finished) -> None:
    folder = finished("dann", epochs=4, target_test_rows=20)
    run = read_run(folder)
    said = f"{folder.predictions} is damaged (it has 18 target test rows, summary.json says 20)"
    for read in (lambda: run.predicted, run.test_rows):
        with pytest.raises(RunError) as caught:
            read()
        assert str(caught.value) == said
    with pytest.raises(RunError, match=r"metrics.csv is damaged \(it has 3 epochs, summary.json says 4\)"):
        _ = run.metrics
    whole = read_run(finished("dann", epochs=3, target_test_rows=18))
    assert len(whole.predicted) == len(whole.test_rows()) == 18 and len(whole.metrics["epoch"]) == 3


def test_a_table_whose_last_line_is_cut_is_damaged(finished: Finished) -> None:
    folder = finished("dann")
    folder.metrics.write_text(folder.metrics.read_text()[:-2])
    with pytest.raises(RunError, match=r"metrics.csv is damaged \(its last line is cut\)"):
        _ = read_run(folder).metrics


def test_counts_are_missing_only_where_no_row_has_a_label(finished: Finished) -> None:
    folder = finished("dann")
    assert read_run(folder).counts("target", "test") == (("a", "b"), [[8, 1], [1, 8]])
    folder.confusion("target", "test").unlink()
    with pytest.raises(RunError, match=r"^cannot read .*confusion_target_test.csv: No such file or directory$"):
        read_run(folder).counts("target", "test")
    folder = finished("dann", accuracy=None)
    folder.confusion("target", "test").unlink()
    assert read_run(folder).counts("target", "test") is None
