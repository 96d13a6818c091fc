"""A sweep before it starts: every run built up to its first step, so that what is wrong with any is told at once."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Sequence

from tlrun.compose.resolve import name_choices, name_machine, pretrain_config
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.data.augment.augmentation import check_augmentation
from tlrun.data.domain import DomainPair, load_pair
from tlrun.experiment import build_engine, untrained
from tlrun.run import RunFolder

log = logging.getLogger(__name__)


def rehearse(configs: Sequence[ExperimentConfig]) -> list[list[str]]:
    """What the user can mend in each run of a sweep, found by building it up to its first step; writes no run folder.

    Runs that differ in nothing but seed and place are built once, finished ones not at all. Whatever else goes wrong
    is left for the run itself to tell.
    """
    found: dict[str, list[str]] = {}
    pairs: dict[str, DomainPair] = {}
    every = []
    for config in configs:
        key = json.dumps({**config.to_dict(), "seed": 0, "run": {}})
        if key in found:
            every.append(found[key])
            continue
        every.append([])
        try:
            if _build(config, pairs):
                found[key] = []
        except ConfigError as error:
            every[-1] = found[key] = error.problems
        except Exception:
            log.debug("a run could not be rehearsed", exc_info=True)
    pairs.clear()
    gc.collect()
    return every


def _build(config: ExperimentConfig, pairs: dict[str, DomainPair]) -> bool:
    """Whether the run is still to be done; builds it if so. pairs: the one built last, by its settings."""
    config, device = name_machine(name_choices(config))
    folder = RunFolder.of(config)
    if folder.state() == "done" and not config.run.fresh:
        return False
    if (key := f"{config.data.model_dump_json()} {device}") not in pairs:
        pairs.clear()  # before the next is loaded, so that memory holds one, as in the sweep itself
        pairs[key] = load_pair(config.data, seed=config.seed, device=device)
    pair = pairs[key]
    check_augmentation(config.augment, pair)
    if config.model.weights == "source":
        _build(pretrain_config(config), pairs)
        config = untrained(config)
    build_engine(config, pair, folder, device, source=None)
    return True
