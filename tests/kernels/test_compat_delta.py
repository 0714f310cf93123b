"""fla's delta rules under their own names: which argument goes where, and what comes back."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from kernels.delta_cases import inputs, rms, state
from ssmprof_kernels import OPS, compat
from ssmprof_kernels.compat import fla_delta

CHUNK = {"gated_delta": fla_delta.chunk_gated_delta_rule, "kda": fla_delta.chunk_kda}
RECURRENT = {
    "gated_delta": fla_delta.fused_recurrent_gated_delta_rule,
    "kda": fla_delta.fused_recurrent_kda,
}
rules = pytest.mark.parametrize("op", CHUNK)
forms = pytest.mark.parametrize("table", [CHUNK, RECURRENT], ids=["chunk", "recurrent"])


def theirs(given: dict[str, Any]) -> dict[str, Any]:
    """The same call as fla takes it, gates and norms inside."""
    return given | {
        "dt_bias": given["dt_bias"].flatten(),
        "use_gate_in_kernel": True,
        "use_qk_l2norm_in_kernel": True,
        "use_beta_sigmoid_in_kernel": True,
    }


@rules
@forms
@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("v_first", [False, True])
def test_gates_norms_and_states(op: str, table: Any, length: int, v_first: bool) -> None:
    given, first = inputs(op, length), state(op)
    before = first.clone()
    want, want_last = OPS[op].sequential(
        **given, qk_l2norm=True, beta_sigmoid=True, negative=True, scale=0.3, initial_state=first
    )
    o, last = table[op](
        **theirs(given), scale=0.3, allow_neg_eigval=True, output_final_state=True,
        initial_state=first.transpose(-1, -2).contiguous() if v_first else first,
        state_v_first=v_first,
    )  # fmt: skip
    assert torch.equal(first, before)
    assert rms(o, want) < 1e-5
    assert last.is_contiguous()
    assert rms(last.transpose(-1, -2) if v_first else last, want_last) < 1e-5


@rules
def test_log_decays_and_packed_sequences(op: str) -> None:
    given = inputs(op, 40)
    g, beta = -given["g"].abs(), given["beta"].sigmoid()
    cu = torch.tensor([0, 7, 40])
    o, last = CHUNK[op](
        given["q"], given["k"], given["v"], g, beta, cu_seqlens=cu, output_final_state=True,
        chunk_size=32, use_qk_l2norm_in_kernel=True,
    )  # fmt: skip
    want, want_last = OPS[op].sequential(
        given["q"], given["k"], given["v"], g, beta, qk_l2norm=True, cu_seqlens=cu.int()
    )
    assert rms(o, want) < 1e-5
    assert rms(last, want_last) < 1e-5
    assert CHUNK[op](given["q"], given["k"], given["v"], g, beta)[1] is None


@forms
def test_a_lower_bound_of_the_decay(table: Any) -> None:
    given = inputs("kda", 20)
    logits = given["A_log"].exp()[:, None] * (given["g"] + given["dt_bias"])
    want, _ = OPS["kda"].sequential(
        given["q"], given["k"], given["v"], -5.0 * logits.sigmoid(), given["beta"],
        qk_l2norm=True, beta_sigmoid=True,
    )  # fmt: skip
    assert rms(table["kda"](**theirs(given), lower_bound=-5.0)[0], want) < 1e-5


@pytest.mark.parametrize("name", ["chunk_delta_rule", "fused_recurrent_delta_rule"])
@pytest.mark.parametrize("length", [1, 40])
def test_the_rule_without_decay(name: str, length: int) -> None:
    given = inputs("gated_delta", length)
    q, k, v, beta = (given[n] for n in ("q", "k", "v", "beta"))
    want, last = OPS["gated_delta"].sequential(q, k, v, None, beta.sigmoid(), qk_l2norm=True)
    o, got = getattr(fla_delta, name)(
        q, k, v, beta.sigmoid(), use_qk_l2norm_in_kernel=True, output_final_state=True
    )
    assert rms(o, want) < 1e-5
    assert rms(got, last) < 1e-5


@rules
def test_what_is_not_offered_raises(op: str) -> None:
    given = theirs(inputs(op, 9))
    with pytest.raises(ValueError, match="cp_context is not offered"):
        CHUNK[op](**given, cp_context=object())
    with pytest.raises(ValueError, match="needs A_log"):
        CHUNK[op](**{**given, "A_log": None})
    with pytest.raises(ValueError, match="beta_sigmoid"):
        CHUNK[op](**{**given, "use_beta_sigmoid_in_kernel": False}, allow_neg_eigval=True)
    with pytest.raises(RuntimeError, match=r"^g requires a gradient"):
        CHUNK[op](**{**given, "g": given["g"].requires_grad_()})
    if op == "gated_delta":
        with pytest.raises(ValueError, match="gv is not offered"):
            RECURRENT[op](**given, gv=given["v"])
    else:
        with pytest.raises(ValueError, match="return_intermediate_states is not offered"):
            CHUNK[op](**given, return_intermediate_states=True)


@pytest.mark.parametrize("module", ["delta_rule", "gated_delta_rule", "kda"])
def test_they_are_found_under_fla(module: str) -> None:
    with compat.installed("fla", replace=True):
        found = importlib.import_module(f"fla.ops.{module}")
        assert callable(getattr(found, f"chunk_{module}"))
        assert callable(getattr(found, f"fused_recurrent_{module}"))
