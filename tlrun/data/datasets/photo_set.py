"""Published sets of photographs in several domains, as their makers lay them out below the data root.

None of them may be passed on, and none has a published checksum, so nothing is fetched: where one is missing, its own
page is named, and the place to put it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tlrun.config import ConfigError, FileDomainSettings
from tlrun.data.datasets.base import Domain, DomainData
from tlrun.data.datasets.list import folder_names, read_list
from tlrun.data.files.file_domains import Labelled, SplitName, domain_of
from tlrun.data.files.image_folder import find_layout

SetName = Literal["office31", "office_home", "visda2017", "domainnet", "pacs", "image_clef"]


@dataclass(frozen=True)
class PhotoSet:
    """One published set.

    folders: where it is looked for below the data root, in order. page: where its makers offer it, and on what terms.
    lists: whether list files name the images; otherwise class folders hold them. parts: for each domain the names that
    its folder may have, or its list file by split. classes: names of numbered classes where no folder tells them; the
    lists then give paths on their makers' machine, of which the domain's folder and the last part are taken.
    """

    title: str
    paper: str
    page: str
    folders: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...] | Mapping[SplitName, str]]
    classes: tuple[str, ...] | None = field(default=None)


SETS: dict[SetName, PhotoSet] = {
    "office31": PhotoSet(
        "Office-31",
        "Saenko et al. 2010, ECCV",
        "https://faculty.cc.gatech.edu/~judy/domainadapt/ (for research; no licence is stated)",
        ("office31", "office_31", "Office31", "office"),
        {"amazon": ("amazon",), "dslr": ("dslr",), "webcam": ("webcam",)},
    ),
    "office_home": PhotoSet(
        "Office-Home",
        "Venkateswara et al. 2017, CVPR, arXiv:1706.07522",
        "https://www.hemanthdv.org/officeHomeDataset.html (for research, under fair use)",
        ("office_home", "OfficeHome", "OfficeHomeDataset_10072016"),
        {
            "art": ("Art", "art"),
            "clipart": ("Clipart", "clipart"),
            "product": ("Product", "product"),
            "real_world": ("Real World", "Real_World", "RealWorld", "real_world"),
        },
    ),
    "visda2017": PhotoSet(
        "VisDA-2017, classification",
        "Peng et al. 2017, arXiv:1710.06924",
        "https://ai.bu.edu/visda-2017/ (train.tar and validation.tar, for research)",
        ("visda2017", "visda-2017", "VisDA2017", "visda17"),
        {"synthetic": {"train": "train/image_list.txt"}, "real": {"train": "validation/image_list.txt"}},
    ),
    "domainnet": PhotoSet(
        "DomainNet",
        "Peng et al. 2019, ICCV, arXiv:1812.01754",
        "https://ai.bu.edu/M3SDA/ (the cleaned version and its lists, for research, under fair use)",
        ("domainnet", "DomainNet", "domain_net"),
        {
            part: {"train": f"{part}_train.txt", "test": f"{part}_test.txt"}
            for part in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
        },
    ),
    "pacs": PhotoSet(
        "PACS",
        "Li et al. 2017, ICCV, arXiv:1710.03077",
        "https://domaingeneralization.github.io/ (for research; no licence is stated)",
        ("pacs", "PACS", "pacs/kfold", "PACS/kfold", "kfold"),
        {part: (part,) for part in ("art_painting", "cartoon", "photo", "sketch")},
    ),
    "image_clef": PhotoSet(
        "ImageCLEF-DA",
        "Caputo and Patricia 2014, ImageCLEF",
        "https://www.imageclef.org/2014/adaptation (to participants of the task; for research)",
        ("image_clef", "image_CLEF", "imageclef", "image-clef"),
        {
            "bing": {"train": "bList.txt"},
            "caltech": {"train": "cList.txt"},
            "imagenet": {"train": "iList.txt"},
            "pascal": {"train": "pList.txt"},
        },
        ("aeroplane", "bike", "bird", "boat", "bottle", "bus", "car", "dog", "horse", "monitor", "motorbike", "people"),
    ),
}


class PhotoSetDomain(Domain):
    """One domain of one published set."""

    class Config(FileDomainSettings):
        set: SetName
        part: str

        @property
        def place(self) -> str | None:
            return self.part

        def problems(self) -> list[str]:
            parts = SETS[self.set].parts
            return [] if self.part in parts else [f"part: must be one of {', '.join(parts)}, got {self.part}"]

    config: Config

    @property
    def published(self) -> PhotoSet:
        return SETS[self.config.set]

    def whereabouts(self) -> str:
        return ", ".join(map(str, self._find()))

    def load(self) -> DomainData:
        published, found = self.published, self._find()
        about = f"{published.title}, {self.config.part} ({published.paper})"
        if not isinstance(published.parts[self.config.part], Mapping):
            layout = find_layout(found[0])
            if None in {label for rows in layout.splits.values() for _, label in rows}:
                raise ConfigError(f"data.root: {found[0]} holds images without class folders, which {about} has not")
            return domain_of(found[0], layout.splits, origin=f"{about}, class folders of {found[0]}", notes=())
        names: tuple[SplitName, ...] = ("train", "test")
        lines = {split: read_list(file) for split, file in zip(names, found, strict=False)}
        everything = [line for listed in lines.values() for line in listed]
        if unlabelled := [line for line in everything if line.label is None]:
            raise unlabelled[0].wrong(f"has no label, which {about} has throughout")
        if published.classes is None:
            classes = folder_names(everything)
        else:
            classes = dict(zip(map(str, range(len(published.classes))), published.classes, strict=True))
        if unknown := [line for line in everything if line.label not in classes]:
            raise unknown[0].wrong(f"has the label {unknown[0].label}, which {about} has not")
        splits: dict[SplitName, list[Labelled]] = {
            split: [(self._path(line.path, found[0]), classes[str(line.label)]) for line in listed]
            for split, listed in lines.items()
        }
        root = found[0].parent
        return domain_of(root, splits, origin=f"{about}, lists {', '.join(map(str, found))}", notes=())

    def _path(self, listed: str, file: Path) -> str:
        """Where the image of a line lies below the list's folder."""
        if self.published.classes is None:
            return listed
        letter = file.name.removesuffix("List.txt")
        return f"{letter}/{listed.rpartition('/')[2]}"

    def _find(self) -> list[Path]:
        """The folder, or the list files, of the domain. Raises ConfigError with where they were looked for."""
        published, part = self.published, self.published.parts[self.config.part]
        folders = [self.places.root / name for name in published.folders]
        for folder in folders:
            if isinstance(part, Mapping):
                if all((folder / name).is_file() for name in part.values()):
                    return [folder / name for name in part.values()]
            elif there := [folder / name for name in part if (folder / name).is_dir()]:
                return there[:1]
        wanted = " and ".join(part.values()) if isinstance(part, Mapping) else f"{part[0]}/ with a folder a class"
        raise ConfigError(
            f"data.root: no {wanted} in {', '.join(map(str, folders))}; tlrun does not fetch {published.title}: get it "
            f"from {published.page}, and unpack it so that {folders[0]} holds {wanted}, or set data.root"
        )
