"""A folder of the user's own images: a folder a class, with or without official splits, or no classes at all."""

from __future__ import annotations

from tlrun.config import FileDomainSettings
from tlrun.data.datasets.base import Domain, DomainData
from tlrun.data.files.file_domains import domain_of, find_place, some
from tlrun.data.files.image_folder import Layout, find_layout


class Folder(Domain):
    """ROOT/<class>/*.jpg, ROOT/{train,val,test}/<class>/*.jpg, or ROOT/*.jpg without labels."""

    class Config(FileDomainSettings):
        root: str | None

        @property
        def place(self) -> str | None:
            return self.root

    config: Config

    def whereabouts(self) -> str:
        if self.config.root is None:
            return "your own images: data.target.root=FOLDER"
        return str(find_place(self.config.root, self.places, what="folder", key="root"))

    def load(self) -> DomainData:
        root = find_place(self.config.root, self.places, what="folder", key="root")
        layout = find_layout(root)
        count = sum(map(len, layout.splits.values()))
        kind = "in class folders" if layout.has_classes else "without labels"
        splits = "" if len(layout.splits) == 1 else f", splits {', '.join(layout.splits)} as given"
        return domain_of(
            root, layout.splits, origin=f"{count:,} image files below {root}, {kind}{splits}", notes=_notes(layout)
        )


def _notes(layout: Layout) -> list[str]:
    notes = [f"the class folders lie in {level}/, below the root" for level in layout.levels]
    if count := layout.ignored.total():
        notes.append(f"{count:,} files that are no images, or hidden, ignored: {some(layout.ignored)}")
    return notes
