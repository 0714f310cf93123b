"""The static check: compiles for absent GPUs, finds spills, reads loops."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from ssmprof_kernels import OPS
from ssmprof_kernels.static import report, sass
from ssmprof_kernels.static.specimens import SPECIMENS

from ssmprof.families import family_of

#: What the kernels of each operation say of themselves.
FAMILY = {
    "ssd_scan": "scan",
    "selective_scan": "scan",
    "selective_state_update": "scan",
    "causal_conv1d": "conv",
    "causal_conv1d_update": "conv",
    "gated_rmsnorm": "norm",
    "attention_decode": "attention",
}


def environment():
    """Without Triton's interpreter, which is on here."""
    return {n: v for n, v in os.environ.items() if n != "TRITON_INTERPRET"} | {
        "PYTHONPATH": "kernels"
    }


def run(*arguments):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ssmprof_kernels.static", *arguments],
        capture_output=True, text=True, env=environment(), timeout=240,
    )  # fmt: skip


@pytest.mark.parametrize("arch", ["sm_87", "sm_90"])
def test_no_default_configuration_spills(arch):
    done = run("--arch", arch, "--quick", "--check", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {r["op"] for r in found} == set(OPS)
    assert all(r["registers"] > 0 and r["instructions"] > 0 for r in found)
    assert all(r["programs_per_sm"] >= 1 for r in found)
    assert {r["op"]: family_of("", r["kernel"]) for r in found} == FAMILY


def test_every_operation_has_a_specimen():
    assert set(SPECIMENS) == set(OPS)


@pytest.mark.parametrize("arguments", [("--arch", "hopper"), ("no_such_op",), ("--part", "3/2")])
def test_bad_arguments_end_with_two_and_one_line(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_longest_backward_branch_is_the_loop():
    lines = [
        (0x00, "MOV", " R1"),
        (0x10, "FFMA", " R2"),
        (0x20, "MUFU", " R2"),
        (0x30, "BRA", " 0x10"),
        (0x40, "FADD", " R3"),
        (0x50, "BRA", " 0x40"),
        (0x60, "EXIT", ""),
        (0x70, "BRA", " 0x70"),
    ]
    assert [name for _, name, _ in sass.longest_loop(lines)] == ["FFMA", "MUFU", "BRA"]
    assert sass.longest_loop(lines[:3]) == lines[:3]


def test_a_spill_and_too_much_shared_memory_are_named():
    fine = report.Report("op", "s", "k", 4, 100, 1000, 0, 0, 2, 10, 10)
    bad = report.Report("op", "s", "k", 4, 255, 400_000, 8, 3, 0, 10, 10)
    assert report.complaints([fine], 90) == []
    spill, shared = report.complaints([bad], 90)
    assert "3 local" in spill
    assert "400000 bytes" in shared


@pytest.mark.parametrize(
    ("sm", "warps", "registers", "shared", "programs"),
    [(90, 4, 128, 512, 4), (90, 4, 96, 71680, 3), (87, 4, 32, 0, 12), (86, 8, 40, 60_000, 1)],
)
def test_programs_per_multiprocessor_follow_the_scarcest_resource(
    sm, warps, registers, shared, programs
):
    assert sass.programs_per_sm(sm, warps, registers, shared) == programs
