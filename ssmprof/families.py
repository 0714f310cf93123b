"""Op, kernel and scope -> kernel family, one ordered table.

Precedence: op name, then kernel name (first match in the order of the table), then scope. A scope
may rename only generic kernels (bmm, softmax, reductions, elementwise, copies) and only if it is
declared a core scope, one that holds a single operator and no projection. A family follows the
kernel, never the autograd node: a fused function counts as what its kernels are.

Names are matched both demangled, as a profiler prints them, and mangled, as the driver stores them.
Those of `ssmprof_kernels` say their family themselves and match no pattern.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib import import_module
from typing import get_args

from ssmprof.mixers import registry
from ssmprof.records import Family

# Ops of torch (without namespace and overload) whose family does not depend on the kernel chosen.
# Attention is SDPA in all its forms; it is never counted as the GEMM it contains. Patterns are
# regular expressions, separated by blanks. A family with an empty pattern has its names in the
# folders of the mixers (`names.py`); what stands here belongs to none of them.
_OPS: tuple[tuple[Family, str], ...] = (
    ("attention", ""),
    ("scan", ""),
    ("conv", r"causal_conv ^_?conv(olution|_depthwise|\d[dD])? ^(cudnn|mkldnn)_convolution"),
    ("norm", r"^_?(fused_|native_)?(rms|layer|group|batch)_norm gated_rms_?norm l2_?norm"),
    ("rope", r"rotary rope"),
    ("embedding", r"^embedding ^index_select$"),
    ("moe", ""),
    (
        "gemm",
        r"^(add|b|badd|_scaled_)?mm$ ^(add)?mv$ ^(mkldnn_)?linear$ ^matmul$ ^einsum$ ^tensordot$ "
        r"^dot$ ^_addmm_activation$",
    ),
)

# Kernels, in order: attention first, since some of its kernels carry "cutlass" or "gemm" in their
# names; scan before gemm, since SSD has a bmm of its own.
_KERNELS: tuple[tuple[Family, str], ...] = (
    ("attention", ""),
    ("scan", ""),
    (
        "conv",
        r"causal_conv conv1d conv_depthwise cudnn.*conv implicit_convolve _conv_(fwd|update) "
        r"nchwToNhwc nhwcToNchw fprop_implicit conv2d conv_kernel",
    ),
    ("moe", ""),
    (
        "norm",
        r"layer_?norm LayerNorm rms_?norm RMSNorm RmsNorm RowwiseMoments l2norm GroupNorm "
        r"batch_norm _norm_fwd gated_norm",
    ),
    ("rope", r"rotary rope_ _rope"),
    (
        "gemm",
        r"nvjet gemm Gemm GEMM gemv cutlass splitKreduce splitK tensorop cublas triton_(mm|tem) "
        r"dot_kernel reduce_1Block ampere_.*16816",
    ),
    ("embedding", r"indexSelect vectorized_gather index_select embedding"),
    (
        "copy",
        r"Mem(cpy|set) memcpy memset CatArray direct_copy copy_kernel copy_device fill_kernel "
        r"FillFunctor triton_poi_fused_(clone|copy|_to_copy|cat)",
    ),
    ("elementwise", r"elementwise triton_poi bias_act swiglu silu gelu softplus addcmul"),
)

# What a core scope may rename although the tables know it: the parts unfused operators are made of.
_GENERIC_OPS = re.compile(r"^(bmm|baddbmm|_?(log_)?softmax|einsum|matmul)$")
_GENERIC_KERNELS = re.compile(r"softmax|soft_max|SoftMax|reduce_kernel|_scan_\w*dim|cumsum")
_GENERIC_FAMILIES = frozenset({"elementwise", "copy", "other"})

# Ops on a CPU run without a kernel name; these are the element-wise and copying ones.
_ELEMENTWISE_OPS = re.compile(
    r"^(add|sub|rsub|mul|div|neg|exp|exp2|expm1|log|log1p|log2|pow|sqrt|rsqrt|reciprocal|silu|gelu|relu"
    r"|sigmoid|tanh|softplus|sin|cos|clamp|clamp_min|clamp_max|where|masked_fill|addcmul|addcdiv|lerp"
    r"|threshold|abs|square|maximum|minimum|eq|ne|lt|le|gt|ge|logical_\w+|bitwise_\w+|tril|triu)_?$"
)  # fmt: skip
_COPY_OPS = re.compile(
    r"^(copy|_to_copy|clone|cat|stack|fill|zero|zeros|zeros_like|ones|ones_like|full|full_like|new_zeros"
    r"|new_full|contiguous|repeat|roll|flip|constant_pad_nd|arange|slice_scatter|index_put|scatter"
    r"|index_copy|masked_scatter|repeat_interleave|_index_put_impl|to|reshape|flatten|type_as|pad|tile)_?$"
)  # fmt: skip

FAMILIES: tuple[Family, ...] = get_args(Family)
_BY_NAME: dict[str, Family] = {family: family for family in FAMILIES}


Table = tuple[tuple[Family, re.Pattern[str]], ...]


@cache
def _tables() -> tuple[Table, Table]:
    """The patterns of ops and of kernels, those of the mixers' folders among them."""
    named = [import_module(module) for module in registry.files("names")]
    return _compiled(_OPS, [one.OPS for one in named]), _compiled(
        _KERNELS, [one.KERNELS for one in named]
    )


def _compiled(table: tuple[tuple[Family, str], ...], named: list[dict[Family, str]]) -> Table:
    found: list[tuple[Family, re.Pattern[str]]] = []
    for family, pattern in table:
        every = [pattern, *(one[family] for one in named if family in one)]
        found.append((family, re.compile("|".join(" ".join(every).split()))))
    return tuple(found)


# Our own kernels carry their family: ssmprof_FAMILY_...
_OWN = "ssmprof_"

# Ops that launch kernels of somebody else: their own name says nothing.
_OPAQUE = frozenset({"", "triton", "kernel", "unmarked"})


def op_base(op: str) -> str:
    """`aten::mm.default` -> `mm`, `ssmprof::ssd_scan` -> `ssd_scan`."""
    return op.rsplit("::", 1)[-1].split(".", 1)[0]


@lru_cache(maxsize=4096)
def family_of(op: str, kernel: str = "", core: str | None = None) -> Family:
    """Family of one op that ran `kernel` inside a scope whose core is `core`.

    `op` is a dispatcher name (`aten::mm`) or empty; `kernel` the name of its (longest) kernel or
    empty. An unknown name is `other`.
    """
    base = op_base(op)
    found, generic = _named(base, kernel)
    if generic and core is not None:
        return _BY_NAME.get(core, found)
    return found


def _named(base: str, kernel: str) -> tuple[Family, bool]:
    """The family by name alone, and whether a core scope may rename it."""
    ops, kernels = _tables()
    if base not in _OPAQUE:
        for family, pattern in ops:
            if pattern.search(base):
                return family, bool(_GENERIC_OPS.match(base))
    if kernel.startswith(_OWN):
        own = _BY_NAME.get(kernel.removeprefix(_OWN).partition("_")[0])
        if own is not None:
            return own, own in _GENERIC_FAMILIES
    for family, pattern in kernels:
        if kernel and pattern.search(kernel):
            return family, family in _GENERIC_FAMILIES or bool(_GENERIC_OPS.match(base))
    if _GENERIC_KERNELS.search(kernel) or _GENERIC_OPS.match(base):
        return "other", True
    if _ELEMENTWISE_OPS.match(base):
        return "elementwise", True
    if _COPY_OPS.match(base):
        return "copy", True
    return "other", True
