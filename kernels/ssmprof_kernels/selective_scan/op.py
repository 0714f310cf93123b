"""`selective_scan`: the Mamba-1 scan over a whole prompt (prefill), in one launch or two.

Promises: bad input is refused with one ValueError before the launch; strides and lengths are free;
no host synchronisation, so that a call can be captured in a CUDA graph. CPU tensors take the plain
torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
from torch import Tensor

from ssmprof_kernels import door, launch
from ssmprof_kernels.launch import replay
from ssmprof_kernels.selective_scan import reference
from ssmprof_kernels.selective_scan.kernel import selective_scan_kernel

try:
    from ssmprof_kernels.selective_scan.gluon_kernel import selective_scan_gluon_kernel
except ImportError:
    selective_scan_gluon_kernel = None

_MAX_STATES = 256
#: Tokens below which no segment is cut off: starting and ending a program costs as much.
_LEAST_SPAN = 64
#: Inline assembly is for the compiler; the interpreter has none.
_ASM = not door.interpreted()
#: Gluon changes between minor versions of Triton; elsewhere the twin serves every configuration.
_GLUON = _ASM and triton.__version__.startswith("3.6.") and selective_scan_gluon_kernel is not None
#: Recorded launches by everything a compiled kernel may depend on; a sweep uses a few dozen.
_recordings: dict[Any, tuple[replay.Recording, int, dict[str, Any]]] = {}
_MOST_RECORDINGS = 2048
_NAMES = ("u", "dt", "A", "B", "C", "D", "z", "bias", "h0", "cu", "hT", "y")
_INPUTS = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "cu_seqlens")


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`h_t = exp(d_t A) h_{t-1} + d_t u_t B_t`, `y_t = <h_t, C_t>` (arXiv:2312.00752, section 3).

    `d = softplus(dt + dt_bias)`; then `y += D u`, then `y *= silu(z)`.

    Args:
        u: (B, L, D), fp32, fp16 or bf16; any strides, channel-first among them.
        dt: (B, L, D).
        A: (D, N), real, negative for a decay, -inf to forget at once; N up to 256. A step of 0
            leaves the state alone.
        B, C: (B, L, N) or (B, L, G, N); channel d reads group d // (D / G).
        D: (D). z: (B, L, D). dt_bias: (D).
        initial_state: (B, D, N), or (n, D, N) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of u, ascending from 0 to L; the batch must be 1.
            Empty sequences are allowed and return their initial state. On a GPU, which tells
            nobody its values, y is 0 behind a last sequence that ends before L.

    Returns:
        y (B, L, D) in the dtype and the stride order of u, or (y, final state (B or n, D, N)).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit; on a CPU also cu_seqlens that
            do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    if B.dim() == 3:
        B = B.unsqueeze(2)
    if C.dim() == 3:
        C = C.unsqueeze(2)
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens)
    door.forward_only(_INPUTS, tensors)
    if not u.is_cuda and _ASM:
        _check(*tensors)
        return reference.selective_scan(
            u,
            dt,
            A,
            B,
            C,
            D=D,
            z=z,
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            initial_state=initial_state,
            return_final_state=return_final_state,
            cu_seqlens=cu_seqlens,
        )
    # Checks cost more than the launch; what was accepted once is accepted again.
    devices = tuple([None if t is None else t.device for t in tensors])
    key = (replay.facts_of(tensors), devices, dt_softplus, return_final_state)
    known = _recordings.get(key)
    if known is None:
        sequences = _check(*tensors)
    else:
        sequences = known[1]
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        final = torch.empty((sequences, *A.shape), dtype=dtype, device=u.device)
    y = torch.empty_like(u)
    call = (*tensors, final, y)
    meta = choose(
        sequences, u.shape[1] if cu_seqlens is None else 0, u.shape[2], A.shape[1],
        u.element_size() * 8, _is_rows(u), u.device,
    ).meta  # fmt: skip
    if known is None or known[2] is not meta:
        if len(_recordings) >= _MOST_RECORDINGS:
            _recordings.clear()
        known = _recordings[key] = (_record(call, sequences, dt_softplus, meta), sequences, meta)
    if u.is_cuda and u.device.index != torch.cuda.current_device():
        with torch.cuda.device(u.device):
            known[0].run(call, u.device)
    else:
        known[0].run(call, u.device)
    return y if final is None else (y, final)


def choose(
    sequences: int, length: int, channels: int, states: int, bits: int, rows: bool,
    device: torch.device,
) -> launch.Choice:  # fmt: skip
    """Blocks for a shape, from the tables or by `default`; cached by `launch`."""
    key = bucket(sequences, length, channels, states, bits, rows, device)
    fill = _fill(sequences, channels, device)
    return launch.pick("selective_scan", key, device, default(states, fill))


@functools.lru_cache(1024)
def bucket(
    sequences: int, length: int, channels: int, states: int, bits: int, rows: bool,
    device: torch.device,
) -> str:  # fmt: skip
    """Table key: bits of an activation, padded state size, whether tokens are contiguous in memory
    (`rows`), channels per multiprocessor; and where these are few the length, because cutting it
    into segments then pays. Packed sequences, which are not cut, count as length 0."""
    fill = _fill(sequences, channels, device)
    key = f"{bits}b-n{_power_of_two(states)}"
    if rows:
        return f"{key}-rows-{fill}"
    few = fill in launch.FILL_BUCKETS[:3]
    return f"{key}-{fill}-{launch.length_bucket(length)}" if few else f"{key}-{fill}"


def _fill(sequences: int, channels: int, device: torch.device) -> str:
    # One program of 32 lanes per 32 channels is the widest layout that exists.
    return launch.fill_bucket(sequences * channels // 32, launch.facts(device).sm_count)


@functools.lru_cache(1024)
def default(states: int, fill: str) -> dict[str, Any]:
    """Blocks for a shape that no table knows: many lanes per channel while channels are few."""
    padded = _power_of_two(states)
    lanes = {"p0.5": 8, "p1": 8, "p2": 4, "p4": 2, "pmore": 2}[fill]
    lanes = min(padded, max(lanes, padded // 8))
    regs = padded // lanes
    tokens = max(4, min(max(8, lanes), 64 // regs))
    return {"BLOCK_T": tokens, "LANES": lanes, "AHEAD": 2, "num_warps": 1}


def _record(
    tensors: tuple[Tensor | None, ...], sequences: int, dt_softplus: bool, meta: dict[str, Any]
) -> replay.Recording:
    """The launch for these tensors, in the order of `_NAMES`."""
    given: dict[str, Tensor | None] = dict(zip(_NAMES, tensors, strict=True))
    u, B, C = tensors[0], tensors[3], tensors[4]
    assert u is not None
    assert B is not None
    assert C is not None
    length, channels = u.shape[1:]
    groups, states = B.shape[2:]
    lanes, warps = meta["LANES"], meta["num_warps"]
    padded = _power_of_two(states)
    block_d = 32 * warps // lanes
    per_group = channels // groups
    tiles = -(-per_group // block_d)
    even_d = per_group % block_d == 0
    # A segment is whole turns of the loop; packed sequences are many already.
    turn = meta["BLOCK_T"] * meta["AHEAD"]
    most = min(meta.get("SEGMENTS", 1), max(1, length // _LEAST_SPAN))
    if given["cu"] is not None:
        most = 1
    span = -(-length // (most * turn)) * turn
    segments = -(-length // span)
    arguments: dict[str, Any] = {f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_NAMES)}
    for name, letters in _STRIDES.items():
        tensor = given[name]
        steps = (0,) * len(letters[1]) if tensor is None else tensor.stride()
        for letter, step in zip(letters[1], steps, strict=True):
            arguments[f"s_{letters[0]}{letter}"] = step
    # Pairs of 16-bit numbers travel as words, where each lane then still has its own.
    wide = _ASM and even_d and block_d * meta["BLOCK_T"] >= 64 * warps
    x_words = wide and all(_in_words(given[name]) for name in ("u", "dt", "z"))
    bc_words = _ASM and padded == states > 1 and _in_words(B) and _in_words(C)
    gluon = meta.get("GLUON") and _GLUON
    kernel = selective_scan_gluon_kernel if gluon else selective_scan_kernel
    packed = meta.get("PACKED", True) and B.dtype == C.dtype and B.element_size() == 2
    recording = replay.Recording(len(_NAMES))
    parts: dict[str, Any] = {"ends_ptr": None, "sums_ptr": None}
    if segments > 1:
        shape = (sequences, segments - 1, channels)
        parts = {"ends_ptr": recording.work(*shape, states), "sums_ptr": recording.work(*shape)}
    for summary in (True, False) if segments > 1 else (False,):
        recording.add(
            kernel,
            sequences * groups * tiles * (segments - summary),
            {"num_warps": warps, **({"enable_fp_fusion": True} if _ASM else {})},
            L=length,
            DG=per_group,
            G=groups,
            TILES=tiles,
            SPAN=span,
            HAS_D=given["D"] is not None,
            HAS_Z=given["z"] is not None,
            HAS_BIAS=given["bias"] is not None,
            SOFTPLUS=bool(dt_softplus),
            HAS_H0=given["h0"] is not None and not summary,
            HAS_HT=given["hT"] is not None,
            VARLEN=given["cu"] is not None,
            ASM=_ASM,
            N=states,
            EVEN_D=even_d,
            EVEN_N=padded == states,
            X_WORDS=x_words,
            BC_WORDS=bc_words,
            X_TIME=_is_rows(u),
            BC_TIME=B.stride(1) == 1 and B.stride(3) != 1,
            PACKED=packed and not summary,
            BLOCK_T=meta["BLOCK_T"],
            BLOCK_D=block_d,
            LANES=lanes,
            REGS=padded // lanes,
            AHEAD=meta["AHEAD"],
            SEGMENTS=segments,
            SUMMARY=summary,
            **parts,
            **arguments,
        )
    return recording


#: Letter of a tensor's strides in the kernels, and the letters of its axes.
_STRIDES = {
    "u": ("u", "btd"),
    "dt": ("t", "btd"),
    "A": ("a", "dn"),
    "B": ("b", "btgn"),
    "C": ("c", "btgn"),
    "z": ("z", "btd"),
    "h0": ("h", "bdn"),
    "y": ("y", "btd"),
}


def _is_rows(t: Tensor) -> bool:
    """Whether tokens, not channels, are contiguous in memory."""
    return t.stride(1) == 1 and t.stride(2) != 1


def _in_words(t: Tensor | None) -> bool:
    """True if pairs of neighbours in the last axis are aligned 32-bit words; None has no say."""
    if t is None:
        return True
    *outer, last = t.stride()
    even = not any(stride % 2 for stride in outer)
    return t.element_size() == 2 and last == 1 and even and t.data_ptr() % 16 == 0


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _check(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
) -> int:
    """Number of sequences; ValueError for the first argument that does not fit."""
    if u.dim() != 3 or min(u.shape) < 1:
        raise ValueError(
            f"u must have shape (B, L, D) with every size at least 1, got {tuple(u.shape)}"
        )
    batch, length, channels = u.shape
    if A.dim() != 2 or A.shape[0] != channels or not 1 <= A.shape[1] <= _MAX_STATES:
        raise ValueError(
            f"A must have shape (D, N) = ({channels}, 1..{_MAX_STATES}), got {tuple(A.shape)}"
        )
    states = A.shape[1]
    groups = B.shape[2] if B.dim() == 4 else 0
    if groups < 1 or channels % groups:
        raise ValueError(
            f"B must have shape (B, L, N) or (B, L, G, N) with G a divisor of {channels}, "
            f"got {tuple(B.shape)}"
        )
    sequences = batch if cu_seqlens is None else door.cu_seqlens(cu_seqlens, batch)
    for name, tensor, shape, letters in (
        ("u", u, u.shape, "(B,L,D)"),
        ("dt", dt, u.shape, "(B,L,D)"),
        ("A", A, A.shape, "(D,N)"),
        ("B", B, (batch, length, groups, states), "(B,L,G,N)"),
        ("C", C, B.shape, "(B,L,G,N)"),
        ("D", D, (channels,), "(D)"),
        ("z", z, u.shape, "(B,L,D)"),
        ("dt_bias", dt_bias, (channels,), "(D)"),
        ("initial_state", h0, (sequences, channels, states), "(sequences,D,N)"),
    ):
        if tensor is not None:
            door.shape(name, tensor, shape, letters)
            door.dtype(name, tensor, door.FLOATS)
    door.same_device(
        u, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=h0, cu_seqlens=cu_seqlens
    )
    return sequences
