"""Every dtype and option of every operation, as axes whose values can be combined freely.

Promises: `AXES[op]` has an axis for each parameter of the operation, or says in `WITH` which axis
decides about it; `call(op, form)` runs the operation in that form on the current CUDA device, real
or pretended, with inputs whose values do not matter. Sizes are small but reach each bucket of
blocks that changes code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ssmprof_kernels.static import linear_forms, mamba_forms, mixer_forms, mixing_forms
from ssmprof_kernels.static.covering import Form

AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    **mamba_forms.AXES,
    **mixer_forms.AXES,
    **linear_forms.AXES,
    **mixing_forms.AXES,
}
#: Parameters that an axis of another name decides about, or whose value a kernel only passes on.
WITH: dict[str, dict[str, str]] = {
    **mamba_forms.WITH,
    **mixer_forms.WITH,
    **linear_forms.WITH,
    **mixing_forms.WITH,
}
_CALLS: dict[str, Callable[..., Any]] = {
    **mamba_forms.CALLS,
    **mixer_forms.CALLS,
    **linear_forms.CALLS,
    **mixing_forms.CALLS,
}


def label(form: Form) -> str:
    """The form in one line, axes in their order; what is off or left out is not named."""
    return " ".join(f"{name}={value}" for name, value in form.items() if value not in (None, False))


def call(op: str, form: Form) -> Any:
    """Run `op` in that form."""
    return _CALLS[op](**{name.replace(" ", "_"): value for name, value in form.items()})
