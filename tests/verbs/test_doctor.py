"""The verb `doctor`: what it says of the machine and of each domain."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from tlrun.cli import main
from tlrun.data.datasets.usps import FILES
from tlrun.listing import version
from tlrun.verbs.doctor import EXTRAS

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What it prints, by the name at the head of a line, with USPS and nothing else under the data root."""
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "data" / "usps").mkdir(parents=True)
    for name in FILES.values():
        (folder / "data" / "usps" / name).touch()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        assert main(["doctor", f"data.cache_root={folder / 'cache'}", "data.root=data", "run.root=/proc/x"]) == 0
    lines = out.getvalue().splitlines()
    return dict(line.removeprefix("extra ").split(maxsplit=1) for line in lines if line)


def test_the_machine_is_described(said: dict[str, str]) -> None:
    assert said["versions"].startswith("tlrun ")
    assert said["torch"].startswith(torch.__version__)
    assert said["torchvision"].endswith("imports")
    assert said["device"].startswith("auto is ")
    assert said["precision"] in ("auto is fp32", "auto is bf16")
    assert said["memory"].endswith(" GiB")


def test_each_extra_has_its_versions_or_the_way_to_get_it(said: dict[str, str]) -> None:
    for extra, packages in EXTRAS.items():
        versions = {each: version(each) for each in packages}
        told = said[extra]
        assert all(f"{each} {found}" in told for each, found in versions.items())
        assert told.endswith(f"; pip install 'tlrun[{extra}]'") == ("not installed" in versions.values())


def test_each_folder_is_there_or_not_and_can_be_written_or_not(said: dict[str, str]) -> None:
    assert said["data.root"].startswith("data (there, writable, ")
    assert re.search(r"doctor\d*/cache \(not there, writable, ", said["cache"])
    assert said["run.root"].startswith("/proc/x (not there, ")


def test_each_domain_is_found_or_told_to_be_missing(said: dict[str, str]) -> None:
    names = {path.stem for path in (ROOT / "configs" / "domain").glob("*.yaml")}
    assert names <= said.keys()
    assert said["usps"] == "data/usps"
    assert said["mnist"].endswith("tlrun/data/shipped/mnist, shipped with tlrun")
    assert said["mnistm"] == "made from photographs shipped with tlrun"
    assert said["degraded"].startswith("mnist: ")
    assert said["svhn"].startswith("missing: data.root: no train_32x32.mat and no test_32x32.mat in data/svhn, ")


def test_a_wrong_setting_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "device=cud"]) == 2
    assert capsys.readouterr().err.startswith("device=cud: no such device; did you mean cuda?")
