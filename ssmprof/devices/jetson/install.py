"""The torch and triton that fit a Jetson release: the index to take them from, and what goes wrong.

`pip install torch` from PyPI on JetPack 6 installs a build for CUDA 13, which sees no device.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ssmprof.devices.jetson.board import Run
from ssmprof.records import Check

JETPACK6_INDEX = "https://pypi.jetson-ai-lab.io/jp6/cu126"
_JETPACK6 = f"pip install torch==2.8.0 triton==3.4.0 --index-url {JETPACK6_INDEX}"
_LINES: Mapping[str, str] = {
    "35": "a newer JetPack: its Python 3.8 is below what ssmprof needs",
    "36": _JETPACK6,
    "38": "pip install torch triton",
    "39": "pip install torch triton",
}
_CUDA_MAJOR: Mapping[str, str] = {"36": "12", "38": "13", "39": "13"}
_CHILD_S = 120.0
_PTXAS = "/usr/local/cuda/bin/ptxas"
_QUESTION = """
import json, torch
seen = torch.cuda.is_available()
found = {"torch": str(torch.__version__), "cuda": torch.version.cuda, "available": seen}
found["architectures"] = torch.cuda.get_arch_list()
if seen:
    major, minor = torch.cuda.get_device_capability(0)
    found["architecture"] = f"sm_{major}{minor}"
try:
    torch.ones(1).numpy()
except Exception as error:
    found["numpy"] = str(error)
print(json.dumps(found))
"""


def torch_line(l4t: str | None) -> str:
    """The command that installs torch and triton for a release; JetPack 6 where it is unknown."""
    return _LINES.get((l4t or "36").split(".")[0], _JETPACK6)


def ptxas_for(
    soc: str | None, triton: str | None, environ: Mapping[str, str], run: Run | None
) -> dict[str, str]:
    """The variable that makes Triton before 3.7 use the board's assembler; empty where not needed.

    Only on Thor, only where the user has set none, and only where the board's own ptxas is of CUDA
    13 or later, since older ones know sm_110 as little as Triton's.
    """
    if soc != "tegra264" or triton is None or run is None:
        return {}
    release = triton_release(triton)
    variable = ptxas_variable(release)
    if release >= (3, 7) or environ.get(variable):
        return {}
    found = re.search(r"release (\d+)\.", run([_PTXAS, "--version"]) or "")
    return {variable: _PTXAS} if found and int(found[1]) >= 13 else {}


def triton_release(version: str) -> tuple[int, int]:
    """`3.6.0+git` -> (3, 6)."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def ptxas_variable(release: tuple[int, int]) -> str:
    """Which variable names the assembler for new architectures in this Triton."""
    return "TRITON_PTXAS_BLACKWELL_PATH" if release >= (3, 6) else "TRITON_PTXAS_PATH"


def ask_torch() -> dict[str, Any] | None:
    """What torch says about itself, asked in a child, since a wrong build may take it down."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _QUESTION], capture_output=True, text=True, timeout=_CHILD_S
        )
        return json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
        return None


def torch_fits(l4t: str | None, ask: Callable[[], dict[str, Any] | None] = ask_torch) -> Check:
    """Whether the installed torch is a build for this board; the line that installs one if not."""
    line = torch_line(l4t)
    found = ask()
    if found is None:
        return Check(name="torch", level="error", text="does not import", fix=line)
    text = f"{found['torch']}, CUDA {found['cuda']}"
    expected = _CUDA_MAJOR.get((l4t or "").split(".")[0])
    major = (found["cuda"] or "none").split(".")[0]
    if expected is not None and major != expected:
        text += f": L4T {l4t} has CUDA {expected}"
        return Check(name="torch", level="error", text=text, fix=line)
    if not found["available"]:
        return Check(name="torch", level="error", text=f"{text}: sees no GPU", fix=line)
    if "numpy" in found:
        fix = 'pip install "numpy<2"'
        return Check(name="torch", level="error", text=f"{text}: {found['numpy']}", fix=fix)
    if found["architecture"] not in found["architectures"]:
        have = ", ".join(found["architectures"])
        text += f": built for {have}, the board is {found['architecture']}"
        return Check(name="torch", level="warn", text=text, fix=line)
    return Check(name="torch", level="ok", text=f"{text}, {found['architecture']}")
