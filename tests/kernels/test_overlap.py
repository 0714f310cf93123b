"""Kernels that begin before their predecessor ends touch no memory until it has ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from ssmprof_kernels.state_update.plan import is_span

# In a process of its own: here Triton's interpreter is on. Prints launch_pdl, the instruction names
# and the PTX of every kernel that the specimens of the updates compile.
COMPILE = """
import json, sys
from ssmprof_kernels.static import offline, sass
from ssmprof_kernels.static.specimens import SPECIMENS

found = {}
for op in ("selective_state_update", "causal_conv1d_update"):
    with offline.compiling(int(sys.argv[1])) as kernels:
        for _, call in SPECIMENS[op]():
            call()
    found[op] = []
    for kernel in kernels:
        code = sass.dump(kernel.asm["cubin"], "-sass")
        names = [name for _, name, _ in sass.LINE.findall(code)]
        found[op].append([bool(kernel.metadata.launch_pdl), names, kernel.asm["ptx"]])
print(json.dumps(found))
"""
TOUCHES = {"LDG", "STG", "LD", "ST", "ATOM", "ATOMG", "RED", "UBLKCP", "LDGSTS", "CCTL"}
LETS, WAITS, PREFETCHES = "PREEXIT", "ACQBULK", "UBLKPF"


def compiled(sm: int) -> dict[str, list[tuple[bool, list[str], str]]]:
    environment = dict(os.environ, PYTHONPATH="kernels")
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(sm)],
        capture_output=True, text=True, env=environment, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hopper() -> Any:
    return compiled(90)


def test_every_update_lets_its_successor_start_before_it_touches_memory(hopper):
    kernels = [kernel for found in hopper.values() for kernel in found]
    assert len(kernels) >= 9
    for _, names, _ in kernels:
        assert not set(names[: names.index(LETS)]) & (TOUCHES | {PREFETCHES, "EXIT", "RET"})


def test_no_memory_is_touched_before_the_wait(hopper):
    early = [kernel[1:] for kernel in hopper["selective_state_update"] if kernel[0]]
    assert len(early) == 3
    for names, _ in early:
        before, after = names[: names.index(WAITS)], names[names.index(WAITS) :]
        assert not set(before) & TOUCHES
        assert {"LDG", "STG"} <= set(after)
        # No way out without the wait.
        assert not {"EXIT", "RET"} & set(before)
        assert PREFETCHES not in after
    # Mamba-2, Mamba-1; where slots are gathered the address lies in memory.
    assert sorted(names.count(PREFETCHES) for names, _ in early) == [0, 1, 1]


def test_only_the_state_is_prefetched(hopper):
    seen = 0
    for early, names, ptx in hopper["selective_state_update"]:
        if early and PREFETCHES in names:
            pointers = re.findall(r"\.param \.u64 \.ptr \.global \S+ \S+ (\w+),?\n", ptx)
            assert pointers[0].endswith("_param_0")  # state_ptr is the first parameter
            assert len(pointers) >= 8
            assert _parameters_of_prefetch(ptx) & set(pointers) == {pointers[0]}
            seen += 1
    assert seen == 2


def test_without_overlap_nothing_waits(hopper):
    late = [kernel for found in hopper.values() for kernel in found if not kernel[0]]
    assert len(late) >= 6
    for _, names, _ in late:
        assert not {WAITS, PREFETCHES} & set(names)
    assert not any(early for early, *_ in hopper["causal_conv1d_update"])


def test_before_hopper_nothing_overlaps():
    for kernels in compiled(87).values():
        for early, names, _ in kernels:
            assert not early
            assert not {LETS, WAITS, PREFETCHES} & set(names)


def _parameters_of_prefetch(ptx: str) -> set[str]:
    """Kernel parameters from which the address of the one prefetch is computed."""
    lines = [line.strip() for line in ptx.splitlines()]
    (at,) = [i for i, line in enumerate(lines) if "prefetch.L2.global" in line]
    wanted = set(re.findall(r"\[(%\w+)\]", lines[at]))
    found: set[str] = set()
    for line in reversed(lines[:at]):
        registers = re.findall(r"%\w+", line)
        if registers and registers[0] in wanted and not line.startswith(("@", "bra", ".reg")):
            wanted |= set(registers[1:])
            found |= set(re.findall(r"\[(\w+)\]", line))
    return found


@pytest.mark.parametrize(
    ("tensor", "rows", "span"),
    [
        (torch.empty(3, 4, 64, 16), 8, True),
        (torch.empty(3, 4, 64, 16)[..., :8], 8, False),
        (torch.empty(3, 4, 16, 64).transpose(2, 3), 8, False),
        (torch.empty(3, 4, 64, 3), 1, False),
        (torch.empty(3, 4, 64, 3), 4, True),
        (torch.empty(1000)[1:769].view(3, 1, 16, 16), 8, False),
        (torch.empty(4, 64, 16), 8, True),
    ],
)
def test_a_tile_is_prefetched_only_as_whole_aligned_pieces(tensor, rows, span):
    assert is_span(tensor, rows) == span
