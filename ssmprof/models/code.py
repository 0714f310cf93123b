"""Code that a user names: where it lies, and whether it can be there, found without running it.

`module:function` is looked for in the folder the command was started in, then on Python's path;
`FILE.py:function` from that folder. Workers run elsewhere: HOME tells them the folder.
"""

from __future__ import annotations

import ast
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ssmprof.errors import ConfigError, nearest

HOME = "SSMPROF_STARTED_IN"  # the variable that tells a worker where the user is


def started_in() -> str:
    """The folder the command was started in."""
    return os.environ.get(HOME) or os.getcwd()


def file_named(where: str) -> Path:
    """The file that `FILE.py` names."""
    return Path(started_in()) / Path(where).expanduser()


def check(factory: str) -> None:
    """Raise ConfigError where the module, or the function in it, is not there; nothing is run."""
    where, _, name = factory.rpartition(":")
    if where == "hf" or factory.startswith("hf:"):
        return
    if not where or not name.isidentifier():
        raise ConfigError(
            f'"{factory}" names no function', fix="name module:function or FILE.py:function"
        )
    file = _file(factory, where)
    if file is None or file.suffix != ".py":
        return  # built in, or compiled: only running it tells
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{factory}: {file} cannot be read as Python", cause=str(error)) from None
    names, every = _defined(tree)
    if name not in names and not every:
        raise ConfigError(f"{factory}: {where} has no function {name}{nearest(name, names)}")
    for package in _needed(tree):
        if _spec(package) is None:
            raise ConfigError(
                f"{factory}: {file.name} imports {package}, which is not installed here",
                fix=f"install {package} beside ssmprof",
            )


def _needed(tree: ast.Module) -> list[str]:
    """Packages that a module imports whatever happens: not in a function, a condition or a try."""
    found: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            found.update(dict.fromkeys(one.name.partition(".")[0] for one in node.names))
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found[node.module.partition(".")[0]] = None
    return list(found)


def _file(factory: str, where: str) -> Path | None:
    """The file of a module. Raises ConfigError where there is none."""
    if where.endswith(".py"):
        file = file_named(where)
        if not file.is_file():
            raise ConfigError(f"{factory}: {file}: no such file")
        return file
    found = _spec(where)
    if found is None:
        raise ConfigError(
            f"{factory}: no module is named {where}",
            cause=f"it is neither in {started_in()} nor installed beside ssmprof",
            fix="name module:function or FILE.py:function",
        )
    return Path(found.origin) if found.origin and os.path.isfile(found.origin) else None


def _spec(module: str) -> ModuleSpec | None:
    """What Python would import, a package at a time, without importing any."""
    if module in sys.builtin_module_names:
        return ModuleSpec(module, None)
    paths: list[str] | None = [started_in(), *sys.path]
    found = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = PathFinder.find_spec(name, paths) if part else None
        if found is None:
            return None
        paths = list(found.submodule_search_locations or ())
    return found


def _defined(tree: ast.Module) -> tuple[set[str], bool]:
    """Names a module binds at any depth outside of functions, and whether it may bind others."""
    names: set[str] = set()
    every = False
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            every = every or node.name == "__getattr__"
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(one.asname or one.name).partition(".")[0] for one in node.names}
            every = every or any(one.name == "*" for one in node.names)
        todo += ast.iter_child_nodes(node)
    return names, every
