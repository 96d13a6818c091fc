"""What there is to choose from, read from the headings of `configs/`: the verb `list` and the text of `--help`."""

from __future__ import annotations

import platform
import textwrap
from pathlib import Path

from tlrun.config import RULES, ConfigError
from tlrun.config.error_text import unknown

GROUPS = {
    "domains": "domain",
    "pairs": "data",
    "strategies": "strategy",
    "models": "model",
    "optimizers": "optim",
    "schedules": "schedule",
    "augmentations": "augment",
    "mixings": "augment/mix",
    "experiments": "experiment",
}
"""What `list` shows -> the folder of `configs/` that holds it."""

KINDS = (*GROUPS, "rules")
"""All that `list` can show."""

HOW = {
    "domains": "domain@data.source=NAME domain@data.target=NAME, with data=pair",
    "rules": "engine.select=NAME",
}
"""How one of them is chosen, where that is not group=NAME."""

HELP = """\
tlrun: transfer-learning experiments from the command line.

One command names a pair of domains, a strategy, a model and a device. One engine trains it, one folder holds all that
came of it. Target labels never reach training or selection unless they are granted by name.

usage: tlrun [KEY=VALUE ...]         one run; the same command goes on where it was cut off
       tlrun -m [KEY=A,B ...]        a sweep: every combination, in order; finished runs are skipped
       tlrun list [WHAT]             what there is to choose from, a line each; WHAT is one of
                                     {what}
       tlrun data show|check|prepare [KEY=VALUE ...]
                                     look at a pair before a run, find what is wrong with it, or make and fetch it
       tlrun doctor                  versions, device, precision, memory, folders, and where each domain is
       tlrun compare strategy=A,B [seeds=N] [labels=N,M] [KEY=VALUE ...]
                                     strategies between floor and ceiling at one budget, over seeds: runs what is
                                     missing, then shows the tables; --dry-run lists the runs
       tlrun report PATH...          tables and pictures of all finished runs below some folders: --out DIR for the
                                     pictures (report/), --no-plots, --csv, --markdown, --latex, --json FILE (- prints)
       tlrun distance KEY=VALUE... | RUN    how far apart two domains are, before training and in a run's features
       tlrun rank models=A,B,C [KEY=VALUE ...] | sources=A,B,C [KEY=VALUE ...]
                                     which model, or which source, to start from, told before training by granted
                                     target labels (data.target_labels=N|all): --by SCORE, --csv, --json FILE
       tlrun advise KEY=VALUE...     which strategies are worth trying on a pair, why, at what cost, with the commands:
                                     --quick times nothing, --json FILE
       tlrun predict RUN PATH...     what a finished run says of images, folders, patterns, lists: --output FILE (CSV),
                                     --top K, --domain source; the data of the run need not be there
       tlrun eval RUN [KEY=VALUE ...]
                                     a finished run on other data, all figures: --split val,test,all, --output DIR
       tlrun diff RUN RUN            how two finished runs differ: settings, data, environment, results row by row, and
                                     from which epoch on: --json FILE
       tlrun --version | --help      tlrun VERB --help tells more of each of these

examples:
  tlrun strategy=dann data=mnist_mnistm
      adapt a digit classifier from MNIST to MNIST-M, without any target label
  tlrun -m strategy=source_only,dann,mmd,target_only seed=0,1,2
      hold methods against the floor and the ceiling at the same budget
  tlrun strategy=fine_tune data=mnist_usps data.target_labels=10
      train a source model, then go on with 10 labelled target images a class
  tlrun data=pair domain@data.source=usps domain@data.target=mnistm engine.epochs=20 device=cuda
      any two domains, a longer run, on the GPU
  tlrun strategy=dann engine.epochs=1 run.require="target_test_accuracy>=0.5"
      for scripts: exit code 1 when the result is worse

choices (GROUP=NAME):
{groups}

Every other setting is KEY=VALUE, such as optim.lr=0.001, model.weights=source, engine.select=oracle, run.root=DIR.
  tlrun [KEY=VALUE ...] --cfg job    shows the settings of a run, starts nothing
  tlrun --config-dir DIR ...         takes your own YAML beside ours; name: my_lab.my_method is your own module
  eval "$(tlrun -sc install=bash)"   completes keys and choices on the tab key (also install=zsh, install=fish)

Results go to outputs/<data>-<strategy>-s<seed>-<digest>/ in the current folder (run.root): summary.json, metrics.csv,
checkpoints, all settings. Standard output names the folder of every finished run, standard error tells the rest.
Exit codes: 0 done, 1 a run failed or run.require was missed, 2 the command or a setting is wrong.
"""


def config_folder() -> Path:
    """Our `configs/`: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "configs"
    return inside if inside.is_dir() else here.parent / "configs"


def folders(config_dir: str | None) -> list[Path]:
    """Where choices lie: ours, then the user's folder if one is given. Raises ConfigError where there is no such folder."""
    if config_dir is None:
        return [config_folder()]
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    return [config_folder(), Path(config_dir)]


def headings(folder: Path) -> dict[str, str]:
    """The name and the heading of every YAML in a folder, sorted by name."""
    return {path.stem: heading(path) for path in sorted(folder.glob("*.yaml"))}


def heading(path: Path) -> str:
    """The first comment line of a YAML, behind what it says to Hydra (`# @package ...`); empty where there is none."""
    with path.open() as file:
        first = next((line for line in file if not line.startswith("# @")), "")
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def options(what: str, folders: list[Path]) -> dict[str, str]:
    """Name and description of everything of that sort; where folders hold the same name, the first one's."""
    if what == "rules":
        return RULES
    found: dict[str, str] = {}
    for folder in reversed(folders):
        found |= headings(folder / GROUPS[what])
    return dict(sorted(found.items()))


def list_text(what: str | None, folders: list[Path]) -> str:
    """The lines of `tlrun list [what]`. Raises ConfigError when there is no such list."""
    if what is None:
        return "\n\n".join(f"{each} ({_how(each)})\n{_lines(options(each, folders), '  ')}" for each in KINDS)
    if what not in KINDS:
        raise ConfigError(f"list {what}: no such list{unknown(what, KINDS)}")
    return _lines(options(what, folders))


def help_text(folders: list[Path]) -> str:
    """The text of `tlrun --help`."""
    found = {
        path.parent.relative_to(folder).as_posix() for folder in folders for path in folder.glob("[!_]*/**/*.yaml")
    }
    groups = sorted(found - {"domain"})
    names = {group: {name for folder in folders for name in headings(folder / group)} for group in groups}
    width = max(map(len, groups))
    lines = [
        textwrap.fill(
            ", ".join(sorted(names[group])),
            110,
            initial_indent=f"  {group:<{width}} ",
            subsequent_indent=" " * (width + 3),
            break_on_hyphens=False,
        )
        for group in groups
    ]
    what = textwrap.fill(", ".join(KINDS), 80).replace("\n", "\n" + " " * 37)
    return HELP.format(what=what, groups="\n".join(lines)).rstrip()


def version_text() -> str:
    """Our version and those that numbers depend on most, without importing them."""
    versions = [f"{package} {version(package)}" for package in ("torch", "torchvision", "hydra-core")]
    return f"tlrun {version('tlrun')} ({', '.join(versions)}, Python {platform.python_version()})"


def version(package: str) -> str:
    """The version of an installed distribution, without importing it; `not installed` for any other."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _how(what: str) -> str:
    return HOW.get(what) or f"{GROUPS[what]}=NAME"


def _lines(found: dict[str, str], indent: str = "") -> str:
    width = max((len(name) for name in found), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {text}".rstrip() for name, text in found.items())
