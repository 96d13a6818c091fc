from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlrun.config import ConfigError
from tlrun.data.datasets import mnistm
from tlrun.data.datasets.base import SHIPPED, DomainData, Places
from tlrun.data.datasets.mnist import read_images, read_labels
from tlrun.data.datasets.mnistm import MnistM, cut, decode, read_files, rebuild


def config(images: str) -> MnistM.Config:
    return MnistM.Config(name="mnistm", images=images)


def sha256(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def put_index(folder: Path, rows: dict[str, np.ndarray]) -> None:
    """A released set in small, as photographs and index."""
    (folder / "photos").mkdir(parents=True)
    for name in ("coffee", "brick", "rocket"):
        shutil.copy(SHIPPED / "photos" / f"{name}.jpg", folder / "photos")
    for split, index in rows.items():
        np.save(folder / f"index_{split}.npy", index.astype(np.int16))


def put_files(folder: Path, images: dict[str, np.ndarray]) -> None:
    """A released set in small, as PNG and label files."""
    for split, rows in images.items():
        (folder / f"mnist_m_{split}").mkdir(parents=True)
        lines = []
        for number, (image, label) in enumerate(zip(rows, read_labels(split), strict=False)):
            Image.fromarray(image).save(folder / f"mnist_m_{split}" / f"{number:08d}.png")
            lines.append(f"{number:08d}.png {label}\n")
        (folder / f"mnist_m_{split}_labels.txt").write_text("".join(lines))


INDEX = {
    "train": np.array([[0, 0, 0], [2, 288, 448], [1, 7, 300], [0, 100, 10], [2, 1, 2]]),
    "test": np.array([[0, 448, 0], [0, 5, 6], [1, 8, 9]]),
}
PHOTO_NAMES = ("brick", "coffee", "rocket")  # photographs are numbered in the order of their names


def released_by_hand(split: str, digits: np.ndarray) -> np.ndarray:
    """The rule of the released images, a pixel at a time."""
    images = np.empty((len(INDEX[split]), 32, 32, 3), dtype=np.uint8)
    for row, (photo, top, left) in enumerate(INDEX[split]):
        with Image.open(SHIPPED / "photos" / f"{PHOTO_NAMES[photo]}.jpg") as image:
            pixels = np.asarray(image.convert("RGB")).tolist()
        digit = digits[row].tolist()
        for y in range(32):
            for x in range(32):
                inside = 2 <= y < 30 and 2 <= x < 30 and digit[y - 2][x - 2] > 0
                pixel = pixels[top + y][left + x]
                images[row, y, x] = [255 - value for value in pixel] if inside else pixel
    return images


@pytest.fixture(scope="module")
def few_digits() -> dict[str, np.ndarray]:
    return {"train": read_images("train")[:10], "test": read_images("test")[:10]}


@pytest.fixture(scope="module")
def by_hand(few_digits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {split: released_by_hand(split, few_digits[split]) for split in INDEX}


@pytest.fixture
def small_release(
    monkeypatch: pytest.MonkeyPatch, by_hand: dict[str, np.ndarray], few_digits: dict[str, np.ndarray]
) -> None:
    """Take the small sets of these tests for the released ones."""
    monkeypatch.setattr(mnistm, "RELEASED_ROWS", {split: len(index) for split, index in INDEX.items()})
    monkeypatch.setattr(mnistm, "RELEASED_SHA256", {split: sha256(images) for split, images in by_hand.items()})
    monkeypatch.setattr(mnistm, "read_images", few_digits.__getitem__)  # unpacking all of MNIST each time takes long


# ---- the made set


@pytest.fixture(scope="module")
def made_places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("made")
    return Places(root=folder / "root", cache=folder / "cache", download=False)


@pytest.fixture(scope="module")
def made(made_places: Places) -> DomainData:
    return MnistM(config("made"), made_places).load()


@pytest.mark.slow
def test_the_made_set_is_the_same_on_every_machine(made: DomainData) -> None:
    assert made.train.x.shape == (60000, 28, 28, 3)
    assert made.test.x.shape == (10000, 28, 28, 3)
    assert sha256(made.train.x) == "d72fe314ed0aa4d9994d34afa3c7d943814f5aef447938fc60f70fba7601f17c"
    assert sha256(made.test.x) == "4f65101fae66bf996f80647682865cf0e760ed43707d1010bba6a75c2b2166c0"


def test_made_images_keep_the_labels_of_their_digits(made: DomainData) -> None:
    np.testing.assert_array_equal(made.train.y, read_labels("train"))
    np.testing.assert_array_equal(made.test.y, read_labels("test"))


@pytest.mark.parametrize(("split", "stream"), [("train", 0), ("test", 1)])
def test_a_made_image_is_the_absolute_difference_of_a_random_patch_and_the_digit(
    made: DomainData, split: str, stream: int
) -> None:
    photos = []
    for path in sorted((SHIPPED / "photos").glob("*.jpg")):
        with Image.open(path) as image:
            photos.append(np.asarray(image.convert("RGB")).astype(int))
    digits, images = read_images(split), getattr(made, split).x
    bits = np.random.PCG64(np.random.SeedSequence((1505_07818, stream))).random_raw(3 * 50)
    numbers = [int(value) >> 32 for value in bits]
    for row in range(50):
        first, second, third = numbers[3 * row : 3 * row + 3]
        photo = photos[first * len(photos) >> 32]
        top, left = second * (photo.shape[0] - 27) >> 32, third * (photo.shape[1] - 27) >> 32
        patch = photo[top : top + 28, left : left + 28]
        np.testing.assert_array_equal(images[row], np.abs(patch - digits[row].astype(int)[:, :, None]))


def test_patches_come_from_every_photograph_and_every_place_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def record(photos: list[np.ndarray], index: np.ndarray, size: int) -> np.ndarray:
        seen.append(index)
        return np.zeros((len(index), size, size, 3), dtype=np.uint8)

    monkeypatch.setattr(mnistm, "cut", record)
    photos = [np.zeros((30, 40, 3), dtype=np.uint8), np.zeros((50, 29, 3), dtype=np.uint8)]
    digits = np.zeros((20_000, 28, 28), dtype=np.uint8)
    for stream in (0, 1):
        mnistm.blend(digits, photos, stream=stream)
    for index in seen:
        assert np.abs(np.bincount(index[:, 0]) - 10_000).max() < 300
        for photo, room in ((0, (3, 13)), (1, (23, 2))):
            for axis in (0, 1):
                counts = np.bincount(index[index[:, 0] == photo, 1 + axis])
                assert len(counts) == room[axis]
                assert counts.min() > 0.75 * counts.mean()
    assert not np.array_equal(seen[0], seen[1])


def test_the_made_set_is_made_once_and_then_read(
    made: DomainData, made_places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("made again, though it is in the cache")

    monkeypatch.setattr(mnistm, "make", refuse)
    again = MnistM(config("made"), made_places).load()
    np.testing.assert_array_equal(again.test.x, made.test.x)
    assert again.origin == made.origin


def test_the_data_card_tells_the_made_set_from_the_released_one(made: DomainData) -> None:
    assert made.origin == (
        "MNIST-M made by the recipe of Ganin et al. 2016, |photograph - digit|, from MNIST and the 11 photographs "
        "shipped with tlrun"
    )
    assert made.notes[0] == "not the released images: accuracies do not compare with published MNIST-M tables"


def test_photographs_that_give_other_images_are_refused(
    places: Places, few_digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnistm, "PHOTOS", mnistm.PHOTOS[:-1])
    monkeypatch.setattr(mnistm, "read_images", few_digits.__getitem__)
    with pytest.raises(ConfigError) as error:
        MnistM(config("made"), places).load()
    assert str(error.value) == (
        "data: MNIST-M does not come out as on other machines (train split): tlrun's photographs under "
        f"{SHIPPED / 'photos'} are damaged, or Pillow unpacks JPEG files otherwise than its own wheels do; "
        "install tlrun and pillow again"
    )


# ---- which set


def test_auto_is_made_where_nothing_of_the_released_set_is(places: Places) -> None:
    assert config("auto").resolved(places.root).images == "made"
    (places.root / "mnist_m" / "sample").mkdir(parents=True)
    assert config("auto").resolved(places.root).images == "made"


@pytest.mark.parametrize("piece", [piece for pieces in MnistM.Config.layouts.values() for piece in pieces])
def test_auto_is_released_where_any_piece_of_that_set_is(places: Places, piece: str) -> None:
    (places.root / "mnist_m" / piece).mkdir(parents=True)
    assert config("auto").resolved(places.root) == config("released")
    with pytest.raises(ConfigError, match="no whole released MNIST-M"):
        MnistM(config("auto"), places).load()


@pytest.mark.parametrize("images", ["released", "made"])
def test_a_named_set_stays_as_it_is(places: Places, images: str) -> None:
    (places.root / "mnist_m" / "photos").mkdir(parents=True)
    assert config(images).resolved(places.root) == config(images)


def test_a_missing_released_set_says_what_was_looked_for_and_where(places: Places) -> None:
    (places.root / "mnist_m" / "photos").mkdir(parents=True)
    with pytest.raises(ConfigError) as error:
        MnistM(config("released"), places).load()
    assert str(error.value) == (
        f"data.root: no whole released MNIST-M under {places.root / 'mnist_m'}: looked for the authors' PNG and label "
        "files (mnist_m_train, mnist_m_train_labels.txt, mnist_m_test, mnist_m_test_labels.txt; missing: "
        "mnist_m_train, mnist_m_train_labels.txt, mnist_m_test, mnist_m_test_labels.txt) and for photographs with an "
        "index of crops (photos, index_train.npy, index_test.npy; missing: index_train.npy, index_test.npy). The "
        "authors' download page is gone, so the files must come from someone who has them; put them there, set "
        "data.root, or take the made set with images=made"
    )


# ---- the released set, in small


@pytest.mark.usefixtures("small_release")
def test_the_released_set_is_rebuilt_from_photographs_and_index(places: Places, by_hand: dict[str, np.ndarray]) -> None:
    put_index(places.root / "mnist_m", INDEX)
    data = MnistM(config("auto"), places).load()
    np.testing.assert_array_equal(data.train.x, by_hand["train"])
    np.testing.assert_array_equal(data.test.x, by_hand["test"])
    assert data.train.y.tolist() == [5, 0, 4, 1, 9]
    assert data.test.y.tolist() == [7, 2, 1]
    assert data.origin.endswith("checked bit for bit, rebuilt from photographs and an index of crops")


@pytest.mark.usefixtures("small_release")
def test_the_released_set_is_read_from_png_files(places: Places, by_hand: dict[str, np.ndarray]) -> None:
    put_files(places.root / "mnist_m", by_hand)
    data = MnistM(config("released"), places).load()
    np.testing.assert_array_equal(data.train.x, by_hand["train"])
    np.testing.assert_array_equal(data.test.x, by_hand["test"])
    assert data.train.y.tolist() == [5, 0, 4, 1, 9]
    assert data.origin.endswith("checked bit for bit, read from the PNG files")


@pytest.mark.usefixtures("small_release")
def test_both_layouts_share_one_cache_entry(
    places: Places, by_hand: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(places.root / "mnist_m", by_hand)
    MnistM(config("released"), places).load()
    other = dataclasses.replace(places, root=places.root / "other")
    put_index(other.root / "mnist_m", INDEX)
    monkeypatch.setattr(mnistm, "rebuild", None)
    np.testing.assert_array_equal(MnistM(config("released"), other).load().test.x, by_hand["test"])


def spoil_index(folder: Path) -> None:
    np.save(folder / "index_train.npy", INDEX["train"][:, [0, 2, 1]].clip(0, 200).astype(np.int16))


def point_beyond_the_photographs(folder: Path) -> None:
    np.save(folder / "index_train.npy", INDEX["train"] + [1, 0, 0])


def point_beyond_the_edge(folder: Path) -> None:
    np.save(folder / "index_train.npy", INDEX["train"] + [0, 300, 0])


DAMAGED_INDEX: dict[str, tuple[Callable[[Path], Any], str]] = {
    "other crops": (spoil_index, "the SHA-256 of the train images is not "),
    "too few rows": (lambda f: np.save(f / "index_train.npy", INDEX["train"][:3]), "train has 3 images, not 5"),
    "no such photograph": (point_beyond_the_photographs, "the index points outside the 3 photographs"),
    "negative": (lambda f: np.save(f / "index_train.npy", -INDEX["train"]), "the index points outside the 3 photo"),
    "beyond the edge": (point_beyond_the_edge, "out of bounds"),
    "no array": (lambda f: (f / "index_train.npy").write_text("no array"), "allow_pickle"),
    "emptied": (lambda f: (f / "index_train.npy").write_bytes(b""), "No data left in file"),
    "no photograph": (lambda f: (f / "photos" / "brick.jpg").write_text("no picture"), "cannot identify image"),
    "photograph gone": (lambda f: (f / "photos" / "brick.jpg").unlink(), "the index points outside the 2 photo"),
    "index of another kind": (lambda f: np.save(f / "index_train.npy", INDEX["train"][:, :2]), "out of bounds"),
}


@pytest.mark.usefixtures("small_release")
@pytest.mark.parametrize(("damage", "problem"), DAMAGED_INDEX.values(), ids=DAMAGED_INDEX.keys())
def test_a_damaged_index_or_photograph_is_refused(places: Places, damage: Callable[[Path], Any], problem: str) -> None:
    folder = places.root / "mnist_m"
    put_index(folder, INDEX)
    damage(folder)
    with pytest.raises(ConfigError) as error:
        MnistM(config("released"), places).load()
    assert str(error.value).startswith(
        f"data.root: the MNIST-M under {folder} is not the released one, or is damaged: "
    )
    assert problem in str(error.value)
    assert str(error.value).endswith("; mend or remove it, or take the made set with images=made")


def swap_labels(folder: Path) -> None:
    path = folder / "mnist_m_train_labels.txt"
    path.write_text(path.read_text().replace("00000000.png 5", "00000000.png 6"))


DAMAGED_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "wrong label": (swap_labels, "mnist_m_train_labels.txt does not hold MNIST's labels in their order"),
    "image gone": (lambda f: (f / "mnist_m_train" / "00000002.png").unlink(), "No such file or directory"),
    "image cut off": (
        lambda f: (f / "mnist_m_train" / "00000002.png").write_bytes(
            (f / "mnist_m_train" / "00000002.png").read_bytes()[:200]
        ),
        "image file is truncated",
    ),
    "image resized": (
        lambda f: Image.new("RGB", (28, 28)).save(f / "mnist_m_train" / "00000002.png"),
        "could not broadcast",
    ),
    "image exchanged": (
        lambda f: Image.new("RGB", (32, 32)).save(f / "mnist_m_train" / "00000002.png"),
        "the SHA-256 of the train images is not ",
    ),
    "half a line": (lambda f: (f / "mnist_m_train_labels.txt").write_text("00000000.png"), "train has "),
}


@pytest.mark.usefixtures("small_release")
@pytest.mark.parametrize(("damage", "problem"), DAMAGED_FILES.values(), ids=DAMAGED_FILES.keys())
def test_damaged_png_or_label_files_are_refused(
    places: Places, by_hand: dict[str, np.ndarray], damage: Callable[[Path], Any], problem: str
) -> None:
    folder = places.root / "mnist_m"
    put_files(folder, by_hand)
    damage(folder)
    with pytest.raises(ConfigError) as error:
        MnistM(config("released"), places).load()
    assert str(error.value).startswith(
        f"data.root: the MNIST-M under {folder} is not the released one, or is damaged: "
    )
    assert problem in str(error.value)


def test_crops_are_cut_from_the_photograph_and_place_that_are_named() -> None:
    photos = [
        np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3),
        np.arange(100, 127, dtype=np.uint8).reshape(3, 3, 3),
    ]
    patches = cut(photos, np.array([[1, 0, 0], [0, 3, 4], [0, 1, 0]]), 2)
    np.testing.assert_array_equal(patches, [photos[1][:2, :2], photos[0][3:5, 4:6], photos[0][1:3, :2]])


# ---- the released set itself


@pytest.mark.slow
def test_the_real_released_set_is_rebuilt_bit_for_bit(data_root: Path, tmp_path: Path) -> None:
    if not (data_root / "mnist_m" / "index_train.npy").exists():
        pytest.skip("no index of MNIST-M under TLRUN_DATA")
    places = Places(root=data_root, cache=tmp_path, download=False)
    assert config("auto").resolved(data_root).images == "released"
    data = MnistM(config("auto"), places).load()
    assert data.train.x.shape == (59001, 32, 32, 3)
    assert data.test.x.shape == (9001, 32, 32, 3)
    assert sha256(data.train.x) == "3c689850ded80df111260294d02c79ee0a6e602a9fd634c4e08e1339628f8d33"
    assert sha256(data.test.x) == "47415b066fe8a39de3f0e86f65a72d4c4078f1e2557a388ca0a7cfd8dfe90b14"
    np.testing.assert_allclose(data.train.x.mean((0, 1, 2)) / 255, (0.4579, 0.4621, 0.4082), atol=5e-5)
    assert np.bincount(data.train.y).sum() == 59001
    again = MnistM(config("released"), places).load()
    np.testing.assert_array_equal(again.test.x, data.test.x)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_released_sample_reads_as_it_is_rebuilt(data_root: Path, tmp_path: Path, split: str) -> None:
    folder = data_root / "mnist_m"
    if not (folder / "sample").exists():
        pytest.skip("no sample of MNIST-M under TLRUN_DATA")
    sample = read_files(folder / "sample", split)
    assert sample.shape == (50, 32, 32, 3)
    np.save(tmp_path / f"index_{split}.npy", np.load(folder / f"index_{split}.npy")[:50])
    (tmp_path / "photos").symlink_to(folder / "photos")
    np.testing.assert_array_equal(sample, rebuild(tmp_path, split))


def test_pictures_come_in_colour() -> None:
    assert decode((SHIPPED / "photos" / "camera.jpg").read_bytes()).shape == (480, 480, 3)
