"""The static check: compiles for absent GPUs, finds spills, reads loops."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
from ssmprof_kernels import OPS
from ssmprof_kernels.static import offline, report, sass
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
        capture_output=True, text=True, env=environment(), timeout=900,
    )  # fmt: skip


def test_no_default_configuration_spills_on_any_architecture():
    done = run("--arch", "all", "--quick", "--check", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {(r["sm"], r["op"]) for r in found} == set(itertools.product(offline.CAPABILITIES, OPS))
    assert all(r["registers"] > 0 and r["instructions"] > 0 for r in found)
    assert all(r["programs_per_sm"] >= 1 for r in found)
    families = {r["op"]: family_of("", r["kernel"]) for r in found}
    assert FAMILY.items() <= families.items()
    assert all(families.values())


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


def test_spills_are_counted_by_architecture_and_kernel():
    found = [
        report.Report("op", form, "k", 4, registers, 0, 0, spilled, 2, 10, 10, sm=sm)
        for form, sm, registers, spilled in (("a", 87, 90, 0), ("b", 87, 255, 7), ("a", 90, 64, 0))
    ]
    assert report.spills(found) == [
        report.Spills(87, "op", "k", 2, 1, 7, 255), report.Spills(90, "op", "k", 1, 0, 0, 64),
    ]  # fmt: skip


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
