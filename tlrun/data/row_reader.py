"""Files as rows of a domain that a run knew: decoded ahead of the model, and fitted as the run fitted its own rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tlrun.config import PairSettings
from tlrun.data.images import BadImage, fit_image, read_whole
from tlrun.data.transforms import Shape, fit

Image8 = NDArray[np.uint8]


class RowReader:
    """Reads image files for one domain of a trained run, by the run's own settings.

    Where that domain was made of files, a file becomes a row as it did there. Where it was held as arrays (digits), a
    file of the size that its images came in becomes a row as they did; any other is first brought to that size, as
    `data.fit` and `data.interpolation` say.
    """

    def __init__(self, config: PairSettings, inputs: Mapping[str, Any], shape: Shape) -> None:
        self.config = config
        self.shape = shape
        self.before: tuple[int, ...] = tuple(inputs["shape_before"])

    def read(self, path: str) -> Image8:
        """One file, (H, W, C) of a size that is the same for all. Raises BadImage; OSError where the system fails."""
        height, width, stored = self.before
        image = read_whole(path, channels=3 if stored == 3 else 1)
        if image.shape[:2] == (height, width):
            return image
        if height != width:
            found = "x".join(map(str, image.shape[:2]))
            raise BadImage(path, f"is {found} pixels, and images of the run's domain are {height}x{width}")
        picture = Image.fromarray(image[..., 0] if stored == 1 else image)
        return fit_image(picture, size=height, fit="crop", interpolation="bilinear")

    def rows(self, images: list[Image8]) -> Tensor:
        """What `read` gave, as rows (N, H, W, C) uint8 that `to_batch` takes."""
        size, channels = self.config.image_size, self.config.channels
        return fit(np.stack(images), np.arange(len(images)), size=size, channels=channels)


def read_ahead(
    paths: Iterable[str], read: Callable[[str], Image8], *, threads: int, ahead: int
) -> Generator[Image8 | BadImage]:
    """read(path) of every path in order, or the BadImage that it raised; `threads` work on up to `ahead` at a time.

    What else `read` raises passes through. When the generator is closed, nothing more is begun.
    """
    waiting: deque[Future[Image8]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
    try:
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) >= ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[Image8]) -> Image8 | BadImage:
    try:
        return future.result()
    except BadImage as error:
        return error
