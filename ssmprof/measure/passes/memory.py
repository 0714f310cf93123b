"""Where the memory of one call is: weights, caches, states, logits, activations, slack, context.

The deployment number is the allocator's peak in a process that has run nothing else. Weights,
caches and logits come from shapes, never from a difference of peaks; NVML and the reserved bytes
are checks, and what they leave unexplained is the closure.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any, Protocol

import torch

from ssmprof.devices.base import Device
from ssmprof.errors import ConfigError
from ssmprof.records import Memory
from ssmprof.units import format_bytes

CLOSURE_BYTES = 64 * 2**20
CLOSURE_SHARE = 0.02


class Owners(Protocol):
    """A call and the bytes of its parts that follow from shapes (`blocks.workloads.Workload`)."""

    call: Callable[[], Any]
    weights_bytes: int
    kv_bytes: int
    conv_state_bytes: int
    ssm_state_bytes: int
    logits_bytes: int


def cap(limit_bytes: int) -> None:
    """Let torch's allocator hand out this much and no more, as on a smaller card.

    For memory only: no time measured under it says anything about that card. Raises ConfigError
    for a cap beyond the device.
    """
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    if not 0 < limit_bytes <= total:
        raise ConfigError(
            f"a cap of {format_bytes(limit_bytes)} on a device of {format_bytes(total)}",
            fix="a cap within the device's memory, such as --cap 8GiB",
        )
    torch.cuda.set_per_process_memory_fraction(limit_bytes / total)


def held_bytes(device: Device, missing: dict[str, str]) -> int | None:
    """Device memory this process holds, context included, as the driver counts it.

    A container sees other process ids than the driver does; if exactly one process holds the
    device, and this one does, then it is this one.
    """
    own = device.process_bytes(os.getpid())
    if own is not None:
        return own
    processes = device.processes()
    if processes is not None and len(processes) == 1:
        only = device.process_bytes(processes[0])
        if only is not None:
            return only
    missing["process_used_bytes"] = device.missing.get("process_bytes", "not told by the device")
    return None


def weigh(
    load: Owners,
    *,
    device: Device,
    fresh: bool = False,
    predicted_bytes: int | None = None,
) -> Memory:
    """Run the call once more and weigh it; it must have run before, so that tuning is over.

    `fresh` says that this process has run nothing else: only then are reserved bytes and the
    driver's count of this process more than history. The context then is what the driver counts
    before the weighed call beyond torch's own: CUDA's context and the libraries it loaded. Raises
    what the call raises (out of memory included).
    """
    with torch.inference_mode():
        if device.kind == "cuda":
            return _on_cuda(load, device, fresh, predicted_bytes)
        return _on_cpu(load, predicted_bytes, fresh)


def _on_cuda(load: Owners, device: Device, fresh: bool, predicted: int | None) -> Memory:
    missing: dict[str, str] = {}
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = held_bytes(device, missing) if fresh else None
    context = None if held is None else held - torch.cuda.memory_reserved()
    load.call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    reserved = process = used = None
    if fresh:
        reserved = torch.cuda.max_memory_reserved()
        process = held_bytes(device, missing)
        used = device.used_bytes()
        if used is None:
            free, total = torch.cuda.mem_get_info()
            used, missing["device_used_bytes"] = total - free, "cudaMemGetInfo instead of NVML"
    else:
        missing["allocator_reserved_bytes"] = "history: the process has run other calls"
    return Memory(
        **_owners(load),
        allocator_peak_bytes=peak,
        activation_peak_bytes=max(0, peak - sum(_owners(load).values())),
        predicted_peak_bytes=predicted,
        allocator_reserved_bytes=reserved,
        slack_bytes=None if reserved is None else reserved - peak,
        context_bytes=context,
        process_used_bytes=process,
        device_used_bytes=used,
        host_rss_bytes=_peak_rss_bytes(),
        fresh=fresh,
        missing=missing,
    )


def _on_cpu(load: Owners, predicted: int | None, fresh: bool) -> Memory:
    owners = _owners(load)
    extra = call_peak_bytes(load.call)
    # Logits are made by the call, so its own peak holds them; the other owners lived before.
    peak = sum(owners.values()) - owners["logits_bytes"] + extra
    return Memory(
        **owners,
        allocator_peak_bytes=peak,
        activation_peak_bytes=max(0, peak - sum(owners.values())),
        predicted_peak_bytes=predicted,
        host_rss_bytes=_peak_rss_bytes(),
        fresh=fresh,
        missing={"process_used_bytes": "a CPU has no memory of its own beside the host's"},
    )


def _owners(load: Owners) -> dict[str, int]:
    names = ("weights_bytes", "kv_bytes", "conv_state_bytes", "ssm_state_bytes", "logits_bytes")
    return {name: getattr(load, name) for name in names}


def call_peak_bytes(call: Callable[[], Any]) -> int:
    """Most bytes of host tensors alive at once that `call` made itself, from allocation events."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(
        activities=activities, profile_memory=True, acc_events=True
    ) as session:
        result = call()
    del result
    assert session.profiler is not None
    events: Any = session.profiler.kineto_results
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in events.events()
        if event.name() == "[memory]"
    )
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


def _peak_rss_bytes() -> int:
    """Most memory of the host this process ever held; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def closure_bytes(memory: Memory) -> int | None:
    """|driver's count of the process - anatomy|; None where either is missing."""
    if memory.process_used_bytes is None or memory.context_bytes is None:
        return None
    if memory.slack_bytes is None:
        return None
    anatomy = memory.allocator_peak_bytes + memory.slack_bytes + memory.context_bytes
    return abs(memory.process_used_bytes - anatomy)


def prediction_holds(memory: Memory) -> bool | None:
    """Whether the predicted peak is within 2 % or 64 MiB of the allocator's, the larger of both."""
    if memory.predicted_peak_bytes is None:
        return None
    allowed = max(CLOSURE_BYTES, CLOSURE_SHARE * memory.allocator_peak_bytes)
    return abs(memory.predicted_peak_bytes - memory.allocator_peak_bytes) <= allowed
