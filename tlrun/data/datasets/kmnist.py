"""Kuzushiji-MNIST (Clanuwat et al. 2018, arXiv:1812.01718): cursive Japanese characters in MNIST's format."""

from __future__ import annotations

from tlrun.config import DomainSettings
from tlrun.data.datasets.base import Domain, DomainData
from tlrun.data.files.published import PublishedSet, load_idx

CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
PUBLISHED = PublishedSet(
    title="Kuzushiji-MNIST",
    size="about 21 MB",
    folder="kmnist",
    also=("KMNIST/raw",),
    files={
        "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    },
    torchvision="KMNIST",
)


class Kmnist(Domain):
    """Ten hiragana from books of the Edo period, white on black, 28x28 grey, 60,000 + 10,000."""

    class Config(DomainSettings):
        @property
        def shows_characters(self) -> bool:
            return True

    def whereabouts(self) -> str:
        return PUBLISHED.whereabouts(self.places)

    def load(self) -> DomainData:
        rows, notes = load_idx(PUBLISHED, self.places)
        origin = "KMNIST (CODH, adapted from the Kuzushiji Dataset of NIJL et al.; CC BY-SA 4.0), from its four files"
        return DomainData(CLASSES, rows["train"], rows["test"], origin, notes)
