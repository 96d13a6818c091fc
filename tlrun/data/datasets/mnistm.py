"""MNIST-M (Ganin et al. 2016, JMLR 17, arXiv:1505.07818): MNIST's digits blended over patches of colour photographs.

Two versions. *released*: the authors' own images, behind the published tables, from their PNG files or from an index of
crops that gives them back bit for bit. *made*: by the paper's recipe from the photographs inside the package, where the
released images are not at hand; a different set, and the data card says so.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tlrun.config import ConfigError, DomainSettings
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import SHIPPED, Domain, DomainData, Rows
from tlrun.data.datasets.mnist import CLASSES, Split, read_images, read_labels, read_shipped

Images = NDArray[np.uint8]

PHOTOS = (
    "astronaut", "brick", "camera", "chelsea", "china", "coffee", "flower", "grass", "gravel", "retina", "rocket",
)  # fmt: skip
SIZE = 28  # of MNIST's digits
RELEASED_SIZE = 32  # the released digits carry a margin of 2 more on each side
RELEASED_ROWS: dict[Split, int] = {"train": 59_001, "test": 9_001}  # MNIST's first; the authors released no more
# SHA-256 of the released images as one uint8 array (N, 32, 32, 3) in C order.
RELEASED_SHA256: dict[Split, str] = {
    "train": "3c689850ded80df111260294d02c79ee0a6e602a9fd634c4e08e1339628f8d33",
    "test": "47415b066fe8a39de3f0e86f65a72d4c4078f1e2557a388ca0a7cfd8dfe90b14",
}
# The same of the made images, (N, 28, 28, 3): the same command must mean the same run on every machine.
MADE_SHA256: dict[Split, str] = {
    "train": "d72fe314ed0aa4d9994d34afa3c7d943814f5aef447938fc60f70fba7601f17c",
    "test": "4f65101fae66bf996f80647682865cf0e760ed43707d1010bba6a75c2b2166c0",
}
STREAMS: dict[Split, int] = {"train": 0, "test": 1}  # numbers of the random streams the made splits draw from


class MnistM(Domain):
    """MNIST's digits over photographs, in colour."""

    class Config(DomainSettings):
        images: Literal["auto", "released", "made"]

        layouts: ClassVar[dict[str, tuple[str, ...]]] = {
            "index": ("photos", "index_train.npy", "index_test.npy"),
            "files": ("mnist_m_train", "mnist_m_train_labels.txt", "mnist_m_test", "mnist_m_test_labels.txt"),
        }

        @property
        def shows_characters(self) -> bool:
            return True

        """The ways in which the released set may lie in the folder mnist_m of the data root."""

        def repeats(self, other: DomainSettings) -> bool:
            return other.name == "mnist"

        def resolved(self, root: Path) -> Self:
            """`auto` is `released` as soon as any piece of that set is there: half a set is an error when loaded."""
            if self.images != "auto":
                return self
            found = any((root / "mnist_m" / piece).exists() for pieces in self.layouts.values() for piece in pieces)
            return self.model_copy(update={"images": "released" if found else "made"})

    config: Config

    def whereabouts(self) -> str:
        if self.config.resolved(self.places.root).images == "released":
            return f"{self.places.root / 'mnist_m'}, as released"
        return "made from photographs shipped with tlrun"

    def load(self) -> DomainData:
        images = self.config.resolved(self.places.root).images
        return self._released() if images == "released" else self._made()

    def _released(self) -> DomainData:
        folder = self.places.root / "mnist_m"
        layout = find_layout(folder, self.Config.layouts)
        read: Callable[[Path, Split], Images] = rebuild if layout == "index" else read_files
        arrays = cached_arrays(
            self.places.cache,
            "mnistm-released",
            inputs={"sha256": RELEASED_SHA256},
            make=lambda: {split: _checked(read(folder, split), split, folder) for split in RELEASED_ROWS},
        )
        return DomainData(
            classes=CLASSES,
            train=Rows(arrays["train"], read_labels("train")[: RELEASED_ROWS["train"]]),
            test=Rows(arrays["test"], read_labels("test")[: RELEASED_ROWS["test"]]),
            origin=(
                "MNIST-M as released by its authors (Ganin et al. 2016; photographs of BSDS500), checked bit for bit, "
                + ("rebuilt from photographs and an index of crops" if layout == "index" else "read from the PNG files")
            ),
            notes=(
                "images are 32x32, MNIST's 28x28 with a margin of 2: cropped in the middle, digits match MNIST's",
                "images are the photograph inverted wherever the digit is above 0; the paper has |photograph - digit|",
            ),
        )

    def _made(self) -> DomainData:
        arrays = cached_arrays(self.places.cache, "mnistm-made", inputs={"sha256": MADE_SHA256}, make=make)
        return DomainData(
            classes=CLASSES,
            train=Rows(arrays["train"], read_labels("train")),
            test=Rows(arrays["test"], read_labels("test")),
            origin=(
                "MNIST-M made by the recipe of Ganin et al. 2016, |photograph - digit|, from MNIST and "
                f"the {len(PHOTOS)} photographs shipped with tlrun"
            ),
            notes=(
                "not the released images: accuracies do not compare with published MNIST-M tables",
                "train and test digits lie over patches of the same photographs",
            ),
        )


def make() -> Arrays:
    """The made images of both splits, (60000, 28, 28, 3) and (10000, 28, 28, 3), from what the package holds.

    Raises ConfigError when they do not come out as everywhere else.
    """
    photos = [decode(read_shipped(SHIPPED / "photos" / f"{name}.jpg")) for name in PHOTOS]
    arrays: Arrays = {split: blend(read_images(split), photos, stream=stream) for split, stream in STREAMS.items()}
    for split, sha256 in MADE_SHA256.items():
        if hashlib.sha256(arrays[split].data).hexdigest() != sha256:
            raise ConfigError(
                f"data: MNIST-M does not come out as on other machines ({split} split): tlrun's photographs under "
                f"{SHIPPED / 'photos'} are damaged, or Pillow unpacks JPEG files otherwise than its own wheels do; "
                "install tlrun and pillow again"
            )
    return arrays


def find_layout(folder: Path, layouts: dict[str, tuple[str, ...]]) -> str:
    """The first layout of the released set that is whole in `folder`. Raises ConfigError when none is."""
    missing = {name: [piece for piece in pieces if not (folder / piece).exists()] for name, pieces in layouts.items()}
    for name, pieces in missing.items():
        if not pieces:
            return name
    raise ConfigError(
        f"data.root: no whole released MNIST-M under {folder}: looked for the authors' PNG and label files "
        f"({', '.join(layouts['files'])}; missing: {', '.join(missing['files'])}) and for photographs with an index "
        f"of crops ({', '.join(layouts['index'])}; missing: {', '.join(missing['index'])}). The authors' download page "
        "is gone, so the files must come from someone who has them; put them there, set data.root, or take the made "
        "set with images=made"
    )


def rebuild(folder: Path, split: Split) -> Images:
    """The released images of one split, (N, 32, 32, 3), from `photos/*.jpg` and `index_<split>.npy`.

    Row (photo, y, x) of the index names the crop under digit i, photos counted in the order of their names; the crop is
    inverted where the digit, in a margin of 2, is above 0. Raises ConfigError when index or photographs are damaged.
    """
    try:
        photos = [decode(path.read_bytes()) for path in sorted((folder / "photos").glob("*.jpg"))]
        index = np.load(folder / f"index_{split}.npy", allow_pickle=False).astype(np.int64)
        digits = np.pad(read_images(split)[: len(index)], ((0, 0), (2, 2), (2, 2)))
        crops = cut(photos, index, RELEASED_SIZE)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise _not_released(folder, str(error)) from error
    crops ^= np.where(digits > 0, np.uint8(255), np.uint8(0))[..., None]  # 255 - v is v with every bit turned
    return crops


def read_files(folder: Path, split: Split) -> Images:
    """The released images of one split, (N, 32, 32, 3), from PNG files in the order that their label file names them.

    A line of `mnist_m_<split>_labels.txt` is "<name>.png <label>"; the images are in the folder `mnist_m_<split>`.
    Raises ConfigError when a file is missing or damaged, or a label is not MNIST's.
    """
    try:
        lines = (folder / f"mnist_m_{split}_labels.txt").read_text(encoding="utf-8").split()
        names, labels = lines[::2], np.array(lines[1::2], dtype=np.int64)
        if not np.array_equal(labels, read_labels(split)[: len(labels)]):
            raise ValueError(f"mnist_m_{split}_labels.txt does not hold MNIST's labels in their order")
        images = np.empty((len(names), RELEASED_SIZE, RELEASED_SIZE, 3), dtype=np.uint8)
        for row, name in enumerate(names):
            images[row] = decode((folder / f"mnist_m_{split}" / name).read_bytes())
    except (OSError, ValueError) as error:
        raise _not_released(folder, str(error)) from error
    return images


def _checked(images: Images, split: Split, folder: Path) -> Images:
    wanted = (RELEASED_ROWS[split], RELEASED_SIZE, RELEASED_SIZE, 3)
    if images.shape != wanted:
        raise _not_released(folder, f"{split} has {len(images):,} images, not {wanted[0]:,}")
    if hashlib.sha256(images.data).hexdigest() != RELEASED_SHA256[split]:
        raise _not_released(folder, f"the SHA-256 of the {split} images is not {RELEASED_SHA256[split]}")
    return images


def _not_released(folder: Path, what: str) -> ConfigError:
    return ConfigError(
        f"data.root: the MNIST-M under {folder} is not the released one, or is damaged: {what}; "
        "mend or remove it, or take the made set with images=made"
    )


def blend(digits: Images, photos: list[Images], *, stream: int) -> Images:
    """Every digit over a patch of a random photograph at a random place: |patch - digit| in each channel.

    Ganin et al. 2016, section 5.2.4. digits (N, 28, 28), photos (H, W, 3) each; returns (N, 28, 28, 3). Equal streams
    draw equal patches, different streams draw independently.
    """
    # numpy promises the bits of PCG64 for good, but not what its Generator makes of them; so the bits are scaled here,
    # by the upper half of the 64-bit product of 32 random bits and the bound (bias below bound / 2^32).
    bits = (
        np.random.PCG64(np.random.SeedSequence((1505_07818, stream))).random_raw(3 * len(digits)).reshape(-1, 3) >> 32
    )
    photo = bits[:, 0] * len(photos) >> 32
    room = np.array(
        [[height - SIZE + 1, width - SIZE + 1] for height, width, _ in (p.shape for p in photos)], dtype=np.uint64
    )
    place = bits[:, 1:] * room[photo] >> 32
    images = cut(photos, np.column_stack((photo, place)).astype(np.int64), SIZE)
    for start in range(0, len(images), 4096):  # a part at a time: the temporary arrays stay small
        rows = slice(start, start + 4096)
        digit = digits[rows, :, :, None]
        images[rows] = np.maximum(images[rows], digit) - np.minimum(images[rows], digit)
    return images


def cut(photos: list[Images], index: NDArray[np.int64], size: int) -> Images:
    """The patches (N, size, size, 3) whose photograph, top and left the rows of `index` (N, 3) name.

    Raises IndexError when a row lies outside its photograph or names none.
    """
    if len(index) and (int(index.min()) < 0 or int(index[:, 0].max()) >= len(photos)):
        raise IndexError(f"the index points outside the {len(photos)} photographs that are there")
    patches = np.empty((len(index), size, size, 3), dtype=np.uint8)
    for number, photo in enumerate(photos):
        rows = np.flatnonzero(index[:, 0] == number)
        windows = np.lib.stride_tricks.sliding_window_view(photo, (size, size), axis=(0, 1))
        patches[rows] = windows[index[rows, 1], index[rows, 2]].transpose(0, 2, 3, 1)
    return patches


def decode(content: bytes) -> Images:
    """The (H, W, 3) pixels of an image file. Raises OSError when it is damaged."""
    from PIL import Image  # only where images are made: a run that finds them in the cache does without

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
