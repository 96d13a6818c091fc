"""The same run on a GPU: the same numbers as on the CPU, everything there, everything back after a stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.runs import DIGITS, TOY
from tlrun.batch import Encoded, Examples, Progress
from tlrun.compose.resolve import name_choices
from tlrun.config import ExperimentConfig
from tlrun.engine.engine import Engine
from tlrun.run import RunFolder, load_checkpoint
from tlrun.strategies.base import Strategy
from tlrun.strategies.dann import Dann

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]

Describe = Callable[..., ExperimentConfig]
Train = Callable[..., RunFolder]

ON_GPU = ("device=cuda", "device.threads=null")
ALIGNING = ("strategy=dann", "data.target_labels=none", "strategy.discriminator_hidden=[16]")


@pytest.fixture
def _true_float32() -> Iterator[None]:
    """Float32 products in float32: by default the GPU's convolutions round what they multiply to ten bits (TF32)."""
    kinds = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "ieee"
    yield
    for kind, precision in zip(kinds, before, strict=True):
        kind.fp32_precision = precision


def losses_and_model(train: Train, monkeypatch: pytest.MonkeyPatch, *settings: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The total loss of every step, and the model's parameters and buffers after the last."""
    losses: list[Tensor] = []
    loss = Dann.loss

    def watched(self: Dann, *args: Any) -> Any:
        found = loss(self, *args)
        losses.append(found.total().detach().cpu())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Dann, "loss", watched)
        folder = train(*settings)
    return torch.stack(losses), load_checkpoint(folder.last, digest=None)["model"]


@pytest.mark.usefixtures("_true_float32")
@pytest.mark.parametrize("data", [TOY, DIGITS], ids=["toy", "digits"])
def test_first_twenty_steps_in_float32_agree_with_the_cpu(
    data: tuple[str, ...], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small rate and no momentum: steps that amplify rounding would compare chaos, not arithmetic.
    settings = (*data, *ALIGNING, "engine.epochs=2", "engine.steps_per_epoch=10", "optim.lr=0.01", "optim.momentum=0")
    on_cpu, model_on_cpu = losses_and_model(train, monkeypatch, *settings)
    on_gpu, model_on_gpu = losses_and_model(train, monkeypatch, *settings, *ON_GPU, "run.fresh=true")
    assert len(on_cpu) == len(on_gpu) == 20
    torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=1e-4)
    for name, value in model_on_cpu.items():
        difference = (model_on_gpu[name].double() - value.double()).abs().max()
        assert difference <= 1e-4, name


def test_data_model_and_sums_live_on_the_device(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    batch, fit = Engine._batch, Engine.fit

    def tensors(examples: Examples) -> Iterator[Tensor]:
        for field in fields(examples):
            value = getattr(examples, field.name)
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Encoded):
                    yield each.x
                elif isinstance(each, Tensor):
                    yield each

    def watched_batch(self: Engine, address: int) -> Any:
        found = batch(self, address)
        seen.extend(tensor.device.type for examples in found for tensor in tensors(examples))
        return found

    def watched_fit(self: Engine) -> None:
        for part in self.pair.parts.values():
            seen.extend(
                each.device.type for each in (part.x.tensor(), part.y, part.index, part.granted) if each is not None
            )
        seen.extend(tensor.device.type for tensor in self.strategy.state_dict().values())
        fit(self)
        for state in self.optimiser.optimizer.state.values():
            seen.extend(each.device.type for each in state.values() if isinstance(each, Tensor) and each.dim())

    monkeypatch.setattr(Engine, "_batch", watched_batch)
    monkeypatch.setattr(Engine, "fit", watched_fit)
    folder = train(*DIGITS, *ON_GPU, "strategy=dann", "data.target_labels=2", "augment=light")
    assert len(seen) > 100
    assert set(seen) == {"cuda"}
    summary = folder.read_summary()
    assert summary["device"] == "cuda"
    assert summary["peak_memory_bytes"] > 0
    assert folder.read_environment()["device"] == torch.cuda.get_device_name()


def test_encoded_rows_live_on_the_device_and_lead_to_the_same_predictions(train: Train) -> None:
    settings = (*DIGITS, *ON_GPU, "strategy=feature_extract", "data.target_labels=3")
    encoded, plain = (train(*settings, f"strategy.encode_once={once}").read_predictions() for once in ("true", "false"))
    assert (encoded["prediction"] == plain["prediction"]).mean() >= 0.98


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_run_in_half_precision_finishes(precision: str, train: Train) -> None:
    folder = train(*DIGITS, *ON_GPU, *ALIGNING, f"engine.precision={precision}", "engine.clip_norm=1.0")
    summary = folder.read_summary()
    assert (summary["precision"], summary["steps"], summary["epochs"]) == (precision, 12, 3)
    assert folder.read_metrics()["loss"].notna().all()


def test_scaler_of_fp16_is_in_the_checkpoint_and_restored(
    train: Train, described: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*DIGITS, *ON_GPU, *ALIGNING, "engine.precision=fp16")
    # One that changes its scale within the few steps of this run.
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=1024.0, growth_interval=4))
    started_with: list[dict[str, Any]] = []
    fit = Engine.fit

    def watched(self: Engine) -> None:
        started_with.append(self.optimiser.scaler.state_dict())
        fit(self)

    def after_step(self: Strategy, progress: Progress) -> None:
        if progress.step == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Engine, "fit", watched)
    with monkeypatch.context() as patch:
        patch.setattr(Strategy, "after_step", after_step)
        with pytest.raises(KeyboardInterrupt):
            train(*settings)
    saved = load_checkpoint(RunFolder.of(name_choices(described(*settings))).last, digest=None)["scaler"]
    assert saved != started_with[0]
    assert train(*settings).read_summary()["steps"] == 12
    assert started_with[1] == saved


def test_run_stopped_on_the_gpu_goes_on_with_the_generators_of_the_gpu(
    train: Train, described: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*TOY, *ON_GPU, *ALIGNING, "model.dropout=0.5")
    drawn: list[Tensor] = []
    fit = Engine.fit

    def watched(self: Engine) -> None:
        drawn.append(torch.cuda.get_rng_state())
        fit(self)

    def after_step(self: Strategy, progress: Progress) -> None:
        if progress.step == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Engine, "fit", watched)
    with monkeypatch.context() as patch:
        patch.setattr(Strategy, "after_step", after_step)
        with pytest.raises(KeyboardInterrupt):
            train(*settings)
    saved = load_checkpoint(RunFolder.of(name_choices(described(*settings))).last, digest=None)["random"]["cuda"]
    torch.rand(5, device="cuda")
    train(*settings)
    assert not torch.equal(drawn[0], saved)
    assert torch.equal(drawn[1], saved)
