"""The rules that keep the design: who may import whom, what may name a strategy, where output and environment are touched."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tlrun"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path for path in FILES}

ALLOWED = {
    "batch": set(),
    "config": set(),
    "losses": {"batch", "losses"},
    "layers": {"batch", "layers"},
    "metrics": {"batch", "losses", "metrics"},
    "models": {"batch", "build", "config", "layers", "models"},
    "strategies": {"batch", "config", "losses", "layers", "metrics", "models", "strategies"},
    "data": {"batch", "build", "config", "data", "files", "locks", "models"},
    "run_files": {"batch", "files"},
    "locks": {"files"},
    "run": {"batch", "config", "environment", "files", "locks", "run_files"},
    "engine": {"batch", "config", "build", "data", "engine", "files", "losses", "layers", "metrics", "models", "run",
               "run_files", "strategies"},
    "loggers": {"config", "files", "run"},
    "compose": {"build", "config", "engine", "files", "listing", "loggers", "run", "run_files"},
    "trained": {"batch", "build", "config", "data", "engine", "files", "models", "run", "strategies"},
    "report": {"config", "data", "files", "metrics", "run", "run_files", "trained"},
    "evidence": {"batch", "compose", "config", "data", "engine", "evaluation", "experiment", "files", "metrics", "models",
                 "report", "run", "strategies", "trained"},
}  # fmt: skip
"""What each room may import of tlrun; a room that is not named here may import all."""


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> list[tuple[str, bool]]:
    """The tlrun modules that a file imports, each with whether the import is only for types."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for each in ast.walk(tree)
        if isinstance(each, ast.If) and isinstance(each.test, ast.Name) and each.test.id == "TYPE_CHECKING"
        for node in ast.walk(each)
    }
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "tlrun":
                names = [f"tlrun.{each.name}" for each in node.names]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        found += [(name, id(node) in typing_only) for name in names if name.split(".")[0] == "tlrun"]
    return found


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) in ALLOWED))
def test_imports_point_one_way(module: str) -> None:
    own = room(module)
    wrong = [
        name
        for name, typing_only in imports(MODULES[module])
        if room(name) != own and room(name) not in ALLOWED[own] and not typing_only
    ]
    assert wrong == []


def test_nothing_under_the_engine_knows_a_strategy() -> None:
    names = {path.stem for path in (PACKAGE / "strategies").glob("[a-z]*.py")} - {"base"}
    for path in (PACKAGE / "engine").glob("*.py"):
        assert all(name in ("tlrun.strategies.base", "tlrun.strategies") or not name.startswith("tlrun.strategies")
                   for name, _ in imports(path)), path  # fmt: skip
        words = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not words & names, path


def test_strategies_hold_no_optimizer_loader_device_or_path() -> None:
    for path in (PACKAGE / "strategies").glob("*.py"):
        text = path.read_text()
        for word in ("torch.optim", "DataLoader", "pathlib", "torch.device", ".step(", ".backward("):
            assert word not in text, f"{path.name}: {word}"


def test_strategies_do_not_subclass_each_other() -> None:
    for path in (PACKAGE / "strategies").glob("[a-z]*.py"):
        if path.stem == "base":
            continue
        classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        assert [[base.id for base in each.bases if isinstance(base, ast.Name)] for each in classes] == [["Strategy"]]


def test_every_strategy_has_its_yaml_and_every_yaml_its_strategy() -> None:
    modules = {path.stem for path in (PACKAGE / "strategies").glob("[a-z]*.py")} - {"base"}
    assert modules == {path.stem for path in (PACKAGE.parent / "configs" / "strategy").glob("*.yaml")}


@pytest.mark.slow
def test_nothing_prints_but_the_command_line() -> None:
    for path in FILES:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printing = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not printing or path.name in ("cli.py", "session.py") or {"report", "verbs"} & set(path.parts), path


@pytest.mark.slow
def test_importing_a_module_has_no_side_effect_on_the_environment() -> None:
    script = (
        "import importlib, os, sys\n"
        "before = dict(os.environ)\n"
        f"for name in {sorted(name for name in MODULES if not name.endswith('__main__'))!r}:\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
        "changed = {key for key in before.keys() | os.environ.keys() if before.get(key) != os.environ.get(key)}\n"
        "sys.exit(f'changed {changed}' if changed - {'KMP_DUPLICATE_LIB_OK', 'KMP_INIT_AT_FORK'} else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr


def test_settings_types_load_no_torch() -> None:
    script = (
        "import sys, tlrun.config, tlrun.build, tlrun.compose.resolve, tlrun.run, tlrun.cli, tlrun.session, tlrun.engine.schedules\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
def test_files_and_functions_stay_readable() -> None:
    for path in FILES:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


@pytest.mark.slow
def test_everything_public_says_what_it_is_for() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or not tree.body, path
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                short = isinstance(node, ast.FunctionDef) and len(node.body) < 3
                assert ast.get_docstring(node) or short or isinstance(node, ast.ClassDef), f"{path}: {node.name}"
