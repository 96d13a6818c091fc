"""The published sets of photographs in their published layouts, as small trees; Office-31 itself where it is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlrun.config import ConfigError
from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.photo_set import SETS, PhotoSetDomain
from tlrun.data.files.images import ImageFiles

Load = Callable[..., DomainData]
REAL = Path(os.environ.get("TLRUN_DATA", "data"))


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def from_tree(name: str, part: str, root: Path = tmp_path) -> DomainData:
        config = PhotoSetDomain.Config(name="photo_set", title=None, set=name, part=part)
        return PhotoSetDomain(config, Places(root=root, cache=tmp_path / "cache", download=False)).load()

    return from_tree


def put(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6, 3), len(path.name), dtype=np.uint8)).save(path)
    return path.name


def labelled(data: DomainData, split: str = "train") -> dict[str, str]:
    """Each file's path below its root -> the name of its class."""
    rows = getattr(data, split)
    assert isinstance(rows.x, ImageFiles)
    for number in range(len(rows)):
        assert Path(rows.x.path(number)).is_file()
    return {name: data.classes[label] for name, label in zip(rows.x.names, rows.y.tolist(), strict=True)}


def test_office31_lies_in_class_folders_below_images(tmp_path: Path, load: Load) -> None:
    for label in ("bike", "mug"):
        put(tmp_path / "office31" / "webcam" / "images" / label / "frame_0001.jpg")
    data = load("office31", "webcam")
    assert data.classes == ("bike", "mug")
    assert sorted(labelled(data).values()) == ["bike", "mug"]
    assert data.test is None
    assert data.origin.startswith("Office-31, webcam (Saenko et al. 2010, ECCV), class folders of ")


@pytest.mark.parametrize("folder", ["Real World", "Real_World", "RealWorld"])
def test_office_home_real_world_is_found_under_each_of_its_names(folder: str, tmp_path: Path, load: Load) -> None:
    for label in ("Alarm_Clock", "Bed"):
        put(tmp_path / "OfficeHomeDataset_10072016" / folder / label / "00001.jpg")
    assert load("office_home", "real_world").classes == ("Alarm_Clock", "Bed")


def test_pacs_is_found_below_kfold(tmp_path: Path, load: Load) -> None:
    for label in ("dog", "horse"):
        put(tmp_path / "PACS" / "kfold" / "art_painting" / label / "pic_001.jpg")
    assert load("pacs", "art_painting").classes == ("dog", "horse")


@pytest.mark.parametrize(("part", "folder"), [("synthetic", "train"), ("real", "validation")])
def test_visda_is_read_by_its_lists_and_train_is_a_class(part: str, folder: str, tmp_path: Path, load: Load) -> None:
    home = tmp_path / "visda2017" / folder
    names = ("aeroplane", "train", "truck")
    lines = [f"{name}/{put(home / name / 'a_1.png')} {number}" for number, name in enumerate(names)]
    (home / "image_list.txt").write_text("\n".join(lines) + "\n")
    data = load("visda2017", part)
    assert data.classes == names
    assert labelled(data) == {f"{name}/a_1.png": name for name in names}


def test_domainnet_has_official_train_and_test_lists(tmp_path: Path, load: Load) -> None:
    home = tmp_path / "domainnet"
    for split, number in (("train", 1), ("test", 2)):
        lines = []
        for label, name in enumerate(("aircraft_carrier", "zigzag")):
            file = f"sketch/{name}/sketch_00{label}_{number}.jpg"
            put(home / file)
            lines.append(f"{file} {label}")
        (home / f"sketch_{split}.txt").write_text("\n".join(lines))
    data = load("domainnet", "sketch")
    assert data.classes == ("aircraft_carrier", "zigzag")
    assert labelled(data, "test") == {
        "sketch/aircraft_carrier/sketch_000_2.jpg": "aircraft_carrier",
        "sketch/zigzag/sketch_001_2.jpg": "zigzag",
    }


def test_image_clef_lists_name_flat_files_by_a_path_elsewhere(tmp_path: Path, load: Load) -> None:
    home = tmp_path / "image_CLEF"
    lines = [f"/home/maker/image_CLEF/c/{put(home / 'c' / f'{label:03}.jpg')} {label}" for label in (0, 11)]
    (home / "cList.txt").write_text("\n".join(lines))
    data = load("image_clef", "caltech")
    assert labelled(data) == {"c/000.jpg": "aeroplane", "c/011.jpg": "people"}
    (home / "cList.txt").write_text("c/000.jpg 12\n")
    with pytest.raises(ConfigError, match="cList.txt, line 1: has the label 12, which ImageCLEF-DA, caltech"):
        load("image_clef", "caltech")


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, each in SETS.items() for part in each.parts])
def test_a_missing_set_says_where_to_get_it_and_where_to_put_it(
    name: str, part: str, tmp_path: Path, load: Load
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(name, part)
    published = SETS[name]  # type: ignore[index]
    said = str(caught.value)
    assert said.startswith("data.root: no ")
    assert f"get it from {published.page}" in said
    assert f"so that {tmp_path / published.folders[0]} holds" in said


def test_a_part_that_the_set_has_not_is_told() -> None:
    config = PhotoSetDomain.Config(name="photo_set", title=None, set="office31", part="caltech")
    assert config.problems() == ["part: must be one of amazon, dslr, webcam, got caltech"]


@pytest.mark.skipif(not (REAL / "office31").is_dir(), reason="no Office-31 under TLRUN_DATA")
def test_office31_itself_has_its_published_counts(load: Load) -> None:
    found = {part: load("office31", part, REAL) for part in SETS["office31"].parts}
    assert {part: len(data.train) for part, data in found.items()} == {"amazon": 2817, "dslr": 498, "webcam": 795}
    assert {len(data.classes) for data in found.values()} == {31}
    assert len({data.classes for data in found.values()}) == 1
