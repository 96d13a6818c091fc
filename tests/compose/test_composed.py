"""What is put together from an earlier config is what Hydra composes."""

from __future__ import annotations

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from tlrun.compose.composer import composing


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy=mmd", "seed=3", "strategy.weight=2", "data=mnist_usps"],
        ["data.root=/a b", "strategy=mmd", "strategy.weight=${seed}", "seed=4", "hydra.verbose=true"],
        ["domain@data.target=usps", "augment/mix=cutmix", "engine.ema.decay=null", "optim.lr=1e-3"],
        ["+data.more=1", "seed=1"],
        ["seed=2", "~strategy.weight", "strategy=mmd"],
    ],
)
def test_a_copy_with_values_is_what_hydra_composes_and_leaves_the_next_one_alone(overrides: list[str]) -> None:
    with composing("train", None) as composer:
        composed = composer.composed
        whole = [composed.hydra.compose_config("train", each, RunMode.RUN) for each in (overrides, overrides[1:])]
        ours = [composed.compose(each, RunMode.RUN) for each in (overrides, overrides[1:])]
    for first, second in zip(whole, ours, strict=True):
        assert OmegaConf.to_container(first) == OmegaConf.to_container(second)
        assert OmegaConf.is_struct(first) and OmegaConf.is_struct(second)


def test_jobs_that_choose_the_same_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with composing("train", None) as composer:
        composed = composer.composed
        calls: list[list[str]] = []
        compose = composed.hydra.compose_config

        def counting(name: str, overrides: list[str], *args: object, **kwargs: object) -> object:
            calls.append(overrides)
            return compose(name, overrides, *args, **kwargs)

        monkeypatch.setattr(composed.hydra, "compose_config", counting)
        for seed in range(3):
            for strategy in ("dann", "mmd"):
                composed.compose([f"strategy={strategy}", f"seed={seed}"], RunMode.RUN)
        assert calls == [["strategy=dann"], ["strategy=mmd"]]
