from __future__ import annotations

import bz2
import dataclasses
import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.server import Server, serve
from tlrun.config import ConfigError
from tlrun.data.datasets import usps
from tlrun.data.datasets.base import Places
from tlrun.data.datasets.usps import Usps, parse_libsvm
from tlrun.models.vision import import_torchvision


def config(frame: str) -> Usps.Config:
    return Usps.Config(name="usps", frame=frame)


def text_of(labels: list[int], values: np.ndarray) -> bytes:
    rows = [
        f"{label} " + " ".join(f"{number}:{value:.6f}" for number, value in enumerate(row, start=1)) + " \n"
        for label, row in zip(labels, values, strict=True)
    ]
    return "".join(rows).encode()


VALUES = np.random.default_rng(0).uniform(-1, 1, (7, 256))
VALUES[:, :6] = -0.6, -0.027451, 0.372549, 0.545098, 0.717647, 0.890196  # another pixel in float64 than in float32
LABELS = {"usps.bz2": [1, 2, 10, 4], "usps.t.bz2": [9, 10, 1]}
PACKED = {
    "usps.bz2": bz2.compress(text_of(LABELS["usps.bz2"], VALUES[:4])),
    "usps.t.bz2": bz2.compress(text_of(LABELS["usps.t.bz2"], VALUES[4:])),
}


def put(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in PACKED.items():
        (folder / name).write_bytes(content)


def pixels(values: np.ndarray) -> np.ndarray:
    wanted = [
        int((np.float32(f"{value:.6f}") + np.float32(1)) / np.float32(2) * np.float32(255)) for value in values.ravel()
    ]
    return np.array(wanted, dtype=np.uint8).reshape(-1, 16, 16)


@pytest.mark.parametrize("folder", ["usps", "."])
def test_the_two_files_are_found_in_the_root_or_its_folder(places: Places, folder: str) -> None:
    put(places.root / folder)
    data = Usps(config("stretched"), places).load()
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert data.train.y.tolist() == [0, 1, 9, 3]
    assert data.test.y.tolist() == [8, 9, 0]
    np.testing.assert_array_equal(data.train.x[..., 0], pixels(VALUES[:4]))
    np.testing.assert_array_equal(data.test.x[..., 0], pixels(VALUES[4:]))


def test_padded_digits_get_three_pixels_of_background(places: Places) -> None:
    put(places.root)
    stretched, padded = (Usps(config(frame), places).load() for frame in ("stretched", "padded"))
    assert stretched.train.x.shape == (4, 16, 16, 1)
    assert padded.train.x.shape == (4, 22, 22, 1)
    assert padded.test.x.shape == (3, 22, 22, 1)
    np.testing.assert_array_equal(padded.train.x[:, 3:19, 3:19], stretched.train.x)
    assert padded.train.x.astype(int).sum() == stretched.train.x.astype(int).sum()


def test_the_data_card_says_the_frame_and_whether_the_files_are_the_published_ones(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places.root)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in PACKED.items()}
    published = dataclasses.replace(usps.PUBLISHED, files={**md5, "usps.bz2": "0" * 32})
    monkeypatch.setattr(usps, "PUBLISHED", published)
    data = Usps(config("padded"), places).load()
    frame = "padded by 3 to 22x22, so that digits keep MNIST's margin once resized to 28x28"
    assert data.origin == f"USPS (Hull 1994), LIBSVM's scaled version as torchvision reads it; {frame}"
    assert data.notes == (
        f"frame padded: {frame}",
        f"usps.bz2 is not the published file byte for byte (MD5 {md5['usps.bz2']})",
    )
    assert Usps(config("stretched"), places).load().notes[0] == (
        "frame stretched: 16x16 as published, so that digits fill the frame once resized, where MNIST's have a margin"
    )


def test_the_text_is_read_once(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    put(places.root)
    first = Usps(config("stretched"), places).load()
    monkeypatch.setattr(usps, "parse_libsvm", None)
    again = Usps(config("padded"), places).load()
    np.testing.assert_array_equal(again.train.x[:, 3:19, 3:19], first.train.x)


def test_a_changed_file_is_read_again(places: Places) -> None:
    put(places.root)
    Usps(config("stretched"), places).load()
    (places.root / "usps.bz2").write_bytes(bz2.compress(text_of([3], VALUES[:1])))
    assert Usps(config("stretched"), places).load().train.y.tolist() == [2]


def test_missing_files_say_what_was_looked_for_and_where(places: Places) -> None:
    with pytest.raises(ConfigError) as error:
        Usps(config("stretched"), places).load()
    folders = f"{places.root / 'usps'}, {places.root}, {places.cache / 'usps'}"
    what_to_do = (
        "add data.download=true to fetch USPS (about 8 MB), or put torchvision's USPS files there, or set data.root"
    )
    assert str(error.value) == f"data.root: no usps.bz2 and no usps.t.bz2 in {folders}; {what_to_do}"
    put(places.root)
    (places.root / "usps.bz2").unlink()
    with pytest.raises(ConfigError) as error:
        Usps(config("stretched"), places).load()
    assert str(error.value) == f"data.root: no usps.bz2 in {folders}; {what_to_do}"


LINE = text_of([1], VALUES[:1])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no bz2", "Invalid data stream"),
        (PACKED["usps.bz2"][:-20], "Compressed data ended before the end-of-stream marker was reached"),
        (bz2.compress(b"1 1:0.5\n"), "its lines do not hold a label and 256 numbered values"),
        (bz2.compress(LINE.replace(b" 7:", b" 8:")), "its lines do not hold a label and 256 numbered values"),
        (bz2.compress(LINE.replace(b"1 1:", b"0 1:", 1)), "a label lies outside 1..10 or a value outside [-1, 1]"),
        (bz2.compress(LINE.replace(b"1 1:", b"1.5 1:", 1)), "a label lies outside 1..10 or a value outside [-1, 1]"),
        (bz2.compress(LINE.replace(b":-0.", b":-1.", 1)), "a label lies outside 1..10 or a value outside [-1, 1]"),
        (bz2.compress(LINE.replace(b":-0.", b":nan0.", 1)), "could not convert"),
        (bz2.compress(LINE + b"1 1:0.5\n"), "the number of columns changed"),
    ],
    ids=["no bz2", "cut off", "short line", "other numbers", "label 0", "half label", "value", "text", "ragged"],
)
def test_a_damaged_file_is_refused(places: Places, content: bytes, problem: str) -> None:
    put(places.root)
    (places.root / "usps.bz2").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        Usps(config("stretched"), places).load()
    start = f"data.root: {places.root / 'usps.bz2'} is damaged or not the USPS file that torchvision reads: "
    assert str(error.value).startswith(start)
    assert problem in str(error.value)
    assert str(error.value).endswith("; put a sound one in its place, or remove it and add data.download=true")


# ---- downloads, from a server on this machine


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The two small files behind torchvision's addresses."""
    import_torchvision()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(dict(PACKED)) as server:
        listed = {
            split: [server.address(name), name, hashlib.md5(PACKED[name]).hexdigest()]
            for split, name in usps.FILES.items()
        }
        monkeypatch.setattr(importlib.import_module("torchvision.datasets").USPS, "split_list", listed)
        yield server


def test_a_download_goes_to_the_data_root_and_is_kept(places: Places, served: Server) -> None:
    places = dataclasses.replace(places, download=True)
    data = Usps(config("stretched"), places).load()
    assert data.train.y.tolist() == [0, 1, 9, 3]
    assert served.names_asked == {"usps.bz2", "usps.t.bz2"}
    assert {path.name for path in (places.root / "usps").iterdir()} == set(PACKED)
    served.asked.clear()
    Usps(config("padded"), places).load()
    assert served.asked == []


def test_only_what_is_missing_is_fetched(places: Places, served: Server) -> None:
    put(places.root)
    (places.root / "usps.t.bz2").unlink()
    data = Usps(config("stretched"), dataclasses.replace(places, download=True)).load()
    assert data.test.y.tolist() == [8, 9, 0]
    assert served.names_asked == {"usps.t.bz2"}


def test_a_data_root_that_cannot_be_written_leaves_the_download_to_the_cache(places: Places, served: Server) -> None:
    (places.root / "usps").write_text("a file where the folder would be")
    data = Usps(config("stretched"), dataclasses.replace(places, download=True)).load()
    assert data.test.y.tolist() == [8, 9, 0]
    assert {path.name for path in (places.cache / "usps").iterdir()} == set(PACKED)


def test_nothing_is_fetched_unless_asked_for(places: Places, served: Server) -> None:
    with pytest.raises(ConfigError, match=r"add data\.download=true"):
        Usps(config("stretched"), places).load()
    assert served.asked == []
    assert not places.cache.exists()


def test_a_download_with_a_wrong_checksum_is_refused_and_leaves_nothing(
    places: Places, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = importlib.import_module("torchvision.datasets")
    url, name, md5 = datasets.USPS.split_list["train"]
    monkeypatch.setitem(datasets.USPS.split_list, "train", [url, name, "0" * 32])
    with pytest.raises(ConfigError) as error:
        Usps(config("stretched"), dataclasses.replace(places, download=True)).load()
    assert str(error.value) == (
        f"data.download: fetching usps.bz2 into {places.root / 'usps'} failed ({url}: "
        f"{len(PACKED[name]):,} bytes came, whose MD5 is {md5}, not the published {'0' * 32}); "
        "try again, or put the file there by hand, or set data.root"
    )
    assert list((places.root / "usps").glob("usps*")) == []


def test_a_server_that_does_not_answer_is_named(
    places: Places, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = importlib.import_module("torchvision.datasets")
    monkeypatch.setitem(datasets.USPS.split_list, "train", ["http://127.0.0.1:9/usps.bz2", "usps.bz2", "0" * 32])
    with pytest.raises(
        ConfigError, match=r"^data\.download: fetching usps\.bz2 into .* failed \(.*[Rr]efused.*\); try"
    ):
        Usps(config("stretched"), dataclasses.replace(places, download=True)).load()


def test_torchvision_reads_the_same_images(tmp_path: Path) -> None:
    put(tmp_path)
    import_torchvision()
    theirs = importlib.import_module("torchvision.datasets").USPS(str(tmp_path), train=True)
    images, labels = parse_libsvm(bz2.decompress(PACKED["usps.bz2"]))
    np.testing.assert_array_equal(images, theirs.data)
    assert labels.tolist() == theirs.targets


# ---- the real files


@pytest.mark.slow
def test_real_usps_has_its_class_counts_and_torchvisions_pixels(data_root: Path, tmp_path: Path) -> None:
    if not (data_root / "usps" / "usps.bz2").exists():
        pytest.skip("no USPS under TLRUN_DATA")
    data = Usps(config("stretched"), Places(root=data_root, cache=tmp_path, download=False)).load()
    assert np.bincount(data.train.y).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert np.bincount(data.test.y).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    import_torchvision()
    theirs = importlib.import_module("torchvision.datasets").USPS(str(data_root / "usps"), train=False)
    np.testing.assert_array_equal(data.test.x[..., 0], theirs.data)
    assert data.test.y.tolist() == theirs.targets
