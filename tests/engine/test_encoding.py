"""Rows encoded once: kept between runs, the same bits from wherever they come, in several views where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.runs import DIGITS, differences
from tlrun.config import ConfigError
from tlrun.data.cache import encoded
from tlrun.data.cache.encoded import encoded_rows
from tlrun.data.cache.housekeeping import entries
from tlrun.engine.encoding import Encoding
from tlrun.models.transfer import TransferModel
from tlrun.run import RunFolder

Train = Callable[..., RunFolder]

FROZEN = (*DIGITS, "strategy=feature_extract", "model.weights=random", "data.target_labels=3", "optim.lr=0.05")
ROWS = torch.randn(10, 3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in which everything encoded is kept, however fast it came."""
    monkeypatch.setattr(encoded, "KEEP_SECONDS", -1.0)
    monkeypatch.setattr(encoded, "KEEP_BELOW", float("inf"))
    return tmp_path / "cache"


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each block that goes through the frozen stages from now on."""
    seen: list[int] = []
    encode_prefix = TransferModel.encode_prefix

    def watched(self: TransferModel, x: Any, stage: int) -> Any:
        if torch.is_inference_mode_enabled():
            seen.append(len(x))
        return encode_prefix(self, x, stage)

    monkeypatch.setattr(TransferModel, "encode_prefix", watched)
    return seen


def at(cache: Path, *overrides: str) -> tuple[str, ...]:
    return (*FROZEN, f"data.cache_root={cache}", *overrides)


def encoded_names(cache: Path) -> set[str]:
    return {entry.name for entry in entries(cache) if entry.name.startswith("encoded-")}


@pytest.mark.slow
def test_a_sweep_encodes_once(train: Train, cache: Path, encodings: list[int]) -> None:
    first = train(*at(cache), "engine.epochs=1")
    assert sum(encodings) == 290  # val and test of both domains, and 30 granted rows
    kept, encodings[:] = encoded_names(cache), []
    for override in ("optim.lr=0.1", "engine.batch_size=8"):
        train(*at(cache, override, "optim.weight_decay=0.1", "engine.epochs=2"))
    assert encodings == []
    assert encoded_names(cache) == kept
    assert first.read_summary()["encode_seconds"] > 0


@pytest.mark.slow
def test_what_changes_the_values_is_encoded_anew(train: Train, cache: Path, encodings: list[int]) -> None:
    train(*at(cache), "engine.epochs=1")  # seed 1 draws other weights
    for override in ("seed=1", "engine.precision=bf16", "data.image_size=24", "data.normalize=per_domain"):
        encodings.clear()
        train(*at(cache, override), "engine.epochs=1")
        assert sum(encodings) > 90, override


@pytest.mark.slow
def test_from_disk_from_memory_and_fresh_are_the_same_run(
    train: Train, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*FROZEN, "model.map_dropout=0.3", "model.dropout=0.2")
    for name in ("fresh", "disk"):
        train(*settings, f"data.cache_root={cache}", root=name)
    assert encoded_names(cache)
    monkeypatch.setattr(encoded, "KEEP_SECONDS", float("inf"))
    train(*settings, f"data.cache_root={tmp_path / 'unused'}", root="memory")
    assert not encoded_names(tmp_path / "unused")
    assert differences(tmp_path / "fresh", tmp_path / "disk") == []
    found = differences(tmp_path / "fresh", tmp_path / "memory")
    assert [each for each in found if not each.endswith(".config.data.cache_root")] == []


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_evaluation_behind_the_frozen_stages_has_the_bits_of_the_whole_model(
    precision: str, train: Train, cache: Path
) -> None:
    settings = (
        f"engine.precision={precision}",
        "optim.lr=1e-9",
        "engine.epochs=1",
    )  # too small a step to move anything
    once, plain = (train(*at(cache, *settings, f"strategy.encode_once={each}")) for each in ("true", "false"))
    shares = [folder.read_predictions().filter(like="probability_").to_numpy() for folder in (once, plain)]
    np.testing.assert_array_equal(*shares)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["dann", "mmd"])
def test_an_adaptation_above_frozen_stages_encodes_once_and_is_the_same_run(
    strategy: str, train: Train, cache: Path, encodings: list[int]
) -> None:
    # Every row above the statistics of its own domain, which frozen stages keep as they were loaded.
    settings = (
        *(*DIGITS, f"strategy={strategy}", "model.weights=random", "model.bottleneck=8", "strategy.train=head"),
        f"data.cache_root={cache}",
    )
    once, plain = train(*settings), train(*settings, "strategy.encode_once=false")
    assert once.read_config()["strategy"]["encode_once"] is True
    assert encodings and plain.read_summary()["encode_seconds"] == 0.0
    shares = [folder.read_predictions().filter(like="probability_").to_numpy() for folder in (once, plain)]
    np.testing.assert_allclose(*shares, atol=1e-5)


@pytest.mark.slow
def test_an_augmented_adaptation_is_not_encoded_once(train: Train, encodings: list[int]) -> None:
    settings = ("strategy=mmd", "model.weights=random", "model.bottleneck=8", "strategy.train=head", "augment=light")
    assert train(*DIGITS, *settings).read_config()["strategy"]["encode_once"] is False
    assert encodings == []


@pytest.mark.slow
def test_maps_of_a_lower_stage_come_back_as_they_were(train: Train, cache: Path, encodings: list[int]) -> None:
    settings = ("strategy=fine_tune", "strategy.train=last_k", "strategy.last_k=1", "strategy.encode_once=true")
    first = train(*at(cache, *settings))
    encodings.clear()
    second = train(*at(cache, *settings, "run.fresh=true"))
    assert encodings == []
    assert first.path == second.path
    once = second.read_predictions()
    plain = train(*at(cache, *settings, "strategy.encode_once=false")).read_predictions()
    assert once["prediction"].tolist() == plain["prediction"].tolist()


def test_an_interrupted_encoding_is_gone_on_with(
    train: Train, cache: Path, encodings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = at(cache, "engine.epochs=1", "engine.eval_batch_size=10")
    blocks = Encoding._blocks

    def stopped(self: Encoding, *args: Any) -> Iterator[torch.Tensor]:
        for number, block in enumerate(blocks(self, *args)):
            if number == 3:
                raise KeyboardInterrupt
            yield block

    with monkeypatch.context() as patched:
        patched.setattr(Encoding, "_blocks", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(*settings)
    stopped_after = sum(encodings)
    assert sorted(entry.state for entry in entries(cache) if "encoded" in entry.name) == ["unfinished", "whole"]
    encodings.clear()
    train(*settings)
    assert stopped_after + sum(encodings) == 290 + 10  # the block that was on its way counts twice


@pytest.mark.slow
def test_views_are_encoded_once_and_read_in_turn(train: Train, cache: Path, encodings: list[int]) -> None:
    settings = ("augment=light", "strategy.encode_views=3")
    first = train(*at(cache, *settings, "engine.epochs=6"))
    views = sum(entry.about.count(", view") for entry in entries(cache))
    assert views == 3
    encodings.clear()
    train(*at(cache, *settings, "engine.epochs=3", "optim.lr=0.01"))
    assert encodings == []
    plain = train(*at(cache, "engine.epochs=6"))
    losses = [folder.read_metrics()["loss"].tolist() for folder in (first, plain)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ("strategy.encode_views=3",),
            "strategy.encode_views: 3 views of a row would be equal with augment=none; "
            "set an augmentation, or strategy.encode_views=null",
        ),
        (
            ("strategy.encode_views=3", "strategy.encode_once=false", "augment=light"),
            "strategy.encode_views: has no effect with encode_once=false; "
            "set encode_once=true or leave encode_views null",
        ),
    ],
)
def test_views_without_effect_are_refused(train: Train, overrides: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        train(*FROZEN, *overrides)
    assert error.value.problems == [problem]


def test_fast_rows_stay_in_memory(tmp_path: Path) -> None:
    rows = encoded_rows(lambda start: iter(ROWS.split(4)), count=10, cache=tmp_path, inputs={"a": 1}, about="")
    assert torch.equal(rows, ROWS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(10, 3), (10, 2, 3, 4), (10, 5, 2)])
def test_kept_rows_have_type_bits_and_memory_order(cache: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape).to(dtype)
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    for make in (lambda start: iter(x.split(4)), lambda start: pytest.fail("they are kept")):
        rows = encoded_rows(make, count=10, cache=cache, inputs={"shape": shape, "type": str(dtype)}, about="")
        assert rows.dtype == dtype
        assert torch.equal(rows, x)
        assert rows.stride() == x.stride()


def test_rows_without_identity_are_not_kept(cache: Path) -> None:
    assert torch.equal(encoded_rows(lambda start: [ROWS], count=10, cache=cache, inputs=None, about=""), ROWS)
    assert not cache.exists()
