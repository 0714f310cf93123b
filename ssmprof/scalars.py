"""The bounded scalar types that values are made of, and the digest that names a value.

Sizes are elements unless the name says bytes; contexts are tokens; durations are seconds.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from ssmprof import limits

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
Strategy = Literal["grid", "decide", "dense", "surface"]
Architecture = Literal["transformer", "ssm", "hybrid"]

DTYPE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
STORED_BITS: dict[StoredDtype, int] = {
    "bfloat16": 16, "float16": 16, "float32": 32, "float8": 8, "int8": 8, "int4": 4,
}  # fmt: skip


class Value(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all specs: immutable, strict about unknown keys, silent about defaults."""


def digest(spec: Struct) -> str:
    """12 hex digits that name a spec: equal on every machine and in every release.

    Fields at their default are left out, so a new field with a default keeps old digests.
    """
    return digest_of(spec)


def digest_of(value: Struct | dict[str, Any]) -> str:
    """12 hex digits of a value as JSON; keys of a table in it count in their order."""
    data = msgspec.json.encode(value, order=None if isinstance(value, dict) else "deterministic")
    return hashlib.sha256(data).hexdigest()[:12]


def window_dtype(kept: StoredDtype) -> StoredDtype:
    """Of windows of convolutions where keys and values are kept so: dtypes of 8 bits and fewer are
    for keys and values alone, as in vLLM (`mamba_cache_dtype` is an option of its own)."""
    return kept if STORED_BITS[kept] >= 16 else "bfloat16"


def stored_bytes(elements: int, dtype: StoredDtype) -> int:
    """Bytes of so many elements, the last byte begun counted whole."""
    return -(-elements * STORED_BITS[dtype] // 8)
