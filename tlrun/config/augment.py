"""The types of the node `augment`: what is done to training rows, of each domain and in each view."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tlrun.config.base import Count, Fraction, HalfOpenFraction, Natural, NonNegative, Positive, Settings


class CropSettings(Settings):
    """A random part of each image, scaled to the model's size: its share of the area, its width over its height."""

    area: tuple[Positive, Fraction]
    aspect: tuple[Positive, Positive]

    def problems(self) -> list[str]:
        return _order_problems(area=self.area, aspect=self.aspect)


class RandAugmentSettings(Settings):
    """So many operations on each image, drawn evenly from fourteen, all of one magnitude."""

    operations: Count
    magnitude: Annotated[float, Field(ge=0, le=30)]


class EraseSettings(Settings):
    """A rectangle of this share of the area, painted over in this share of the images."""

    share: Fraction
    area: tuple[Positive, Fraction]
    aspect: tuple[Positive, Positive]

    def problems(self) -> list[str]:
        return _order_problems(area=self.area, aspect=self.aspect)


class MixSettings(Settings):
    """Labelled rows mixed with others of their batch: parameter of each method's Beta distribution (0: not that one)."""

    mixup: NonNegative
    cutmix: NonNegative
    share: Fraction

    def problems(self) -> list[str]:
        return [] if self.mixup or self.cutmix else ["mixup: or cutmix must be above 0; augment/mix=none mixes nothing"]


class AugmentSettings(Settings):
    """Augmentation of training rows, in this order: albumentations per image, then tensor operations on whole batches.

    flip: the share of images that are mirrored; auto is a half, and 0 for domains that show characters. mix: labelled
    rows of either domain mixed, after all else. target: what target rows get, as a whole; None the same as source rows.
    views: what each further view gets that a strategy asks for (`Needs.views`); None the same as the first one.
    """

    albumentations: list[dict[str, Any]]
    crop: CropSettings | None
    flip: Literal["auto"] | Fraction
    shift: Natural
    randaugment: RandAugmentSettings | None
    brightness: HalfOpenFraction
    contrast: HalfOpenFraction
    saturation: Fraction
    hue: Annotated[float, Field(ge=0, le=0.5)]
    erase: EraseSettings | None
    mix: MixSettings | None
    target: AugmentSettings | None
    views: AugmentSettings | None

    @property
    def is_identity(self) -> bool:
        """Whether no row of either domain is changed in any view."""
        return self.keeps_images and self.mix is None and all(each is None or each.is_identity for each in self._below)

    @property
    def keeps_images(self) -> bool:
        """Whether this pipeline itself leaves an image as it is (mixing apart)."""
        whole = (self.crop, self.randaugment, self.erase, self.albumentations)
        amounts = (self.flip, self.shift, self.brightness, self.contrast, self.saturation, self.hue)
        return not any(whole) and not any(amounts)

    @property
    def _below(self) -> tuple[AugmentSettings | None, AugmentSettings | None]:
        return self.target, self.views

    def of(self, domain: Literal["source", "target"]) -> AugmentSettings:
        """What the rows of one domain get."""
        return self.target if domain == "target" and self.target is not None else self

    def resolved(self, *, characters: bool) -> AugmentSettings:
        """The same with `flip=auto` named."""
        below = {
            name: None if each is None else each.resolved(characters=characters)
            for name, each in zip(("target", "views"), self._below, strict=True)
        }
        flip = (0.0 if characters else 0.5) if self.flip == "auto" else self.flip
        return self.model_copy(update={"flip": flip, **below})

    def problems(self) -> list[str]:
        alone = {"target": ("target", "mix"), "views": ("target", "views", "mix")}
        return [
            f"{where}.{name}: must be null there"
            for where, below in zip(alone, self._below, strict=True)
            for name in alone[where]
            if below is not None and getattr(below, name) is not None
        ]


def _order_problems(**ranges: tuple[float, float]) -> list[str]:
    """Ranges must go from the smaller to the larger number."""
    return [
        f"{name}: must go from the smaller to the larger, got [{low:g}, {high:g}]"
        for name, (low, high) in ranges.items()
        if low > high
    ]
