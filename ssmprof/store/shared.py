"""Equal parts of outcomes held once: a run repeats its points, kernels' names and providers.

A file holds them once per line, and a run of 100,000 lines would hold a million equal strings.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import force_setattr

from ssmprof.records import Failure, KernelTime, Outcome

_NAMES = ("scope", "op", "kernel", "provider")


class Shared:
    """What has been seen; `outcome` gives its argument back with equal parts replaced by those."""

    def __init__(self) -> None:
        self._seen: dict[Any, Any] = {}

    def outcome(self, one: Outcome) -> Outcome:
        """The same outcome, which must be fresh: nobody else may hold it yet."""
        seen = self._seen.setdefault
        force_setattr(one, "point", seen(one.point, one.point))
        force_setattr(one, "environment", seen(one.environment, one.environment))
        if isinstance(one, Failure):
            return one
        if one.providers:
            force_setattr(one, "providers", seen(tuple(one.providers.items()), one.providers))
        if one.notes:
            force_setattr(one, "notes", seen(one.notes, one.notes))
        if one.attribution is not None:
            for kernel in one.attribution.kernels:
                self._kernel(kernel)
        return one

    def _kernel(self, kernel: KernelTime) -> None:
        seen = self._seen.setdefault
        for name in _NAMES:
            text = getattr(kernel, name)
            force_setattr(kernel, name, seen(text, text))
