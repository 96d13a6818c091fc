"""What the options of all verbs have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlrun.cli import main


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        *(("report", f"--{name}") for name in ("csv", "markdown", "latex", "json", "html")),
        *(("rank", "--csv"), ("rank", "--json"), ("advise", "--json"), ("diff", "--json"), ("distance", "--json")),
        *(("compare", "--html"), ("predict", "--output"), ("eval", "--output")),
        ("data", "--picture"),
    ],
)
def test_a_place_in_a_runs_folder_is_refused_before_anything_is_done(
    verb: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/status.json").touch()
    assert main([verb, "run", "run", option, "run/summary.json"]) == 2
    said = f"run/summary.json lies in the run folder {tmp_path}/run; name another place\n"
    assert capsys.readouterr() == ("", f"tlrun {verb}: argument {option}: {said}")
