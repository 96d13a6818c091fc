"""Every verb tells how it is used."""

from __future__ import annotations

import pytest

from tlrun.cli import main
from tlrun.listing import KINDS
from tlrun.verbs import VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_shows_its_own_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: tlrun {verb} ")
    assert max(map(len, out.splitlines())) <= 120
    assert f"tlrun {verb}" in main_help(capsys)


def main_help(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["--help"]) == 0
    return capsys.readouterr().out


def test_list_names_all_that_it_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "--help"])
    out = capsys.readouterr().out
    assert all(kind in out for kind in KINDS)
