"""Every dtype and option of every operation has a form, and its kernels compile."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import subprocess
import sys

import pytest
from ssmprof_kernels import OPS
from ssmprof_kernels.static import empty, forms, report
from ssmprof_kernels.static.covering import combinations, covering, split


def environment():
    """Without Triton's interpreter, which is on here."""
    return {n: v for n, v in os.environ.items() if n != "TRITON_INTERPRET"} | {
        "PYTHONPATH": "kernels"
    }


#: Each form of the pairs is compiled for one architecture, each value of an option for both; of the
#: operations that few mixers use each value alone, for both. `make static-all` compiles all pairs.
PARTS = {"sm_87": "1/2", "sm_90": "2/2"}
PAIRED = (
    *("ssd_scan", "selective_scan", "selective_state_update", "causal_conv1d"),
    *("causal_conv1d_update", "gated_rmsnorm", "attention_decode"),
)
SINGLE = tuple(op for op in OPS if op not in PAIRED)
SIGNATURES = {op: set(inspect.signature(OPS[op].kernel).parameters) for op in OPS}


@pytest.mark.parametrize("op", OPS)
def test_every_parameter_of_an_operation_is_an_axis_of_its_forms(op):
    axes, also = set(forms.AXES[op]), forms.WITH[op]
    assert SIGNATURES[op] <= axes | set(also)
    assert set(also.values()) <= axes
    assert not set(also) & axes


@pytest.mark.parametrize("op", OPS)
def test_every_float_argument_takes_every_dtype_or_says_why_not(op):
    # Decay rates are stored in fp32, or in bf16 by a model cast whole; so are skips and biases.
    fewer = {"A", "A_log", "D", "dt_bias"}
    for name, parameter in inspect.signature(OPS[op].kernel).parameters.items():
        values = set(forms.AXES[op].get(name, ()))
        if values & set(empty.FLOATS):
            assert "Tensor" in str(parameter.annotation) or name == "return_final_state"
            wanted = {"float32", "bfloat16"} if name in fewer else set(empty.FLOATS)
            assert wanted <= values, name


@pytest.mark.parametrize("op", OPS)
def test_the_forms_that_are_compiled_name_every_pair_of_values(op):
    named = {label for label, _ in report.calls(op, "pairs")}
    chosen = covering(forms.AXES[op])
    assert named == {forms.label(form) for form in chosen}
    for one, other in itertools.combinations(forms.AXES[op], 2):
        wanted = set(itertools.product(forms.AXES[op][one], forms.AXES[op][other]))
        assert {(form[one], form[other]) for form in chosen} == wanted, (one, other)


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_a_covering_is_complete_small_and_the_same_each_time(strength):
    axes = {"a": (1, 2, 3), "b": (None, "x"), "c": (False, True), "d": (1, 2, 3, 4)}
    found = covering(axes, strength)
    assert found == covering(axes, strength)
    assert found[0] == {"a": 1, "b": None, "c": False, "d": 1}
    have = {c for form in found for c in itertools.combinations(form.items(), strength)}
    assert set(combinations(axes, strength)) <= have
    assert len(found) <= {1: 4, 2: 14, 3: 36}[strength]
    assert len(covering({"a": (1, 2)}, 2)) == 2


@pytest.mark.parametrize("op", OPS)
def test_every_value_is_compiled_for_every_architecture_and_every_pair_for_one(op):
    chosen = covering(forms.AXES[op])
    shares = split(chosen, len(PARTS))
    for (_, part), share in zip(PARTS.items(), shares, strict=True):
        k, n = map(int, part.split("/"))
        assert [label for label, _ in report.calls(op, "pairs", (k, n))] == [
            forms.label(form) for form in share
        ]
        for name, values in forms.AXES[op].items():
            assert {form[name] for form in share} == set(values), name
    assert {forms.label(f) for share in shares for f in share} == set(map(forms.label, chosen))
    assert sum(map(len, shares)) <= len(chosen) + 6


#: Local loads and stores of forms outside of the everyday one, at most; what is not named has none.
SPILLS = {
    ("ssmprof_norm_gated_rms", "sm_87"): 4,
    ("ssmprof_scan_ssd_summaries", "sm_87"): 109,
    ("ssmprof_scan_ssd_summaries", "sm_90"): 466,
    ("ssmprof_scan_ssd_walk", "sm_87"): 5383,
    ("ssmprof_scan_ssd_walk", "sm_90"): 5817,
    ("ssmprof_scan_ssd_walk_hopper", "sm_90"): 9,
    ("ssmprof_scan_delta_prepare", "sm_90"): 4,
    ("ssmprof_scan_delta_walk", "sm_87"): 39,
    ("ssmprof_scan_kda_prepare", "sm_87"): 12,
    ("ssmprof_scan_delta_walk", "sm_90"): 12,
    ("ssmprof_scan_selective_gluon", "sm_90"): 193,
    ("ssmprof_scan_selective", "sm_87"): 176,
    ("ssmprof_scan_selective", "sm_90"): 127,
    ("ssmprof_scan_linear_walk", "sm_90"): 218,
    ("ssmprof_scan_mamba3_walk", "sm_87"): 267,
    ("ssmprof_scan_mamba3_walk", "sm_90"): 316,
    # Of fp16 heads narrower than 64, whose own tiles are miscompiled; 53 of all others.
    ("ssmprof_scan_rwkv7_map", "sm_90"): 101,
}


@pytest.fixture(scope="module")
def matrix():
    """Reports by architecture, compiled side by side."""
    found = {arch: [] for arch in PARTS}
    for ops, which in ((PAIRED, "pairs"), (SINGLE, "values")):
        for arch, reports in compiled(ops, which).items():
            found[arch] += reports
    return found


def compiled(ops, which):
    """Reports by architecture of the forms of `ops`."""
    started = {
        arch: subprocess.Popen(
            [sys.executable, "-m", "ssmprof_kernels.static", *ops, "--arch", arch, "--forms", which,
             "--part", part if which == "pairs" else "1/1", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )
        for arch, part in PARTS.items()
    }  # fmt: skip
    try:
        ended = {arch: (*process.communicate(), process.returncode)
                 for arch, process in started.items()}  # fmt: skip
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    for arch, (_, stderr, code) in ended.items():
        assert code == 0, f"{arch}: {stderr}"
    return {arch: json.loads(stdout) for arch, (stdout, _, _) in ended.items()}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("arch", PARTS)
def test_every_pair_of_options_compiles_and_spills_no_more_than_is_known(arch, matrix):
    found = matrix[arch]
    # Each kernel is reported once: lightning attention launches those of retention.
    assert {r["op"] for r in found} == set(OPS) - {"lightning", "lightning_step"}
    assert all(r["programs_per_sm"] >= 1 for r in found)
    for r in found:
        assert r["spills"] <= SPILLS.get((r["kernel"], arch), 0), (r["kernel"], r["specimen"])
