from __future__ import annotations

import errno
import io
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tlrun import files, run
from tlrun.batch import Terms
from tlrun.config import (
    AugmentSettings,
    ConfigError,
    DeviceSettings,
    DomainSettings,
    EarlyStopSettings,
    EngineSettings,
    ExperimentConfig,
    ModelSettings,
    OptimSettings,
    PairSettings,
    PretrainSettings,
    RunSettings,
    ScheduleSettings,
    Settings,
    StrategySettings,
)
from tlrun.environment import environment
from tlrun.run import RunError, RunFolder, load_checkpoint, save_checkpoint

# Newer Pythons warn of fork in a process with threads; the children here only write files.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

FULL = "No space left on device"


class Ramped(StrategySettings):
    weight: float
    ramp: bool


class Digits(DomainSettings):
    images: str


class Network(ModelSettings):
    batch_norm: bool


class Decay(ScheduleSettings):
    power: float


def engine_settings(epochs: int) -> EngineSettings:
    return EngineSettings(
        epochs=epochs,
        steps_per_epoch=None,
        batch_size=64,
        eval_batch_size=512,
        accumulate=1,
        clip_norm=None,
        precision="fp32",
        evaluate_every=1,
        select="source_val",
        early_stop=EarlyStopSettings(metric=None, patience=3),
    )


def experiment() -> ExperimentConfig:
    optim = OptimSettings.model_validate(
        {"_target_": "torch.optim.SGD", "lr": 0.01, "weight_decay": 0, "label_smoothing": 0.1, "momentum": 0.9}
    )
    schedule = Decay(name="inverse_decay", warmup_fraction=0, per_phase=False, power=0.75)
    pretrain = PretrainSettings(
        strategy=Ramped(name="source_only", weight=0, ramp=False),
        weights="random",
        optim=optim,
        schedule=schedule,
        engine=engine_settings(2),
    )
    return ExperimentConfig(
        strategy=Ramped(name="dann", weight=1, ramp=True),
        data=PairSettings(
            source=Digits(name="mnist", images="all"),
            target=Digits(name="mnistm", images="made"),
            image_size=28,
            channels=3,
            normalize="shared",
            val_fraction=0.1,
            test_fraction=0.2,
            source_rows=None,
            target_rows=1000,
            target_labels="none",
            target_val_labels=5,
            source_label_noise=0,
            label_sets="closed",
            root="data",
            cache_root=None,
            download=False,
        ),
        model=Network(
            name="digits_cnn",
            weights="random",
            head="new",
            head_type="linear",
            hidden=100,
            dropout=0,
            bottleneck=None,
            batch_norm=True,
        ),
        optim=optim,
        schedule=schedule,
        engine=engine_settings(10),
        augment=AugmentSettings(shift=2, contrast=0, albumentations=[{"_target_": "Blur", "p": 1, "on": True}]),
        pretrain=pretrain,
        device=DeviceSettings(name="cpu", threads=2),
        run=RunSettings(root="outputs", fresh=False, require=None, checkpoint_seconds=60),
        seed=0,
    )


def changed(node: Any, where: str, value: Any) -> Any:
    """The settings with another value at a dotted path, unchecked."""
    name, _, rest = where.partition(".")
    return node.model_copy(update={name: changed(getattr(node, name), rest, value) if rest else value})


def leaves(node: Settings, prefix: str = "") -> Iterator[str]:
    for name in [*type(node).model_fields, *(node.model_extra or {})]:
        value = getattr(node, name)
        if isinstance(value, Settings):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def summary(**values: Any) -> dict[str, Any]:
    return {name: None for name in run.SUMMARY_FIELDS if name != "format"} | values


@contextmanager
def child(task: Callable[[Connection], object]) -> Iterator[tuple[multiprocessing.context.ForkProcess, Connection]]:
    """A forked process that does the task, with a pipe to it; killed at the end."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=task, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def hold(path: Path, *, wait: bool = False) -> Callable[[Connection], None]:
    """A task that takes the run's lock, says so, and gives it back when told to."""

    def task(pipe: Connection) -> None:
        with RunFolder(path).lock(wait=wait):
            pipe.send("locked")
            pipe.recv()

    return task


# --- names


def test_digest_of_a_known_experiment_stays() -> None:
    # A change here renames every finished run: raise NUMBERS_VERSION only when numbers move.
    assert run.digest(experiment()) == "d276cf798c"
    assert run.run_name(experiment()) == "mnist_mnistm-dann-s0-d276cf798c"


def test_digest_takes_1_and_1_0_for_equal_and_true_for_another() -> None:
    def with_op(**op: Any) -> ExperimentConfig:
        return changed(experiment(), "augment.albumentations", [op])

    assert run.digest(with_op(p=1)) == run.digest(with_op(p=1.0))
    assert run.digest(with_op(p=1)) != run.digest(with_op(p=True))
    assert run.digest(with_op(p=1)) != run.digest(with_op(p="1"))


def test_digest_tells_large_seeds_apart() -> None:
    assert run.digest(changed(experiment(), "seed", 2**60)) != run.digest(changed(experiment(), "seed", 2**60 + 1))


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_digest_ignores_place_and_device_and_heeds_everything_else() -> None:
    config = experiment()
    digest = run.digest(config)
    places = {"data.root", "data.download", "data.cache_root"}
    heeded = set()
    for leaf in leaves(config):
        other = run.digest(changed(config, leaf, "something else"))
        assert (other == digest) == (leaf in places or leaf.startswith(("run.", "device."))), leaf
        heeded |= {leaf} if other != digest else set()
    assert {"seed", "strategy.ramp", "data.source.images", "pretrain.engine.epochs", "optim.momentum"} <= heeded


def test_digest_changes_with_the_numbers_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.digest(experiment())
    monkeypatch.setattr(run, "NUMBERS_VERSION", run.NUMBERS_VERSION + 1)
    assert run.digest(experiment()) != before


def test_run_is_named_by_the_last_part_of_a_users_strategy() -> None:
    config = changed(changed(experiment(), "strategy.name", "my_lab.my_method"), "seed", 3)
    assert run.run_name(config) == f"mnist_mnistm-my_method-s3-{run.digest(config)}"
    assert RunFolder.of(config).path == Path("outputs") / run.run_name(config)


def test_run_module_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, tlrun.run; print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the folder and its files


def write_everything(folder: RunFolder) -> None:
    folder.write_config(experiment())
    folder.write_command("tlrun strategy=dann")
    folder.write_environment({"threads": 2})
    folder.write_data_card({"fingerprint": "f"})
    folder.write_metrics(["epoch"], [{"epoch": 0}])
    folder.write_classes([])
    for domain in ("source", "target"):
        for split in ("val", "test"):
            folder.write_confusion(domain, split, ["a"], [[1]])
    folder.write_summary(summary())
    folder.write_predictions(["a"], rows=[0], labels=[0], probabilities=[[1.0]])
    save_checkpoint(folder.last, {"digest": "d"})
    save_checkpoint(folder.best, {"digest": "d"})
    folder.plots.mkdir()
    (folder.plots / "curves.png").write_bytes(b"")
    folder.write_status("done")


def test_run_folder_holds_what_is_declared_and_all_of_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lock(wait=False), folder.logging():
        write_everything(folder)
    assert run.unknown_files(folder.path) == []
    named = {path.relative_to(folder.path).as_posix() for path in vars(folder).values() if path != folder.path}
    assert named == {name.rstrip("/") for name in run.FILES if "<" not in name}
    assert all((folder.path / name).exists() for name in named)
    assert folder.confusion("target", "test").name == "confusion_target_test.csv"


def test_undeclared_files_are_listed(tmp_path: Path) -> None:
    for name in ("notes.txt", "checkpoints/old.pt", "confusion_target.csv", "plots/deep/a.png", ".summary.json.12.tmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert run.unknown_files(tmp_path) == ["checkpoints/old.pt", "confusion_target.csv", "notes.txt"]


def test_clearing_removes_the_status_first_and_keeps_what_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    removed = []
    unlink = Path.unlink

    def watched(path: Path, missing_ok: bool = False) -> None:
        removed.append(path)
        unlink(path, missing_ok)

    with folder.lock(wait=False):
        write_everything(folder)
        (folder.path / "notes.txt").touch()
        monkeypatch.setattr(Path, "unlink", watched)
        folder.clear()
    assert removed[0] == folder.status
    assert sorted(path.name for path in folder.path.rglob("*") if path.is_file()) == ["lock", "notes.txt"]
    assert folder.state() == "new"


def test_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = changed(experiment(), "data.root", "/data/${not_a_key}/ü: #1")
    config = changed(config, "augment.albumentations", [{"p": "1e-3", "size": [1, 2.5, None], "deep": {"x": "no"}}])
    folder = RunFolder(tmp_path)
    folder.write_config(config)
    assert folder.read_config() == config.to_dict()
    folder.config.write_text("a: [1,")
    with pytest.raises(RunError, match=r"config\.yaml is damaged \(while parsing a flow sequence\); run\.fresh=true"):
        folder.read_config()
    folder.config.write_text("- 1")
    with pytest.raises(RunError) as error:
        folder.read_config()
    assert str(error.value) == f"{folder.config} is damaged (not a mapping); run.fresh=true starts over"


def test_json_states_its_format_and_writes_null_for_what_is_no_number(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_data_card({"mean": [0.5, float("nan")], "deep": {"x": (float("inf"),)}, "name": "ü"})
    assert json.loads(folder.data_card.read_text()) == {
        "format": 1,
        "mean": [0.5, None],
        "deep": {"x": [None]},
        "name": "ü",
    }
    folder.write_environment({"threads": 2})
    assert folder.read_environment() == {"format": 1, "threads": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (b'{"format": 1, "a"', "{path} is damaged (Expecting ':' delimiter: line 1 column 18 (char 17)); "),
        (b"\xff", "{path} is damaged ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); "),
        (b"[1]", "{path} was not written by tlrun: it states no format"),
        (b'{"a": 1}', "{path} was not written by tlrun: it states no format"),
        (b'{"format": 2}', "{path} was written by a newer tlrun (format 2, this one reads 1); update tlrun"),
    ],
)
def test_json_that_cannot_be_trusted_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    folder = RunFolder(tmp_path)
    if content is not None:
        folder.data_card.write_bytes(content)
    with pytest.raises(RunError) as error:
        folder.read_data_card()
    advice = "run.fresh=true starts over" if message.endswith("; ") else ""
    assert str(error.value) == message.format(path=folder.data_card) + advice


def test_tables_keep_bits_words_and_blanks(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    third = float(numpy.float32(1 / 3))
    rows: list[Mapping[str, Any]] = [
        {"epoch": 0, "domain": "target", "split": "val", "class": "0", "rows": 3, "accuracy": third},
        {"epoch": 0, "domain": "target", "split": "val", "class": 'NA, "x"\ny', "f1": numpy.float64(0.1)},
        {"epoch": 0, "domain": "target", "split": "val", "class": "2", "accuracy": float("nan"), "f1": float("inf")},
    ]
    folder.write_classes(rows)
    assert folder.classes.read_text().splitlines()[:2] == [
        "epoch,domain,split,class,rows,accuracy,precision,f1",
        "0,target,val,0,3,0.3333333432674408,,",
    ]
    table = folder.read_classes()
    assert list(table["class"]) == ["0", 'NA, "x"\ny', "2"]
    assert table["accuracy"][0] == third
    assert table["f1"][1] == 0.1
    assert table["accuracy"].isna().tolist() == [False, True, True]
    assert table["f1"].isna().tolist() == [True, False, True]


def test_metrics_row_with_an_undeclared_column_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_metrics(["epoch", "phase", "loss"], [{"epoch": 0, "phase": "1"}, {"epoch": 1}])
    before = folder.metrics.read_bytes()
    with pytest.raises(ValueError, match=r"^metrics\.csv has no column b, los$"):
        folder.write_metrics(["epoch", "loss"], [{"epoch": 0, "los": 1.0, "b": 2}])
    assert folder.metrics.read_bytes() == before == b"epoch,phase,loss\n0,1,\n1,,\n"
    assert folder.read_metrics()["phase"].tolist() == ["1", ""]
    folder.metrics.write_bytes(b"")
    with pytest.raises(RunError, match=r"metrics\.csv is damaged \(No columns to parse from file\)"):
        folder.read_metrics()


def test_confusion_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_confusion("target", "test", ["cat", 'a "b",\nc'], [[3, 1], [0, 2]])
    assert folder.confusion("target", "test").read_text().startswith('true/predicted,cat,"a ""b"",\nc"\ncat,3,1\n')
    assert folder.read_confusion("target", "test") == (("cat", 'a "b",\nc'), [[3, 1], [0, 2]])
    folder.confusion("target", "test").write_text("true/predicted,cat\ncat,x\n")
    with pytest.raises(RunError, match="confusion_target_test.csv is damaged"):
        folder.read_confusion("target", "test")


def test_predictions_name_classes_and_leave_unknown_labels_blank(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_predictions(["0", "1"], rows=[4, 7], labels=[1, -1], probabilities=[[0.25, 0.75], [0.5, 0.5]])
    assert folder.predictions.read_text() == (
        "row,label,prediction,confidence,probability_0,probability_1\n4,1,1,0.75,0.25,0.75\n7,,0,0.5,0.5,0.5\n"
    )
    assert folder.read_predictions()["label"].tolist() == ["1", ""]


def test_summary_holds_its_fields_in_order_and_no_others(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_summary(dict(reversed(summary(seed=1, seconds=2, regret=float("nan"), warnings=["a"]).items())))
    written = folder.read_summary()
    assert list(written) == list(run.SUMMARY_FIELDS)
    assert (written["format"], written["seed"], written["regret"], written["warnings"]) == (1, 1, None, ["a"])
    values = summary(sed=1)
    del values["seed"]
    with pytest.raises(ValueError, match=r"^summary: missing \['seed'\], unknown \['sed'\]$"):
        folder.write_summary(values)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", 1.5, "summary: seed must be int or None, got 1.5"),
        ("seed", True, "summary: seed must be int or None, got True"),
        ("regret", False, "summary: regret must be float or None, got False"),
        ("name", 3, "summary: name must be str or None, got 3"),
        ("warnings", "a", "summary: warnings must be list or None, got 'a'"),
    ],
)
def test_summary_refuses_a_wrong_type(tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        RunFolder(tmp_path).write_summary(summary(**{name: value}))
    assert str(error.value) == message


def test_metrics_columns_come_from_what_the_strategy_declares() -> None:
    terms = Terms(task=("classification",), transfer=("domain",), stats=("discriminator_accuracy",))
    columns = run.metrics_columns(terms, splits=["target_val"], rules=["entropy"], groups=["head"])
    assert columns == (
        *("epoch", "step", "phase", "loss", "loss_classification", "loss_domain", "gradient_domain"),
        *("discriminator_accuracy", "target_val_accuracy", "target_val_macro_f1", "target_val_loss"),
        *("target_val_calibration_error", "score_entropy", "largest_class_share", "lr", "lr_head"),
        *("seconds", "images_per_second"),
    )
    whole = run.metrics_columns(terms, rules=[], groups=[])
    assert [column for column in whole if column.endswith("_macro_f1")] == [
        f"{part}_macro_f1" for part in ("source_val", "source_test", "target_val", "target_test")
    ]


def test_metrics_column_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^metrics\.csv would have two columns named loss_domain, lr$"):
        run.metrics_columns(Terms(transfer=("domain",), stats=("lr", "loss_domain")), rules=[], groups=[])


# --- status


def test_status_of_a_living_and_of_a_finished_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.state() == "new"
    with folder.lock(wait=False):
        folder.write_status("running")
        assert folder.state() == "running"
        before = folder.read_status()
        folder.write_status("failed", "loss_domain is nan at step 3")
    assert folder.state() == "failed"
    status = folder.read_status()
    assert status | {"updated": None} == {
        "format": 1,
        "state": "failed",
        "reason": "loss_domain is nan at step 3",
        "started": before["started"],
        "updated": None,
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }


def test_status_tells_when_the_present_process_started(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    long_ago = {"state": "running", "started": "2000-01-01T00:00:00+00:00", "host": socket.gethostname()}
    files.write_json(folder.status, {**long_ago, "pid": os.getpid()})
    folder.write_status("running")
    assert folder.read_status()["started"] == "2000-01-01T00:00:00+00:00"
    files.write_json(folder.status, {**long_ago, "pid": os.getpid() + 1})
    folder.write_status("running")
    assert folder.read_status()["started"] > "2020"


def test_killed_run_is_interrupted(tmp_path: Path) -> None:
    def task(pipe: Connection) -> None:
        with RunFolder(tmp_path).lock(wait=False) as folder:
            folder.write_status("running")
            pipe.send("running")
            pipe.recv()

    folder = RunFolder(tmp_path)
    with child(task) as (process, pipe):
        pipe.recv()
        assert folder.state() == "running"
        process.kill()
        process.join()
        assert folder.read_status()["state"] == "running"
        assert folder.state() == "interrupted"


def test_run_that_ends_between_two_looks_is_not_called_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_status("running")

    def ends(path: Path) -> bool:
        folder.write_status("done")
        return False

    monkeypatch.setattr(files, "is_locked", ends)
    assert folder.state() == "done"


# --- the lock


def test_second_process_on_a_run_folder_is_told_who_has_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "run")
    with child(hold(folder.path)) as (process, pipe):
        pipe.recv()
        with pytest.raises(RunError) as error, folder.lock(wait=False):
            pass
        who = f"process {process.pid} on {socket.gethostname()}"
        assert str(error.value) == f"{folder.path} is in use by {who}; wait until it ends, or stop it"
        folder.lock_file.write_bytes(b"\xff")
        with pytest.raises(RunError, match="is in use by another process; wait"), folder.lock(wait=False):
            pass
        pipe.send("stop")
        process.join()
    with folder.lock(wait=False) as same:
        assert same is folder
        assert folder.lock_file.read_text() == f"{os.getpid()} {socket.gethostname()}\n"
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on "), folder.lock(wait=False):
            pass
    assert folder.lock_file.read_text() == ""


def test_waiting_for_a_run_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path)
    with child(hold(folder.path)) as (process, pipe), caplog.at_level(logging.INFO, logger="tlrun"):
        pipe.recv()
        threading.Timer(0.5, pipe.send, ["stop"]).start()
        with folder.lock(wait=True):
            process.join(5)
            assert not process.is_alive()
    who = f"process {process.pid} on {socket.gethostname()}"
    assert caplog.messages == [f"waiting for {folder.path}, which is in use by {who}"]


def test_lock_ends_with_its_process_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def task(pipe: Connection) -> None:
        with RunFolder(tmp_path).lock(wait=False):
            worker = os.fork()
            if worker == 0:
                time.sleep(30)
                os._exit(0)
            pipe.send(worker)
            pipe.recv()

    with child(task) as (process, pipe):
        worker = pipe.recv()
        try:
            with pytest.raises(RunError, match=f"in use by process {process.pid} on"), folder.lock(wait=False):
                pass
            process.kill()
            process.join()
            with folder.lock(wait=False):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_forked_child_that_leaves_the_block_keeps_the_lock_as_it_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.lock(wait=False):
        block = folder.lock(wait=False)
        worker = os.fork()
        if worker == 0:
            del block
            os._exit(0 if not files._held else 1)
        assert os.waitpid(worker, 0)[1] == 0
        assert files.is_locked(folder.lock_file)
        assert folder.lock_file.read_text() == f"{os.getpid()} {socket.gethostname()}\n"


def test_readers_never_keep_an_owner_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            files.is_locked(folder.lock_file)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(100):
            with folder.lock(wait=False):
                assert files.is_locked(folder.lock_file)
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_lock_file_removed_while_waiting_is_taken_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with child(hold(tmp_path)) as (first, pipe), child(hold(tmp_path, wait=True)) as (_, waiting):
        pipe.recv()
        time.sleep(0.5)
        folder.lock_file.unlink()
        first.kill()
        assert waiting.poll(5)
        assert files.is_locked(folder.lock_file)


def test_temporaries_of_a_killed_write_go_at_the_next_opening(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_checkpoint(folder.last, {"digest": "d", "step": 1})

    def task(pipe: Connection) -> None:
        with folder.lock(wait=False):
            os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
            save_checkpoint(folder.last, {"digest": "d", "step": 2})

    with child(task) as (process, _):
        process.join()
        left = [path.name for path in folder.last.parent.iterdir() if path != folder.last]
        assert left == [f".last.pt.{process.pid}.tmp"]
        assert files.TEMPORARY.fullmatch(left[0])
        assert load_checkpoint(folder.last, digest="d")["step"] == 1
    (folder.path / ".notes.tmp").touch()
    with folder.lock(wait=False):
        assert list(folder.last.parent.iterdir()) == [folder.last]
    assert run.unknown_files(folder.path) == [".notes.tmp"]


# --- disks that refuse


def test_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "run", "Not a directory")):
        with pytest.raises(RunError) as error, RunFolder(path).lock(wait=False):
            pass
        assert str(error.value) == f"cannot make the run folder {path}: {reason}"
    (tmp_path / "run" / "lock").mkdir(parents=True)
    with pytest.raises(RunError) as error, RunFolder(tmp_path / "run").lock(wait=False):
        pass
    assert str(error.value) == f"cannot lock {tmp_path / 'run' / 'lock'}: Is a directory"


def test_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.last.parent.touch()
    with pytest.raises(RunError) as error:
        save_checkpoint(folder.last, {"digest": "d"})
    assert str(error.value) == f"cannot write {folder.last}: File exists; what was complete is still there"
    folder.summary.mkdir()
    with pytest.raises(RunError) as error:
        folder.write_summary(summary())
    assert str(error.value) == f"cannot write {folder.summary}: Is a directory; what was complete is still there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "summary.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError) as error:
        folder.write_status("running")
    assert str(error.value) == f"cannot write {folder.status}: Permission denied; what was complete is still there"


def test_disk_that_fills_up_leaves_the_old_checkpoint_and_no_litter(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_checkpoint(folder.last, {"digest": "d", "step": 1})

    def task(pipe: Connection) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_checkpoint(folder.last, {"digest": "d", "step": 2, "x": torch.zeros(250_000)})
        except RunError as error:
            pipe.send(str(error))

    with child(task) as (_, pipe):
        assert pipe.recv() == f"cannot write {folder.last}: File too large; what was complete is still there"
    assert list(folder.last.parent.iterdir()) == [folder.last]
    assert load_checkpoint(folder.last, digest="d")["step"] == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_every_refusal_of_the_system_becomes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_command("first")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(RunError) as error:
        folder.write_command("second")
    assert str(error.value) == f"cannot write {folder.command}: {FULL}; what was complete is still there"
    assert folder.command.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [folder.command]


def test_write_broken_off_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path).write_command("x")
    assert list(tmp_path.iterdir()) == []


# --- checkpoints


STATE = {
    "digest": "d",
    "model": {"weight": torch.arange(300.0).reshape(3, 100), "steps": torch.tensor(7)},
    "random": torch.get_rng_state()[:64],
    "history": [{"epoch": 0, "loss": 0.1, "phase": "all", "score": None}],
    "tuple": (1, True, b"x"),
}


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return bool(left == right)


def test_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", STATE)
    assert equal(load_checkpoint(tmp_path / "last.pt", digest="d"), {"format": 1, **STATE})
    assert equal(load_checkpoint(tmp_path / "last.pt", digest=None), {"format": 1, **STATE})


def test_optimizer_and_buffers_survive_a_checkpoint(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).to(torch.float64)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 3, dtype=torch.float64)).square().sum().backward()
    optimizer.step()
    state = {"digest": "d", "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    save_checkpoint(tmp_path / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "last.pt", digest="d")
    assert equal(loaded["model"], dict(state["model"]))
    assert equal(loaded["optimizer"], state["optimizer"])


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="e")
    assert str(error.value) == (
        f"{path} belongs to another run (digest d, this run's is e); run.fresh=true starts over"
    )


def test_missing_newer_and_strange_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="d")
    assert str(error.value) == f"cannot read {path}: No such file or directory"
    save_checkpoint(path, {**STATE, "format": 2})
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="d")
    assert str(error.value) == f"{path} was written by a newer tlrun (format 2, this one reads 1); update tlrun"
    for content in ({"weight": torch.zeros(2)}, [1, 2]):
        torch.save(content, path)
        with pytest.raises(RunError) as error:
            load_checkpoint(path, digest="d")
        assert str(error.value) == f"{path} was not written by tlrun: it states no format"


def test_checkpoint_without_a_run_or_with_foreign_objects_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^a checkpoint must name the digest of its run$"):
        save_checkpoint(tmp_path / "last.pt", {"step": 1})
    with pytest.raises(ValueError, match=r"^a checkpoint may hold only tensors and plain values, found .*ndarray"):
        save_checkpoint(tmp_path / "last.pt", {"digest": "d", "state": numpy.random.get_state()})
    assert list(tmp_path.iterdir()) == []


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for content, why in ((b"", "File is not a zip file"), (b"no zip", "File is not a zip file")):
        path.write_bytes(content)
        with pytest.raises(RunError) as error:
            load_checkpoint(path, digest="d")
        assert str(error.value) == f"{path} is damaged ({why}); run.fresh=true starts over"
    save_checkpoint(path, STATE)
    content = bytearray(path.read_bytes())
    content[content.index(numpy.float32(299).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError) as error:
        load_checkpoint(path, digest="d")
    assert str(error.value) == f"{path} is damaged (wrong checksum in last/data/0); run.fresh=true starts over"


def test_no_truncated_or_altered_checkpoint_passes_for_another(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    whole, refused = path.read_bytes(), 0
    draw = random.Random(0)
    for at in draw.sample(range(len(whole)), 200):
        path.write_bytes(whole[:at])
        with pytest.raises(RunError, match="is damaged"):
            load_checkpoint(path, digest="d")
        altered = bytearray(whole)
        altered[at] ^= 1 << draw.randrange(8)
        path.write_bytes(altered)
        try:  # a bit in the padding changes nothing
            assert equal(load_checkpoint(path, digest="d"), {"format": 1, **STATE}), at
        except RunError:
            refused += 1
    assert refused > 50


def test_checkpoint_is_whole_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save_checkpoint(folder.last, {"digest": "d", "x": torch.zeros(500_000)})
    draw = random.Random(0)
    step, litter = 0, 0
    for _ in range(20):

        def task(pipe: Connection, first: int = step + 1) -> None:
            for number in range(first, first + 10_000):
                save_checkpoint(folder.last, {"digest": "d", "x": torch.full((500_000,), float(number))})
                pipe.send(number)

        with child(task) as (process, pipe):
            pipe.recv()
            time.sleep(draw.uniform(0, 0.02))
            process.kill()
            process.join()
        x = load_checkpoint(folder.last, digest="d")["x"]
        assert bool((x == x[0]).all())
        assert x[0] > step
        step = int(x[0])
        litter += len(list(folder.last.parent.iterdir())) - 1
        with folder.lock(wait=False):
            assert list(folder.last.parent.iterdir()) == [folder.last]
    assert litter > 0, "no kill came during a write: the test shows nothing"


# --- what is asked of the summary


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("target_test_accuracy>=0.7", 0.7, True),
        (" target_test_accuracy > 0.7 ", 0.7, False),
        ("regret<=1e-2", 0.01, True),
        ("regret<0", 0, False),
        ("selected_epoch==3", 3, True),
        ("selected_epoch==3", 4, False),
    ],
)
def test_requirement_compares_as_it_reads(text: str, value: float, met: bool) -> None:
    requirement = run.parse_requirement(text)
    assert (requirement.check({requirement.name: value}) is None) == met


def test_requirement_that_is_not_met_says_what_was_found() -> None:
    requirement = run.parse_requirement("target_test_accuracy>=0.7")
    assert requirement == run.Requirement("target_test_accuracy", ">=", 0.7)
    text = "target_test_accuracy is 0.65, required was >= 0.7"
    assert requirement.check(summary(target_test_accuracy=0.65)) == text
    text = "target_test_accuracy is unknown, required was >= 0.7"
    assert requirement.check(summary()) == requirement.check({}) == text


@pytest.mark.parametrize("text", ["", "target_test_accuracy", "seed=1", "seed>=x", "seed>=nan", "seed>=1 2", "a.b>=1"])
def test_requirement_that_cannot_be_read_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        run.parse_requirement(text)
    assert error.value.problems == [
        f'run.require: "{text}" cannot be read; write a field of summary.json, one of >= > <= < == and a number, '
        'such as "target_test_accuracy>=0.7"'
    ]


def test_requirement_on_an_unknown_field_suggests_one() -> None:
    with pytest.raises(ConfigError) as error:
        run.parse_requirement("target_test_acuracy>=0.7")
    assert error.value.problems == [
        'run.require: summary.json has no numeric field "target_test_acuracy"; did you mean target_test_accuracy?'
    ]
    for name in ("zzz", "status", "format", "warnings"):
        with pytest.raises(ConfigError, match=f'no numeric field "{name}"; '):
            run.parse_requirement(f"{name}>=1")
    with pytest.raises(ConfigError, match="allowed are seed, target_test_accuracy, .*, largest_class_share$"):
        run.parse_requirement("zzz>=1")


# --- log and environment


def test_log_is_appended_and_the_logger_left_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    package = logging.getLogger("tlrun")
    before = (package.level, list(package.handlers))
    for word in ("first", "second"):
        with folder.logging():
            logging.getLogger("tlrun.engine").info("%s line", word)
            logging.getLogger("other").error("not ours")
    assert (package.level, list(package.handlers)) == before
    lines = folder.log.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO first line", "INFO second line"]


def test_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log.mkdir()
    with pytest.raises(RunError) as error, folder.logging():
        pass
    assert str(error.value) == f"cannot write {folder.log}: Is a directory"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full")
def test_log_on_a_full_disk_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    folder.log.symlink_to("/dev/full")
    with folder.logging():
        logging.getLogger("tlrun").info("lost")
    assert capsys.readouterr().err == ""


def test_mistake_in_a_log_line_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    package = logging.getLogger("tlrun")
    monkeypatch.setattr(package, "propagate", False)
    with RunFolder(tmp_path).logging():
        package.info("%d", "word")
    assert "TypeError" in said.getvalue()


def test_environment_names_versions_machine_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = environment(command="tlrun seed=1", device="cpu", threads=2, weights=None)
    assert found["git"] is None
    assert found["versions"]["python"] == sys.version.split()[0]
    assert found["versions"]["torch"] == torch.__version__
    assert (found["command"], found["device"], found["threads"], found["weights"]) == ("tlrun seed=1", "cpu", 2, None)
    assert found["processor"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_environment_tells_the_commit_and_whether_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    def revision() -> Any:
        return environment(command="", device="cpu", threads=1, weights=None)["git"]

    git("init")
    assert revision() is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    git("tag", "-a", "v1", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert revision() == {"revision": commit, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert revision() == {"revision": commit, "dirty": True}
