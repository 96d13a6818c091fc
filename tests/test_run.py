from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tlrun import files, locks, run
from tlrun.config import (
    DomainSettings,
    ExperimentConfig,
    ModelSettings,
    PairSettings,
    PretrainSettings,
    ScheduleSettings,
    Settings,
    StrategySettings,
)
from tlrun.run import Prediction, RunError, RunFolder, save_checkpoint
from tlrun.run_files import CLASS_COLUMNS, FILES, SUMMARY_FIELDS, unknown_files

SETTINGS = """
strategy: {name: dann, weight: 1, ramp: true}
data: {protocol: split, fit: crop, crop_fraction: 1, interpolation: bilinear, on_bad_image: stop, cache: none,
  cache_gigabytes: 20, workers: null, image_size: 28, channels: 3, normalize: shared, mean: null, std: null, val_fraction: 0.1,
  test_fraction: 0.2, source_rows: null,
  target_rows: 1000, target_labels: none, target_val_labels: 5, source_label_noise: 0, label_sets: closed,
  root: data, cache_root: null, download: false}
model: {name: digits_cnn, weights: source, head: new, head_type: linear, hidden: 100, dropout: 0, bottleneck: null,
  weights_file: null, weights_root: null, download: false, batch_norm: true}
optim: {_target_: torch.optim.SGD, lr: 0.01, weight_decay: 0, decay_norms_and_biases: true, label_smoothing: 0.1,
  class_weights: none, effective_beta: null, momentum: 0.9}
schedule: {name: inverse_decay, warmup_fraction: 0, per_phase: false, power: 0.75}
engine: {epochs: 10, steps_per_epoch: null, batch_size: 64, eval_batch_size: 512, accumulate: 1, clip_norm: null,
  precision: fp32, evaluate_every: 1, select: source_val, early_stop: {metric: null, patience: 3}, sampling: shuffled,
  ema: {decay: null, warmup: true}, test_time: {flip: false, shift: 0}}
augment: {albumentations: [{_target_: Blur, p: 1, "on": true}], crop: null, flip: 0, shift: 2, randaugment: null,
  brightness: 0, contrast: 0, saturation: 0, hue: 0, erase: null, mix: null, target: null, views: null}
device: {name: cpu, threads: 2}
run: {root: outputs, fresh: false, require: null, checkpoint_seconds: 60, plots: false, loggers: []}
"""


class Ramped(StrategySettings):
    weight: float
    ramp: bool


class Digits(DomainSettings):
    images: str


class Network(ModelSettings):
    batch_norm: bool


class Decay(ScheduleSettings):
    power: float


def experiment() -> ExperimentConfig:
    """A config of settings that no release changes, so that its digest is ours to fix."""
    values: Any = OmegaConf.to_container(OmegaConf.create(SETTINGS))
    domains = {"source": Digits(name="mnist", images="all"), "target": Digits(name="mnistm", images="made")}
    schedule = Decay(**values["schedule"])
    first = Ramped(name="source_only", weight=0, ramp=False)
    pretrain = {"strategy": first, "weights": "random", "schedule": schedule}
    return ExperimentConfig(
        strategy=Ramped(**values["strategy"]),
        data=PairSettings(**values["data"], **domains),
        model=Network(**values["model"]),
        optim=values["optim"],
        schedule=schedule,
        engine=values["engine"],
        augment=values["augment"],
        pretrain=PretrainSettings(**pretrain, optim=values["optim"], engine=values["engine"] | {"epochs": 2}),
        device=values["device"],
        run=values["run"],
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
    return {name: None for name in SUMMARY_FIELDS if name != "format"} | values


# --- names


def test_digest_of_a_known_experiment_stays() -> None:
    # A change here renames every finished run: raise NUMBERS_VERSION only when numbers move.
    assert run.digest(experiment()) == "3f9ade2cd5"
    assert run.run_name(experiment()) == "mnist_mnistm-dann-s0-3f9ade2cd5"


def test_digest_takes_1_and_1_0_for_equal_and_true_for_another() -> None:
    def with_op(**op: Any) -> ExperimentConfig:
        return changed(experiment(), "augment.albumentations", [op])

    assert run.digest(with_op(p=1)) == run.digest(with_op(p=1.0))
    assert run.digest(with_op(p=1, limit=2)) == run.digest(with_op(limit=2, p=1))
    assert run.digest(with_op(p=1)) != run.digest(with_op(p=True))
    assert run.digest(with_op(p=1)) != run.digest(with_op(p="1"))


def test_digest_tells_large_seeds_apart() -> None:
    assert run.digest(changed(experiment(), "seed", 2**60)) != run.digest(changed(experiment(), "seed", 2**60 + 1))


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_digest_ignores_place_and_device_and_heeds_everything_else() -> None:
    config = experiment()
    digest = run.digest(config)
    places = {"data.root", "data.download", "data.cache_root", "data.cache", "data.workers", "data.cache_gigabytes"}
    places |= {"model.weights_root", "model.download"}
    heeded = set()
    for leaf in leaves(config):
        other = run.digest(changed(config, leaf, "something else"))
        assert (other == digest) == (leaf in places or leaf.startswith(("run.", "device."))), leaf
        heeded |= {leaf} if other != digest else set()
    assert {"seed", "strategy.ramp", "data.source.images", "pretrain.engine.epochs", "optim.momentum"} <= heeded


def test_digest_heeds_the_source_model_only_where_one_is_used() -> None:
    def with_weights(weights: str, epochs: int) -> str:
        config = changed(experiment(), "model.weights", weights)
        return run.digest(changed(config, "pretrain.engine.epochs", epochs))

    assert with_weights("source", 2) != with_weights("source", 3)
    assert with_weights("random", 2) == with_weights("random", 3)
    assert with_weights("random", 2) != with_weights("source", 2)


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
    folder.write_predictions(["a"], [Prediction("test", 0, 0, [1.0])])
    save_checkpoint(folder.last, {"digest": "d"})
    save_checkpoint(folder.best, {"digest": "d"})
    folder.write_loggers({"tensorboard": {"where": "tensorboard", "complete": True}})
    for made in (folder.plots, folder.tensorboard, folder.wandb):
        made.mkdir()
        (made / "anything").write_bytes(b"")
    folder.write_status("done")


def test_run_folder_holds_what_is_declared_and_all_of_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lock(wait=False), folder.logging():
        write_everything(folder)
    assert unknown_files(folder.path) == []
    named = {path.relative_to(folder.path).as_posix() for path in vars(folder).values() if path != folder.path}
    assert named == {name.rstrip("/") for name in FILES if "<" not in name}
    assert all((folder.path / name).exists() for name in named)
    assert folder.confusion("target", "test").name == "confusion_target_test.csv"


def test_what_names_the_logs_is_read_as_it_was_written_and_empty_where_there_are_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_loggers() == {}
    known = {"mlflow": {"where": "sqlite:///x.db", "run": "1", "complete": False}}
    folder.write_loggers(known)
    assert folder.read_loggers() == known


def test_a_fresh_start_takes_the_status_first_and_keeps_what_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    taken = []
    rename = Path.rename

    def watched(path: Path, to: Path) -> Path:
        taken.append(path)
        return rename(path, to)

    with folder.lock(wait=False):
        write_everything(folder)
        (folder.path / "notes.txt").touch()
        monkeypatch.setattr(Path, "rename", watched)
        with folder.opening(fresh=True) as ready:
            assert taken[0] == folder.status and folder.state() == "new"
            ready()
            left = sorted(path.name for path in folder.path.rglob("*") if path.is_file())
            assert left == ["lock", "notes.txt"]


def test_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = changed(experiment(), "data.root", "/data/${not_a_key}/ü: #1")
    config = changed(config, "augment.albumentations", [{"p": "1e-3", "size": [1, 2.5, None], "deep": {"x": "no"}}])
    folder = RunFolder(tmp_path)
    folder.write_config(config)
    assert folder.read_config() == config.to_dict()
    folder.config.write_text("a: [1,")
    with pytest.raises(RunError, match=r"config\.yaml is damaged \(while parsing .*\)$"):
        folder.read_config()
    folder.config.write_text("- 1")
    with pytest.raises(RunError) as error:
        folder.read_config()
    assert str(error.value) == f"{folder.config} is damaged (not a mapping)"


def test_metrics_row_with_an_undeclared_column_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_metrics(["epoch", "phase", "loss"], [{"epoch": 0, "phase": "1"}, {"epoch": 1}])
    before = folder.metrics.read_bytes()
    with pytest.raises(ValueError, match=r"^metrics\.csv has no column b, los$"):
        folder.write_metrics(["epoch", "loss"], [{"epoch": 0, "los": 1.0, "b": 2}])
    assert folder.metrics.read_bytes() == before == b"epoch,phase,loss\n0,1,\n1,,\n"
    assert folder.read_metrics()["phase"].tolist() == ["1", ""]


def test_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_classes([])
    assert tuple(folder.read_classes().columns) == CLASS_COLUMNS


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
    known, unknown = Prediction("test", 4, 1, [0.25, 0.75]), Prediction("train", 7, -1, [0.5, 0.5])
    folder.write_predictions(["0", "1"], [known, unknown])
    assert folder.predictions.read_text() == (
        "split,row,label,prediction,confidence,probability_0,probability_1\n"
        "test,4,1,1,0.75,0.25,0.75\ntrain,7,,0,0.5,0.5,0.5\n"
    )
    assert folder.read_predictions()["label"].tolist() == ["1", ""]
    folder.write_predictions(["0"], [Prediction("test", 4, 0, [1.0], "a/b.jpg")])
    assert folder.predictions.read_text() == (
        "split,row,path,label,prediction,confidence,probability_0\ntest,4,a/b.jpg,0,0,1.0,1.0\n"
    )


def test_summary_holds_its_fields_in_order_and_no_others(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_summary(dict(reversed(summary(seed=1, seconds=2, regret=float("nan"), warnings=["a"]).items())))
    written = folder.read_summary()
    assert list(written) == list(SUMMARY_FIELDS)
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
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RunFolder(tmp_path).write_summary(summary(**{name: value}))


def test_summary_of_a_wrong_type_is_damaged_and_one_of_fewer_fields_is_not(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.summary.write_text('{"format": 1, "regret": 1, "twin_rows": null, "of_a_later_version": "x"}')
    assert folder.read_summary() == {"format": 1, "regret": 1, "twin_rows": None, "of_a_later_version": "x"}
    folder.summary.write_text('{"format": 1, "regret": "x"}')
    message = f"{folder.summary} is damaged (regret must be float or None, got 'x')"
    with pytest.raises(RunError, match=f"^{re.escape(message)}$"):
        folder.read_summary()


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


def test_run_that_ends_between_two_looks_is_not_called_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_status("running")

    def ends(path: Path) -> bool:
        folder.write_status("done")
        return False

    monkeypatch.setattr(locks, "is_locked", ends)
    assert folder.state() == "done"
