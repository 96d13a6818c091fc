from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tlrun.environment import environment


def test_environment_names_versions_machine_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = environment(command="tlrun seed=1", device="cpu", threads=2, weights=None, origin="random")
    assert found["git"] is None
    assert found["versions"]["python"] == sys.version.split()[0]
    assert found["versions"]["torch"] == torch.__version__
    assert (found["command"], found["device"], found["threads"], found["weights"]) == ("tlrun seed=1", "cpu", 2, None)
    assert found["weights_origin"] == "random"
    assert found["processor"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_environment_tells_the_commit_and_whether_files_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    def revision() -> Any:
        return environment(command="", device="cpu", threads=1, weights=None, origin="random")["git"]

    git("init")
    assert revision() is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    git("tag", "-a", "v1", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert revision() == {"revision": commit, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert revision() == {"revision": commit, "dirty": True}
