"""Kernels that begin before their predecessor ends touch no memory until it has ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from ssmprof_kernels.state_update import _is_span

# In a process of its own: here Triton's interpreter is on. Prints launch_pdl and the instruction
# names of every kernel that the default configuration compiles.
COMPILE = """
import json, sys
from ssmprof_kernels import launch, offline, static
from ssmprof_kernels.specimens import SPECIMENS

EARLY = {"OVERLAP": 1, "AHEAD": 2}
launch.pick = lambda op, bucket, device, default: launch.Choice(default | EARLY, True, "default")
found = []
with offline.compiling(int(sys.argv[1])) as kernels:
    for op in ("selective_state_update", "causal_conv1d_update"):
        for _, call in SPECIMENS[op]():
            call()
for kernel in kernels:
    _, sass = static._disassemble(kernel.asm["cubin"])
    names = [name for _, name, _ in static._LINE.findall(sass)]
    found.append([kernel.metadata.launch_pdl, names])
print(json.dumps(found))
"""
TOUCHES = ("LDG", "STG", "LD", "ST", "ATOM", "ATOMG", "RED", "UBLKCP", "LDGSTS")


def compiled(sm: int) -> list[tuple[bool, list[str]]]:
    environment = dict(os.environ, PYTHONPATH="kernels")
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(sm)],
        capture_output=True, text=True, env=environment, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_memory_is_touched_before_the_wait():
    kernels = compiled(90)
    assert len(kernels) >= 5
    for early, names in kernels:
        assert early
        wait = names.index("ACQBULK")
        assert "PREEXIT" in names[:wait]
        assert not set(names[:wait]) & set(TOUCHES)
        assert set(names[wait:]) & set(TOUCHES)
        # No way out without the wait.
        assert not {"EXIT", "RET"} & set(names[:wait])


def test_before_hopper_nothing_is_launched_early():
    assert not any(early for early, _ in compiled(87))


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
    assert _is_span(tensor, rows) == span
