"""Every network of torchvision and one of each module of timm as a model: stages, head, size, and what strategies open.

On the meta device, which has shapes and no values; that stages compute what the network computes is tried in
`test_cut.py` with one network of each family.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from tests.models.conftest import make_model
from tlrun.batch import Encoded, Task
from tlrun.build import component_class
from tlrun.engine.freezing import matching, set_learning
from tlrun.models import timm as timm_models
from tlrun.models import torchvision as torchvision_models
from tlrun.models.torchvision import models, published_weights
from tlrun.models.transfer import TransferModel
from tlrun.models.vision import import_torchvision

APART = {"inception_v3": 23_834_568 - 27_161_264, "maxvit_t": 1000}
"""Parameters beyond those that torchvision counts: less a second classifier, and a bias where its classifier has none."""

TIMM = (
    *("beit_base_patch16_224", "coat_lite_tiny", "convit_tiny", "convmixer_768_32", "cpubone_b0_bfrobust", "csatv2"),
    *("cspnext_tiny", "davit_tiny", "deepseek_vit_412m", "dpn48b", "efficientformerv2_s0", "efficientvim_m1"),
    *("efficientvit_b0", "efficientvit_m0", "ese_vovnet19b_slim", "fasternet_t0", "focalnet_tiny_srf", "gcvit_xxtiny"),
    *("gemma4_vit_167m", "hardcorenas_a", "hgnetv2_b0", "hiera_tiny_224", "hieradet_small", "iformer_t"),
    *("inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small", "legacy_seresnet18", "legacy_xception"),
    *("lowformer_b0", "mambaout_femto", "mobilenetv5_base", "mvitv2_tiny", "naflexvit_base_patch16_gap"),
    *("nasnetalarge", "nest_tiny", "nextvit_small", "nf_resnet26", "pnasnet5large", "qwen3_vit_88m", "rdnet_tiny"),
    *("repghostnet_050", "repvit_m0_9", "res2net50_14w_8s", "resnest14d", "rexnet_100", "samvit_base_patch16_224"),
    *("selecsls42", "shvit_s1", "skresnet18", "starnet_s1", "swiftformer_xs", "swinv2_cr_tiny_224"),
    *("swinv2_tiny_window8_256", "test_vit_relpos", "tnt_s_patch16_224", "tresnet_m", "twins_pcpvt_small", "vgg11"),
    *("visformer_tiny", "vit_tiny_r_s16_p8_224", "vitamin_small_224", "volo_d1_224"),
)
"""One network of each module of timm that `test_cut.py` has none of; but not sequencer2d, whose recurrence takes 20 s."""

COARSE = {
    *("coat_lite_tiny", "deepseek_vit_412m", "efficientvim_m1", "gemma4_vit_167m", "legacy_seresnet18", "mvitv2_tiny"),
    *("nasnetalarge", "pnasnet5large", "qwen3_vit_88m", "repghostnet_050", "tnt_s_patch16_224", "twins_pcpvt_small"),
}
"""Those of them of one stage or two: their forward cannot be followed, or hands several tensors from block to block."""


@contextmanager
def without_values(monkeypatch: pytest.MonkeyPatch, module: object) -> Iterator[None]:
    """Networks of that module's `build` are made on the meta device, where batch normalisation only scales and shifts.

    torch computes it there in Python, in half of the time of everything.
    """
    build = module.build

    def batch_norm(
        x: Tensor,
        mean: Tensor,
        std: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *_: object,
        **__: object,
    ) -> Tensor:
        channels = (-1, *[1] * (x.dim() - 2))
        x = x * (1.0 if weight is None else weight.view(channels))
        return x if bias is None else x + bias.view(channels)

    def on_meta(*arguments: object) -> nn.Module:
        with torch.device("meta"):
            return build(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "build", on_meta)
        patch.setattr(nn.functional, "batch_norm", batch_norm)
        if module is torchvision_models:
            regnet = models().regnet.BlockParams
            block_params = regnet.from_init_params

            def with_values(*arguments: object, **options: object) -> object:
                with torch.device("cpu"):  # RegNet counts its channels by tensors
                    return block_params(*arguments, **options)

            patch.setattr(regnet, "from_init_params", with_values)
        yield


def learning_stages(strategy: nn.Module, phase: object) -> list[str]:
    """The stages that learn in a phase, which each do as a whole."""
    model, names, found = strategy.model, matching(strategy, phase.train, where=""), []
    for stage in (*model.learning_stages, "head"):
        prefix = "model.head" if stage == "head" else f"model.backbone.stages.{stage}"
        parameters = {f"{prefix}.{name}" for name, _ in model.stage(stage).named_parameters()}
        if parameters & names:
            assert parameters <= names, stage
            found.append(stage)
    return found


def described(config, name: str, model: TransferModel, *overrides: str) -> nn.Module:
    whole = config(f"strategy={name}", "data=toy_gaussians", "data.target_labels=2", *overrides)
    settings = whole.strategy.resolved(2, augmented=False)
    classes = tuple(map(str, range(model.head.out.out_features)))
    return component_class("strategy", name)(settings, model, Task(classes, {}), label_smoothing=0.0)


def works(config, model: TransferModel, side: int) -> None:
    """Holds what the tuning strategies open against the stages, and gradients against what they open."""
    stages = [*model.learning_stages, "head"]
    count = min(2, len(stages) - 1)
    last = described(config, "fine_tune", model, "strategy.train=last_k", f"strategy.last_k={count}")
    (phase,) = last.phases()
    assert learning_stages(last, phase) == stages[-count - 1 :]
    progressive = described(config, "progressive", model)
    assert [learning_stages(progressive, phase) for phase in progressive.phases()] == [
        stages[-number:] for number in range(1, len(stages) + 1)
    ]
    set_learning(last, matching(last, phase.train, where=""))
    first = model.stage_names.index(stages[-count - 1])
    encoded = model.encode_prefix(torch.empty(2, 3, side, side, device="meta"), first)
    assert not encoded.x.requires_grad
    output = model(Encoded(encoded.x, first))
    assert (output.features.shape, output.logits.shape) == ((2, model.num_features), (2, 1000))
    output.logits.sum().backward()
    unreached = [name for name, each in last.named_parameters() if each.requires_grad and each.grad is None]
    assert unreached == []


def is_cut(model: TransferModel) -> bool:
    return model.stage_names[0] == "stem" and len(model.learning_stages) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("arch", models().list_models(module=models()))
def test_every_network_of_torchvision_has_stages_that_strategies_open_and_all_its_parameters(arch, config, monkeypatch):
    side = torchvision_models.input_spec(arch).size
    with without_values(monkeypatch, torchvision_models):
        model = make_model("torchvision", (3, side, side), num_classes=1000, arch=arch).to("meta")
        assert is_cut(model)
        published = published_weights(arch).meta["num_params"] + APART.get(arch, 0)
        assert sum(each.numel() for each in model.parameters()) == published
        works(config, model, side)


@pytest.mark.slow
@pytest.mark.parametrize("arch", TIMM)
def test_networks_of_every_module_of_timm_have_stages_that_strategies_open(arch, config, monkeypatch):
    import_torchvision()
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    if not timm.is_model(arch):
        pytest.skip(f"timm {timm.__version__} does not have it")
    side = timm_models.input_spec(arch).size
    with without_values(monkeypatch, timm_models):
        model = make_model("timm", (3, side, side), num_classes=1000, arch=arch).to("meta")
        assert is_cut(model) == (arch not in COARSE)
        works(config, model, side)
