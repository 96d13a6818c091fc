"""The verb `data`: what it prints, draws and answers, for right and wrong commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import compose_config
from tests.data.file_trees import damage, save_classes
from tlrun.cli import main
from tlrun.compose.resolve import name_choices
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.domain import split_pair
from tlrun.data.rows import FileRows
from tlrun.data.split_domain import Split
from tlrun.verbs.data import card_lines

SMALL = ("data=pair", "domain@data.source=mnist", "domain@data.target=mnist", "data.image_size=null",
         "data.channels=null", "data.source.name=tests.engine.small_digits", "+data.source.colours=false",
         "data.target.name=tests.engine.small_digits", "+data.target.colours=true")  # fmt: skip
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tlrun data ...` in an empty folder: exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["data", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.slow
def test_show_prints_the_card_and_draws_both_domains(data: Run, tmp_path: Path) -> None:
    code, out, err = data("show", *SMALL, "data.target_labels=2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert any(line.startswith("  labels that training sees: 20;") for line in lines)
    assert any(line.split()[:1] == ["9"] and len(line.split()) == 7 for line in lines)
    assert sum(line.startswith(("source: ", "target: ")) for line in lines) == 2
    (picture,) = tmp_path.glob("data_*.png")
    assert lines[-1] == f"picture: {picture.name}"
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    colourful = np.abs(pixels[..., 0] - pixels[..., 2]) > 40
    middle = pixels.shape[1] // 2
    assert colourful[:, middle:].mean() > 0.05 > 0.01 > colourful[:, :middle].mean()  # the target alone has colours


@pytest.mark.slow
def test_show_draws_what_each_domain_gets_and_what_is_mixed(data: Run, tmp_path: Path) -> None:
    drawn = {}
    ways = {"plain": (), "target": ("augment@augment.target=strong",), "mixed": ("augment/mix=cutmix",)}
    for name, more in ways.items():
        assert data("show", *SMALL, *more, "--picture", f"{name}.png")[0] == 0
        drawn[name] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")).astype(int)
    width = drawn["plain"].shape[1] // 4
    panels = {
        name: [pixels[60:, part * width : (part + 1) * width] for part in range(4)] for name, pixels in drawn.items()
    }

    def changed(name: str) -> list[bool]:
        pairs = zip(panels["plain"], panels[name], strict=True)
        return [float((np.abs(before - after) > 60).mean()) > 0.01 for before, after in pairs]

    assert changed("target") == [False, False, False, True]
    assert changed("mixed") == [False, True, False, False]


@pytest.mark.slow
def test_show_draws_points_in_the_plane_with_the_granted_ones_ringed(data: Run, tmp_path: Path) -> None:
    sizes = []
    for grant in ("none", "5"):
        name = f"{grant}/points.png"
        assert data("show", "data=toy_gaussians", f"data.target_labels={grant}", "--picture", name)[0] == 0
        sizes.append(int((np.asarray(Image.open(tmp_path / name).convert("L")) < 30).sum()))
    assert sizes[1] > sizes[0] + 100


def test_show_as_json_is_the_card_of_a_run_and_nothing_else(data: Run, tmp_path: Path) -> None:
    code, out, err = data("show", "--json", "data=toy_gaussians")
    card = json.loads(out)
    assert (code, err) == (0, "")
    assert card["target"]["rows"] == {"train": 180, "val": 20, "test": 200}
    assert list(tmp_path.glob("*.png")) == []


def test_a_suffix_of_no_picture_is_refused_and_a_link_leads_to_the_picture(data: Run, tmp_path: Path) -> None:
    code, _, err = data("show", "data=toy_gaussians", "--picture", "picture.pgn")
    assert (code, err[:74]) == (2, "data: --picture picture.pgn: no picture is written as .pgn; did you mean p")
    (tmp_path / "link.png").symlink_to("far.png")
    assert data("show", "data=toy_gaussians", "--picture", "link.png")[0] == 0
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "far.png").read_bytes().startswith(b"\x89PNG")


def test_no_picture_leaves_no_file(data: Run, tmp_path: Path) -> None:
    assert data("show", "data=toy_gaussians", "--no-picture")[0] == 0
    assert list(tmp_path.glob("*.png")) == []


def test_check_finds_nothing_wrong_with_two_clusters(data: Run) -> None:
    assert data("check", "data=toy_gaussians") == (0, "toy_gaussians: 0 problems, 0 notes\n", "")


def test_check_looks_for_leaks_between_the_splits_that_a_run_has(data: Run, tmp_path: Path) -> None:
    photos = save_classes(tmp_path / "photos", 12)
    bad = [damage(photos / "cat" / f"00{number}.png") for number in range(5)]
    asked = ["data=folder", f"data.target.root={photos}", "data.image_size=28", "model=lenet", "strategy=scratch",
             "data.on_bad_image=skip"]  # fmt: skip
    settings = name_choices(compose_config(*asked)).data
    used, held = ({name: _names(split) for name, split in split_pair(settings, keep_bad=keep)["target"].splits.items()}
                  for keep in (False, True))  # fmt: skip
    # In a check that splits the damaged files too, both of these would be train rows.
    test = next(name for name in used["test"] if name in held["train"])
    train = next(name for name in used["train"] if name in held["train"])
    shutil.copy(photos / train, photos / test)
    code, out, _ = data("check", *asked)
    assert code == 1 and f"test: 1 rows stand in photos (target), train too (files {test})" in out
    assert all(path.relative_to(photos).as_posix() in out for path in bad)


def _names(split: Split) -> list[str]:
    assert isinstance(split.x, FileRows)
    return [split.x.files.names[number] for number in split.x.numbers.tolist()]


def test_check_of_a_domain_against_itself_finds_its_leaks_and_fails(data: Run) -> None:
    code, out, _ = data("check", "data=toy_gaussians", "data.target.num_rows=1000", "data.target.draw=0",
                        "data.target.rotation=0", "data.target.shift=[0,0]")  # fmt: skip
    assert code == 1
    assert "problem: toy_gaussians (target), train: 450 rows stand in toy_gaussians (source), train too (rows " in out
    assert out.splitlines()[-1] == "toy_gaussians: 1 problems, 2 notes"


def test_prepare_says_what_is_there_and_where_it_came_from(data: Run, tmp_path: Path) -> None:
    code, out, _ = data("prepare", "data=toy_gaussians")
    assert code == 0
    assert out.startswith("source: toy_gaussians: 450 train, 50 val, 500 test\n  two Gaussian clusters")
    assert out.endswith(f"cache: {tmp_path / 'cache'}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("shw",),
            "tlrun data: argument what: invalid choice: 'shw' (choose from 'show', 'check', 'prepare', 'cache')\n",
        ),
        ((), "tlrun data: the following arguments are required: what\n"),
        (("show", "data=mnist_usp"), "data=mnist_usp: no such pair; did you mean mnist_usps? (choices: "),
        (("show", "data.rot=1"), "data.rot=1: unknown key; did you mean data.root?"),
        (("check", "seed=0,1"), "seed=0,1: several values need -m"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(data: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = data(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)


def test_missing_data_is_told_as_a_run_tells_it(data: Run) -> None:
    code, _, err = data("show", "data=mnist_usps", "data.root=nowhere")
    assert code == 2
    assert err.startswith("data.root: no usps.bz2 and no usps.t.bz2 in nowhere/usps, nowhere, ")


def test_the_table_names_classes_that_the_target_has_alone(pair_of: Callable[..., object]) -> None:
    def domain(*classes: str) -> DomainData:
        y = np.repeat(np.arange(len(classes)), 20).astype(np.int64)
        return DomainData(classes, Rows(np.random.RandomState(len(classes)).rand(len(y), 3).astype("f4"), y), None, "")

    pair = pair_of(domain("a", "b"), domain("a", "b", "other"), label_sets="open")
    table = "\n".join(card_lines(pair.card)).splitlines()[-4:]
    assert [line.split() for line in table] == [
        ["a", "12", "3", "5", "12", "3", "5"],
        ["b", "12", "3", "5", "12", "3", "5"],
        ["other", "0", "0", "0", "12", "3", "5"],
        ["all", "24", "6", "10", "36", "9", "15"],
    ]
