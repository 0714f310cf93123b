"""What forms are made of: dtypes and switches as values of an axis, tensors without values.

Promises: tensors lie on the current CUDA device, real or pretended; None stands for one left out.
"""

from __future__ import annotations

from typing import Any

import torch

FLOATS = ("bfloat16", "float16", "float32")
#: A tensor that may be left out.
MAYBE = (None, *FLOATS)
SWITCH = (False, True)


def t(dtype: str | None, *shape: int, apart: bool = False) -> Any:
    """A tensor, None without a dtype; `apart`: every second element of a larger one."""
    if dtype is None:
        return None
    last = 2 * shape[-1] if apart else shape[-1]
    found = torch.empty((*shape[:-1], last), dtype=getattr(torch, dtype), device="cuda")
    return found[..., ::2] if apart else found


def f(*shape: int) -> Any:
    """A tensor of float32."""
    return t("float32", *shape)


def i(*shape: int) -> Any:
    """A tensor of int32."""
    return t("int32", *shape)


def final(dtype: str | None) -> Any:
    """`return_final_state` of an operation: a dtype, or False where no state is asked for."""
    return False if dtype is None else getattr(torch, dtype)
