"""Any domain of images seen through a worse sensor: the same rows and labels, each image worse in one way.

Six kinds at severities 1 to 5, in the manner of Hendrycks and Dietterich 2019 (ICLR, arXiv:1903.12261), scaled to the
side of the image so that a severity means the same for 8x8 digits and for photographs. What chance decides depends on the split,
the number of the row and the kind alone, so a severity shows the same flaw as the next, only weaker.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, SerializeAsAny

from tlrun.build import component_class
from tlrun.config import ConfigError, DomainSettings
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.files.images import ImageFiles
from tlrun.data.made.sensors import RECIPE, SENSORS


class Degraded(Domain):
    """The images of another domain, blurred, noisy, dark, hidden in part, compressed or coarse."""

    class Config(DomainSettings):
        of: SerializeAsAny[DomainSettings]
        kind: Literal["blur", "noise", "low_light", "occlusion", "jpeg", "low_resolution"]
        severity: Annotated[int, Field(ge=1, le=5)]

        @property
        def shows_characters(self) -> bool:
            return self.of.shows_characters

        def repeats(self, other: DomainSettings) -> bool:
            return other == self.of

        def resolved(self, root: Path) -> Self:
            return self.model_copy(update={"of": self.of.resolved(root)})

    config: Config

    @property
    def _sound(self) -> Domain:
        """The domain as it was before."""
        domain: Domain = component_class("domain", self.config.of.name)(self.config.of, self.places)
        return domain

    def whereabouts(self) -> str:
        return f"{self.config.of.name}: {self._sound.whereabouts()}"

    def load(self) -> DomainData:
        config = self.config
        sound = self._sound.load()
        if isinstance(sound.train.x, ImageFiles):
            raise ConfigError(
                f"data: degraded is made of a domain of images held as arrays, and {config.of.called} is made of files"
            )
        if sound.train.x.ndim != 4:
            raise ConfigError(
                f"data: degraded is made of a domain of images, and the rows of {config.of.name} are features; choose "
                "another with domain@data.target.of=NAME (or domain@data.source.of)"
            )
        splits = {"train": sound.train} | ({"test": sound.test} if sound.test is not None else {})
        # The pixels themselves are hashed: what they were made from may change (a released set put in the data root).
        pixels = {
            split: hashlib.sha256(np.ascontiguousarray(rows.array).data).hexdigest() for split, rows in splits.items()
        }
        inputs = {"pixels": pixels, "kind": config.kind, "severity": config.severity, "recipe": RECIPE}

        def make() -> Arrays:
            sensor = SENSORS[config.kind]
            return {split: sensor(rows.array, config.severity, split) for split, rows in splits.items()}

        arrays = cached_arrays(self.places.cache, f"degraded-{config.kind}", inputs=inputs, make=make)
        seen = {split: Rows(arrays[split], rows.y) for split, rows in splits.items()}
        return DomainData(
            classes=sound.classes,
            train=seen["train"],
            test=seen.get("test"),
            origin=f"{sound.origin}; then degraded: {config.kind}, severity {config.severity} of 5",
            notes=sound.notes,
        )
