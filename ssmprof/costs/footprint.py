"""Memory of one call by owner, from shapes, and the allocator's peak that follows from it.

The peak is the widest set of tensors alive at once in `ssmprof.blocks`, each rounded as torch's
caching allocator rounds it, plus the matmul library's workspace. Shape letters: B batch, L context,
T = B*L tokens of a prefill, d model width, D inner width, b bytes per element.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssmprof.costs.attention import rows
from ssmprof.costs.state_space import conv_channels, dt_rank, state_elements
from ssmprof.costs.weights import stored_bytes, weight_bytes, weights
from ssmprof.costs.whole import ID_BYTES, call_tokens, logit_rows
from ssmprof.records import Point
from ssmprof.spec import DTYPE_BYTES, BlockSpec

MIB = 2**20
# Workspace torch gives cuBLAS: 32 MiB from compute capability 9.0 on, 8 MiB + 128 KiB before.
WORKSPACE_HOPPER = 32 * MIB
WORKSPACE_BEFORE = 8 * MIB + 128 * 1024
# What a block with Triton kernels allocates beside named tensors is below this.
SMALL_BLOCK = 10 * MIB


@dataclass(frozen=True)
class Footprint:
    """Bytes of one call by owner; `activation_bytes` is what the peak holds beside the owners."""

    weights_bytes: int
    kv_bytes: int
    conv_state_bytes: int
    ssm_state_bytes: int
    logits_bytes: int
    activation_bytes: int

    @property
    def cache_bytes(self) -> int:
        """What a sequence must keep between tokens."""
        return self.kv_bytes + self.conv_state_bytes + self.ssm_state_bytes

    @property
    def peak_bytes(self) -> int:
        """Predicted peak of torch's allocator (`max_memory_allocated`)."""
        return self.weights_bytes + self.cache_bytes + self.logits_bytes + self.activation_bytes


def allocated(size: int) -> int:
    """Bytes the caching allocator hands out for a request of `size` bytes.

    Requests are rounded up to 512 B. One of 10 MiB and more gets a segment rounded up to 2 MiB, and
    keeps all of it where at most 1 MiB would be left over.
    """
    rounded = -(-size // 512) * 512
    if size < SMALL_BLOCK:
        return rounded
    segment = -(-size // (2 * MIB)) * 2 * MIB
    return segment if segment - size <= MIB else rounded


def footprint(spec: BlockSpec, point: Point, *, hopper: bool = True) -> Footprint:
    """Bytes by owner of one call; `hopper` is compute capability 9.0 or newer.

    Weights, caches and states count in the dtypes that the point keeps them in; activations are of
    `point.dtype`.
    """
    b = DTYPE_BYTES[point.dtype]
    cache_dtype = point.cache_dtype or point.dtype
    kv = conv = ssm = slack = 0
    for mixer in ("mamba1", "mamba2"):
        if count := spec.count(mixer):
            assert spec.state is not None
            columns = conv_channels(spec.state, mixer) * spec.state.d_conv * point.batch
            window = stored_bytes(columns, cache_dtype)
            state_dtype = point.state_dtype or spec.state.state_dtype
            held = stored_bytes(state_elements(spec.state) * point.batch, state_dtype)
            conv += count * window
            ssm += count * held
            slack += count * (allocated(window) - window + allocated(held) - held)
    if count := spec.count("attention"):
        assert spec.attention is not None
        a = spec.attention
        one = stored_bytes(point.batch * rows(a, point) * a.kv_heads * a.head_dim, cache_dtype)
        kv = 2 * count * one
        slack += 2 * count * (allocated(one) - one)
    weights_dtype = point.weights_dtype or point.dtype
    tensors = [weight_bytes(weight, weights_dtype) for weight in weights(spec)]
    slack += sum(allocated(size) - size for size in tensors)
    logits = logit_rows(point) * (spec.vocab or 0) * b
    layers, head = _layer_peak(spec, point), _head_peak(spec, point)
    # Logits exist only after the last layer's own tensors are gone.
    call = max(layers, head + allocated(logits)) - logits
    workspace = WORKSPACE_HOPPER if hopper else WORKSPACE_BEFORE
    return Footprint(
        weights_bytes=sum(tensors),
        kv_bytes=kv,
        conv_state_bytes=conv,
        ssm_state_bytes=ssm,
        logits_bytes=logits,
        activation_bytes=slack + workspace + _inputs(spec, point) + call,
    )


def _inputs(spec: BlockSpec, point: Point) -> int:
    """Bytes of the input and of the rotary tables, alive during the whole call."""
    b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
    given = tokens * ID_BYTES if spec.vocab is not None else tokens * spec.d_model * b
    tables = 0
    if spec.attention is not None and spec.attention.rope_theta and spec.count("attention"):
        positions = point.context + (1 if point.phase == "decode" else 0)
        tables = 2 * allocated(positions * spec.attention.head_dim // 2 * b)
    return allocated(given) + tables


def _head_peak(spec: BlockSpec, point: Point) -> int:
    """Residual stream and final norm beside the logits."""
    b = DTYPE_BYTES[point.dtype]
    stream = allocated(call_tokens(point) * spec.d_model * b)
    return stream + allocated(logit_rows(point) * spec.d_model * b)


def _layer_peak(spec: BlockSpec, point: Point) -> int:
    """Residual stream, its norm, and the widest moment of any sub-layer."""
    b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
    stream = allocated(tokens * spec.d_model * b)
    widest = 0
    for entry in spec.pattern:
        names = (entry,) if isinstance(entry, str) else entry
        for index, name in enumerate(names):
            before = stream if index else 0  # the sum of the sub-layers before, side by side
            widest = max(widest, before + _sublayer_peak(spec, point, name))
    return 2 * stream + widest


def _sublayer_peak(spec: BlockSpec, point: Point, name: str) -> int:
    """The widest set of tensors one sub-layer makes, its own output included where it counts."""
    b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)

    def alive(*widths: float) -> int:
        return sum(allocated(int(tokens * width * b)) for width in widths)

    if name == "mlp":
        assert spec.mlp is not None
        f = spec.mlp.d_ff
        up = 2 * f if spec.mlp.kind == "swiglu" else f
        return max(alive(up, f), alive(f, spec.d_model))
    if name == "attention":
        assert spec.attention is not None
        a = spec.attention
        q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
        lse = a.heads * 4 / b  # log-sum-exp of every row, float32
        turned = q if a.rope_theta is not None else 0
        if a.window is not None and point.phase == "prefill":
            # A ring cannot be attended to in place: keys are rotated beside it.
            turned = turned and q + kv
            return max(alive(q + 2 * kv, turned, q, lse), alive(q, spec.d_model))
        held = turned or q + 2 * kv  # queries that are not rotated are a view of the projection
        return max(alive(q + 2 * kv, turned), alive(held, q, lse), alive(q, spec.d_model))
    assert spec.state is not None
    s = spec.state
    inner, channels = s.d_inner, conv_channels(s, name)
    one_state = allocated(
        state_elements(s) * DTYPE_BYTES[s.state_dtype] * point.batch
    )  # the new state lives beside the one it replaces
    if point.phase == "decode":
        one_state = 0
    if name == "mamba1":
        selected = dt_rank(spec) + 2 * s.d_state
        return one_state + alive(2 * inner, inner, selected, inner, inner)
    projected = inner + channels + s.nheads
    scan = one_state + alive(projected, channels, inner)
    norm = alive(projected, inner, inner) if s.gated_norm else 0
    return max(scan, norm, alive(inner, spec.d_model))
