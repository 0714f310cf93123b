"""Memory of one call by owner, from shapes, and the allocator's peak that follows from it.

The peak is the widest set of tensors alive at once in `ssmprof.models.build`, each rounded as
torch's caching allocator rounds it, plus the matmul library's workspace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmprof.mixers.part import MIB, Owner, Part, allocated
from ssmprof.mixers.workspace import form_of
from ssmprof.models.cost import ID_BYTES, held, logit_rows, weight_bytes, weights
from ssmprof.scalars import DTYPE_BYTES, stored_bytes, window_dtype
from ssmprof.work import call_tokens, held_tokens

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe
    from ssmprof.records import Point

# Workspace torch gives cuBLAS: 32 MiB from compute capability 9.0 on, 8 MiB + 128 KiB before.
WORKSPACE_HOPPER = 32 * MIB
WORKSPACE_BEFORE = 8 * MIB + 128 * 1024


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


def footprint(
    recipe: Recipe, point: Point, *, hopper: bool = True, workspace: bool = True
) -> Footprint:
    """Bytes by owner of one call; `hopper` is compute capability 9.0 or newer.

    `workspace` counts what our kernels hold while they run, and the plain forms that the recipe
    forces; what another implementation holds is not known.

    Weights, caches and states count in the dtypes that the point keeps them in; activations are of
    `point.dtype`.
    """
    b = DTYPE_BYTES[point.dtype]
    owners: dict[Owner, int] = {"kv": 0, "conv_state": 0, "ssm_state": 0}
    slack = 0
    for tensor in held(recipe, point):
        kept = tensor.dtype or point.cache_dtype or point.dtype
        if tensor.owner == "ssm_state":
            kept = point.state_dtype or kept
        elif tensor.owner == "conv_state":
            kept = window_dtype(kept)
        size = stored_bytes(tensor.elements * point.batch, kept)
        owners[tensor.owner] += size
        slack += allocated(size) - size
    weights_dtype = point.weights_dtype or point.dtype
    tensors = [weight_bytes(weight, weights_dtype) for weight in weights(recipe)]
    slack += sum(allocated(size) - size for size in tensors)
    logits = logit_rows(point) * (recipe.vocab or 0) * b
    layers, head = _layer_peak(recipe, point, workspace), _head_peak(recipe, point)
    # Logits exist only after the last layer's own tensors are gone.
    call = max(layers, head + allocated(logits)) - logits
    products = WORKSPACE_HOPPER if hopper else WORKSPACE_BEFORE
    return Footprint(
        weights_bytes=sum(tensors),
        kv_bytes=owners["kv"],
        conv_state_bytes=owners["conv_state"],
        ssm_state_bytes=owners["ssm_state"],
        logits_bytes=logits,
        activation_bytes=slack + products + _inputs(recipe, point) + call,
    )


def _inputs(recipe: Recipe, point: Point) -> int:
    """Bytes of the input and of the rotary tables, alive during the whole call."""
    d, b, tokens = recipe.d_model, DTYPE_BYTES[point.dtype], call_tokens(point)
    given = tokens * ID_BYTES if recipe.vocab is not None else tokens * d * b
    used = {name for name, _ in recipe.used()}
    # One pair of tables for each way of turning, however many layers share it.
    widths = {recipe.parts[name].table() for name in used} - {None}
    tables = sum(
        2 * allocated(held_tokens(point) * width * b) for _, width in (w for w in widths if w)
    )
    return allocated(given) + tables


def _head_peak(recipe: Recipe, point: Point) -> int:
    """Residual stream and final norm beside the logits."""
    d, b = recipe.d_model, DTYPE_BYTES[point.dtype]
    stream = allocated(call_tokens(point) * d * b)
    return stream + allocated(logit_rows(point) * d * b)


def _recalled(recipe: Recipe, point: Point) -> list[int]:
    """Bytes of a memory of earlier layers that lives during each layer."""
    d, b = recipe.d_model, DTYPE_BYTES[point.dtype]
    found = [0] * len(recipe.layers)
    widths = [max(recipe.parts[name].recalls(d) for name in layer.parts) for layer in recipe.layers]
    if not any(widths):
        return found
    first = next(place for place, width in enumerate(widths) if width)
    fixed = [
        any(recipe.parts[name].memory == "fixed" for name in layer.parts)
        for layer in recipe.layers[:first]
    ]
    source = max((place for place, scans in enumerate(fixed) if scans), default=0)
    memory = allocated(call_tokens(point) * max(widths) * b)
    return [memory if place > source else 0 for place in range(len(recipe.layers))]


def _layer_peak(recipe: Recipe, point: Point, workspace: bool) -> int:
    """Residual stream, the norm of it, and the widest moment of any sub-layer."""
    d, b, tokens = recipe.d_model, DTYPE_BYTES[point.dtype], call_tokens(point)
    stream = allocated(tokens * d * b)
    widest = 0
    # What later layers recall lives beside everything that comes after it.
    kept = _recalled(recipe, point)

    def peak(part: Part) -> int:
        own = part.workspace(d, point, form_of(part, recipe.providers)) if workspace else 0
        return part.peak(d, point, own)

    for layer, beside in {*zip(recipe.layers, kept, strict=True)}:
        # Parts read the stream itself where their result is normed. Where it goes on normed, what
        # the first layer read still lives.
        normed = 0 if layer.norm == "after" else stream
        widest = max(widest, 2 * stream)  # the norm of what joins the stream
        for index, name in enumerate(layer.parts):
            before = stream if index else 0  # the sum of the sub-layers before, side by side
            widest = max(widest, beside + normed + before + peak(recipe.parts[name]))
        for name in layer.shared.parts if layer.shared else ():
            part = recipe.parts[name]
            read = allocated(tokens * part.reads(d) * b)
            widest = max(widest, read + max(read, peak(part)))
    # Shared blocks read the embedding beside the stream.
    embedded = stream if any(layer.shared for layer in recipe.layers) else 0
    passed = max(part.passed() for _, part in recipe.used())
    return stream + embedded + allocated(tokens * passed * b) + widest
