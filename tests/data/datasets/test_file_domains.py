"""The domains of image files: folder, csv and list, each with what it understands and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.file_trees import save_classes
from tlrun.config import ConfigError
from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.csv import Csv
from tlrun.data.datasets.folder import Folder
from tlrun.data.datasets.list import List
from tlrun.data.files.images import ImageFiles

KINDS = {"folder": Folder, "csv": Csv, "list": List}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(kind: str, **given: Any) -> DomainData:
        component = KINDS[kind]
        values = dict.fromkeys(component.Config.model_fields) | {"name": kind} | given
        return component(component.Config(**values), Places(tmp_path, tmp_path / "cache", False)).load()

    return load


def names(data: DomainData, split: str = "train") -> list[tuple[str, str | None]]:
    rows = getattr(data, split)
    assert isinstance(rows.x, ImageFiles)
    labels = [data.classes[number] if number >= 0 else None for number in rows.y.tolist()]
    return list(zip(rows.x.names, labels, strict=True))


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def message(call: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def test_a_folder_lies_below_the_data_root_or_where_its_path_says(tmp_path: Path, load: Any) -> None:
    save_classes(tmp_path / "pets" / "images", 1)
    below, absolute = load("folder", root="pets"), load("folder", root=str(tmp_path / "pets"))
    assert below.classes == ("cat", "dog", "owl")
    assert names(below) == names(absolute)
    assert names(below)[0] == ("images/cat/000.png", "cat")
    assert below.origin == f"3 image files below {tmp_path / 'pets'}, in class folders"
    assert below.notes == ("the class folders lie in images/, below the root",)


def test_a_folder_that_is_not_there_is_told_with_where_it_was_sought(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "mine").mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.chdir(elsewhere)
    assert message(lambda: load("folder")) == (
        "data: root: must name the folder, as in root=./PATH, or below data.root without ./; got null"
    )
    assert message(lambda: load("folder", root="mine")) == (
        f"data: root: {tmp_path}/mine ('mine' below data.root={tmp_path}) is not there; there is one here: give ./mine"
    )
    assert message(lambda: load("folder", root="./other")) == f"data: root: {elsewhere}/other is not there"
    save_classes(elsewhere / "mine", 1)
    assert load("folder", root="./mine").classes == ("cat", "dog", "owl")
    assert message(lambda: load("folder", root=f"{tmp_path}/file")) == f"data: root: {tmp_path}/file is no folder"


@pytest.mark.parametrize(
    ("root", "title", "called"),
    [("office31/amazon", None, "amazon"), ("/data/My photos/", None, "My-photos"), ("x", "mine", "mine"), (None, None, "folder")],
)  # fmt: skip
def test_a_domain_is_called_by_its_title_or_the_last_part_of_its_root(
    root: str | None, title: str | None, called: str
) -> None:
    assert Folder.Config(name="folder", root=root, title=title).called == called


def test_a_csv_gives_paths_labels_and_splits(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "t/pets.csv", "path,label,split,who\na b.jpg,dog,train,me\nb.jpg,,train,me\nc.jpg,cat,test,you\n")
    data = load("csv", file="t/pets.csv")
    assert names(data) == [("a b.jpg", "dog"), ("b.jpg", None)]
    assert names(data, "test") == [("c.jpg", "cat")] and data.val is None
    assert data.train.x.root == tmp_path / "t"
    assert data.notes == ("columns of the file not read: who",)


def test_a_csv_without_labels_is_a_domain_without_labels(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "a.csv", "path\n1.jpg\n2.jpg\n")
    data = load("csv", file="a.csv")
    assert data.classes == () and data.train.y.tolist() == [-1, -1]


def test_of_a_csv_with_domains_one_is_taken_by_name(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "a.csv", "path,label,domain\n1.jpg,x,day\n2.jpg,y,day\n3.jpg,x,night\n")
    assert names(load("csv", file="a.csv", domain="day")) == [("1.jpg", "x"), ("2.jpg", "y")]
    assert Csv.Config(name="csv", title=None, file="a.csv", root=None, domain="day").called == "day"
    assert message(lambda: load("csv", file="a.csv")) == (
        f"data: {tmp_path}/a.csv holds the domains day, night; choose one with domain=NAME"
    )
    assert message(lambda: load("csv", file="a.csv", domain="dusk")) == (
        f"data: {tmp_path}/a.csv has the domains day, night, so domain=dusk cannot be taken"
    )


def test_numbers_as_class_names_are_in_order_of_number(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "a.csv", "path,label\n1.jpg,10\n2.jpg,9\n")
    assert load("csv", file="a.csv").classes == ("9", "10")


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("file,label\n", " must have a column path, its first line has file, label"),
        ("", " must have a column path, its first line has nothing"),
        ("path,label, label\n1.jpg,a,b\n", " has the column label more than once: columns 2, 3"),
        ("path,label,who,path\n1.jpg,a,b,2.jpg\n", " has the column path more than once: columns 1, 4"),
        ("path,label\n1.jpg\n", ", line 2: more or fewer cells than columns"),
        ("path,label\n1.jpg,a,b\n", ", line 2: more or fewer cells than columns"),
        ("path,label\n,a\n", ", line 2: no path"),
        ("path,split\n1.jpg,dev\n", ", line 2: split must be train, val or test, got 'dev'"),
        ("path,split\n1.jpg,test\n", " has no rows of split train, only of test"),
    ],
)
def test_a_csv_that_is_wrong_is_told_by_line(tmp_path: Path, load: Any, content: str, wrong: str) -> None:
    text(tmp_path / "a.csv", content)
    assert message(lambda: load("csv", file="a.csv")) == f"data: {tmp_path}/a.csv{wrong}"


@pytest.mark.parametrize("kind", ["csv", "list", "names"])
def test_a_file_of_names_that_is_no_text_in_utf8_is_told_by_file_and_line(tmp_path: Path, load: Any, kind: str) -> None:
    text(tmp_path / "list", "a/1.jpg 0\n")
    given = {"csv": {"file": "csv"}, "list": {"train": "list"}, "names": {"train": "list", "classes": "names"}}[kind]

    def told(content: str, encoding: str) -> str:
        (tmp_path / kind).write_bytes(content.encode(encoding))
        return message(lambda: load("csv" if kind == "csv" else "list", **given)).removeprefix(f"data: {tmp_path}/")

    nul = "holds a NUL byte, as no text in UTF-8 should; mend or convert it"
    assert told("path,label\r\na/1.jpg,cat\r\na/\x00.jpg,dog\r\n", "utf-8") == f"{kind}, line 3: {nul}"
    assert told("path\n", "utf-16-le") == f"{kind}, line 1: {nul}"
    assert told("path\n", "utf-16").startswith(f"{kind} cannot be read as text in UTF-8: 'utf-8' codec can't decode")


def test_lists_as_domainnet_has_them_name_classes_by_folder(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "clipart_train.txt", "clipart/zebra/1.jpg 1\nclipart/air plane/2.jpg 0\n")
    text(tmp_path / "clipart_test.txt", "clipart/zebra/3.jpg 1\n\n")
    data = load("list", train="clipart_train.txt", test="clipart_test.txt")
    assert names(data) == [("clipart/zebra/1.jpg", "zebra"), ("clipart/air plane/2.jpg", "air plane")]
    assert names(data, "test") == [("clipart/zebra/3.jpg", "zebra")]


def test_numbers_of_a_list_get_their_names_from_a_file(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "list.txt", "all/1.jpg 1\nall/2.jpg 0\nall/3.jpg\n")
    text(tmp_path / "names.txt", "bus\ncar\ntrain\n")
    data = load("list", train="list.txt", classes="names.txt", root=str(tmp_path))
    assert data.classes == ("bus", "car", "train")
    assert names(data) == [("all/1.jpg", "car"), ("all/2.jpg", "bus"), ("all/3.jpg", None)]
    text(tmp_path / "names.txt", "bus\n")
    assert message(lambda: load("list", train="list.txt", classes="names.txt")) == (
        f"data: {tmp_path}/list.txt, line 1: label 1 has no class: {tmp_path}/names.txt names 0 to 0; got 'all/1.jpg 1'"
    )


@pytest.mark.parametrize(
    ("lines", "number", "wrong"),
    [
        (("all/1.jpg 1", "all/2.jpg 0"), 2, "label 0 in folder 'all', whose others have label 1"),
        (
            ("b/1.jpg 1", "a/2.jpg 1", "a/3.jpg 1", "b/4.jpg 0", "b/5.jpg 0"),
            1,
            "label 1 in folder 'b', while others with this label lie in 'a'",
        ),
        (("a/1.jpg 0", "2.jpg 1"), 2, "label 1 in no folder"),
    ],
)
def test_the_line_whose_number_does_not_follow_the_folders_is_named(
    tmp_path: Path, load: Any, lines: tuple[str, ...], number: int, wrong: str
) -> None:
    text(tmp_path / "list.txt", "\n".join(lines))
    assert message(lambda: load("list", train="list.txt")) == (
        f"data: {tmp_path}/list.txt, line {number}: {wrong}; labels that are numbers must follow the folders of the "
        f"images, or name the classes in a file, one a line, and give it as classes=FILE; got {lines[number - 1]!r}"
    )


@pytest.mark.parametrize(
    ("labels", "classes", "line", "wrong"),
    [
        ("0 1 bus 1", "bus car", 3, "label 'bus' is no number where most are"),
        ("0 1 1 2", "bus car", 4, "label 2 has no class: {} names 0 to 1"),
        ("bus car bsu", "bus car", 3, "label 'bsu' is none of the 2 classes that {} names"),
        ("bus car 1", "bus car", 3, "label '1' is none of the 2 classes that {} names"),
        ("0 1 x 1", None, 3, "label 'x' is no number where most are numbers; {}"),
        ("bus car 1", None, 3, "label '1' is a number where most are words; {}"),
    ],
)
def test_the_line_with_a_label_that_is_no_class_is_named(
    tmp_path: Path, load: Any, labels: str, classes: str | None, line: int, wrong: str
) -> None:
    listed = [f"a/{number}.jpg {label}" for number, label in enumerate(labels.split())]
    text(tmp_path / "train.txt", "\n".join(listed[:1]))
    text(tmp_path / "test.txt", "\n".join(("", *listed[1:])))  # the same number in this file, after a blank line
    names = None if classes is None else str(text(tmp_path / "names.txt", "\n".join(classes.split())))
    told = names or "mend it, or name the classes in a file, one a line, and give it as classes=FILE"
    assert message(lambda: load("list", train="train.txt", test="test.txt", classes=names)) == (
        f"data: {tmp_path}/test.txt, line {line}: {wrong.format(told)}; got {listed[line - 1]!r}"
    )


def test_names_of_classes_that_look_like_numbers_are_names_beside_words(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "names.txt", "911\nboxster\n")
    text(tmp_path / "list.txt", "a/1.jpg 911\na/2.jpg 911\na/3.jpg boxster\n")
    assert [label for _, label in names(load("list", train="list.txt", classes="names.txt"))] == [
        "911",
        "911",
        "boxster",
    ]


def test_a_file_of_names_must_name_each_class_once(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "list.txt", "a/1.jpg 0\n")
    text(tmp_path / "names.txt", "bus\n\ncar\nbus\n")
    assert message(lambda: load("list", train="list.txt", classes="names.txt")) == (
        f"data: {tmp_path}/names.txt, line 4: names the class 'bus', as line 1 does"
    )
    text(tmp_path / "names.txt", "\n")
    assert message(lambda: load("list", train="list.txt", classes="names.txt")) == (
        f"data: {tmp_path}/names.txt names no class"
    )


def test_a_line_that_is_no_image_with_a_label_is_told(tmp_path: Path, load: Any) -> None:
    text(tmp_path / "list.txt", "a/1.jpg 0\nwhat\n")
    assert message(lambda: load("list", train="list.txt")) == (
        f"data: {tmp_path}/list.txt, line 2: must be `path label`, or the path of an image; got 'what'"
    )
