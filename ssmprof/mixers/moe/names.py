"""How its ops and kernels are called, here and in other packages: regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.records import Family

OPS: dict[Family, str] = {
    "moe": r"fused_moe topk_softmax grouped_mm ^_embedding_bag ^searchsorted",
}
KERNELS: dict[Family, str] = {
    "moe": r"fused_moe moe_align topk_gating topkGating expert_ moe_",
}
