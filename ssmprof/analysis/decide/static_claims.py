"""Published claims that follow from shapes alone, recomputed: they need no run and no device.

The bytes come from `ssmprof.models`, the same functions that plan a sweep; the few shapes are those
of the named models (models/presets has their sources).
"""

from __future__ import annotations

from collections.abc import Callable

from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import read_table
from ssmprof.records import Point, Prefill
from ssmprof.scalars import Dtype

CLOSE = 0.01  # recomputed values agree with the published ones to the digits printed there

# One letter per sub-layer, as its authors print it: M Mamba-2, * attention, - feed-forward.
_WALEFFE = "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-"


def _attention(heads: int, kv_heads: int, head_dim: int, layers: int = 1) -> Recipe:
    sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    table = {"d_model": heads * head_dim, "layers": f"attention*{layers}", "attention": sizes}
    return read_table("kv", table)


def _mamba2(d_inner: int, groups: int, layers: int, state: Dtype) -> Recipe:
    sizes = {
        "d_inner": d_inner, "d_state": 128, "headdim": 64, "ngroups": groups, "state_dtype": state
    }  # fmt: skip
    table = {"d_model": d_inner // 2, "layers": f"mamba2*{layers}", "mamba2": sizes}
    return read_table("state", table)


def _cache_bytes(block: Recipe, context: int) -> int:
    point = Point(block=block.name, block_digest="", workload=Prefill(context=context))
    return footprint(block, point).cache_bytes


def _kv_per_token(block: Recipe) -> int:
    return _cache_bytes(block, 2) - _cache_bytes(block, 1)


def _close(seen: float, claimed: float) -> bool:
    return abs(seen / claimed - 1) <= CLOSE


QWEN = _attention(14, 2, 64, layers=24)  # qwen2.5-0.5b
LLAMA_1B = _attention(32, 8, 64, layers=16)  # llama-3.2-1b
LLAMA_8B_LAYER = _attention(32, 8, 128)
NEMOTRON_LAYER = _mamba2(8192, 8, 1, "bfloat16")


def _layer_mix() -> tuple[str, bool]:
    shares = [_WALEFFE.count(letter) / len(_WALEFFE) for letter in "M*-"]
    holds = all(abs(s - c) < 0.005 for s, c in zip(shares, (0.43, 0.07, 0.50), strict=True))
    return ", ".join(f"{share:.1%}" for share in shares), holds


def _attention_fractions() -> tuple[str, bool]:
    # Attention layers of all layer positions: Waleffe hybrid, Nemotron-H-56B, Jamba-1.5-Large.
    shares = (_WALEFFE.count("*") / len(_WALEFFE), 10 / 118, 9 / 72)
    holds = all(abs(s - c) < 0.006 for s, c in zip(shares, (0.07, 0.08, 0.12), strict=True))
    return ", ".join(f"{share:.1%}" for share in shares) + " of layer positions", holds


def _kilobytes_and_megabytes() -> tuple[str, bool]:
    kv, state = _kv_per_token(LLAMA_8B_LAYER), _cache_bytes(NEMOTRON_LAYER, 1)
    holds = _close(kv, 4 * 2**10) and _close(state, 2.08 * 2**20)
    return f"{kv / 2**10:.2f} KiB per token, {state / 2**20:.2f} MiB per state", holds


def _state_in_tokens() -> tuple[str, bool]:
    tokens = [
        _cache_bytes(_mamba2(3072, 1, 48, state), 1) / _kv_per_token(QWEN)  # mamba2-780m
        for state in ("bfloat16", "float32")
    ]
    holds = _close(tokens[0], 3176) and _close(tokens[1], 6248)
    return f"{tokens[0]:.0f} tokens (16 bits), {tokens[1]:.0f} (32 bits)", holds


def _kv_of_models() -> tuple[str, bool]:
    seen = _kv_per_token(QWEN), _kv_per_token(LLAMA_1B)
    return f"{seen[0]:,} and {seen[1]:,} bytes per token", seen == (12_288, 32_768)


# Claim -> (what is recomputed, whether it agrees).
CHECKS: dict[str, Callable[[], tuple[str, bool]]] = {
    "waleffe-layer-mix": _layer_mix,
    "attention-fractions": _attention_fractions,
    "kv-kilobytes-state-megabytes": _kilobytes_and_megabytes,
    "state-vs-kv-tokens": _state_in_tokens,
    "scope-kv-per-token": _kv_of_models,
}
