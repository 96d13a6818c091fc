from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tlrun.batch import Encoded, Examples
from tlrun.config import AugmentSettings, ConfigError, MixSettings, PairSettings
from tlrun.data.augment.mixing import draw_mixture
from tlrun.data.datasets.base import DomainData
from tlrun.data.domain import DomainPair, Part, make_pair
from tlrun.data.rows import Held
from tlrun.data.splits import hash64
from tlrun.data.streams import Stream, evaluation_batches
from tlrun.data.transforms import to_batch

MakeData = Callable[..., DomainData]
MakePair = Callable[..., DomainPair]
MakeAugment = Callable[..., AugmentSettings]
MakeStream = Callable[..., Stream]

NOISE = {"_target_": "albumentations.GaussNoise", "std_range": [0.1, 0.2], "p": 1.0}


@pytest.fixture
def pair(images: MakeData, pair_of: MakePair) -> DomainPair:
    counts = {"cat": 40, "dog": 30, "owl": 20}
    return pair_of(images(counts, channels=1), images(counts, draw=1), target_labels=2)


@pytest.fixture
def stream_of(pair: DomainPair, augment_settings: MakeAugment) -> MakeStream:
    """A stream of a part of the pair, by name or given, with some settings changed."""

    def make(part: str | Part, *, augment: dict[str, Any] | None = None, **changes: Any) -> Stream:
        part = pair.parts[part] if isinstance(part, str) else part
        settings: dict[str, Any] = {"batch_size": 16, "seed": 0} | changes
        return Stream(
            part,
            statistics=pair.statistics[part.domain],
            shape=pair.shape,
            augment=augment_settings(**(augment or {})),
            **settings,
        )

    return make


def same(first: Examples, second: Examples) -> bool:
    pairs = [(first.x, second.x), (first.index, second.index), *zip(first.views, second.views, strict=True)]
    labels = first.y is second.y if first.y is None or second.y is None else torch.equal(first.y, second.y)
    return labels and all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor) and isinstance(b, Tensor))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 54, 100])
def test_every_cycle_holds_every_row_once(stream_of: MakeStream, batch_size: int) -> None:
    stream = stream_of("source_train", batch_size=batch_size)
    rows = len(stream.part)
    positions = torch.cat([stream.positions(address) for address in range(-(-3 * rows // batch_size))])[: 3 * rows]
    cycles = positions.view(3, rows)
    assert torch.equal(cycles.sort(1).values, torch.arange(rows).expand(3, -1))
    assert not torch.equal(cycles[0], cycles[1])
    assert not torch.equal(cycles[1], cycles[2])


def test_row_order_does_not_depend_on_the_batch_size(stream_of: MakeStream) -> None:
    small, large = (stream_of("source_train", batch_size=size) for size in (8, 24))
    assert torch.equal(
        torch.cat([small.positions(k) for k in range(9)]), torch.cat([large.positions(k) for k in range(3)])
    )


def test_part_smaller_than_a_batch_repeats(stream_of: MakeStream) -> None:
    batch = stream_of("target_granted", batch_size=64).batch(3)
    assert len(batch) == 64
    assert set(torch.unique(batch.index, return_counts=True)[1].tolist()) <= {10, 11, 12}


def test_single_row_fills_a_batch(stream_of: MakeStream, pair: DomainPair) -> None:
    part = pair.parts["target_granted"]
    assert part.y is not None
    one = replace(part, x=Held(part.x.read(0, 1)), y=part.y[:1], index=part.index[:1])
    assert stream_of(one, batch_size=5).batch(2).index.tolist() == [part.index[0]] * 5


@pytest.mark.slow
@pytest.mark.parametrize("augment", [{}, {"shift": 2, "contrast": 0.3}, {"shift": 1, "albumentations": [NOISE]}])
def test_batch_does_not_depend_on_what_was_read_before(stream_of: MakeStream, augment: dict[str, Any]) -> None:
    in_order, at_random = (stream_of("target_unlabelled", augment=augment, views=2) for _ in range(2))
    batches = [in_order.batch(address) for address in range(9)]  # more than two cycles
    torch.manual_seed(5)
    for address in (8, 0, 5, 5, 3, 7):
        assert same(at_random.batch(address), batches[address])
    assert same(copy.deepcopy(at_random).batch(2), batches[2])


def test_batches_follow_seed_and_part_and_address(stream_of: MakeStream, pair: DomainPair) -> None:
    first = stream_of("source_train").positions(0)
    renamed = replace(pair.parts["source_train"], name="other")
    others = (
        stream_of("source_train", seed=1).positions(0),
        stream_of(renamed).positions(0),
        stream_of("source_train").positions(1),
    )
    assert not any(torch.equal(first, other) for other in others)


def test_global_generator_is_neither_read_nor_moved(stream_of: MakeStream) -> None:
    batches = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        batches.append(stream_of("source_train", augment={"shift": 2, "contrast": 0.3}).batch(4))
        assert torch.equal(torch.get_rng_state(), before)
    assert same(*batches)


def test_batch_holds_the_rows_it_names(stream_of: MakeStream, pair: DomainPair) -> None:
    for name in ("source_train", "target_unlabelled", "target_granted"):
        part = pair.parts[name]
        stream = stream_of(name)
        batch, positions = stream.batch(2), stream.positions(2)
        assert isinstance(batch.x, Tensor)
        assert torch.equal(batch.x, to_batch(part.x.take(positions), pair.statistics[part.domain], pair.shape))
        assert batch.x.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch.index, part.index[positions])
        assert batch.domain == part.domain
        assert batch.views == ()
        if part.y is None:
            assert batch.y is None
        else:
            assert batch.y is not None
            assert torch.equal(batch.y, part.y[positions])


def test_views_are_further_augmentations_of_the_same_rows(stream_of: MakeStream) -> None:
    augment = {"shift": 2, "albumentations": [NOISE]}
    batch = stream_of("target_unlabelled", augment=augment, views=3).batch(1)
    drawn = [batch.x, *batch.views]
    assert len(drawn) == 3
    tensors = [each for each in drawn if isinstance(each, Tensor)]
    for one in range(3):
        for other in range(one):
            assert (tensors[one] != tensors[other]).flatten(1).any(1).all()
    alone = stream_of("target_unlabelled", augment=augment).batch(1)
    assert isinstance(alone.x, Tensor)
    assert torch.equal(alone.x, tensors[0])


@pytest.mark.parametrize("augment", [{"shift": 3}, {"contrast": 0.5}, {"albumentations": [NOISE]}])
def test_equal_rows_are_augmented_each_in_its_own_way(
    stream_of: MakeStream, pair: DomainPair, augment: dict[str, Any]
) -> None:
    part = pair.parts["target_granted"]
    alike = replace(part, x=Held(part.x.read(0, 1).repeat(6, 1, 1, 1)))
    stream = stream_of(alike, augment=augment, batch_size=18)  # three cycles of six rows
    drawn = torch.cat([x for k in range(2) if isinstance(x := stream.batch(k).x, Tensor)])
    different = {row.numpy().tobytes() for row in drawn}
    assert len(different) == 36 if "shift" not in augment else len(different) > 18  # of 49 shifts


def test_augmentation_leaves_the_part_alone(stream_of: MakeStream, pair: DomainPair) -> None:
    before = pair.parts["source_train"].x.tensor().clone()
    stream_of("source_train", augment={"shift": 2, "contrast": 0.5, "albumentations": [NOISE]}).batch(0)
    assert torch.equal(pair.parts["source_train"].x.tensor(), before)


def test_grey_rows_are_in_colour_before_operations_per_image(stream_of: MakeStream, pair: DomainPair) -> None:
    noisy = stream_of("source_train", augment={"albumentations": [NOISE]}).batch(0).x
    assert isinstance(noisy, Tensor)
    assert noisy.shape[1] == 3
    assert not torch.equal(noisy[:, 0], noisy[:, 1])  # noise of each channel
    assert pair.parts["source_train"].x.shape[3] == 1


def test_stream_keeps_one_permutation_and_nothing_of_other_parts(stream_of: MakeStream, pair: DomainPair) -> None:
    stream = stream_of("target_unlabelled")
    for address in range(20):
        stream.batch(address)
    waiting, found, seen = [stream], [], set()
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, type):
            seen.add(id(each))
            found += [each] if isinstance(each, Tensor) else []
            waiting += gc.get_referents(each)
    numbers = [each for each in found if each.dtype == torch.int64]
    part = pair.parts["target_unlabelled"]
    assert {len(each) for each in numbers} == {len(part)}
    assert len(numbers) == 3  # the part's two columns of row numbers, and the present permutation


def test_batches_lie_on_the_device_of_the_pair(
    images: MakeData, pair_settings: Callable[..., PairSettings], augment_settings: MakeAugment
) -> None:
    counts = {"cat": 40, "dog": 30}
    meta = torch.device("meta")  # has no values, but refuses to be mixed with another device
    config = pair_settings(target_val_labels="all", target_labels="none")
    pair = make_pair(images(counts, channels=1), images(counts), config, seed=0, device=meta)
    for name in ("source_train", "target_unlabelled"):
        part = pair.parts[name]
        settings = {"statistics": pair.statistics[part.domain], "shape": pair.shape, "batch_size": 64}
        stream = Stream(part, seed=0, augment=augment_settings(shift=1, contrast=0.1), **settings)
        for batch in (stream.batch(3), *evaluation_batches(part, **settings)):
            assert isinstance(batch.x, Tensor)
            assert {each.device for each in (batch.x, batch.index, batch.y) if each is not None} == {meta}


def test_empty_part_has_no_stream(stream_of: MakeStream, pair: DomainPair) -> None:
    part = pair.parts["target_granted"]
    empty = replace(part, x=Held(part.x.read(0, 0)), index=part.index[:0], y=None)
    with pytest.raises(ValueError, match="target_granted has no rows to draw batches from"):
        stream_of(empty)


def test_augmentation_that_does_not_fit_is_told_before_the_first_batch(stream_of: MakeStream) -> None:
    with pytest.raises(ConfigError, match=r"augment\.shift: must be below the image side 8, got 9"):
        stream_of("source_train", augment={"shift": 9})


@pytest.mark.parametrize("batch_size", [10, 54, 100])
def test_evaluation_takes_every_row_in_order(pair: DomainPair, batch_size: int) -> None:
    for part in pair.parts.values():
        statistics = pair.statistics[part.domain]
        batches = list(evaluation_batches(part, statistics=statistics, shape=pair.shape, batch_size=batch_size))
        assert sum(len(batch) for batch in batches) == len(part)
        assert torch.equal(torch.cat([batch.index for batch in batches]), part.index)
        inputs = [batch.x for batch in batches if isinstance(batch.x, Tensor)]
        assert torch.equal(torch.cat(inputs), to_batch(part.x.tensor(), statistics, pair.shape))
        labels = [batch.y for batch in batches if batch.y is not None]
        assert (not labels) if part.y is None else torch.equal(torch.cat(labels), part.y)


def test_evaluation_of_an_empty_part_has_no_batch(pair: DomainPair) -> None:
    part = pair.parts["target_granted"]
    empty = replace(part, x=Held(part.x.read(0, 0)), index=part.index[:0])
    assert not list(evaluation_batches(empty, statistics=pair.statistics["target"], shape=pair.shape, batch_size=4))


@pytest.mark.parametrize("shape", [(5,), (5, 4, 4)])
def test_encoded_rows_pass_untouched(stream_of: MakeStream, pair: DomainPair, shape: tuple[int, ...]) -> None:
    part = pair.parts["source_train"]
    rows = torch.randn(len(part), *shape).to(torch.bfloat16)
    if len(shape) == 3:
        rows = rows.contiguous(memory_format=torch.channels_last)
    encoded = replace(part, x=Held(rows), stage=2)
    stream = stream_of(encoded, views=2)
    batch = stream.batch(4)
    for each in (batch.x, *batch.views):
        assert isinstance(each, Encoded)
        assert each.stage == 2
        assert torch.equal(each.x, rows[stream.positions(4)])
        assert each.x.dtype == torch.bfloat16
        if len(shape) == 3:
            assert each.x.is_contiguous(memory_format=torch.channels_last)
    first = next(evaluation_batches(encoded, statistics=pair.statistics["source"], shape=pair.shape, batch_size=9))
    assert isinstance(first.x, Encoded)
    assert torch.equal(first.x.x, rows[:9])


MIX = {"mixup": 0.5, "cutmix": 0.5, "share": 1.0}
PARTS = {"source_train": 30, "target_granted": 200}


def test_labelled_rows_are_mixed_with_rows_of_their_batch(stream_of: MakeStream, pair: DomainPair) -> None:
    plain = stream_of("source_train").batch(2)
    mixed = stream_of("source_train", augment={"mix": MIX}, num_classes=3).batch(2)
    assert isinstance(plain.x, Tensor)
    assert isinstance(mixed.x, Tensor)
    assert plain.y is not None
    assert mixed.y is not None
    mixture = draw_mixture(
        MixSettings(**MIX), pair.shape, 16, seed=hash64(0, "source_train", "mix", 2), device=torch.device("cpu")
    )
    assert torch.equal(mixed.x, mixture.rows(plain.x))
    assert torch.equal(mixed.y, mixture.labels(plain.y, 3))
    assert not torch.equal(mixed.x, plain.x)
    assert mixed.x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mixed.index, plain.index)


def test_rows_without_labels_are_never_mixed(stream_of: MakeStream) -> None:
    mixed = stream_of("target_unlabelled", augment={"mix": MIX}).batch(0)
    assert mixed.y is None
    assert same(mixed, stream_of("target_unlabelled").batch(0))


def test_parts_are_mixed_each_by_itself(stream_of: MakeStream, pair: DomainPair) -> None:
    flat = {name: torch.full_like(pair.parts[name].x.tensor(), level) for name, level in PARTS.items()}
    for name in PARTS:
        part = replace(pair.parts[name], x=Held(flat[name]))
        batch = stream_of(part, augment={"mix": MIX}, num_classes=3).batch(1)
        wanted = to_batch(flat[name][:1], pair.statistics[part.domain], pair.shape)
        assert isinstance(batch.x, Tensor)
        torch.testing.assert_close(batch.x, wanted.expand(16, -1, -1, -1), atol=1e-5, rtol=0)


def test_all_views_of_a_row_are_mixed_alike(stream_of: MakeStream) -> None:
    views = {"shift": 2, "views": None}
    plain = stream_of("source_train", augment=views, views=2).batch(3)
    mixed = stream_of("source_train", augment=views | {"mix": MIX}, views=2, num_classes=3).batch(3)
    pairs = [(plain.x, mixed.x), (plain.views[0], mixed.views[0])]
    for before, after in pairs:
        assert isinstance(before, Tensor)
        assert isinstance(after, Tensor)
        mixture = draw_mixture(
            MixSettings(**MIX), before.shape[1:], 16, seed=hash64(0, "source_train", "mix", 3), device=before.device
        )
        assert torch.equal(after, mixture.rows(before))


def test_mixing_needs_the_number_of_classes(stream_of: MakeStream) -> None:
    with pytest.raises(ValueError, match="source_train: mixed labels need the number of classes"):
        stream_of("source_train", augment={"mix": MIX})


def test_target_rows_and_further_views_have_their_own_pipelines(
    stream_of: MakeStream, augment_settings: MakeAugment
) -> None:
    whole = {
        "shift": 2,
        "target": augment_settings(contrast=0.4, views=augment_settings(flip=1.0)),
        "views": augment_settings(shift=3),
    }
    source = stream_of("source_train", augment=whole, views=2).batch(0)
    assert torch.equal(source.x, stream_of("source_train", augment={"shift": 2}).batch(0).x)
    assert torch.equal(source.views[0], stream_of("source_train", augment={"shift": 3}, views=2).batch(0).views[0])
    target = stream_of("target_unlabelled", augment=whole, views=3).batch(0)
    assert torch.equal(target.x, stream_of("target_unlabelled", augment={"contrast": 0.4}).batch(0).x)
    bare = stream_of("target_unlabelled").batch(0).x
    assert isinstance(bare, Tensor)
    assert all(torch.equal(each, bare.flip(3)) for each in target.views)


@pytest.mark.parametrize(
    "augment", [{}, {"flip": 0.5}, {"crop": {"area": [0.2, 1.0], "aspect": [1.0, 1.0]}}, {"shift": 1}]
)
def test_larger_rows_reach_the_model_at_its_size(
    stream_of: MakeStream, pair: DomainPair, augment: dict[str, Any]
) -> None:
    part = pair.parts["source_train"]
    large = torch.nn.functional.pad(part.x.tensor(), (0, 0, 2, 2, 2, 2))
    batch = stream_of(replace(part, x=Held(large)), augment=augment).batch(0)
    assert isinstance(batch.x, Tensor)
    assert batch.x.shape == (16, *pair.shape)
    if "crop" not in augment:  # the frame is cut off, so it is as if it had never been there
        assert torch.equal(batch.x, stream_of("source_train", augment=augment).batch(0).x)


def test_encoded_rows_are_not_augmented(stream_of: MakeStream, pair: DomainPair) -> None:
    encoded = replace(pair.parts["source_train"], stage=1)
    with pytest.raises(ValueError, match="source_train is encoded, so it cannot be augmented any more"):
        stream_of(encoded, augment={"shift": 1})


def test_features_stream_as_they_are(features: MakeData, pair_of: MakePair, augment_settings: MakeAugment) -> None:
    pair = pair_of(features({"a": 20, "b": 20}), features({"a": 20, "b": 20}, draw=1), normalize="per_domain")
    part = pair.parts["target_unlabelled"]
    settings = {"statistics": pair.statistics["target"], "shape": pair.shape, "augment": augment_settings()}
    stream = Stream(part, batch_size=len(part), seed=0, **settings)
    batch = stream.batch(0)
    assert isinstance(batch.x, Tensor)
    assert np.abs(batch.x.mean(0).numpy()).max() < 1e-5
