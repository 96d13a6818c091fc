"""Components by name, settings without importing them, and what is said about settings that are wrong."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tlrun import build
from tlrun.build import component_class, component_names, leaf, settings_class, typed
from tlrun.config import ConfigError, ExperimentConfig, Settings, StrategySettings
from tlrun.config.settings_source import read_settings
from tlrun.strategies.base import Strategy

METHOD = """
from __future__ import annotations

import math
from dataclasses import dataclass as data
from typing import Annotated, Literal

import torch
from pydantic import Field

from tlrun.config import Count, Needs, Settings, StrategySettings
from tlrun.strategies.base import Strategy

WAYS = 2
Steep = Annotated[float, Field(gt=0, lt=9)]


def halved(value: float) -> float:
    return value / WAYS


class Inner(Settings):
    depth: Count

    def problems(self) -> list[str]:
        return ["depth: must not be 13"] if self.depth == 13 else []


class Method(Strategy):
    class Config(StrategySettings):
        steep: Steep
        way: Literal["one", "two"] | None
        inner: Inner

        @property
        def needs(self) -> Needs:
            return Needs("required", "unused", "unused")

        @property
        def half(self) -> float:
            return math.floor(halved(self.steep))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes a user's own package with one module, and gives the module's name."""
    made: list[str] = []

    def make(source: str, module: str = "method") -> str:
        folder = tmp_path / f"lab{tmp_path.name[-1]}{len(made)}"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / f"{module}.py").write_text(source)
        made.append(f"{folder.name}.{module}")
        return made[-1]

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    for name in list(sys.modules):
        if name.partition(".")[0] in {each.partition(".")[0] for each in made}:
            del sys.modules[name]


@pytest.fixture(scope="module")
def values(config: Callable[..., ExperimentConfig]) -> dict[str, Any]:
    """The default experiment as plain values."""
    return config().to_dict()


@pytest.fixture
def problems(values: dict[str, Any]) -> Callable[..., list[str]]:
    """What is said of the default experiment with some keys changed; a value of ... takes the key away."""

    def find(**changes: Any) -> list[str]:
        changed = copy.deepcopy(values)
        for key, value in changes.items():
            *nodes, last = key.split("__")
            node = changed
            for each in nodes:
                node = node[each]
            if value is ...:
                del node[last]
            else:
                node[last] = value
        with pytest.raises(ConfigError) as caught:
            typed(changed)
        return caught.value.problems

    return find


def test_the_default_experiment_types_and_comes_back_the_same(values: dict[str, Any]) -> None:
    assert typed(values).to_dict() == values


def test_values_in_range_are_converted_to_the_types_of_their_fields(values: dict[str, Any]) -> None:
    config = typed({**values, "optim": {**values["optim"], "lr": 1}})
    assert isinstance(config.optim.lr, float)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optim__lr": -1.0}, "optim.lr: must be above 0, got -1.0"),
        ({"optim__lr": "abc"}, "optim.lr: must be a number, got 'abc'"),
        ({"optim__lr": None}, "optim.lr: must be a number, got null"),
        ({"optim__lr": float("nan")}, "optim.lr: must be a finite number, got nan"),
        ({"optim__lr": "???"}, "optim.lr: must be given"),
        ({"optim__lr": ...}, "optim.lr: missing"),
        ({"optim": ...}, "optim: missing"),
        ({"optim": 3}, "optim: must be a group of settings, got 3"),
        ({"optim__label_smoothing": 1}, "optim.label_smoothing: must be below 1, got 1"),
        ({"optim___target_": "os.system"}, "optim._target_: must be torch.optim.<class>, got 'os.system'"),
        ({"optim___target_": "???"}, "optim._target_: must be given, as torch.optim.<class>"),
        ({"seed": -1}, "seed: must be at least 0, got -1"),
        ({"seed": 2.5}, "seed: must be a whole number, got 2.5"),
        ({"seed": True}, "seed: must be a whole number, got true"),
        ({"engine__epochs": "ten"}, "engine.epochs: must be a whole number, got 'ten'"),
        ({"engine__clip_norm": True}, "engine.clip_norm: must be a number, got true"),
        ({"engine__precision": "fp8"}, "engine.precision: must be one of auto, fp32, bf16, fp16, got 'fp8'"),
        (
            {"engine__select": "best"},
            "engine.select: must be auto, last, source_val, target_val, entropy, information_maximisation, bnm, snd, dev, "
            "iwv, nearest_source, feature_mmd or oracle, got 'best'",
        ),
        ({"engine__early_stop__patience": 0}, "engine.early_stop.patience: must be at least 1, got 0"),
        ({"run__fresh": "maybe"}, "run.fresh: must be true or false, got 'maybe'"),
        ({"run__root": ["a"]}, "run.root: must be text, got ['a']"),
        ({"data__channels": 2}, "data.channels: must be one of auto, 1, 3, got 2"),
        (
            {"data__target_labels": "some"},
            "data.target_labels: must be none, all or a whole number of at least 1, got 'some'",
        ),
        ({"data__target_labels": 0}, "data.target_labels: must be none, all or a whole number of at least 1, got 0"),
        ({"data__target": None}, "data.target: must be a group of settings, got null"),
        ({"augment__crop": {"area": [0.5, 0.1], "aspect": [1, 1]}}, "augment.crop.area: must go from the smaller to the larger, got [0.5, 0.1]"),
        ({"augment__crop": {"area": [0.5, 1.5], "aspect": [1, 1]}}, "augment.crop.area.1: must be at most 1, got 1.5"),
        ({"augment__crop": 3}, "augment.crop: must be a group of settings, got 3"),
        ({"augment__flip": "some"}, "augment.flip: must be auto or a number of at least 0 and of at most 1, got 'some'"),
        (
            {"augment__mix": {"mixup": 0, "cutmix": 0, "share": 1}},
            "augment.mix.mixup: or cutmix must be above 0; augment/mix=none mixes nothing",
        ),
        (
            {"augment__albumentations": [{"p": 0.5}]},
            "augment.albumentations.0._target_: must be given, as albumentations.<class>",
        ),
        (
            {"augment__albumentations": [{"_target_": "os.system"}]},
            "augment.albumentations.0._target_: must be albumentations.<class>, got 'os.system'",
        ),
        (
            {"pretrain__optim__lr": 0},
            "pretrain.optim.lr: must be above 0, got 0",
        ),
        (
            {"strategy__discriminator_hidden": [100, 0]},
            "strategy.discriminator_hidden.1: must be at least 1, got 0",
        ),
        ({"strategy__name": ...}, "strategy.name: missing"),
        ({"strategy__name": 3}, "strategy.name: must be text, got 3"),
        ({"model__name": "lennet"}, "model.name: there is no 'lennet'; did you mean lenet? (choices: digits_cnn, dtn, "
                                    "efficientnet_lite0, lenet, mlp, timm, torchvision)"),
        (
            {"schedule__name": "cosin"},
            "schedule.name: there is no 'cosin'; did you mean cosine? (choices: constant, step, cosine, one_cycle, "
            "inverse_decay)",
        ),
        ({"device": {"name": "gpu", "threads": None}}, "device.name: must be one of auto, cpu, cuda, mps, got 'gpu'"),
        (
            {"device__thread": 2},
            "device.thread: unknown key; did you mean threads? (allowed: name, threads)",
        ),
        (
            {"strategy__last_k": 2},
            "strategy.last_k: has no effect with train=all; set train=last_k or leave it null",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(
    problems: Callable[..., list[str]], changes: dict[str, Any], line: str
) -> None:
    assert problems(**changes) == [line]


def test_all_problems_are_told_at_once_whatever_node_they_are_in(problems: Callable[..., list[str]]) -> None:
    found = problems(
        strategy__name="nothing", model__hidden=0, optim__lr=0, data__target__name="mnst", extra=1, seed=-1,
        pretrain__engine__epochs=0, strategy__last_k=3,
    )  # fmt: skip
    keys = [line.partition(":")[0] for line in found]
    assert keys == [
        "strategy.name", "data.target.name", "model.hidden", "optim.lr", "pretrain.engine.epochs", "seed", "extra",
    ]  # fmt: skip


def test_further_arguments_of_an_optimizer_are_let_through_to_it(values: dict[str, Any]) -> None:
    optim = {**values["optim"], "momentum": 0.5, "dampening": 0.1}
    assert typed({**values, "optim": optim}).optim.model_extra is not None
    assert leaf("torch.optim.SGD", "optim", arguments=["momentum", "dampening"]) is torch.optim.SGD


@pytest.mark.parametrize("group", ["strategy", "domain", "model", "schedule"])
def test_every_component_names_one_class_whose_settings_can_be_read(group: build.Group) -> None:
    names = component_names(group)
    assert names
    for name in names:
        assert issubclass(settings_class(group, name), Settings)
        assert isinstance(component_class(group, name), type)


@pytest.mark.parametrize("group", ["strategy", "domain", "model"])
def test_settings_read_from_the_source_are_those_of_the_class(group: build.Group) -> None:
    for name in set(component_names(group)) - {"photo_set"}:  # it reads its table of sets, and no data set loads torch
        real = component_class(group, name).Config
        read = read_settings(real.__module__, Path(sys.modules[real.__module__].__file__ or ""))
        assert read is not None, f"{name}: its Config needs more than the standard library, pydantic and tlrun.config"
        assert read is not real
        assert read.__qualname__ == real.__qualname__
        assert read.model_json_schema() == real.model_json_schema()
        assert set(vars(read)) >= set(vars(real)) - {"__firstlineno__", "__static_attributes__"}


def test_typing_the_default_experiment_loads_no_torch(values: dict[str, Any]) -> None:
    script = (
        "import sys; from tlrun.build import typed; from tlrun.compose.resolve import check\n"
        f"check(typed({values!r})); assert not set(sys.modules) & {{'torch', 'albumentations', 'pandas'}}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_settings_of_a_users_own_module_are_read_without_running_it(package: Callable[..., str]) -> None:
    name = package(METHOD + "\nraise RuntimeError('was run')\n")
    settings = settings_class("strategy", name)
    built = settings.model_validate({"name": name, "steep": 3, "way": "two", "inner": {"depth": 1}})
    assert built.half == 1  # type: ignore[attr-defined]
    assert isinstance(built, StrategySettings)
    assert built.needs.source == "required"
    assert name not in sys.modules


def test_a_users_own_module_is_typed_like_ours(package: Callable[..., str], problems: Callable[..., list[str]]) -> None:
    strategy = {"name": package(METHOD), "steep": 9.5, "way": "three", "inner": {"depth": 0}, "more": 1}
    assert problems(strategy=strategy) == [
        "strategy.inner.depth: must be at least 1, got 0",
        "strategy.steep: must be below 9, got 9.5",
        "strategy.way: must be one of one, two, got 'three'",
        "strategy.more: unknown key (allowed: name, steep, way, inner)",
    ]
    assert problems(strategy={**strategy, "steep": 1, "way": None, "inner": {"depth": 13}}) == [
        "strategy.inner.depth: must not be 13",
        "strategy.more: unknown key (allowed: name, steep, way, inner)",
    ]


def test_settings_that_need_a_library_are_had_by_importing_the_module(package: Callable[..., str]) -> None:
    name = package(METHOD.replace("steep: Steep", "steep: Steep\n        kind: str = str(torch.float32)"))
    settings = settings_class("strategy", name)
    assert settings is component_class("strategy", name).Config
    assert settings.model_fields["kind"].default == "torch.float32"


def test_a_components_class_is_imported_by_its_name(package: Callable[..., str]) -> None:
    found = component_class("strategy", package(METHOD))
    assert issubclass(found, Strategy)
    assert found.__name__ == "Method"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = (", "line 1: '(' was never closed"),
        ("import nowhere_at_all", "importing '{name}' failed: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = 1", "{name} must define exactly one subclass of tlrun.strategies.base.Strategy, found none"),
        (
            METHOD + "\n\nclass Second(Strategy):\n    class Config(Method.Config):\n        pass\n",
            "{name} must define exactly one subclass of tlrun.strategies.base.Strategy, found Method, Second",
        ),
        (
            METHOD.replace("class Config(StrategySettings)", "class Config(Settings)"),
            "the Config in {name} must derive from tlrun.config.StrategySettings",
        ),
    ],
)
def test_a_users_own_module_that_cannot_serve_is_told(package: Callable[..., str], source: str, why: str) -> None:
    name = package(source)
    with pytest.raises(ConfigError) as caught:
        settings_class("strategy", name)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("strategy.name: ")
    assert caught.value.problems[0].endswith(why.format(name=name))


def test_a_module_that_is_not_there_is_told(package: Callable[..., str]) -> None:
    folder = package(METHOD).partition(".")[0]
    with pytest.raises(ConfigError, match=f"^strategy.name: no module '{folder}.other'; it must be installed"):
        settings_class("strategy", f"{folder}.other")
    with pytest.raises(ConfigError, match="No module named 'no_such_lab'"):
        settings_class("strategy", "no_such_lab.method")


@pytest.mark.parametrize("name", ["transfer", "zoo", "", "mlp "])
def test_a_module_of_ours_that_is_no_component_is_no_choice(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model.name: there is no {name!r}"):
        settings_class("model", name)


def test_an_error_in_our_own_module_is_not_blamed_on_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("broken")

    monkeypatch.setattr(build.importlib, "import_module", fail)
    with pytest.raises(ImportError, match="broken"):
        component_class("strategy", "dann")


@pytest.mark.parametrize(
    ("target", "arguments", "line"),
    [
        ("os.system", (), "optim._target_: must be torch.optim.<class>, got 'os.system'"),
        ("torch.optim.lr_scheduler.StepLR", (), "optim._target_: must be torch.optim.<class>, got "
                                                "'torch.optim.lr_scheduler.StepLR'"),
        ("torch.optim.AdmW", (), "optim._target_: torch.optim has no Optimizer called 'AdmW'; did you mean AdamW?"),
        ("torch.optim.Optimizer", (), "optim._target_: torch.optim has no Optimizer called 'Optimizer'"),
        ("torch.optim.SGD", ("momentun",), "optim.momentun: torch.optim.SGD takes no such argument; did you mean "
                                           "momentum? (choices: momentum, dampening, nesterov, maximize, foreach, "
                                           "differentiable, fused)"),
        ("torch.optim.SGD", ("params",), "optim.params: torch.optim.SGD takes no such argument (choices: momentum, "
                                         "dampening, nesterov, maximize, foreach, differentiable, fused)"),
    ],
)  # fmt: skip
def test_only_optimizers_of_torch_with_their_own_arguments_are_taken(
    target: str, arguments: tuple[str, ...], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        leaf(target, "optim", arguments=arguments)
    assert caught.value.problems == [line]
