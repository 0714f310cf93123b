"""How its ops and kernels are called, here and in other packages: regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.records import Family

OPS: dict[Family, str] = {}
KERNELS: dict[Family, str] = {
    "scan": (
        r"chunk_kda recompute_w_u prepare_wy solve_tril gated_delta (kda|gdn)_gate beta_sigmoid "
        r"scaled_dot_kkt merge_16x16 transform_qk intra_chunk_attn"
    ),
}
