"""Forms of the operations of Mamba-1 and Mamba-2: scans, steps, convolutions, gated norm.

As `forms`, which hands out what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ssmprof_kernels import OPS
from ssmprof_kernels.conv.drafts import causal_conv1d_drafts
from ssmprof_kernels.state_update.drafts import selective_state_drafts
from ssmprof_kernels.static.empty import FLOATS, MAYBE, SWITCH, final, i, t

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
        "activation": ("silu", "sigmoid"),
        "bias": MAYBE,
        "subtract_mean": SWITCH,
        "layout": ("dense", "apart"),
        "channels": (5120, 768),
    },
}
WITH: dict[str, dict[str, str]] = {
    "ssd_scan": {"B": "x", "C": "x"},
    "selective_scan": {},
    "selective_state_update": {"pad_index": "state_indices"},
    "causal_conv1d": {},
    "causal_conv1d_update": {"pad_index": "state_indices"},
    "gated_rmsnorm": {"eps": "x"},
}


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
        t(x, 1, length, H, width, apart=apart), t(dt, 1, length, H), t(A, H),
        t(x, 1, length, 2, states, apart=apart), t(x, 1, length, 2, states, apart=apart),
        D=t(D, H, width) if D_columns else t(D, H), z=t(z, 1, length, H, width),
        dt_bias=t(dt_bias, H), initial_state=t(initial_state, n, H, width, states),
        return_final_state=final(return_final_state),
        cu_seqlens=i(n + 1) if cu_seqlens else None,
        seq_idx=i(1, length) if seq_idx else None, **more,
    )  # fmt: skip


def _selective(
    *, u: str, dt: str, A: str, B: str, C: str, D: str | None, z: str | None, layout: str,
    initial_state: str | None, return_final_state: str | None, cu_seqlens: bool, length: int,
    channels: int, states: int, groups: int | None, dt_bias: str | None, dt_softplus: bool,
) -> Any:  # fmt: skip
    n = 4 if cu_seqlens else 1
    by_token = (1, length, *(() if groups is None else (groups,)), states)

    def wide(dtype: str | None) -> Any:
        if dtype is None or layout == "tokens":
            return t(dtype, 1, length, channels)
        return t(dtype, 1, channels, length).transpose(1, 2)

    return OPS["selective_scan"].kernel(
        wide(u), wide(dt), t(A, channels, states), t(B, *by_token), t(C, *by_token),
        D=t(D, channels), z=wide(z), dt_bias=t(dt_bias, channels), dt_softplus=dt_softplus,
        initial_state=t(initial_state, n, channels, states),
        return_final_state=final(return_final_state),
        cu_seqlens=i(n + 1) if cu_seqlens else None,
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
        t(state, batch + 1, *inner, states), t(x, batch, *inner), t(dt, batch, *per_head),
        t(A, *per_head) if tied else t(A, *inner, states), t(B, *bc), t(C, *bc),
    )  # fmt: skip
    options = {
        "D": t(D, *per_head), "z": t(z, batch, *inner), "dt_bias": t(dt_bias, *per_head),
        "dt_softplus": dt_softplus, "out": t(x, batch, *inner) if out else None,
    }  # fmt: skip
    if drafts is not None:
        return selective_state_drafts(*given, **options, **_drafts(drafts, batch, state_indices))
    return OPS["selective_state_update"].kernel(
        *given, **options, state_indices=i(batch) if state_indices else None, overlap=overlap
    )


def _drafts(kind: str, n: int, indices: bool) -> dict[str, Any]:
    """Where the states of `n` sequences are: other slots than they came from, several tokens each,
    of which only some were accepted."""
    if kind == "accepted":
        slots = i(n, 3)
        new = {"new_indices": i(n, 3)} if indices else {}
        return {"state_indices": slots, "accepted": i(n), "cu_seqlens": i(n + 1), **new}
    slots = i(n) if indices else None
    if kind == "packed":
        return {"state_indices": slots, "cu_seqlens": i(n + 1)}
    return {"state_indices": slots, "new_indices": i(n)}


def _conv(
    *, x: str, weight: str, bias: str | None, initial_state: str | None, cu_seqlens: bool,
    seq_idx: bool, layout: str, taps: int, length: int, **more: Any,
) -> Any:  # fmt: skip
    D, n = 300, 4 if cu_seqlens else 1
    if layout == "tokens":
        values = t(x, 1, length, D)
    else:
        values = t(x, 1, D, length + (layout != "channels")).transpose(1, 2)[:, :length]
    return OPS["causal_conv1d"].kernel(
        values, t(weight, D, taps), t(bias, D), initial_state=t(initial_state, n, D, taps - 1),
        cu_seqlens=i(n + 1) if cu_seqlens else None,
        seq_idx=i(1, length) if seq_idx else None, **more,
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
            more |= {n: i(4) for n in more if n.endswith("_indices")}
        packed = "cu_seqlens" in more
        return causal_conv1d_drafts(
            t(x, 12, D) if packed else t(x, 4, tokens or 1, D),
            t(conv_state, 9, D, taps + 1 + room), t(weight, D, taps), t(bias, D),
            activation=activation, **more,
        )  # fmt: skip
    return OPS["causal_conv1d_update"].kernel(
        t(x, 4, D) if tokens is None else t(x, 4, tokens, D),
        t(conv_state, 9, D, taps - 1 + room), t(weight, D, taps), t(bias, D),
        activation=activation, state_indices=t(state_indices, 4),
        cache_seqlens=i(4) if cache_seqlens else None,
    )  # fmt: skip


def _norm(
    *, x: str, weight: str, z: str | None, bias: str | None, layout: str, channels: int,
    **more: Any,
) -> Any:  # fmt: skip
    return OPS["gated_rmsnorm"].kernel(
        t(x, 64, channels, apart=layout == "apart"), t(weight, channels),
        z=t(z, 64, channels), bias=t(bias, channels), **more,
    )  # fmt: skip


CALLS: dict[str, Callable[..., Any]] = {
    "ssd_scan": _ssd,
    "selective_scan": _selective,
    "selective_state_update": _state_update,
    "causal_conv1d": _conv,
    "causal_conv1d_update": _conv_update,
    "gated_rmsnorm": _norm,
}
