"""What is measured: the workload of one call, its named axes and the conditions it holds under."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ssmprof.records.base import Record
from ssmprof.scalars import Dtype, Execution, Logits, Phase, StoredDtype, digest_of
from ssmprof.units import format_context

Axis = Literal["context", "batch"]
Tokens = Annotated[int, Meta(ge=1)]


class _Workload(Record, frozen=True, kw_only=True, tag_field="phase"):
    """What one call does; its tag is the phase."""

    context: Tokens


class Prefill(_Workload, frozen=True, kw_only=True, tag="prefill"):
    """One call reads `context` tokens of every sequence; with `chunk` the last so many of them.

    The tokens before a chunk stand in the cache already. A prompt no longer than a chunk is read
    whole.
    """

    chunk: Tokens | None = None


class Decode(_Workload, frozen=True, kw_only=True, tag="decode"):
    """One call makes one token of every sequence, after `context` tokens."""


Workload = Prefill | Decode
WORKLOADS: dict[Phase, type[Prefill] | type[Decode]] = {"prefill": Prefill, "decode": Decode}


class Conditions(Record, frozen=True, kw_only=True):
    """What holds along a curve: all of a point but its contender and its swept axes.

    Contenders may be compared only under equal conditions. A swept axis is None (the context, as a
    rule). `weights_dtype` and `cache_dtype` are `dtype` unless something else was asked for;
    `state_dtype` is None where each contender keeps its recurrent state as it is built.
    """

    device: str
    phase: Phase
    batch: int | None
    context: int | None = None
    dtype: Dtype
    execution: Execution
    logits: Logits
    weights_dtype: StoredDtype
    cache_dtype: StoredDtype
    state_dtype: StoredDtype | None = None
    chunk: int | None = None

    @property
    def reads_whole(self) -> bool:
        """Whether a prefill reads its whole context: only then is its time that of a prompt."""
        return self.phase == "prefill" and self.chunk is None

    def call_tokens(self, context: int) -> int:
        """Tokens of one call at a context, those of all its sequences."""
        each = 1 if self.phase == "decode" else min(context, self.chunk or context)
        return (self.batch or 1) * each

    def label(self) -> str:
        """`prefill, batch 1, bfloat16, graph`; what is unusual is named behind."""
        head = "" if self.logits == "none" else f", {self.logits} logits"
        batch = "" if self.batch is None else f", batch {self.batch}"
        context = "" if self.context is None else f", {format_context(self.context)} tokens"
        fixed = f"{batch}{context}, {self.dtype}, {self.execution}{head}"
        chunk = "" if self.chunk is None else f" in chunks of {self.chunk:,}"
        return f"{self.phase}{chunk}{fixed}{self._stored()}"

    def _stored(self) -> str:
        stored = (
            ("weights", self.weights_dtype, self.dtype),
            ("cache", self.cache_dtype, self.dtype),
            ("state", self.state_dtype, None),
        )
        return "".join(f", {what} {found}" for what, found, usual in stored if found != usual)

    def order(self) -> tuple[object, ...]:
        """A fixed order of conditions: prefill before decode, then graphs, then small batches."""
        return (
            self.device,
            self.phase != "prefill",
            self.execution != "graph",
            self.batch or 0,
            self.context or 0,
            self.dtype,
            self.logits,
            self.weights_dtype,
            self.cache_dtype,
            self.state_dtype or "",
            self.chunk or 0,
        )


class Point(Record, frozen=True, kw_only=True, gc=True, dict=True):
    """One thing to measure. `key` is the same on every machine."""

    block: str
    block_digest: str
    workload: Workload
    batch: int = 1
    dtype: Dtype = "bfloat16"
    weights_dtype: StoredDtype | None = None
    cache_dtype: StoredDtype | None = None
    state_dtype: StoredDtype | None = None
    seed: int = 0
    execution: Execution = "graph"
    logits: Logits = "none"

    @property
    def phase(self) -> Phase:
        """The kind of the workload."""
        return "prefill" if isinstance(self.workload, Prefill) else "decode"

    @property
    def context(self) -> int:
        """Tokens that are read when the call ends (prefill), or that it follows (decode)."""
        return self.workload.context

    @property
    def chunk(self) -> int | None:
        """Tokens of a chunk of a prompt; None where prompts are read whole."""
        return self.workload.chunk if isinstance(self.workload, Prefill) else None

    @property
    def tokens(self) -> int:
        """Tokens that the call reads of each sequence."""
        if not isinstance(self.workload, Prefill):
            return 1
        return min(self.context, self.workload.chunk or self.context)

    @property
    def past(self) -> int:
        """Tokens of each sequence that the cache holds when the call begins."""
        return self.context - self.tokens if self.phase == "prefill" else self.context

    @property
    def axes(self) -> dict[Axis, int]:
        """The numbers that a sweep may vary, by name."""
        return {"context": self.workload.context, "batch": self.batch}

    @cached_property
    def key(self) -> str:
        """12 hex digits that name the point, the same in every release.

        Fields at their default are left out, so that a new field keeps old keys.
        """
        fields: dict[str, Any] = msgspec.to_builtins(self)
        head = {name: fields.pop(name) for name in ("block", "block_digest")}
        return digest_of({**head, **fields.pop("workload"), **fields})

    def conditions(self, device: str = "", swept: tuple[Axis, ...] = ("context",)) -> Conditions:
        """What holds along the curve (over `swept`) that this point lies on."""
        return Conditions(
            device=device,
            phase=self.phase,
            batch=None if "batch" in swept else self.batch,
            context=None if "context" in swept else self.context,
            dtype=self.dtype,
            execution=self.execution,
            logits=self.logits,
            weights_dtype=self.weights_dtype or self.dtype,
            cache_dtype=self.cache_dtype or self.dtype,
            state_dtype=self.state_dtype,
            chunk=self.chunk,
        )

    def label(self) -> str:
        """`mamba2 prefill 8K b1 graph`, for progress lines and messages."""
        at = format_context(self.context)
        return f"{self.block} {self.phase} {at} b{self.batch} {self.execution}"
