"""Reads a component's nested `Config` out of its source, to type settings without loading what it needs."""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlrun.config import Settings


def has_component(path: Path) -> bool:
    """Whether the module at path defines one class with a nested `Config`. Raises SyntaxError."""
    return _component(ast.parse(path.read_text(), filename=str(path))) is not None


@functools.cache
def read_settings(module: str, path: Path) -> type[Settings] | None:
    """The component's `Config`, run by itself with what it uses of its module; None where that needs an import of more.

    Without `from __future__ import annotations`, so that every annotation is looked up here rather than by pydantic
    in a module that is not loaded.
    """
    tree = ast.parse(path.read_text(), filename=str(path))
    component = _component(tree)
    if component is None:
        return None
    owner, nested = component
    used = _statements_used(tree, nested)
    if used is None:
        return None
    part = ast.Module(body=[*used, nested], type_ignores=[])
    space: dict[str, Any] = {"__name__": module, "__file__": str(path)}
    exec(compile(part, str(path), "exec", dont_inherit=True), space)
    config: type[Settings] = space["Config"]
    config.__qualname__ = f"{owner.name}.Config"
    return config


def _component(tree: ast.Module) -> tuple[ast.ClassDef, ast.ClassDef] | None:
    """The one class with a nested `Config`, and that; None where there is none, or several."""
    found = [
        (owner, nested)
        for owner in tree.body
        if isinstance(owner, ast.ClassDef)
        for nested in owner.body
        if isinstance(nested, ast.ClassDef) and nested.name == "Config"
    ]
    return found[0] if len(found) == 1 else None


def _statements_used(tree: ast.Module, root: ast.ClassDef) -> list[ast.stmt] | None:
    """The module's statements that `root` needs, in order; None where it needs an import that may load a library."""
    definitions = {name: statement for statement in tree.body for name in _names_bound([statement])}
    used: dict[int, ast.stmt] = {}
    names = _names_read(root)
    own = _names_bound(list(ast.walk(root)))
    while names:
        name = names.pop()
        statement = definitions.get(name)
        if statement is None:
            if hasattr(builtins, name) or name in own or name in ("__name__", "__file__", "__class__"):
                continue
            return None
        if isinstance(statement, ast.Import | ast.ImportFrom):
            statement = _cheap_import(statement, name)
            if statement is None:
                return None
            used[id(statement)] = statement
        elif id(statement) not in used:
            used[id(statement)] = statement
            names |= _names_read(statement)
            own |= _names_bound(list(ast.walk(statement)))
    return sorted(used.values(), key=lambda statement: statement.lineno)


def _cheap_import(statement: ast.Import | ast.ImportFrom, name: str) -> ast.stmt | None:
    """The part of an import that binds `name`, where it is of the standard library, pydantic or `tlrun.config`."""
    alias = next(each for each in statement.names if _bound_by(each) == name)
    source = alias.name if isinstance(statement, ast.Import) else (statement.module or "")
    relative = isinstance(statement, ast.ImportFrom) and statement.level > 0
    root = source.partition(".")[0]
    if relative or not (root in sys.stdlib_module_names or root == "pydantic" or source == "tlrun.config"):
        return None
    kept: ast.stmt = (
        ast.Import([alias]) if isinstance(statement, ast.Import) else ast.ImportFrom(statement.module, [alias], 0)
    )
    return ast.copy_location(kept, statement)


def _bound_by(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _names_read(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def _names_bound(nodes: Sequence[ast.AST]) -> set[str]:
    """The names that these nodes themselves give a meaning: imports, definitions, assignments, arguments."""
    bound: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {_bound_by(alias) for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {each.id for each in targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    return bound
