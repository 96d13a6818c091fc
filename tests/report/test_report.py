"""The verb from outside: what is printed where, what is written, with which exit code, and what it loads."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.report.conftest import Finished
from tlrun import cli
from tlrun.verbs import report as verb

Call = Callable[..., tuple[int, str, str]]
PICTURES = ("bars", "classes", "confusion", "curves", "reliability")


@pytest.fixture
def report(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Calls `tlrun report` in an empty folder: exit code, standard output, standard error."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main(["report", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.mark.slow
def test_tables_go_to_standard_output_and_pictures_into_the_folder_named(
    report: Call, finished: Finished, tmp_path: Path
) -> None:
    finished("source_only", seed=0)
    finished("source_only", seed=1, accuracy=0.6)
    code, out, err = report(tmp_path / "runs", "--out", "pictures")
    assert code == 0
    assert out.startswith("Results on the test rows, in %")
    names = [f"mnist_usps-{name}.{kind}" for name in PICTURES for kind in ("png", "svg")]
    assert sorted(path.name for path in Path("pictures").iterdir()) == names
    assert [path.name for path in Path().iterdir()] == ["pictures"]
    assert "wrote pictures/mnist_usps-curves.png and pictures/mnist_usps-curves.svg\n" in err


def test_without_plots_nothing_is_written(report: Call, finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    assert report(tmp_path / "runs", "--no-plots")[::2] == (0, "")
    assert list(Path().iterdir()) == []


def test_files_are_written_also_where_nobody_reads_the_tables(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    finished("source_only")
    monkeypatch.setattr(sys, "stdout", Gone())
    assert verb.main([str(tmp_path / "runs"), "--no-plots", "--html", str(tmp_path / "page.html")]) == 0
    assert "source_only" in (tmp_path / "page.html").read_text()


def test_every_format_goes_to_a_file_or_alone_to_standard_output(
    report: Call, finished: Finished, tmp_path: Path
) -> None:
    finished("source_only")
    for name, first in (("csv", "pair,strategy,n,"), ("markdown", "**Results"), ("latex", "% needs"), ("json", "{\n")):
        _, printed, _ = report(tmp_path / "runs", "--no-plots", f"--{name}", "-")
        assert printed.startswith(first)
        _, table, _ = report(tmp_path / "runs", "--no-plots", f"--{name}", f"deep/table.{name}")
        assert Path(f"deep/table.{name}").read_text() == printed
        Path(f"link.{name}").symlink_to(f"far.{name}")
        report(tmp_path / "runs", "--no-plots", f"--{name}", f"link.{name}")
        assert Path(f"link.{name}").is_symlink() and Path(f"far.{name}").read_text() == printed
        assert table.startswith("Results")


def test_what_is_left_out_is_told_on_standard_error(report: Call, finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    folder = finished("dann")
    folder.write_status("failed", "the disk is full")
    code, out, err = report(tmp_path / "runs", "--no-plots")
    assert (code, err) == (0, f"left out {folder.path}: the run is failed (the disk is full)\n")
    assert "dann" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "tlrun report: the following arguments are required: PATH\n"),
        (["nowhere"], "report: nowhere is not there, must be a folder\n"),
        (["."], "report: no finished run under .\n  .: no run folder in it\n"),
        ([".", "--csv", "-", "--json", "-"], "report: --csv and --json cannot both go to standard output\n"),
        ([".", "--pdf"], "tlrun report: unrecognized arguments: --pdf\n"),
    ],
)
def test_a_wrong_command_says_so_and_exits_with_2(report: Call, arguments: list[str], said: str) -> None:
    assert report(*arguments) == (2, "", said)


def test_a_table_that_cannot_be_written_exits_with_1(report: Call, finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    Path("file").touch()
    code, _, err = report(tmp_path / "runs", "--no-plots", "--csv", "file/table.csv")
    assert code == 1
    assert err.startswith("cannot write file/table.csv: ")


def test_pictures_that_cannot_be_written_exit_with_1(report: Call, finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    Path("file").touch()
    code, out, err = report(tmp_path / "runs", "--out", "file")
    assert (code, err) == (1, "cannot write file/mnist_usps-curves.png: file is no folder\n")
    assert out.startswith("Results")
    code, _, err = report(tmp_path / "runs", "--out", "file/below")
    assert (code, err.splitlines()[0][:46]) == (1, "cannot write file/below/mnist_usps-curves.png:")
    assert len(err.splitlines()) == 1


def test_a_page_that_would_be_a_folder_exits_with_1(report: Call, finished: Finished, tmp_path: Path) -> None:
    finished("source_only")
    Path("page").mkdir()
    code, _, err = report(tmp_path / "runs", "--no-plots", "--html", "page")
    assert (code, err) == (1, "cannot write page: it is a folder\n")


@pytest.mark.slow
def test_pictures_of_an_earlier_report_on_the_pair_do_not_stay(
    report: Call, finished: Finished, tmp_path: Path
) -> None:
    folder = finished("source_only")
    pictures = Path("pictures")
    pictures.mkdir()
    others = {pictures / name for name in ("svhn-curves.png", "mnist_usps-notes.png", "mine.txt")}
    for path in (*others, pictures / "mnist_usps-curves-2.png", pictures / "mnist_usps-tsne.svg"):
        path.touch()
    assert report(tmp_path / "runs", "--out", "pictures")[0] == 0
    whole = {pictures / f"mnist_usps-{name}.{kind}" for name in PICTURES for kind in ("png", "svg")}
    assert set(pictures.iterdir()) == whole | others
    folder.confusion("target", "test").unlink()
    _, _, err = report(tmp_path / "runs", "--out", "pictures")
    assert "no picture mnist_usps-confusion: cannot read" in err
    assert {path for path in whole if path.exists()} == {
        path for path in whole if "confusion" not in path.name and "classes" not in path.name
    }


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_is_told_and_stops_no_other(
    report: Call, finished: Finished, tmp_path: Path
) -> None:
    folder = finished("source_only")
    folder.metrics.unlink()
    code, _, err = report(tmp_path / "runs", "--out", "pictures")
    assert code == 0
    assert f"no picture mnist_usps-curves: cannot read {folder.metrics}: No such file or directory\n" in err
    assert Path("pictures/mnist_usps-bars.png").exists()


def test_data_that_are_not_here_leave_out_the_svc_and_nothing_else(
    report: Call, finished: Finished, tmp_path: Path
) -> None:
    folder = finished("source_only", "data=toy_gaussians")
    folder.config.write_text(folder.config.read_text().replace("name: toy_gaussians", "name: gone"))
    code, out, err = report(tmp_path / "runs", "--no-plots")
    assert code == 0
    assert "\nsource_only" in out and "SVC" not in out
    assert err.startswith("no SVC beside toy_gaussians: data.source.name: there is no 'gone'")


@pytest.mark.slow
def test_tables_alone_load_neither_torch_nor_matplotlib_nor_pandas(finished: Finished, tmp_path: Path) -> None:
    for seed in (0, 1):
        finished("source_only", seed=seed)
        finished("dann", seed=seed)
    code = (
        f"import sys; from tlrun.cli import main; main(['report', {str(tmp_path)!r}, '--no-plots', '--csv', '-'])\n"
        "print([name for name in ('torch', 'matplotlib', 'pandas', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
