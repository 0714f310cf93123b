"""`gla`, `retention`, `lightning`: linear attention with decay over a prompt, in two or three
launches.

Promises: bad input is refused with one ValueError before any launch; strides and lengths are free;
no host synchronisation, so that a call can be captured in a CUDA graph. CPU tensors take the plain
torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.device import segments
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.linear_attention import plan
from ssmprof_kernels.linear_attention.pairs import ssmprof_scan_linear_pairs
from ssmprof_kernels.linear_attention.walk import (
    ssmprof_scan_linear_summaries,
    ssmprof_scan_linear_walk,
)
from ssmprof_kernels.reference import linear_attention

_recordings: recorded.Recordings = {}
#: Order of the tensors of a call.
_NAMES = ("q", "k", "v", "a", "decay", "initial_state", "cu_seqlens")
#: The widest key of which a program's registers hold some columns of a state.
WIDEST = 256


def retention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`S_t = exp(decay) S_{t-1} + k_t v_t^T`, `o_t = scale S_t^T q_t` (arXiv:2307.08621, eq. 6).

    Args:
        q: (B, L, H, K), fp32, fp16 or bf16; any strides; K at most 256.
        k: (B, L, Hk, K), v: (B, L, Hk, V), of the dtype of q; head h reads h // (H / Hk).
        decay: (H), the logarithm of each head's decay.
        scale: of the outputs.
        initial_state: (B, H, K, V), or (n, H, K, V) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of q, ascending from 0 to L; B must be 1. Empty
            sequences are allowed and return their initial state. On a GPU, which tells nobody its
            values, y is 0 behind a last sequence that ends before L.

    Returns:
        y (B, L, H, V) in the dtype of v, or (y, final state).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit; on a CPU also cu_seqlens that
            do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    return scan(
        "retention", q, k, v, None, decay, initial_state, cu_seqlens, scale, return_final_state
    )


def lightning(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Lightning attention (arXiv:2401.04658, equation 9), which is `retention` with other decays.

    Args:
        q, k, v, decay, scale, initial_state, return_final_state, cu_seqlens: as of `retention`.

    Returns:
        y (B, L, H, V) in the dtype of v, or (y, final state).

    Raises:
        ValueError, RuntimeError: as of `retention`.
    """
    return retention(
        q, k, v, decay, scale=scale, initial_state=initial_state,
        return_final_state=return_final_state, cu_seqlens=cu_seqlens,
    )  # fmt: skip


def gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    *,
    scale: float,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`S_t = diag(sigmoid(a_t)^(1/16)) S_{t-1} + k_t v_t^T`, `o_t = scale S_t^T q_t`
    (arXiv:2312.06635, equation 3 and section 4.4).

    Args:
        q, k, v, scale, initial_state, return_final_state, cu_seqlens: as of `retention`.
        a: (B, L, Hk, K), logits of the gates of each key feature.

    Returns:
        y (B, L, H, V) in the dtype of v, or (y, final state).

    Raises:
        ValueError, RuntimeError: as of `retention`.
    """
    return scan("gla", q, k, v, a, None, initial_state, cu_seqlens, scale, return_final_state)


def scan(
    kind: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    decay: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: float,
    return_final_state: bool | torch.dtype,
    *,
    given: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The scan of `kind`, by `decay` or by the gates `a`: logits, or where `given` logarithms."""
    inputs = (q, k, v, a, decay, initial_state, cu_seqlens)
    door.forward_only(_NAMES, inputs)
    key = recorded.key_of(inputs, kind, scale, given, return_final_state)
    if key not in _recordings:
        _check(*inputs)
    if not (q.is_cuda or door.interpreted()):
        return _plain(*inputs, scale, return_final_state, given)
    batch, length, heads, width = q.shape
    sequences = batch if cu_seqlens is None else cu_seqlens.shape[0] - 1
    value = v.shape[3]
    meta = plan.choose(kind, sequences, heads, length, width, value, q.dtype, q.device).meta
    y = torch.empty((batch, length, heads, value), dtype=v.dtype, device=v.device)
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        final = torch.empty((sequences, heads, width, value), dtype=dtype, device=v.device)
    if initial_state is not None:
        initial_state = initial_state.contiguous()
    if decay is not None:
        decay = decay.contiguous()
    tensors = (q, k, v, a, decay, initial_state, cu_seqlens, y, final)
    recorded.run(
        _recordings, key, meta, tensors, q.device, lambda: _record(tensors, meta, scale, given)
    )
    return y if final is None else (y, final)


def _plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    decay: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: float,
    return_final_state: bool | torch.dtype,
    given: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    if decay is not None:
        call, how = reference.retention, decay
    else:
        assert a is not None
        call, how = (linear_attention.gated if given else reference.gla), a
    return call(
        q, k, v, how, scale=scale, initial_state=initial_state,
        return_final_state=return_final_state, cu_seqlens=cu_seqlens,
    )  # fmt: skip


def _record(
    tensors: tuple[Tensor | None, ...], meta: dict[str, Any], scale: float, given: bool
) -> replay.Recording:
    q, k, v, a, _, h0, cu, _, final = tensors
    assert q is not None
    assert k is not None
    assert v is not None
    batch, length, heads, key = q.shape
    shared, value, C = k.shape[2], v.shape[3], meta["C"]
    packed = None if cu is None else cu.shape[0] - 1
    sequences = packed or batch
    slots = segments.slots(batch, length, C, packed)
    known, exact = launch.facts(q.device), q.dtype == torch.float32
    cut = plan.cut(batch, length, heads, value, packed, meta, known.sm_count)
    BK, BV, gates = plan.tile(key), min(meta["BV"], plan.tile(value)), a is not None
    ref = [replay.Arg(i) for i in range(len(tensors))]
    recording = replay.Recording(len(tensors))
    strides = {
        f"{name}_steps": replay.strides(segments.Tokens, t)
        for name, t in (("q", q), ("k", k), ("v", v), ("g", a))
    }
    places = {
        "L": length, "H": heads, "S": -(-length // C), "M": cut.M, "T": cut.T,
        "count": sequences, "steps": sequences.bit_length(), "scale": scale,
    }  # fmt: skip
    common = {
        "q_ptr": ref[0], "k_ptr": ref[1], "v_ptr": ref[2], "gate_ptr": ref[3],
        "cu_ptr": ref[6], "decay_ptr": ref[4], "GIVEN": given,
        "PER": heads // shared, "K": key, "V": value,
        "C": C, "VARLEN": cu is not None, "GATES": gates,
        "PRECISION": "tf32x3" if exact else "tf32", **strides, **places,
    }  # fmt: skip
    pairs = recording.tensor(slots, heads, C, C, dtype=q.dtype)
    made: dict[str, Any] = {"asking_ptr": None, "key_ptr": None, "total_ptr": None}
    if gates:
        made = {
            "asking_ptr": recording.tensor(slots, heads, C, BK, dtype=q.dtype),
            "key_ptr": recording.tensor(slots, shared, C, BK, dtype=q.dtype),
            "total_ptr": recording.work(slots, shared, BK),
        }
    sums: dict[str, Any] = {"sum_ptr": None, "gone_ptr": None}
    if cut.M > 1:
        sums["sum_ptr"] = recording.work(cut.slots, shared if gates else heads, BK, value)
        if gates:
            sums["gone_ptr"] = recording.work(cut.slots, shared, BK)

    def add(kernel: Any, grid: int, warps: int, stages: int, **arguments: Any) -> None:
        names = set(kernel.arg_names)
        found = {n: x for n, x in (common | arguments).items() if n in names}
        recording.add(kernel, grid, replay.launch_options(warps, stages), **found)

    # fmt: off
    add(
        ssmprof_scan_linear_pairs, slots * heads, meta["pair_warps"], 1, pair_ptr=pairs, WIDTH=BK,
        BK=min(BK, 32 if gates else 128), LEVELS=C.bit_length() - 1, **made,
        EXACT=exact, WIDE=q.dtype == torch.float16,
    )
    blocks = -(-value // BV)
    tiles = {"BK": BK, "BV": BV, **made, **sums}
    if cut.M > 1:
        add(
            ssmprof_scan_linear_summaries, cut.slots * (shared if gates else heads) * blocks,
            meta["sum_warps"], meta["sum_stages"], STAGES=meta["sum_stages"], **tiles,
        )
    add(
        ssmprof_scan_linear_walk, cut.slots * heads * blocks, meta["num_warps"], meta["num_stages"],
        pair_ptr=pairs, h0_ptr=ref[5], y_ptr=ref[7], final_ptr=ref[8],
        H0=h0 is not None, FINAL=final is not None, SEGMENTS=cut.M > 1, STAGES=meta["num_stages"],
        **tiles,
    )
    # fmt: on
    return recording


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor | None,
    decay: Tensor | None,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    """ValueError for the first argument that does not fit."""
    if q.dim() != 4 or 0 in q.shape:
        raise ValueError(f"q must have shape (B,L,H,K), none of them 0, got {tuple(q.shape)}")
    batch, length, heads, key = q.shape
    if k.dim() != 4 or k.shape[:2] != q.shape[:2] or k.shape[2] < 1 or heads % k.shape[2]:
        raise ValueError(
            f"k must have shape ({batch}, {length}, Hk, {key}) with Hk a divisor of H = {heads}, "
            f"got {tuple(k.shape)}"
        )
    shared = k.shape[2]
    door.shape("k", k, (batch, length, shared, key), "(B,L,Hk,K)")
    if v.dim() != 4 or v.shape[:3] != k.shape[:3] or v.shape[3] < 1:
        raise ValueError(f"v must have shape {(*k.shape[:3], 'V')}, got {tuple(v.shape)}")
    if a is not None:
        door.shape("a", a, tuple(k.shape), "(B,L,Hk,K)")
    if decay is not None:
        door.shape("decay", decay, (heads,), "(H,)")
    if q.is_cuda or door.interpreted():
        door.dtype("q", q, door.FLOATS)
        if key > WIDEST:
            raise ValueError(f"q and k must be at most {WIDEST} wide, got K = {key}")
        if k.dtype != q.dtype or v.dtype != q.dtype:
            raise ValueError(f"k and v must have q's dtype {q.dtype}, got {k.dtype} and {v.dtype}")
    sequences = batch if cu_seqlens is None else door.cu_seqlens(cu_seqlens, batch)
    if initial_state is not None:
        shape = (sequences, heads, key, v.shape[3])
        door.shape("initial_state", initial_state, shape, "(n,H,K,V)")
    door.same_device(q, k=k, v=v, a=a, decay=decay, initial_state=initial_state,
                     cu_seqlens=cu_seqlens)  # fmt: skip
