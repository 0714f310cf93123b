"""Blocks as formats 1 and 2 wrote them -> recipes, and their runs under the digests of today.

A block then was a pattern of sub-layers repeated `depth` times, with one table of sizes for all
attention, one for all states and one for all MLPs; what stood side by side was averaged.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from ssmprof import limits
from ssmprof.records import Decision, Outcome, Run
from ssmprof.scalars import digest

LAST = 2  # the last format that wrote them
_Pattern = Annotated[tuple[str | tuple[str, ...], ...], Meta(max_length=limits.LAYERS)]


class _State(Struct, forbid_unknown_fields=True):
    d_inner: int
    d_state: int
    d_conv: int = 4
    headdim: int = 64
    ngroups: int = 1
    dt_rank: int | None = None
    gated_norm: bool = True
    state_dtype: str = "float32"


class _Mlp(Struct, forbid_unknown_fields=True):
    d_ff: int
    kind: Literal["swiglu", "gelu", "relu2"] = "swiglu"


class _Block(Struct, tag="block", forbid_unknown_fields=True):
    name: str
    pattern: _Pattern
    depth: Annotated[int, Meta(ge=1, le=limits.LAYERS)]
    d_model: int
    attention: dict[str, Any] | None = None
    state: _State | None = None
    mlp: _Mlp | None = None
    vocab: int | None = None
    tie_embeddings: bool = True
    providers: dict[str, str] = {}
    preset: str | None = None


# Sizes of a state that only one of the two kinds has.
_ONLY = {"mamba1": ("dt_rank",), "mamba2": ("headdim", "ngroups", "gated_norm")}


def scenario(plain: dict[str, Any]) -> dict[str, Any]:
    """The plain values of a scenario, its blocks as recipes. Raises msgspec.ValidationError."""
    blocks = cast("list[Any]", plain.get("blocks") or [])
    return {**plain, "blocks": [_recipe(block) for block in blocks]}


def _recipe(plain: object) -> object:
    if not isinstance(plain, dict) or cast("dict[str, object]", plain).get("type") != "block":
        return cast("object", plain)  # a model that is not ours, or what the decoder will refuse
    block = msgspec.convert(plain, _Block)
    if len(block.pattern) * block.depth > limits.LAYERS:
        raise msgspec.ValidationError(f"more than {limits.LAYERS:,} layers")
    entries = [(one,) if isinstance(one, str) else one for one in block.pattern]
    layers = [
        {"parts": names, **({"merge": "mean"} if len(names) > 1 else {})} for names in entries
    ]
    used = dict.fromkeys(name for names in entries for name in names)
    kept = {
        name: getattr(block, name) for name in ("vocab", "tie_embeddings", "providers", "preset")
    }
    return {
        "type": "recipe",
        "name": block.name,
        "d_model": block.d_model,
        "parts": {name: _part(block, name) for name in used},
        "layers": layers * block.depth,
        **kept,
    }


def _part(block: _Block, name: str) -> dict[str, Any]:
    if name == "attention":
        return {"kind": name, **(block.attention or {})}
    if name == "mlp":
        sizes = {} if block.mlp is None else {"d_ff": block.mlp.d_ff, "act": block.mlp.kind}
        return {"kind": name, **sizes}
    others = {key for kind, keys in _ONLY.items() if kind != name for key in keys}
    sizes: dict[str, Any] = {} if block.state is None else msgspec.to_builtins(block.state)
    return {"kind": name, **{key: value for key, value in sizes.items() if key not in others}}


def named_anew(run: Run) -> Run:
    """The run with every block under the digest that it has today."""
    digests = {block.name: digest(block) for block in run.scenario.blocks}
    return replace(
        run,
        outcomes=tuple(_outcome(one, digests) for one in run.outcomes),
        decisions=tuple(_decision(one, digests) for one in run.decisions),
    )


def _outcome(one: Outcome, digests: dict[str, str]) -> Outcome:
    point = one.point
    name = digests.get(point.block, point.block_digest)
    return replace(one, point=replace(point, block_digest=name))


def _decision(one: Decision, digests: dict[str, str]) -> Decision:
    return replace(one, block_digest=digests.get(one.block, one.block_digest))
