"""Installs the built wheel as a user would, and runs the documented commands from it.

`python tests/install.py [--output FOLDER] [--clone]`: a wheelhouse is the only index of what brings
torch, so that no other build of it is taken; without torch the wheel goes into every Python here.
What uv, pipx or an interpreter is missing for is said and left out; anything else that fails ends
the script with 1. `--clone` adds the two commands of the README in a fresh clone (minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "reports" / "2026-11-22-crossover-h100-80gb-hbm3"
CONSTRAINTS = ROOT / "constraints.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PIP = (sys.executable, "-m", "pip")
MB = 1_000_000
NEEDS_TORCH = 'error: measuring needs torch, which is not installed: pip install "ssmprof[torch]"'


def run(*command: object, code: int = 0, env: Mapping[str, str] = {}, cwd: Path) -> str:
    """Run a command in a clean environment and give back what it said; SystemExit if it fails."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != code:
        words = " ".join(str(word) for word in command)
        sys.exit(f"{words}\nended with {done.returncode}, not {code}:\n{done.stdout}")
    return done.stdout


def tool(name: str) -> str | None:
    """uv or pipx, beside this Python or on the path; says so where it is missing."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        print(f"{name} is not here: its commands are left out")
    return found


def reads(ssmprof: tuple[object, ...], work: Path, env: Mapping[str, str] = {}) -> None:
    """A command that has no torch reads a run, plans, and says in one line what a sweep lacks."""
    page = work / "page.html"
    said = run(*ssmprof, "report", RUN, "-o", page, cwd=work, env=env)
    assert "Use the transformer below" in said
    assert page.stat().st_size > 100_000
    page.unlink()
    assert "quickstart" in run(*ssmprof, "scenarios", cwd=work, env=env)
    assert "total" in run(*ssmprof, "plan", "crossover", "--on", "h100", cwd=work, env=env)
    said = run(*ssmprof, "sweep", "quickstart", cwd=work, env=env, code=3)
    assert said.strip() == NEEDS_TORCH, said
    assert not (work / "reports").exists()


def measures(ssmprof: tuple[object, ...], work: Path, env: Mapping[str, str] = {}) -> None:
    """A command that has torch measures the smallest scenario and writes its page."""
    folder = work / "swept"
    run(*ssmprof, "--exit-zero", "sweep", "smoke", "-o", folder, cwd=work, env=env)
    run(*ssmprof, "--exit-zero", "report", folder, cwd=work, env=env)
    lines = (folder / "outcomes.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 2, lines
    assert (folder / "report.html").is_file()
    shutil.rmtree(folder)


def size_mb(folder: Path) -> int:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return round(sum(file.stat().st_size for file in files) / MB)


def built(work: Path) -> Path:
    """The wheel of what this checkout holds, in a folder of its own."""
    source = work / "source"
    for name in run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(*PIP, "wheel", "-q", "--no-deps", "-w", work / "dist", source, cwd=work)
    (wheel,) = (work / "dist").glob("*.whl")
    return wheel


def wheelhouse(wheel: Path, work: Path) -> tuple[Path, bool]:
    """A folder with the wheel and all it needs, and whether torch is there, as a CPU build."""
    house, wanted = work / "house", f"{wheel}[torch]"
    plan = work / "plan.json"
    look = ("install", "-q", "--dry-run", "--ignore-installed", "--report", plan)
    run(*PIP, *look, "-c", CONSTRAINTS, wanted, cwd=work)
    taken = [one["metadata"]["name"] for one in json.loads(plan.read_text("utf-8"))["install"]]
    cpu = not any(name.startswith("nvidia-cu") for name in taken)
    if not cpu:
        print("the index has no CPU build of torch here: what needs torch is left out")
    run(*PIP, "download", "-q", "-c", CONSTRAINTS, "-d", house, wanted if cpu else wheel, cwd=work)
    return house, cpu


def with_uv(uv: str, house: Path, work: Path, torch: bool) -> None:
    env = {
        "UV_FIND_LINKS": str(house),
        "UV_NO_INDEX": "1",
        "UV_CONSTRAINT": str(CONSTRAINTS),
        "UV_PYTHON": sys.executable,
        "UV_NO_CONFIG": "1",
    }
    uvx = (uv, "tool", "run")  # which is what uvx is
    reads((*uvx, "ssmprof"), work, env)
    print("uvx ssmprof report RUN: a page, without torch")
    if torch:
        measures((*uvx, "--from", "ssmprof[torch]", "ssmprof"), work, env)
        print("uvx --from 'ssmprof[torch]' ssmprof sweep: measured")


def with_pipx(pipx: str, house: Path, work: Path) -> None:
    env = {
        "PIPX_HOME": str(work / "pipx"),
        "PIPX_BIN_DIR": str(work / "bin"),
        "PIPX_MAN_DIR": str(work / "man"),
        "PIP_FIND_LINKS": str(house),
        "PIP_CONSTRAINT": str(CONSTRAINTS),
    }
    run(pipx, "install", "--backend", "pip", "ssmprof", cwd=work, env=env)
    reads((work / "bin" / "ssmprof",), work)
    print("pipx install ssmprof: reads runs")


def with_pip(house: Path, work: Path, torch: bool) -> dict[str, int]:
    """Without torch, then torch beside it: nothing of the first is replaced. Sizes in MB."""
    venv = work / "pip"
    run(sys.executable, "-m", "venv", venv, cwd=work)
    local = (venv / "bin" / "pip", "install", "-q", "--no-index", "-f", house, "-c", CONSTRAINTS)
    run(*local, "ssmprof", cwd=work)
    reads((venv / "bin" / "ssmprof",), work)
    found = {"without_torch_mb": size_mb(venv / "lib")}
    if torch:
        run(*local, "ssmprof[torch]", cwd=work)
        measures((venv / "bin" / "ssmprof",), work)
        found["with_cpu_torch_mb"] = size_mb(venv / "lib")
    print(f"pip install ssmprof: {found}")
    return found


def interpreter(version: str) -> Path | None:
    """A Python of this version: on the path, or one that pyenv keeps."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(pyenv.glob(f"{version}.*/bin/python"))
    named = shutil.which(f"python{version}")
    return kept[-1] if kept else Path(named) if named else None


def every_python(uv: str, work: Path) -> dict[str, int]:
    """The wheel without torch in each Python here, from the package index. Sizes in MB."""
    found = {}
    env = {"UV_FIND_LINKS": str(work / "dist"), "UV_CONSTRAINT": str(CONSTRAINTS)}
    env |= {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1"}
    for version in PYTHONS:
        python, venv = interpreter(version), work / f"python-{version}"
        if python is None:
            print(f"Python {version} is not here: left out")
            continue
        run(uv, "venv", "-q", "--python", python, venv, cwd=work, env=env)
        run(uv, "pip", "install", "-q", "-p", venv, "ssmprof", cwd=work, env=env)
        reads((venv / "bin" / "ssmprof",), work)
        found[version] = size_mb(venv / "lib")
        print(f"Python {version}: {found[version]} MB without torch, reads runs")
    return found


def fresh_clone(work: Path) -> dict[str, float]:
    """`make sweep` in a clone of the last commit: seconds to a page."""
    run("git", "clone", "-q", ROOT, work / "clone", cwd=work)
    began = time.monotonic()
    run("make", "sweep", f"PYTHON={sys.executable}", cwd=work / "clone")
    took = time.monotonic() - began
    (page,) = (work / "clone" / "reports").glob("*quickstart-cpu/report.html")
    print(f"make sweep: {took:.0f} s to {page.name}")
    return {"make_sweep_s": round(took)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="keep the sizes as install.json there")
    parser.add_argument("--clone", action="store_true", help="also `make sweep` in a fresh clone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ssmprof-install-") as folder:
        work = Path(folder)
        house, torch = wheelhouse(built(work), work)
        found: dict[str, Any] = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
        found |= with_pip(house, work, torch)
        if pipx := tool("pipx"):
            with_pipx(pipx, house, work)
        if uv := tool("uv"):
            with_uv(uv, house, work, torch)
            found["without_torch_by_python_mb"] = every_python(uv, work)
        if asked.clone:
            found |= fresh_clone(work)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        (asked.output / "install.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
