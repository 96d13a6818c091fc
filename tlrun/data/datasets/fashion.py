"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): articles of clothing in MNIST's format."""

from __future__ import annotations

from tlrun.config import DomainSettings
from tlrun.data.datasets.base import Domain, DomainData
from tlrun.data.files.published import PublishedSet, load_idx

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PUBLISHED = PublishedSet(
    title="Fashion-MNIST",
    size="about 31 MB",
    folder="fashion",
    also=("FashionMNIST/raw",),
    files={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    torchvision="FashionMNIST",
)


class Fashion(Domain):
    """Pictures of ten sorts of clothing, light on black, 28x28 grey, 60,000 + 10,000."""

    class Config(DomainSettings):
        pass

    def whereabouts(self) -> str:
        return PUBLISHED.whereabouts(self.places)

    def load(self) -> DomainData:
        rows, notes = load_idx(PUBLISHED, self.places)
        origin = "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017; MIT), from its four files"
        return DomainData(CLASSES, rows["train"], rows["test"], origin, notes)
