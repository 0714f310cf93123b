"""Recordings of an operation by shape, with the device guard every launch needs.

Promises: `run` launches what `record` would describe for these facts, recording at most once per
key and meta-parameters; on a device that is not the current one it switches for the launch alone.
The number of recordings is bounded, so that ever new shapes cost time but not memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels.launch import replay

Recordings = dict[Hashable, tuple[replay.Recording, Any]]

_MOST = 4096


def key_of(tensors: Sequence[Tensor | None], *options: Hashable) -> Hashable:
    """All that a recording depends on: layout, alignment and device of each tensor, the options."""
    devices = tuple([None if t is None else t.device for t in tensors])
    return (replay.facts_of(tensors), devices, options)


def run(
    recordings: Recordings,
    key: Hashable,
    meta: Any,
    tensors: Sequence[Tensor | None],
    device: torch.device,
    record: Callable[[], replay.Recording],
) -> None:
    """Launch the recording of `key` on `tensors`, made by `record` if new or of another `meta`."""
    known = recordings.get(key)
    if known is None or known[1] is not meta:
        if len(recordings) >= _MOST:
            recordings.clear()
        known = recordings[key] = (record(), meta)
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            known[0].run(tensors, device)
    else:
        known[0].run(tensors, device)
