"""Every byte of a run folder: the writer and reader of each of its files; how a run is named, locked and described.

Loads no torch, except to save or load a checkpoint. What can go wrong for a reason outside the configuration is a
RunError.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from omegaconf import OmegaConf

from tlrun import files, locks
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.environment import environment as environment
from tlrun.files import RunError as RunError
from tlrun.files import load_checkpoint as load_checkpoint
from tlrun.files import save_checkpoint as save_checkpoint
from tlrun.run_files import CLASS_COLUMNS, SUMMARY_FIELDS, is_declared

if TYPE_CHECKING:
    import pandas

NUMBERS_VERSION = 1
"""Part of every run's name; raised by a release whose numbers differ from the last one's under the same settings."""

State = Literal["new", "running", "done", "failed", "interrupted"]


def digest(config: ExperimentConfig) -> str:
    """Ten hex digits over all settings that decide a run's numbers; the config must be resolved.

    Left out: `run`, `device`, of `data` where things lie and how fast they are read (`root`, `download`, `cache_root`,
    `cache_gigabytes`, `cache`, `workers`), where weights lie (`model.weights_root`, `model.download`), and `pretrain`
    where no source model is used. 1 and 1.0 count as equal.
    """
    content = config.to_dict()
    unused = () if config.model.weights == "source" else ("pretrain",)
    for node in ("run", "device", *unused):
        del content[node]
    for key in ("weights_root", "download"):
        del content["model"][key]
    for key in ("root", "download", "cache_root", "cache_gigabytes", "cache", "workers"):
        del content["data"][key]
    text = json.dumps([NUMBERS_VERSION, _canonical(content)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    # Whole floats become integers rather than the reverse: large seeds would lose digits.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def run_name(config: ExperimentConfig) -> str:
    """`<data>-<strategy>-s<seed>-<digest>`, of a resolved config."""
    strategy = config.strategy.name.rpartition(".")[2]
    return f"{config.data.name}-{strategy}-s{config.seed}-{digest(config)}"


@dataclass(frozen=True)
class Prediction:
    """What a model says of one row: probabilities (C,). row: as the domain numbers those of train and val together, and
    those of test. label: a class number, below 0 where it is unknown. path: of the file it is read from, if it is one."""

    split: str
    row: int
    label: int
    probabilities: Sequence[float]
    path: str | None = None


class RunFolder:
    """One run's folder. An attribute for the path of each of FILES, a writer and a reader for each that has a schema.

    Constructing it touches nothing; `lock` makes the folder. All writing is for the holder of the lock, whole files at
    a time. Writers raise RunError when the system refuses, readers when a file is missing, damaged or newer than we.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.command = path / "command.txt"
        self.environment = path / "environment.json"
        self.data_card = path / "data.json"
        self.metrics = path / "metrics.csv"
        self.classes = path / "classes.csv"
        self.summary = path / "summary.json"
        self.predictions = path / "predictions.csv"
        self.last = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"
        self.plots = path / "plots"
        self.loggers = path / "loggers.json"
        self.tensorboard = path / "tensorboard"
        self.wandb = path / "wandb"
        self.log = path / "log.txt"
        self.status = path / "status.json"
        self.lock_file = path / "lock"

    @classmethod
    def of(cls, config: ExperimentConfig) -> Self:
        """The folder of this run, under `run.root`."""
        return cls(Path(config.run.root) / run_name(config))

    @property
    def opened(self) -> tuple[Path, ...]:
        """What a run writes before it is ready for its first step."""
        return self.status, self.config, self.command, self.log

    def confusion(self, domain: str, split: str) -> Path:
        return self.path / f"confusion_{domain}_{split}.csv"

    @contextmanager
    def lock(self, *, wait: bool) -> Iterator[Self]:
        """Make the folder, keep other processes out of it, and clear away what interrupted writes left.

        Raises RunError when another process holds it; with wait, waits for that one instead and logs so. Where a
        ConfigError leaves nothing in a folder that was made here, the folder goes again.
        """
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {self.path}: {files.reason_of(error)}") from error
        with locks.locked(self.lock_file, wait=wait):
            files.remove_temporaries(self.path)
            try:
                yield self
            except ConfigError:
                if made and list(self.path.iterdir()) == [self.lock_file]:
                    self.lock_file.unlink()
                    with suppress(OSError):  # another run is in one of them by now
                        for path in made:
                            path.rmdir()
                raise

    @contextmanager
    def opening(self, *, fresh: bool) -> Iterator[Callable[[], None]]:
        """Until a run is ready for its first step, which it tells by the call of what this yields.

        A ConfigError before then puts back the files of `opened`, which are all that a run may write by then. fresh: all
        that an earlier start wrote is set aside until then under names that the next holder of the lock clears away, so
        that a start which is cut off here is still a fresh one; any error puts it back.
        """
        before = {path: files.read_bytes(path) if path.exists() else None for path in self.opened if not fresh}
        aside = self._set_aside() if fresh else {}
        is_ready = False

        def drop() -> None:
            while aside:
                _remove(aside.popitem()[1])

        def ready() -> None:
            nonlocal is_ready
            is_ready = True
            drop()

        try:
            yield ready
        except Exception as error:
            if not is_ready and (aside or isinstance(error, ConfigError)):
                for path in self.opened if fresh else ():
                    _remove(path)
                while aside:
                    path, kept = aside.popitem()
                    kept.rename(path)
                for path, content in before.items():
                    path.unlink(missing_ok=True) if content is None else files.write_bytes(path, content)
            raise
        finally:
            drop()

    def _set_aside(self) -> dict[Path, Path]:
        """Renames all that a run wrote; the old name of each file and its new one. Files that are not ours stay."""
        declared = [path for path in self.path.rglob("*") if path.is_file() and is_declared(path, self.path)]
        aside = {}
        # The status goes first: without it, no half-cleared folder passes for a finished run.
        for path in sorted(declared, key=lambda path: path != self.status):
            if path != self.lock_file:
                aside[path] = path.with_name(f".{path.name}.before.{os.getpid()}.tmp")
                try:
                    path.rename(aside[path])
                except OSError as error:
                    raise RunError(f"cannot remove {path}: {files.reason_of(error)}") from error
        return aside

    def logging(self) -> AbstractContextManager[None]:
        """While it is open, what `tlrun` logs is appended to log.txt too."""
        return files.log_to(self.log)

    def state(self) -> State:
        """How the run stands: `new` before its first status, `interrupted` also when its process died unheard."""
        if not self.status.exists():
            return "new"
        state: State = self.read_status()["state"]
        if state != "running" or locks.is_locked(self.lock_file):
            return state
        # It may have ended between the two looks.
        state = self.read_status()["state"]
        return "interrupted" if state == "running" else state

    def write_status(self, state: Literal["running", "done", "failed", "interrupted"], reason: str = "") -> None:
        """Say how the run stands and why; `started` is when the present process first said `running`."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        before = self.read_status() if self.status.exists() else {}
        same = all(before.get(key) == value for key, value in owner.items()) and before["state"] == "running"
        started = before["started"] if same else now
        files.write_json(self.status, {"state": state, "reason": reason, "started": started, "updated": now, **owner})

    def read_status(self) -> dict[str, Any]:
        content = files.read_json(self.status)
        if content.get("state") not in get_args(State):
            raise files.damaged(self.status, f"no state of a run: {content.get('state')}")
        return content

    def write_config(self, config: ExperimentConfig) -> None:
        files.write_bytes(self.config, OmegaConf.to_yaml(OmegaConf.create(config.to_dict())).encode())

    def read_config(self) -> dict[str, Any]:
        """Plain values, to be typed by whoever needs more."""
        return files.read_yaml(self.config)

    def write_command(self, command: str) -> None:
        files.write_bytes(self.command, f"{command}\n".encode())

    def write_environment(self, content: Mapping[str, Any]) -> None:
        """What `environment` returned."""
        files.write_json(self.environment, content)

    def read_environment(self) -> dict[str, Any]:
        return files.read_json(self.environment)

    def write_data_card(self, card: Mapping[str, Any]) -> None:
        files.write_json(self.data_card, card)

    def read_data_card(self) -> dict[str, Any]:
        return files.read_json(self.data_card)

    def write_loggers(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """By logger: `complete`, whether all of the run is in its log, and whatever names the log."""
        files.write_json(self.loggers, known)

    def read_loggers(self) -> dict[str, dict[str, Any]]:
        """What `write_loggers` wrote; nothing where no logger ever was asked for."""
        known = files.read_json(self.loggers) if self.loggers.exists() else {}
        return {name: value for name, value in known.items() if isinstance(value, dict)}

    def write_summary(self, values: Mapping[str, Any]) -> None:
        """All of SUMMARY_FIELDS, `format` apart. Raises ValueError for a name missing or unknown, or a wrong type."""
        content = {"format": files.FORMAT, **values}
        if content.keys() != SUMMARY_FIELDS.keys():
            missing = [name for name in SUMMARY_FIELDS if name not in content]
            unknown = [name for name in content if name not in SUMMARY_FIELDS]
            raise ValueError(f"summary: missing {missing}, unknown {unknown}")
        if wrong := _wrong_type(content):
            raise ValueError(f"summary: {wrong}")
        files.write_json(self.summary, {name: content[name] for name in SUMMARY_FIELDS})

    def read_summary(self) -> dict[str, Any]:
        """Each of SUMMARY_FIELDS that it has is of its type or None; an older version's has not all of them."""
        content = files.read_json(self.summary)
        if wrong := _wrong_type(content):
            raise files.damaged(self.summary, wrong)
        return content

    def write_metrics(self, columns: Sequence[str], history: Iterable[Mapping[str, Any]]) -> None:
        """The whole history, a row an epoch, under the columns of `metrics_columns`."""
        files.write_table(self.metrics, columns, history)

    def read_metrics(self) -> pandas.DataFrame:
        return files.read_table(self.metrics)

    def write_classes(self, history: Iterable[Mapping[str, Any]]) -> None:
        """The whole history, rows of CLASS_COLUMNS."""
        files.write_table(self.classes, CLASS_COLUMNS, history)

    def read_classes(self) -> pandas.DataFrame:
        return files.read_table(self.classes)

    def write_confusion(self, domain: str, split: str, classes: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
        """rows[i][j] counts rows of class i predicted as class j; each line begins with its class."""
        columns = ("true/predicted", *classes)
        lines = [dict(zip(columns, (name, *row), strict=True)) for name, row in zip(classes, rows, strict=True)]
        files.write_table(self.confusion(domain, split), columns, lines)

    def read_confusion(self, domain: str, split: str) -> tuple[tuple[str, ...], list[list[int]]]:
        """Class names and counts, as they were written."""
        path = self.confusion(domain, split)
        lines = list(csv.reader(io.StringIO(files.read_bytes(path).decode(), newline="")))
        if len(lines) < 2 or {len(line) for line in lines} != {len(lines)}:
            raise files.damaged(path, "not a row and a column for each class")
        try:
            return tuple(lines[0][1:]), [[int(count) for count in line[1:]] for line in lines[1:]]
        except ValueError as error:
            raise files.damaged(path, str(error)) from error

    def write_predictions(self, classes: Sequence[str], predictions: Sequence[Prediction]) -> None:
        """The final word on some rows; `path` is a column where any of them has one."""
        shares = [f"probability_{name}" for name in classes]
        lines = []
        for each in predictions:
            best = max(each.probabilities)
            line = {"split": each.split, "row": each.row, "path": each.path, "confidence": best}
            line["label"] = classes[each.label] if each.label >= 0 else None
            line["prediction"] = classes[each.probabilities.index(best)]
            lines.append(line | dict(zip(shares, each.probabilities, strict=True)))
        path = ("path",) if any(each.path is not None for each in predictions) else ()
        columns = ("split", "row", *path, "label", "prediction", "confidence", *shares)
        files.write_table(self.predictions, columns, [{key: line[key] for key in columns} for line in lines])

    def read_predictions(self) -> pandas.DataFrame:
        return files.read_table(self.predictions)


def _wrong_type(summary: Mapping[str, Any]) -> str | None:
    """The first of SUMMARY_FIELDS whose value in a summary is of another type, and what that is."""
    for name, (kind, _) in SUMMARY_FIELDS.items():
        value, allowed = summary.get(name), (int, float) if kind is float else kind
        if value is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
            return f"{name} must be {kind.__name__} or None, got {value!r}"
    return None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot remove {path}: {files.reason_of(error)}") from error
