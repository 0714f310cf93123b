"""The launcher: recordings of an operation by shape, with the device guard every launch needs.

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


class Key:
    """All that a recording depends on; hashed once, since that costs as much as a lookup of it."""

    __slots__ = ("_hash", "facts")

    def __init__(self, facts: tuple[Any, ...]) -> None:
        self.facts = facts
        self._hash = hash(facts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.facts == other.facts


Recordings = dict[Key, tuple[replay.Recording, Any]]

MOST = 4096


def key_of(tensors: Sequence[Tensor | None], *options: Hashable) -> Key:
    """Layout, alignment and device of each tensor, and the options of a call."""
    return Key((replay.facts_of(tensors), options))


def run(
    recordings: Recordings,
    key: Key,
    meta: Any,
    tensors: Sequence[Tensor | None],
    device: torch.device,
    record: Callable[[], replay.Recording],
) -> None:
    """Launch the recording of `key` on `tensors`, made by `record` if new or of another `meta`."""
    known = recordings.get(key)
    if known is None or known[1] is not meta:
        if len(recordings) >= MOST:
            recordings.clear()
        known = recordings[key] = (record(), meta)
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            known[0].run(tensors, device)
    else:
        known[0].run(tensors, device)
