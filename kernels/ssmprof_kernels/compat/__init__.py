"""Our kernels under the names of mamba_ssm, causal_conv1d and fla, for unmodified models.

`with compat.installed("mamba_ssm", "causal_conv1d"):` puts modules of those names into
`sys.modules` and takes them out again; models imported inside keep what they bound. Promises: a
really installed package is replaced only with `replace=True`; a Hugging Face model that already
chose its functions is an error, not a silent slow path; every parameter of the original is spelled
out, and a value that cannot be honoured raises. vLLM has no package of its own for its kernels; the
functions of `compat.vllm` are put in their places one by one.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from ssmprof_kernels.compat import causal_conv1d, fla, fla_gated, fla_rwkv7, mamba_ssm

#: Package -> its version whose signatures are offered, and module path -> functions.
PACKAGES: dict[str, tuple[str, dict[str, tuple[Callable[..., Any], ...]]]] = {
    "mamba_ssm": (
        "2.3.2+ssmprof",
        {
            "ops.selective_scan_interface": (
                mamba_ssm.selective_scan_fn,
                mamba_ssm.mamba_inner_fn,
            ),
            "ops.triton.ssd_combined": (mamba_ssm.mamba_chunk_scan_combined,),
            "ops.triton.selective_state_update": (mamba_ssm.selective_state_update,),
            "ops.triton.layernorm_gated": (mamba_ssm.layernorm_fn, mamba_ssm.rmsnorm_fn),
        },
    ),
    "causal_conv1d": (
        "1.7.0+ssmprof",
        {
            "": (causal_conv1d.causal_conv1d_fn, causal_conv1d.causal_conv1d_update),
            "causal_conv1d_varlen": (causal_conv1d.causal_conv1d_varlen_states,),
        },
    ),
    "fla": (
        "0.6.0+ssmprof",
        {
            "ops.simple_gla": (fla.chunk_simple_gla, fla.fused_recurrent_simple_gla),
            "ops.gla": (fla_gated.chunk_gla, fla_gated.fused_recurrent_gla),
            "ops.retention": (fla_gated.chunk_retention, fla_gated.fused_recurrent_retention),
            "ops.lightning_attn": (
                fla_gated.chunk_lightning_attn,
                fla_gated.fused_recurrent_lightning_attn,
            ),
            "ops.rwkv7": (
                fla_rwkv7.chunk_rwkv7,
                fla_rwkv7.fused_recurrent_rwkv7,
                fla_rwkv7.fused_mul_recurrent_rwkv7,
            ),
        },
    ),
}

#: Hugging Face models that bind such a function when they are imported.
_BINDING = ("mamba", "jamba", "bamba", "falcon_h1", "granitemoehybrid", "nemotron_h")


def install(*packages: str, replace: bool = False) -> None:
    """Offer `packages` (all by default) from now on; call before importing a model.

    Raises:
        ValueError: a name that is not in `PACKAGES`.
        RuntimeError: a package is really installed and `replace` is False, or a Hugging Face model
            has already chosen its functions.
    """
    names = packages or tuple(PACKAGES)
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"no compatible package {name!r}; known are {', '.join(PACKAGES)}")
        if not replace and _really_installed(name):
            raise RuntimeError(
                f"{name} is installed on this machine; pass replace=True to use ssmprof_kernels "
                f"in its place"
            )
    bound = [m for m in sys.modules if _binds(m)]
    if bound:
        raise RuntimeError(
            f"{bound[0]} was imported before and has already chosen its functions; "
            f"call compat.install() before importing the model"
        )
    for name in names:
        _forget(name)
        sys.modules.update(_modules(name))


@contextlib.contextmanager
def installed(*packages: str, replace: bool = False) -> Iterator[None]:
    """`install`, and the module table as it was at the end."""
    names = packages or tuple(PACKAGES)
    before = {m: sys.modules[m] for m in sys.modules if m.partition(".")[0] in names}
    install(*names, replace=replace)
    try:
        yield
    finally:
        for name in names:
            _forget(name)
        sys.modules.update(before)


def _really_installed(name: str) -> bool:
    module = sys.modules.get(name)
    if module is not None:
        return "ssmprof" not in getattr(module, "__version__", "")
    return importlib.util.find_spec(name) is not None


def _binds(module: str) -> bool:
    parts = module.split(".")
    return (
        parts[:2] == ["transformers", "models"]
        and parts[-1].startswith("modeling_")
        and any(name in parts[-1] for name in _BINDING)
    )


def _forget(name: str) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def _modules(package: str) -> dict[str, ModuleType]:
    version, table = PACKAGES[package]
    made = {package: _module(package)}
    made[package].__dict__["__version__"] = version
    for path, functions in table.items():
        parent = made[package]
        full = package
        for part in path.split(".") if path else []:
            full = f"{full}.{part}"
            if full not in made:
                made[full] = _module(full)
                setattr(parent, part, made[full])
            parent = made[full]
        for function in functions:
            setattr(parent, function.__name__, function)
    return made


def _module(name: str) -> ModuleType:
    module = ModuleType(name, f"ssmprof_kernels under the name of {name}.")
    # A valid spec is what `importlib.util.find_spec`, hence every "is it installed?", looks at.
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    return module
