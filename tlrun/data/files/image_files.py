"""What is known of many image files without training on them: a fingerprint, their sizes, which of them are damaged."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from tlrun.config import ConfigError
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.files.images import BadImage, Channels, Header, ImageFiles, read_header, read_image
from tlrun.data.files.reading import in_order
from tlrun.data.splits import sample

log = logging.getLogger(__name__)

T = TypeVar("T")

STEP = 2000
"""So many files a thread is asked about at a time, where asking takes microseconds."""
NAMED = 5
"""So many bad files are named."""


@dataclass(frozen=True)
class Listing:
    """Bytes (N,) and time of last change in nanoseconds (N,) of each file, -1 where there is none."""

    sizes: NDArray[np.int64]
    times: NDArray[np.int64]

    def digest(self, files: ImageFiles) -> str:
        """SHA-256 of names, sizes and times: another one wherever a file may have changed."""
        digest = hashlib.sha256("\0".join(files.names).encode("utf-8", "surrogateescape"))
        digest.update(self.sizes.data)
        digest.update(self.times.data)
        return digest.hexdigest()


def list_files(files: ImageFiles, *, workers: int | None) -> Listing:
    """Asks the file system about every file; 100,000 on a local disk take some tenths of a second."""
    starts = range(0, len(files), STEP)

    def ask(start: int) -> list[tuple[int, int]]:
        return [_ask(files.path(number)) for number in range(start, min(start + STEP, len(files)))]

    found = [each for piece in in_order(ask, starts, workers=workers) for each in piece]
    table = np.array(found, dtype=np.int64).reshape(-1, 2)
    return Listing(np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1]))


def _ask(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Look:
    """fingerprint: see `look_at`. headers: what the sampled files say of themselves, of those that are used."""

    fingerprint: str
    headers: tuple[Header, ...]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Width and height, (n, 2)."""
        return np.array([header.size for header in self.headers], dtype=np.int64).reshape(-1, 2)


def look_at(files: ImageFiles, listing: Listing, sound: NDArray[np.bool_], *, workers: int | None) -> Look:
    """A fingerprint of the names and sizes of all files and of the contents of a fixed sample (`splits.SAMPLE`).

    sound (N,): which of them are used; the headers are those of such files alone.
    To read all would take hours where there are millions; a copy of the folder on another machine has the same one.
    """
    digest = hashlib.sha256("\0".join(files.names).encode("utf-8", "surrogateescape"))
    digest.update(listing.sizes.data)
    headers = []
    numbers = sample(len(files)).tolist()
    looked = in_order(_content, map(files.path, numbers), workers=workers)
    for number, (content, header) in zip(numbers, looked, strict=True):
        digest.update(content)
        if header is not None and sound[number]:
            headers.append(header)
    return Look(digest.hexdigest(), tuple(headers))


def _content(path: str) -> tuple[bytes, Header | None]:
    """A hash of the file, and what its header says."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return b"unreadable", None
    digest = hashlib.blake2b(content, digest_size=16).digest()
    try:
        with Image.open(io.BytesIO(content)) as image:
            return digest, read_header(image)
    except Exception:  # a damaged file is told of where it is decoded
        return digest, None


def describe_sizes(sizes: NDArray[np.int64]) -> str:
    """The pixels of files, (n, 2) width and height, in words."""
    if not len(sizes):
        return "none of the files gives its size"
    order = np.argsort(sizes.prod(1), kind="stable")
    least, middle, most = (f"{width}x{height}" for width, height in sizes[order[[0, len(order) // 2, -1]]].tolist())
    return f"images of {least}" if least == most else f"images from {least} over {middle} (median) to {most}"


def describe_kinds(headers: Sequence[Header], *, channels: Channels) -> list[str]:
    """What of the sampled files is not plain colour of 8 bits, and what becomes of it, in words for the data card."""
    told = {
        "is_transparent": "have transparency and are laid on white",
        "is_deep": "have more than 8 bits a channel and are scaled to 8 over their whole range",
    }
    told |= {"is_grey": "are grey, repeated in three channels"} if channels == 3 else {}
    counts = {words: sum(getattr(header, kind) for header in headers) for kind, words in told.items()}
    return [f"{count} of {len(headers)} files looked at {words}" for words, count in counts.items() if count]


def check_present(files: ImageFiles, listing: Listing, where: str) -> None:
    """Raises ConfigError where files are missing or empty, which takes no decoding to see."""
    missing = np.flatnonzero(listing.sizes <= 0)
    if len(missing):
        named = "; ".join(
            f"{files.path(number)} ({'empty' if listing.sizes[number] == 0 else 'not there'})"
            for number in missing[:NAMED].tolist()
        )
        raise ConfigError(
            f"{where}: {len(missing)} of {len(files)} image files are missing or empty: {named}"
            f"{' ...' if len(missing) > NAMED else ''}; mend them, or leave them out with data.on_bad_image=skip"
        )


def sound_files(files: ImageFiles, listing: Listing, cache: Path, *, workers: int | None) -> NDArray[np.bool_]:
    """Which files can be decoded, (N,): all are tried once, and again only when a name, size or time has changed.

    Known before anything is split or drawn, so that a run that leaves bad files out is the same at every start.
    """

    def make() -> Arrays:
        return {"sound": np.array([reason is None for _, reason in tried(files, workers=workers, what="checking")])}

    inputs = {"listing": listing.digest(files), "root": str(files.root), "pillow": PIL.__version__, "recipe": 1}
    return np.asarray(cached_arrays(cache, "sound", inputs=inputs, make=make)["sound"])


def tried(files: ImageFiles, *, workers: int | None, what: str) -> Iterator[tuple[int, str | None]]:
    """Each file's number, and why it gives no image; None where it does. With a progress bar on a terminal."""
    paths = map(files.path, range(len(files)))
    return enumerate(progress(in_order(_try, paths, workers=workers), total=len(files), what=what))


def _try(path: str) -> str | None:
    try:  # at the smallest scale: damage shows at any, since all of the file is read
        read_image(path, size=8, fit="squash", channels=3, interpolation="bilinear")
    except BadImage as error:
        return error.reason
    return None


def progress(items: Iterator[T], *, total: int, what: str) -> Iterator[T]:
    """The items, counted by a bar on a terminal."""
    return iter(tqdm(items, total=total, desc=what, unit=" images", disable=None, leave=False, mininterval=0.5))


def name_bad(files: ImageFiles, sound: NDArray[np.bool_]) -> str:
    """A sentence on what was left out; empty where nothing was."""
    bad = np.flatnonzero(~sound)
    if not len(bad):
        return ""
    named = ", ".join(files.names[number] for number in bad[:NAMED].tolist())
    return f"{len(bad)} of {len(files)} image files left out, which give no image: {named}" + (
        " ..." if len(bad) > NAMED else ""
    )
