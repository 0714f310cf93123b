"""Mends Triton's interpreter for numpy 2.4, which no longer turns a one-element array into an int.

Triton 3.6 does so for every loop bound that is a tensor; remove this file with that version.
"""

from __future__ import annotations

from typing import Any

from triton.runtime import interpreter

_patch = interpreter._patch_lang_tensor


def _patch_with_item(tensor: Any, scope: Any) -> None:
    _patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


interpreter._patch_lang_tensor = _patch_with_item
