"""Every byte of a run folder: each file's name, schema, writer and reader; how a run is named, locked and described.

Loads no torch, except to save or load a checkpoint. What can go wrong for a reason outside the configuration is a
RunError.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from omegaconf import OmegaConf

from tlrun import files
from tlrun.config import ExperimentConfig
from tlrun.environment import environment as environment
from tlrun.files import RunError as RunError
from tlrun.files import load_checkpoint as load_checkpoint
from tlrun.files import save_checkpoint as save_checkpoint

if TYPE_CHECKING:
    import pandas

    from tlrun.batch import Terms

NUMBERS_VERSION = 1
"""Part of every run's name; raised by a release whose numbers differ from the last one's under the same settings."""

State = Literal["new", "running", "done", "failed", "interrupted"]

EVALUATION_PARTS = ("source_val", "source_test", "target_val", "target_test")
CLASS_COLUMNS = ("epoch", "domain", "split", "class", "rows", "accuracy", "precision", "f1")

FILES = {
    "config.yaml": "the resolved configuration, every `auto` named",
    "command.txt": "the command that started the run, or resumed it last",
    "environment.json": "versions, git revision, machine, device, threads, starting weights: origin and hash",
    "data.json": "the data card: rows per class and split, sizes, statistics, origin, fingerprint",
    "metrics.csv": "a row an epoch: losses, figures per domain and split, selection scores, rate, speed",
    "classes.csv": "a row per epoch, domain, split and class: rows, accuracy, precision, F1",
    "confusion_<domain>_<split>.csv": (
        "labelled rows of each true class (down) by predicted class (across), selected checkpoint; none without such rows"
    ),
    "summary.json": "the flat result: see SUMMARY_FIELDS",
    "predictions.csv": (
        "each row of the target test split, and each other target row of unknown label: split, number, path where it is "
        "a file, label, prediction, confidence, class probabilities"
    ),
    "checkpoints/last.pt": "everything needed to go on: the truth of which metrics.csv is a copy",
    "checkpoints/best.pt": "the model that the selection rule chose",
    "loggers.json": "by logger that run.loggers named: where its log is, and whether all of the run is in it",
    "tensorboard/": "with run.loggers=[tensorboard], its event files",
    "wandb/": "with run.loggers=[wandb], what it writes",
    "plots/": "with run.plots=true, curves.png and confusion.png, made from the other files",
    "log.txt": "what the run said, resumes appended",
    "status.json": "running, done, failed or interrupted, why, since when, by which process",
    "lock": "held while a process writes here; its text is that process and its host",
}
"""What a run folder holds, and nothing else. `<...>` stands for a name, a closing slash for anything inside."""

SUMMARY_FIELDS: dict[str, tuple[type, str]] = {
    "format": (int, "the format of this file"),
    "status": (str, "done, or how the run ended otherwise"),
    "strategy": (str, "name of the strategy"),
    "data": (str, "name of the pair of domains"),
    "seed": (int, "the seed"),
    "target_test_accuracy": (
        float,
        "share of labelled target test rows predicted right by the selected checkpoint, in [0, 1]; null without any",
    ),
    "target_test_rows": (int, "rows of the target test split"),
    "target_test_rows_labelled": (int, "those with a label of the task, over which its figures are"),
    "source_test_accuracy": (float, "the same on the source test split"),
    "target_test_macro_f1": (float, "F1 on the target test split, mean over classes"),
    "target_test_loss": (float, "cross-entropy on the target test split, mean over rows, nats"),
    "target_test_calibration_error": (float, "expected calibration error on the target test split"),
    "source_val_accuracy": (float, "accuracy on the source validation split"),
    "target_val_accuracy": (float, "accuracy on the target validation split, withheld labels included"),
    "test_time_views": (int, "views of a row over which every evaluation averaged; 1 is the row as it is"),
    "weights": (str, "what was evaluated and kept: the last step's weights, or their moving average"),
    "select": (str, "the selection rule, named"),
    "select_score": (float, "its score of the chosen epoch; higher is better"),
    "selected_epoch": (int, "the epoch it chose, as numbered in metrics.csv"),
    "last_target_test_accuracy": (float, "target test accuracy at the last evaluation"),
    "oracle_target_test_accuracy": (float, "the highest target test accuracy of the last phase"),
    "oracle_epoch": (int, "the epoch that had it"),
    "regret": (float, "oracle less selected target test accuracy: what not seeing target labels cost"),
    "source_test_accuracy_before": (
        float,
        "source test accuracy of the trained start, else before the fine-tuning phase; null where neither is",
    ),
    "forgetting": (float, "source test accuracy before less after; null where before is"),
    "parameters": (int, "numbers in the model"),
    "trainable_parameters": (int, "those that the last phase trains"),
    "trainable_parameters_by_phase": (dict, "those that each phase trains"),
    "epochs": (int, "epochs finished"),
    "ended_early": (dict, "by phase that ended before its share was used up, the rule that had stopped improving"),
    "steps": (int, "optimizer steps taken"),
    "rows_target_labels": (int, "target rows whose labels were granted for training"),
    "seconds": (float, "time spent in this run over all its resumes, pretraining apart"),
    "encode_seconds": (float, "of these, on taking rows through frozen stages once, or reading them encoded"),
    "pretrain_seconds": (float, "time that the source model took, also when it was reused; null without one"),
    "images_per_second": (float, "training rows per second, evaluation apart"),
    "peak_memory_bytes": (int, "most memory held: the device's on a GPU, else resident"),
    "device": (str, "where it ran"),
    "precision": (str, "arithmetic of the forward pass"),
    "name": (str, "the run's name, as the folder's"),
    "digest": (str, "hash of the settings that decide the numbers"),
    "transfer_alive": (dict, "by transfer term, its largest gradient norm at the features"),
    "discriminator_accuracy": (float, "domains told apart at the end; null without a discriminator"),
    "largest_class_share": (float, "share of target validation predictions that fall in one class"),
    "twin_rows": (
        int,
        "test rows that both domains show, as a digit and its degraded twin; null where they share none",
    ),
    "twin_agreement": (float, "share of these that get the same prediction in both domains"),
    "twin_cosine": (float, "mean cosine of their two feature vectors, in [-1, 1]"),
    "warnings": (list, "what a reader of the numbers should know, a sentence each"),
}
"""The fields of summary.json in order: type (each may be null) and meaning."""


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

    def confusion(self, domain: str, split: str) -> Path:
        return self.path / f"confusion_{domain}_{split}.csv"

    @contextmanager
    def lock(self, *, wait: bool) -> Iterator[Self]:
        """Make the folder, keep other processes out of it, and clear away what interrupted writes left.

        Raises RunError when another process holds it; with wait, waits for that one instead and logs so.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {self.path}: {files.reason_of(error)}") from error
        with files.locked(self.lock_file, wait=wait):
            files.remove_temporaries(self.path)
            yield self

    def clear(self) -> None:
        """Remove all that a run wrote, for a fresh start; files that are not ours stay."""
        declared = [path for path in self.path.rglob("*") if path.is_file() and _is_declared(path, self.path)]
        # The status goes first: without it, no half-cleared folder passes for a finished run.
        for path in sorted(declared, key=lambda path: path != self.status):
            if path != self.lock_file:
                try:
                    path.unlink()
                except OSError as error:
                    raise RunError(f"cannot remove {path}: {files.reason_of(error)}") from error

    def logging(self) -> AbstractContextManager[None]:
        """While it is open, what `tlrun` logs is appended to log.txt too."""
        return files.log_to(self.log)

    def state(self) -> State:
        """How the run stands: `new` before its first status, `interrupted` also when its process died unheard."""
        if not self.status.exists():
            return "new"
        state: State = self.read_status()["state"]
        if state != "running" or files.is_locked(self.lock_file):
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
        for name, (kind, _) in SUMMARY_FIELDS.items():
            value, allowed = content[name], (int, float) if kind is float else kind
            if value is not None and (isinstance(value, bool) or not isinstance(value, allowed)):
                raise ValueError(f"summary: {name} must be {kind.__name__} or None, got {value!r}")
        files.write_json(self.summary, {name: content[name] for name in SUMMARY_FIELDS})

    def read_summary(self) -> dict[str, Any]:
        return files.read_json(self.summary)

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


def _is_declared(path: Path, folder: Path) -> bool:
    name = path.relative_to(folder).as_posix()
    patterns = (re.escape(known) + (".+" if known.endswith("/") else "") for known in FILES)
    return any(re.fullmatch(re.sub(r"<\w+>", "[^/]+", pattern), name) for pattern in patterns)


def unknown_files(folder: Path) -> list[str]:
    """What lies in a run folder and is neither one of FILES nor the trace of an interrupted write; sorted paths."""
    paths = (path for path in folder.rglob("*") if not path.is_dir() and not files.TEMPORARY.fullmatch(path.name))
    return sorted(path.relative_to(folder).as_posix() for path in paths if not _is_declared(path, folder))


def metrics_columns(
    terms: Terms, *, splits: Sequence[str] = EVALUATION_PARTS, rules: Sequence[str], groups: Sequence[str]
) -> tuple[str, ...]:
    """The columns of metrics.csv, fixed before the first row.

    `gradient_<term>` is the gradient norm of a transfer term at the features, `score_<rule>` what a selection rule
    ranks by, `lr_<group>` the rate of a parameter group. Raises ValueError when two columns have one name.
    """
    columns = (
        *("epoch", "step", "phase", "loss"),
        *(f"loss_{term}" for term in (*terms.task, *terms.transfer)),
        *(f"gradient_{term}" for term in terms.transfer),
        *terms.stats,
        *(f"{split}_{figure}" for split in splits for figure in ("accuracy", "macro_f1", "loss", "calibration_error")),
        *(f"score_{rule}" for rule in rules),
        *("largest_class_share", "lr"),
        *(f"lr_{group}" for group in groups),
        *("seconds", "images_per_second"),
    )
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise ValueError(f"metrics.csv would have two columns named {', '.join(twice)}")
    return columns
