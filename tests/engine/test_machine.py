"""What the system tells of the machine is what torch would say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tlrun.compose.resolve import for_machine, name_choices, name_machine
from tlrun.config import ConfigError
from tlrun.engine import machine
from tlrun.engine.runtime import resolve_precision

X86 = "processor\t: 0\nmodel name\t: Some\nflags\t\t: fpu avx2 avx512_bf16 sse\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n"


def test_it_agrees_with_torch_on_this_machine(config) -> None:
    assert not (machine.has_no_gpu() and torch.cuda.is_available())
    assert machine.cpu_precision() in (None, resolve_precision("auto", torch.device("cpu")))
    settings = name_choices(config("strategy=mmd", "data=toy_gaussians", "model=mlp"))
    assert for_machine(settings) == name_machine(settings)[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (X86, "bf16"),
        (X86.replace("avx512_bf16", "amx_bf16"), "bf16"),
        (ARM, "bf16"),
        (X86.replace("avx512_bf16", "avx512f"), "fp32"),
        (ARM.replace(" bf16", ""), "fp32"),
        ("processor\t: 0\nmodel name\t: bf16 flags\n", None),
        (None, None),
    ],
)
def test_bfloat16_is_read_from_the_flags_of_the_processor(
    text: str | None, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(machine, "PROCESSOR", file)
    assert machine.cpu_precision() == told


def test_a_gpu_or_an_unknown_system_is_left_to_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    (tmp_path / "null").touch()
    assert machine.has_no_gpu()
    (tmp_path / "nvidia0").touch()
    assert not machine.has_no_gpu()
    (tmp_path / "nvidia0").unlink()
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert not machine.has_no_gpu()


@pytest.mark.parametrize(
    ("device", "precision", "asks"),
    [
        ("cpu", "auto", False),
        ("auto", "auto", False),
        ("auto", "fp32", False),
        ("cpu", "fp16", True),
        ("cuda", "fp32", True),
    ],
)
def test_torch_is_asked_only_where_the_system_does_not_tell(
    device: str, precision: str, asks: bool, config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlrun.compose.resolve.has_no_gpu", lambda: True)
    monkeypatch.setattr("tlrun.compose.resolve.cpu_precision", lambda: "bf16")

    def refuse(settings: object) -> None:
        raise ConfigError("torch was asked")

    monkeypatch.setattr("tlrun.engine.runtime.resolve_device", refuse)
    overrides = (f"device={device}", f"engine.precision={precision}", "data=toy_gaussians", "model=mlp")
    settings = name_choices(config("strategy=mmd", *overrides))
    if asks:
        with pytest.raises(ConfigError, match="torch was asked"):
            for_machine(settings)
        return
    named = for_machine(settings)
    assert (named.device.name, named.engine.precision) == ("cpu", "fp32" if precision == "fp32" else "bf16")
    assert named.pretrain.engine.precision == "bf16"
