"""The delta rules on a real GPU: long prompts stay finite, segments agree, and fla is no nearer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from kernels.delta_cases import PUBLISHED, inputs, rms
from ssmprof_kernels import OPS, launch
from ssmprof_kernels.gated_delta import plan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
rules = pytest.mark.parametrize("op", ["gated_delta", "kda"])


def prompt(op: str, length: int, heads: int = 4) -> dict[str, Any]:
    return inputs(
        op, length, heads=heads, key_heads=heads, key=128, value=128, dtype=torch.bfloat16,
        device="cuda",
    )  # fmt: skip


@rules
def test_states_stay_finite_over_a_hundred_thousand_tokens(op: str) -> None:
    y, last = OPS[op].kernel(**prompt(op, 100_000), **PUBLISHED, return_final_state=True)
    assert y.isfinite().all()
    assert last.isfinite().all()
    assert last.abs().max() < 1e4


@rules
@pytest.mark.parametrize("count", [2, 5])
def test_segments_agree_with_one_walk(op: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = prompt(op, 1500)
    found = []
    for segments in (1, count):
        monkeypatch.setitem(plan.DEFAULT, "S", segments)
        launch.forget()
        found.append(OPS[op].kernel(**given, **PUBLISHED, return_final_state=True))
    launch.forget()
    for one, other in zip(*found, strict=True):
        assert rms(one, other) < 5e-3


@rules
@pytest.mark.parametrize("case", ["usual", "forgets at once", "strong", "small steps"])
def test_the_error_is_no_larger_than_that_of_fla(op: str, case: str) -> None:
    module = pytest.importorskip("fla.ops.kda" if op == "kda" else "fla.ops.gated_delta_rule")
    theirs = getattr(module, "chunk_kda" if op == "kda" else "chunk_gated_delta_rule")
    given = prompt(op, 700)
    rate = given["A_log"].clone()
    if case == "forgets at once":
        given["A_log"].fill_(math.inf)
        rate.fill_(60.0)
    elif case == "strong":
        given["g"] += 40.0
    elif case == "small steps":
        given["beta"] -= 14.0
        given["g"] -= 12.0
    options = {"qk_l2norm": True, "beta_sigmoid": True}
    want = OPS[op].sequential(**{**given, "A_log": rate}, **options)
    got = OPS[op].kernel(**given, **options, return_final_state=True)
    peer = theirs(
        given["q"], given["k"], given["v"], g=given["g"], beta=given["beta"],
        use_qk_l2norm_in_kernel=True, use_gate_in_kernel=True, use_beta_sigmoid_in_kernel=True,
        A_log=given["A_log"], dt_bias=given["dt_bias"].flatten(), output_final_state=True,
    )  # fmt: skip
    for mine, fla, exact in zip(got, peer, want, strict=True):
        assert mine.isfinite().all()
        assert rms(mine, exact) <= 1.5 * rms(fla, exact) or not fla.isfinite().all()
