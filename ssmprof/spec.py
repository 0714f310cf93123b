"""What can be asked: the blocks, the axes and the budget of a sweep, as frozen values.

`planning.scenario` decodes TOML into these; presets and `config.json` files are resolved before, so
a spec is complete in itself and its digest names what was measured. Sizes are elements unless the
name says bytes; contexts are tokens; durations are seconds.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from ssmprof import limits
from ssmprof.errors import nearest

# No control characters: a name is printed on terminals and stands in file names.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*(?![\s\S])"

Size = Annotated[int, Meta(ge=1, le=limits.WIDTH)]
Tokens = Annotated[int, Meta(ge=1, le=limits.CONTEXT_TOKENS)]
Batch = Annotated[int, Meta(ge=1, le=limits.BATCH)]
Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARACTERS, pattern=_PRINTABLE)]
Seconds = Annotated[float, Meta(gt=0, le=limits.SECONDS)]
Phase = Literal["prefill", "decode"]
Execution = Literal["graph", "eager"]
Logits = Literal["none", "last", "all"]
Dtype = Literal["bfloat16", "float16", "float32"]  # a call computes in one of these
# Weights, caches and states may be kept in fewer bits; such bytes are counted, not yet run.
StoredDtype = Literal["bfloat16", "float16", "float32", "float8", "int8", "int4"]
Strategy = Literal["grid", "decide"]
Architecture = Literal["transformer", "ssm", "hybrid"]

DTYPE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
STORED_BITS: dict[StoredDtype, int] = {
    "bfloat16": 16, "float16": 16, "float32": 32, "float8": 8, "int8": 8, "int4": 4,
}  # fmt: skip
# Sub-layers that mix tokens, and whether their memory grows with the context.
MIXERS: dict[str, Literal["attention", "state"]] = {
    "attention": "attention",
    "mamba1": "state",
    "mamba2": "state",
}
SUBLAYERS: tuple[str, ...] = (*MIXERS, "mlp")


class _Spec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all specs: immutable, strict about unknown keys, silent about defaults."""


class AttentionSpec(_Spec, frozen=True, kw_only=True):
    """Attention; `kv_heads < heads` is grouped-query, `window` limits how far it looks.

    `rope_theta` is the base of the rotary embedding; None means no positional embedding at all.
    """

    heads: Size
    kv_heads: Size
    head_dim: Size
    qkv_bias: bool = False
    rope_theta: Annotated[float, Meta(gt=0, le=limits.ROPE_BASE)] | None = 10_000.0
    window: Tokens | None = None


class StateSpec(_Spec, frozen=True, kw_only=True):
    """A selective state space mixer (Mamba-1: arXiv:2312.00752, Mamba-2: arXiv:2405.21060).

    `headdim` and `ngroups` belong to Mamba-2 and `dt_rank` to Mamba-1; `state_dtype` is the dtype
    of the recurrent state kept between tokens.
    """

    d_inner: Size
    d_state: Size
    d_conv: Annotated[int, Meta(ge=2, le=4)] = 4
    headdim: Size = 64
    ngroups: Size = 1
    dt_rank: Size | None = None
    gated_norm: bool = True
    state_dtype: Dtype = "float32"

    @property
    def nheads(self) -> int:
        """Heads of a Mamba-2 mixer."""
        return self.d_inner // self.headdim


class MlpSpec(_Spec, frozen=True, kw_only=True):
    """Feed-forward sub-layer: `swiglu` has three matrices of (d_model, d_ff), the others two.

    `relu2` is the squared rectifier of Nemotron-H.
    """

    d_ff: Size
    kind: Literal["swiglu", "gelu", "relu2"] = "swiglu"


class BlockSpec(_Spec, frozen=True, kw_only=True, tag="block"):
    """A stack of layers: `pattern` of sub-layers, repeated `depth` times.

    An entry of the pattern is one sub-layer (`"mamba2"`) or several side by side on the same
    input, whose outputs are averaged (`("attention", "mamba2")`). Each entry is pre-normed and
    residual. `vocab` None means layers only: no embedding and no head. `providers` forces the
    implementation of an op (`{"ssd_scan": "reference"}`); otherwise the strongest available runs.
    """

    name: Name
    pattern: Annotated[tuple[str | tuple[str, ...], ...], Meta(max_length=limits.LAYERS)]
    depth: Annotated[int, Meta(ge=1, le=limits.LAYERS)]
    d_model: Size
    attention: AttentionSpec | None = None
    state: StateSpec | None = None
    mlp: MlpSpec | None = None
    vocab: Size | None = None
    tie_embeddings: bool = True
    providers: dict[str, str] = {}
    preset: str | None = None

    @property
    def sublayers(self) -> tuple[str, ...]:
        """Every sub-layer of one repetition of the pattern, side by side ones flattened."""
        return tuple(
            name
            for entry in self.pattern
            for name in ((entry,) if isinstance(entry, str) else entry)
        )

    @property
    def architecture(self) -> Architecture:
        """Which kind of contender this is, by its token mixers."""
        kinds = {MIXERS[name] for name in self.sublayers if name in MIXERS}
        if kinds == {"attention"}:
            return "transformer"
        return "ssm" if kinds == {"state"} else "hybrid"

    def count(self, sublayer: str) -> int:
        """How many sub-layers of this kind the whole stack holds."""
        return self.sublayers.count(sublayer) * self.depth


class ForeignSpec(_Spec, frozen=True, kw_only=True, tag="foreign"):
    """A model that is not ours: `hf:FOLDER/config.json`, `module:function` or `/path.py:function`.

    Only the command line can name one, since building it runs its code.
    """

    name: Name
    factory: Name
    architecture: Architecture = "transformer"


Subject = BlockSpec | ForeignSpec


class Refine(_Spec, frozen=True, kw_only=True):
    """Extra contexts bisected around a crossover until it is known to `tolerance` (ratio)."""

    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    max_extra: Annotated[int, Meta(ge=0, le=limits.EXTRA_CONTEXTS)] = 16


class Sweep(_Spec, frozen=True, kw_only=True):
    """The axes: every combination is a point.

    `weights_dtype` and `cache_dtype` are `dtype`, and `state_dtype` is what the block says, unless
    something else is asked for; bytes of those are counted, calls with them refused. Beyond
    `eager_up_to` tokens eager calls are left out where graphs are asked for as well: a long call
    hides its launches, and the time is better spent elsewhere. `strategy` says what is measured:
    the `grid` of all combinations, or what it takes to `decide` who wins where.
    """

    contexts: Annotated[tuple[Tokens, ...], Meta(min_length=1, max_length=limits.CONTEXTS)]
    batch: Annotated[tuple[Batch, ...], Meta(min_length=1, max_length=limits.CONTEXTS)] = (1,)
    phase: Annotated[tuple[Phase, ...], Meta(min_length=1, max_length=2)] = ("prefill",)
    dtype: Dtype = "bfloat16"
    weights_dtype: StoredDtype | None = None
    cache_dtype: StoredDtype | None = None
    state_dtype: StoredDtype | None = None
    execution: Annotated[tuple[Execution, ...], Meta(min_length=1, max_length=2)] = (
        "graph",
        "eager",
    )
    eager_up_to: Tokens | None = None
    logits: Logits = "none"
    refine: Refine | None = None
    strategy: Strategy = "grid"


class Budget(_Spec, frozen=True, kw_only=True):
    """How long and how precisely to measure. Durations in seconds, noise and tie as ratios.

    Contenders that differ by less than `tie` are equal for whoever decides.
    """

    rounds: Annotated[int, Meta(ge=1, le=limits.ROUNDS)] = 5
    min_samples: Annotated[int, Meta(ge=1, le=limits.SAMPLES)] = 10
    min_time_s: Annotated[float, Meta(ge=0, le=limits.SECONDS)] = 0.5
    max_noise: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    point_s: Seconds = 10.0
    timeout_s: Seconds = 180.0
    sweep_s: Seconds | None = None
    tie: Annotated[float, Meta(gt=0, lt=1)] = 0.02


class Passes(_Spec, frozen=True, kw_only=True):
    """Which passes run beside latency, apart from it since instruments disturb each other.

    `memory="fresh"` takes the peak in a worker that has run nothing else, once per point;
    `"block"` reuses the block's worker, which is good for the allocated peak only. `cap_bytes`
    limits torch's allocator, as on a smaller card; times under it say nothing about that card.
    """

    parts: bool = True
    memory: Literal["off", "block", "fresh"] = "fresh"
    energy: bool = False
    host: bool = False
    cupti: bool = True
    cap_bytes: Annotated[int, Meta(ge=1, le=limits.BYTES)] | None = None


class Scenario(_Spec, frozen=True, kw_only=True):
    """One question, its contenders and how to answer it."""

    name: Name
    question: Annotated[str, Meta(max_length=limits.TEXT_CHARACTERS)]
    sweep: Sweep
    blocks: Annotated[
        tuple[BlockSpec | ForeignSpec, ...], Meta(min_length=1, max_length=limits.BLOCKS)
    ]
    budget: Budget = Budget()
    passes: Passes = Passes()
    device: Literal["any", "cuda", "cpu"] = "any"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0  # what torch and random both take


def digest(spec: Struct) -> str:
    """12 hex digits that name a spec: equal on every machine and in every release.

    Fields at their default are left out, so a new field with a default keeps old digests.
    """
    return digest_of(spec)


def digest_of(value: Struct | dict[str, Any]) -> str:
    """12 hex digits of a value as JSON; keys of a table in it count in their order."""
    data = msgspec.json.encode(value, order=None if isinstance(value, dict) else "deterministic")
    return hashlib.sha256(data).hexdigest()[:12]


# Sub-layer -> the table of sizes it needs.
_SIZES = {name: "attention" if kind == "attention" else "state" for name, kind in MIXERS.items()}
_SIZES["mlp"] = "mlp"


def check_block(block: BlockSpec) -> tuple[str, str] | None:
    """The first inconsistency of a block as (key, problem), or None."""
    for name in block.sublayers:
        if name not in SUBLAYERS:
            return "pattern", f'unknown sub-layer "{name[:40]}"{nearest(name, SUBLAYERS)}'
    for name in block.sublayers:
        key = _SIZES[name]
        if getattr(block, key) is None:
            return key, f'missing; the pattern holds "{name}", whose sizes stand in [{key}]'
    if not block.pattern or not all(block.pattern):
        return "pattern", "empty; name at least one sub-layer"
    attention, state = block.attention, block.state
    if attention is not None and attention.heads % attention.kv_heads:
        return "attention.kv_heads", f"{attention.kv_heads} does not divide {attention.heads} heads"
    if attention is not None and attention.head_dim % 2:
        return "attention.head_dim", f"{attention.head_dim} is odd; rotary embedding turns pairs"
    if state is not None and "mamba2" in block.sublayers:
        if state.d_inner % state.headdim:
            return "state.headdim", f"{state.headdim} does not divide d_inner = {state.d_inner}"
        if state.nheads % state.ngroups:
            return "state.ngroups", f"{state.ngroups} does not divide {state.nheads} heads"
    return None


def check_scenario(scenario: Scenario) -> tuple[str, str] | None:
    """The first inconsistency of a scenario as (key, problem), or None."""
    seen: set[str] = set()
    for position, block in enumerate(scenario.blocks):
        where = f"blocks[{position}]"
        if block.name in seen:
            return f"{where}.name", f'"{block.name}" is taken; give each block its name'
        seen.add(block.name)
        problem = check_block(block) if isinstance(block, BlockSpec) else None
        if problem:
            return f"{where}.{problem[0]}", problem[1]
    axes = scenario.sweep
    points = len(axes.contexts) * len(axes.batch) * len(axes.phase) * len(axes.execution)
    points *= len(scenario.blocks) * scenario.budget.rounds
    if points > limits.POINTS:
        return "sweep", f"{points:,} points, all rounds counted; at most {limits.POINTS:,}"
    return None
