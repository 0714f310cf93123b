"""The arguments of `selective_state_update`: their two forms, and what is wrong with them.

Nothing here launches or copies; every form is made of views.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssmprof_kernels import door

_MAX_STATES = 256


class Arguments(NamedTuple):
    """What the operation was given, in the order of the kernel's pointers."""

    state: Tensor
    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    dt_bias: Tensor | None
    state_indices: Tensor | None
    out: Tensor | None

    def expanded(self) -> Arguments:
        """With a group axis, and what was given per head as views (stride 0)."""
        state, x, dt, A, B, C, D, _, dt_bias, _, _ = self
        if B.dim() == 2:
            B = B.unsqueeze(1)
        if C.dim() == 2:
            C = C.unsqueeze(1)
        if state.dim() == 4 and x.dim() == 3:
            width, states = state.shape[2:]
            if dt.dim() == 2:
                dt = dt.unsqueeze(2).expand(-1, -1, width)
            if A.dim() == 1:
                A = A[:, None, None].expand(-1, width, states)
            if D is not None and D.dim() == 1:
                D = D.unsqueeze(1).expand(-1, width)
            if dt_bias is not None and dt_bias.dim() == 1:
                dt_bias = dt_bias.unsqueeze(1).expand(-1, width)
        return self._replace(dt=dt, A=A, B=B, C=C, D=D, dt_bias=dt_bias)

    def as_heads(self) -> Arguments:
        """The channels form as heads form: a group of channels is a head as wide as the group."""
        if self.state.dim() == 4:
            return self
        groups = self.B.shape[1]
        axes = {"state": 1, "x": 1, "dt": 1, "A": 0, "D": 0, "z": 1, "dt_bias": 0, "out": 1}
        return self._replace(
            **{
                name: tensor.unflatten(axis, (groups, -1))
                for name, axis in axes.items()
                if (tensor := getattr(self, name)) is not None
            }
        )

    def check(self) -> None:
        """ValueError for the first argument of the expanded form that does not fit."""
        state, x, B = self.state, self.x, self.B
        if state.dim() not in (3, 4) or min(state.shape) < 1 or state.shape[-1] > _MAX_STATES:
            raise ValueError(
                "state must have shape (slots, H, P, N) or (slots, D, N) with N in "
                f"1..{_MAX_STATES}, got {tuple(state.shape)}"
            )
        inner, states = tuple(state.shape[1:-1]), state.shape[-1]
        batch = x.shape[0] if x.dim() > 0 else 0
        if batch < 1:
            raise ValueError(f"x must have at least one row, got shape {tuple(x.shape)}")
        groups = B.shape[1] if B.dim() == 3 else 0
        if groups < 1 or inner[0] % groups:
            raise ValueError(
                f"B must have shape (B, N) or (B, G, N) with G a divisor of {inner[0]}, "
                f"got {tuple(B.shape)}"
            )
        wide = "(H,P) or (D)"
        for name, shape, letters in (
            ("state", state.shape, ""),
            ("x", (batch, *inner), "(B,H,P) or (B,D)"),
            ("dt", x.shape, "(B,H,P) or (B,D)"),
            ("A", (*inner, states), "(H,P,N) or (D,N)"),
            ("B", (batch, groups, states), "(B,G,N)"),
            ("C", B.shape, "(B,G,N)"),
            ("D", inner, wide),
            ("z", x.shape, "(B,H,P) or (B,D)"),
            ("dt_bias", inner, wide),
            ("out", x.shape, "(B,H,P) or (B,D)"),
        ):
            tensor = getattr(self, name)
            if tensor is not None:
                door.shape(name, tensor, shape, letters)
                door.dtype(name, tensor, door.FLOATS)
        if self.state_indices is not None:
            door.shape("state_indices", self.state_indices, (batch,), "(B)")
            door.dtype("state_indices", self.state_indices, (torch.int32,))
        elif batch > state.shape[0]:
            raise ValueError(
                f"state must have a slot for each of the {batch} rows of x, "
                f"got {tuple(state.shape)}"
            )
        others = {name: tensor for name, tensor in self._asdict().items() if name != "x"}
        door.same_device(x, **others)
