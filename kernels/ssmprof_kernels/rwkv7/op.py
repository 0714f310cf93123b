"""`rwkv7`: RWKV-7's rule over a whole prompt (prefill), in two launches.

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
from ssmprof_kernels.reference.rwkv7 import low_rank
from ssmprof_kernels.rwkv7 import plan
from ssmprof_kernels.rwkv7.chunks import ssmprof_scan_rwkv7_map, ssmprof_scan_rwkv7_solve
from ssmprof_kernels.rwkv7.walk import ssmprof_scan_rwkv7_walk

_recordings: recorded.Recordings = {}
#: Order of the tensors of a call.
_NAMES = ("r", "w", "k", "v", "kk", "a", "initial_state", "cu_seqlens")
#: The widest head that a program's registers hold.
WIDEST = 128


def rwkv7(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    *,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`S_t = (diag(exp(w_t)) - (a_t kk_t) kk_t^T) S_{t-1} + k_t v_t^T`, `o_t = S_t^T r_t`
    (arXiv:2503.14456, equations 17 to 19, transposed).

    Args:
        r, w, k, kk, a: (B, L, H, K), fp32, fp16 or bf16; any strides; K at most 128. w is the log
            decay, kk the key that is removed, a the step size.
        v: (B, L, H, V) of the dtype of r, V at most 128.
        initial_state: (B, H, K, V), or (n, H, K, V) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of r, ascending from 0 to L; B must be 1. Empty
            sequences are allowed and return their initial state. On a GPU, which tells nobody its
            values, y is 0 behind a last sequence that ends before L.

    Returns:
        y (B, L, H, V) in the dtype of v, or (y, final state).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit; on a CPU also cu_seqlens that
            do not ascend from 0 to L.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    return scan(r, w, k, v, kk, a, initial_state, cu_seqlens, 1.0, return_final_state, pair=True)


def scan(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    scale: float,
    return_final_state: bool | torch.dtype,
    *,
    pair: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """`rwkv7` with outputs times `scale`; unless `pair`, `kk` and `a` are the row and the column of
    a transition `diag(exp(w)) + a kk^T`."""
    inputs = (r, w, k, v, kk, a, initial_state, cu_seqlens)
    door.forward_only(_NAMES, inputs)
    key = recorded.key_of(inputs, scale, pair, return_final_state)
    if key not in _recordings:
        _check(*inputs)
    if not (v.is_cuda or door.interpreted()):
        call = reference.rwkv7 if pair else low_rank
        return call(
            r if scale == 1.0 else r * scale, w, k, v, kk if pair else -kk, a,
            initial_state=initial_state, return_final_state=return_final_state,
            cu_seqlens=cu_seqlens,
        )  # fmt: skip
    meta = plan.choose(v.shape, r.shape[-1], v.dtype, v.device).meta
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    final = None
    if return_final_state is not False:
        sequences = v.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
        dtype = torch.float32 if return_final_state is True else return_final_state
        shape = (sequences, v.shape[2], r.shape[3], v.shape[3])
        final = torch.empty(shape, dtype=dtype, device=v.device)
    if initial_state is not None:
        initial_state = initial_state.contiguous()
    tensors = (r, w, k, v, kk, a, initial_state, cu_seqlens, y, final)
    recorded.run(
        _recordings, key, meta, tensors, v.device, lambda: _record(tensors, meta, scale, pair)
    )
    return y if final is None else (y, final)


def _record(
    tensors: tuple[Tensor | None, ...], meta: dict[str, Any], scale: float, pair: bool
) -> replay.Recording:
    r, v, cu = tensors[0], tensors[3], tensors[7]
    assert r is not None
    assert v is not None
    batch, length, heads, value = v.shape
    key, C = r.shape[3], meta["C"]
    packed = None if cu is None else cu.shape[0] - 1
    sequences = packed or batch
    slots = segments.slots(batch, length, C, packed)
    wide = v.dtype == torch.float16 and launch.facts(v.device).sm >= 90
    least = plan.LEAST_WIDE if wide else 16
    BK, BV = max(least, plan.tile(key)), max(least, plan.tile(value))
    exact = v.dtype == torch.float32
    BLOCK = min(BV, meta["BLOCK"])
    ref = [replay.Arg(i) for i in range(len(tensors))]
    recording = replay.Recording(len(tensors))
    scratch = {
        "decay_ptr": recording.work(slots, heads, BK),
        "moved_ptr": recording.tensor(slots, heads, BK, BK, dtype=v.dtype),
        "added_ptr": recording.work(slots, heads, BK, BV),
        "read_ptr": recording.tensor(slots, heads, C, BK, dtype=v.dtype),
        "out_ptr": recording.work(slots, heads, C, BV),
    }
    strides = {
        f"{name}_steps": replay.strides(segments.Tokens, t)
        for name, t in zip(_NAMES[:6], tensors, strict=False)
    }
    places = {"L": length, "H": heads, "S": -(-length // C), "count": sequences}
    sizes = {"K": key, "V": value, "C": C, "BK": BK, "BV": BV, "VARLEN": cu is not None}
    common = {
        **{f"{name}_ptr": ref[i] for i, name in enumerate(_NAMES[:6])}, **places, **strides,
        **sizes, "cu_ptr": ref[7], "solve_ptr": None, "scale": scale, "PAIR": pair,
        "steps": sequences.bit_length(), "EXACT": exact, "WIDE": v.dtype == torch.float16,
        "SLAB": min(BK, BV, 32) if exact else 16, "HALVINGS": C.bit_length() - 1,
        "INVERSE": meta["inverse"],
    }  # fmt: skip

    def add(kernel: Any, grid: int, warps: int, stages: int, **arguments: Any) -> None:
        names = set(kernel.arg_names)
        found = {n: x for n, x in (common | arguments).items() if n in names}
        recording.add(kernel, grid, replay.launch_options(warps, stages), **found)

    # fmt: off
    if not exact:
        common["solve_ptr"] = recording.tensor(slots, heads, C, C, dtype=v.dtype)
        add(ssmprof_scan_rwkv7_solve, slots * heads, meta["solve_warps"], 1)
    add(ssmprof_scan_rwkv7_map, slots * heads * 2, meta["num_warps"], 1, **scratch)
    add(
        ssmprof_scan_rwkv7_walk, sequences * heads * -(-value // BLOCK), meta["walk_warps"],
        meta["walk_stages"], h0_ptr=ref[6], y_ptr=ref[8], final_ptr=ref[9], **scratch,
        BLOCK=BLOCK, H0=tensors[6] is not None, FINAL=tensors[9] is not None,
        PRECISION="tf32x3" if exact else "tf32", STAGES=meta["walk_stages"],
    )
    # fmt: on
    return recording


def _check(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    """ValueError for the first argument that does not fit."""
    if v.dim() != 4 or 0 in v.shape:
        raise ValueError(f"v must have shape (B,L,H,V), none of them 0, got {tuple(v.shape)}")
    if r.dim() != 4 or r.shape[:3] != v.shape[:3] or r.shape[3] < 1:
        raise ValueError(f"r must have shape {(*v.shape[:3], 'K')}, got {tuple(r.shape)}")
    for name, t in (("w", w), ("k", k), ("kk", kk), ("a", a)):
        door.shape(name, t, tuple(r.shape), "(B,L,H,K)")
    if v.is_cuda or door.interpreted():
        if max(r.shape[3], v.shape[3]) > WIDEST:
            raise ValueError(
                f"r and v must be at most {WIDEST} wide, got K = {r.shape[3]}, V = {v.shape[3]}"
            )
        for name, t in zip(_NAMES, (r, w, k, v, kk, a), strict=False):
            door.dtype(name, t, door.FLOATS)
        if r.dtype != v.dtype:
            raise ValueError(f"r must have v's dtype {v.dtype}, got {r.dtype}")
    sequences = v.shape[0]
    if cu_seqlens is not None:
        sequences = door.cu_seqlens(cu_seqlens, v.shape[0])
    if initial_state is not None:
        shape = (sequences, v.shape[2], r.shape[3], v.shape[3])
        door.shape("initial_state", initial_state, shape, "(n,H,K,V)")
    door.same_device(r, w=w, k=k, v=v, kk=kk, a=a, initial_state=initial_state,
                     cu_seqlens=cu_seqlens)  # fmt: skip
