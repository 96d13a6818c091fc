"""What goes wrong outside the settings is said in one line, and what was complete stays complete."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.children import Child, Hold, full_disk
from tests.engine.runs import TOY, differences
from tlrun import experiment
from tlrun.batch import Batch, Losses, Output, Progress
from tlrun.compose.resolve import name_choices, pretrain_config
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.datasets.toy_gaussians import ToyGaussians
from tlrun.data.domain import DomainPair, load_pair
from tlrun.engine.checkpoint import Checkpoints
from tlrun.engine.engine import Engine
from tlrun.engine.selection import Best
from tlrun.run import RunError, RunFolder
from tlrun.run_files import unknown_files
from tlrun.strategies.base import Phase, Plateau, Strategy
from tlrun.strategies.mmd import Mmd
from tlrun.strategies.source_only import SourceOnly

Describe = Callable[..., ExperimentConfig]
Train = Callable[..., RunFolder]

SETTINGS = (*TOY, "strategy=source_only")
STARTS_OVER = "run.fresh=true starts over"


@pytest.fixture
def stopped(described: Describe, train: Train) -> RunFolder:
    """A run that was interrupted in its second epoch, after 6 of 12 steps."""
    count = itertools.count(1)

    def after_step(self: Strategy, progress: Progress) -> None:
        if next(count) == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "after_step", after_step)
        with pytest.raises(KeyboardInterrupt):
            train(*SETTINGS)
    return RunFolder.of(name_choices(described(*SETTINGS)))


@pytest.fixture(autouse=True)
def _nothing_that_is_not_declared(tmp_path: Path) -> Iterator[None]:
    """Whatever went wrong, the run folders hold what `run_files.FILES` declares and no more."""
    yield
    for status in tmp_path.rglob("status.json"):
        assert unknown_files(status.parent) == []


def contents(folder: RunFolder) -> dict[str, bytes]:
    """The bytes of everything that a failed attempt leaves alone."""
    changing = (folder.status, folder.log, folder.lock_file, folder.command)
    return {str(path): path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path not in changing}


def refused(train: Train, folder: RunFolder, *overrides: str) -> str:
    """Why the run would not go on: said by the error and by status.json, all other files as they were."""
    before = contents(folder)
    with pytest.raises(RunError) as error:
        train(*SETTINGS, *overrides)
    assert contents(folder) == before
    status = folder.read_status()
    assert (status["state"], status["reason"]) == ("failed", str(error.value))
    return str(error.value)


# -- damaged and foreign checkpoints ----------------------------------------------------------------------------------


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, *, where: float) -> bytes:
    place = int(len(data) * where)
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": truncated,
    "emptied": lambda data: b"",
    "overwritten": lambda data: b"\0" * len(data),
    "bit_flipped_early": partial(flipped, where=0.3),
    "bit_flipped_late": partial(flipped, where=0.7),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_named_and_nothing_is_lost(
    damage: str, stopped: RunFolder, train: Train, tmp_path: Path
) -> None:
    whole = stopped.last.read_bytes()
    stopped.last.write_bytes(DAMAGES[damage](whole))
    text = refused(train, stopped)
    assert text.startswith(f"{stopped.last} is damaged (")
    assert text.endswith(f"); {STARTS_OVER}")
    if damage == "truncated":
        stopped.last.write_bytes(whole)
        train(*SETTINGS)
    else:
        train(*SETTINGS, "run.fresh=true")
    train(*SETTINGS, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
def test_no_flipped_bit_of_a_checkpoint_goes_unseen(stopped: RunFolder, train: Train, tmp_path: Path) -> None:
    train(*SETTINGS, root="whole")
    kept = tmp_path / "kept"
    stopped.path.rename(kept)
    length = len((kept / "checkpoints" / "last.pt").read_bytes())
    seen = 0
    for place in np.linspace(0, length - 1, 60).astype(int):
        shutil.copytree(kept, stopped.path)
        data = bytearray(stopped.last.read_bytes())
        data[place] ^= 4
        stopped.last.write_bytes(bytes(data))
        try:
            train(*SETTINGS)
        except RunError as error:
            seen += 1
            assert "is damaged (" in str(error)  # noqa: PT017
        else:  # a bit that means nothing, such as one of the padding
            assert differences(tmp_path / "whole", tmp_path / "runs") == []
        shutil.rmtree(stopped.path)
    assert seen > 30
    kept.rename(stopped.path)


def test_damaged_best_checkpoint_is_never_reported_as_the_result(
    stopped: RunFolder, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped.best.write_bytes(truncated(stopped.best.read_bytes()))

    def never_better(self: object, evidence: object, step: int) -> bool:
        return False

    monkeypatch.setattr(Best, "offer", never_better)
    with pytest.raises(RunError) as error:
        train(*SETTINGS)
    assert str(error.value).startswith(f"{stopped.best} is damaged (")
    assert not stopped.summary.exists()


@pytest.mark.slow
def test_checkpoint_of_another_run_is_refused(stopped: RunFolder, train: Train) -> None:
    other = train(*SETTINGS, "seed=1", root="others")
    shutil.copy(other.last, stopped.last)
    digests = [folder.path.name.rpartition("-")[2] for folder in (other, stopped)]
    assert refused(train, stopped) == (
        f"{stopped.last} belongs to another run (digest {digests[0]}, this run's is {digests[1]}); {STARTS_OVER}"
    )


def test_best_checkpoint_of_another_step_is_not_taken_for_the_one_chosen(
    stopped: RunFolder, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_epochs = stopped.best.read_bytes()
    monkeypatch.setattr(Checkpoints, "_save_best", lambda *_: stopped.best.write_bytes(first_epochs))
    with pytest.raises(RunError) as error:
        train(*SETTINGS)
    assert str(error.value) == f"{stopped.best} is of step 4, the run chose step 12; {STARTS_OVER}"


# -- what changed under a run ----------------------------------------------------------------------------------------


def test_run_whose_data_changed_is_refused_by_name(
    stopped: RunFolder, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stopped.read_data_card()["fingerprint"]
    load = ToyGaussians.load

    def one_row_moved(self: ToyGaussians) -> DomainData:
        data = load(self)
        x = data.train.x.copy()
        x[0, 0] += 1e-3
        return replace(data, train=Rows(x, data.train.y))

    monkeypatch.setattr(ToyGaussians, "load", one_row_moved)
    now = train(*SETTINGS, root="others").read_data_card()["fingerprint"]
    assert now != before
    assert refused(train, stopped) == (
        f"{stopped.path} cannot go on: its data fingerprint changed since it began ({before}, now {now}); "
        f"put back what was there; {STARTS_OVER}"
    )


@pytest.mark.slow
def test_run_whose_starting_weights_changed_is_refused_by_name(train: Train, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    settings = (f"model.weights={weights}", "model.head=keep")
    first, second = (train(*SETTINGS, f"seed={seed}", root="others") for seed in (1, 2))
    shutil.copy(first.best, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "after_step", lambda self, progress: 1 // (progress.step < 7))
        with pytest.raises(ZeroDivisionError):
            train(*SETTINGS, *settings)
    (stopped,) = (RunFolder(path) for path in (tmp_path / "runs").iterdir())
    hashes = [stopped.read_environment()["weights"]]
    shutil.copy(second.best, weights)
    text = refused(train, stopped, *settings)
    hashes.append(train(*SETTINGS, *settings, "seed=1").read_environment()["weights"])
    assert text == (
        f"{stopped.path} cannot go on: its starting weights changed since it began ({hashes[0]}, now {hashes[1]}); "
        f"put back what was there; {STARTS_OVER}"
    )
    shutil.copy(first.best, weights)
    assert train(*SETTINGS, *settings).read_summary()["steps"] == 12


# -- losses that are not finite --------------------------------------------------------------------------------------


def test_rate_that_is_far_too_high_stops_the_run_and_says_where(described: Describe, train: Train) -> None:
    settings = (*SETTINGS, "optim.lr=1e30")
    with pytest.raises(RunError) as error:
        train(*settings)
    told = re.fullmatch(
        r"the loss term 'classification' was not finite at step (\d+) of phase 'train'; "
        r"a smaller optim\.lr, engine\.clip_norm=1 or engine\.precision=fp32 may help",
        str(error.value),
    )
    assert told is not None, error.value
    assert 1 <= int(told[1]) <= 3
    status = RunFolder.of(name_choices(described(*settings))).read_status()
    assert (status["state"], status["reason"]) == ("failed", str(error.value))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 60])
def test_term_that_is_not_finite_is_named_with_its_step_and_phase(
    seconds: int, described: Describe, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*TOY, "strategy=mmd", "strategy.finetune_share=0.4", f"run.checkpoint_seconds={seconds}")
    train(*settings, root="whole")
    loss = Mmd.loss

    def not_a_number(self: Mmd, batch: Batch, progress: Progress) -> Losses:
        losses = loss(self, batch, progress)
        if progress.step != 5:
            return losses
        return replace(losses, transfer={"mmd": losses.transfer["mmd"] * torch.nan})

    with monkeypatch.context() as patch:
        patch.setattr(Mmd, "loss", not_a_number)
        with pytest.raises(RunError) as error:
            train(*settings)
    assert str(error.value).startswith("the loss term 'mmd' was not finite at step 5 of phase 'train'; ")
    folder = RunFolder.of(name_choices(described(*settings)))
    assert folder.state() == "failed"
    assert folder.read_metrics()["epoch"].tolist() == [1]
    # The cause mended, the run goes on from before it.
    train(*settings)
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


def test_weights_that_are_not_finite_at_the_end_of_an_epoch_stop_the_run(train: Train) -> None:
    # The loss of the one step comes before it, so only the weights tell.
    with pytest.raises(RunError) as error:
        train(*SETTINGS, "engine.epochs=1", "engine.steps_per_epoch=1", "optim.lr=1e39", "optim.momentum=0")
    assert re.fullmatch(
        r"model\.\S+ was not finite after step 0 of phase 'train'; "
        r"a smaller optim\.lr, engine\.clip_norm=1 or engine\.precision=fp32 may help",
        str(error.value),
    )


def test_predictions_that_are_not_finite_end_the_run_though_every_loss_was(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = SourceOnly.predict

    def overflowing(self: SourceOnly, x: Tensor, domain: str) -> Output:
        output = predict(self, x, domain)
        return output if self.training or domain == "source" else replace(output, logits=output.logits / 0)

    monkeypatch.setattr(SourceOnly, "predict", overflowing)
    with pytest.raises(RunError, match=r"the loss on the target \w+ rows is not finite; a smaller optim.lr"):
        train(*SETTINGS)


# -- disks and folders -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("children")
def test_full_disk_is_named_and_what_was_complete_is_still_there(
    stopped: RunFolder, described: Describe, train: Train, tmp_path: Path
) -> None:
    before = contents(stopped)
    # Room for every table and note, but not for a checkpoint.
    code, said = Child(described(*SETTINGS), partial(full_disk, stopped.last.stat().st_size // 2)).end()
    assert code == 1
    assert said == f"cannot write {stopped.last}: File too large; what was complete is still there"
    status = stopped.read_status()
    assert (status["state"], status["reason"]) == ("failed", said)
    assert contents(stopped) == before
    train(*SETTINGS)
    train(*SETTINGS, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.usefixtures("children")
def test_disk_without_room_for_a_status_says_so_and_keeps_the_run(
    stopped: RunFolder, described: Describe, train: Train, tmp_path: Path
) -> None:
    before = contents(stopped)
    code, said = Child(described(*SETTINGS), partial(full_disk, 20)).end()
    assert (code, said) == (1, f"cannot write {stopped.status}: File too large; what was complete is still there")
    assert contents(stopped) == before
    assert stopped.state() == "interrupted"
    train(*SETTINGS)
    train(*SETTINGS, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


def test_file_in_the_place_of_the_root_is_named(described: Describe, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(RunError) as error:
        experiment.run(described(*SETTINGS), command="a test")
    folder = RunFolder.of(name_choices(described(*SETTINGS)))
    assert str(error.value) == f"cannot make the run folder {folder.path}: Not a directory"


def test_file_in_the_place_of_the_checkpoints_stops_the_run(described: Describe, train: Train) -> None:
    folder = RunFolder.of(name_choices(described(*SETTINGS)))
    folder.path.mkdir(parents=True)
    checkpoints = folder.last.parent
    checkpoints.write_text("in the way")
    with pytest.raises(RunError) as error:
        train(*SETTINGS)
    assert str(error.value) == f"cannot write {folder.last}: {checkpoints} is no folder"
    assert folder.read_status()["state"] == "failed"
    checkpoints.unlink()
    assert train(*SETTINGS).read_status()["state"] == "done"


# -- two processes ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("children")
def test_second_process_on_a_run_is_told_who_has_it(described: Describe, train: Train, tmp_path: Path) -> None:
    config = described(*SETTINGS)
    folder = RunFolder.of(name_choices(config))
    hold = Hold(tmp_path)
    child = Child(config, hold.rig(step=3))
    hold.wait()
    with pytest.raises(RunError) as error:
        train(*SETTINGS)
    assert re.fullmatch(
        rf"{re.escape(str(folder.path))} is in use by process {child.pid} on \S+; wait until it ends, or stop it",
        str(error.value),
    )
    assert folder.read_status()["state"] == "running"
    hold.go.touch()
    assert child.end() == (0, "")


@pytest.mark.slow
@pytest.mark.usefixtures("children")
def test_second_process_waits_for_a_source_model_in_the_making_and_takes_it(
    described: Describe, train: Train, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=fine_tune")
    config = described(*settings)
    source = RunFolder.of(pretrain_config(config))
    hold = Hold(tmp_path)
    child = Child(pretrain_config(config), hold.rig(step=3))
    hold.wait()

    class LetsGo(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == f"waiting for {source.path}, which is in use by process {child.pid} on {host}":
                hold.go.touch()

    host = socket.gethostname()
    handler = LetsGo()
    logging.getLogger("tlrun").addHandler(handler)
    folder = train(*settings)
    logging.getLogger("tlrun").removeHandler(handler)
    assert child.end() == (0, "")
    # The child trained it, and only once: this process found it done.
    assert source.read_status()["pid"] != folder.read_status()["pid"]
    train(*settings, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


# -- rules with nothing to read ---------------------------------------------------------------------------------------


class _Plateaus(Strategy):
    """Stands in for a strategy whose phase waits for a rule that its settings do not tell of."""

    metric = "target_val"

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", until=Plateau(self.metric, 1)),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("target_val", "target_val has no labelled rows to read (highest accuracy on the target validation rows whose labels "
                       "were granted); name another rule"),
        ("target_vall", "there is no rule 'target_vall'; allowed are last, source_val, target_val, entropy, "
                        "information_maximisation, bnm, snd, dev, iwv, nearest_source, feature_mmd, oracle"),
    ],
)  # fmt: skip
def test_plateau_on_a_rule_that_reads_nothing_is_refused_before_the_first_step(
    metric: str, text: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Plateaus, "metric", metric)
    monkeypatch.setattr(SourceOnly, "phases", _Plateaus.phases)
    monkeypatch.setattr(SourceOnly, "metric", metric, raising=False)
    monkeypatch.setattr(Engine, "step", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(ConfigError) as error:
        train(*SETTINGS)
    assert error.value.problems == [f"strategy: phase 'train': {text}"]


ENTROPY = (
    "no rows to read (lowest mean entropy of the predictions on target validation rows (transductive: on all); reads no "
    "label)"
)
DENSITY = (
    "3 of at least 4 target rows to read (densest soft neighbourhoods of target validation predictions (Saito et al. "
    "2021); reads no label)"
)
WEIGHTED = (
    "3 of at least 4 target rows to read (source validation accuracy weighted to the target, with control variate (You "
    "et al. 2019))"
)


@pytest.mark.parametrize(
    ("settings", "rows", "said"),
    [
        (("engine.select=entropy",), 0, f"engine.select: entropy has {ENTROPY}"),
        (("engine.early_stop.metric=entropy",), 0, f"engine.early_stop.metric: entropy has {ENTROPY}"),
        (("engine.select=snd",), 3, f"engine.select: snd has {DENSITY}"),
        (("strategy=progressive", "data.target_labels=5", "model.weights=random", "strategy.plateau=dev"), 3,
         f"strategy.plateau: dev has {WEIGHTED}"),
    ],
)  # fmt: skip
def test_rule_that_reads_too_few_rows_is_refused_before_the_first_step(
    settings: tuple[str, ...], rows: int, said: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_few_target_val(*args: Any, **options: Any) -> DomainPair:
        pair = load_pair(*args, **options)
        part = pair.parts["target_val"]
        assert part.y is not None
        assert part.granted is not None
        few = replace(
            part,
            x=part.x.subset(torch.arange(rows)),
            y=part.y[:rows],
            index=part.index[:rows],
            granted=part.granted[:rows],
        )
        return replace(pair, parts={**pair.parts, "target_val": few})

    monkeypatch.setattr("tlrun.experiment.load_pair", with_few_target_val)
    with pytest.raises(ConfigError) as error:
        train(*SETTINGS, *settings)
    assert error.value.problems == [f"{said}; name another rule"]


# -- refused for its settings ------------------------------------------------------------------------------------------


def everything(root: Path) -> dict[str, bytes]:
    """The bytes of all that lies there, but for the text of locks that nobody holds."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in root.rglob("*") if path.name != "lock"}


PHASES = (*TOY, "strategy=dann", "strategy.finetune_share=0.3", "data.target_labels=5", "engine.epochs=1")


@pytest.mark.parametrize("more", [(), ("run.fresh=true",)])
def test_a_run_refused_for_its_settings_leaves_no_folder(train: Train, tmp_path: Path, more: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^engine\.epochs: must be at least 2"):
        train(*PHASES, *more)
    assert not (tmp_path / "runs").exists()


def test_a_refused_run_leaves_what_lies_beside_it(train: Train, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes.txt").touch()
    with pytest.raises(ConfigError):
        train(*PHASES)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("more", [(), ("run.fresh=true",)])
@pytest.mark.parametrize("state", ["done", "interrupted", "failed"])
def test_a_run_refused_for_its_settings_stays_as_it_was(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any, more: tuple[str, ...]
) -> None:
    folder = train(*SETTINGS)
    folder.write_status(state, "because")
    before = everything(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("model.weights: no such file")

    monkeypatch.setattr(experiment, "load_weights", refuse)
    if state == "done" and not more:
        train(*SETTINGS)
    else:
        with pytest.raises(ConfigError):
            train(*SETTINGS, *more)
    assert everything(tmp_path) == before


def test_a_fresh_start_that_is_cut_off_takes_up_nothing_of_the_earlier_run(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(*SETTINGS)
    was = folder.last.stat().st_mtime_ns

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(experiment, "load_pair", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(*SETTINGS, "run.fresh=true")
    assert folder.state() == "interrupted" and not folder.last.exists() and not folder.summary.exists()
    train(*SETTINGS)
    assert "resumed" not in folder.log.read_text() and folder.last.stat().st_mtime_ns != was

    with folder.lock(wait=False):
        opening = folder.opening(fresh=True)  # and the process is killed here
        opening.__enter__()
        assert any(folder.path.rglob("*.tmp"))
    with folder.lock(wait=False):
        assert folder.state() == "new"
        assert [path.name for path in folder.path.rglob("*") if path.is_file()] == ["lock"]


def test_a_setting_refused_after_the_first_step_is_the_runs_status(
    train: Train, described: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_phase(self: Strategy, *_: object) -> None:
        raise ConfigError("strategy: not like this")

    monkeypatch.setattr(Strategy, "begin_phase", begin_phase)
    with pytest.raises(ConfigError):
        train(*SETTINGS)
    status = RunFolder.of(name_choices(described(*SETTINGS))).read_status()
    assert (status["state"], status["reason"]) == ("failed", "strategy: not like this")


def test_a_source_model_stays_where_what_starts_from_it_is_refused(
    train: Train, described: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = experiment.load_weights

    def refuse(model: Any, config: Any, **more: Any) -> Any:
        if config.weights == "source":
            raise ConfigError("model.head: not that one")
        return load(model, config, **more)

    monkeypatch.setattr(experiment, "load_weights", refuse)
    settings = (*TOY, "strategy=fine_tune")
    with pytest.raises(ConfigError):
        train(*settings)
    config = described(*settings)
    assert RunFolder.of(pretrain_config(config)).state() == "done"
    assert not RunFolder.of(name_choices(config)).path.exists()


def test_a_source_model_whose_best_checkpoint_is_gone_is_named(
    train: Train, described: Describe, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=fine_tune")
    source = RunFolder(experiment.run(pretrain_config(described(*settings)), command="a test").folder)
    source.best.unlink()
    with pytest.raises(RunError) as error:
        train(*settings)
    assert str(error.value) == (
        f"{source.path}: the source model is done, but its checkpoints/best.pt is gone; put it back, or remove the folder, "
        "and it is trained again"
    )
    shutil.rmtree(source.path)
    train(*settings)
    train(*settings, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


def test_a_source_model_of_which_a_file_is_damaged_tells_how_it_is_trained_again(
    train: Train, described: Describe
) -> None:
    settings = (*TOY, "strategy=fine_tune")
    source = RunFolder(experiment.run(pretrain_config(described(*settings)), command="a test").folder)
    source.summary.write_text("{")
    with pytest.raises(RunError) as error:
        train(*settings)
    assert str(error.value).startswith(f"{source.summary} is damaged (")
    assert str(error.value).endswith("; remove the folder, and it is trained again")
