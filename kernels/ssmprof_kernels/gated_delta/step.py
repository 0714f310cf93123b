"""`gated_delta_step` and `kda_step`: one token of the delta rules (decode), the state in place.

Promises: one launch, no host synchronisation; bad input is refused with one ValueError before it.
CPU tensors take the plain torch form, unless Triton's interpreter is on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.device.overlap import possible
from ssmprof_kernels.gated_delta import arguments
from ssmprof_kernels.gated_delta.arguments import Inputs
from ssmprof_kernels.gated_delta.plan import tile
from ssmprof_kernels.gated_delta.step_kernel import ssmprof_scan_delta_step
from ssmprof_kernels.launch import recorded, replay

_NAMES = ("state", *Inputs._fields)
_recordings: recorded.Recordings = {}
#: Strides of the kernel's arguments: letter, and axes of the tensor; the first one may vary.
_STRIDES = (
    *(("state", "s", "bhkv"), ("q", "q", "bhk"), ("k", "k", "bhk"), ("v", "v", "bhv")),
    *(("beta", "beta", "bh"), ("y", "y", "bhv")),
)


def gated_delta_step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    overlap: bool = False,
) -> Tensor:
    """One token of `gated_delta`; `state` (B, H, K, V), fp32, fp16 or bf16, is overwritten.

    Args:
        q, k: (B, Hk, K). v: (B, H, V). g: (B, H) or None. beta: (B, H). The other arguments are
            those of `gated_delta`.
        overlap: begin before the kernel ahead has ended, and wait for it on the device; no effect
            on results, and none before Hopper.

    Returns:
        o (B, H, V) in the dtype of v.

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    given = Inputs(q, k, v, g, beta, A_log, dt_bias)
    options = (scale, bool(qk_l2norm), bool(beta_sigmoid), bool(negative), bool(overlap))
    return _run("gated_delta_step", state, given, *options)


def kda_step(
    state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    *,
    A_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    scale: float | None = None,
    qk_l2norm: bool = False,
    beta_sigmoid: bool = False,
    negative: bool = False,
    overlap: bool = False,
) -> Tensor:
    """One token of `kda`; `state` (B, H, K, V), fp32, fp16 or bf16, is overwritten.

    Args:
        g: (B, H, K). dt_bias: (H, K). All others are those of `gated_delta_step`.

    Returns:
        As `gated_delta_step`.

    Raises:
        ValueError, RuntimeError: as `gated_delta_step`.
    """
    given = Inputs(q, k, v, g, beta, A_log, dt_bias)
    options = (scale, bool(qk_l2norm), bool(beta_sigmoid), bool(negative), bool(overlap))
    return _run("kda_step", state, given, *options)


def _run(
    op: str,
    state: Tensor,
    given: Inputs,
    scale: float | None,
    qk_l2norm: bool,
    beta_sigmoid: bool,
    negative: bool,
    overlap: bool,
) -> Tensor:
    door.forward_only(_NAMES, (state, *given))
    q, k, v, g, beta, A_log, dt_bias = given
    kind = {"channels": op == "kda_step", "beta_sigmoid": beta_sigmoid, "negative": negative}
    if not v.is_cuda and not door.interpreted():
        arguments.check(given, tokens=False, **kind)
        arguments.check_state("state", state, given, v.shape[0])
        return getattr(reference, op)(
            state, q, k, v, g, beta, A_log=A_log, dt_bias=dt_bias, scale=scale,
            qk_l2norm=qk_l2norm, beta_sigmoid=beta_sigmoid, negative=negative, overlap=overlap,
        )  # fmt: skip
    # Checks cost more than the launch; what was accepted once is accepted again.
    options = (op, scale, qk_l2norm, beta_sigmoid, negative, overlap)
    key = recorded.key_of((state, *given), *options)
    known = _accepted.get(key)
    if known is None:
        arguments.check(given, tokens=False, **kind)
        arguments.check_state("state", state, given, v.shape[0])
        if len(_accepted) >= _MOST:
            _accepted.clear()
        rows = v.shape[0] * v.shape[1]
        known = _accepted[key] = (
            bucket(rows, q.shape[2], v.shape[2], state.element_size() * 8),
            default(rows, v.shape[2]),
        )
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    tensors = (state, *given, y)
    meta = launch.pick(op, known[0], v.device, known[1]).meta
    recorded.run(
        _recordings, key, meta, tensors, v.device, lambda: _record(tensors, *options[1:], meta)
    )
    return y


_accepted: dict[Any, tuple[str, dict[str, Any]]] = {}
_MOST = 4096


@functools.lru_cache(1024)
def bucket(rows: int, key: int, value: int, bits: int) -> str:
    """Table key: bits of a state element, padded state, heads of all rows."""
    size = "64" if rows <= 64 else "512" if rows <= 512 else "4K" if rows <= 4096 else "more"
    return f"{bits}b-k{tile(key)}-v{tile(value)}-{size}"


@functools.lru_cache(1024)
def default(rows: int, value: int) -> dict[str, Any]:
    """Blocks for a shape that no table knows: narrow ones where there are few heads."""
    return {"BV": min(16 if rows <= 512 else 32, tile(value)), "num_warps": 2 if rows <= 512 else 4}


def _record(
    tensors: tuple[Tensor | None, ...],
    scale: float | None,
    qk_l2norm: bool,
    beta_sigmoid: bool,
    negative: bool,
    overlap: bool,
    meta: dict[str, Any],
) -> replay.Recording:
    names = ("state", *Inputs._fields, "y")
    given: dict[str, Any] = dict(zip(names, tensors, strict=True))
    v, g, key = given["v"], given["g"], given["q"].shape[2]
    batch, heads, value = v.shape
    channels = g is not None and g.dim() == 3
    BV = min(meta["BV"], tile(value))
    early = possible(v.device)
    ref = {name: replay.Arg(i) for i, name in enumerate(names)}
    arguments: dict[str, Any] = {
        f"{letters}_s{axis}": step
        for name, letters, axes in _STRIDES
        for axis, step in zip(axes, given[name].stride(), strict=True)
    }
    steps = (0, 0, 0) if g is None else (*g.stride(), 0)
    arguments |= {f"g_s{axis}": step for axis, step in zip("bhk", steps, strict=False)}
    options = replay.launch_options(meta["num_warps"], early=overlap and early)
    rec = replay.Recording(len(tensors))
    # fmt: off
    rec.add(
        ssmprof_scan_delta_step, batch * heads * -(-value // BV), options, state_ptr=ref["state"],
        q_ptr=ref["q"], k_ptr=ref["k"], v_ptr=ref["v"], g_ptr=ref["g"], beta_ptr=ref["beta"],
        a_log_ptr=ref["A_log"], bias_ptr=ref["dt_bias"], y_ptr=ref["y"], H=heads, K=key, V=value,
        scale=key**-0.5 if scale is None else float(scale), PER_KEY=heads // given["q"].shape[1],
        BK=tile(key), BV=BV, CHANNELS=channels, DECAY=g is not None,
        GATE=given["A_log"] is not None, BIAS=given["dt_bias"] is not None, SIGMOID=beta_sigmoid,
        NEGATIVE=negative, NORM=qk_l2norm, EARLY=early, OVERLAP=overlap and early,
        **arguments,
    )
    # fmt: on
    return rec
