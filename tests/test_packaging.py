"""The distribution: what the wheel holds, that it runs by itself, and what the project says it needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~ ;\[]", requirement)[0]


def test_every_requirement_has_its_exact_version_in_the_constraints() -> None:
    extras = [each for group in PROJECT["optional-dependencies"].values() for each in group]
    assert {name_of(each) for each in (*PROJECT["dependencies"], *extras)} <= CONSTRAINTS.keys()
    assert CONSTRAINTS["torch"] == "2.13.0"
    assert CONSTRAINTS["torchvision"] == "0.28.0"
    assert any(name.startswith("nvidia-") for name in CONSTRAINTS), "GPU machines would get floating versions"


def test_every_requirement_has_a_lower_bound() -> None:
    assert [each for each in PROJECT["dependencies"] if not re.search(r"[>=]=\d", each)] == []


def test_no_file_says_where_to_fetch_packages_from() -> None:
    scripts = (path for path in (ROOT / "scripts").rglob("*") if path.suffix in (".sh", ".txt"))
    for path in (ROOT / "constraints.txt", ROOT / "pyproject.toml", *scripts):
        assert not re.search(r"(?<!no-emit-)(index-url|find-links)|://", path.read_text()), path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel made from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True)
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "TLRUN_CACHE": str(folder / "cache")}
    command = [sys.executable, str(installed / "bin" / "tlrun"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def files_of(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_the_wheel_holds_the_package_its_configs_and_its_data_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"tlrun/{name}" for name in files_of(ROOT / "tlrun")}
    expected |= {f"tlrun/configs/{name}" for name in files_of(ROOT / "configs")}
    assert names == expected
    assert {"tlrun/configs/train.yaml", "tlrun/data/shipped/ATTRIBUTION.md", "tlrun/report/page.html"} <= names
    assert "tlrun/data/shipped/mnist/train-images-idx3-ubyte.gz" in names


@pytest.mark.slow
def test_the_wheel_says_what_it_needs_and_under_which_licence(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("METADATA"))
        metadata = archive.read(name).decode()
        licences = [each for each in archive.namelist() if ".dist-info/licenses/" in each]
    assert "License-Expression: MIT\n" in metadata
    assert len(licences) == 2
    assert metadata.count("Requires-Dist: torch>=") == 1
    assert "Requires-Python: >=3.11\n" in metadata


@pytest.mark.slow
def test_the_source_distribution_holds_tests_and_scripts(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "configs/train.yaml", "tests/conftest.py"}
    assert wanted <= names


@pytest.mark.slow
def test_the_wheel_runs_by_itself_from_any_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "--version")
    assert done.stdout.startswith(f"tlrun {PROJECT['version']} (torch "), done.stderr
    done = run(installed, tmp_path, "list", "pairs")
    assert "mnist_mnistm" in done.stdout, done.stderr
    done = run(installed, tmp_path, "--info", "searchpath")
    assert f"file://{installed}/tlrun/configs" in done.stdout, done.stderr
    done = run(installed, tmp_path, "strategy=dan")
    assert (done.returncode, done.stderr[:14]) == (2, "strategy=dan: ")
    toy = ("data=toy_gaussians", "model=mlp", "engine.epochs=1", "device=cpu", "device.threads=1")
    done = run(installed, tmp_path, *toy, "strategy=source_only")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip() / "summary.json").is_file()
