"""What every sub-layer says of itself without torch: sizes, parameters, work, cache, peak.

Shape letters: B batch, L context, T tokens of the call, d width of the model, b bytes per element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.steps import Loops, Steps
from ssmprof.scalars import DTYPE_BYTES, Size, StoredDtype, Value
from ssmprof.work import Parts, call_tokens

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point

Owner = Literal["kv", "conv_state", "ssm_state"]
# What is kept between tokens: keys that grow with the context, a state that does not, or both.
Memory = Literal["grows", "fixed", "both", "none"]
Rank = Annotated[int, Meta(ge=0, le=limits.WIDTH)]
Conv = Annotated[int, Meta(ge=0, le=limits.TAPS)]

MIB = 2**20
# What a block with Triton kernels allocates beside named tensors is below this.
SMALL_BLOCK = 10 * MIB


class Weight(NamedTuple):
    """One parameter tensor; `float32` ones keep their dtype whatever the model's.

    `active` is the share of it that one token makes use of: that of experts is below one.
    """

    elements: int
    float32: bool = False
    active: float = 1.0


class Held(NamedTuple):
    """One tensor that a sub-layer keeps between tokens, in elements of one sequence.

    `dtype` None is the dtype that the point keeps its cache in.
    """

    owner: Owner
    elements: int
    dtype: StoredDtype | None = None


class Keys(NamedTuple):
    """What a serving engine keeps per token for a sub-layer, in elements.

    Ranks of a tensor-parallel group share out the `heads` of `width` elements each (key and value);
    the one row of a `latent` is on every rank. Beyond `window` tokens nothing is kept, and `prefix`
    learned tokens are kept beside them.
    """

    heads: int
    width: int
    window: int | None = None
    latent: bool = False
    prefix: int = 0


class State(NamedTuple):
    """What a serving engine keeps per sequence for a sub-layer, in elements of all ranks.

    Ranks share out `heads`, and with them the `recurrent` state and the `channels` of the
    convolution. Of each of the `groups` another `group_channels` are convolved. `columns` tokens of
    every channel are kept, one more per drafted token where the rule can take tokens back
    (`drafts`). `rule` is the kind of sub-layer.
    """

    rule: str
    heads: int
    recurrent: int
    dtype: StoredDtype = "float32"
    channels: int = 0
    columns: int = 0
    groups: int = 1
    group_channels: int = 0
    drafts: bool = False


class Part(Value, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all sub-layers; the tag `kind` is the name that models and scenarios use.

    `d_in` is the width it reads where that is not the model's (it always writes d); `adapter_rank`
    is the rank of the low-rank adapter that each user of a shared sub-layer has, 0 for none.
    """

    label: ClassVar[str] = ""  # as people write it: "Mamba-2"
    memory: ClassVar[Memory] = "none"
    # Whether tokens meet in it; a feed-forward is the second step of a layer.
    # The op that reads a prompt, where a recurrence does.
    scan_op: ClassVar[str] = ""
    plain: ClassVar[Loops] = Loops()  # its plain form
    mixes: ClassVar[bool] = True

    d_in: Size | None = None
    adapter_rank: Rank = 0

    def check(self, d_model: int) -> tuple[str, str] | None:
        """The first inconsistency as (key, problem), or None."""
        return None

    def lacks(self, earlier: Sequence[Part]) -> tuple[str, str] | None:
        """What it reads that none of these sub-layers before it leaves, as (key, problem)."""
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """Every parameter tensor, the norm before the sub-layer not included."""
        raise NotImplementedError

    def cost(self, d_model: int, point: Point) -> Parts:
        """Work of one call of one layer, by the scope inside the sub-layer."""
        raise NotImplementedError

    def held(self, point: Point) -> list[Held]:
        """What one layer keeps between tokens."""
        return []

    def kept(self) -> list[Keys | State]:
        """What a serving engine keeps of one layer, in its own layout: a window of a convolution
        one column shorter than the one `held` counts, which has the present token, too."""
        return []

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """Bytes of the widest set of tensors alive at once, rounded as allocated.

        `workspace` bytes live while the recurrence runs.
        """
        raise NotImplementedError

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Bytes of the recurrence's implementation beside its inputs and outputs."""
        return 0

    def steps(self, point: Point, form: Form) -> Steps:
        """What its recurrence runs one after the other in one call."""
        return self.plain.steps(point) if form == "plain" else Steps()

    def passed(self) -> int:
        """Features of a token that it hands to later layers, kept until the call ends."""
        return 0

    def table(self) -> tuple[object, int] | None:
        """Which tables over positions it reads (rotary), and their width; equal ones are shared."""
        return None

    def adapted(self, d_model: int) -> tuple[int, ...]:
        """Widths that adapters add to, side by side; each is the output of one adapter."""
        raise NotImplementedError

    def recalls(self, d_model: int) -> int:
        """Width of what it reads of an earlier layer, which lives from there on; 0 for nothing."""
        return 0

    def reads(self, d_model: int) -> int:
        """Width of what it reads."""
        return self.d_in or d_model


def kind(part: Part | type[Part]) -> str:
    """The name of a sub-layer's folder entry: `mamba2`."""
    tag = part.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


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


def alive(point: Point, widths: Sequence[float]) -> int:
    """Bytes allocated for activations of these widths, each (T, width)."""
    tokens, b = call_tokens(point), DTYPE_BYTES[point.dtype]
    return sum(allocated(int(tokens * width * b)) for width in widths)
