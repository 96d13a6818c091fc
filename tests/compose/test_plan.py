"""From overrides to jobs: what Hydra makes of them, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlrun.compose.override_text import as_typed, readable
from tlrun.compose.plan import Plan, Request, job_names, plan
from tlrun.config import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def options(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))


STRATEGIES, DOMAINS = options("strategy"), options("domain")


def planned(*overrides: str, multirun: bool = False, config_dir: Path | None = None) -> Plan:
    return plan(Request(overrides, multirun=multirun, config_dir=config_dir and str(config_dir)))


def problems(*overrides: str, multirun: bool = False, config_dir: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(*overrides, multirun=multirun, config_dir=config_dir)
    return caught.value.problems


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder of YAML files."""
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "mine.yaml").write_text("# Mine\nname: source_only\n")
    (tmp_path / "strategy" / "extra.yaml").write_text("# With a key too many\nname: source_only\nrmap: 1\n")
    (tmp_path / "strategy" / "broken.yaml").write_text("# No YAML\nname: [source_only\n")
    (tmp_path / "grid.yaml").write_text(
        "# A sweep of one's own\ndefaults:\n  - train\n  - _self_\n\n"
        "hydra:\n  sweeper:\n    params:\n      strategy: source_only,mine\n      seed: range(2)\n"
    )
    return tmp_path


def test_a_right_command_is_one_job() -> None:
    found = planned("strategy=mmd", "seed=3")
    (job,) = found.here
    assert found == Plan(
        ("strategy=mmd", "seed=3"), ("strategy=mmd seed=3",), multirun=False, hides_sweep_dir=False, here=(job,)
    )
    assert (job.overrides, job.settings.strategy.name, job.settings.seed) == (("strategy=mmd", "seed=3"), "mmd", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    ["hydra.sweep.dir=mine", "hydra.job.env_set.A=b", "hydra.verbose=true", "hydra/job_logging=default"],
)
def test_what_asks_more_of_hydra_than_composing_is_left_to_it(asked: str) -> None:
    assert len(planned("seed=0,1", multirun=True).here) == 2
    assert planned("seed=0,1", f"+{asked}" if "env_set" in asked else asked, multirun=True).here == ()


@pytest.mark.slow
def test_of_a_setting_given_again_the_last_value_holds() -> None:
    assert planned("seed=0", "seed=1", "seed=0").here[0].settings.seed == 0


def test_a_sweep_is_every_combination_in_the_order_given() -> None:
    found = planned("strategy=source_only,mmd", "engine.epochs=1", "seed=0,1", multirun=True)
    assert found.jobs == (
        "strategy=source_only seed=0",
        "strategy=source_only seed=1",
        "strategy=mmd seed=0",
        "strategy=mmd seed=1",
    )
    assert found.multirun
    assert found.hides_sweep_dir
    assert [(each.settings.strategy.name, each.settings.seed) for each in found.here] == [
        ("source_only", 0),
        ("source_only", 1),
        ("mmd", 0),
        ("mmd", 1),
    ]


@pytest.mark.slow
def test_globs_and_ranges_are_spread() -> None:
    found = planned("strategy=glob(s*)", "seed=range(0,4,3)", "data.target_labels=3", multirun=True)
    assert found.jobs == tuple(f"strategy={name} seed={seed}" for name in ("scratch", "source_only") for seed in (0, 3))


@pytest.mark.slow
def test_groups_that_must_be_chosen_may_be_swept() -> None:
    found = planned("data=pair", "domain@data.source=mnist,usps", "domain@data.target=mnistm", multirun=True)
    assert found.jobs == ("domain@data.source=mnist", "domain@data.source=usps")


@pytest.mark.slow
def test_hydras_own_files_of_a_sweep_are_hidden_unless_asked_for() -> None:
    assert not planned("seed=0,1", "hydra.sweep.dir=here", multirun=True).hides_sweep_dir
    assert planned("seed=0,1", "hydra.mode=MULTIRUN").hides_sweep_dir


@pytest.mark.slow
def test_misspelt_groups_options_keys_and_values_are_told_all_at_once() -> None:
    assert problems(
        "strategy=dan", "stratgey=dann", "optim.lrr=1", "optim.lr=abc", "engine.precision=fp8", "+data.extra=3", "seed=-1"
    ) == [
        f"strategy=dan: no such strategy; did you mean dann? (choices: {STRATEGIES})",
        "stratgey=dann: unknown key; did you mean strategy?",
        "optim.lrr=1: unknown key; did you mean optim.lr?",
        "data.extra: unknown key (allowed: source, target, protocol, image_size, channels, normalize, mean, std, "
        "val_fraction, test_fraction, source_rows, target_rows, target_labels, target_val_labels, source_label_noise, "
        "label_sets, fit, crop_fraction, interpolation, on_bad_image, cache, workers, root, cache_root, cache_gigabytes, "
        "download)",
        "optim.lr: must be a number, got 'abc'",
        "engine.precision: must be one of auto, fp32, bf16, fp16, got 'fp8'",
        "seed: must be at least 0, got -1",
    ]  # fmt: skip


@pytest.mark.slow
def test_each_kind_of_wrong_override_is_told_with_what_may_be_meant() -> None:
    expected = {
        "strategy=null": f"no such strategy (choices: {STRATEGIES})",
        "optim=adamm": f"no such optimizer; did you mean adam? (choices: {options('optim')})",
        "data=mnist_usp": f"no such pair; did you mean mnist_usps? (choices: {options('data')})",
        "device=tpu": "no such device; did you mean cpu? (choices: auto, cpu, cuda, mps)",
        "domain=usps": "say where: domain@data.source=usps or domain@data.target=usps",
        "domain@data.sorce=usps": "say where: domain@data.source=usps or domain@data.target=usps",
        "domian@data.source=usps": "no such group; did you mean domain@data.source?",
        "hydra/launcher=foo": "no such launcher (choices: basic)",
        "lr=1": "unknown key; did you mean optim.lr or pretrain.optim.lr?",
        "engine.early_stop.patienc=3": "unknown key; did you mean engine.early_stop.patience?",
        "run.zzz=3": "unknown key (keys of run: root, fresh, require, checkpoint_seconds, plots, loggers)",
        "seed=0,1": "several values need -m (tlrun -m ...); a list is [a,b]",
        "dann": "not a setting; settings are written key=value, see tlrun --help",
        "=dann": "'' is no key; settings are written key=value, see tlrun --help",
    }
    assert sorted(problems(*expected)) == sorted(f"{override}: {why}" for override, why in expected.items())


@pytest.mark.parametrize(
    "override",
    [
        "+data=mnist_usps",
        "++model=lenet",
        "+experiment=mnist_usps_dann",
        "+domain@data.source=usps",
        "+hydra/launcher=basic",
    ],
)
def test_a_plus_before_a_group_that_is_there_is_told(override: str) -> None:
    more = () if override.startswith("+data") else ("data=mnist_usps",)
    said = f"{override}: this group is there already; write {override.lstrip('+')}, without +"
    assert said in problems(*more, override)


def test_a_plus_is_not_blamed_where_the_choice_is_wrong() -> None:
    assert problems("data=mnist_usps", "+model=lenett")[0].startswith(
        "+model=lenett: no such model; did you mean lenet?"
    )


@pytest.mark.slow
def test_keys_that_another_choice_would_have_say_what_is_chosen() -> None:
    assert problems("optim=sgd", "optim.alpha=3", "strategy=source_only", "strategy.weight=3") == [
        "optim.alpha=3: unknown key with optim=sgd (keys of optim: weight_decay, decay_norms_and_biases, label_smoothing, "
        "class_weights, effective_beta, _target_, lr, momentum, nesterov); a further argument of the optimizer is added with +optim.alpha=...",
        "strategy.weight=3: unknown key with strategy=source_only (keys of strategy: name)",
    ]


def test_a_component_set_like_a_value_is_told_how_to_choose_it() -> None:
    assert problems("data.source=usps", "engine.early_stop=3") == [
        "data.source: must be a group of settings, got 'usps'; choose with domain@data.source=usps",
        "engine.early_stop: must be a group of settings, got 3",
    ]


def test_what_does_not_go_together_is_told() -> None:
    assert problems("strategy=fine_tune", "model.weights=imagenet") == [
        "data.target_labels: strategy fine_tune learns from target labels and none are granted; "
        "set data.target_labels to a number per class, or to all",
        "model.weights: model digits_cnn has no imagenet weights; set random, source, or a path",
    ]


def test_an_interpolation_that_leads_nowhere_is_told() -> None:
    assert problems("data.root=${nowhere}") == ["data.root: Interpolation key 'nowhere' not found"]


@pytest.mark.slow
def test_nothing_is_said_of_settings_whose_group_is_not_known() -> None:
    assert problems("strategy=dan", "strategy.steps=4", "strategy.weight=x", "optim.lr=x") == [
        f"strategy=dan: no such strategy; did you mean dann? (choices: {STRATEGIES})",
        "optim.lr: must be a number, got 'x'",
    ]
    # The pair that was meant may grant labels, so it is not said that none are.
    assert [each.partition(":")[0] for each in problems("data=mnist_usp", "strategy=fine_tune")] == ["data=mnist_usp"]
    assert problems("data=pair", "domain@data.source=us", "domain@data.target=mnist") == [
        f"domain@data.source=us: no such domain; did you mean usps? (choices: {DOMAINS})"
    ]


@pytest.mark.slow
def test_choices_still_to_be_made_are_told() -> None:
    assert problems("data=pair", "optim=torch", "seed=x") == [
        f"domain@data.source: must be given (choices: {DOMAINS})",
        f"domain@data.target: must be given (choices: {DOMAINS})",
        "optim._target_: must be given, as torch.optim.<class>",
        "seed: must be a whole number, got 'x'",
    ]


@pytest.mark.slow
def test_a_problem_of_some_jobs_names_them() -> None:
    assert problems("strategy=source_only,dann", "seed=0,-1", "engine.epochs=0", multirun=True) == [
        "engine.epochs: must be at least 1, got 0",
        "seed: must be at least 0, got -1 [in strategy=source_only seed=-1 and 1 more]",
    ]


@pytest.mark.slow
def test_a_sweep_names_a_wrong_option_once() -> None:
    assert problems("strategy=dan,dann,source_only", "seed=0,1", "strategy.weight=0", multirun=True) == [
        f"strategy=dan: no such strategy; did you mean dann? (choices: {STRATEGIES})",
        "strategy.weight=0: unknown key with strategy=source_only (keys of strategy: name) "
        "[in strategy=source_only seed=0 and 1 more]",
        "strategy.weight: must be above 0, got 0 [in strategy=dann seed=0 and 1 more]",
    ]


@pytest.mark.slow
def test_what_every_swept_choice_brings_may_be_set_for_all_of_them() -> None:
    # The pair that is chosen by default has no frame.
    plan = planned("data=mnist_usps,mnist_usps", "data.target.frame=padded", "strategy=dann,cdan", multirun=True)
    assert [job.settings.data.target.frame for job in plan.here] == ["padded"] * 4
    assert problems("data=mnist_usps,mnist_mnistm", "data.target.frame=padded", "seed=0,1", multirun=True) == [
        "data.target.frame=padded: unknown key; did you mean data.target.name? [in data=mnist_mnistm seed=0 and 1 more]"
    ]


def test_a_sweep_over_nothing_or_over_hydra_is_told() -> None:
    assert problems("strategy=glob(x*)", "seed=0,1", multirun=True) == ["strategy=glob(x*): stands for nothing"]
    assert problems("hydra.verbose=true,false", multirun=True) == [
        "hydra.verbose=true,false: Hydra's own settings cannot be swept"
    ]


@pytest.mark.slow
def test_settings_from_a_folder_of_the_user_are_taken_and_checked(own: Path) -> None:
    assert planned("strategy=mine", config_dir=own).jobs == ("strategy=mine",)
    assert problems("strategy=mne", config_dir=own)[0].startswith("strategy=mne: no such strategy; did you mean mine?")
    assert problems("strategy=extra", "seed=x", config_dir=own) == [
        "strategy.rmap: unknown key (allowed: name)",
        "seed: must be a whole number, got 'x'",
    ]
    found = problems("strategy=broken", "seed=x", config_dir=own)
    broken = own / "strategy" / "broken.yaml"
    assert found[0].startswith(f"strategy=broken: {broken}, line 3: expected ',' or ']'")
    assert found[1] == "seed: must be a whole number, got 'x'"
    assert problems(f"hydra.searchpath=[file://{own}]", "strategy=mine", "optim.lrr=1") == [
        "optim.lrr=1: unknown key; did you mean optim.lr?"
    ]
    assert problems(config_dir=own / "nowhere") == [f"--config-dir {own / 'nowhere'}: no such folder"]


@pytest.mark.slow
def test_a_sweep_written_in_a_config_is_spread(own: Path) -> None:
    found = plan(Request((), multirun=True, config_dir=str(own), config_name="grid"))
    assert found.jobs == tuple(f"strategy={name} seed={seed}" for name in ("source_only", "mine") for seed in (0, 1))


def test_a_primary_config_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="^nowhere: Cannot find primary config 'nowhere'"):
        plan(Request((), config_name="nowhere"))


def test_problems_of_the_command_line_come_first() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(Request(("seed=x",)), problems=["--sed: no such option"])
    assert caught.value.problems == ["--sed: no such option", "seed: must be a whole number, got 'x'"]


@pytest.mark.slow
def test_what_is_only_shown_need_not_type() -> None:
    assert plan(Request(("seed=x",)), types=False).jobs == ("seed=x",)
    with pytest.raises(ConfigError):
        plan(Request(("sed=x",)), types=False)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("seed=1", "seed=1"),
        ("run.require=target_test_accuracy>=0.7", "run.require='target_test_accuracy>=0.7'"),
        ("data.root=~/my data (1)", "data.root='~/my data (1)'"),
        ("run.root=it's;", r"run.root='it\'s;'"),
        ("strategy=glob(*)", "strategy=glob(*)"),
        ("+a@b.c=d", "+a@b.c=d"),
        ("~optim.momentum", "~optim.momentum"),
    ],
)
def test_values_that_hydra_cannot_read_are_quoted(given: str, read: str) -> None:
    assert readable(given) == read
    assert as_typed(read) == given


def test_what_the_user_quoted_stays_quoted() -> None:
    assert as_typed("data.root='a,b'") == "data.root='a,b'"
    assert as_typed("data.root='[b'") == "data.root='[b'"


def test_an_unfinished_list_is_told_rather_than_taken_for_text() -> None:
    with pytest.raises(ConfigError, match=r"^optim.betas=\[0.9: cannot be read as a list or mapping: "):
        readable("optim.betas=[0.9")


def test_jobs_are_named_by_what_tells_them_apart() -> None:
    assert job_names([["a=1", "b=2"], ["a=1", "b=3"]]) == ["b=2", "b=3"]
    assert job_names([["a=1", "b='>3'"]]) == ["a=1 b=>3"]
    assert job_names([["a=1", "b=2"], ["a=1", "b=2"]]) == ["a=1 b=2", "a=1 b=2"]
    assert job_names([]) == []
