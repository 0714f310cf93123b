"""What a board adds to a device: one memory for CPU and GPU, power modes, checks of its own.

`Device.onboard` is None for a card with a memory of its own. Whoever measures asks for this and
never for a kind of board, so that another one needs no change outside of `devices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ssmprof.records import Check

CheckFound = Check | Iterable[Check] | None


class Guard(Protocol):
    """Keeps what a worker takes from the memory it shares with everything else."""

    period_s: float

    def __call__(self, pid: int) -> str | None:
        """Why the worker must go, or None."""
        ...

    def free_bytes(self) -> int | None:
        """What is available at this moment."""
        ...

    def room_bytes(self) -> int | None:
        """What a new worker may take."""
        ...


class Onboard(Protocol):
    """A board around a GPU. Hertz, bytes; None where the board does not tell."""

    @property
    def board(self) -> str:
        """Module and number, for the record of the machine."""
        ...

    @property
    def chip(self) -> str | None:
        """Key of the board's peaks."""
        ...

    @property
    def l4t(self) -> str | None:
        """Release of the board's system."""
        ...

    @property
    def power_mode(self) -> str | None:
        """Name of the active power mode."""
        ...

    @property
    def sm_cap_hz(self) -> float | None:
        """Cap of the GPU's clock in the active power mode."""
        ...

    @property
    def memory_cap_hz(self) -> float | None:
        """Cap of the memory clock in the active power mode."""
        ...

    def guard(self) -> Guard:
        """What watches the shared memory."""
        ...

    def swap_used_bytes(self) -> int | None:
        """Memory that was swapped out: growth of it voids a timing."""
        ...

    def compiler_settings(self, triton: str | None, environ: Mapping[str, str]) -> dict[str, str]:
        """Variables that Triton needs here to compile at all, beyond those that are set."""
        ...

    def checks(self) -> Mapping[str, Callable[[], CheckFound]]:
        """The doctor's checks of this board; they take the place of general ones of their name."""
        ...

    def judge_torch(self, found: Check) -> Check:
        """The doctor's verdict on torch, with what fits this board."""
        ...
