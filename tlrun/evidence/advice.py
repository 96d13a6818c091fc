"""The field's rules of thumb: from what was found of a pair to the strategies worth trying, in order, and why.

Pure logic. None of it is evidence; `tlrun compare` is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tlrun.evidence.findings import LIKELY, Closeness, Findings, Size, size_of

TRANSFER_SHARE = 0.1
"""Transfer is worth considering where the target has less than this share of the source's rows."""
FEW_PER_CLASS = 5
"""With fewer labels a class five folds cannot each hold one of every class."""
IMBALANCE = 10.0
"""A class that is so many times rarer than the commonest hardly shows in a mean accuracy."""
TOP_STAGES = 2
"""How many stages are meant by the top layers; one where a network has only two."""
BOTTLENECK = 256
"""Features to adapt above a frozen backbone: the usual width on Office-31 since Long et al. 2015 (arXiv:1502.02791)."""

TUNING = ("feature_extract", "fine_tune", "progressive", "scratch")
ALIGNING = ("dann", "cdan", "mmd", "deep_coral")
ADAPTING = (*ALIGNING, "mcc", "adabn")

BY_SIZE = "Yosinski et al. 2014, arXiv:1411.1792; CS231n, notes on transfer learning"
BY_BOUND = "far apart, no labels: adapt; target error is bounded by source error and the domains' distance (Ben-David et al. 2010)"
EXPERIMENTS = "README, Experiments"


@dataclass(frozen=True)
class Recommendation:
    """A strategy to try, with its settings, why (the situation, and what to do in it), and by which rule of thumb."""

    strategy: str
    settings: tuple[str, ...]
    reason: str
    rule: str


@dataclass(frozen=True)
class Avoided:
    """Strategies not to bother with, and why."""

    strategies: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Advice:
    """What to try, in order; what not to bother with; what else the figures say. situation: the figures that decided."""

    situation: str
    recommendations: tuple[Recommendation, ...]
    avoided: tuple[Avoided, ...]
    notes: tuple[str, ...]


def advise(found: Findings) -> Advice:
    """What the rules of thumb say of these findings."""
    every = [_recommendation(move, found) for move in _moves(found)]
    recommendations = tuple({(each.strategy, each.settings): each for each in reversed(every)}.values())[::-1]
    named = {each.strategy for each in recommendations}
    avoided = []
    for strategies, reason in _avoided(found):
        left = tuple(each for each in strategies if each not in named)
        named.update(left)
        if left:
            avoided.append(Avoided(left, reason))
    return Advice(situation(found), recommendations, tuple(avoided), tuple(_notes(found)))


Move = Literal["floor", "features", "top", "gradual", "whole", "scratch", "dann", "cdan", "mmd", "mcc"]

_WITHOUT_LABELS: dict[Closeness, tuple[Move, ...]] = {
    "similar": ("floor", "mcc", "cdan"),
    "between": ("cdan", "mcc", "dann"),
    "different": ("dann", "cdan", "mmd"),
    "unknown": ("dann", "cdan", "mmd"),
}
_WITH_LABELS: dict[Size, dict[Closeness, tuple[Move, ...]]] = {
    "small": {
        "similar": ("features", "top", "cdan"),
        "between": ("features", "dann", "top"),
        "different": ("dann", "features", "top"),
        "unknown": ("features", "dann", "top"),
    },
    "medium": {
        "similar": ("top", "features", "whole"),
        "between": ("top", "dann", "whole"),
        "different": ("dann", "gradual", "whole"),
        "unknown": ("top", "gradual", "whole"),
    },
    "large": dict.fromkeys(("similar", "between", "different", "unknown"), ("whole", "gradual", "top")),
    "very large": dict.fromkeys(("similar", "between", "different", "unknown"), ("whole", "scratch")),
}


def _moves(found: Findings) -> tuple[Move, ...]:
    """What to try, in order, of what can be tried at all."""
    size = found.size
    moves: tuple[Move, ...]
    if size == "none":
        moves = _WITHOUT_LABELS[found.closeness] if found.has_source else ()
    elif not found.has_trained_start:
        moves = ("dann", "scratch") if found.has_source and size == "small" else ("scratch",)
    elif found.has_tiny_source and not found.has_own_features:
        moves = ("scratch", "whole")
    else:
        moves = _WITH_LABELS[size][found.closeness]
        if not found.has_source or found.has_tiny_source:  # what is left needs no source
            moves = tuple(each for each in moves if each not in ALIGNING)
        elif size in ("medium", "large") and (found.share_of_source or 0) >= TRANSFER_SHARE:
            moves = (*moves[:2], "scratch")
    if found.suspects_label_shift:
        moves = tuple(sorted(moves, key=lambda each: each in ALIGNING))
    return moves


_WHY: dict[Move, tuple[str, str]] = {
    "floor": (
        "what is learnt on the source may serve as it is, and all else is held against it",
        f"MMD below {LIKELY}: transfer is likely to work without adaptation",
    ),
    "features": (
        "keep the trained features as they are and fit the head alone",
        f"small and similar: feature extraction ({BY_SIZE})",
    ),
    "top": ("keep the lower stages and fit the top", f"medium and similar: the top layers ({BY_SIZE})"),
    "gradual": (
        "open the network from the top, so that lower stages move last and least",
        "medium and different: progressive, a stage at a time (Howard and Ruder 2018, arXiv:1801.06146)",
    ),
    "whole": ("move every stage, the trained ones at a tenth of the rate", f"large: full fine-tuning ({BY_SIZE})"),
    "scratch": ("see whether transfer is needed at all", f"very large: from scratch too ({BY_SIZE})"),
    "dann": ("bring the domains' features together", BY_BOUND),
    "cdan": ("bring the domains together class by class, as far as predictions tell", BY_BOUND),
    "mmd": ("match the features without a discriminator, which cannot lose its balance", BY_BOUND),
    "mcc": (
        "sharpen predictions that are mostly right",
        f"minimum class confusion gains where most predictions are right: the best on the USPS pairs and Office-31, below "
        f"the floor on MNIST-M ({EXPERIMENTS})",
    ),
}
_STRATEGY: dict[Move, str] = {
    "floor": "source_only",
    "features": "feature_extract",
    "top": "fine_tune",
    "whole": "fine_tune",
    "gradual": "progressive",
}


def _recommendation(move: Move, found: Findings) -> Recommendation:
    if move == "gradual" and found.stages + 1 > found.epochs:  # the head and each stage need an epoch
        move = "top"
    because, rule = _WHY[move]
    settings: tuple[str, ...] = ()
    if move == "top":
        settings = _top(found)
    elif move == "scratch" and found.size != "very large":
        because, rule = _alone(found)
    elif move in ALIGNING or move == "mcc":
        settings, how, by = _opened(found)
        because, rule = because + how, by or rule
    strategy = _STRATEGY.get(move, move)
    return Recommendation(strategy, settings, f"{situation(found)}: {because}", rule)


def _alone(found: Findings) -> tuple[str, str]:
    """Why to train on the target alone where it has not very many labels, and by which rule."""
    held = "what transfer is held against in Yosinski et al. 2014, arXiv:1411.1792"
    if not found.has_trained_start:
        why = "random weights are asked for" if found.start == "random" else "no trained weights are there"
        return (
            f"learn from them alone, since {why}",
            f"nothing to transfer: from scratch ({held})",
        )
    if found.has_tiny_source:
        few = f"learn from them alone, since {found.source_rows:,} source rows teach little more"
        return few, f"source tiny: from scratch ({held})"
    worth = f"worth considering below {100 * TRANSFER_SHARE:.0f} % as many labels as source rows, here"
    share = f"{100 * (found.share_of_source or 0):.0f} %"
    return _WHY["scratch"][0], f"transfer is {worth} {share}: from scratch too ({held})"


def _opened(found: Findings) -> tuple[tuple[str, ...], str, str]:
    """How far an adaptation opens the network: settings, what to say of it, and by which rule if not the method's own.

    Frozen features are worth adapting where they do not come from the source: those of a model that has seen nothing
    else are the source's own, and freezing them would leave little to bring together.
    """
    size = found.size
    then = "" if size == "none" else ", then fine-tune on the granted labels"
    few = size_of(found.target_rows / found.classes if size == "none" else found.labels_per_class) == "small"
    small = f"small and different: feature extraction with adaptation ({BY_SIZE})"
    if few and found.has_own_features:
        bottleneck = () if found.has_bottleneck else (f"model.bottleneck={BOTTLENECK}",)
        why = f", since {found.target_rows:,} target rows are few" if size == "none" else ""
        return ("strategy.train=head", *bottleneck), f", above frozen features{why}{then}", small
    if size == "small":
        return (), then, f"{small}, here the features are adapted too, since they are the source's alone"
    if size == "medium" and found.has_trained_start:
        by = f"medium and different: progressive with adaptation ({BY_SIZE})"
        if found.stages + 2 > found.epochs:  # the head, each stage and the fine-tuning need an epoch
            return _top(found), f", in the top stages{then}", by
        return ("strategy.train=progressive",), f", opening a stage at a time{then}", by
    return (), then, ""


def _top(found: Findings) -> tuple[str, str]:
    return ("strategy.train=last_k", f"strategy.last_k={max(1, min(TOP_STAGES, found.stages - 1))}")


def situation(found: Findings) -> str:
    """The figures that decided, in words."""
    how_many = {"small": "few", "medium": "a middling number", "large": "many", "very large": "very many"}
    size, closeness = found.size, found.closeness
    labels = "no target label is granted" if size == "none" else f"{per_class(found)} are {how_many[size]}"
    if closeness == "unknown":
        return labels
    space = found.spaces[-1]
    apart = {"similar": "close", "between": "neither close nor far apart", "different": "far apart"}[closeness]
    figures = [f"MMD {space.mmd:.2f}", f"A-distance {space.a_distance:.2f}"]
    loss = found.probe_loss(space)
    if loss is not None:
        what = "a source probe loses {} points" if found.judges_by_labels(space) else "probes agree less by {} points"
        figures.append(what.format(f"{100 * max(loss, 0):.0f}"))
    return f"{labels} and the domains are {apart} ({', '.join(figures)})"


def per_class(found: Findings) -> str:
    """The granted labels, in words."""
    number = f"{found.labels_per_class:,.0f}" if found.labels_per_class >= 1 else "less than 1"
    return f"{number} target label{'' if number == '1' else 's'} a class"


def _is_too_few_for_scratch(found: Findings) -> bool:
    """Whether the granted labels are too few for random weights, and trained ones are there."""
    return found.size in ("small", "medium") and "scratch" not in _moves(found) and not _learns_alone(found)


def _learns_alone(found: Findings) -> bool:
    """Whether the granted labels are no small part of the source's rows, and teach a probe more than the source does."""
    if not found.spaces or (found.share_of_source or 0) < TRANSFER_SHARE:
        return False
    space = found.spaces[-1]
    if space.granted_accuracy is None or space.target_accuracy is None or not found.judges_by_labels(space):
        return False
    return space.granted_accuracy > space.target_accuracy


def _avoided(found: Findings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Strategies and why not, the strongest reason first."""
    size, share = found.size, found.share_of_source
    if size == "none":
        yield TUNING, "learn from target labels, and none is granted; data.target_labels=N grants N a class"
    if not found.has_source:
        yield ("source_only", *ADAPTING), "need a source; name one with domain@data.source=NAME"
    if found.start == "random" and size != "none":
        yield TUNING[:3], "start from trained weights, and model.weights=random asks for none"
    if found.start == "nowhere" and size != "none":
        yield TUNING[:3], "start from trained weights, and there are none; model=resnet18 has ImageNet's"
    if found.has_tiny_source and size != "none":
        rows = f"{found.source_rows:,} source rows for {found.classes} classes"
        yield ("source_only", *ADAPTING), f"{rows} are too few to adapt from"
    if size in ("large", "very large"):
        yield ADAPTING, f"{per_class(found)} leave little that rows without labels could add"
    if _is_too_few_for_scratch(found):
        fewer = f", {100 * share:.1f} % of the source's rows," if share is not None and share < TRANSFER_SHARE else ""
        yield ("scratch",), f"{per_class(found)}{fewer} teach random weights little; compare runs it all the same"
    if not found.has_batch_norm:
        yield ("adabn",), "the model has no batch normalisation"
    yield ("adabn",), "dann, cdan, mmd and mcc keep each domain's own batch statistics already"
    if found.closeness == "similar":
        yield ALIGNING, f"at MMD {found.spaces[-1].mmd:.2f} there is little to align"
    yield ("deep_coral",), f"matches covariances alone; the weakest of the aligning methods on digits ({EXPERIMENTS})"
    if size == "none" and found.closeness in ("different", "between"):
        yield ("source_only",), "as an answer: unlikely to work without adaptation; compare runs it as the floor"


def _notes(found: Findings) -> Iterator[str]:
    """What else the figures say."""
    share = found.share_of_source
    if found.granted == 0 and not found.has_source:
        yield "nothing can be learnt: no target label is granted and there is no source; grant labels, or name a source"
    if 0 < found.labels_per_class < FEW_PER_CLASS:
        yield f"{per_class(found)} can neither select nor judge, and much hangs on which rows they are: use several seeds"
    if share is not None and share >= TRANSFER_SHARE and not _is_too_few_for_scratch(found):
        yield (
            f"the target has {100 * share:.0f} % as many labels as the source has rows, and transfer is worth considering "
            f"below {100 * TRANSFER_SHARE:.0f} %: scratch may do as well"
        )
    if found.has_tiny_source:
        yield f"the source is tiny, {found.source_rows:,} rows for {found.classes} classes; a larger one would come first"
    if found.imbalance is not None and found.imbalance >= IMBALANCE:
        yield (
            f"the commonest class has {found.imbalance:.0f} times the rows of the rarest: read macro F1 beside accuracy, "
            "and try engine.sampling=balanced"
        )
    if found.suspects_label_shift:
        how = "differ" if found.shares_exact else "seem to differ"
        yield (
            f"class shares {how} between the domains, by {100 * (found.shares_moved or 0):.0f} % of the rows: bringing the "
            "features together can then do harm (Zhao et al. 2019, arXiv:1901.09453), so methods that do come last"
        )
    if found.has_source and not found.granted and found.closeness in ("different", "unknown"):
        yield (
            "mcc is a bet: it sharpens what is predicted already, right or wrong, and was the best on the USPS pairs and "
            f"Office-31, below the floor on MNIST-M ({EXPERIMENTS})"
        )
    if found.transductive:
        yield "under data.protocol=transductive the test rows are those adapted to, and there is no ceiling to compare with"
    if found.test_labels == 0:
        yield "no target test row has a label, so no run can be judged: label some before believing any of this"
