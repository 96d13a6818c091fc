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

AUXILIARY = {"inception_v3": 27_161_264 - 23_834_568}
"""Parameters of a second classifier that torchvision counts and no model here has."""


@contextmanager
def without_values(monkeypatch: pytest.MonkeyPatch, module: object) -> Iterator[None]:
    """Networks of that module's `build` are made on the meta device, where batch normalisation only scales and shifts.

    torch computes it there in Python, in half of the time of everything.
    """
    build = module.build

    def scaled(x: Tensor, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor, *_: object) -> Tensor:
        return torch.addcmul(bias[:, None, None], x, weight[:, None, None])

    def on_meta(*arguments: object) -> nn.Module:
        with torch.device("meta"):
            return build(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "build", on_meta)
        patch.setattr(nn.functional, "batch_norm", scaled)
        if module is torchvision_models:
            regnet = models().regnet.BlockParams
            block_params = regnet.from_init_params

            def with_values(*arguments: object, **options: object) -> object:
                with torch.device("cpu"):  # RegNet counts its channels by tensors
                    return block_params(*arguments, **options)

            patch.setattr(regnet, "from_init_params", with_values)
        yield


def learning_stages(strategy: nn.Module, phase: object) -> list[str]:
    """The stages of which everything learns in a phase, of which others nothing may."""
    names = matching(strategy, phase.train, where="")
    model = strategy.model
    whole = {name: {f"model.{prefix}.{each}" for each, _ in model.get_submodule(prefix).named_parameters()}
             for name in (*model.learning_stages, "head")
             for prefix in [f"backbone.stages.{name}" if name != "head" else name]}  # fmt: skip
    assert names == set().union(*(parameters for parameters in whole.values() if parameters & names))
    return [name for name, parameters in whole.items() if parameters & names]


def described(config, name: str, model: TransferModel, *overrides: str) -> nn.Module:
    whole = config(f"strategy={name}", "data=toy_gaussians", "data.target_labels=2", *overrides)
    settings = whole.strategy.resolved(2, augmented=False)
    classes = tuple(map(str, range(model.head.out.out_features)))
    return component_class("strategy", name)(settings, model, Task(classes, {}), label_smoothing=0.0)


def works(config, model: TransferModel, side: int) -> None:
    """Holds what the tuning strategies open against the stages, and gradients against what they open."""
    assert model.stage_names[0] == "stem" and model.stage_names[-1] == "head"
    assert len(model.learning_stages) >= 4
    stages = [*model.learning_stages, "head"]
    last = described(config, "fine_tune", model, "strategy.train=last_k", "strategy.last_k=2")
    (phase,) = last.phases()
    assert learning_stages(last, phase) == stages[-3:]
    progressive = described(config, "progressive", model)
    assert [learning_stages(progressive, phase) for phase in progressive.phases()] == [
        stages[-number:] for number in range(1, len(stages) + 1)
    ]
    set_learning(last, matching(last, phase.train, where=""))
    first = model.stage_names.index(stages[-3])
    encoded = model.encode_prefix(torch.empty(2, 3, side, side, device="meta"), first)
    assert not encoded.x.requires_grad
    output = model(Encoded(encoded.x, first))
    assert (output.features.shape, output.logits.shape) == ((2, model.num_features), (2, 1000))
    output.logits.sum().backward()
    unreached = [name for name, each in last.named_parameters() if each.requires_grad and each.grad is None]
    assert unreached == []


@pytest.mark.slow
@pytest.mark.parametrize("arch", models().list_models(module=models()))
def test_every_network_of_torchvision_has_stages_that_strategies_open_and_all_its_parameters(
    arch, config, monkeypatch
):
    side = torchvision_models.input_spec(arch).size
    with without_values(monkeypatch, torchvision_models):
        model = make_model("torchvision", (3, side, side), num_classes=1000, arch=arch).to("meta")
        published = published_weights(arch).meta["num_params"] - AUXILIARY.get(arch, 0)
        assert sum(each.numel() for each in model.parameters()) == published
        works(config, model, side)
