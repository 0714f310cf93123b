"""Compiling ahead: shares of the candidates of a tuner, and no choice made on the way."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
import torch
import triton
import triton.language as tl
from benchmarks import verdicts
from ssmprof_kernels.static import offline
from triton.runtime.jit import JITFunction

HERE = pathlib.Path(verdicts.__file__).parent
MODULES = [path.stem for path in HERE.glob("*.py")]


@triton.autotune([triton.Config({"BLOCK": b}) for b in (16, 32, 64, 128, 256)], key=["n"])
@triton.jit
def _double(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, 2 * tl.load(x_ptr + at, mask=at < n), mask=at < n)


@pytest.fixture
def prepare(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import prepare

    yield prepare
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def compiled(monkeypatch):
    """Values of BLOCK that were compiled, in order."""
    blocks = []

    def compile_(self, key, signature, device, constexprs, *rest):
        blocks.append(constexprs[2,])

    monkeypatch.setattr(JITFunction, "_do_compile", compile_)
    return blocks


def launch(n):
    _double[lambda meta: (1,)](torch.empty(n, device="cuda"), n)


COMPILER = isinstance(_double.fn, JITFunction)
compiles = pytest.mark.skipif(not COMPILER, reason="Triton's interpreter has no compiler")


@pytest.mark.skipif(COMPILER, reason="this is the process that has the compiler")
def test_this_file_in_a_process_with_the_compiler():
    again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        again,
        env=os.environ | {"TRITON_INTERPRET": "0"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "1 skipped" in done.stdout


@compiles
def test_the_slots_together_compile_every_candidate_once(prepare, compiled):
    shares = []
    with offline.compiling(90):
        for slot in range(2):
            with prepare.pretended(), prepare.candidates(slot, 2):
                launch(512)
                launch(512)
            shares.append(compiled.copy())
            compiled.clear()
    assert shares == [[16, 64, 256], [32, 128]]


@compiles
def test_another_key_of_the_tuner_is_compiled_too(prepare, compiled):
    with offline.compiling(90), prepare.pretended(), prepare.candidates(0, 5):
        launch(512)
        launch(1024)
    assert compiled == [16, 16]


@compiles
def test_a_tuner_without_a_choice_is_not_made_to_choose(prepare, compiled, monkeypatch):
    monkeypatch.setattr(type(_double), "_bench", prepare._untuned)
    with (
        offline.compiling(90),
        prepare.pretended(),
        pytest.raises(RuntimeError, match="_double has no choice"),
    ):
        launch(512)
    assert compiled == []


def test_peers_choose_once_per_operation_batch_and_model_middle_size_first(prepare):
    from plan import cells

    grid = {
        "models": [{"name": name} for name in "abc"], "batches": [1, 8], "lengths": [512, 2048],
    }  # fmt: skip
    table = {"ssd_scan": [grid], "attention_decode": [grid]}
    names = [c.name for c in prepare.tuned_cells(cells(table, table), table)]
    assert names == [
        "ssd_scan/b/8192/1", "ssd_scan/c/8192/1", "ssd_scan/a/8192/1",
        "ssd_scan/b/1024/8", "ssd_scan/c/1024/8", "ssd_scan/a/1024/8",
    ]  # fmt: skip
    # The choices that all shapes share are made on the same one, also for a part of the cells.
    part = prepare.tuned_cells(cells(table, table, ["*/a/512/8"]), table)
    assert [c.name for c in part] == ["ssd_scan/b/8192/1", "ssd_scan/a/1024/8"]
    assert prepare.tuned_cells(cells(table, ["attention_decode"]), table) == []


def test_a_call_that_fails_is_a_line_and_the_others_go_on(prepare, monkeypatch):
    from plan import Cell

    monkeypatch.setattr(prepare, "build", lambda cell: None)
    went = []

    def broken():
        raise ValueError("no luck\nmore")

    calls = {"x": broken, "y": lambda: went.append(1)}
    lines = list(prepare._call_each(Cell("op", {"name": "m"}, 1, 2), lambda case: calls))
    assert lines == ["op/m/2/1 x: ValueError: no luck"]
    assert went == [1]
