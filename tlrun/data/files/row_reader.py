"""Files as rows of a domain that a run knew: decoded ahead of the model, and fitted as the run fitted its own rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tlrun.config import PairSettings
from tlrun.data.files.images import BadImage, fit_image, read_whole
from tlrun.data.files.reading import in_order
from tlrun.data.opened import file_reading
from tlrun.data.transforms import Shape, fit

Pixels = NDArray[np.uint8]


class RowReader:
    """Reads image files for one domain of a trained run, by the run's own settings.

    Where that domain was made of files, a file becomes a row as it did there. Where it was held as arrays (digits), a
    file of the size in which its images came becomes a row as they did; any other is first brought to that size, as
    `data.fit` and `data.interpolation` say. inputs: of the domain, out of a checkpoint. shape: (C, H, W) of an input.
    """

    def __init__(self, config: PairSettings, inputs: Mapping[str, Any], shape: Shape) -> None:
        self.config = config
        before = inputs["shape_before"]
        self.before: tuple[int, ...] | None = None if before is None else tuple(before)
        self.files = file_reading(config) if before is None else None

    def read(self, path: str) -> Pixels:
        """One file, (H, W, C) of a size that is the same for all. Raises BadImage; OSError where the system fails."""
        if self.files is not None:
            return self.files.image(path)
        assert self.before is not None
        height, width, stored = self.before
        image = read_whole(path, channels=3 if stored == 3 else 1)
        if image.shape[:2] == (height, width):
            return image
        if height != width:
            found = "x".join(map(str, image.shape[:2]))
            raise BadImage(path, f"is {found} pixels, and images of the run's domain are {height}x{width}")
        picture = Image.fromarray(image[..., 0] if stored == 1 else image)
        return fit_image(picture, size=height, fit=self.config.fit, interpolation=self.config.resampling)

    def read_ahead(self, paths: Iterable[str], *, threads: int | None, ahead: int) -> Iterator[Pixels | BadImage]:
        """Every path's image in order, or why there is none; up to `ahead` are read before they are asked for."""

        def read(path: str) -> Pixels | BadImage:
            try:
                return self.read(path)
            except BadImage as error:
                return error

        return in_order(read, paths, workers=threads, depth=ahead)

    def rows(self, images: list[Pixels]) -> Tensor:
        """What `read` gave, as rows (N, H, W, C) uint8 that `to_batch` takes."""
        x = np.stack(images)
        if self.files is not None:
            return torch.from_numpy(x)
        return fit(x, np.arange(len(x)), size=self.config.side, channels=self.config.num_channels)
