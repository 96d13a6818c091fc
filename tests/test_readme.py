"""README: its tables are those of the code, and every command in it is a right one."""

from __future__ import annotations

import bz2
import re
import runpy
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlrun.cli import main
from tlrun.compose.plan import Request, plan
from tlrun.data import domain
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.split_domain import SplitDomain, split_domain
from tlrun.verbs import VERBS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [line.split("  #")[0].strip() for line in README.splitlines() if line.startswith("    tlrun ")]
SMALL = (
    *("engine.epochs=2", "engine.steps_per_epoch=2", "engine.batch_size=8", "pretrain.engine.epochs=1"),
    *("pretrain.engine.steps_per_epoch=2", "pretrain.engine.batch_size=8", "device=cpu", "device.threads=1"),
    *("data.source_rows=200", "data.target_rows=200", "model=digits_cnn"),
)
PHOTOS = ("model=lenet", "data.image_size=28", "data.crop_fraction=1", "model.weights=random")


def test_the_tables_are_what_the_script_writes() -> None:
    with_tables = runpy.run_path(str(ROOT / "scripts" / "readme_tables.py"))["with_tables"]
    assert with_tables(README) == README
    shown = set(re.findall(r"<!-- tlrun list (\w+) -->", README))
    assert shown == {"strategies", "pairs", "domains", "models", "augmentations"}


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) >= 2
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_the_scripts_are_there() -> None:
    scripts = set(re.findall(r"`(scripts/[\w./]+)", README))
    assert scripts
    assert all((ROOT / script).exists() for script in scripts)


def few_rows(data: DomainData, **given: Any) -> SplitDomain:
    """The beginning of a domain, split as the whole of it would be."""
    if not isinstance(data.train.x, np.ndarray):  # files, of which there are few
        return split_domain(data, **given)
    test = Rows(data.test.x[:200], data.test.y[:200]) if data.test is not None else None
    return split_domain(replace(data, train=Rows(data.train.x[:2000], data.train.y[:2000]), test=test), **given)


def put_usps(folder: Path) -> None:
    """USPS in its two files' format, with thirty blank images a class."""
    lines = []
    for label in range(1, 11):
        for row in range(30):
            shade = np.linspace(-1, 1, 256).round(2) * (row - 15) / 15
            lines.append(f"{label} " + " ".join(f"{place}:{value:.3f}" for place, value in enumerate(shade, start=1)))
    folder.mkdir(parents=True)
    for name in ("usps.bz2", "usps.t.bz2"):
        (folder / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def put_photos(folder: Path, *, labelled: bool) -> None:
    """Twenty small pictures of each of two classes, in folders of their own where they are labelled."""
    for label, level in (("day", 200), ("night", 50)):
        inside = folder / label if labelled else folder
        inside.mkdir(parents=True, exist_ok=True)
        for row in range(20):
            pixels = np.random.default_rng(row).normal(level, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(inside / f"{label}_{row}.png")


TRAINING_VERBS = ("compare", "advise", "rank")


def filled_in(arguments: list[str]) -> list[str]:
    """The arguments with RUN and OTHER made the names of two runs of the page's first pair."""
    names = {"outputs/RUN": "dann", "outputs/OTHER": "source_only"}
    runs = {name: next(Path("outputs").glob(f"mnist_mnistm-{each}-*"), None) for name, each in names.items()}
    return [str(runs.get(argument, argument)) for argument in arguments]


def first_two(glob: re.Match[str]) -> str:
    """Two of the experiments that a glob stands for; that the others compose is tested where they are."""
    names = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob(f"{glob[1]}.yaml"))
    assert len(names) >= 2
    return ",".join(names[:2])


def made_small(arguments: list[str]) -> list[str]:
    """A command that trains, with few steps on few rows, one seed, two grants and two experiments."""
    several = {"seed=0,1,2": "seed=0", "seeds=5": "seeds=1", "labels=1,5,10": "labels=1,5"}
    fewer = [several.get(argument, argument) for argument in arguments]
    fewer = [re.sub(r"glob\((.+)\)", first_two, argument) for argument in fewer]
    for experiment, labels in (
        ("label_curve", "3,10"),
        ("exercise_1", "10"),
    ):  # they grant more labels than few rows have
        fewer += [f"data.target_labels={labels}"] if any(f"experiment={experiment}" in each for each in fewer) else []
    fewer += ["seeds=1"] if fewer[0] == "compare" and "seeds=1" not in fewer else []
    small = (*SMALL[:-3], *PHOTOS) if any("root=./photos" in each for each in fewer) else SMALL
    small = SMALL[:-1] if any(each.startswith(("model=", "models=")) for each in fewer) else small
    small = (*small, "engine.epochs=3") if "strategy=progressive" in fewer else small  # an epoch for each phase
    return [*fewer, *(each for each in small if each not in fewer[-1:])]


@pytest.mark.slow
def test_every_command_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with a few steps on a few rows, in the order of the page, so that there is something to report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TLRUN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(domain, "split_domain", few_rows)
    put_usps(tmp_path / "data" / "usps")
    put_photos(tmp_path / "photos", labelled=True)
    put_photos(tmp_path / "unlabelled", labelled=False)
    assert len(COMMANDS) >= 12
    for command in COMMANDS:
        arguments = filled_in(shlex.split(command)[1:])
        if (
            "office31" in command or "mnist_mnistm_" in command
        ):  # data that nobody may pass on: it must be a right command
            assert plan(Request(tuple(arguments[1:]), multirun=True)).here
            continue
        if arguments[0] not in VERBS or arguments[0] in TRAINING_VERBS:
            arguments = made_small(arguments)
        if arguments[0] == "report" and (tmp_path / "report").exists():
            arguments.append("--no-plots")  # one of them draws
        code = main(arguments)
        said = capsys.readouterr()
        expected = (0, 1) if "run.require" in command or arguments[:2] == ["data", "check"] else (0,)
        assert code in expected, f"{command}\n{said.err}"
    assert len(list((tmp_path / "report").glob("*.png"))) >= 4
    assert (tmp_path / "data_mnist_mnistm.png").is_file()
