"""How image files lie in a folder: a folder a class, splits above them or not, or no classes at all.

What could be meant in two ways is an error that says what was found: a level too many taken for a class would give one
class, and an accuracy of 100 %.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tlrun.config import ConfigError
from tlrun.data.files.file_domains import SPLIT_NAMES, Labelled, SplitName, some
from tlrun.data.files.images import is_image_name
from tlrun.data.files.reading import in_order

CLUTTER = {"__macosx", "@eadir", "lost+found"}
"""Folders that systems leave behind, beside hidden ones."""


@dataclass(frozen=True)
class Layout:
    """levels: folders passed through on the way to the classes, as found. ignored: names of files that are no images."""

    splits: dict[SplitName, list[Labelled]]
    levels: tuple[str, ...]
    ignored: Counter[str]
    has_classes: bool


@dataclass(frozen=True)
class _Folder:
    """One folder below the root: its path there, the images and folders in it by name, what else is in it."""

    path: str
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def below(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def find_layout(root: Path) -> Layout:
    """Every image below root with its split and class. Raises ConfigError for a layout that is none of those known."""
    top, levels = _descended(root, _scan(root, ""))
    ignored: Counter[str] = Counter()
    named = {name: SPLIT_NAMES[name.lower()] for name in top.folders if name.lower() in SPLIT_NAMES}
    splits: dict[SplitName, list[Labelled]] = {}
    if "train" in named.values():
        _check_splits(root, top, named)
        ignored.update(top.ignored)
        for name, split in named.items():
            below, passed = _descended(root, _scan(root, top.below(name)))
            levels += tuple(each for each in passed if each not in levels)
            splits[split] = _labelled(root, below, ignored)
    else:
        splits["train"] = _labelled(root, top, ignored)
    classes = {label for rows in splits.values() for _, label in rows}
    if not any(splits.values()):
        raise ConfigError(f"data: {root} holds no images{_seen(top)}")
    if len(classes) == 1 and classes != {None}:
        raise ConfigError(
            f"data: {root} holds one class folder alone, {classes.pop()}; root must hold a folder for each class, "
            "or images without folders where their classes are not known"
        )
    return Layout(splits, levels, ignored, classes != {None})


def _scan(root: Path, path: str) -> _Folder:
    """What lies in one folder, sorted by name; hidden files and folders and clutter count as ignored."""
    found = _Folder(path)
    try:
        with os.scandir(root / path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name.lower() in CLUTTER:
                    found.ignored.append(name)
                elif entry.is_dir():
                    found.folders.append(name)
                else:
                    (found.images if is_image_name(name) else found.ignored).append(name)
    except OSError as error:
        raise ConfigError(f"data: {root / path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    found.images.sort()
    found.folders.sort()
    return found


def _descended(root: Path, folder: _Folder) -> tuple[_Folder, tuple[str, ...]]:
    """Down through folders that hold one folder of folders and nothing else, as Office-31's `images` is."""
    levels: tuple[str, ...] = ()
    while len(folder.folders) == 1 and not folder.images:
        inner = _scan(root, folder.below(folder.folders[0]))
        if not inner.folders:
            break
        levels += (inner.path,)
        folder = inner
    return folder, levels


def _check_splits(root: Path, top: _Folder, named: dict[str, SplitName]) -> None:
    others = [name for name in top.folders if name not in named]
    if others or top.images:
        beside = some(others) if others else f"{len(top.images)} images"
        raise ConfigError(
            f"data: {root / top.path} holds the splits {', '.join(named)} and {beside} beside them; "
            "move one of them away, or set root to the folder that holds the classes"
        )
    if len(set(named.values())) < len(named):
        raise ConfigError(f"data: {root / top.path} holds two folders for one split: {', '.join(named)}")


def _labelled(root: Path, folder: _Folder, ignored: Counter[str]) -> list[Labelled]:
    """The images of one split: each under its class folder, or all without one."""
    ignored.update(folder.ignored)
    if not folder.folders:
        return [(folder.below(name), None) for name in folder.images]
    if folder.images:
        raise ConfigError(
            f"data: {root / folder.path} holds {len(folder.images)} images ({some(folder.images, 2)}) beside folders "
            f"({some(folder.folders)}); they must be in class folders all, or none"
        )
    rows: list[Labelled] = []
    empty: list[str] = []
    scans = in_order(partial(_scan, root), map(folder.below, folder.folders), workers=None)
    for name, inside in zip(folder.folders, scans, strict=True):
        if inside.folders:
            raise ConfigError(_nested(root, folder, inside))
        ignored.update(inside.ignored)
        rows += [(inside.below(image), name) for image in inside.images]
        if not inside.images:
            empty.append(name)
    if empty and rows:
        raise ConfigError(
            f"data: {root / folder.path} holds folders without images: {some(empty)}; remove them, or fill them"
        )
    return rows


def _nested(root: Path, folder: _Folder, inside: _Folder) -> str:
    return (
        f"data: {root / folder.path} holds folders ({some(folder.folders)}) that hold folders themselves "
        f"({inside.path}/{inside.folders[0]}); set root to the folder whose own folders are the classes"
    )


def _seen(top: _Folder) -> str:
    seen = [*(f"{name}/" for name in top.folders), *top.ignored]
    return f", only {some(seen)}" if seen else ""
