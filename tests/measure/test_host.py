"""Stacks into places; py-spy on this very process where it may look."""

import time

import pytest

from ssmprof.measure.passes import host
from ssmprof.measure.passes.host import place_of, profile, shares
from ssmprof.records import Host, Note

STACKS = {
    "python": [
        "main (run.py);call (model.py);forward (blocks/stack.py)",
        "main (run.py);forward (blocks/stack.py);_PyEval_EvalFrameDefault (python3.11)",
    ],
    "framework": [
        "forward (blocks/mlp.py);Linear.forward (torch/nn/modules/linear.py)",
        "forward (blocks/mlp.py);at::_ops::addmm::call (libtorch_cpu.so);malloc (libc.so.6)",
    ],
    "launcher": ["forward (scan.py);run (triton/runtime/jit.py)"],
    "driver": [
        "forward (mlp.py);at::native::add (libtorch_cuda.so);cudaLaunchKernel (libcudart.so.13)",
        "forward (scan.py);launch (triton/jit.py);cuLaunchKernelEx (libcuda.so.1)",
    ],
    "waiting": [
        "call (run.py);synchronize (torch/cuda/__init__.py);cuCtxSynchronize (libcuda.so.1)"
    ],
}


@pytest.mark.parametrize(
    ("place", "stack"), [(place, stack) for place, stacks in STACKS.items() for stack in stacks]
)
def test_the_innermost_frame_that_tells_decides(place, stack):
    assert place_of(stack) == place


def test_shares_count_samples_of_the_call_only():
    lines = [
        "a (x.py);loop (host.py);Linear.forward (torch/nn/linear.py) 30",
        "a (x.py);loop (host.py);forward (model.py) 10",
        "thread (queue.py);wait (threading.py) 500",
        "a broken line",
    ]
    found, samples = shares(lines, inside="loop")
    assert found == {"framework": 0.75, "python": 0.25}
    assert samples == 40
    assert list(found) == ["framework", "python"]


def test_no_sample_is_no_share():
    assert shares([]) == ({}, 0)


def test_a_busy_loop_is_seen_or_the_reason_is_told(tmp_path):
    def call():
        total = 0
        for index in range(20_000):
            total += index
        return total

    stacks = tmp_path / "stacks.txt"
    found = profile(call, seconds=1, stacks=stacks)
    if isinstance(found, Note):  # a container without SYS_PTRACE
        assert found.kind == "host"
        assert found.text
        return
    assert isinstance(found, Host)
    assert found.shares["python"] > 0.5
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.stacks == "stacks.txt"
    assert "call" in stacks.read_text()


def test_a_missing_py_spy_is_a_note(monkeypatch):
    monkeypatch.setattr(host.py_spy, "find", lambda: None)
    assert profile(lambda: None) == Note(kind="host", text="py-spy is not installed")


def test_a_refusal_is_told_in_py_spys_words(monkeypatch, tmp_path):
    program = tmp_path / "py-spy"
    program.write_text("#!/bin/sh\necho 'Error: Permission Denied: try SYS_PTRACE' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(host.py_spy, "find", lambda: str(program))
    found = profile(lambda: time.sleep(0.001), seconds=1)
    assert found == Note(kind="host", text="py-spy: Error: Permission Denied: try SYS_PTRACE")


def test_py_spy_is_found_in_this_environment():
    found = host.py_spy.find()
    assert found is not None
    assert found.endswith("py-spy")
