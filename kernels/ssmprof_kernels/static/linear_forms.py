"""Forms of linear attention, RWKV-7 and the delta rules, each as scan and as step.

As `forms`, which hands out what stands here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ssmprof_kernels import OPS
from ssmprof_kernels.static.empty import FLOATS, MAYBE, SWITCH, final, i, t

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
    "gated_delta": _DELTA,
    "gated_delta_step": _DELTA_STEP,
    # A decay of each key feature is not left out.
    "kda": _DELTA | {"g": FLOATS},
    "kda_step": _DELTA_STEP | {"g": FLOATS},
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
WITH: dict[str, dict[str, str]] = {
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


def _linear(
    *, op: str, q: str, initial_state: str | None, return_final_state: str | None,
    cu_seqlens: bool, layout: str, length: int, key: int, shared: int, a: str | None = None,
    decay: str | None = None,
) -> Any:  # fmt: skip
    H, value, n = 4, 2 * key, 4 if cu_seqlens else 1
    apart = layout == "apart"
    return OPS[op].kernel(
        t(q, 1, length, H, key, apart=apart), t(q, 1, length, shared, key, apart=apart),
        t(q, 1, length, shared, value, apart=apart),
        t(decay, H) if a is None else t(a, 1, length, shared, key, apart=apart), scale=0.1,
        initial_state=t(initial_state, n, H, key, value),
        return_final_state=final(return_final_state),
        cu_seqlens=i(n + 1) if cu_seqlens else None,
    )  # fmt: skip


def _linear_step(
    *, op: str, state: str, q: str, k: str, v: str, key: int, shared: int, batch: int,
    a: str | None = None, decay: str | None = None,
) -> Any:  # fmt: skip
    H, value = 4, 2 * key
    return OPS[op].kernel(
        t(state, batch, H, key, value), t(q, batch, H, key), t(k, batch, shared, key),
        t(v, batch, shared, value), t(decay, H) if a is None else t(a, batch, shared, key),
        scale=0.1,
    )  # fmt: skip


def _rwkv7(
    *, r: str, w: str, initial_state: str | None, return_final_state: str | None,
    cu_seqlens: bool, layout: str, width: int,
) -> Any:  # fmt: skip
    n, shape = 4 if cu_seqlens else 1, (1, 4096, 4, width)
    x = t(r, *shape, apart=layout == "apart")
    return OPS["rwkv7"].kernel(
        x, t(w, *shape), x, x, x, x, initial_state=t(initial_state, n, 4, width, width),
        return_final_state=final(return_final_state),
        cu_seqlens=i(n + 1) if cu_seqlens else None,
    )  # fmt: skip


def _rwkv7_step(*, state: str, width: int, batch: int, **inputs: str) -> Any:
    shape = (batch, 4, width)
    tokens = {name: t(dtype, *shape) for name, dtype in inputs.items()}
    return OPS["rwkv7_step"].kernel(t(state, *shape, width), **tokens)


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
        "A_log": t(A_log, H) if gated else None,
        "dt_bias": t(dt_bias, *per_head) if gated else None,
    }
    return (t(g, *lead, *per_head), t(beta, *lead, H)), options | more


def _delta(
    *, op: str, v: str, initial_state: str | None, return_final_state: str | None,
    cu_seqlens: bool, layout: str, length: int, heads: tuple[int, int], key: int, value: int,
    **more: Any,
) -> Any:  # fmt: skip
    n, apart = 4 if cu_seqlens else 1, layout == "apart"
    gates, options = _gates(op, (1, length), heads=heads, key=key, **more)
    qk = t(v, 1, length, heads[1], key, apart=apart)
    return OPS[op].kernel(
        qk, qk, t(v, 1, length, heads[0], value, apart=apart), *gates,
        initial_state=t(initial_state, n, heads[0], key, value),
        return_final_state=final(return_final_state),
        cu_seqlens=i(n + 1) if cu_seqlens else None, **options,
    )  # fmt: skip


def _delta_step(
    *, op: str, state: str, v: str, heads: tuple[int, int], key: int, value: int, batch: int,
    **more: Any,
) -> Any:  # fmt: skip
    gates, options = _gates(op, (batch,), heads=heads, key=key, **more)
    qk = t(v, batch, heads[1], key)
    return OPS[op].kernel(
        t(state, batch, heads[0], key, value), qk, qk, t(v, batch, heads[0], value), *gates,
        **options,
    )  # fmt: skip


CALLS: dict[str, Callable[..., Any]] = {
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
