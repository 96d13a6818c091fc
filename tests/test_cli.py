"""The command line from outside: what it says, where, with which exit code, and what it does not load."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tlrun import cli, experiment, rehearsal
from tlrun.compose.plan import Request, plan
from tlrun.config import RULES, ConfigError, ExperimentConfig
from tlrun.experiment import Outcome
from tlrun.files import RunError

ROOT = Path(__file__).parents[1]
TOY = ("data=toy_gaussians", "model=mlp", "engine.batch_size=64", "device=cpu", "device.threads=1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TLRUN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "here"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for the experiment: remembers what it is asked for, and does what `act` says for it."""
    seen = SimpleNamespace(configs=[], commands=[], act=lambda config: None)

    def run(config: ExperimentConfig, *, command: str) -> Outcome:
        seen.configs.append(config)
        seen.commands.append(command)
        unmet = seen.act(config)
        summary = {"target_test_accuracy": 0.5, "select": "last", "selected_epoch": 1, "select_score": 0.25}
        return Outcome(Path("outputs") / f"{config.strategy.name}-{config.seed}", summary, "done", unmet)

    monkeypatch.setattr(experiment, "run", run)
    monkeypatch.setattr(rehearsal, "rehearse", lambda configs: [[] for _ in configs])
    return seen


@pytest.fixture
def tlrun(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls the command in this process: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return call


def in_a_process(*arguments: str, before: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Calls the command in a process of its own, warnings being errors, after some lines of Python."""
    script = f"import sys; from tlrun.cli import main\n{before}\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


def test_one_run_names_its_folder_on_standard_output(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, folder: Path
) -> None:
    code, out, err = tlrun("strategy=mmd", "seed=3")
    assert (code, out) == (0, "outputs/mmd-3\n")
    assert err == "done: target test accuracy 50.00 % (selected by last, epoch 1)\n"
    assert [(each.strategy.name, each.seed) for each in runs.configs] == [("mmd", 3)]
    assert runs.commands == ["tlrun strategy=mmd seed=3"]
    assert list(folder.iterdir()) == []


def test_options_may_stand_anywhere(tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace) -> None:
    code, out, _ = tlrun("strategy=mmd", "-m", "seed=1", "--config-dir", ".", "data.download=false")
    assert (code, out) == (0, "outputs/mmd-1\n")


@pytest.mark.slow
def test_a_sweep_runs_every_job_in_order_and_leaves_no_file_of_hydra(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, folder: Path
) -> None:
    code, out, err = tlrun("-m", "strategy=source_only,dann", "seed=0,1", "engine.epochs=1")
    names = [f"{name}-{seed}" for name in ("source_only", "dann") for seed in (0, 1)]
    assert (code, out.split()) == (0, [f"outputs/{name}" for name in names])
    assert [f"{each.strategy.name}-{each.seed}" for each in runs.configs] == names
    assert runs.commands[1] == "tlrun strategy=source_only seed=1 engine.epochs=1"
    assert "run 2 of 4: strategy=source_only seed=1\n" in err
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_hydra_writes_its_files_of_a_sweep_where_it_is_told_to(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, folder: Path
) -> None:
    assert tlrun("-m", "seed=0", "hydra.sweep.dir=mine")[0] == 0
    assert (folder / "mine" / "multirun.yaml").is_file()


@pytest.mark.slow
def test_a_failed_job_stops_no_other_and_all_failures_are_told_at_the_end(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace
) -> None:
    def act(config: ExperimentConfig) -> str | None:
        if config.seed == 1:
            raise RunError("the disk is full")
        if config.seed == 2:
            raise ConfigError(["data.root: nothing there", "device: no such"])
        if config.seed == 3:
            raise ZeroDivisionError("by nought")
        return "target_test_accuracy is 0.5, required was >= 0.7" if config.seed == 0 else None

    runs.act = act
    code, out, err = tlrun("-m", "seed=range(5)", "strategy=mmd")
    assert code == 1
    assert out == "outputs/mmd-0\noutputs/mmd-4\n"
    assert "Traceback" in err
    assert err.endswith(
        "4 of 5 runs failed:\n"
        "  seed=0: run.require: target_test_accuracy is 0.5, required was >= 0.7\n"
        "  seed=1: the disk is full\n"
        "  seed=2: data.root: nothing there\ndevice: no such\n"
        "  seed=3: ZeroDivisionError: by nought (not foreseen: the traceback is above and in log.txt)\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RunError("the disk is full"), 1, "the disk is full\n"),
        (ConfigError(["a: wrong", "b: wrong"]), 2, "a: wrong\nb: wrong\n"),
    ],
)
def test_a_run_that_cannot_go_on_says_why_without_a_traceback(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, error: Exception, code: int, said: str
) -> None:
    def act(config: ExperimentConfig) -> None:
        raise error

    runs.act = act
    assert tlrun("seed=1") == (code, "", said)


def test_a_sweep_whose_failures_are_all_in_the_settings_ends_with_2(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace
) -> None:
    def act(config: ExperimentConfig) -> None:
        if config.seed:
            raise ConfigError("device: no such")

    runs.act = act
    code, out, err = tlrun("-m", "seed=0,1")
    assert (code, out) == (2, "outputs/dann-0\n")
    assert err.endswith("1 of 2 runs failed:\n  seed=1: device: no such\n")


def test_a_fault_of_ours_shows_its_traceback(tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace) -> None:
    runs.act = lambda config: 1 / 0
    code, _, err = tlrun("seed=1")
    assert code == 1
    assert "Traceback" in err
    assert err.endswith("ZeroDivisionError: division by zero (not foreseen: the traceback is above and in log.txt)\n")


def test_a_missed_requirement_ends_with_1(tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace) -> None:
    runs.act = lambda config: "target_test_accuracy is 0.5, required was >= 0.7"
    code, out, err = tlrun("run.require=target_test_accuracy>=0.7")
    assert (code, out) == (1, "outputs/dann-0\n")
    assert err.endswith("run.require: target_test_accuracy is 0.5, required was >= 0.7\n")
    assert runs.configs[0].run.require == "target_test_accuracy>=0.7"
    assert runs.commands == ["tlrun 'run.require=target_test_accuracy>=0.7'"]


@pytest.mark.slow
@pytest.mark.parametrize("terminated", [False, True])
def test_an_interrupted_sweep_stops_there_and_says_how_to_go_on(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, terminated: bool
) -> None:
    def act(config: ExperimentConfig) -> None:
        if not terminated:
            raise KeyboardInterrupt
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)  # what is not would end the process without a word
        handler(signal.SIGTERM, None)

    runs.act = act
    code, out, err = tlrun("-m", "seed=0,1")
    assert (code, out, len(runs.configs)) == (1, "", 1)
    assert err.endswith("interrupted; to go on, give the same command again: tlrun -m seed=0,1\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("seed=1", "run.fresh=true"), ["tlrun seed=1"]),
        (("++run.fresh=True", "seed=1"), ["tlrun seed=1"]),
        (("run.fresh=false", "seed=1"), ["tlrun run.fresh=false seed=1"]),
        (("--config-dir=mine", "--config-name=anew"), ["tlrun --config-dir=mine --config-name=anew run.fresh=false"]),
        (
            ("-m", "seed=0,1", "run.fresh=true"),
            [
                "tlrun -m seed=0,1",
                "runs that were done before and that it had not come to are then found done as they are",
            ],
        ),
    ],
)
def test_what_is_advised_after_an_interruption_does_not_start_over(
    tlrun: Callable[..., tuple[int, str, str]],
    runs: SimpleNamespace,
    folder: Path,
    arguments: tuple[str, ...],
    told: list[str],
) -> None:
    def act(config: ExperimentConfig) -> None:
        raise KeyboardInterrupt

    (folder / "mine").mkdir()
    (folder / "mine" / "anew.yaml").write_text("defaults: [train, _self_]\nrun: {fresh: true}\n")
    runs.act = act
    code, _, err = tlrun(*arguments)
    assert code == 1
    same = "run.fresh=false" in arguments
    way = "give the same command again" if same else "without the fresh start that would begin again"
    (at,) = [number for number, line in enumerate(err.splitlines()) if line.startswith("interrupted")]
    assert err.splitlines()[at:] == [f"interrupted; to go on, {way}: {told[0]}", *told[1:]]


@pytest.mark.slow
def test_a_failure_in_a_launchers_process_is_raised_to_it(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(config: ExperimentConfig) -> None:
        monkeypatch.setattr(cli.os, "getpid", lambda: -1)
        raise RunError("the disk is full")

    runs.act = act
    code, _, err = tlrun("-m", "seed=0", "hydra.sweep.dir=mine")
    assert code == 1
    assert "Error executing job" in err
    assert "the disk is full" in err
    assert "runs failed" not in err


def test_mistakes_start_nothing(tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace) -> None:
    strategies = sorted(path.stem for path in (ROOT / "configs" / "strategy").glob("*.yaml"))
    code, out, err = tlrun("-m", "strategy=source_only,dan", "--sede=1", "seed=0,x", "--multy")
    assert (code, out, runs.configs) == (2, "", [])
    assert err.splitlines() == [
        "--sede=1: settings have no dashes before them; write sede=1",
        "--multy: no such option; did you mean --multirun?; see tlrun --help",
        f"strategy=dan: no such strategy; did you mean dann? (choices: {', '.join(strategies)})",
        "seed: must be a whole number, got 'x' [in strategy=source_only seed=x and 1 more]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lst",), "lst: no such verb; did you mean list?\n"),
        (("list", "stratgies"), "list stratgies: no such list; did you mean strategies? (choices: domains, pairs, "
                                "strategies, models, optimizers, schedules, augmentations, mixings, "
                                "experiments, rules)\n"),
        (("list", "a", "b"), "tlrun list: unrecognized arguments: b\n"),
        (("--cfg",), "tlrun: argument --cfg/-c: expected one argument\n"),
        (("-m", "--cfg", "job"), "--cfg and --info show one run; leave -m out\n"),
        (("--config-path", "x"), "--config-path and --experimental-rerun: not offered; your own YAML goes in with "
                                 "--config-dir DIR\n"),
        (("--config-dir", "nowhere"), "--config-dir nowhere: no such folder\n"),
        (("list", "--config-dir", "nowhere"), "--config-dir nowhere: no such folder\n"),
        (("-sc",), "-sc: needs install=bash, install=zsh or install=fish; the same with uninstall=\n"),
        (("-sc", "install=tcsh"), "-sc: needs install=bash, install=zsh or install=fish; the same with uninstall=\n"),
        (("--cfg", "job", "-p", "optm"), "package 'optm' not found in config\n"),
    ],
)  # fmt: skip
def test_a_wrong_command_says_what_is_wrong(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, arguments: tuple[str, ...], said: str
) -> None:
    assert tlrun(*arguments) == (2, "", said)
    assert runs.configs == []


@pytest.mark.slow
def test_the_settings_of_a_run_can_be_shown(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, folder: Path
) -> None:
    code, out, err = tlrun("--cfg", "job", "strategy=mmd", "--package", "strategy", "run.require=a>b")
    assert (code, err) == (0, "")
    assert "\nname: mmd\n" in out
    code, out, _ = tlrun("--cfg", "job", "--resolve")
    assert (code, "${" in out) == (0, False)
    assert tlrun("--cfg", "job", "strategy=mm")[0] == 2
    assert runs.configs == []
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_users_own_settings_and_module_are_run(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lab_of_mine").mkdir()
    (folder / "lab_of_mine" / "method.py").write_text(
        "from tlrun.config import Needs, Positive, StrategySettings\nfrom tlrun.strategies.base import Strategy\n\n\n"
        "class Method(Strategy):\n    class Config(StrategySettings):\n        steep: Positive\n\n"
        "        @property\n        def needs(self) -> Needs:\n            return Needs('required', 'unused', 'unused')\n"
    )
    (folder / "own" / "strategy").mkdir(parents=True)
    (folder / "own" / "strategy" / "steep.yaml").write_text("# Mine\nname: lab_of_mine.method\nsteep: 2.0\n")
    monkeypatch.syspath_prepend(folder)
    code, out, _ = tlrun("--config-dir", "own", "-m", "strategy=steep,mmd", "seed=5")
    assert (code, out.split()) == (0, ["outputs/lab_of_mine.method-5", "outputs/mmd-5"])
    assert runs.configs[0].to_dict()["strategy"] == {"name": "lab_of_mine.method", "steep": 2.0}
    assert runs.commands[0] == f"tlrun --config-dir={folder / 'own'} strategy=steep seed=5"
    code, _, err = tlrun("--config-dir", "own", "strategy=steep", "strategy.steep=0")
    assert (code, err) == (2, "strategy.steep: must be above 0, got 0\n")
    code, out, _ = tlrun("list", "strategies", "--config-dir", "own")
    assert (code, "steep            Mine\n" in out) == (0, True)


def test_everything_there_is_can_be_listed(tlrun: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = tlrun("list")
    assert code == 0
    for group in ("domain", "data", "strategy", "model", "optim", "schedule", "augment"):
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            heading = path.read_text().splitlines()[0].removeprefix("# ")
            assert any(line.split(maxsplit=1) == [path.stem, heading] for line in out.splitlines()), path
    for rule, text in RULES.items():
        assert f"  {rule:<24}  {text}\n" in out + "\n"


def test_one_kind_is_listed_a_line_each(tlrun: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = tlrun("list", "schedules")
    assert [line.split()[0] for line in out.splitlines()] == [
        "constant",
        "cosine",
        "inverse_decay",
        "one_cycle",
        "step",
    ]


def test_help_names_every_group_option_and_verb(tlrun: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = tlrun("--help")
    assert code == 0
    words = set(out.replace(",", " ").split())
    for path in (ROOT / "configs").glob("[!_]*/**/*.yaml"):
        group = path.parent.relative_to(ROOT / "configs").as_posix()
        if group != "domain":
            assert {group, path.stem} <= words
    assert out.count("\n  tlrun ") >= 7
    assert "tlrun list" in out
    assert max(map(len, out.splitlines())) <= 120


def test_help_names_the_choices_of_the_users_folder(tlrun: Callable[..., tuple[int, str, str]], folder: Path) -> None:
    (folder / "my" / "strategy").mkdir(parents=True)
    (folder / "my" / "strategy" / "another_way.yaml").write_text("# Another way\nname: my_lab.another_way\n")
    assert "another_way" not in tlrun("--help")[1]
    for given in (("--config-dir", "my"), ("--config-dir=my",), ("-cd", "my")):
        code, out, _ = tlrun(*given, "--help")
        assert code == 0 and "another_way" in out
    assert tlrun("--config-dir", "mine", "--help") == (2, "", "--config-dir mine: no such folder\n")


@pytest.mark.slow
def test_every_example_of_the_help_is_a_right_command(tlrun: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = tlrun("--help")
    examples = out.partition("examples:")[2].partition("choices")[0]
    commands = [shlex.split(line)[1:] for line in examples.splitlines() if line.startswith("  tlrun ")]
    assert len(commands) == 5
    jobs = []
    for command in commands:
        overrides = tuple(word for word in command if word != "-m")
        jobs.append(len(plan(Request(overrides, multirun="-m" in command)).jobs))
    assert jobs == [1, 12, 1, 1, 1]


def test_the_version_is_ours(tlrun: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = tlrun("--version")
    assert code == 0
    assert out.startswith("tlrun ")
    assert "hydra-core 1." in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("list",), 0),
        (("--cfg", "job"), 0),
        (("strategy=dan", "optim.lr=x", "-m", "seed=0,1"), 2),
    ],
)
def test_no_torch_is_loaded_before_a_run_starts(arguments: tuple[str, ...], code: int) -> None:
    heavy = "('torch', 'torchvision', 'albumentations', 'pandas', 'sklearn', 'scipy')"
    check = f"import atexit; atexit.register(lambda: print([each for each in {heavy} if each in sys.modules]))"
    done = in_a_process(*arguments, before=check)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Warning" not in done.stderr


@pytest.mark.slow
def test_the_shell_completes_groups_and_keys() -> None:
    for typed, offered in (("tlrun strategy=so", "strategy=source_only"), ("tlrun engine.ep", "engine.epochs=")):
        env = {"COMP_LINE": typed, "COMP_POINT": str(len(typed))}
        done = in_a_process("-sc", "query=bash", env=env)
        assert done.stdout.split() == [offered], done.stderr
    assert "complete" in in_a_process("-sc", "install=bash").stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("list",), ("--info", "defaults"), ("-sc", "install=bash")])
def test_a_reader_that_closes_early_is_no_error(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tlrun", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("list",), ("--version",), ("data", "--help"), ("--info", "defaults")])
def test_standard_output_that_refuses_is_told_on_one_line(arguments: tuple[str, ...], unbuffered: str) -> None:
    command = [sys.executable, "-m", "tlrun", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "cannot write to standard output: No space left on device\n")


def test_standard_output_that_is_closed_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert (cli.main(["list"]), capsys.readouterr().err) == (1, "cannot write to standard output: it is closed\n")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_sweep_goes_on_where_standard_output_refuses(
    runs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched, Path("/dev/full").open("w") as full:
        patched.setattr(sys, "stdout", full)
        code = cli.main(["-m", "seed=0,1"])
    assert (code, len(runs.configs)) == (1, 2)
    said = capsys.readouterr().err
    assert said.endswith("1 of 2 runs failed:\n  seed=0: cannot write to standard output: No space left on device\n")


def test_the_log_is_shown_only_while_runs_run(
    tlrun: Callable[..., tuple[int, str, str]], runs: SimpleNamespace
) -> None:
    before = list(logging.getLogger().handlers)
    runs.act = lambda config: logging.getLogger("tlrun.engine").info("epoch 1")
    assert "epoch 1\n" in tlrun("seed=0")[2]
    assert logging.getLogger().handlers == before


@pytest.mark.slow
def test_a_real_run_and_the_same_command_again(tlrun: Callable[..., tuple[int, str, str]], folder: Path) -> None:
    code, out, err = tlrun(*TOY, "strategy=source_only", "engine.epochs=2")
    assert code == 0, err
    assert "epoch 2/2" in err
    (run,) = (folder / "outputs").iterdir()
    assert out == f"outputs/{run.name}\n"
    command = f"tlrun {' '.join(TOY)} strategy=source_only engine.epochs=2"
    assert (run / "command.txt").read_text().strip() == command
    code, out, err = tlrun(*TOY, "strategy=source_only", "engine.epochs=2", "run.require=target_test_accuracy>2")
    assert (code, out) == (1, f"outputs/{run.name}\n")
    assert err.startswith("already done: target test accuracy ")
    assert "run.require: target_test_accuracy is " in err
    assert [path.name for path in folder.iterdir()] == ["outputs"]


def test_a_missing_device_is_told_as_a_wrong_setting(tlrun: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = tlrun(*TOY[:3], "device=mps", "strategy=source_only", "engine.epochs=1")
    assert code == 2
    assert err.startswith("device: mps is not available here")
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_run_and_the_same_command_goes_on(folder: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tlrun", *TOY, "strategy=source_only", "engine.epochs=2000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 3/"):
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.rstrip().endswith(
        f"interrupted; to go on, give the same command again: tlrun {' '.join(TOY)} strategy=source_only engine.epochs=2000"
    )
    assert "Traceback" not in err
    (run,) = (folder / "outputs").iterdir()
    assert '"interrupted"' in (run / "status.json").read_text()
    before = time.time()
    again = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert again.stderr is not None
    first = next(line for line in again.stderr if line.startswith("epoch "))
    again.kill()
    again.communicate()
    assert int(first.split()[1].partition("/")[0]) >= 3
    assert time.time() - before < 60
