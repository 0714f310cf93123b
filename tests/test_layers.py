"""The arrows of the architecture: what may import what, and what starts fast."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ssmprof"
BASE = (
    "scalars", "work", "records", "spec", "scopes", "units", "limits", "families", "chips",
    "errors", "bounded", "harmless", "private",
)  # fmt: skip
# Part of ssmprof -> the parts it may import. Everything may import itself and the base.
ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(BASE, ()),
    "mixers": (),  # as data
    "models": ("mixers",),  # as data
    "spec": ("models",),
    "families": ("mixers",),
    "private": ("mixers",),
    "records": ("models",),
    "mixers-run": ("mixers",),
    "models-run": ("mixers", "mixers-run", "models"),
    "store": ("models",),
    "analysis": ("mixers", "models"),
    "serving": ("mixers", "models", "analysis"),
    "devices": (),
    "planning": ("models", "analysis"),
    "measure": ("devices", "mixers", "mixers-run", "models", "models-run"),
    "report": ("analysis", "models", "serving", "store"),
    "doctor": ("devices", "measure", "mixers", "mixers-run", "models", "models-run"),
    "engine": ("analysis", "doctor", "mixers", "mixers-run", "models", "models-run", "serving"),
    "session": (
        "analysis",
        "devices",
        "doctor",
        "measure",
        "models",
        "planning",
        "report",
        "store",
    ),
    "cli": ("*",),
    "__init__": ("*",),
    "__main__": ("cli",),
}
HEAVY = ("torch", "triton", "pandas", "scipy", "matplotlib", "numpy")
# Third-party packages that a part may import, and where: at the top of a file or inside functions.
TOP: dict[str, tuple[str, ...]] = {
    "measure": ("torch", "triton"),
    "doctor": ("torch", "triton"),
    "engine": ("torch",),
    "mixers-run": ("torch", "triton"),
    "models-run": ("torch", "triton"),
}
NEVER: dict[str, tuple[str, ...]] = {
    "mixers": HEAVY,
    "models": HEAVY,
    "store": ("torch", "triton", "pandas", "scipy", "matplotlib"),
    "analysis": ("torch", "triton", "matplotlib"),
    "planning": ("torch", "triton", "pandas", "scipy", "matplotlib"),
    "report": ("torch", "triton"),
    "devices": ("torch", "triton", "pandas", "scipy", "matplotlib"),
    "measure": ("pandas", "scipy", "matplotlib"),
    "doctor": ("pandas", "scipy", "matplotlib"),
    "session": HEAVY,
    "serving": HEAVY,
}


# What mixers and models say of themselves without torch; the rest of `mixers` and all of
# `models/build` runs them.
DATA = (
    "__init__", "part", "registry", "packages", "recurrence", "steps", "workspace", "base", "shape",
    "names",
)  # fmt: skip


def part_of(path: Path) -> str:
    return part_of_module(".".join(path.relative_to(PACKAGE).with_suffix("").parts))


def part_of_module(name: str) -> str:
    """The part that a module belongs to, by its name below `ssmprof` (a name in it may follow)."""
    names = name.split(".")
    if names[:2] == ["models", "build"]:
        return "models-run"
    if names[0] == "mixers" and len(names) > 1:
        inner = names[-1]
        files = [path.stem for path in (PACKAGE / "mixers").rglob("*.py")]
        if inner not in files and len(names) > 2:
            inner = names[-2]
        if inner in files and inner not in DATA:
            return "mixers-run"
    return names[0]


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, at the top of the file) of every import, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) not in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno, id(node) not in inside


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    mine = part_of(path)
    allowed = ALLOWED[mine]
    for module, line, _ in imports(path):
        where = f"{path.relative_to(ROOT)}:{line}: imports {module}"
        if module.startswith("ssmprof_kernels"):
            # The doctor's own kernels and the worker read the launch tables; nobody else does.
            assert mine in ("mixers-run", "measure", "doctor", "cli"), where
        elif module.startswith("ssmprof.") and "*" not in allowed:
            part = part_of_module(module.removeprefix("ssmprof."))
            assert part in (mine, *BASE, *allowed, "__version__"), where


def test_planning_uses_only_the_comparison_of_the_analysis() -> None:
    for path in sorted((PACKAGE / "planning").rglob("*.py")):
        for module, line, _ in imports(path):
            if module.startswith("ssmprof.analysis"):
                used = module.split(".")[2]
                assert used in ("compare", "findings", "surface"), f"{path.name}:{line}: {module}"


def test_no_two_files_of_those_who_measure_need_each_other() -> None:
    """Neither at the top nor inside functions: a file can be read after those it names."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    asked = ("measure", "doctor", "session")
    needs = {
        name: {
            found
            for module, _, _ in imports(path)
            for found in (module, module.rpartition(".")[0])
            if found in names and found != name
        }
        for name, path in names.items()
        if part_of(path) in asked
    }
    while free := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in free:
            del needs[name]
    assert not needs


# Inside the analysis: why and what follows read who wins, never the reverse.
INSIDE = {
    "compare": (),
    "surface": ("compare",),
    "explain": ("compare",),
    "decide": ("compare", "explain"),
}


@pytest.mark.parametrize("part", INSIDE)
def test_arrows_inside_the_analysis_point_down(part: str) -> None:
    for path in sorted((PACKAGE / "analysis" / part).rglob("*.py")):
        for module, line, _ in imports(path):
            names = module.split(".")
            if names[:2] == ["ssmprof", "analysis"] and names[2] in INSIDE:
                assert names[2] in (part, *INSIDE[part]), f"{path.name}:{line}: {module}"


def test_nothing_outside_of_the_comparison_judges_signs() -> None:
    """Who wins is found once: nobody else takes readings, noise or stretches of winners."""
    engine = ("sign", "noise", "zone", "envelope", "crossing")
    allowed = {
        "decide/decision.py",
        "explain/dominance.py",
    }  # a mix of lengths; a share of one half
    for path in FILES:
        inside = path.is_relative_to(PACKAGE / "analysis" / "compare")
        name = path.relative_to(PACKAGE).as_posix()
        if inside or name.removeprefix("analysis/") in allowed:
            continue
        for module, line, _ in imports(path):
            names = module.split(".")
            if names[:3] == ["ssmprof", "analysis", "compare"]:
                assert names[3] not in engine, f"{name}:{line}: {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    mine = part_of(path)
    for module, line, top in imports(path):
        name = module.split(".")[0]
        if name not in HEAVY:
            continue
        where = f"{path.relative_to(ROOT)}:{line}: imports {name}"
        assert name not in NEVER.get(mine, ()), where
        assert not top or name in TOP.get(mine, ()), f"{where} at the top of the file"


def test_the_kernels_know_nothing_of_ssmprof() -> None:
    for path in (ROOT / "kernels" / "ssmprof_kernels").rglob("*.py"):
        for module, line, _ in imports(path):
            assert module.split(".")[0] != "ssmprof", f"{path}:{line}"


def test_folders_that_are_no_packages_stay_so() -> None:
    for folder in ("kernels", "jetson", "scenarios", "reports", "tests"):
        assert not (ROOT / folder / "__init__.py").exists(), folder


def loaded_by(code: str) -> set[str]:
    """Top-level modules in sys.modules after running `code` in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint('MODULES', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"},
    )  # fmt: skip
    line = next(text for text in done.stdout.splitlines() if text.startswith("MODULES"))
    return {name.split(".")[0] for name in line.split()[1:]}


def test_help_loads_no_heavy_library() -> None:
    found = loaded_by(
        "from ssmprof.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"
    )
    assert not found & {*HEAVY, "jinja2", "msgspec"}


@pytest.mark.parametrize(
    "part", ["costs", "store", "planning", "devices", "analysis", "report", "serving"]
)
def test_importing_a_part_that_needs_no_torch_loads_none(part: str) -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((PACKAGE / part).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    found = loaded_by("".join(f"import {name}\n" for name in names))
    assert not found & {"torch", "triton", "pandas", "scipy", "matplotlib"}


def fastest(command: list[str], tries: int = 5) -> float:
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        best = min(best, time.perf_counter() - start)
    return best


def test_help_takes_at_most_four_times_as_long_as_importing_click() -> None:
    click = fastest([sys.executable, "-c", "import click"])
    help_page = fastest([sys.executable, "-m", "ssmprof", "--help"])
    assert help_page <= 4 * click, f"{help_page * 1e3:.0f} ms against {click * 1e3:.0f} ms"


def test_no_file_needs_an_apology_for_its_length() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in FILES
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_who_measures_asks_a_device_what_it_can_and_not_which_it_is() -> None:
    for path in FILES:
        if part_of(path) == "devices":
            continue
        for module, line, _ in imports(path):
            where = f"{path.relative_to(ROOT)}:{line}: {module}"
            assert not module.startswith("ssmprof.devices.jetson.device"), where
            assert not module.endswith(("JetsonDevice", "NvmlDevice", "CpuDevice")), where
