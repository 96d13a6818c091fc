"""Every YAML under configs/: found recursively, so that none can be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import ConfigCompositionException
from pydantic import BaseModel

from tests.conftest import composed
from tlrun.build import component_names, settings_class, typed
from tlrun.compose.plan import Request, plan
from tlrun.config import ConfigError, ExperimentConfig, Settings
from tlrun.listing import heading

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
OPTIONS = [name for name in FILES if "/" in name and not name.startswith("_")]

WITH = {
    "domain": ("data=pair",),
    "data/pair": ("domain@data.source=mnist", "domain@data.target=usps"),
    **{
        f"data/{name}": ("domain@data.source=amazon", "domain@data.target=webcam")
        for name in ("office31", "office_home", "domainnet", "pacs", "image_clef")
    },
    "optim/torch": ("optim._target_=torch.optim.RMSprop",),
}
"""What an option needs beside it: choices that it leaves open."""


def overrides(name: str) -> tuple[str, ...]:
    group, _, option = name.removesuffix(".yaml").rpartition("/")
    beside = WITH.get(f"{group}/{option}", WITH.get(group, ()))
    if group == "domain":
        return (*beside, f"domain@data.source={option}", f"domain@data.target={option}")
    return (*beside, f"{group}={option}")


def nodes(config: Settings, key: str = "") -> Iterator[tuple[str, Settings]]:
    yield key, config
    for name, value in config:
        if isinstance(value, Settings):
            yield from nodes(value, f"{key}.{name}".lstrip("."))


def all_settings() -> Iterator[type[BaseModel]]:
    """Every class of settings, ours by inheritance and the components' by name."""
    todo: list[type[BaseModel]] = [Settings]
    for group in ("strategy", "domain", "model", "schedule"):
        todo += [settings_class(group, name) for name in component_names(group)]
    while todo:
        kind = todo.pop()
        yield kind
        todo += [each for each in kind.__subclasses__() if each.__module__.startswith("tlrun.")]


def test_there_are_configs() -> None:
    assert "train.yaml" in FILES
    assert {name.partition("/")[0] for name in OPTIONS} >= {"strategy", "data", "domain", "model", "optim", "schedule"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_begins_with_a_heading_that_list_can_show(name: str) -> None:
    assert 5 <= len(heading(CONFIGS / name)) <= 120
    assert (CONFIGS / name).read_text().endswith("\n")


@pytest.mark.parametrize(
    "name",
    # data/datasets/test_configs.py types every domain alone; within a pair that takes Hydra a quarter second each.
    [pytest.param(name, marks=pytest.mark.slow) if name.startswith("domain/") else name for name in OPTIONS],
)
def test_an_option_composes_and_types_without_a_key_too_many_or_too_few(
    name: str, config: Callable[..., ExperimentConfig]
) -> None:
    # No field has a default and no key is let through (see below), so that what types has exactly the fields' keys.
    typed_config = config(*overrides(name))
    assert typed(typed_config.to_dict()).to_dict() == typed_config.to_dict()
    group, _, option = name.removesuffix(".yaml").rpartition("/")
    written = yaml.safe_load((CONFIGS / name).read_text()) or {}
    place = typed_config.to_dict()
    for part in {"domain": ("data", "source"), "experiment": ()}.get(group, group.split("/")):
        place = place[part]
    if place is None:  # the option that stands for nothing
        assert list(written.values()) == [None]
        return
    for key, value in written.items():
        if key != "defaults" and not isinstance(value, dict) and value != "???" and "${" not in str(value):
            assert place[key] == value, f"{name}: {key} is written but does not arrive"
    if (
        (group, option) != ("model", "digits_cnn_wide")
        and place.get("name", "torchvision") != "torchvision"
        and group not in ("data", "pretrain")
        and place["name"] != "photo_set"  # whose domains have a file each
    ):
        assert place["name"] == option


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("data=mnist_usps", "data.image_size=32", "optim.lr=1e-3", "model.hidden=7", "seed=3"),
        ("data=pair", "domain@data.source=mnist", "domain@data.target=mnist", "+data.source.colours=false"),
        ("strategy=fine_tune", "data.target_labels=all", "strategy.rates={conv1: 0}", "data.root='a=b, c'"),
        ("strategy=progressive", "data.target_labels=2", "strategy.shares=[1,1,4]", "data.root=${seed}"),
        ("augment/mix=both", "augment.mix.mixup=0.3", "schedule@pretrain.schedule=step", "data.mean=null"),
    ],
)
def test_configs_of_tests_are_what_hydra_composes(overrides: tuple[str, ...], config: Callable[..., Any]) -> None:
    def outcome(compose: Callable[..., Any]) -> Any:
        try:
            return compose()
        except Exception as error:
            return type(error), str(error)

    assert outcome(lambda: config(*overrides)) == outcome(lambda: typed(composed(*overrides)))
    with pytest.raises(ConfigCompositionException):
        config(*overrides, "optim.no_such_key=1")


def test_every_base_is_taken_in_by_an_option() -> None:
    taken = " ".join((CONFIGS / name).read_text() for name in OPTIONS)
    assert [name for name in FILES if name.startswith("_base/") and f"/{name[:-5]}@_here_" not in taken] == []


def test_the_default_command_is_right() -> None:
    assert plan(Request(())).jobs == ("",)


@pytest.mark.parametrize("kind", sorted(set(all_settings()), key=lambda kind: f"{kind.__module__}.{kind.__qualname__}"))
def test_no_setting_has_a_default_so_that_each_value_is_written_in_yaml(kind: type[BaseModel]) -> None:
    defaults = [name for name, field in kind.model_fields.items() if not field.is_required()]
    assert defaults == []


def test_only_optimizers_let_further_keys_through(config: Callable[..., ExperimentConfig]) -> None:
    open_nodes = [key for key, node in nodes(config()) if node.model_config.get("extra") != "forbid"]
    assert open_nodes == ["optim", "pretrain.optim"]


@pytest.mark.slow
def test_every_node_refuses_an_unknown_key_and_misses_a_lost_one(config: Callable[..., ExperimentConfig]) -> None:
    values = config().to_dict()
    for key, node in nodes(config()):
        at: dict[str, Any] = values
        for part in filter(None, key.split(".")):
            at = at[part]
        where = f"{key}." if key else ""
        if node.model_config.get("extra") == "forbid":
            at["no_such_key"] = 1
            with pytest.raises(ConfigError, match=f"^{where}no_such_key: unknown key"):
                typed(values)
            del at["no_such_key"]
        for name in list(at):
            if name not in (field.alias or own for own, field in type(node).model_fields.items()):
                continue
            order, lost = list(at), at.pop(name)
            with pytest.raises(ConfigError) as caught:
                typed(values)
            assert caught.value.problems == [f"{where}{name}: missing"]
            at[name] = lost
            assert sorted(order) == sorted(at)


def test_every_component_has_a_yaml_and_every_yaml_a_component(config: Callable[..., ExperimentConfig]) -> None:
    for group in ("strategy", "domain", "model", "schedule"):
        written = {
            yaml.safe_load((CONFIGS / name).read_text())["name"] for name in OPTIONS if name.startswith(f"{group}/")
        }
        assert written == set(component_names(group))
