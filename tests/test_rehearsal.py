"""A sweep's rehearsal: what is wrong with any of its runs is told before the first one starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tlrun import cli, experiment, rehearsal
from tlrun.compose.plan import Request, plan
from tlrun.config import ExperimentConfig
from tlrun.files import RunError

TOY = ("data=toy_gaussians", "model=mlp", "engine.batch_size=64", "device=cpu", "device.threads=1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TLRUN_DATA", str(tmp_path / "data"))  # which has no USPS
    return tmp_path / "here"


@pytest.fixture
def tlrun(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls the command in this process: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return call


def planned(*overrides: str) -> list[ExperimentConfig]:
    """The settings of a sweep's jobs."""
    return [job.settings for job in plan(Request(overrides, multirun=True)).here]


def test_what_only_data_device_and_model_show_is_told_before_a_sweep_starts(
    tlrun: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    sweep = ("-m", *TOY, "seed=0,1", "strategy=source_only,dann", "device=cpu,mps", "engine.epochs=1")
    code, out, err = tlrun(*sweep)
    phases, device = err.splitlines()
    assert (code, out) == (2, "")
    assert phases == (
        "engine.epochs: must be at least 2, one for each phase of the strategy (train, finetune), got 1 "
        "[in device=cpu seed=0 strategy=dann and 1 more]"
    )
    assert device.startswith("device: mps is not available here")
    assert device.endswith(" [in device=mps seed=0 strategy=source_only and 3 more]")
    code, _, err = tlrun("-m", *TOY, "strategy=source_only", "data=toy_gaussians,mnist_usps")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("data.root: no usps.bz2 and no usps.t.bz2 in ")
    assert err.endswith(" [in data=mnist_usps]\n")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_sweep_holds_back_neither_a_finished_run_nor_a_fault_that_the_run_itself_tells(
    tlrun: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = (*TOY, "strategy=source_only", "engine.epochs=1")
    assert tlrun(*quick)[0] == 0
    asked: list[int] = []

    def load_pair(data: object, *, seed: int, device: object) -> None:
        asked.append(seed)
        raise RunError("the disk is gone")

    for module in (experiment, rehearsal):
        monkeypatch.setattr(module, "load_pair", load_pair)
    code, out, err = tlrun("-m", *quick, "seed=0,1,2")
    assert (code, len(out.splitlines())) == (1, 1)
    assert asked == [1, 2, 1, 2]  # to look, and to run
    assert err.endswith("2 of 3 runs failed:\n  seed=1: the disk is gone\n  seed=2: the disk is gone\n")


@pytest.mark.slow
def test_runs_that_differ_in_their_seed_are_looked_at_once(
    tlrun: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(rehearsal, "_build", lambda config, pairs: looked.append(config.seed) or True)
    settings = planned(*TOY, "seed=0,1", "engine.epochs=1,2")
    assert rehearsal.rehearse(settings) == [[], [], [], []]
    assert looked == [0, 0]


@pytest.mark.slow
def test_a_source_model_is_looked_at_before_it_is_there() -> None:
    more = ("strategy=fine_tune", "engine.epochs=1", "pretrain.engine.epochs=1", "data.target_labels=5,all")
    assert rehearsal.rehearse(planned(*TOY, *more)) == [[], []]
    more = (*more, "pretrain.optim._target_=torch.optim.Adm")
    ((problem,), _) = rehearsal.rehearse(planned(*TOY, *more))
    assert problem.startswith("optim._target_: torch.optim has no Optimizer called 'Adm'")


def test_a_run_that_cannot_be_is_refused_before_its_source_model_is_trained(folder: Path) -> None:
    code = cli.main([*TOY, "strategy=progressive", "engine.epochs=2", "pretrain.engine.epochs=1"])
    assert code == 2
    assert list(folder.iterdir()) == []
