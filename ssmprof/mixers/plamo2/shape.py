"""PLaMo 2's Mamba as data (arXiv:2509.04897, section 2).

Shape letters: T tokens of the call, d width, D inner width, H heads, N state size, R rank of dt.
The scan has one decay per head, as Mamba-2; B, C and a dt of low rank are projected from the
convolved input, as in Mamba-1, and each is normed. The gate is applied inside the scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.mixers.recurrence import new_state, short_conv, state_bytes
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Parts, call_tokens, elementwise, matmul

if TYPE_CHECKING:
    from ssmprof.records import Point


class Plamo2(Part, frozen=True, kw_only=True, tag="plamo2"):
    """A scan over a state of (H, P, N), H = d_inner / headdim."""

    label: ClassVar[str] = "PLaMo 2's Mamba"
    memory: ClassVar[Memory] = "fixed"

    d_inner: Size
    d_state: Size
    headdim: Size
    dt_rank: Size
    d_conv: Annotated[int, Meta(ge=2, le=limits.TAPS)] = 4
    state_dtype: Dtype = "float32"

    @property
    def nheads(self) -> int:
        """Heads of the scan."""
        return self.d_inner // self.headdim

    @property
    def selected(self) -> int:
        """B, C and the factor of dt."""
        return self.dt_rank + 2 * self.d_state

    @property
    def _scan(self) -> Mamba2:
        return Mamba2(
            d_inner=self.d_inner,
            d_state=self.d_state,
            headdim=self.headdim,
            gated_norm=False,
            state_dtype=self.state_dtype,
        )

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Whole heads."""
        return self._scan.check(d_model)

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, taps, norms of dt, B and C, three vectors over the heads."""
        inner = self.d_inner
        return [
            Weight(self.reads(d_model) * 2 * inner),
            Weight(inner * self.d_conv),
            Weight(inner * self.selected),
            Weight(self.dt_rank * self.nheads),
            *[Weight(self.nheads, float32=True)] * 3,
            *[Weight(self.dt_rank), Weight(self.d_state), Weight(self.d_state)],
            Weight(inner * d_model),
        ]

    def held(self, point: Point) -> list[Held]:
        """The window of the convolution and the state."""
        state = Held("ssm_state", self.d_inner * self.d_state, self.state_dtype)
        return [Held("conv_state", self.d_inner * self.d_conv), state]

    def kept(self) -> list[Keys | State]:
        """State and window."""
        inner, columns = self.d_inner, self.d_conv - 1
        state = inner * self.d_state
        return [
            State("plamo2", self.nheads, state, self.state_dtype, channels=inner, columns=columns)
        ]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, selection, scan."""
        b, tokens, inner = DTYPE_BYTES[point.dtype], call_tokens(point), self.d_inner
        return {
            "in_proj": matmul(tokens, self.reads(d_model), 2 * inner, b),
            "conv": short_conv(point, inner, self.d_conv),
            "x_proj": matmul(tokens, inner, self.selected, b),
            "norms": elementwise(tokens * self.selected, b, reads=1, flops=4),
            "dt_proj": matmul(tokens, self.dt_rank, self.nheads, b),
            "scan": self._scan.cost(d_model, point)["scan"],
            "out_proj": matmul(tokens, inner, d_model, b),
        }

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The scan, its new state beside the one it replaces."""
        inner = self.d_inner
        new = new_state(point, state_bytes(inner * self.d_state, self.state_dtype))
        selected = (self.d_state, self.d_state, self.nheads)
        return new + alive(point, (2 * inner, inner, *selected, inner))
