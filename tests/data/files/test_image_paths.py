"""What a command line names as images."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tlrun.config import ConfigError
from tlrun.data.files.image_paths import Named, image_paths

Find = Callable[..., list[str]]


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Find:
    """What arguments name in a folder of empty files, since nothing is opened."""
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "deep/er/c.webp", "deep/d.jpg", ".dot/e.jpg",
                 "with space/ü ñ 图.jpeg", "[odd] name/f.gif"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    def named(*given: str, pipe: bytes = b"", **options: object) -> list[str]:
        found = image_paths(given, pipe=io.BytesIO(pipe), **options)  # type: ignore[arg-type]
        return [each.told for each in found]

    return named


def test_a_folder_stands_for_all_images_below_it_in_order(find: Find) -> None:
    everything = ["a.PNG", "b.jpg", "[odd] name/f.gif", "deep/d.jpg", "deep/er/c.webp", "with space/ü ñ 图.jpeg"]
    assert find(".") == everything
    assert find("deep/", "with space") == ["deep/d.jpg", "deep/er/c.webp", "with space/ü ñ 图.jpeg"]


def test_files_are_taken_as_they_are_named_and_as_often(find: Find) -> None:
    assert find("notes.txt", "b.jpg", "b.jpg") == ["notes.txt", "b.jpg", "b.jpg"]
    assert find("[odd] name/f.gif", "[odd] name") == ["[odd] name/f.gif"] * 2


def test_patterns_name_images_and_the_folders_that_they_match(find: Find) -> None:
    assert find("*") == ["[odd] name/f.gif", "a.PNG", "b.jpg", "deep/d.jpg", "deep/er/c.webp", "with space/ü ñ 图.jpeg"]
    assert find("**/*.jp*g") == ["b.jpg", "deep/d.jpg", "with space/ü ñ 图.jpeg"]
    assert find("**") == [
        "[odd] name/f.gif",
        "a.PNG",
        "b.jpg",
        "deep/d.jpg",
        "deep/er/c.webp",
        "with space/ü ñ 图.jpeg",
    ]
    assert find("w*/ü*") == ["with space/ü ñ 图.jpeg"]


def test_links_are_followed_and_a_circle_ends(find: Find, tmp_path: Path) -> None:
    (tmp_path / "deep" / "again").symlink_to(tmp_path / "deep")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    assert find("deep") == ["deep/d.jpg", "deep/er/c.webp"]
    assert find("link") == ["link/c.webp"]


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        ("path,label\nb.jpg,x\nsub/z.jpg,\n", {}, ["b.jpg", "sub/z.jpg"]),
        ("\ufefflabel,Path\nx,b.jpg\n\n", {}, ["b.jpg"]),
        ("b.jpg,x\n\"a, b.png\",y\n", {}, ["b.jpg", "a, b.png"]),
        ("b.jpg\n", {}, ["b.jpg"]),
        ("name,where\nx,b.jpg\n", {"column": "where"}, ["b.jpg"]),
        ("name , where\nx, b.jpg \n , \n", {"column": " where"}, ["b.jpg"]),
        (" b.jpg ,x\n sub/z.jpg,y\n", {}, ["b.jpg", "sub/z.jpg"]),
    ],
)  # fmt: skip
def test_a_csv_names_paths_with_and_without_a_header(
    content: str, options: dict[str, str], told: list[str], find: Find
) -> None:
    Path("list.csv").write_text(content)
    assert find("list.csv", **options) == told


def test_paths_in_a_list_start_from_its_folder_or_from_root(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\na.jpg\n/abs/b.jpg\n")
    (tmp_path / "here").mkdir()
    given = [str(tmp_path / "list.csv")]
    assert image_paths(given, pipe=io.BytesIO()) == [
        Named("a.jpg", str(tmp_path / "a.jpg")),
        Named("/abs/b.jpg", "/abs/b.jpg"),
    ]
    found = image_paths(given, pipe=io.BytesIO(), root=tmp_path / "here")
    assert [each.path for each in found] == [str(tmp_path / "here" / "a.jpg"), "/abs/b.jpg"]


def test_a_csv_in_utf16_is_told_and_a_nul_byte_in_one_path_left_to_who_opens_it(find: Find) -> None:
    Path("list.csv").write_text("path\nb.jpg\nc\0.jpg\n")
    assert find("list.csv") == ["b.jpg", "c\0.jpg"]
    for encoding in ("utf-16-le", "utf-16-be"):
        Path("list.csv").write_bytes("\ufeffpath\r\nb.jpg\r\n".encode(encoding))
        for options in ({}, {"column": "path"}):
            with pytest.raises(ConfigError) as error:
                find("list.csv", **options)
            assert str(error.value) == "list.csv, line 1: begins as text in UTF-16 does; save it as CSV in UTF-8"


def test_a_pipe_gives_paths_by_line_or_by_nul(find: Find) -> None:
    assert find("-", pipe="b.jpg\nwith space/ü.jpg\n\n".encode()) == ["b.jpg", "with space/ü.jpg"]
    assert find("-", pipe=b"b.jpg\0two\nlines.jpg\0") == ["b.jpg", "two\nlines.jpg"]
    assert os.fsencode(find("-", pipe=b"no-utf8-\xff.jpg")[0]) == b"no-utf8-\xff.jpg"


def test_all_that_names_no_image_is_told_at_once(find: Find) -> None:
    Path("empty").mkdir()
    Path("empty.csv").write_text("path,label\n")
    Path("blank.csv").write_text("path\na.jpg\n ,x\n")
    with pytest.raises(ConfigError) as error:
        find("b.jpg", "nothing.jpg", "empty", "*.tif", "empty.csv", "blank.csv", "-")
    assert error.value.problems == [
        "nothing.jpg: no such file or folder",
        "empty: no image is named there",
        "*.tif: matches nothing",
        "empty.csv: no image is named there",
        "blank.csv, line 3: no path",
        "standard input: no image is named there",
    ]
    with pytest.raises(ConfigError) as error:
        find("blank.csv", column="where")
    assert error.value.problems == ["--column where: blank.csv has no such heading; it begins with path"]
