"""Rows that are files: what is read, in which order, by how many threads, and what becomes of a bad one."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.file_trees import damage, save_classes, save_image
from tlrun.config import ConfigError, PairSettings
from tlrun.data.datasets.base import DomainData, Places, Rows
from tlrun.data.datasets.folder import Folder
from tlrun.data.domain import DomainPair, make_pair
from tlrun.data.files.images import ImageFiles, read_image
from tlrun.data.files.reading import in_order
from tlrun.data.rows import FileRows, Held
from tlrun.data.streams import Stream, evaluation_batches
from tlrun.data.transforms import crop_centre, measure, to_batch
from tlrun.files import RunError

CPU = torch.device("cpu")


@pytest.fixture
def domain(tmp_path: Path) -> Callable[[str], DomainData]:
    def domain(name: str) -> DomainData:
        config = Folder.Config(name="folder", title=None, root=name)
        return Folder(config, Places(tmp_path, tmp_path / "cache", False)).load()

    return domain


@pytest.fixture
def settings(tmp_path: Path, pair_settings: Callable[..., PairSettings]) -> Callable[..., PairSettings]:
    def settings(**changes: Any) -> PairSettings:
        plain = {"image_size": 14, "cache_root": str(tmp_path / "cache")}
        return pair_settings(**(plain | changes))

    return settings


@pytest.fixture
def photos(tmp_path: Path, domain: Callable[[str], DomainData], settings: Callable[..., PairSettings]) -> Any:
    """A pair of two small folders of photographs, under the settings that are given."""
    for draw, name in enumerate(("here", "there")):
        save_classes(tmp_path / name, 10, draw=draw)

    def photos(**changes: Any) -> DomainPair:
        return make_pair(domain("here"), domain("there"), settings(**changes), seed=0, device=CPU)

    return photos


def stream_of(pair: DomainPair, augment: Any, name: str = "source_train") -> Stream:
    part = pair.parts[name]
    return Stream(
        part, statistics=pair.statistics[part.domain], shape=pair.shape, batch_size=8, seed=3, augment=augment
    )


def test_a_batch_holds_the_files_at_its_positions_cropped_to_the_models_input(
    tmp_path: Path, photos: Any, augment_settings: Any
) -> None:
    pair = photos()
    part = pair.parts["source_train"]
    assert isinstance(part.x, FileRows) and part.x.shape == (len(part), 16, 16, 3) and pair.shape == (3, 14, 14)
    stream = stream_of(pair, augment_settings())
    batch = stream.batch(2)
    rows = np.stack([
        read_image(part.x.path(position), size=16, fit="crop", channels=3, interpolation="bilinear")
        for position in stream.positions(2).tolist()
    ])  # fmt: skip
    assert torch.equal(batch.x, to_batch(torch.from_numpy(rows[:, 1:15, 1:15]), pair.statistics["source"], pair.shape))
    names = [Path(part.x.path(position)).parent.name for position in stream.positions(2).tolist()]
    assert [pair.task.classes[number] for number in batch.y.tolist()] == names


def test_batches_depend_on_neither_threads_nor_what_was_read_before(photos: Any, augment_settings: Any) -> None:
    augment = augment_settings(shift=2, contrast=0.3)
    expected = [stream_of(photos(workers=1), augment).batch(address).x for address in range(9)]
    several = stream_of(photos(workers=5), augment)
    for address in (0, 1, 2, 3, 8, 4, 4, 0):  # in order, ahead, back, again
        assert torch.equal(several.batch(address).x, expected[address]), address


def test_rows_in_files_and_the_same_in_memory_give_equal_batches(photos: Any, augment_settings: Any) -> None:
    pair = photos()
    part = pair.parts["source_train"]
    held = replace(pair, parts={"source_train": replace(part, x=Held(part.x.tensor()))})
    augment = augment_settings(shift=2, contrast=0.3)
    for address in range(4):
        first, second = (stream_of(each, augment).batch(address) for each in (pair, held))
        assert torch.equal(first.x, second.x) and torch.equal(first.y, second.y)
        assert torch.equal(first.index, second.index)


def test_evaluation_reads_every_row_once_in_order(photos: Any) -> None:
    pair = photos()
    part = pair.parts["target_test"]
    for size in (1, 4, 5, 100):
        batches = list(
            evaluation_batches(part, statistics=pair.statistics["target"], shape=pair.shape, batch_size=size)
        )
        assert torch.equal(torch.cat([batch.index for batch in batches]), part.index)
        inputs = torch.cat([batch.x for batch in batches if isinstance(batch.x, Tensor)])
        assert torch.equal(inputs, to_batch(part.x.tensor(), pair.statistics["target"], pair.shape))


def test_some_batches_are_read_ahead_and_no_more(
    photos: Any, augment_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = photos()
    stream = stream_of(pair, augment_settings())
    started = []
    start = FileRows.start
    monkeypatch.setattr(FileRows, "start", lambda self, positions: started.append(1) or start(self, positions))
    stream.batch(0)
    assert len(started) == 3
    stream.batch(1)
    assert len(started) == 4


def test_statistics_are_those_of_what_evaluation_sees(photos: Any) -> None:
    pair = photos(normalize="per_domain")
    for role, name in (("source", "source_train"), ("target", "target_unlabelled")):
        mean, std = measure(crop_centre(pair.parts[name].x.tensor(), pair.shape))
        assert (pair.statistics[role].mean, pair.statistics[role].std) == (tuple(mean), tuple(std))


def test_the_card_tells_of_files(photos: Any, tmp_path: Path) -> None:
    card = photos().card["source"]
    assert card["shape_before"] is None and card["shape_after"] == [16, 16, 3]
    assert card["fitting"] == (
        "central square of each file's image, antialiased bilinear resize to 16x16, evaluated on the central 14x14"
    )
    assert card["notes"] == ["images of 24x24"]


def test_grey_is_read_as_one_channel(photos: Any) -> None:
    assert photos(channels=1).parts["source_train"].x.shape[1:] == (16, 16, 1)


def test_files_need_a_size(photos: Any) -> None:
    with pytest.raises(ConfigError, match="data.image_size: must be given where rows are image files, such as 224"):
        photos(image_size=None)


def test_a_bad_file_stops_a_batch_with_its_path(tmp_path: Path, photos: Any, augment_settings: Any) -> None:
    pair = photos()
    bad = damage(Path(pair.parts["source_train"].x.path(5)))
    stream = stream_of(pair, augment_settings())
    with pytest.raises(RunError) as caught:
        collections.deque(map(stream.batch, range(4)), maxlen=0)
    assert str(caught.value) == (
        f"data.on_bad_image: {bad}: image file is truncated; mend or remove the file, or leave all such files out with "
        "data.on_bad_image=skip (`tlrun data check` finds them)"
    )


def test_missing_and_empty_files_are_told_before_anything_is_decoded(tmp_path: Path, photos: Any) -> None:
    photos()
    (tmp_path / "here" / "cat" / "001.png").write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        photos()
    assert str(caught.value) == (
        f"data.source: here: 1 of 30 image files are missing or empty: {tmp_path}/here/cat/001.png (empty); "
        "mend them, or leave them out with data.on_bad_image=skip"
    )


def test_bad_files_are_left_out_counted_and_the_same_at_every_start(tmp_path: Path, photos: Any) -> None:
    whole = photos()
    damage(tmp_path / "here" / "cat" / "001.png")
    damage(tmp_path / "here" / "owl" / "003.png")
    first, second = photos(on_bad_image="skip"), photos(on_bad_image="skip")
    assert first.card["source"]["notes"] == [
        "images of 24x24",
        "2 of 30 image files left out, which give no image: cat/001.png, owl/003.png",
    ]
    assert first.fingerprint == second.fingerprint != whole.fingerprint
    rows = torch.cat([first.parts[f"source_{split}"].rows for split in ("train", "val", "test")])
    assert sorted(rows.tolist()) == [number for number in range(30) if number not in (1, 23)]


def test_files_that_are_left_out_are_told_and_count_for_nothing_else(
    tmp_path: Path, photos: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole = photos()
    assert not caplog.records
    for number in range(2):
        path = tmp_path / "there" / "cat" / f"00{number}.png"
        Image.new("LA", (30, 30)).save(path)
    damage(path)
    assert photos(on_bad_image="skip").card["target"]["notes"] == [
        "images from 24x24 over 24x24 (median) to 30x30",
        "1 of 29 files looked at have transparency and are laid on white",
        "1 of 29 files looked at are grey, repeated in three channels",
        "1 of 30 image files left out, which give no image: cat/001.png",
    ]
    assert whole.card["target"]["notes"] == ["images of 24x24"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "there: 1 of 30 image files left out, which give no image: cat/001.png; `tlrun data check` names all of them"
    ]


def test_labels_that_are_missing_or_in_one_split_alone_are_told_with_a_file(
    tmp_path: Path, settings: Callable[..., PairSettings]
) -> None:
    def rows(*labels: int) -> Rows:
        names = [f"{number}.png" for number in range(len(labels))]
        return Rows(ImageFiles(tmp_path, tuple(names)), np.array(labels, dtype=np.int64))

    for number in range(5):
        save_image(tmp_path / f"{number}.png", draw=number)
    source = DomainData(("cat", "cta", "dog"), rows(0, 0, 2, -1, 2), rows(0, 2, 1), "")
    target = DomainData(("cat", "cta", "dog"), rows(0, 0, 2, 2, 2), rows(0, 2, 1), "")
    with pytest.raises(ConfigError) as caught:
        make_pair(source, target, settings(), seed=0, device=CPU)
    assert caught.value.problems == [
        "data.source: here has 1 training rows without a label (3.png); a source must be labelled throughout",
        "data.target: there has no training rows of cta, which test has (2.png)",
    ]


def test_a_file_that_was_mended_is_taken_in_again(tmp_path: Path, photos: Any) -> None:
    photos()
    path = tmp_path / "here" / "cat" / "001.png"
    sound = path.read_bytes()
    damage(path)
    assert photos(on_bad_image="skip").card["source"]["notes"][1].startswith("1 of 30")
    path.write_bytes(sound)
    assert len(photos(on_bad_image="skip").card["source"]["notes"]) == 1


def test_the_fingerprint_is_of_names_sizes_and_contents_and_not_of_times_or_places(tmp_path: Path, photos: Any) -> None:
    first = photos().card["source"]["fingerprint"]
    path = tmp_path / "here" / "cat" / "001.png"
    content = path.read_bytes()
    path.write_bytes(content)
    assert photos().card["source"]["fingerprint"] == first
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    second = photos().card["source"]["fingerprint"]
    path.write_bytes(content)
    path.rename(path.with_name("0001.png"))
    assert len({first, second, photos().card["source"]["fingerprint"]}) == 3


def test_work_in_order_stays_in_order_and_stops_at_the_first_error() -> None:
    done = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            done.append(number)
        if number == 5:
            raise ValueError("five")
        return number

    assert list(in_order(work, range(5), workers=3)) == list(range(5))
    done.clear()
    with pytest.raises(ValueError, match="five"):
        list(in_order(work, range(10_000), workers=3, depth=4))
    assert len(done) < 100
