"""What a run folder holds: each file's name and meaning, the fields of the summary, the columns of the tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tlrun import files

if TYPE_CHECKING:
    from tlrun.batch import Terms

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


def is_declared(path: Path, folder: Path) -> bool:
    """Whether path, below the run folder, is one of FILES."""
    name = path.relative_to(folder).as_posix()
    patterns = (re.escape(known) + (".+" if known.endswith("/") else "") for known in FILES)
    return any(re.fullmatch(re.sub(r"<\w+>", "[^/]+", pattern), name) for pattern in patterns)


def unknown_files(folder: Path) -> list[str]:
    """What lies in a run folder and is neither one of FILES nor the trace of an interrupted write; sorted paths."""
    paths = (path for path in folder.rglob("*") if not path.is_dir() and not files.TEMPORARY.fullmatch(path.name))
    return sorted(path.relative_to(folder).as_posix() for path in paths if not is_declared(path, folder))


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
