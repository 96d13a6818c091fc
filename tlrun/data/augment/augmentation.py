"""The augmentation of training rows that a config asks for, drawn on the CPU and applied to whole batches on any device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlrun.config import AugmentSettings, ConfigError
from tlrun.data.augment.colour import jitter, paint_boxes, scale_contrast
from tlrun.data.augment.geometry import crop_centre, draw_boxes, mirror_images, random_crop, shift_images
from tlrun.data.augment.per_image import PerImage
from tlrun.data.augment.randaugment import rand_augment
from tlrun.data.domain import DomainPair
from tlrun.data.split_domain import Role
from tlrun.data.transforms import Shape


class Augmentation:
    """One pipeline for raw rows: albumentations per image, crop, mirror, shift, RandAugment, colour, erasing.

    shape: (C, H, W) of what leaves, which is what the model takes; rows: (N, H, W, C) of what comes, None for that size.
    Rows that are larger and are not cropped at random lose their margin. Mixing, `target` and `views` are not done
    here. where: the key to name in errors. Raises ConfigError, with all that is wrong, when such rows cannot be
    augmented so.
    """

    def __init__(
        self,
        settings: AugmentSettings,
        shape: Shape,
        *,
        rows: Shape | None = None,
        where: str = "augment",
    ) -> None:
        self.settings = settings
        if problems := _problems(settings, shape, where):
            raise ConfigError(problems)
        self._shape = shape
        self._size = (shape[1], shape[2]) if len(shape) == 3 else (0, 0)
        self._per_image: PerImage | None = None
        if settings.albumentations:
            height, width = rows[1:3] if rows else self._size
            given = (height, width, shape[0])
            self._per_image = PerImage(settings.albumentations, given, self._size, where=f"{where}.albumentations")

    @property
    def is_per_image(self) -> bool:
        return self._per_image is not None

    def __call__(self, x: Tensor, *, generator: torch.Generator, seeds: NDArray[np.uint64] | None) -> Tensor:
        """x (N, H, W, C) uint8 to the same in the model's size, or to float32 in 0..255 where contrast alone changes.

        Both are for `to_batch`. generator: on the CPU, for the whole batch; seeds: one for each row (N,), needed where
        `is_per_image`. x itself is left alone.
        """
        if self._per_image is not None:
            if seeds is None:
                raise ValueError("operations per image need a seed for each row")
            x = self._per_image(x.expand(-1, -1, -1, self._shape[0]), seeds)
        return self._coloured(self._moved(x, generator), generator)

    def _moved(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """What changes where pixels are."""
        settings = self.settings
        if settings.crop is not None:
            x = random_crop(x, settings.crop, self._size, generator)
        else:
            x = crop_centre(x, self._shape)
        if settings.flip:
            assert settings.flip != "auto"
            x = mirror_images(x, (torch.rand(len(x), generator=generator) < settings.flip).to(x.device))
        if settings.shift:
            reach = settings.shift
            down, right = torch.randint(-reach, reach + 1, (2, len(x)), generator=generator).to(x.device)
            x = shift_images(x, down, right)
        return x

    def _coloured(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """What changes what pixels are; RandAugment does both."""
        settings, rows = self.settings, len(x)
        if settings.randaugment is not None:
            x = rand_augment(x, settings.randaugment, generator)
        if settings.brightness or settings.saturation or settings.hue:
            draws = 2 * torch.rand(4, rows, generator=generator) - 1
            amounts = (settings.brightness, settings.contrast, settings.saturation)
            brightness, contrast, saturation = (1 + amounts[place] * draws[place] for place in range(3))
            x = jitter(x, brightness, contrast, saturation, settings.hue * draws[3])
        elif settings.contrast:
            factor = 1 + settings.contrast * (2 * torch.rand(rows, generator=generator) - 1)
            x = scale_contrast(x, factor.to(x.device))
        if settings.erase is not None:
            which = torch.rand(rows, generator=generator) < settings.erase.share
            boxes = draw_boxes(rows, self._size, settings.erase.area, settings.erase.aspect, generator)
            x = paint_boxes(x, boxes, which)
        return x


def pipelines(
    settings: AugmentSettings, domain: Role, shape: Shape, rows: Shape | None = None
) -> tuple[Augmentation, Augmentation]:
    """What rows of a domain get in their first view and in every further one. Raises ConfigError as Augmentation does."""
    own = settings.of(domain)
    where = "augment" if own is settings else "augment.target"
    first = Augmentation(own, shape, rows=rows, where=where)
    further = first if own.views is None else Augmentation(own.views, shape, rows=rows, where=f"{where}.views")
    return first, further


def check_augmentation(settings: AugmentSettings, pair: DomainPair) -> None:
    """Raises ConfigError, with all that is wrong, when rows of the pair cannot be augmented as the settings ask."""
    problems: list[str] = []
    for name in ("source_train", "target_unlabelled"):
        if part := pair.parts.get(name):
            try:
                pipelines(settings, part.domain, pair.shape, part.x.shape)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def _problems(settings: AugmentSettings, shape: Shape, where: str) -> list[str]:
    """What keeps rows that become `shape` from being augmented so."""
    if len(shape) != 3:
        told = [] if settings.keeps_images else ["the rows are features, not images; only augment=none fits them"]
        cutmix = settings.mix is not None and settings.mix.cutmix > 0
        told += ["the rows are features, not images; augment.mix.cutmix must be 0 (mixup fits them)"] * cutmix
        return [f"{where}: {each}" for each in told]
    problems = []
    if settings.shift and settings.shift >= min(shape[1:]):
        problems.append(f"{where}.shift: must be below the image side {min(shape[1:])}, got {settings.shift}")
    if shape[0] == 1:
        problems += [
            f"{where}.{name}: grey images have no colour to change; set it to 0"
            for name in ("saturation", "hue")
            if getattr(settings, name)
        ]
    return problems
