"""From a run folder back to its model: it says what the run said of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.engine.runs import DIGITS, TOY
from tlrun import experiment
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.files import RunError
from tlrun.run import RunFolder
from tlrun.trained import load_run_pair, load_trained, read_config

Config = Callable[..., ExperimentConfig]

RUNS = {
    "mmd": (*TOY, "strategy=mmd", "engine.select=source_val"),
    "digits": (*DIGITS, "strategy=adabn"),
    "scratch": (*TOY, "strategy=scratch", "seed=3"),
    "dann": (*TOY, "strategy=dann", "engine.precision=bf16"),
}


@pytest.fixture(scope="module")
def runs(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunFolder]:
    """A finished run of that name, trained when it is first asked for."""
    root = tmp_path_factory.mktemp("runs")
    done: dict[str, RunFolder] = {}

    def folder(name: str) -> RunFolder:
        if name not in done:
            outcome = experiment.run(config(*RUNS[name], f"run.root={root}"), command="tlrun")
            done[name] = RunFolder(outcome.folder)
        return done[name]

    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_selected_model_predicts_what_the_run_wrote_down(name: str, runs: Callable[[str], RunFolder]) -> None:
    folder = runs(name)
    trained = load_trained(folder)
    output = trained.encode(load_run_pair(folder, trained.config).parts["target_test"])
    written = folder.read_predictions()
    classes = trained.task.classes
    assert [classes[number] for number in output.logits.argmax(dim=1)] == written["prediction"].tolist()
    shares = output.logits.softmax(dim=1)
    for number, label in enumerate(classes):
        assert shares[:, number].tolist() == pytest.approx(written[f"probability_{label}"].tolist(), abs=1e-6)


def test_raw_rows_are_predicted_like_those_of_the_pair(runs: Callable[[str], RunFolder]) -> None:
    trained = load_trained(runs("digits"))
    parts = load_run_pair(runs("digits"), trained.config).parts
    for domain in ("source", "target"):
        part = parts[f"{domain}_test"]
        expected = trained.encode(part).logits.argmax(dim=1)
        assert torch.equal(trained.predict(part.x.tensor(), domain), expected)
    source, target = (trained.predict(parts["target_test"].x.tensor(), domain) for domain in ("source", "target"))
    assert not torch.equal(source, target)  # adabn normalises each domain by its own statistics


def test_loading_leaves_the_random_stream_alone(runs: Callable[[str], RunFolder]) -> None:
    folder = runs("mmd")
    before = torch.get_rng_state()
    load_trained(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pair_in_memory_is_taken_where_it_is_the_same_data(runs: Callable[[str], RunFolder]) -> None:
    pair = load_run_pair(runs("scratch"), read_config(runs("scratch")))
    assert load_run_pair(runs("mmd"), read_config(runs("mmd")), known=pair) is pair
    digits = runs("digits")
    with pytest.raises(RunError) as error:
        load_run_pair(digits, read_config(digits), known=pair)
    before = digits.read_data_card()["fingerprint"][:12]
    assert str(error.value) == (
        f"{digits.path}: the data found here are not those of the run (fingerprint {before}, now {pair.fingerprint[:12]})"
    )


def test_settings_of_before_an_option_of_the_node_run_are_read(
    runs: Callable[[str], RunFolder], tmp_path: Path
) -> None:
    shutil.copytree(runs("mmd").path, tmp_path / "old")
    folder = RunFolder(tmp_path / "old")
    folder.config.write_text(folder.config.read_text().replace("  plots: false\n", ""))
    assert "plots" not in folder.read_config()["run"]
    assert read_config(folder).run.plots is False
    folder.config.write_text(folder.config.read_text().replace("weight: 1.0\n", "wait: 1.0\n"))
    with pytest.raises(ConfigError, match="strategy.wait: unknown key"):
        read_config(folder)


def test_another_runs_checkpoint_is_refused(runs: Callable[[str], RunFolder], tmp_path: Path) -> None:
    shutil.copytree(runs("mmd").path, tmp_path / "mixed")
    folder = RunFolder(tmp_path / "mixed")
    shutil.copy(runs("scratch").best, folder.best)
    with pytest.raises(RunError, match="best.pt belongs to another run"):
        load_trained(folder)
