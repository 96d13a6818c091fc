"""A run that is stopped, anywhere and however often, ends as if it had never been stopped."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch

from tests.engine.children import Child, Moment, die_at_write, wait_for
from tests.engine.runs import DIGITS, SAVING, TOY, differences, rows
from tlrun import experiment
from tlrun.compose.resolve import name_choices, pretrain_config
from tlrun.config import ExperimentConfig
from tlrun.engine.checkpoint import Checkpoints
from tlrun.engine.evaluate import Evaluation
from tlrun.run import RunFolder, load_checkpoint
from tlrun.strategies.base import Strategy

Describe = Callable[..., ExperimentConfig]
Train = Callable[..., RunFolder]
Stop = Literal["crash", "signal"]

KINDS: dict[str, tuple[str, ...]] = {
    "source_only": (*TOY, "strategy=source_only", "model.bottleneck=8", "schedule=one_cycle"),
    "feature_extract": (*TOY, "strategy=feature_extract", "model.dropout=0.3"),
    "fine_tune": (*TOY, "strategy=fine_tune", "model.bottleneck=4", "optim=adamw", "optim.lr=0.01"),
    "progressive": (*TOY, "strategy=progressive", "strategy.plateau=source_val", "strategy.patience=1",
                    "engine.epochs=9", "engine.steps_per_epoch=3"),
    "dann": (*DIGITS, "strategy=dann", "data.target_labels=3", "model.dropout=0.3", "model.map_dropout=0.2",
             "strategy.discriminator_dropout=0.3", "strategy.finetune_share=0.3", "engine.clip_norm=1.0",
             "augment=light"),
    "dann_alternating": (*TOY, "strategy=dann", "strategy.update=alternating", "strategy.discriminator_steps=2",
                         "strategy.discriminator_batch_norm=true", "engine.accumulate=2"),
    "cdan": (*TOY, "strategy=cdan", "model.widths=[24,2100]", "strategy.random_features=8", "model.dropout=0.3",
             "engine.precision=bf16"),
    "source_only_mixed": (*DIGITS, "strategy=source_only", "augment=strong", "augment.flip=0.5", "augment/mix=both"),
    "fine_tune_head_first": (*TOY, "strategy=fine_tune", "data.target_labels=all", "strategy.head_share=0.4",
                             "engine.ema.decay=0.9", "engine.sampling=balanced", "model.bottleneck=8",
                             "strategy.batch_norm=frozen_statistics", "model.dropout=0.2", "schedule=one_cycle",
                             "schedule.momentum=[0.95,0.85]", "optim.weight_decay=0.01",
                             "optim.decay_norms_and_biases=false"),
    "adabn": (*DIGITS, "strategy=adabn", "model.map_dropout=0.2", "engine.ema.decay=0.9"),
    "mmd": (*DIGITS, "strategy=mmd", "engine.evaluate_every=2",
            "engine.early_stop.metric=entropy", "engine.early_stop.patience=1"),
}  # fmt: skip
"""A strategy of each kind, with whatever else is remembered between steps."""
MORE_KINDS = {
    "source_only_digits": (*DIGITS, "strategy=source_only", "augment=light"),
    "feature_extract_digits": (*DIGITS, "strategy=feature_extract", "data.target_labels=3", "model.dropout=0.3"),
    "fine_tune_digits": (*DIGITS, "strategy=fine_tune", "data.target_labels=3", "model=lenet"),
    "progressive_encoded": (*KINDS["progressive"], "strategy.encode_once=true", "model.dropout=0.3"),
    "mmd_progressive": (*TOY, "strategy=mmd", "strategy.train=progressive", "engine.epochs=6", "model.dropout=0.3"),
    **KINDS,
}


class CrashError(Exception):
    """What no one expected."""


def stop_after(patch: pytest.MonkeyPatch, steps: int, how: Stop) -> None:
    """Lets the run fall over after so many steps of this attempt, or a signal ask it to stop."""
    count = itertools.count(1)

    def after_step(self: Strategy, progress: object) -> None:
        if next(count) == steps:
            if how == "crash":
                raise CrashError
            signal.raise_signal(signal.SIGINT)

    patch.setattr(Strategy, "after_step", after_step)


def interrupt_after(train: Train, settings: tuple[str, ...], steps: int) -> None:
    """Trains so many steps and is stopped then."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, steps, "signal")
        with pytest.raises(KeyboardInterrupt):
            train(*settings)


def train_in_pieces(config: ExperimentConfig, draw: random.Random, *, saved_every_step: bool) -> int:
    """Trains to the end though stopped again and again; returns how often it was."""
    for stops in itertools.count():
        # Between two attempts everything that a process forgets is forgotten, the generators too.
        torch.manual_seed(draw.randrange(1000))
        steps, how = draw.randint(2, 5 if saved_every_step else 8), draw.choice(get_args(Stop))
        seconds = 0.0 if saved_every_step else draw.choice([0.0, 60.0])
        with pytest.MonkeyPatch.context() as patch:
            # Where only epochs are saved, a crash within the next one would come again for ever.
            stop_after(patch, steps, "signal" if seconds and steps < 6 else how)
            try:
                run = config.run.model_copy(update={"checkpoint_seconds": seconds})
                experiment.run(config.model_copy(update={"run": run}), command="in pieces")
                return stops
            except (CrashError, KeyboardInterrupt):
                pass
    raise AssertionError


EVERY_TIME = {"dann", "progressive", "source_only"}
"""Kinds that the fast tests have: together they remember between steps most of what can be remembered."""


@pytest.mark.parametrize(
    "kind", [kind if kind in EVERY_TIME else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_run_stopped_at_any_steps_equals_one_never_stopped(
    kind: str, described: Describe, train: Train, tmp_path: Path
) -> None:
    train(*KINDS[kind], root="whole")
    stops = train_in_pieces(described(*KINDS[kind]), random.Random(kind), saved_every_step=True)
    assert stops >= 2
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", MORE_KINDS)
def test_run_stopped_and_saved_at_any_steps_equals_one_never_stopped(
    kind: str, described: Describe, train: Train, tmp_path: Path
) -> None:
    train(*MORE_KINDS[kind], root="whole")
    stops = train_in_pieces(described(*MORE_KINDS[kind]), random.Random(kind), saved_every_step=False)
    assert stops >= 1
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
def test_comparison_of_runs_sees_one_bit(train: Train, tmp_path: Path) -> None:
    folder = train(*TOY, "strategy=source_only", root="whole")
    other = train(*TOY, "strategy=source_only")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []
    content = load_checkpoint(other.last, digest=None)
    weight = content["model"]["head.out.weight"]
    weight.view(torch.int32)[0, 0] ^= 1
    torch.save(content, other.last)
    other.metrics.write_text(folder.metrics.read_text().replace("train", "tram", 1))
    name = folder.path.name
    found = [f"{name}/checkpoints/last.pt: .model.head.out.weight", f"{name}/metrics.csv: 0 phase"]
    assert differences(tmp_path / "whole", tmp_path / "runs") == found


# -- processes that are killed ------------------------------------------------------------------------------------


def train_though_killed(config: ExperimentConfig, draw: random.Random, *, least: int, most: int) -> int:
    """Processes that die at one of their writes, until one of them gets to the end; returns how many died."""
    for deaths in itertools.count():
        moment: Moment = draw.choice(get_args(Moment))
        # Later ones live longer: the end of a run is a row of writes after which nothing is saved.
        write = draw.randint(least, most) + deaths // 4
        code, said = Child(config, partial(die_at_write, write, moment)).end()
        if code == 0:
            return deaths
        assert code == -signal.SIGKILL, said
    raise AssertionError


@pytest.mark.slow
@pytest.mark.usefixtures("children")
def test_run_killed_within_its_writes_equals_one_never_killed(
    described: Describe, train: Train, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=dann", "data.target_labels=3", "strategy.finetune_share=0.3")
    train(*settings, root="whole")
    # The first six writes of a process come before its first checkpoint.
    deaths = train_though_killed(described(*settings, *SAVING), random.Random(1), least=10, most=22)
    assert deaths >= 3
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("kind", MORE_KINDS)
def test_run_killed_at_every_turn_equals_one_never_killed(
    kind: str, described: Describe, train: Train, tmp_path: Path
) -> None:
    train(*MORE_KINDS[kind], root="whole")
    config = described(*MORE_KINDS[kind], *SAVING)
    deaths = train_though_killed(config, random.Random(kind), least=10, most=20)
    assert deaths >= 4
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


def checkpoints(root: Path) -> dict[Path, int]:
    """Every checkpoint below a root, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in root.rglob("last.pt")}


def train_though_killed_at_random(config: ExperimentConfig, draw: random.Random, *, longest_seconds: float) -> int:
    """Processes killed from outside, soon after they saved, until one gets to the end; returns how many died."""
    root = Path(config.run.root)
    for deaths in itertools.count():
        before = checkpoints(root)
        child = Child(config)
        # Every child gets as far as one more checkpoint, or there might be no end of it.
        wait_for(lambda: checkpoints(root) != before or not child.process.is_alive())  # noqa: B023
        time.sleep(draw.uniform(0.0, longest_seconds))
        child.process.kill()
        code, said = child.end()
        if code == 0:
            return deaths
        assert code == -signal.SIGKILL, said
    raise AssertionError


@pytest.mark.slow
@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("kind", MORE_KINDS)
def test_run_killed_at_random_times_equals_one_never_killed(
    kind: str, described: Describe, train: Train, tmp_path: Path
) -> None:
    draw = random.Random(kind)
    train(*MORE_KINDS[kind], root="whole")
    # How long a run takes is the machine's affair: where it outruns its killer, the next attempt kills sooner.
    for attempt in range(12):
        root = f"runs{attempt}"
        config = described(*MORE_KINDS[kind], *SAVING, root=root)
        deaths = train_though_killed_at_random(config, draw, longest_seconds=0.2 / 2**attempt)
        assert differences(tmp_path / "whole", tmp_path / root) == []
        if deaths >= 2:
            return
    pytest.fail("no attempt was killed twice")


@pytest.mark.slow
@pytest.mark.usefixtures("children")
def test_run_killed_between_its_two_checkpoints_still_has_the_best(
    described: Describe, train: Train, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=mmd", "data.target_labels=none", "engine.select=last")
    train(*settings, root="whole")
    config = described(*settings)
    # best.pt is written after every epoch and, where that was cut off, by the next start: these are the writes of the
    # first, the second and the third epoch.
    deaths: tuple[tuple[int, Moment], ...] = ((1, "before"), (2, "torn"), (2, "after"))
    for number, moment in deaths:
        assert Child(config, partial(die_at_write, number, moment, "best.pt")).end()[0] == -signal.SIGKILL
    assert Child(config).end() == (0, "")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
def test_best_checkpoint_lost_with_its_write_is_made_from_the_last(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*TOY, "strategy=source_only", "engine.select=last")
    train(*settings, root="whole")
    count, save = itertools.count(1), Checkpoints._save_best

    def save_or_crash(self: Checkpoints, moving: dict[str, Any]) -> None:
        # Of the first epoch, then again while that is mended, of the second epoch and of the last.
        if next(count) in (1, 2, 4, 6):
            raise CrashError
        save(self, moving)

    monkeypatch.setattr(Checkpoints, "_save_best", save_or_crash)
    for _ in range(4):
        with pytest.raises(CrashError):
            train(*settings)
    train(*settings)
    assert next(count) == 8
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


# -- the source model -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_source_model_trained_now_or_found_ready_leads_to_equal_bits(
    described: Describe, train: Train, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=fine_tune", "model.dropout=0.2")
    train(*settings, root="whole")
    ready = experiment.run(pretrain_config(described(*settings)), command="the floor")
    before = RunFolder(ready.folder).last.stat()
    train(*settings)
    assert RunFolder(ready.folder).last.stat() == before
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
@pytest.mark.usefixtures("children")
def test_run_killed_within_its_source_model_or_just_after_equals_one_never_killed(
    described: Describe, train: Train, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=fine_tune", *SAVING)
    train(*settings, root="whole")
    config = described(*settings)
    source, outer = RunFolder.of(pretrain_config(config)), RunFolder.of(name_choices(config))
    # In its second epoch, in its summary, and at the outer run's first checkpoint.
    for name, number in (("last.pt", 5), ("summary.json", 1), ("last.pt", 1)):
        assert Child(config, partial(die_at_write, number, "torn", name)).end()[0] < 0
        assert outer.state() == "interrupted" and not outer.last.exists()
        assert source.state() == ("done" if number == 1 and name == "last.pt" else "interrupted")
    assert Child(config).end() == (0, "")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


# -- what a restart does and does not -------------------------------------------------------------------------------


@pytest.mark.slow
def test_finished_run_is_reported_and_not_touched(described: Describe, train: Train) -> None:
    folder = train(*TOY, "strategy=fine_tune")
    before = {path: path.stat() for path in folder.path.parent.rglob("*") if path.name != "lock"}
    again = experiment.run(described(*TOY, "strategy=fine_tune"), command="again")
    assert again.state == "already done" and again.summary == folder.read_summary()
    after = {path: path.stat() for path in folder.path.parent.rglob("*") if path.name != "lock"}
    # Reading a file sets its time of access.
    kept = ("st_ino", "st_mtime_ns", "st_size")
    assert {path: [getattr(stat, each) for each in kept] for path, stat in after.items()} == {
        path: [getattr(stat, each) for each in kept] for path, stat in before.items()
    }


@pytest.mark.slow
def test_fresh_run_starts_over_and_leaves_its_source_model_alone(
    described: Describe, train: Train, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=fine_tune")
    train(*settings, root="whole")
    folder = train(*settings)
    source = RunFolder.of(pretrain_config(described(*settings)))
    before = source.last.stat().st_mtime_ns
    folder.last.write_bytes(b"no checkpoint")
    folder.metrics.write_bytes(b"no table")
    train(*settings, "run.fresh=true")
    assert source.last.stat().st_mtime_ns == before
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


def test_run_stopped_after_its_last_step_only_writes_its_end(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*TOY, "strategy=source_only")
    interrupt_after(train, settings, 12)
    with monkeypatch.context() as patch:
        stop_after(patch, 1, "crash")
        assert train(*settings).read_summary()["steps"] == 12


def test_resume_under_other_threads_is_said_in_the_summary(train: Train) -> None:
    settings = (*TOY, "strategy=source_only")
    interrupt_after(train, settings, 11)
    summary = train(*settings, "device.threads=2").read_summary()
    assert summary["warnings"] == ["resumed under other conditions: threads was 1, now 2; bits may differ"]


@pytest.mark.slow
def test_scaler_of_fp16_is_in_the_checkpoint_and_goes_on(
    described: Describe, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fp16 is refused on the CPU for being slow, but it runs there. The scaler is one that changes within a few steps.
    monkeypatch.setattr("tlrun.engine.runtime.resolve_precision", lambda precision, device: precision)
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=1024.0, growth_interval=4))
    settings = (*TOY, "strategy=dann", "data.target_labels=none", "engine.precision=fp16", "engine.clip_norm=1.0")
    folder = train(*settings, root="whole")
    assert load_checkpoint(folder.last, digest=None)["scaler"]["scale"] == 1024.0 * 2**3
    assert train_in_pieces(described(*settings), random.Random(0), saved_every_step=True) >= 2
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
def test_time_of_every_piece_is_counted_and_the_time_between_is_not(train: Train) -> None:
    settings = (*TOY, "strategy=source_only")
    started = time.monotonic()
    interrupt_after(train, settings, 6)
    first = time.monotonic() - started
    time.sleep(0.5)
    started = time.monotonic()
    folder = train(*settings)
    seconds = folder.read_summary()["seconds"]
    assert 0 < seconds <= first + time.monotonic() - started
    assert sum(row["seconds"] for row in rows(folder)) <= seconds


# -- phases, evaluations and steps ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_next_phase_begins_at_its_planned_step_after_one_that_ended_early(train: Train) -> None:
    folder = train(*KINDS["progressive"])
    by_phase: dict[str, list[dict[str, Any]]] = {}
    for row in rows(folder):
        by_phase.setdefault(row["phase"], []).append(row)
    assert list(by_phase) == ["head", "from_hidden2", "from_hidden1"]
    for number, phase in enumerate(by_phase.values()):
        planned = [3 * number + count for count in range(1, len(phase) + 1)]
        assert [(row["epoch"], row["step"]) for row in phase] == [(epoch, 3 * epoch) for epoch in planned]
    assert any(len(phase) < 3 for phase in by_phase.values())
    epochs = sum(map(len, by_phase.values()))
    summary = folder.read_summary()
    assert (summary["epochs"], summary["steps"]) == (epochs, 3 * epochs)


def test_only_every_so_many_epochs_are_evaluated_and_the_last_of_a_phase(train: Train) -> None:
    folder = train(*TOY, "strategy=source_only", "engine.epochs=5", "engine.evaluate_every=2")
    table = folder.read_metrics()
    assert table["target_test_accuracy"].notna().tolist() == [False, True, False, True, True]
    assert table["loss"].notna().all() and sorted(set(folder.read_classes()["epoch"])) == [2, 4, 5]


def test_early_stopping_ends_the_phase_after_so_many_looks_without_improvement(train: Train) -> None:
    folder = train(
        *(*TOY, "strategy=source_only", "engine.epochs=12", "optim.lr=0.05"),
        *("engine.early_stop.metric=source_val", "engine.early_stop.patience=2"),
    )
    scores = [row["score_source_val"] for row in rows(folder)]
    best = scores.index(max(scores))
    assert len(scores) == best + 3 < 12
    assert folder.read_summary()["epochs"] == len(scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        (*TOY, "strategy=progressive", "strategy.plateau=source_val", "strategy.patience=2", "engine.epochs=15"),
        (*TOY, "strategy=source_only", "engine.early_stop.metric=source_val", "engine.early_stop.patience=2",
         "engine.epochs=5"),
    ],
    ids=["plateau", "early_stop"],
)  # fmt: skip
def test_patience_is_not_given_anew_by_a_restart(
    settings: tuple[str, ...], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = Evaluation.evidence
    monkeypatch.setattr(
        Evaluation, "evidence", lambda self, epoch: replace(evidence(self, epoch), source_val_accuracy=0.5)
    )
    # Nothing is better than the first epoch, so the third is the last; the run is stopped within each of the two.
    settings = (*settings, "model.weights=random", "engine.steps_per_epoch=2")
    interrupt_after(train, settings, 3)
    interrupt_after(train, settings, 2)
    phases = [row["phase"] for row in rows(train(*settings))]
    assert phases.count(phases[0]) == 3


@pytest.mark.slow
def test_accumulated_batches_equal_one_larger_batch(train: Train) -> None:
    settings = (*TOY, "strategy=source_only")
    whole = train(*settings, "engine.batch_size=48")
    parts = train(*settings, "engine.batch_size=16", "engine.accumulate=3")
    states = [load_checkpoint(folder.last, digest=None)["model"] for folder in (whole, parts)]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-5, atol=1e-6)
    assert [row["step"] for row in rows(whole)] == [row["step"] for row in rows(parts)] == [4, 8, 12]


@pytest.mark.slow
def test_clipping_bounds_the_step(train: Train) -> None:
    settings = (*TOY, "strategy=source_only", "optim.momentum=0", "optim.lr=1.0", "schedule=constant")
    one = ("engine.epochs=1", "engine.steps_per_epoch=1")
    start = train(*settings, *one, "optim.lr=1e-30")
    moved = {clip: train(*settings, *one, f"engine.clip_norm={clip}") for clip in ("null", "0.125")}
    models = {clip: load_checkpoint(folder.last, digest=None)["model"] for clip, folder in moved.items()}
    first = load_checkpoint(start.last, digest=None)["model"]
    steps = {
        clip: torch.cat([(model[name] - first[name]).flatten() for name in first]) for clip, model in models.items()
    }
    assert steps["null"].norm() > 0.125
    torch.testing.assert_close(steps["0.125"].norm(), torch.tensor(0.125), rtol=1e-4, atol=0)
    torch.testing.assert_close(steps["0.125"] / 0.125, steps["null"] / steps["null"].norm(), rtol=1e-3, atol=1e-5)
