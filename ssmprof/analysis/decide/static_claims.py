"""Published claims that follow from shapes and data sheets, recomputed: they need no run.

The bytes come from `ssmprof.models`, the same functions that plan a sweep; the few shapes are those
of the named models (models/presets has their sources). Bandwidths are those of data sheets
(`ssmprof.chips`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from ssmprof.chips import chips
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.delta.shape import GatedDelta
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.models.cost import weight_bytes, weights
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import read_table
from ssmprof.models.zoo import preset
from ssmprof.records import Point, Prefill
from ssmprof.scalars import STORED_BITS, Dtype, StoredDtype, stored_bytes

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


_LEAST_TOKENS = 16  # of a block of vLLM, which is a multiple of it


class _Layers(NamedTuple):
    """Layers with keys and with states, and bytes of one: of a token's keys, of a state."""

    keys: int
    states: int
    token_bytes: int
    state_bytes: int


def layers_of(block: Recipe) -> _Layers:
    parts = [part for _, part in block.used()]
    keys = sum(isinstance(part, Attention) for part in parts)
    states = sum(isinstance(part, Mamba2 | GatedDelta) for part in parts)
    token = _kv_per_token(block)
    state = _cache_bytes(block, 1) - token
    return _Layers(keys, states, token // keys, state // states if states else 0)


def block_tokens(of: _Layers, keys: StoredDtype = "bfloat16") -> int:
    """Tokens of a block in vLLM: as many as fill the page that one state needs."""
    token = of.token_bytes * STORED_BITS[keys] // 16
    return _LEAST_TOKENS * max(1, -(-of.state_bytes // (_LEAST_TOKENS * token)))


def _sequence_bytes(of: _Layers, context: int, keys: StoredDtype) -> int:
    """Pages of one sequence: those of its tokens in each layer with keys, one of each state."""
    block = block_tokens(of, keys)
    page = block * of.token_bytes * STORED_BITS[keys] // 16
    return page * (of.keys * -(-context // block) + of.states)


def _block_edge() -> tuple[str, bool]:
    block = block_tokens(layers_of(preset("qwen3.5-9b")))
    # The last token of a prompt is always computed.
    reused = {prompt: (prompt - 1) // block * block / prompt for prompt in (552, 479)}
    shares = ", ".join(f"{share:.0%} of {prompt} reused" for prompt, share in reused.items())
    holds = block == 528 and abs(reused[552] - 0.95) <= CLOSE and not reused[479]
    return f"{block} tokens a block; {shares}", holds


def _eight_bit_keys() -> tuple[str, bool]:
    hybrid, transformer = layers_of(preset("falcon-h1-0.5b")), layers_of(LLAMA_1B)
    gains = [
        _sequence_bytes(of, context, "bfloat16") / _sequence_bytes(of, context, "float8")
        for of, context in ((hybrid, 32_768), (hybrid, 512), (transformer, 32_768))
    ]
    holds = all(_close(gain, claimed) for gain, claimed in zip(gains, (1.84, 1, 2), strict=True))
    long, short, plain = (f"{gain:.2f}x" for gain in gains)
    return f"hybrid {long} at 32K, {short} at 512; transformer {plain}", holds


def _share_of_bandwidth() -> tuple[str, bool]:
    peak = chips()["rtx-5090"].mem_bandwidth_bytes_per_s.value
    windows, linux = (15.65 * 2**30 * rate / peak for rate in (30.09, 81.82))
    holds = abs(windows - 0.28) <= CLOSE and abs(linux - 0.76) <= CLOSE
    return f"RTX 5090: {windows:.0%} under Windows, {linux:.0%} under Linux", holds


def _quantised_on_a_board() -> tuple[str, bool]:
    """What bytes allow; weights that are looked up, not multiplied by, are not read."""
    whole, eight = (_read_bytes(preset("mamba-2.8b"), dtype) for dtype in ("float16", "int8"))
    peak = chips()["orin-nano-8gb"].mem_bandwidth_bytes_per_s.value
    most = peak / _read_bytes(preset("waleffe-mamba2-8b"), "int4")
    here = f"bytes allow {whole / eight:.2f}x and {most:.0f} tokens/s at {peak / 1e9:.0f} GB/s"
    return here, whole / eight >= 1.7 and most >= 13


def _read_bytes(block: Recipe, dtype: StoredDtype) -> int:
    found = sum(weight_bytes(weight, dtype) for weight in weights(block))
    if block.vocab is None or block.tie_embeddings:
        return found
    return found - stored_bytes(block.vocab * block.d_model, dtype)


# Claim -> (what is recomputed, whether it agrees).
CHECKS: dict[str, Callable[[], tuple[str, bool]]] = {
    "waleffe-layer-mix": _layer_mix,
    "attention-fractions": _attention_fractions,
    "kv-kilobytes-state-megabytes": _kilobytes_and_megabytes,
    "state-vs-kv-tokens": _state_in_tokens,
    "scope-kv-per-token": _kv_of_models,
    "prefix-block-edge": cache(_block_edge),
    "fp8-keys-hybrid": cache(_eight_bit_keys),
    "decode-bandwidth-share": _share_of_bandwidth,
    "quamba-orin": cache(_quantised_on_a_board),
}
