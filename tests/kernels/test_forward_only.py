"""No operation loses a gradient in silence, in no form and for no argument."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from ssmprof_kernels import OPS, compat
from ssmprof_kernels.add_norm import op as add_norm
from ssmprof_kernels.compat import vllm
from ssmprof_kernels.reference.mamba3 import Weights
from ssmprof_kernels.ring_update import new_ring
from ssmprof_kernels.rotary import op as rotary
from ssmprof_kernels.swiglu import op as swiglu

X, V = torch.randn(1, 4, 2, 16), torch.randn(2)
BC = torch.randn(1, 4, 1, 16)
U, N = torch.randn(1, 4, 6), torch.randn(1, 4, 3)
ONE = torch.ones(6)
STEP = {"x": U[0], "dt": U[0], "A": -torch.rand(6, 3), "B": N[0], "C": N[0]}
STEP |= {"D": ONE, "z": U[0], "dt_bias": ONE}

R = ("r", "w", "k", "v", "kk", "a")
#: What has no default and is no tensor.
SCALED = [op for op in OPS if op.removesuffix("_step") in ("gla", "retention", "lightning")]
MORE = {op: {"scale": 1.0} if op in SCALED else {} for op in OPS}
STATE = torch.zeros(1, 2, 16, 16)
MAMBA3 = {
    **dict.fromkeys("qk", torch.randn(1, 4, 1, 1, 16)), "v": X,
    **dict.fromkeys(("a", "dt", "trap"), X[..., 0]), "angles": N, "z": X,
}  # fmt: skip
MAMBA3_STATE = torch.zeros(1, 2 * (16 * 16 + 16 + 16))
BIAS = torch.randn(2, 1, 16)
MORE |= {f"mamba3_{form}": {"weights": Weights(V, BIAS, BIAS, V)} for form in ("scan", "step")}
RINGED = torch.zeros(4, 6, 3)
MORE["ring_state_update"] = {"ring": new_ring(RINGED, U[0], N[0], tied=False, tokens=4)}
MORE["latent_decode"] = {"rank": 8, "scale": 1.0}
MORE["latent_rotary"] = {"eps": 1e-5}
MORE["grouped_mm"] = {"ends": torch.tensor([1, 4], dtype=torch.int32)}
MORE["token_shift"] = {"resumed": True}
MORE["rwkv7_keys"] = {"heads": 2, "lowest": -0.6}
MORE["rwkv7_output"] = {"eps": 1e-5}
SIX = ("w", "k", "a", "v", "v_first", "share")
RETENTION = {**dict.fromkeys("qkv", X), "decay": V, "initial_state": STATE}
RETENTION_STEP = {"state": STATE, **dict.fromkeys("qkv", X[:, 0]), "decay": V}
RULE = {"q": BC, "k": BC, "v": X, "g": X[..., 0], "beta": X[..., 0], "A_log": V, "dt_bias": V}
CHANNELS = RULE | {"g": X, "dt_bias": torch.zeros(2, 16)}
#: Every floating-point argument of every operation.
GIVEN: dict[str, dict[str, Any]] = {
    "ssd_scan": {
        "x": X, "dt": X[..., 0], "A": -V.abs(), "B": BC, "C": BC, "D": V, "z": X, "dt_bias": V,
        "initial_state": torch.zeros(1, 2, 16, 16),
    },
    "selective_scan": {
        "u": U, "dt": U, "A": -torch.rand(6, 3), "B": N, "C": N, "D": ONE, "z": U, "dt_bias": ONE,
        "initial_state": torch.zeros(1, 6, 3),
    },
    "selective_state_update": {"state": torch.zeros(4, 6, 3), **STEP, "out": torch.empty(4, 6)},
    "causal_conv1d": {
        "x": U, "weight": torch.randn(6, 4), "bias": ONE, "initial_state": torch.zeros(1, 6, 3),
    },
    "causal_conv1d_update": {
        "x": U[0], "conv_state": torch.zeros(4, 6, 3), "weight": torch.randn(6, 4), "bias": ONE,
    },
    "gated_rmsnorm": {"x": U, "weight": ONE, "z": U, "bias": ONE},
    "attention_decode": {"q": X[0], "k_cache": torch.randn(4, 5, 2, 16),
                         "v_cache": torch.randn(4, 5, 2, 16), "sinks": torch.randn(2)},
    "gla": {**dict.fromkeys("qkva", X), "initial_state": STATE},
    "gla_step": {"state": STATE, **dict.fromkeys("qkva", X[:, 0])},
    "rwkv7": {**dict.fromkeys(R, X), "initial_state": STATE},
    "rwkv7_step": {"state": STATE, **dict.fromkeys(R, X[:, 0])},
    "token_shift": {"x": U, "mix": ONE.expand(6, 6), "last": torch.zeros(1, 6)},
    "rwkv7_keys": {**dict.fromkeys(SIX, U), "removed": ONE, "added": ONE},
    "rwkv7_output": {
        **dict.fromkeys("yrkv", U.unflatten(-1, (2, 3))), "gate": U,
        **dict.fromkeys(("weight", "bonus", "bias"), ONE),
    },
    "relu2": {"hidden": U.clone()},
    "mamba3_scan": {**MAMBA3, "initial_state": MAMBA3_STATE},
    "mamba3_step": {"state": MAMBA3_STATE, **{n: t[:, 0] for n, t in MAMBA3.items()}},
    "ring_state_update": {"state": RINGED, **STEP},
    "latent_decode": {"q": X[0], "latents": torch.randn(4, 5, 16)},
    "latent_rotary": {
        "q": X, "row": U, "weight": torch.randn(4), **dict.fromkeys(("cos", "sin"), U[0, :, :1]),
        "q_out": torch.zeros(1, 4, 2, 16), "row_out": torch.zeros(1, 4, 6),
    },
    "grouped_mm": {"rows": U[0], "weight": torch.randn(2, 5, 6)},
    "retention": RETENTION,
    "lightning": RETENTION,
    "retention_step": RETENTION_STEP,
    "lightning_step": RETENTION_STEP,
    "gated_delta": RULE | {"initial_state": STATE},
    "gated_delta_step": {n: t[:, 0] if t.dim() > 2 else t for n, t in RULE.items()}
    | {"state": STATE},
    "kda": CHANNELS | {"initial_state": STATE},
    "kda_step": {n: t[:, 0] if t.dim() > 2 else t for n, t in CHANNELS.items()}
    | {"state": STATE},
}  # fmt: skip
#: What is no floating-point tensor, hence can want no gradient.
OTHERS = {
    "seq_idx",
    "cu_seqlens",
    "state_indices",
    "cache_seqlens",
    "lengths",
    "block_table",
    "ends",
    "positions",
}


def test_every_tensor_of_every_operation_is_tried():
    for name, given in GIVEN.items():
        annotated = inspect.signature(OPS[name].kernel).parameters.items()
        tensors = {n for n, p in annotated if "Tensor" in p.annotation}
        assert tensors - OTHERS == set(given), name
    assert set(GIVEN) == set(OPS)


@pytest.mark.parametrize("interpret", ["1", "0"])
@pytest.mark.parametrize(("op", "name"), [(o, n) for o in GIVEN for n in GIVEN[o]])
def test_an_argument_that_wants_a_gradient_is_refused(op, name, interpret, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", interpret)
    given = GIVEN[op] | {name: GIVEN[op][name].clone().requires_grad_()}
    given.pop("out", None) if name != "out" else None
    with pytest.raises(RuntimeError, match=f"^{name} requires a gradient, .* forwards only; call"):
        OPS[op].kernel(**given, **MORE[op])
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            OPS[op].kernel(**given, **MORE[op])


def test_what_no_gradient_is_wanted_of_passes_with_gradients_on():
    for op, given in GIVEN.items():
        assert torch.is_grad_enabled()
        y = OPS[op].kernel(**given, **MORE[op])
        assert not (y[0] if isinstance(y, tuple) else y).requires_grad


def test_the_smaller_kernels_refuse_it_too():
    x = torch.randn(2, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^hidden requires"):
        swiglu.swiglu(x)
    with pytest.raises(RuntimeError, match=r"^update requires"):
        add_norm.add_rms_norm(x.detach(), x, x[0].detach(), scale=1.0, eps=1e-5, in_place=False)
    qkv = torch.randn(1, 2, 4, 8, requires_grad=True)
    cache = torch.zeros(1, 2, 1, 8)
    with pytest.raises(RuntimeError, match=r"^qkv requires"):
        rotary.rotary(qkv, None, None, cache, cache, 0)


FUNCTIONS = [f for _, table in compat.PACKAGES.values() for fs in table.values() for f in fs]
FUNCTIONS += [vllm.selective_state_update, vllm.causal_conv1d_update]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_compatible_functions_name_the_argument_as_their_caller_does(function):
    # Any shapes: the refusal comes first.
    tensors = {
        n: torch.zeros(1, 2, 2, 2) for n, p in inspect.signature(function).parameters.items()
        if "Tensor" in p.annotation and p.default is inspect.Parameter.empty
    }  # fmt: skip
    more = {"chunk_size": 8} if function.__name__ == "mamba_chunk_scan_combined" else {}
    more |= {"is_rms_norm": True} if function.__name__ == "layernorm_fn" else {}
    more |= {"layer_idx": 0, "num_layers": 2} if "lightning" in function.__name__ else {}
    more |= {"bias": None} if function.__name__ in ("layernorm_fn", "rmsnorm_fn") else {}
    more |= {"state_len": 2} if function.__name__ == "causal_conv1d_varlen_states" else {}
    for name in set(tensors) - set(more) - OTHERS:
        wanted = {**tensors, name: tensors[name].clone().requires_grad_()}
        with pytest.raises(RuntimeError, match=f"^{name} requires a gradient"):
            function(**wanted | more)
