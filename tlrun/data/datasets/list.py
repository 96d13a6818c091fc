"""Image files named in list files, lines `path label`, as DomainNet, VisDA and Office-Home are published."""

from __future__ import annotations

from pathlib import Path

from tlrun.config import ConfigError, FileDomainSettings
from tlrun.data.datasets.base import Domain, DomainData
from tlrun.data.files.file_domains import Labelled, SplitName, domain_of, find_place, some
from tlrun.data.files.images import is_image_name

Lines = list[tuple[str, str | None]]


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
            split: [(path, None if label is None else names.get(label, label)) for path, label in found]
            for split, found in lines.items()
        }
        count = sum(map(len, splits.values()))
        listed = ", ".join(map(str, files.values()))
        return domain_of(root, splits, origin=f"{count:,} image files named in {listed}", notes=(), classes=classes)

    def _names(self, lines: dict[SplitName, Lines]) -> tuple[tuple[str, ...] | None, dict[str, str]]:
        """The classes in order where they are known, and the name of each label that is a number."""
        labels = {label for found in lines.values() for _, label in found if label is not None}
        numeric = all(label.isdecimal() for label in labels)
        if self.config.classes is not None:
            file = find_place(self.config.classes, self.places, what="file", key="classes")
            classes = tuple(line.strip() for line in _text(file).splitlines() if line.strip())
            if len(set(classes)) < len(classes):
                raise ConfigError(f"data: {file} names a class twice")
            names = {str(number): name for number, name in enumerate(classes)} if numeric else {}
            if unknown := sorted(label for label in labels if names.get(label, label) not in classes):
                raise ConfigError(f"data: {file} names {len(classes)} classes and none for the labels {some(unknown)}")
            return classes, names
        return None, folder_names(lines) if numeric and labels else {}


def read_list(file: Path) -> Lines:
    """Path and label of each line; None where a line is a path alone. Paths may have spaces. Raises ConfigError."""
    found: Lines = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        line = line.strip()
        if not line:
            continue
        parts = line.rsplit(None, 1)
        if is_image_name(line.rpartition("/")[2]):
            found.append((line, None))
        elif len(parts) == 2:
            found.append((parts[0], parts[1]))
        else:
            raise ConfigError(
                f"data: {file}, line {number}: must be `path label`, or the path of an image; got {line!r}"
            )
    if not found:
        raise ConfigError(f"data: {file} names no image")
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"data: {file} cannot be read as text in UTF-8: {error}") from error


def folder_names(lines: dict[SplitName, Lines]) -> dict[str, str]:
    """Each number's name, from the folder that its images lie in. Raises ConfigError where these are not one to one."""
    pairs = {(label, Path(path).parent.name) for found in lines.values() for path, label in found if label is not None}
    names = dict(pairs)
    if len(pairs) != len(names) or len(set(names.values())) != len(names) or "" in names.values():
        label, folder = next(
            (pair for pair in sorted(pairs) if names[pair[0]] != pair[1] or not pair[1]), sorted(pairs)[0]
        )
        raise ConfigError(
            f"data: the labels are numbers that do not follow the folders of the images (label {label} in folder "
            f"{folder!r}, among others); name the classes in a file, one a line, and give it as classes=FILE"
        )
    return names
