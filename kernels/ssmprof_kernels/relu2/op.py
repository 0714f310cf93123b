"""`relu2`: the squared rectifier max(x, 0)^2 of a feed-forward layer, in place (arXiv:2109.08668).

Promises: one launch, each element is read once and written once; the bits of torch's two kernels;
no host synchronisation. CPU tensors take the plain torch form, unless Triton's interpreter is
switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.relu2.kernel import ssmprof_elementwise_relu2

_recordings: recorded.Recordings = {}
#: Elements of one program, 16 bytes of 16-bit values per thread.
DEFAULT: dict[str, Any] = {"BLOCK": 1024, "num_warps": 4}


def relu2(hidden: Tensor) -> Tensor:
    """max(hidden, 0)^2.

    Args:
        hidden: (..., f), fp32, fp16 or bf16, contiguous; **overwritten in place**.

    Returns:
        hidden.

    Raises:
        ValueError: hidden is empty, not contiguous or of another dtype.
        RuntimeError: hidden wants a gradient while gradients are recorded.
    """
    door.forward_only(("hidden",), (hidden,))
    key = recorded.key_of((hidden,))
    if key not in _recordings:
        _check(hidden)
    if not (hidden.is_cuda or door.interpreted()):
        return reference.relu2(hidden)
    meta = launch.pick("relu2", "any", hidden.device, DEFAULT).meta
    recorded.run(_recordings, key, meta, (hidden,), hidden.device, lambda: _record(hidden, meta))
    return hidden


def _record(hidden: Tensor, meta: dict[str, Any]) -> replay.Recording:
    count, block = hidden.numel(), meta["BLOCK"]
    recording = replay.Recording(1)
    recording.add(
        ssmprof_elementwise_relu2, -(-count // block), replay.launch_options(meta["num_warps"]),
        x_ptr=replay.Arg(0), count=count, BLOCK=block,
    )  # fmt: skip
    return recording


def _check(hidden: Tensor) -> None:
    if hidden.numel() == 0 or not hidden.is_contiguous():
        raise ValueError(
            f"hidden must be contiguous (..., f), none of them 0, got {tuple(hidden.shape)}"
        )
    if hidden.is_cuda or door.interpreted():
        door.dtype("hidden", hidden, door.FLOATS)
