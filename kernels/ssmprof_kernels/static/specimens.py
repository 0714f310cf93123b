"""Typical calls of every operation, for checks that need calls but no data.

Promises: `SPECIMENS[op]()` yields labelled calls whose inputs lie on the current CUDA device, real
or pretended, without values that matter; the first is the operation's everyday form, the others
reach further options and shape buckets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ssmprof_kernels import OPS
from ssmprof_kernels.state_update.drafts import selective_state_drafts
from ssmprof_kernels.static import mixer_forms, mixing_forms

Call = Callable[[], Any]


def _t(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


def _f(*shape: int) -> torch.Tensor:
    return _t(*shape, dtype=torch.float32)


def _i(*shape: int) -> torch.Tensor:
    return _t(*shape, dtype=torch.int32)


def _ssd(length: int, H: int, G: int = 1, batch: int = 1, **options: Any) -> Any:
    P, N = 64, 128
    BC = _t(batch, length, G, N)
    x, dt = _t(batch, length, H, P), _t(batch, length, H)
    usual = {"D": _f(H), "dt_bias": _f(H), "dt_softplus": True}
    return OPS["ssd_scan"].kernel(x, dt, _f(H), BC, BC, **(usual | options))


def _ssd_scan() -> Iterator[tuple[str, Call]]:
    yield "2.7b 4096", lambda: _ssd(4096, 80)
    for length in (256, 1024, 16384, 65536):
        yield f"2.7b {length}", lambda length=length: _ssd(length, 80)
    for length in (256, 1024, 4096, 16384, 65536):
        yield f"130m {length}", lambda length=length: _ssd(length, 24)
    yield "8b 4096 x8", lambda: _ssd(4096, 128, 8, 8)
    yield (
        "packed, states",
        lambda: _ssd(
            4096, 24, cu_seqlens=_i(5), initial_state=_f(4, 24, 64, 128), return_final_state=True
        ),
    )
    yield "gate, ids", lambda: _ssd(4096, 24, z=_t(1, 4096, 24, 64), seq_idx=_i(1, 4096))


def _selective(length: int, D: int, batch: int = 1, **options: Any) -> Any:
    N = 16
    u, BC = _t(batch, length, D), _t(batch, length, N)
    usual = {"D": _f(D), "z": u, "dt_bias": _f(D), "dt_softplus": True}
    return OPS["selective_scan"].kernel(u, u, _f(D, N), BC, BC, **(usual | options))


def _selective_scan() -> Iterator[tuple[str, Call]]:
    yield "2.8b 4096", lambda: _selective(4096, 5120)
    for length in (256, 1024, 16384, 65536):
        yield f"2.8b {length}", lambda length=length: _selective(length, 5120)
    for length in (256, 1024, 4096, 16384, 65536):
        yield f"130m {length}", lambda length=length: _selective(length, 1536)
    yield "2.8b 4096 x8", lambda: _selective(4096, 5120, 8)
    yield (
        "packed, states",
        lambda: _selective(
            4096, 1536, cu_seqlens=_i(5), initial_state=_f(4, 1536, 16), return_final_state=True
        ),
    )


def _heads(batch: int, H: int = 80, **options: Any) -> Any:
    P, N = 64, 128
    x, dt = _t(batch, H, P), _t(batch, H).unsqueeze(-1).expand(batch, H, P)
    A = _f(H).view(H, 1, 1).expand(H, P, N)
    skip = _f(H).unsqueeze(-1).expand(H, P)
    BC = _t(batch, 1, N)
    return OPS["selective_state_update"].kernel(
        _t(batch, H, P, N), x, dt, A, BC, BC, D=skip, dt_bias=skip, dt_softplus=True, **options
    )


def _channels(batch: int, D: int = 5120, **options: Any) -> Any:
    N = 16
    x, BC = _t(batch, D), _t(batch, N)
    return OPS["selective_state_update"].kernel(
        _f(batch, D, N), x, x, _f(D, N), BC, BC, D=_f(D), z=x, dt_bias=_f(D), dt_softplus=True,
        **options,
    )  # fmt: skip


def _drafts(n: int, H: int = 80) -> Any:
    P, N, rows = 64, 128, 3 * n
    x, dt = _t(rows, H, P), _t(rows, H).unsqueeze(-1).expand(rows, H, P)
    A = _f(H).view(H, 1, 1).expand(H, P, N)
    skip, BC, slots = _f(H).unsqueeze(-1).expand(H, P), _t(rows, 1, N), _i(n, 3)
    return selective_state_drafts(
        _t(64, H, P, N), x, dt, A, BC, BC, D=skip, dt_bias=skip, dt_softplus=True,
        state_indices=slots, cu_seqlens=_i(n + 1), accepted=_i(n),
    )  # fmt: skip


def _state_update() -> Iterator[tuple[str, Call]]:
    yield "mamba2 x1", lambda: _heads(1)
    for batch in (8, 64):
        yield f"mamba2 x{batch}", lambda batch=batch: _heads(batch)
    for batch in (1, 8, 64):
        yield f"mamba1 x{batch}", lambda batch=batch: _channels(batch)
    yield "mamba2 overlap", lambda: _heads(8, overlap=True)
    yield "mamba1 overlap", lambda: _channels(8, overlap=True)
    yield "mamba2 drafts", lambda: _drafts(8)
    index = {"state_indices": _i(8), "overlap": True}
    yield "slots overlap", lambda: _heads(8, **index)


def _conv(length: int, batch: int = 1, **options: Any) -> Any:
    D = 5376
    kernel = OPS["causal_conv1d"].kernel
    return kernel(_t(batch, length, D), _t(D, 4), _t(D), activation="silu", **options)


def _causal_conv1d() -> Iterator[tuple[str, Call]]:
    yield "2.7b 4096", lambda: _conv(4096)
    for length in (256, 1024, 16384, 65536):
        yield f"2.7b {length}", lambda length=length: _conv(length)
    yield "states", lambda: _conv(4096, initial_state=_t(1, 5376, 3), return_final_state=True)
    yield "packed", lambda: _conv(4096, cu_seqlens=_i(5))
    yield "ids", lambda: _conv(4096, seq_idx=_i(1, 4096))
    first = _t(1, 5376, 4096)
    yield "channel first", lambda: OPS["causal_conv1d"].kernel(first.transpose(1, 2), _t(5376, 4))


def _causal_conv1d_update() -> Iterator[tuple[str, Call]]:
    kernel = OPS["causal_conv1d_update"].kernel
    D = 5376
    yield "one token", lambda: kernel(_t(8, D), _t(8, D, 3), _t(D, 4), _t(D), activation="silu")
    yield (
        "ring of slots",
        lambda: kernel(
            _t(8, 2, D), _t(9, D, 4), _t(D, 4), state_indices=_i(8), cache_seqlens=_i(8)
        ),
    )


def _gated_rmsnorm() -> Iterator[tuple[str, Call]]:
    kernel = OPS["gated_rmsnorm"].kernel

    def call(D: int, group: int | None = None, gated: bool = True) -> Any:
        x = _t(64, D)
        return kernel(x, _t(D), z=x if gated else None, group_size=group)

    yield "2.7b", lambda: call(5120)
    for D in (768, 1536, 4096, 8192):
        yield f"D {D}", lambda D=D: call(D)
    yield "8 groups", lambda: call(8192, 1024)
    yield "plain", lambda: call(2560, gated=False)
    yield (
        "sigmoid",
        lambda: kernel(
            _t(64, 16, 128), _t(128), z=_t(64, 16, 128), norm_before_gate=True, activation="sigmoid"
        ),
    )


def _attention_decode() -> Iterator[tuple[str, Call]]:
    kernel = OPS["attention_decode"].kernel

    def call(batch: int, length: int, Hq: int = 32, Hk: int = 8, dh: int = 128) -> Any:
        cache = _t(batch, length, Hk, dh)
        return kernel(_t(batch, Hq, dh), cache, cache, _i(batch))

    yield "8b 65536", lambda: call(1, 65536)
    for length in (1024, 4096, 16384):
        yield f"8b {length}", lambda length=length: call(1, length)
    yield "8b 4096 x8", lambda: call(8, 4096)
    yield "8b 4096 x64", lambda: call(64, 4096)
    yield "0.5b 4096", lambda: call(1, 4096, 14, 2, 64)
    yield "paged, window", lambda: kernel(
        _t(4, 32, 128), _t(64, 64, 8, 128), _t(64, 64, 8, 128), _i(4),
        window=2048, block_table=_i(4, 64),
    )  # fmt: skip


def _linear(op: str, H: int, K: int, V: int, length: int, batch: int = 1, **options: Any) -> Any:
    q, v = _t(batch, length, H, K), _t(batch, length, H, V)
    return OPS[op].kernel(q, q, v, q if op == "gla" else _f(H), scale=0.1, **options)


def _linear_specimens(op: str, H: int, K: int, V: int) -> Iterator[tuple[str, Call]]:
    yield f"{H} heads 4096", lambda: _linear(op, H, K, V, 4096)
    for length in (256, 1024, 16384, 65536):
        yield f"{H} heads {length}", lambda length=length: _linear(op, H, K, V, length)
    yield f"{H} heads 4096 x8", lambda: _linear(op, H, K, V, 4096, 8)
    packed = {"cu_seqlens": _i(5), "initial_state": _f(4, H, K, V), "return_final_state": True}
    yield "packed, states", lambda: _linear(op, H, K, V, 4096, **packed)


def _linear_step_specimens(op: str, H: int, K: int, V: int) -> Iterator[tuple[str, Call]]:
    def call(batch: int) -> Any:
        q = _t(batch, H, K)
        more = q if op == "gla_step" else _f(H)
        return OPS[op].kernel(_f(batch, H, K, V), q, q, _t(batch, H, V), more, scale=0.1)

    for batch in (1, 8, 64):
        yield f"{H} heads x{batch}", lambda batch=batch: call(batch)


def _rwkv7() -> Iterator[tuple[str, Call]]:
    def call(length: int, batch: int = 1, **options: Any) -> Any:
        x = _t(batch, length, 32, 64)
        return OPS["rwkv7"].kernel(x, x, x, x, x, x, **options)

    yield "1.5b 4096", lambda: call(4096)
    for length in (256, 1024, 16384, 65536):
        yield f"1.5b {length}", lambda length=length: call(length)
    yield "1.5b 4096 x8", lambda: call(4096, 8)
    packed = {"cu_seqlens": _i(5), "initial_state": _f(4, 32, 64, 64), "return_final_state": True}
    yield "packed, states", lambda: call(4096, **packed)


def _rwkv7_step() -> Iterator[tuple[str, Call]]:
    def call(batch: int) -> Any:
        x = _t(batch, 32, 64)
        return OPS["rwkv7_step"].kernel(_f(batch, 32, 64, 64), x, x, x, x, x, x)

    for batch in (1, 8, 64):
        yield f"1.5b x{batch}", lambda batch=batch: call(batch)


def _delta(op: str, length: int, H: int, batch: int = 1, **options: Any) -> Any:
    K = V = 128
    qk = _t(batch, length, H // 2, K)
    per_head = (H, K) if op == "kda" else (H,)
    gate = {"A_log": _f(H), "dt_bias": _f(*per_head), "qk_l2norm": True, "beta_sigmoid": True}
    return OPS[op].kernel(
        qk, qk, _t(batch, length, H, V), _t(batch, length, *per_head), _t(batch, length, H),
        **(gate | options),
    )  # fmt: skip


def _delta_rule(op: str) -> Iterator[tuple[str, Call]]:
    yield "32 heads 4096", lambda: _delta(op, 4096, 32)
    for length in (256, 1024, 16384, 65536):
        yield f"16 heads {length}", lambda length=length: _delta(op, length, 16)
    yield "64 heads 4096 x8", lambda: _delta(op, 4096, 64, 8)
    state = {"initial_state": _f(4, 16, 128, 128), "return_final_state": True}
    yield "packed, states", lambda: _delta(op, 4096, 16, cu_seqlens=_i(5), **state)


def _delta_step(op: str) -> Iterator[tuple[str, Call]]:
    H, K, V = 32, 128, 128
    per_head = (H, K) if op == "kda_step" else (H,)
    gate = {"A_log": _f(H), "dt_bias": _f(*per_head), "qk_l2norm": True, "beta_sigmoid": True}

    def call(batch: int, **options: Any) -> Any:
        qk = _t(batch, H, K)
        return OPS[op].kernel(
            _f(batch, H, K, V), qk, qk, _t(batch, H, V), _t(batch, *per_head), _t(batch, H),
            **gate, **options,
        )  # fmt: skip

    yield "32 heads x1", lambda: call(1)
    for batch in (8, 64):
        yield f"32 heads x{batch}", lambda batch=batch: call(batch)
    yield "overlap", lambda: call(8, overlap=True)


#: Heads, width of a key and of a value of models with linear attention.
_SHAPES = {"gla": (4, 256, 512), "retention": (8, 256, 512), "lightning": (32, 128, 128)}

SPECIMENS: dict[str, Callable[[], Iterator[tuple[str, Call]]]] = {
    "ssd_scan": _ssd_scan,
    "selective_scan": _selective_scan,
    "selective_state_update": _state_update,
    "causal_conv1d": _causal_conv1d,
    "causal_conv1d_update": _causal_conv1d_update,
    "gated_rmsnorm": _gated_rmsnorm,
    "attention_decode": _attention_decode,
    **mixer_forms.SPECIMENS,
    **mixing_forms.SPECIMENS,
    **{op: functools.partial(_linear_specimens, op, *shape) for op, shape in _SHAPES.items()},
    **{
        f"{op}_step": functools.partial(_linear_step_specimens, f"{op}_step", *shape)
        for op, shape in _SHAPES.items()
    },
    "rwkv7": _rwkv7,
    "rwkv7_step": _rwkv7_step,
    "gated_delta": functools.partial(_delta_rule, "gated_delta"),
    "gated_delta_step": functools.partial(_delta_step, "gated_delta_step"),
    "kda": functools.partial(_delta_rule, "kda"),
    "kda_step": functools.partial(_delta_step, "kda_step"),
}
