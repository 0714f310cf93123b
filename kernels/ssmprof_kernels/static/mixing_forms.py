"""Forms and specimens of what stands around RWKV-7's rule, and of the squared rectifier.

As `forms` and `specimens`, which hand out what stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ssmprof_kernels import OPS
from ssmprof_kernels.static.empty import FLOATS, MAYBE, SWITCH, t

AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "token_shift": {
        "x": FLOATS,
        "mix": FLOATS,
        "last": FLOATS,
        "resumed": SWITCH,
        "mixes": (6, None),
        "layout": ("dense", "apart"),
        "length": (4096, None),
        "width": (2048, 100),
    },
    "rwkv7_keys": {
        "k": FLOATS,
        "w": FLOATS,
        "removed": FLOATS,
        "share": MAYBE,
        "layout": ("dense", "apart"),
        "length": (4096, None),
        "heads": (32, 3),
        "width": (64, 48, 128),
    },
    "rwkv7_output": {
        "y": FLOATS,
        "r": FLOATS,
        "weight": FLOATS,
        "bias": MAYBE,
        "layout": ("dense", "apart"),
        "length": (4096, None),
        "heads": (32, 3),
        "width": (64, 48, 128),
    },
    "relu2": {"hidden": FLOATS},
}
WITH: dict[str, dict[str, str]] = {
    "token_shift": {},
    "rwkv7_keys": {
        "a": "w", "v": "k", "v_first": "share", "added": "removed", "lowest": "w",
    },
    "rwkv7_output": {"k": "r", "v": "r", "gate": "r", "bonus": "weight", "eps": "weight"},
    "relu2": {},
}  # fmt: skip


def _lead(length: int | None) -> tuple[int, ...]:
    """Sequences and tokens; one token each without a length."""
    return (1,) if length is None else (1, length)


def _shift(
    *, x: str, mix: str, last: str, resumed: bool, mixes: int | None, layout: str,
    length: int | None, width: int,
) -> Any:  # fmt: skip
    factors = () if mixes is None else (mixes,)
    return OPS["token_shift"].kernel(
        t(x, *_lead(length), width, apart=layout == "apart"), t(mix, *factors, width),
        t(last, 1, width), resumed=resumed,
    )  # fmt: skip


def _keys(
    *, k: str, w: str, removed: str, share: str | None, layout: str, length: int | None,
    heads: int, width: int,
) -> Any:  # fmt: skip
    shape, factor = (*_lead(length), heads * width), t(removed, heads * width)
    key, logits = t(k, *shape, apart=layout == "apart"), t(w, *shape)
    return OPS["rwkv7_keys"].kernel(
        logits, key, logits, key, factor, factor, v_first=t(share, *shape),
        share=t(share, *shape), heads=heads, lowest=-0.6,
    )  # fmt: skip


def _output(
    *, y: str, r: str, weight: str, bias: str | None, layout: str, length: int | None, heads: int,
    width: int,
) -> Any:  # fmt: skip
    shape, size, apart = (*_lead(length), heads, width), heads * width, layout == "apart"
    other = t(r, *shape, apart=apart)
    return OPS["rwkv7_output"].kernel(
        t(y, *shape, apart=apart), other, other, other, t(r, *_lead(length), size),
        t(weight, size), t(weight, size), bias=t(bias, size), eps=1e-5,
    )  # fmt: skip


def _relu2(*, hidden: str) -> Any:
    return OPS["relu2"].kernel(t(hidden, 64, 8192))


CALLS: dict[str, Callable[..., Any]] = {
    "token_shift": _shift,
    "rwkv7_keys": _keys,
    "rwkv7_output": _output,
    "relu2": _relu2,
}

Calls = Iterator[tuple[str, Callable[[], Any]]]
_LENGTHS = (("1.5b 4096", 4096), ("1.5b x1", None))


def _shifts() -> Calls:
    floats = dict.fromkeys(("x", "mix", "last"), "bfloat16")
    for label, length in _LENGTHS:
        yield (
            label,
            lambda length=length: _shift(
                **floats, resumed=length is None, mixes=6, layout="dense", length=length, width=2048
            ),
        )
    yield (
        "channel mix",
        lambda: _shift(
            **floats, resumed=False, mixes=None, layout="dense", length=4096, width=2048
        ),
    )


def _all_keys() -> Calls:
    floats = dict.fromkeys(("k", "w", "removed", "share"), "bfloat16")
    for label, length in _LENGTHS:
        yield (
            label,
            lambda length=length: _keys(
                **floats, layout="dense", length=length, heads=32, width=64
            ),
        )


def _outputs() -> Calls:
    floats = dict.fromkeys(("y", "r", "weight", "bias"), "bfloat16")
    for label, length in _LENGTHS:
        yield (
            label,
            lambda length=length: _output(
                **floats, layout="dense", length=length, heads=32, width=64
            ),
        )


def _rectifiers() -> Calls:
    yield "8192", lambda: _relu2(hidden="bfloat16")


SPECIMENS: dict[str, Callable[[], Calls]] = {
    "token_shift": _shifts,
    "rwkv7_keys": _all_keys,
    "rwkv7_output": _outputs,
    "relu2": _rectifiers,
}
