"""Tiny tensors: waiting for a second thread costs more than it saves."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
