"""Layouts of image folders: what is understood, what is refused and how it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.file_trees import save_image
from tlrun.config import ConfigError
from tlrun.data.files.image_folder import find_layout


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_a_folder_a_class_in_order_of_names(tmp_path: Path) -> None:
    layout = find_layout(touch(tmp_path, "b/2.JPG", "b/10.png", "a/x.webp"))
    assert layout.splits == {"train": [("a/x.webp", "a"), ("b/10.png", "b"), ("b/2.JPG", "b")]}
    assert layout.has_classes and not layout.levels and not layout.ignored


def test_official_splits_are_taken_under_their_usual_names(tmp_path: Path) -> None:
    touch(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", "valid/a/3.jpg", "valid/b/4.jpg", "test/a/5.jpg", "test/b/6.jpg")
    layout = find_layout(tmp_path)
    assert {split: [label for _, label in rows] for split, rows in layout.splits.items()} == {
        "train": ["a", "b"], "val": ["a", "b"], "test": ["a", "b"],
    }  # fmt: skip


def test_a_flat_folder_is_without_labels_and_so_may_a_test_split_be(tmp_path: Path) -> None:
    flat = find_layout(touch(tmp_path / "flat", "2.jpg", "1.jpg"))
    assert flat.splits == {"train": [("1.jpg", None), ("2.jpg", None)]} and not flat.has_classes
    mixed = find_layout(touch(tmp_path / "mixed", "train/a/1.jpg", "train/b/1.jpg", "test/9.jpg"))
    assert mixed.splits["test"] == [("test/9.jpg", None)] and mixed.has_classes


def test_a_level_too_many_is_passed_through_and_named(tmp_path: Path) -> None:
    office = find_layout(touch(tmp_path / "office", "images/back_pack/1.jpg", "images/bike/1.jpg"))
    assert office.levels == ("images",) and [label for _, label in office.splits["train"]] == ["back_pack", "bike"]
    split = find_layout(touch(tmp_path / "split", "data/train/images/a/1.jpg", "data/train/images/b/1.jpg"))
    assert split.levels == ("data", "data/train", "data/train/images") or split.levels[-1] == "data/train/images"
    assert [label for _, label in split.splits["train"]] == ["a", "b"]


def test_what_is_no_image_is_counted_and_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/Thumbs.db", "a/.DS_Store", "b/1.jpg", "b/._1.jpg", "readme.txt")
    touch(tmp_path, ".git/x.jpg", "__MACOSX/a/1.jpg")
    layout = find_layout(tmp_path)
    assert len(layout.splits["train"]) == 2
    assert dict(layout.ignored) == {
        "Thumbs.db": 1, ".DS_Store": 1, "._1.jpg": 1, "readme.txt": 1, ".git": 1, "__MACOSX": 1,
    }  # fmt: skip


def test_linked_files_and_folders_count(tmp_path: Path) -> None:
    save_image(tmp_path / "store" / "1.png")
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "store")
    assert find_layout(tmp_path / "root").splits["train"] == [("a/1.png", "a"), ("b/1.png", "b")]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a/1.jpg"], "data: ROOT holds one class folder alone, a; root must hold a folder for each class, or images "
                      "without folders where their classes are not known"),
        (["notes.txt", "a/b.txt"], "data: ROOT holds no images, only a/, notes.txt"),
        ([".hidden"], "data: ROOT holds no images, only .hidden"),
        (["a/1.jpg", "b/1.jpg", "2.jpg"],
         "data: ROOT holds 1 images (2.jpg) beside folders (a, b); they must be in class folders all, or none"),
        (["amazon/images/a/1.jpg", "amazon/images/b/1.jpg", "dslr/images/a/1.jpg"],
         "data: ROOT holds folders (amazon, dslr) that hold folders themselves (amazon/images); "
         "set root to the folder whose own folders are the classes"),
        (["a/1.jpg", "b/1.jpg", "labels/1.txt"],
         "data: ROOT holds folders without images: labels; remove them, or fill them"),
        (["train/a/1.jpg", "train/b/1.jpg", "extra/1.jpg"],
         "data: ROOT holds the splits train and extra beside them; move one of them away, or set root to the folder "
         "that holds the classes"),
        (["train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"],
         "data: ROOT holds two folders for one split: train, val, valid"),
    ],
)  # fmt: skip
def test_an_unclear_layout_is_refused_with_what_was_found(tmp_path: Path, paths: list[str], message: str) -> None:
    touch(tmp_path, *paths)
    with pytest.raises(ConfigError) as caught:
        find_layout(tmp_path)
    assert str(caught.value) == message.replace("ROOT", str(tmp_path))
