"""Short causal convolution over time in Triton.

Promises: one launch; every input is read from memory once but for a halo of W-1 tokens per tile;
accumulation in fp32; any strides. y_t = act(bias + sum_j weight[:, W-1-j] * x_{t-j}); taps before
the first token of a sequence read the initial state, zeros where None. Shapes: x (B,L,D), weight
(D,W) with W = 2..4, bias (D), states (B,D,W-1) with the oldest input first.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ssmprof_kernels import door, launch
from ssmprof_kernels.reference import conv as reference

_LOG2E = tl.constexpr(1.4426950408889634)

#: Tokens and channels of a tile, consecutive tokens a thread takes at once, warps.
DEFAULT = {"BLOCK_L": 16, "BLOCK_D": 256, "U": 8, "num_warps": 4}
#: Where token is the fastest axis, or taps differ by token (ids, packed sequences).
DEFAULT_PER_TOKEN = {"BLOCK_L": 16, "BLOCK_D": 128, "U": 1, "num_warps": 2}
DEFAULT_CHANNEL_FIRST = {"BLOCK_L": 256, "BLOCK_D": 8, "U": 1, "num_warps": 4}


@triton.jit
def activate(acc, SILU: tl.constexpr):
    """silu(acc) in fp32, or acc itself."""
    if SILU:
        # sigmoid(v) = rsqrt(1 + 2^(-v log2 e))^2: two fast instructions, no division.
        half = tl.math.rsqrt(1.0 + tl.exp2(acc * -_LOG2E))
        acc = acc * half * half
    return acc


@triton.jit
def load_weights(w_ptr, d, mask, stride_d, stride_w, W: tl.constexpr):
    """The W columns of a (D,W) filter for channels `d`, as fp32."""
    taps = ()
    for j in tl.static_range(W):
        taps = taps + (tl.load(w_ptr + d * stride_d + j * stride_w, mask, 0.0).to(tl.float32),)
    return taps


@triton.jit
def _sequence_of(cu_ptr, t, n_sequences, SEARCH: tl.constexpr):
    """Index n with cu[n] <= t < cu[n+1], per token; empty sequences are stepped over."""
    low = tl.zeros_like(t).to(tl.int32)
    high = low + n_sequences
    for _ in tl.static_range(SEARCH):
        middle = (low + high) // 2
        right = tl.load(cu_ptr + middle) <= t
        low = tl.where(right, middle, low)
        high = tl.where(right, high, middle)
    return low


@triton.jit
def _final_state(
    x_ptr, init_ptr, ids_ptr, cu_ptr, final_ptr, pid, length, dim,
    stride_xb, stride_xl, stride_xd, stride_ib, stride_id, stride_iw,
    stride_sb, stride_sl,
    W: tl.constexpr, HAS_INIT: tl.constexpr, HAS_IDS: tl.constexpr, PACKED: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    n_d = tl.cdiv(dim, BLOCK_D)
    n = (pid // n_d).to(tl.int64)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_d = d < dim
    if PACKED:
        first = tl.load(cu_ptr + n)
        end = tl.load(cu_ptr + n + 1)
        row = n * 0
    else:
        first = 0
        end = length
        row = n
    d64 = d.to(tl.int64)
    keep = end > first
    for behind in tl.static_range(W - 1):
        t = end - 1 - behind
        inside = t >= first
        value = tl.load(
            x_ptr + row * stride_xb + t.to(tl.int64) * stride_xl + d64 * stride_xd,
            in_d & inside, 0.0,
        )  # fmt: skip
        if HAS_INIT:
            older = tl.load(
                init_ptr + n * stride_ib + d64 * stride_id + (t - first + W - 1) * stride_iw,
                in_d & (t < first), 0.0,
            )  # fmt: skip
            value = tl.where(inside, value, older.to(value.dtype))
        if HAS_IDS:
            last = ids_ptr + row * stride_sb + (end - 1) * stride_sl
            this = ids_ptr + row * stride_sb + tl.maximum(t, first) * stride_sl
            some = end > first
            keep = keep & (tl.load(this, some, 0) == tl.load(last, some, 0))
            value = tl.where(keep | (end == first), value, 0.0)
        tl.store(final_ptr + (n * dim + d64) * (W - 1) + (W - 2 - behind), value, in_d)


@triton.jit
def _conv_kernel(
    x_ptr, w_ptr, bias_ptr, init_ptr, ids_ptr, cu_ptr, y_ptr, final_ptr,
    length, dim, n_main, n_sequences,
    stride_xb, stride_xl, stride_xd, stride_wd, stride_ww,
    stride_ib, stride_id, stride_iw, stride_sb, stride_sl,
    stride_yb, stride_yl, stride_yd,
    W: tl.constexpr, SILU: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_INIT: tl.constexpr,
    HAS_IDS: tl.constexpr, PACKED: tl.constexpr, HAS_FINAL: tl.constexpr,
    SEARCH: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, U: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    if HAS_FINAL:
        if pid >= n_main:
            _final_state(
                x_ptr, init_ptr, ids_ptr, cu_ptr, final_ptr, pid - n_main, length, dim,
                stride_xb, stride_xl, stride_xd, stride_ib, stride_id, stride_iw,
                stride_sb, stride_sl, W, HAS_INIT, HAS_IDS, PACKED, BLOCK_D,
            )  # fmt: skip
            return
    # Channels run fastest over the grid: neighbours in time of launch are neighbours in memory.
    n_d = tl.cdiv(dim, BLOCK_D)
    n_l = tl.cdiv(length, BLOCK_L)
    d = (pid % n_d) * BLOCK_D + tl.arange(0, BLOCK_D)
    rest = pid // n_d
    row = (rest // n_l).to(tl.int64)
    ROWS: tl.constexpr = BLOCK_L // U
    t = (rest % n_l) * BLOCK_L + tl.arange(0, ROWS) * U
    in_d = d < dim
    d64 = d.to(tl.int64)
    t64 = t.to(tl.int64)
    x_tile = x_ptr + row * stride_xb + t64[:, None] * stride_xl + d64[None, :] * stride_xd
    y_tile = y_ptr + row * stride_yb + t64[:, None] * stride_yl + d64[None, :] * stride_yd

    first = tl.zeros_like(t)
    n = row
    if PACKED:
        n = _sequence_of(cu_ptr, tl.minimum(t, length - 1), n_sequences, SEARCH)
        first = tl.load(cu_ptr + n)
        n = n.to(tl.int64)[:, None]
    same = t < length
    if HAS_IDS:
        mine = tl.load(ids_ptr + row * stride_sb + t64 * stride_sl, same, 0)

    # Rows of the tile: inputs -(W-1) .. U-1 relative to each thread's first token.
    values = ()
    for k in tl.static_range(U + W - 1):
        at = t - (W - 1 - k)
        if U == 1 and HAS_IDS and k < W - 1:
            # An id that differs anywhere on the way to this tap cuts it off; the walk goes from
            # the far tap to the near one, so each tap checks every token between.
            for s in tl.static_range(1, W - k):
                other = tl.load(
                    ids_ptr + row * stride_sb + tl.maximum(t64 - s, first) * stride_sl,
                    t < length, 0,
                )  # fmt: skip
                if s == 1:
                    same = other == mine
                else:
                    same = same & (other == mine)
        alive = (at >= first) & (at < length)
        if U == 1 and HAS_IDS and k < W - 1:
            alive = alive & same
        value = tl.load(x_tile - (W - 1 - k) * stride_xl, alive[:, None] & in_d[None, :], 0.0)
        if HAS_INIT and k < W - 1:
            early = (at < first) & (t < length)
            if U == 1 and HAS_IDS:
                early = early & same
            older = tl.load(
                init_ptr + n * stride_ib + d64[None, :] * stride_id
                + (at - first + W - 1)[:, None] * stride_iw,
                early[:, None] & in_d[None, :], 0.0,
            )  # fmt: skip
            value = tl.where(early[:, None], older.to(value.dtype), value)
        values = values + (value.to(tl.float32),)

    taps = load_weights(w_ptr, d64, in_d, stride_wd, stride_ww, W)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, in_d, 0.0).to(tl.float32)
    for u in tl.static_range(U):
        acc = values[u] * taps[0][None, :]
        if HAS_BIAS:
            acc += bias[None, :]
        for j in tl.static_range(1, W):
            acc += values[u + j] * taps[j][None, :]
        acc = activate(acc, SILU)
        mask = (t + u < length)[:, None] & in_d[None, :]
        tl.store(y_tile + u * stride_yl, acc.to(y_ptr.dtype.element_ty), mask)


def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: torch.Tensor | None = None,
    return_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    seq_idx: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Depthwise causal convolution of width W over the tokens of each sequence.

    Args:
        x: (B,L,D) fp32, fp16 or bf16, any strides (channel-first by strides included).
        weight: (D,W), W = 2, 3 or 4; the last column multiplies the current token.
        bias: (D) or None.
        activation: "silu" or None.
        initial_state: (B,D,W-1), or (n,D,W-1) with `cu_seqlens`; the inputs before the first token.
        return_final_state: also return the last W-1 inputs of each sequence, (B or n,D,W-1).
        cu_seqlens: (n+1) int32 on the device; sequences packed into batch 1, empty ones allowed.
        seq_idx: (B,L) int32; taps reach back only while the id stays the same.

    Returns:
        y of x's shape and dtype, or (y, final_state).

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
    """
    n = _check(x, weight, bias, activation, initial_state, cu_seqlens, seq_idx)
    if not (x.is_cuda or door.interpreted()):
        return reference.causal_conv1d(
            x, weight, bias, activation=activation, initial_state=initial_state,
            return_final_state=return_final_state, cu_seqlens=cu_seqlens, seq_idx=seq_idx,
        )  # fmt: skip
    batch, length, dim = x.shape
    width = weight.shape[1]
    y = torch.empty_like(x)
    final = x.new_empty(n, dim, width - 1) if return_final_state else None
    xs, ys, ws = x.stride(), y.stride(), weight.stride()
    per_token = seq_idx is not None or cu_seqlens is not None
    if xs[2] != 1 and xs[1] == 1:
        bucket, default = "channel-first", DEFAULT_CHANNEL_FIRST
    elif per_token:
        bucket, default = "per-token", DEFAULT_PER_TOKEN
    else:
        bucket, default = launch.length_bucket(batch * length), DEFAULT
    meta = launch.pick("causal_conv1d", bucket, x.device, default).meta
    n_d = -(-dim // meta["BLOCK_D"])
    n_main = n_d * -(-length // meta["BLOCK_L"]) * batch
    grid = (n_main + (n_d * n if return_final_state else 0),)
    init = initial_state
    ids = seq_idx
    _conv_kernel[grid](
        x, weight, bias, init, ids, cu_seqlens, y, final, length, dim, n_main, n,
        xs[0], xs[1], xs[2], ws[0], ws[1],
        *(init.stride() if init is not None else (0, 0, 0)),
        *(ids.stride() if ids is not None else (0, 0)),
        ys[0], ys[1], ys[2],
        W=width, SILU=activation is not None, HAS_BIAS=bias is not None,
        HAS_INIT=init is not None, HAS_IDS=ids is not None, PACKED=cu_seqlens is not None,
        HAS_FINAL=return_final_state, SEARCH=n.bit_length() if cu_seqlens is not None else 0,
        enable_fp_fusion=True, **meta,
    )  # fmt: skip
    return y if final is None else (y, final)


def _check(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    initial_state: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    seq_idx: torch.Tensor | None,
) -> int:
    if x.ndim != 3 or x.numel() == 0:
        raise ValueError(f"x must have shape (B,L,D), none of them 0, got {tuple(x.shape)}")
    batch, length, dim = x.shape
    check_filter(weight, bias, activation, dim)
    n = batch if cu_seqlens is None else door.cu_seqlens(cu_seqlens, batch)
    if initial_state is not None:
        expected = (n, dim, weight.shape[1] - 1)
        door.shape("initial_state", initial_state, expected, "(B,D,W-1)")
    if seq_idx is not None:
        door.shape("seq_idx", seq_idx, (batch, length), "(B,L)")
    door.same_device(
        x, weight=weight, bias=bias, initial_state=initial_state, cu_seqlens=cu_seqlens,
        seq_idx=seq_idx,
    )  # fmt: skip
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)
    return n


def check_filter(
    weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, dim: int
) -> None:
    """ValueError unless weight (D,W), bias (D) and activation fit `dim` channels."""
    if weight.ndim != 2 or weight.shape[0] != dim or not 2 <= weight.shape[1] <= 4:
        raise ValueError(f"weight must have shape (D,W) = ({dim}, 2..4), got {tuple(weight.shape)}")
    if bias is not None:
        door.shape("bias", bias, (dim,), "(D,)")
    if activation not in (None, "silu"):
        raise ValueError(f"activation must be None or 'silu', got {activation!r}")
