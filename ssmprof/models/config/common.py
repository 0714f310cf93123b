"""What the readers of several families share: keys, and the parts and layers made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard, cast

from msgspec import Struct

from ssmprof import limits
from ssmprof.errors import nearest
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Activation
from ssmprof.models.config.keys import (
    KeyProblem,
    Text,
    agree,
    chosen,
    heads_of,
    shown,
)
from ssmprof.models.config.rotary import Rotary, Turn
from ssmprof.models.recipe import Layer
from ssmprof.scalars import Size

_GATED: dict[str, Activation] = {
    "silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh",
    "gelu_new": "geglu_tanh", "gelu_fast": "geglu_tanh",
}  # fmt: skip
_PLAIN: dict[str, Activation] = {
    "relu2": "relu2", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}  # fmt: skip


Side = str | tuple[str, ...]


class Ends(Struct, frozen=True, kw_only=True):
    """Keys of the width and of both ends of a model without attention."""

    hidden_size: Size
    vocab_size: Size


class Attending(Rotary, frozen=True, kw_only=True):
    """Keys of a model's width, its ends and its attention."""

    hidden_size: Size
    vocab_size: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None

    @property
    def width(self) -> int:
        """Features of a head: those the file gives, or the hidden ones divided by the heads."""
        return self.head_dim or heads_of(self.hidden_size, self.num_attention_heads)


def attention(
    keys: Attending,
    turn: Turn | None,
    *,
    width: int | None = None,
    bias: bool = False,
    window: int | None = None,
    **values: Any,
) -> Attention:
    """Attention of these keys; `turn` None has no positions, `bias` is on all its projections."""
    placed = {"rope_theta": None} if turn is None else {}
    if turn is not None:
        placed = {
            "rope_theta": turn.theta, "rope_dim": turn.dim, "rope_scaling": turn.scaling
        }  # fmt: skip
    both = {"qkv_bias": bias, "out_bias": bias} | placed | values
    return Attention(
        heads=keys.num_attention_heads,
        kv_heads=keys.num_key_value_heads or keys.num_attention_heads,
        head_dim=width or keys.width,
        window=window,
        **cast("dict[str, Any]", both),
    )


def windowed(window: int | None, key: str = "sliding_window") -> int:
    """The window of layers that a file calls sliding."""
    if window is None:
        raise KeyProblem(key, "missing, but there are layers of sliding_attention")
    return window


def gated(act: str, key: str = "hidden_act") -> Activation:
    """The activation of a feed-forward with a gate, by its name in a file."""
    return _activation(act, _GATED, key)


def ungated(act: str, key: str = "hidden_act") -> Activation:
    """The activation of a feed-forward of two matrices, by its name in a file."""
    return _activation(act, _PLAIN, key)


def _activation(act: str, known: dict[str, Activation], key: str) -> Activation:
    if act not in known:
        raise KeyProblem(key, f"unknown {shown(act)}{nearest(act, known)}")
    return known[act]


def steps(layers: Sequence[Side], *, sandwich: bool = False) -> tuple[Layer, ...]:
    """One residual step for each name, or for each group of names that stand side by side."""
    made: dict[Side, Layer] = {}
    for names in layers:
        parts = (names,) if isinstance(names, str) else names
        made.setdefault(names, Layer(parts=parts, sandwich=sandwich))
    return tuple(made[names] for names in layers)


def each_with(mixers: Iterable[Side], after: str, *, sandwich: bool = False) -> tuple[Layer, ...]:
    """Layers of a mixer and, in a residual step of its own, what comes after it."""
    return steps([name for mixer in mixers for name in (mixer, after)], sandwich=sandwich)


class Scanning(Attending, frozen=True, kw_only=True):
    """The `mamba_*` keys that Falcon-H1, Bamba and Granite share, beside those of attention."""

    mamba_n_heads: Size = 128
    mamba_d_head: int | Text | None = "auto"
    mamba_n_groups: Size = 1
    mamba_d_state: Size = 256
    mamba_d_conv: Size = 4
    mamba_expand: Size = 2
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False
    time_step_limit: tuple[Any, ...] | None = None


def scan(keys: Scanning, inner: int | None = None, **values: Any) -> Mamba2:
    """Mamba-2 of `mamba_*` keys, `inner` wide or expand times the model."""
    given, inner = inner, inner or keys.mamba_expand * keys.hidden_size
    heads = keys.mamba_n_heads
    if inner % heads:
        width = "mamba_d_ssm" if given else "mamba_expand * hidden_size"
        raise KeyProblem("mamba_n_heads", f"{heads} does not divide {width} = {inner}")
    headdim = chosen(keys.mamba_d_head, inner // heads, "mamba_d_head")
    agree(headdim * heads, inner, "mamba_d_head * mamba_n_heads", "the inner width")
    return Mamba2(
        d_inner=inner,
        d_state=keys.mamba_d_state,
        headdim=headdim,
        ngroups=keys.mamba_n_groups,
        d_conv=keys.mamba_d_conv,
        conv_bias=keys.mamba_conv_bias,
        proj_bias=keys.mamba_proj_bias,
        dt_limit=step_limit(keys.time_step_limit),
        **values,
    )


def step_limit(limit: tuple[Any, ...] | None) -> tuple[float, float] | None:
    """Bounds of the step size where a file has some: [0, infinity] is none.

    Infinity is null here, or an object as transformers 5 writes it; a step beyond any scale is one.
    """
    if limit is None:
        return None
    low, high = (*limit, None, None)[:2]
    if high is None or isinstance(high, dict) or high == "Infinity":
        high = limits.SCALE
    if len(limit) != 2 or not _number(low) or not _number(high) or not 0 <= low < high:
        raise KeyProblem(
            "time_step_limit", f"expected two growing numbers, got {shown(list(limit))}"
        )
    low, high = float(low), min(float(high), limits.SCALE)
    return None if low == 0 and high == limits.SCALE else (low, high)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
