"""Peak memory of a Hugging Face style prefill that keeps the logits of every position.

This is how the memory curves of SSM-Scope (arXiv:2507.12442) came about: one forward over the whole
prompt, batch 1, 16-bit weights. The law follows from the shapes of a recipe alone and reproduces
the published rows (from 512 tokens on, within 0.1 %); it shows that logits and a materialised mask,
not the KV cache, set those curves. `peak = weights + constant + max(logits path, mask path)`.
"""

from __future__ import annotations

from msgspec import Struct

from ssmprof.mixers.part import MIB, allocated
from ssmprof.models.cost import held, parameters, weight_bytes, weights
from ssmprof.models.recipe import Recipe
from ssmprof.records import Point, Prefill

WORKSPACE_MIB = 8.125  # of cuBLAS before compute capability 9.0, where the curves were taken


class LawModel(Struct, frozen=True, kw_only=True):
    """Shapes the law needs, of a model in 16 bits.

    `vocab` is the rows of the head really stored; `logit_copies` is how many copies of the logits
    live at once; `cache_widths` are the features per token of every tensor that is kept and grows.
    `constant_mib` holds the matmul workspace (32 MiB on compute capability 9.0) and the rounding of
    the parameters. `mask_from` is the length from which a dense (L, L) mask was built (transformers
    up to 4.52 with a sliding window in the configuration and a mask passed), None for never.
    """

    parameters: int
    vocab: int
    d_model: int
    constant_mib: float
    logit_copies: int = 1
    cache_widths: tuple[int, ...] = ()
    mask_from: int | None = None


class Published(Struct, frozen=True, kw_only=True):
    """What is known of a published run beside the shapes of its model.

    `constant_mib` is the intercept of its rows: the published stack rounds other tensors than ours.
    """

    constant_mib: float
    logit_copies: int = 1
    mask_from: int | None = None
    kept: bool = True  # whether keys and values were kept


# The published measurements that the law is held against, by preset (SSM-Scope, RTX 4090).
PUBLISHED: dict[str, Published] = {
    "qwen2.5-0.5b": Published(constant_mib=8.16, mask_from=32_768),
    "llama-3.2-1b": Published(constant_mib=8.41),
    "mamba-790m": Published(constant_mib=9.57),
    "mamba2-780m": Published(constant_mib=8.85),
    "falcon-h1-0.5b": Published(constant_mib=8.42, logit_copies=2, kept=False),
}


def law_model(recipe: Recipe, published: Published | None = None) -> LawModel:
    """The shapes of a recipe; `published` says how a run of it differed from the rule.

    Raises ValueError for layers without a vocabulary, which have no logits.
    """
    if recipe.vocab is None:
        raise ValueError(f"{recipe.name}: layers without a vocabulary have no logits")
    sizes = [weight_bytes(weight, "bfloat16") for weight in weights(recipe)]
    rounding = sum(allocated(size) - size for size in sizes) / MIB
    told = published or Published(
        constant_mib=WORKSPACE_MIB + rounding,
        # A scaled or capped copy of the logits stands beside them.
        logit_copies=1 if recipe.logits_scale == 1.0 and recipe.logits_cap is None else 2,
    )
    return LawModel(
        parameters=parameters(recipe),
        vocab=recipe.vocab,
        d_model=recipe.d_model,
        constant_mib=told.constant_mib,
        logit_copies=told.logit_copies,
        cache_widths=_growing(recipe) if told.kept else (),
        mask_from=told.mask_from,
    )


def _growing(recipe: Recipe) -> tuple[int, ...]:
    """Features per token of every tensor of the cache that grows; the others are small."""
    tensors = [
        [one.elements for one in held(recipe, _point(recipe, context))] for context in (1, 2)
    ]
    return tuple(two - one for one, two in zip(*tensors, strict=True) if two > one)


def _point(recipe: Recipe, context: int) -> Point:
    return Point(block=recipe.name, block_digest="", workload=Prefill(context=context))


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


def peak_law(model: LawModel, context: int) -> LawPeak:
    """Peak of one prefill of `context` tokens, batch 1, logits of all positions.

    Logits path: k*R(2VL) + R(2dL) + sum R(2wL) + 16L, with w the widths of the cache, R the
    allocator's rounding and 16L the token ids and the attention mask. Mask path: 6L^2 + 2dL + 24L,
    while the dense mask is built, before any layer runs and any key is kept.
    """
    logits = model.logit_copies * allocated(2 * model.vocab * context)
    kv = sum(allocated(2 * width * context) for width in model.cache_widths)
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
