"""Forms and specimens of Mamba-3, latent attention, grouped products and the ring update; forms of
attention.

As `forms` and `specimens`, which hand out what stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ssmprof_kernels import OPS
from ssmprof_kernels.reference.mamba3 import Weights
from ssmprof_kernels.ring_update import Ring
from ssmprof_kernels.static.empty import FLOATS, MAYBE, SWITCH, f, final, i, t

_MIXED = ((1, False), (4, True), (3, False))

AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "mamba3_scan": {
        "v": FLOATS,
        "a": FLOATS,
        "dt": FLOATS,
        "trap": FLOATS,
        "angles": FLOATS,
        "z": SWITCH,
        "initial_state": MAYBE,
        "return_final_state": MAYBE,
        "ranks": _MIXED,
        "layout": ("dense", "apart"),
        "length": (4096, 200, 65536),
        "width": (64, 19),
        "states": (128, 20),
        "groups": (1, 2),
    },
    "mamba3_step": {
        "state": FLOATS,
        "v": FLOATS,
        "a": FLOATS,
        "dt": FLOATS,
        "trap": FLOATS,
        "angles": FLOATS,
        "z": SWITCH,
        "ranks": _MIXED,
        "width": (64, 19),
        "states": (128, 20),
        "groups": (1, 2),
        "batch": (1, 64),
    },
    "ring_state_update": {
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
        "overlap": SWITCH,
        "kind": ("heads", "channels"),
        "places": (16, 4),
        "groups": (1, 2),
        "states": (128, 16, 20),
        "batch": (8, 1, 64),
    },
    "attention_decode": {
        "q": FLOATS,
        "lengths": (True, False),
        "window": (None, 100),
        "block_table": SWITCH,
        "sinks": SWITCH,
        "heads": ((32, 8), (7, 1), (4, 4)),
        "width": (128, 64, 80, 256),
        "batch": (1, 64),
        "room": (4096, 256),
    },
    "latent_decode": {
        "q": FLOATS,
        "lengths": SWITCH,
        "heads": (128, 16, 5),
        "rank": (512, 96),
        "turned": (64, 20),
        "batch": (1, 64),
        "room": (4096, 100),
    },
    "latent_rotary": {
        "q": FLOATS,
        "weight": FLOATS,
        "cos": (*FLOATS, None),
        "q_out": SWITCH,
        "row_out": (None, "rows", "positions"),
        "layout": ("dense", "apart"),
        "heads": (16, 128, 5),
        "rank": (512, 96),
        "turned": (64, 20),
        "length": (1, 4096, 131_072),
    },
    "grouped_mm": {
        "rows": FLOATS,
        "tokens": (64, 4096, 65536),
        "experts": (128, 5),
        "sizes": ((1536, 2048), (100, 70)),
        "layout": ("dense", "apart"),
    },
}
WITH: dict[str, dict[str, str]] = {
    "mamba3_scan": {"q": "v", "k": "v", "weights": "ranks"},
    "mamba3_step": {"q": "v", "k": "v", "weights": "ranks"},
    "ring_state_update": {"ring": "places", "pad_index": "state_indices"},
    "attention_decode": {"k_cache": "q", "v_cache": "q", "scale": "q"},
    "latent_decode": {"latents": "q", "scale": "q"},
    "latent_rotary": {"row": "q", "sin": "cos", "eps": "q", "positions": "row_out"},
    "grouped_mm": {"weight": "rows", "ends": "experts"},
}


def _weights(heads: int, rank: int, states: int, width: int, mixed: bool) -> Weights:
    bias, matrix = f(heads, rank, states), f(heads, rank, width) if mixed else None
    return Weights(f(heads), bias, bias, f(heads), matrix, matrix, matrix)


def _mamba3(
    lead: tuple[int, ...], *, v: str, ranks: tuple[int, bool], z: bool, width: int, states: int,
    groups: int, a: str, dt: str, trap: str, angles: str, apart: bool = False, heads: int = 4,
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    """What scan and step share: tokens, and options by name."""
    rank, mixed = ranks
    qk = t(v, *lead, rank, groups, states, apart=apart)
    rates = [t(rate, *lead, heads) for rate in (a, dt, trap)]
    tokens = (
        qk, qk, t(v, *lead, heads, width, apart=apart), *rates, t(angles, *lead, states // 4)
    )  # fmt: skip
    weights = _weights(heads, rank, states, width, mixed)
    return tokens, {"weights": weights, "z": t(v, *lead, heads, width) if z else None}


def _size(heads: int, rank: int, states: int, width: int) -> int:
    return heads * (width * states + rank * states + width)


def _mamba3_scan(
    *, initial_state: str | None, return_final_state: str | None, layout: str, length: int,
    **more: Any,
) -> Any:  # fmt: skip
    tokens, options = _mamba3((1, length), apart=layout == "apart", **more)
    size = _size(4, more["ranks"][0], more["states"], more["width"])
    return OPS["mamba3_scan"].kernel(
        *tokens,
        **options,
        initial_state=t(initial_state, 1, size),
        return_final_state=final(return_final_state),
    )


def _mamba3_step(*, state: str, batch: int, **more: Any) -> Any:
    tokens, options = _mamba3((batch,), **more)
    size = _size(4, more["ranks"][0], more["states"], more["width"])
    return OPS["mamba3_step"].kernel(t(state, batch, size), *tokens, **options)


def _ring(
    *, state: str, x: str, dt: str, A: str, B: str, C: str, D: str | None, z: str | None,
    dt_bias: str | None, dt_softplus: bool, state_indices: bool, overlap: bool, kind: str,
    places: int, groups: int, states: int, batch: int,
) -> Any:  # fmt: skip
    tied, slots = kind == "heads", batch + 1
    heads, width = (4, 64) if tied else (groups, 128 // groups)
    inner = (heads, width) if tied else (128,)
    per_head, bc = inner[:1] if tied else inner, (batch, groups, states)
    ring = Ring(
        t(x, slots, places, heads, width),
        f(slots, places, heads) if tied else f(slots, places, heads, width),
        t(B, slots, places, groups, states),
        i(slots, heads, width // 8, 2),
    )
    return OPS["ring_state_update"].kernel(
        t(state, slots, *inner, states), ring, t(x, batch, *inner), t(dt, batch, *per_head),
        t(A, *per_head) if tied else t(A, *inner, states), t(B, *bc), t(C, *bc),
        D=t(D, *per_head), z=t(z, batch, *inner), dt_bias=t(dt_bias, *per_head),
        dt_softplus=dt_softplus, state_indices=i(batch) if state_indices else None,
        overlap=overlap,
    )  # fmt: skip


def _attention(
    *, q: str, lengths: bool, window: int | None, block_table: bool, sinks: bool,
    heads: tuple[int, int], width: int, batch: int, room: int,
) -> Any:  # fmt: skip
    shape = (99, 16) if block_table else (batch, room)
    cache = t(q, *shape, heads[1], width)
    return OPS["attention_decode"].kernel(
        t(q, batch, heads[0], width), cache, cache, i(batch) if lengths else None,
        window=window, block_table=i(batch, room // 16) if block_table else None,
        sinks=f(heads[0]) if sinks else None,
    )  # fmt: skip


def _latent(
    *, q: str, lengths: bool, heads: int, rank: int, turned: int, batch: int, room: int
) -> Any:
    width = rank + turned
    return OPS["latent_decode"].kernel(
        t(q, batch, heads, width), t(q, batch, room, width), i(batch) if lengths else None,
        rank=rank, scale=0.1,
    )  # fmt: skip


def _latent_rotary(
    *, q: str, weight: str, cos: str | None, q_out: bool, row_out: str | None, layout: str,
    heads: int, rank: int, turned: int, length: int, batch: int = 2,
) -> Any:  # fmt: skip
    width, apart, each = rank + turned, layout == "apart", row_out == "positions"
    rows = None if row_out is None else t(q, batch, length + 9, width)
    table = t(cos, length, turned // 2)
    return OPS["latent_rotary"].kernel(
        t(q, batch, length, heads, 128 + turned, apart=apart),
        t(q, batch, length, width, apart=apart), t(weight, rank), table, table, eps=1e-6,
        q_out=t(q, batch, length, heads, width) if q_out else None,
        row_out=rows if rows is None or each else rows[:, 9:],
        positions=i(batch) if each else None,
    )  # fmt: skip


def _grouped(*, rows: str, tokens: int, experts: int, sizes: tuple[int, int], layout: str) -> Any:
    N, K = sizes
    apart = layout == "apart"
    return OPS["grouped_mm"].kernel(
        t(rows, tokens, K, apart=apart), t(rows, experts, N, K, apart=apart), i(experts)
    )


CALLS: dict[str, Callable[..., Any]] = {
    "mamba3_scan": _mamba3_scan,
    "mamba3_step": _mamba3_step,
    "ring_state_update": _ring,
    "attention_decode": _attention,
    "latent_decode": _latent,
    "latent_rotary": _latent_rotary,
    "grouped_mm": _grouped,
}

Calls = Iterator[tuple[str, Callable[[], Any]]]
_BF16 = {"v": "bfloat16", **dict.fromkeys(("a", "dt", "trap", "angles"), "bfloat16")}
_PLAIN = {**_BF16, "z": False, "width": 64, "states": 128, "groups": 1}


def _scans() -> Calls:
    def call(length: int, heads: int, batch: int = 1, ranks: Any = (1, False), **o: Any) -> Any:
        form = _PLAIN | {"ranks": ranks, "z": o.pop("z", False)}
        tokens, options = _mamba3((batch, length), heads=heads, **form)
        return OPS["mamba3_scan"].kernel(*tokens, **options, **o)

    yield "64 heads 4096", lambda: call(4096, 64)
    for length in (256, 1024, 16384, 65536):
        yield f"64 heads {length}", lambda length=length: call(length, 64)
    yield "32 heads, 4 ranks 4096", lambda: call(4096, 32, ranks=(4, True))
    yield "64 heads 4096 x8", lambda: call(4096, 64, 8)
    states = {"initial_state": f(1, _size(32, 1, 128, 64)), "return_final_state": True}
    yield "states", lambda: call(4096, 32, **states)


def _steps() -> Calls:
    def call(batch: int, ranks: Any = (1, False)) -> Any:
        tokens, options = _mamba3((batch,), heads=64, **(_PLAIN | {"ranks": ranks}))
        return OPS["mamba3_step"].kernel(f(batch, _size(64, ranks[0], 128, 64)), *tokens, **options)

    for batch in (1, 8, 64):
        yield f"64 heads x{batch}", lambda batch=batch: call(batch)
    yield "64 heads, 4 ranks x8", lambda: call(8, (4, True))


def _rings() -> Calls:
    def call(batch: int, kind: str, states: int, places: int) -> Any:
        floats = dict.fromkeys(("x", "dt", "B", "C"), "bfloat16")
        wide = dict.fromkeys(("state", "A", "D", "dt_bias"), "float32")
        return _ring(
            **floats, **wide, z=None if kind == "heads" else "bfloat16", dt_softplus=True,
            state_indices=False, overlap=True, kind=kind, places=places, groups=1, states=states,
            batch=batch,
        )  # fmt: skip

    for batch in (8, 1, 64):
        yield f"mamba2 x{batch}", lambda batch=batch: call(batch, "heads", 128, 16)
    yield "mamba1 x8", lambda: call(8, "channels", 16, 4)


def _latents() -> Calls:
    def call(batch: int, heads: int, room: int) -> Any:
        return _latent(
            q="bfloat16", lengths=True, heads=heads, rank=512, turned=64, batch=batch, room=room
        )

    yield "128 heads 1024 x128", lambda: call(128, 128, 1024)
    yield "128 heads 8192", lambda: call(1, 128, 8192)
    yield "16 heads 4096 x8", lambda: call(8, 16, 4096)


def _latent_rotaries() -> Calls:
    def call(batch: int, length: int, heads: int = 16, row_out: str = "rows") -> Any:
        return _latent_rotary(
            q="bfloat16", weight="bfloat16", cos="bfloat16", q_out=length == 1, row_out=row_out,
            layout="dense", heads=heads, rank=512, turned=64, length=length, batch=batch,
        )  # fmt: skip

    yield "16 heads step", lambda: call(1, 1)
    yield "128 heads step x64", lambda: call(64, 1, 128)
    yield "16 heads 4096", lambda: call(1, 4096)
    yield "16 heads step apart x64", lambda: call(64, 1, row_out="positions")


def _products() -> Calls:
    def call(tokens: int) -> Any:
        return _grouped(
            rows="bfloat16", tokens=tokens, experts=128, sizes=(1536, 2048), layout="dense"
        )

    for tokens in (64, 4096, 65536):
        yield f"128 experts {tokens}", lambda tokens=tokens: call(tokens)


SPECIMENS: dict[str, Callable[[], Calls]] = {
    "mamba3_scan": _scans,
    "mamba3_step": _steps,
    "ring_state_update": _rings,
    "latent_decode": _latents,
    "latent_rotary": _latent_rotaries,
    "grouped_mm": _products,
}
