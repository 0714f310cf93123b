"""How its ops and kernels are called, here and in other packages: regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.records import Family

OPS: dict[Family, str] = {
    "attention": (
        r"scaled_dot_product _(flash|efficient|cudnn)_attention_forward flash_attn "
        r"^flex_attention"
    ),
}
KERNELS: dict[Family, str] = {
    "attention": (
        r"flash_fwd flash_attn FlashAttn flash_bwd fmha native_sdpa attention_(prefill|decode) "
        r"attn_(fwd|decode|prefill|combine|split) _attn_kernel paged_attention flash_decod"
    ),
}
