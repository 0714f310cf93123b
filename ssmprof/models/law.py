"""Peak memory of a Hugging Face style prefill that keeps the logits of every position.

This is how the memory curves of SSM-Scope (arXiv:2507.12442) came about: one forward over the whole
prompt, batch 1, 16-bit weights. The law follows from shapes alone and reproduces the published rows
(from 512 tokens on, within 0.1 %); it shows that logits and a materialised mask, not the KV cache,
set those curves. `peak = weights + constant + max(logits path, mask path)`.
"""

from __future__ import annotations

from msgspec import Struct

from ssmprof.errors import ConfigError, nearest
from ssmprof.models.footprint import MIB, allocated


class LawModel(Struct, frozen=True, kw_only=True):
    """Shapes the law needs, of a model in 16 bits.

    `vocab` is the rows of the head really stored; `logit_copies` is how many copies of the logits
    live at once; `kv_width` is kv_heads * head_dim; `constant_mib` holds the matmul workspace
    (8.125 MiB, 32 on compute capability 9.0) and the rounding of the parameters. `mask_from` is the
    length from which a dense (L, L) mask was built (transformers up to 4.52 with a sliding window
    in the configuration and a mask passed), None for never.
    """

    parameters: int
    vocab: int
    d_model: int
    constant_mib: float
    logit_copies: int = 1
    attention_layers: int = 0
    kv_width: int = 0
    mask_from: int | None = None


class LawPeak(Struct, frozen=True, kw_only=True):
    """Bytes at the peak by owner; `mask_bytes` is 0 where the logits path is the higher one."""

    context: int
    weights_bytes: int
    constant_bytes: int
    logits_bytes: int
    kv_bytes: int
    rest_bytes: int
    mask_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Predicted `torch.cuda.max_memory_allocated`."""
        fixed = self.weights_bytes + self.constant_bytes
        return fixed + self.logits_bytes + self.kv_bytes + self.rest_bytes + self.mask_bytes


# The five published models, as measured there (KV caches of Falcon-H1 and the SSMs were not kept).
LAW_MODELS: dict[str, LawModel] = {
    "qwen2.5-0.5b": LawModel(
        parameters=494_032_768, vocab=151_936, d_model=896, constant_mib=8.16,
        attention_layers=24, kv_width=128, mask_from=32_768,
    ),
    "llama-3.2-1b": LawModel(
        parameters=1_235_814_400, vocab=128_256, d_model=2048, constant_mib=8.41,
        attention_layers=16, kv_width=512,
    ),
    "mamba-790m": LawModel(
        parameters=793_204_224, vocab=50_280, d_model=1536, constant_mib=9.57
    ),
    "mamba2-780m": LawModel(
        parameters=780_161_280, vocab=50_288, d_model=1536, constant_mib=8.85
    ),
    "falcon-h1-0.5b": LawModel(
        parameters=521_411_104, vocab=32_784, d_model=1024, constant_mib=8.42, logit_copies=2
    ),
}  # fmt: skip


def law_model(name: str) -> LawModel:
    """The published model of this name; ConfigError with the nearest known name otherwise."""
    if name not in LAW_MODELS:
        raise ConfigError(f'no memory law for "{name}"{nearest(name, LAW_MODELS)}')
    return LAW_MODELS[name]


def peak_law(model: LawModel, context: int) -> LawPeak:
    """Peak of one prefill of `context` tokens, batch 1, logits of all positions.

    Logits path: k*R(2VL) + R(2dL) + 2*layers*R(2*kv_width*L) + 16L, with R the allocator's rounding
    and 16L the token ids and the attention mask. Mask path: 6L^2 + 2dL + 24L, while the dense mask
    is built, before any layer runs and any key is kept.
    """
    logits = model.logit_copies * allocated(2 * model.vocab * context)
    kv = 2 * model.attention_layers * allocated(2 * model.kv_width * context)
    rest = allocated(2 * model.d_model * context) + 16 * context
    mask = 0
    if model.mask_from is not None and context >= model.mask_from:
        mask = 6 * context**2
        beside = (2 * model.d_model + 24) * context
        if mask + beside > logits + kv + rest:
            logits, kv, rest = 0, 0, beside
        else:
            mask = 0
    return LawPeak(
        context=context,
        weights_bytes=2 * model.parameters,
        constant_bytes=round(model.constant_mib * MIB),
        logits_bytes=logits,
        kv_bytes=kv,
        rest_bytes=rest,
        mask_bytes=mask,
    )


def longest_context(model: LawModel, capacity_bytes: int) -> int:
    """Longest context whose predicted peak fits into `capacity_bytes`; 0 where none does."""
    low, high = 0, 1
    while peak_law(model, high).peak_bytes <= capacity_bytes:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if peak_law(model, middle).peak_bytes <= capacity_bytes:
            low = middle
        else:
            high = middle
    return low
