"""Every dtype and option of every operation, as axes whose values can be combined freely.

Promises: `AXES[op]` has an axis for each parameter of the operation, or says in `WITH` which axis
decides about it; `call(op, form)` runs the operation in that form on the current CUDA device, real
or pretended, with inputs whose values do not matter. Sizes are small but reach each bucket of
blocks that changes code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ssmprof_kernels import OPS
from ssmprof_kernels.conv.drafts import causal_conv1d_drafts
from ssmprof_kernels.state_update.drafts import selective_state_drafts
from ssmprof_kernels.static import mixer_forms
from ssmprof_kernels.static.covering import Form

FLOATS = ("bfloat16", "float16", "float32")
#: A tensor that may be left out.
MAYBE = (None, *FLOATS)
SWITCH = (False, True)

_LINEAR: dict[str, tuple[Any, ...]] = {
    "q": FLOATS,
    "initial_state": MAYBE,
    "return_final_state": MAYBE,
    "cu_seqlens": SWITCH,
    "layout": ("dense", "apart"),
    "length": (4096, 200),
    "key": (128, 256, 20),
    "shared": (4, 1),
}
_LINEAR_STEP: dict[str, tuple[Any, ...]] = {
    "state": FLOATS,
    "q": FLOATS,
    "k": FLOATS,
    "v": FLOATS,
    "key": (128, 256, 20),
    "shared": (4, 1),
    "batch": (8, 1, 64),
}

_DELTAS = ("gated_delta", "kda", "gated_delta_step", "kda_step")
_GATES: dict[str, tuple[Any, ...]] = {
    "v": FLOATS,
    "g": ("bfloat16", None, "float16", "float32"),
    "beta": FLOATS,
    "A_log": ("float32", None, "bfloat16"),
    "dt_bias": ("float32", None, "bfloat16"),
    "qk_l2norm": (True, False),
    "beta_sigmoid": (True, False),
    "negative": SWITCH,
    "heads": ((4, 4), (4, 2)),
    "key": (128, 64, 100),
    "value": (128, 64, 72),
}
_DELTA: dict[str, tuple[Any, ...]] = {
    **_GATES,
    "initial_state": MAYBE,
    "return_final_state": MAYBE,
    "cu_seqlens": SWITCH,
    "layout": ("dense", "apart"),
    "length": (4096, 200, 65536),
}
_DELTA_STEP: dict[str, tuple[Any, ...]] = {
    **_GATES,
    "state": FLOATS,
    "overlap": SWITCH,
    "batch": (1, 64, 256),
}
AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "ssd_scan": {
        "x": FLOATS,
        "dt": FLOATS,
        "A": ("float32", "bfloat16"),
        "D": ("float32", None, "float16", "bfloat16"),
        "D columns": SWITCH,
        "z": MAYBE,
        "dt_bias": ("float32", None, "bfloat16"),
        "dt_softplus": (True, False),
        "dt_limit": (None, (0.01, 1.0), (-1.0, 1.0)),
        "initial_state": MAYBE,
        "return_final_state": MAYBE,
        "cu_seqlens": SWITCH,
        "seq_idx": SWITCH,
        "layout": ("dense", "apart"),
        "length": (4096, 200, 65536),
        "width": (64, 19),
        "states": (128, 16, 20),
    },
    "selective_scan": {
        "u": FLOATS,
        "dt": FLOATS,
        "A": ("float32", "bfloat16"),
        "B": FLOATS,
        "C": FLOATS,
        "D": ("float32", None, "bfloat16"),
        "z": MAYBE,
        "dt_bias": ("float32", None, "bfloat16"),
        "dt_softplus": (True, False),
        "initial_state": MAYBE,
        "return_final_state": MAYBE,
        "cu_seqlens": SWITCH,
        "layout": ("tokens", "channels"),
        "length": (4096, 201),
        "channels": (1536, 5120, 70),
        "states": (16, 12, 64),
        "groups": (None, 2),
    },
    "selective_state_update": {
        "state": FLOATS,
        "x": FLOATS,
        "dt": FLOATS,
        "A": ("float32", "bfloat16"),
        "B": FLOATS,
        "C": FLOATS,
        "D": ("float32", None, "bfloat16"),
        "z": MAYBE,
        "dt_bias": ("float32", None, "bfloat16"),
        "dt_softplus": (True, False),
        "state_indices": SWITCH,
        "out": SWITCH,
        "overlap": SWITCH,
        "drafts": (None, "slots", "packed", "accepted"),
        "kind": ("tied heads", "full heads", "channels"),
        "groups": (1, 2),
        "states": (128, 16, 20),
        "batch": (8, 1, 64),
    },
    "causal_conv1d": {
        "x": FLOATS,
        "weight": FLOATS,
        "bias": MAYBE,
        "activation": ("silu", None),
        "initial_state": MAYBE,
        "return_final_state": SWITCH,
        "cu_seqlens": SWITCH,
        "seq_idx": SWITCH,
        "layout": ("tokens", "channels", "uneven channels"),
        "taps": (4, 3, 2),
        "length": (4096, 200),
    },
    "causal_conv1d_update": {
        "x": FLOATS,
        "conv_state": FLOATS,
        "weight": FLOATS,
        "bias": MAYBE,
        "activation": ("silu", None),
        "state_indices": (None, "int32", "int64"),
        "cache_seqlens": SWITCH,
        "tokens": (None, 1, 3),
        "drafts": (None, "slots", "packed", "accepted"),
        "taps": (4, 3, 2),
        "room": (0, 2),
    },
    "gated_rmsnorm": {
        "x": FLOATS,
        "weight": FLOATS,
        "z": MAYBE,
        "group_size": (None, 256),
        "norm_before_gate": SWITCH,
        "bias": MAYBE,
        "subtract_mean": SWITCH,
        "layout": ("dense", "apart"),
        "channels": (5120, 768),
    },
    "attention_decode": {
        "q": FLOATS,
        "lengths": (True, False),
        "window": (None, 100),
        "block_table": SWITCH,
        "heads": ((32, 8), (7, 1), (4, 4)),
        "width": (128, 64, 80),
        "batch": (1, 64),
        "room": (4096, 256),
    },
    "gated_delta": _DELTA,
    "gated_delta_step": _DELTA_STEP,
    # A decay of each key feature is not left out.
    "kda": _DELTA | {"g": FLOATS},
    "kda_step": _DELTA_STEP | {"g": FLOATS},
    **mixer_forms.AXES,
    "gla": {"a": FLOATS, **_LINEAR},
    "gla_step": {"a": FLOATS, **_LINEAR_STEP},
    "retention": {"decay": FLOATS, **_LINEAR},
    "retention_step": {"decay": FLOATS, **_LINEAR_STEP},
    "lightning": {"decay": FLOATS, **_LINEAR},
    "lightning_step": {"decay": FLOATS, **_LINEAR_STEP},
    "rwkv7": {
        "r": FLOATS,
        "w": FLOATS,
        "initial_state": MAYBE,
        "return_final_state": MAYBE,
        "cu_seqlens": SWITCH,
        "layout": ("dense", "apart"),
        "width": (64, 20),
    },
    "rwkv7_step": {
        "state": FLOATS,
        "r": FLOATS,
        "w": FLOATS,
        "k": FLOATS,
        "v": FLOATS,
        "kk": FLOATS,
        "a": FLOATS,
        "width": (64, 20),
        "batch": (8, 1, 64),
    },
}
#: Parameters that an axis of another name decides about, or whose value a kernel only passes on.
WITH: dict[str, dict[str, str]] = {
    "ssd_scan": {"B": "x", "C": "x"},
    "selective_scan": {},
    "selective_state_update": {"pad_index": "state_indices"},
    "causal_conv1d": {},
    "causal_conv1d_update": {"pad_index": "state_indices"},
    "gated_rmsnorm": {"eps": "x"},
    "attention_decode": {"k_cache": "q", "v_cache": "q", "scale": "q"},
    **mixer_forms.WITH,
    "gla": {"k": "q", "v": "q", "scale": "q"},
    "gla_step": {"scale": "q"},
    "retention": {"k": "q", "v": "q", "scale": "q"},
    "retention_step": {"scale": "q"},
    "lightning": {"k": "q", "v": "q", "scale": "q"},
    "lightning_step": {"scale": "q"},
    "rwkv7": {"k": "r", "v": "r", "kk": "r", "a": "r"},
    "rwkv7_step": {},
    **{op: {"q": "v", "k": "v", "scale": "v"} for op in _DELTAS},
}


def label(form: Form) -> str:
    """The form in one line, axes in their order; what is off or left out is not named."""
    return " ".join(f"{name}={value}" for name, value in form.items() if value not in (None, False))


def call(op: str, form: Form) -> Any:
    """Run `op` in that form."""
    return _CALLS[op](**{name.replace(" ", "_"): value for name, value in form.items()})


def _t(dtype: str | None, *shape: int, apart: bool = False) -> Any:
    """A tensor, None without a dtype; `apart`: every second element of a larger one."""
    if dtype is None:
        return None
    if apart:
        return _t(dtype, *shape[:-1], 2 * shape[-1])[..., ::2]
    return torch.empty(shape, dtype=getattr(torch, dtype), device="cuda")


_i = functools.partial(_t, "int32")


def _ssd(
    *, x: str, dt: str, A: str, D: str | None, D_columns: bool, z: str | None, layout: str,
    dt_limit: Any, initial_state: str | None, return_final_state: str | None, cu_seqlens: bool,
    seq_idx: bool, length: int, width: int, states: int, dt_bias: str | None, **more: Any,
) -> Any:  # fmt: skip
    H, n = 4, 4 if cu_seqlens else 1
    apart = layout == "apart"
    if dt_limit is not None:
        more["dt_limit"] = dt_limit
    return OPS["ssd_scan"].kernel(
        _t(x, 1, length, H, width, apart=apart), _t(dt, 1, length, H), _t(A, H),
        _t(x, 1, length, 2, states, apart=apart), _t(x, 1, length, 2, states, apart=apart),
        D=_t(D, H, width) if D_columns else _t(D, H), z=_t(z, 1, length, H, width),
        dt_bias=_t(dt_bias, H), initial_state=_t(initial_state, n, H, width, states),
        return_final_state=_final(return_final_state),
        cu_seqlens=_i(n + 1) if cu_seqlens else None,
        seq_idx=_i(1, length) if seq_idx else None, **more,
    )  # fmt: skip


def _final(dtype: str | None) -> Any:
    return False if dtype is None else getattr(torch, dtype)


def _selective(
    *, u: str, dt: str, A: str, B: str, C: str, D: str | None, z: str | None, layout: str,
    initial_state: str | None, return_final_state: str | None, cu_seqlens: bool, length: int,
    channels: int, states: int, groups: int | None, dt_bias: str | None, dt_softplus: bool,
) -> Any:  # fmt: skip
    n = 4 if cu_seqlens else 1
    by_token = (1, length, *(() if groups is None else (groups,)), states)

    def wide(dtype: str | None) -> Any:
        if dtype is None or layout == "tokens":
            return _t(dtype, 1, length, channels)
        return _t(dtype, 1, channels, length).transpose(1, 2)

    return OPS["selective_scan"].kernel(
        wide(u), wide(dt), _t(A, channels, states), _t(B, *by_token), _t(C, *by_token),
        D=_t(D, channels), z=wide(z), dt_bias=_t(dt_bias, channels), dt_softplus=dt_softplus,
        initial_state=_t(initial_state, n, channels, states),
        return_final_state=_final(return_final_state),
        cu_seqlens=_i(n + 1) if cu_seqlens else None,
    )  # fmt: skip


def _state_update(
    *, state: str, x: str, dt: str, A: str, B: str, C: str, D: str | None, z: str | None,
    dt_bias: str | None, dt_softplus: bool, state_indices: bool, out: bool, overlap: bool,
    drafts: str | None, kind: str, groups: int, states: int, batch: int,
) -> Any:  # fmt: skip
    inner = (128,) if kind == "channels" else (4, 64)
    tied = kind == "tied heads"
    per_head = inner[:1] if tied else inner
    bc = (batch, groups, states)
    given = (
        _t(state, batch + 1, *inner, states), _t(x, batch, *inner), _t(dt, batch, *per_head),
        _t(A, *per_head) if tied else _t(A, *inner, states), _t(B, *bc), _t(C, *bc),
    )  # fmt: skip
    options = {
        "D": _t(D, *per_head), "z": _t(z, batch, *inner), "dt_bias": _t(dt_bias, *per_head),
        "dt_softplus": dt_softplus, "out": _t(x, batch, *inner) if out else None,
    }  # fmt: skip
    if drafts is not None:
        return selective_state_drafts(*given, **options, **_drafts(drafts, batch, state_indices))
    return OPS["selective_state_update"].kernel(
        *given, **options, state_indices=_i(batch) if state_indices else None, overlap=overlap
    )


def _drafts(kind: str, n: int, indices: bool) -> dict[str, Any]:
    """Where the states of `n` sequences are: other slots than they came from, several tokens each,
    of which only some were accepted."""
    if kind == "accepted":
        slots = _i(n, 3)
        new = {"new_indices": _i(n, 3)} if indices else {}
        return {"state_indices": slots, "accepted": _i(n), "cu_seqlens": _i(n + 1), **new}
    slots = _i(n) if indices else None
    if kind == "packed":
        return {"state_indices": slots, "cu_seqlens": _i(n + 1)}
    return {"state_indices": slots, "new_indices": _i(n)}


def _conv(
    *, x: str, weight: str, bias: str | None, initial_state: str | None, cu_seqlens: bool,
    seq_idx: bool, layout: str, taps: int, length: int, **more: Any,
) -> Any:  # fmt: skip
    D, n = 300, 4 if cu_seqlens else 1
    if layout == "tokens":
        values = _t(x, 1, length, D)
    else:
        values = _t(x, 1, D, length + (layout != "channels")).transpose(1, 2)[:, :length]
    return OPS["causal_conv1d"].kernel(
        values, _t(weight, D, taps), _t(bias, D), initial_state=_t(initial_state, n, D, taps - 1),
        cu_seqlens=_i(n + 1) if cu_seqlens else None,
        seq_idx=_i(1, length) if seq_idx else None, **more,
    )  # fmt: skip


def _conv_update(
    *, x: str, conv_state: str, weight: str, bias: str | None, state_indices: str | None,
    cache_seqlens: bool, tokens: int | None, taps: int, room: int, activation: str | None,
    drafts: str | None,
) -> Any:  # fmt: skip
    D = 300
    if drafts is not None:
        more = _drafts(drafts, 4, state_indices is not None)
        if drafts == "accepted":
            more |= {n: _i(4) for n in more if n.endswith("_indices")}
        packed = "cu_seqlens" in more
        return causal_conv1d_drafts(
            _t(x, 12, D) if packed else _t(x, 4, tokens or 1, D),
            _t(conv_state, 9, D, taps + 1 + room), _t(weight, D, taps), _t(bias, D),
            activation=activation, **more,
        )  # fmt: skip
    return OPS["causal_conv1d_update"].kernel(
        _t(x, 4, D) if tokens is None else _t(x, 4, tokens, D),
        _t(conv_state, 9, D, taps - 1 + room), _t(weight, D, taps), _t(bias, D),
        activation=activation, state_indices=_t(state_indices, 4),
        cache_seqlens=_i(4) if cache_seqlens else None,
    )  # fmt: skip


def _norm(
    *, x: str, weight: str, z: str | None, bias: str | None, layout: str, channels: int,
    **more: Any,
) -> Any:  # fmt: skip
    return OPS["gated_rmsnorm"].kernel(
        _t(x, 64, channels, apart=layout == "apart"), _t(weight, channels),
        z=_t(z, 64, channels), bias=_t(bias, channels), **more,
    )  # fmt: skip


def _attention(
    *, q: str, lengths: bool, window: int | None, block_table: bool, heads: tuple[int, int],
    width: int, batch: int, room: int,
) -> Any:  # fmt: skip
    shape = (99, 16) if block_table else (batch, room)
    cache = _t(q, *shape, heads[1], width)
    return OPS["attention_decode"].kernel(
        _t(q, batch, heads[0], width), cache, cache, _i(batch) if lengths else None,
        window=window, block_table=_i(batch, room // 16) if block_table else None,
    )  # fmt: skip


def _linear(
    *, op: str, q: str, initial_state: str | None, return_final_state: str | None,
    cu_seqlens: bool, layout: str, length: int, key: int, shared: int, a: str | None = None,
    decay: str | None = None,
) -> Any:  # fmt: skip
    H, value, n = 4, 2 * key, 4 if cu_seqlens else 1
    apart = layout == "apart"
    return OPS[op].kernel(
        _t(q, 1, length, H, key, apart=apart), _t(q, 1, length, shared, key, apart=apart),
        _t(q, 1, length, shared, value, apart=apart),
        _t(decay, H) if a is None else _t(a, 1, length, shared, key, apart=apart), scale=0.1,
        initial_state=_t(initial_state, n, H, key, value),
        return_final_state=_final(return_final_state),
        cu_seqlens=_i(n + 1) if cu_seqlens else None,
    )  # fmt: skip


def _linear_step(
    *, op: str, state: str, q: str, k: str, v: str, key: int, shared: int, batch: int,
    a: str | None = None, decay: str | None = None,
) -> Any:  # fmt: skip
    H, value = 4, 2 * key
    return OPS[op].kernel(
        _t(state, batch, H, key, value), _t(q, batch, H, key), _t(k, batch, shared, key),
        _t(v, batch, shared, value), _t(decay, H) if a is None else _t(a, batch, shared, key),
        scale=0.1,
    )  # fmt: skip


def _rwkv7(
    *, r: str, w: str, initial_state: str | None, return_final_state: str | None,
    cu_seqlens: bool, layout: str, width: int,
) -> Any:  # fmt: skip
    n, shape = 4 if cu_seqlens else 1, (1, 4096, 4, width)
    x = _t(r, *shape, apart=layout == "apart")
    return OPS["rwkv7"].kernel(
        x, _t(w, *shape), x, x, x, x, initial_state=_t(initial_state, n, 4, width, width),
        return_final_state=_final(return_final_state),
        cu_seqlens=_i(n + 1) if cu_seqlens else None,
    )  # fmt: skip


def _rwkv7_step(*, state: str, width: int, batch: int, **inputs: str) -> Any:
    shape = (batch, 4, width)
    tokens = {name: _t(dtype, *shape) for name, dtype in inputs.items()}
    return OPS["rwkv7_step"].kernel(_t(state, *shape, width), **tokens)


def _gates(
    op: str, lead: tuple[int, ...], *, g: str | None, beta: str, A_log: str | None,
    dt_bias: str | None, heads: tuple[int, int], key: int, **more: Any,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """Decays and step sizes, and the options; a bias takes part where there is a gate."""
    H = heads[0]
    per_head = (H, key) if op.startswith("kda") else (H,)
    gated = g is not None and A_log is not None
    # Step sizes are doubled where they are made of logits.
    more["negative"] = more["negative"] and more["beta_sigmoid"]
    options = {
        "A_log": _t(A_log, H) if gated else None,
        "dt_bias": _t(dt_bias, *per_head) if gated else None,
    }
    return (_t(g, *lead, *per_head), _t(beta, *lead, H)), options | more


def _delta(
    *, op: str, v: str, initial_state: str | None, return_final_state: str | None,
    cu_seqlens: bool, layout: str, length: int, heads: tuple[int, int], key: int, value: int,
    **more: Any,
) -> Any:  # fmt: skip
    n, apart = 4 if cu_seqlens else 1, layout == "apart"
    gates, options = _gates(op, (1, length), heads=heads, key=key, **more)
    qk = _t(v, 1, length, heads[1], key, apart=apart)
    return OPS[op].kernel(
        qk, qk, _t(v, 1, length, heads[0], value, apart=apart), *gates,
        initial_state=_t(initial_state, n, heads[0], key, value),
        return_final_state=_final(return_final_state),
        cu_seqlens=_i(n + 1) if cu_seqlens else None, **options,
    )  # fmt: skip


def _delta_step(
    *, op: str, state: str, v: str, heads: tuple[int, int], key: int, value: int, batch: int,
    **more: Any,
) -> Any:  # fmt: skip
    gates, options = _gates(op, (batch,), heads=heads, key=key, **more)
    qk = _t(v, batch, heads[1], key)
    return OPS[op].kernel(
        _t(state, batch, heads[0], key, value), qk, qk, _t(v, batch, heads[0], value), *gates,
        **options,
    )  # fmt: skip


_CALLS: dict[str, Callable[..., Any]] = {
    "ssd_scan": _ssd,
    "selective_scan": _selective,
    "selective_state_update": _state_update,
    "causal_conv1d": _conv,
    "causal_conv1d_update": _conv_update,
    "gated_rmsnorm": _norm,
    "attention_decode": _attention,
    **mixer_forms.CALLS,
    **{op: functools.partial(_linear, op=op) for op in ("gla", "retention", "lightning")},
    **{
        op: functools.partial(_linear_step, op=op)
        for op in ("gla_step", "retention_step", "lightning_step")
    },
    "rwkv7": _rwkv7,
    "rwkv7_step": _rwkv7_step,
    **{op: functools.partial(_delta, op=op) for op in ("gated_delta", "kda")},
    **{op: functools.partial(_delta_step, op=op) for op in ("gated_delta_step", "kda_step")},
}
