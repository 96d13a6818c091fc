"""A finished run on other rows: which overrides of its settings, which domains and splits, and all figures of each."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from omegaconf import OmegaConf

from tlrun.build import typed_pair
from tlrun.compose.plan import Request, composed
from tlrun.config import ConfigError, PairSettings
from tlrun.data.domain import Part, load_domain, load_pair, roles_of
from tlrun.data.labels import renumbered
from tlrun.data.split_domain import Role, SplitDomain, SplitName, split_domain
from tlrun.data.splits import Labels
from tlrun.metrics.classification import ClassificationMetrics, SplitMetrics
from tlrun.run import Prediction
from tlrun.trained import ROLES, Trained, check_same_data

Which = Literal["train", "val", "test", "all"]
INPUTS = ("image_size", "channels", "normalize", "fit", "crop_fraction", "interpolation")
"""Settings of `data` that the model was trained for; an evaluation takes them from the run."""
HOW_READ = ("root", "cache", "cache_root", "cache_gigabytes", "workers", "download", "label_sets")
"""Settings of `data` that change none of a run's own rows."""
BASE = "the_run"
"""The name under which a run's own pair can be chosen while its overrides are composed."""


@dataclass(frozen=True)
class Asked:
    """The node `data` to evaluate on. domains: those that the overrides name; empty where they name none."""

    data: PairSettings
    domains: tuple[Role, ...]


@dataclass(frozen=True)
class Evaluated:
    """One split of one domain: where it is from, all its figures, and what was said of each row."""

    domain: Role
    split: Which
    name: str
    origin: str
    metrics: SplitMetrics
    predictions: Sequence[Prediction]


def asked_data(trained: Trained, overrides: Sequence[str], *, config_dir: str | None) -> Asked:
    """The run's own `data` with overrides as on the command line of a run. Raises ConfigError, with all problems."""
    given = trained.config.data
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    problems = [f"{key}: not a setting of data; an evaluation takes data=..., domain@data...=... and data.<key>=..."
                for key in keys if key.partition(".")[0] != "data" and not key.startswith("domain@data.")]  # fmt: skip
    problems += [f"data.{key}: is the run's own ({getattr(given, key)}), since its model takes no other inputs"
                 for key in INPUTS if f"data.{key}" in keys]  # fmt: skip
    named = ROLES if "data" in keys else _domains(keys)
    if not named:
        splitting = [f"data.{key}" for key in PairSettings.model_fields if key not in (*HOW_READ, *INPUTS)]
        problems += [f"{key}: would split the run's own rows anew, so that rows it has learnt from could be tested; name "
                     "what to evaluate on, with domain@data.target=... or data.target.KEY=..."
                     for key in keys if key in splitting]  # fmt: skip
    if problems:
        raise ConfigError(problems)
    data = typed_pair(_composed(given, overrides, config_dir)) if overrides else given
    own = inputs_taken(trained) if named else {key: getattr(given, key) for key in INPUTS}
    root = Path(data.root).expanduser()
    own |= {role: getattr(data, role).resolved(root) for role in roles_of(data)}
    return Asked(data.model_copy(update=own), roles_of(data) if "data" in keys else named)


def inputs_taken(trained: Trained) -> dict[str, Any]:
    """The settings of `data` under which rows of any domain become what the model takes."""
    shape = trained.shape
    sizes: dict[str, Any] = {"image_size": None, "channels": None}
    if len(shape) == 3:
        sizes = {"image_size": shape[1] if shape[1] == shape[2] else None, "channels": shape[0]}
    return {key: getattr(trained.config.data, key) for key in INPUTS} | sizes


def _domains(keys: Sequence[str]) -> tuple[Role, ...]:
    return tuple(
        role
        for role in ROLES
        if any(f"{key.removeprefix('domain@')}.".startswith(f"data.{role}.") for key in keys)
    )  # fmt: skip


def _composed(given: PairSettings, overrides: Sequence[str], config_dir: str | None) -> dict[str, Any]:
    """The node `data`, by Hydra: the run's own pair is one more choice, in a folder that lives as long as this call."""
    plain = given.model_dump(mode="json", by_alias=True)
    with tempfile.TemporaryDirectory(prefix="tlrun-") as folder:
        choices: list[dict[str, str | None]] = []
        for role in ROLES:
            if plain[role] is not None:
                _write(Path(folder, "domain", f"{BASE}_{role}.yaml"), plain.pop(role))
            choices.append({f"/domain@{role}": f"{BASE}_{role}" if role in roles_of(given) else None})
        _write(Path(folder, "data", f"{BASE}.yaml"), {"defaults": ["_self_", *choices], **plain})
        chosen = any(override.startswith("data=") for override in overrides)
        search = [f"hydra.searchpath=['file://{Path(config_dir).resolve()}']"] if config_dir else []
        base = [] if chosen else [f"data={BASE}"]
        node = composed(Request((*search, *base, *overrides), config_dir=folder))["data"]
    assert isinstance(node, dict)
    return node


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(content)))


def evaluate(
    trained: Trained,
    asked: Asked,
    *,
    domains: Sequence[Role],
    splits: Sequence[Which],
    advance: Callable[[int], object],
) -> Iterator[Evaluated]:
    """Every split of every domain that has rows. advance: told how many rows are done with.

    Without a domain named, val and test are those of the run, with its planted noise and without granted rows where
    they leave the test set. Raises ConfigError where data are missing or do not fit the model, RunError for files, and
    where the run's own data are others than it was trained on.
    """
    pair = None
    if not asked.domains:
        pair = load_pair(asked.data, seed=trained.config.seed, device=trained.runtime.device)
        check_same_data(pair, trained.fingerprint, where="eval")
    for domain in domains:
        read = functools.cache(partial(_domain, trained, asked.data, domain))
        for split in splits:
            if pair is not None and split in ("val", "test"):
                part, card = pair.parts[f"{domain}_{split}"], pair.card[domain]
                name, origin = card["name"], card["origin"]
            else:
                found = read(whole=split == "all")
                part = _part(trained, found, domain, "test" if split == "all" else split, asked.data)
                name, origin = found.name, found.origin
            if len(part):
                metrics, predictions = _measured(trained, part, split, advance)
                yield Evaluated(domain, split, name, origin, metrics, predictions)


def _domain(trained: Trained, data: PairSettings, role: Role, *, whole: bool) -> SplitDomain:
    """One domain, split as a target is: its labels may be unknown, and it may lack classes. whole: all rows are test."""
    settings = data.source if role == "source" else data.target
    is_whole = whole or (role == "target" and data.is_transductive)
    alone = data.model_copy(
        update={
            "source": settings,
            "target": settings,
            "target_rows": data.source_rows if role == "source" else data.target_rows,
            "protocol": "transductive" if is_whole else "split",
        }
    )
    found = replace(split_domain(load_domain(alone, "target"), role="target", config=alone), role=role)
    _check_rows(trained, found)
    return found


def _check_rows(trained: Trained, domain: SplitDomain) -> None:
    """Raises ConfigError where the model does not take such rows."""
    shape, rows = trained.shape, domain.splits["train"].x.shape[1:]
    takes = f"images of {'x'.join(map(str, shape[1:]))}" if len(shape) == 3 else f"{shape[0]} features"
    if domain.is_image != (len(shape) == 3) or (len(shape) == 1 and rows != shape):
        has = "images" if domain.is_image else f"{rows[0]} features"
        raise ConfigError(f"data: {domain.told} has {has}, and the run's model takes {takes}")
    if domain.is_image and any(side < least for side, least in zip(rows[:2], shape[1:], strict=True)):
        raise ConfigError(f"data: {domain.told} has images of {rows[0]}x{rows[1]}, and the run's model takes {takes}")


def _part(trained: Trained, domain: SplitDomain, role: Role, split: SplitName, data: PairSettings) -> Part:
    device, rows = trained.runtime.device, domain.splits[split]
    y = renumbered(rows.y, class_numbers(domain, trained.task.classes, data.label_sets))
    return Part(
        name=f"{role}_{split}",
        domain=role,
        x=rows.x.to(device),
        y=torch.from_numpy(y).to(device),
        index=torch.arange(len(rows), device=device),
        rows=torch.from_numpy(rows.rows),
    )


def class_numbers(domain: SplitDomain, classes: Sequence[str], label_sets: str) -> Labels:
    """The run's number of each of the domain's classes, by name; -1 where the run lacks it.

    closed: both know the same; partial: the domain may lack some; open: it may have more, whose rows are not counted. A
    domain with unknown labels may lack any. Raises ConfigError naming the classes that one side has alone.
    """
    more = [name for name in domain.classes if name not in classes]
    lacking = [] if domain.has_unknown else [name for name in classes if name not in domain.classes]
    refused = [*(more if label_sets != "open" else []), *(lacking if label_sets != "partial" else [])]
    if refused:
        sides = [f"only {domain.told} has {', '.join(more)}"] if more else []
        sides += [f"only the run has {', '.join(lacking)}"] if lacking else []
        fits = "open" if not lacking else "partial" if not more else None
        hint = f"; set data.label_sets={fits} if that is meant" if fits else ""
        raise ConfigError(f"data.label_sets: {label_sets} does not allow that {' and '.join(sides)}{hint}")
    known = {name: number for number, name in enumerate(classes)}
    return np.array([known.get(name, -1) for name in domain.classes], dtype=np.int64)


def _measured(
    trained: Trained, part: Part, split: Which, advance: Callable[[int], object]
) -> tuple[SplitMetrics, list[Prediction]]:
    metrics = ClassificationMetrics(trained.task.num_classes, trained.runtime.device)
    assert part.y is not None and part.rows is not None
    path = getattr(part.x, "path", None)
    rows, labels = part.rows.tolist(), part.y.tolist()
    predictions: list[Prediction] = []
    for examples, output in trained.evaluator.outputs(part):
        assert examples.y is not None
        metrics.update(output.logits, examples.y)
        for shares in output.logits.softmax(dim=1).tolist():
            at = len(predictions)
            predictions.append(Prediction(split, rows[at], labels[at], shares, path(at) if path else None))
        advance(len(examples))
    return metrics.result(), predictions
