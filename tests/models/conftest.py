"""The kernels that a block runs by request need the interpreter as `tests/kernels` mends it."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

runpy.run_path(str(Path(__file__).parents[1] / "kernels" / "conftest.py"))
torch.set_num_threads(1)  # tiny tensors: waiting for a second thread costs more than it saves
