"""What was found of a pair before any training, and how the field reads it: is the target small, are the domains alike?

Every threshold is named here, with its reason: they are rules of thumb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Size = Literal["none", "small", "medium", "large", "very large"]
Closeness = Literal["similar", "between", "different", "unknown"]
Start = Literal["imagenet", "given", "source", "random", "nowhere"]

SMALL_PER_CLASS = 100
"""Fewer target labels a class are few, and a linear head is what they can fit: sets of 10 to 100 a class (Office-31,
Caltech-101) are where frozen features were found to serve (Donahue et al. 2014, arXiv:1310.1531)."""
MEDIUM_PER_CLASS = 1_000
"""Fewer are middling: ImageNet has some 1,000 images a class, and networks are trained on it whole."""
LARGE_PER_CLASS = 5_000
"""Fewer are many; from here on there are as many as in CIFAR-10 or MNIST, which are learnt from scratch."""
UNLIKELY, LIKELY = 0.5, 0.1
"""MMD or A-distance above the first: transfer is unlikely to work without adaptation; MMD below the second: likely to."""
HOLDS, BREAKS = 0.05, 0.20
"""A probe that loses no more than the first from source to target carries over, one that loses more than the second does
not: five points are the noise of some hundred rows, twenty are every fifth row."""
PROBE_LABELS = 50
"""From so many granted labels on, a probe's accuracy on them (error up to 7 points) says more than probes' agreement."""
PROBE_WORTH = 0.5
"""A probe that gains less than this share of what lies between chance and 1 on its own source says nothing of a target."""
TINY_SOURCE_PER_CLASS = 20
"""A source with fewer rows a class teaches a network little that the target's own labels would not."""
LABEL_SHIFT = 0.2
"""Class shares that differ by more (every fifth row would have to change class) are no noise of some hundred rows."""


@dataclass(frozen=True)
class SpaceFound:
    """How far apart the domains are in one space, and what probes say there; None where that could not be measured.

    source_accuracy, target_accuracy (of granted rows), granted_accuracy (of a probe of their own, cross-validated) and
    the two agreements are those of `metrics.probes.Probes`, in [0, 1].
    """

    name: str
    mmd: float
    a_distance: float
    source_accuracy: float | None
    target_accuracy: float | None
    granted_accuracy: float | None
    source_agreement: float | None
    target_agreement: float | None


@dataclass(frozen=True)
class Findings:
    """What was found of a pair, a model and a budget. Of the target nothing comes from a withheld label.

    source_rows, target_rows: training rows, the first 0 without a source; granted: target labels for training;
    test_labels: target test rows with a label. start: where trained weights come from: ImageNet's, the path that was
    given, a model to be trained on the source; `random` where random ones are asked for, `nowhere` where there are none.
    stages: of the backbone, that learn. imbalance: rows of the commonest class over those of the rarest, of the labels
    that may be read. shares_moved: total variation between the class shares of source and target, by all target labels
    where these are granted (shares_exact) or else by a probe. spaces: the last one decides.
    """

    classes: int
    source_rows: int
    target_rows: int
    granted: int
    test_labels: int
    transductive: bool
    start: Start
    stages: int
    has_batch_norm: bool
    has_bottleneck: bool
    epochs: int
    imbalance: float | None
    shares_moved: float | None
    shares_exact: bool
    spaces: tuple[SpaceFound, ...]

    @property
    def has_source(self) -> bool:
        return self.source_rows > 0

    @property
    def labels_per_class(self) -> float:
        return self.granted / self.classes

    @property
    def share_of_source(self) -> float | None:
        """Granted target labels over source rows; None without a source or without labels."""
        return self.granted / self.source_rows if self.has_source and self.granted else None

    @property
    def has_tiny_source(self) -> bool:
        return self.has_source and self.source_rows < TINY_SOURCE_PER_CLASS * self.classes

    @property
    def has_trained_start(self) -> bool:
        return self.start not in ("random", "nowhere")

    @property
    def has_own_features(self) -> bool:
        """Whether trained weights are there that have not come from the source."""
        return self.start in ("imagenet", "given")

    @property
    def size(self) -> Size:
        """How many target labels there are to learn from."""
        return size_of(self.labels_per_class)

    @property
    def closeness(self) -> Closeness:
        """How alike the domains are: by their distance, then a step nearer or farther by what the probes lose."""
        if not self.spaces:
            return "unknown"
        space = self.spaces[-1]
        far, near = max(space.mmd, space.a_distance) > UNLIKELY, space.mmd < LIKELY
        level = 1 if far == near else 2 if far else 0
        loss = self.probe_loss(space)
        if loss is not None:
            level += (loss > BREAKS) - (loss <= HOLDS)
        levels: tuple[Closeness, ...] = ("similar", "between", "different")
        return levels[min(max(level, 0), 2)]

    def probe_loss(self, space: SpaceFound) -> float | None:
        """What a probe loses from source to target: accuracy where labels enough are granted, else agreement of two.

        None where there is no probe, or one that hardly learns the source.
        """
        if space.source_accuracy is None or space.source_agreement is None or space.target_agreement is None:
            return None
        chance = 1 / self.classes
        if space.source_accuracy - chance < PROBE_WORTH * (1 - chance):
            return None
        if self.judges_by_labels(space) and space.target_accuracy is not None:
            return space.source_accuracy - space.target_accuracy
        return space.source_agreement - space.target_agreement

    def judges_by_labels(self, space: SpaceFound) -> bool:
        """Whether labels enough are granted to judge a probe by."""
        return space.target_accuracy is not None and self.granted >= PROBE_LABELS

    @property
    def suspects_label_shift(self) -> bool:
        """Whether class shares differ: known where all labels are granted, else read off a probe while rows look alike."""
        readable = self.shares_exact or self.closeness in ("similar", "between")
        return readable and self.shares_moved is not None and self.shares_moved > LABEL_SHIFT


def size_of(per_class: float) -> Size:
    """How many rows a class that is, in words."""
    if per_class == 0:
        return "none"
    bounds: dict[Size, int] = {"small": SMALL_PER_CLASS, "medium": MEDIUM_PER_CLASS, "large": LARGE_PER_CLASS}
    return next((size for size, bound in bounds.items() if per_class < bound), "very large")
