"""The machine and the software: readable without torch, the same every time."""

from __future__ import annotations

import subprocess
import sys

import fakes

from ssmprof.devices import detect
from ssmprof.measure import environment


def test_the_environment_of_this_cpu_is_complete_and_stable():
    first, second = (environment.probe(detect("cpu"), "cpu") for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.kind == "cpu"
    assert first.device == first.cpu
    assert first.torch
    assert first.cpu_threads
    assert first.memory_bytes > 2**28


def test_the_bare_environment_needs_no_torch():
    code = (
        "import sys; from ssmprof.measure import environment;"
        "print(environment.bare('cpu').kind, 'torch' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**fakes.ENVIRON, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["cpu", "False"]


def test_a_device_that_is_not_there_is_described_with_its_reason(monkeypatch):
    monkeypatch.setattr("ssmprof.devices.DETECTORS", {})
    found = environment.bare("cuda")
    assert found.kind == "cuda"
    assert found.memory_bytes is None


def test_the_parent_of_the_workers_imports_no_torch():
    code = "import sys, ssmprof.measure.workers.client; print('torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**fakes.ENVIRON, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "False"
