"""Mamba-2 as data (arXiv:2405.21060).

Shape letters: B batch, T tokens of the call, d width, D inner width, H heads of width P, G groups,
N state size, Q chunk, b and s bytes per element of activations and of the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive, allocated
from ssmprof.mixers.steps import Loops
from ssmprof.mixers.workspace import KERNEL_CHUNK, by_chunks, by_span, squares
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import (
    Cost,
    Parts,
    call_tokens,
    causal_conv,
    conv_update,
    gated_norm,
    matmul,
    work,
)

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point

StepSize = Annotated[float, Meta(ge=0, le=limits.SCALE)]

# Chunk of the SSD scan these FLOPs are counted for: the one of this repository's kernel.
SSD_CHUNK = 64


class Mamba2(Part, frozen=True, kw_only=True, tag="mamba2"):
    """A scan over a state of (H, P, N), H = d_inner / headdim.

    Without `gated_norm` (Falcon-H1) the gate is applied inside the scan and nothing is normed;
    `norm_groups` None norms each of the `ngroups` by itself, and `norm_eps` None is the model's
    epsilon. `dt_limit` bounds the step sizes of a prompt, not those of decode steps: published code
    has it so. `state_dtype` is the dtype of the state kept between tokens.
    """

    label: ClassVar[str] = "Mamba-2"
    scan_op: ClassVar[str] = "ssd_scan"
    plain: ClassVar[Loops] = Loops(chunk=34, span=5, within=12)
    memory: ClassVar[Memory] = "fixed"

    d_inner: Size
    d_state: Size
    headdim: Size = 64
    ngroups: Size = 1
    d_conv: Annotated[int, Meta(ge=2, le=limits.TAPS)] = 4
    conv_bias: bool = True
    proj_bias: bool = False
    gated_norm: bool = True
    norm_groups: Size | None = None
    norm_before_gate: bool = False
    norm_eps: Annotated[float, Meta(gt=0, le=1.0)] | None = None
    dt_limit: tuple[StepSize, StepSize] | None = None
    state_dtype: Dtype = "float32"

    @property
    def nheads(self) -> int:
        """Heads of the scan."""
        return self.d_inner // self.headdim

    @property
    def channels(self) -> int:
        """Channels of the short convolution: x, and B and C of every group."""
        return self.d_inner + 2 * self.ngroups * self.d_state

    @property
    def groups_normed(self) -> int:
        """Groups that the gated norm takes one by one."""
        return self.norm_groups or self.ngroups

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Whole heads, in equal groups."""
        if self.d_inner % self.headdim:
            return "headdim", f"{self.headdim} does not divide d_inner = {self.d_inner}"
        if self.nheads % self.ngroups:
            return "ngroups", f"{self.ngroups} does not divide {self.nheads} heads"
        if self.d_inner % self.groups_normed:
            return "norm_groups", f"{self.groups_normed} does not divide d_inner = {self.d_inner}"
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, convolution, norm, and the three vectors over the heads."""
        d, projected = d_model, self.d_inner + self.channels + self.nheads
        found = [
            Weight(self.reads(d) * projected),
            Weight(self.channels * self.d_conv),
            *[Weight(self.nheads, float32=True)] * 3,
            Weight(self.d_inner * d),
        ]
        if self.conv_bias:
            found.append(Weight(self.channels))
        if self.gated_norm:
            found.append(Weight(self.d_inner))
        if self.proj_bias:
            found += [Weight(projected), Weight(d)]
        return found

    def held(self, point: Point) -> list[Held]:
        """The window of the convolution and the state."""
        state = Held("ssm_state", self.d_inner * self.d_state, self.state_dtype)
        return [Held("conv_state", self.channels * self.d_conv), state]

    def kept(self) -> list[Keys | State]:
        """State and window; B and C of a group are wherever its heads are."""
        return [
            State(
                "mamba2",
                self.nheads,
                self.d_inner * self.d_state,
                self.state_dtype,
                channels=self.d_inner,
                columns=self.d_conv - 1,
                groups=self.ngroups,
                group_channels=2 * self.d_state,
                drafts=True,
            )
        ]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, SSD scan and gated norm."""
        b, tokens, decode = DTYPE_BYTES[point.dtype], call_tokens(point), point.phase == "decode"
        projected = self.d_inner + self.channels + self.nheads
        conv = conv_update if decode else causal_conv
        parts = {
            "in_proj": matmul(tokens, self.reads(d_model), projected, b, bias=self.proj_bias),
            "conv": conv(tokens, self.channels, self.d_conv, b),
            "scan": self._step(point, b) if decode else self._scan(point, b),
            "out_proj": matmul(tokens, self.d_inner, d_model, b, bias=self.proj_bias),
        }
        if self.gated_norm:
            parts["norm"] = gated_norm(tokens, self.d_inner, b)
        return parts

    def _moved(self, tokens: int, b: int) -> tuple[int, int, int]:
        """Bytes read and written without the state, and exps of a gate inside the scan."""
        gate = 0 if self.gated_norm else 1
        wide = (1 + gate) * self.d_inner + 2 * self.ngroups * self.d_state + self.nheads
        read = tokens * wide * b + 3 * self.nheads * 4
        return read, tokens * self.d_inner * b, gate * 2 * tokens * self.d_inner

    def _state_bytes(self, point: Point) -> int:
        return point.batch * self.d_inner * self.d_state * DTYPE_BYTES[self.state_dtype]

    def _scan(self, point: Point, b: int) -> Cost:
        """Chunked: scores within a chunk (their causal half), chunk states, and their use."""
        tokens, chunk = call_tokens(point), min(SSD_CHUNK, point.context)
        inner, states = self.d_inner, self.d_state
        read, written, gate = self._moved(tokens, b)
        scores = chunk * inner + chunk * states * self.ngroups
        per_token = 4 * states * inner + scores + 2 * states * inner / chunk
        return work(
            flops=tokens * per_token,
            read=read,
            written=written + self._state_bytes(point),
            exps=tokens * self.nheads * (chunk / 2 + 3) + gate,
        )

    def _step(self, point: Point, b: int) -> Cost:
        """One token: the state is read, decayed, added to, used and written back."""
        read, written, gate = self._moved(point.batch, b)
        held = self._state_bytes(point)
        return work(
            flops=5 * point.batch * self.d_inner * self.d_state,
            read=read + held,
            written=written + held,
            exps=3 * point.batch * self.nheads + gate,
        )

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Exponents per token and scores per group; a span and its output."""
        if form == "kernels":
            scores = self.ngroups * squares(point, 1)
            return by_chunks(point, 2 * KERNEL_CHUNK * self.nheads * 4 + scores)
        inner = (4 if self.gated_norm else 5) * self.d_inner  # a gate in the scan is one more
        widths = inner + 4 * self.d_state * self.ngroups
        return by_span(point, widths) if form == "plain" else 0

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of scan, norm and output; a new state lives beside the one it replaces."""
        inner = self.d_inner
        new = 0 if point.phase == "decode" else allocated(self._state_bytes(point))
        projected = inner + self.channels + self.nheads
        scan = new + workspace + alive(point, (projected, self.channels, inner))
        norm = alive(point, (projected, inner, inner)) if self.gated_norm else 0
        return max(scan, norm, alive(point, (inner, d_model)))
