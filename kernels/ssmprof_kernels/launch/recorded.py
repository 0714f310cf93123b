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

from ssmprof_kernels import launch
from ssmprof_kernels.launch import replay


class Key(list[Any]):
    """All that a recording depends on; hashed once, since that costs as much as a lookup of it."""

    __slots__ = ("_hash",)

    def __init__(self, facts: tuple[Any, ...], options: tuple[Hashable, ...]) -> None:
        self.append(facts)
        self.append(options)
        self._hash = hash((facts, options))

    def __hash__(self) -> int:  # type: ignore[override]
        return self._hash


Recordings = dict[Key, tuple[replay.Recording, Any]]

MOST = 4096


def key_of(tensors: Sequence[Tensor | None], *options: Hashable) -> Key:
    """Layout, alignment and device of each tensor, and the options of a call."""
    return Key(replay.facts_of(tensors), options)


#: Where blocks are looked up, by key; the key that is kept beside it spares a second comparison.
Lookups = dict[Key, tuple[Key, launch.Lookup]]


def meta_of(lookups: Lookups, key: Key, ask: Callable[[], launch.Lookup]) -> dict[str, Any]:
    """Meta-parameters of a call. `ask` says once per key where they are looked up, and checks the
    arguments: both cost more than the launch, and what was accepted once is accepted again.

    Args:
        lookups: of `launch.lookups`, one per operation.
    """
    known = lookups.get(key)
    if known is None:
        if len(lookups) >= MOST:
            lookups.clear()
        known = lookups[key] = (key, ask())
    # Equal to what it replaces, and the same object as in every other dictionary.
    key[0] = known[0][0]
    return launch.pick(*known[1]).meta


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
