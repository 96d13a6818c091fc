"""Image files named in list files, lines `path label`, as DomainNet, VisDA and Office-Home are published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tlrun.config import ConfigError, FileDomainSettings
from tlrun.data.datasets.base import Domain, DomainData
from tlrun.data.files.file_domains import Labelled, SplitName, domain_of, find_place, read_text
from tlrun.data.files.images import is_image_name


class Line(NamedTuple):
    """One line of a list file. label: None where the line is a path alone."""

    path: str
    label: str | None
    file: Path
    number: int

    def wrong(self, what: str) -> ConfigError:
        """An error on this line."""
        got = self.path if self.label is None else f"{self.path} {self.label}"
        return ConfigError(f"data: {self.file}, line {self.number}: {what}; got {got!r}")


class List(Domain):
    """One list a split; numbers get their names from a file of names, or from the folders that the images lie in."""

    class Config(FileDomainSettings):
        root: str | None
        train: str | None
        val: str | None
        test: str | None
        classes: str | None

        @property
        def place(self) -> str | None:
            return self.train

        def problems(self) -> list[str]:
            given = [key for key in ("val", "test") if getattr(self, key) is not None]
            return [f"train: must be given where {given[0]} is"] if given and self.train is None else []

    config: Config

    def whereabouts(self) -> str:
        if self.config.train is None:
            return "your own images: data.target.train=LIST.txt"
        return str(find_place(self.config.train, self.places, what="file", key="train"))

    def load(self) -> DomainData:
        config = self.config
        given: dict[SplitName, str | None] = {"train": config.train, "val": config.val, "test": config.test}
        files = {
            split: find_place(name, self.places, what="file", key=split)
            for split, name in given.items()
            if name is not None or split == "train"
        }
        root = files["train"].parent
        if config.root is not None:
            root = find_place(config.root, self.places, what="folder", key="root")
        lines = {split: read_list(file) for split, file in files.items()}
        classes, names = self._names(lines)
        splits: dict[SplitName, list[Labelled]] = {
            split: [(line.path, None if line.label is None else names.get(line.label, line.label)) for line in found]
            for split, found in lines.items()
        }
        count = sum(map(len, splits.values()))
        listed = ", ".join(map(str, files.values()))
        return domain_of(root, splits, origin=f"{count:,} image files named in {listed}", notes=(), classes=classes)

    def _names(self, lines: dict[SplitName, list[Line]]) -> tuple[tuple[str, ...] | None, dict[str, str]]:
        """The classes in order where they are known, and the name of each label that is a number."""
        labelled = [line for found in lines.values() for line in found if line.label is not None]
        numbers = sum(str(line.label).isdecimal() for line in labelled)
        if self.config.classes is not None:
            file = find_place(self.config.classes, self.places, what="file", key="classes")
            classes = _read_classes(file)
            return classes, _named_labels(labelled, numbers, classes, file)
        if 0 < numbers < len(labelled):
            mostly = 2 * numbers >= len(labelled)
            line = next(line for line in labelled if str(line.label).isdecimal() != mostly)
            kinds = ("no number", "numbers") if mostly else ("a number", "words")
            raise line.wrong(
                f"label {line.label!r} is {kinds[0]} where most are {kinds[1]}; mend it, or name the classes in a file, "
                "one a line, and give it as classes=FILE"
            )
        return None, folder_names(labelled) if numbers else {}


def _read_classes(file: Path) -> tuple[str, ...]:
    """The names in a file, one a line. Raises ConfigError where it has none, or one twice."""
    places: dict[str, int] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        name = line.strip()
        if name in places:
            raise ConfigError(f"data: {file}, line {number}: names the class {name!r}, as line {places[name]} does")
        if name:
            places[name] = number
    if not places:
        raise ConfigError(f"data: {file} names no class")
    return tuple(places)


def _named_labels(labelled: Sequence[Line], numbers: int, classes: tuple[str, ...], file: Path) -> dict[str, str]:
    """The name of each label that is a number; none where labels are names. numbers: how many of the lines have one.

    Raises ConfigError for the first line whose label is no class.
    """
    known = {line.label for line in labelled} <= set(classes)
    by_number = numbers == len(labelled) or (not known and 2 * numbers >= len(labelled))
    names = dict(zip(map(str, range(len(classes))), classes, strict=True)) if by_number else {}
    for line in labelled:
        if line.label not in (names if by_number else classes):
            if not by_number:
                raise line.wrong(f"label {line.label!r} is none of the {len(classes)} classes that {file} names")
            if str(line.label).isdecimal():
                raise line.wrong(f"label {line.label} has no class: {file} names 0 to {len(classes) - 1}")
            raise line.wrong(f"label {line.label!r} is no number where most are")
    return names


def read_list(file: Path) -> list[Line]:
    """The lines of a list file but blank ones. Paths may have spaces. Raises ConfigError."""
    found: list[Line] = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        line = line.strip()
        if not line:
            continue
        parts = line.rsplit(None, 1)
        if is_image_name(line.rpartition("/")[2]):
            found.append(Line(line, None, file, number))
        elif len(parts) == 2:
            found.append(Line(parts[0], parts[1], file, number))
        else:
            raise Line(line, None, file, number).wrong("must be `path label`, or the path of an image")
    if not found:
        raise ConfigError(f"data: {file} names no image")
    return found


def folder_names(labelled: Sequence[Line]) -> dict[str, str]:
    """Each number's name, from the folder that its images lie in; all lines have labels.

    Raises ConfigError for the first line that is not as most of those with its label or folder are.
    """
    pairs = [(str(line.label), Path(line.path).parent.name) for line in labelled]
    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    for (label, folder), _ in Counter(pairs).most_common():
        names.setdefault(label, folder)
        labels.setdefault(folder, label)
    for line, (label, folder) in zip(labelled, pairs, strict=True):
        if folder and names[label] == folder and labels[folder] == label:
            continue
        what = f"label {label} in no folder" if not folder else f"label {label} in folder {folder!r}"
        if folder and names[label] != folder:
            what += f", while others with this label lie in {names[label]!r}"
        elif folder:
            what += f", whose others have label {labels[folder]}"
        raise line.wrong(
            f"{what}; labels that are numbers must follow the folders of the images, or name the classes in a file, one a "
            "line, and give it as classes=FILE"
        )
    return names
