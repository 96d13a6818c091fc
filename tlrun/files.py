"""JSON, CSV and checkpoints that are whole or absent; a log."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import pickle
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun.config import ConfigError

if TYPE_CHECKING:
    import pandas

FORMAT = 1
"""The format that our JSON files and checkpoints state; raised when an older reader would misread them."""

TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
"""Names under which files are written before they get their own: `.summary.json.<pid>.tmp`."""

TEXT_COLUMNS = ("domain", "split", "class", "label", "prediction", "phase", "path")
"""Columns that hold words even where they look like numbers: the classes of digits are `0` to `9`."""

log = logging.getLogger(__name__)


class RunError(Exception):
    """A run cannot go on for a reason outside its configuration: disk full, locked, damaged. One line."""


class Damaged(RunError):
    """A run, or a file of it, that is of no use here: damaged, or another one's. What to do depends on who reads it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.path = path


def reason_of(error: OSError) -> str:
    """What the system says, without number and path."""
    return error.strerror or str(error)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Put data under path, all or nothing, and on the disk before this returns; folders are made as needed.

    A reader, a crash or a kill sees the old file or the new one. Raises RunError when the system refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except FileExistsError as error:  # so the system calls a file where a folder is to be made
        raise RunError(f"cannot write {path}: {path.parent} is no folder") from error
    except OSError as error:
        raise RunError(f"cannot write {path}: {reason_of(error)}; what was complete is still there") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Makes the renaming itself durable. Some network file systems refuse it; the file is whole all the same.
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_temporaries(folder: Path) -> None:
    """Remove what interrupted writes left below folder. Only for the holder of the folder's lock."""
    for path in folder.rglob(".*.tmp"):
        if TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def read_bytes(path: Path) -> bytes:
    """All of a file. Raises RunError when it is not there or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {reason_of(error)}") from error


def check_format(path: Path, content: object) -> None:
    """Raises RunError unless content is a mapping that states a format which this version reads."""
    stated = content.get("format") if isinstance(content, Mapping) else None
    if not isinstance(stated, int):
        raise RunError(f"{path} was not written by tlrun: it states no format")
    if stated > FORMAT:
        raise RunError(f"{path} was written by a newer tlrun (format {stated}, this one reads {FORMAT}); update tlrun")


def damaged(path: Path, why: str) -> Damaged:
    return Damaged(path, f"is damaged ({why})")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The content beside `"format": 1`; what is not a finite number becomes null."""
    text = json.dumps(_finite({"format": FORMAT, **content}), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote. Raises RunError when the file is missing, damaged, not ours or newer than we are."""
    try:
        content = json.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    check_format(path, content)
    return dict(content)


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping of plain values, as OmegaConf wrote it. Raises RunError when the file is missing, damaged, or no mapping.

    By libyaml: OmegaConf's own loader takes 30 ms for the settings of one run, and a report reads hundreds.
    """
    import yaml  # type: ignore[import-untyped]  # its types are a package of their own

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(read_bytes(path).decode(), Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise damaged(path, str(error).splitlines()[0]) from error
    if not isinstance(content, dict):
        raise damaged(path, "not a mapping")
    return {str(key): value for key, value in content.items()}


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV file with these columns; blank where a row has none or no finite number.

    Floats are written so that reading gives the same bits. Raises ValueError when a row has another column.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    known = set(columns)
    for row in rows:
        if unknown := row.keys() - known:
            raise ValueError(f"{path.name} has no column {', '.join(sorted(unknown))}")
        writer.writerow([_cell(row.get(column)) for column in columns])
    write_bytes(path, buffer.getvalue().encode())


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return repr(float(value)) if math.isfinite(value) else ""
    return "" if value is None else value


def read_table(path: Path) -> pandas.DataFrame:
    """What `write_table` wrote; blank numbers are NaN, blank words empty. Raises RunError when missing or damaged."""
    import pandas

    return pandas.DataFrame(read_columns(path))


def read_columns(path: Path, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The same by column, without pandas; names: of these columns alone, as far as they are there.

    What follows the last of them on a line is then not taken apart, which saves most of the time where hundreds of
    probabilities follow.
    """
    text = read_bytes(path).decode(errors="replace")
    header = next(csv.reader(io.StringIO(text, newline="")), None)
    if header is None:
        raise damaged(path, "no header")
    if not text.endswith("\n"):
        raise damaged(path, "its last line is cut")
    wanted = [(at, name) for at, name in enumerate(header) if names is None or name in names]
    last = max((at for at, _ in wanted), default=0)
    if names is None or '"' in text:  # a cell in quotes may hold commas and line ends
        rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
        whole = all(len(row) == len(header) for row in rows)
    else:
        rows = [line.split(",", last + 1) for line in text.rstrip("\n").split("\n")[1:]]
        whole = all(len(row) > last for row in rows)
    if not whole:
        raise damaged(path, "a row is longer or shorter than the header")
    try:
        return {name: _values(name, [row[at] for row in rows]) for at, name in wanted}
    except ValueError as error:
        raise damaged(path, str(error)) from error


def _values(name: str, cells: Sequence[str]) -> list[Any]:
    # Not pandas' own parser: before pandas 3.1 it rounds some floats to a neighbour.
    if name in TEXT_COLUMNS:
        return list(cells)
    try:
        return [int(cell) for cell in cells]
    except ValueError:
        return [float(cell) if cell else math.nan for cell in cells]


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write state, which must name the run's "digest" and hold only tensors and plain Python values.

    Raises ValueError when it does not, so that nothing is saved which cannot be loaded; RunError as all writers.
    """
    import torch

    if "digest" not in state:
        raise ValueError("a checkpoint must name the digest of its run")
    # Into memory first: a full disk is then Python's error, not that of torch's writer, which has no number.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    buffer.seek(0)
    if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(buffer):
        raise ValueError(f"a checkpoint may hold only tensors and plain values, found {', '.join(sorted(unsafe))}")
    write_bytes(path, buffer.getbuffer())


def load_checkpoint(path: Path, *, digest: str | None) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU. With a digest, only the checkpoint of that run will do.

    Raises RunError when the file is missing, damaged (every bit is checked), another run's, or newer than we are.
    """
    import torch

    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()  # torch.load does not compare the checksums that torch.save writes
        state = None if broken else torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(f"{path} was not written by tlrun: it holds more than tensors and plain values") from error
    except Exception as error:  # damage makes zipfile and torch raise nearly anything
        raise damaged(path, str(error).partition("\n")[0]) from error
    if broken:
        raise damaged(path, f"wrong checksum in {broken}")
    check_format(path, state)
    assert isinstance(state, dict)
    other = state.get("digest")
    if digest is not None and other != digest:
        raise Damaged(path, f"belongs to another run (digest {other}, this run's is {digest})")
    return state


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what `tlrun` logs, from INFO up, to the file at path, whose folder must be there.

    An error that ends the context is told there too, with its traceback where nobody foresaw it.
    """
    package = logging.getLogger("tlrun")
    try:
        target = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {reason_of(error)}") from error
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = package.level
    package.setLevel(min(package.getEffectiveLevel(), logging.INFO))
    package.addHandler(target)
    try:
        yield
    except Exception as error:
        # Into the file alone: whoever catches the error tells the console.
        trace = None if isinstance(error, ConfigError | RunError) else sys.exc_info()
        message = str(error) if trace is None else f"{type(error).__name__}: {error}"
        target.handle(logging.LogRecord(log.name, logging.ERROR, __file__, 0, message, None, trace))
        raise
    finally:
        package.removeHandler(target)
        package.setLevel(level)
        with suppress(OSError):
            target.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing of a full disk: the next write that matters reports it."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
