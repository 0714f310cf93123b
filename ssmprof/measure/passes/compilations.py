"""Counts kernels that Triton compiles or loads for the first time in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def count_compilations() -> Callable[[], int]:
    """Listen from now on; the returned function tells how many kernels became new so far.

    A kernel found in the cache on disk counts too: loading it is part of a cold start as well.
    Always 0 where Triton is missing or has no such hook.
    """
    try:
        from triton import knobs

        before = knobs.compilation.listener
    except (ImportError, AttributeError):
        return lambda: 0
    count = 0

    def listen(**event: Any) -> None:
        nonlocal count
        count += 1
        if before is not None:
            before(**event)

    knobs.compilation.listener = listen
    return lambda: count
