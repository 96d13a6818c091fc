"""Domains that stay in memory from one run of a command to the next, so that a sweep reads and splits each once.

Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tlrun.config import PairSettings

if TYPE_CHECKING:
    from tlrun.data.split_domain import Role, SplitDomain

_RUNS_OWN = ("target_labels", "target_val_labels", "source_label_noise", "label_sets", "normalize", "mean", "std")
"""Settings of `data` that matter only once the domains are split: what a run makes of them."""

_domains: ContextVar[dict[str, SplitDomain] | None] = ContextVar("domains", default=None)


@contextmanager
def keeping_domains() -> Iterator[None]:
    """Within it the domains read last are kept: those of one pair, so that memory holds no more than a run needs."""
    token = _domains.set({})
    try:
        yield
    finally:
        _domains.reset(token)


def domain_key(config: PairSettings, role: Role) -> str:
    """One text for all that decides how a domain is read and split: every setting but those of the other domain and
    of what a run makes of the rows."""
    other = "target" if role == "source" else "source"
    own = config.model_dump(mode="json", exclude={*_RUNS_OWN, other, f"{other}_rows"})
    return json.dumps([role, config.source is None, own], sort_keys=True)


def forget_all_but(keys: Collection[str]) -> None:
    """Lets go of other domains, before the next ones are read."""
    kept = _domains.get() or {}
    for key in kept.keys() - set(keys):
        del kept[key]


def kept_domain(key: str, read: Callable[[], SplitDomain]) -> SplitDomain:
    """The domain of that key, as it was read before or is now. It is shared: nothing of it may be written to."""
    kept = _domains.get()
    if kept is None:
        return read()
    if key not in kept:
        kept[key] = read()
    return kept[key]
