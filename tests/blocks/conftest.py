"""The kernels that a block runs by request need the interpreter as `tests/kernels` mends it."""

from __future__ import annotations

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "kernels" / "conftest.py"))
