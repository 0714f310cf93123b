"""Kernels compiled and the peers' own blocks chosen before anything is timed.

Promises: peers that tune themselves do so on `TUNED_TOKENS` tokens per call, alone on the device,
whatever cells follow and in whatever order, and Triton keeps their choice on disk for later runs.
`compile_all` compiles what the cells need in parallel processes on pretended tensors; it launches
and times nothing, so it cannot change a choice or a result.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import peers
import torch
from cases import Case, build
from plan import Cell
from torch._subclasses.fake_tensor import FakeTensorMode
from triton import knobs, testing
from triton.compiler import CompiledKernel
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

#: Enough to fill any device. The peers' choices do not depend on the length, so that one made on
#: the shortest cell would be kept for the longest.
TUNED_TOKENS = 8192

#: Milliseconds of warm-up and of measurement per candidate of a peer; Triton's default is 25, 100.
TUNING_MS = (5, 30)


def load_peers() -> None:
    """Import the peers, their tuners storing what they choose beside the compiled kernels."""
    # Read where a tuner is made, which is when its module is imported.
    knobs.autotuning.cache = True
    peers.load()


def tuned_cells(found: Iterable[Cell], table: dict[str, Any]) -> list[Cell]:
    """The shapes peers choose on: one per operation, model and batch of `found`.

    The first of an operation is the middle model of the table at its smallest batch, whatever
    `found` holds: it counts for all choices that depend on nothing but the head or state size.
    """
    wanted = {(cell.op, cell.model["name"], cell.batch) for cell in found}
    shapes = []
    for op in sorted({op for op, _, _ in wanted} & {op for op, _ in peers.TUNED}):
        for grid in table[op]:
            models, batches = grid["models"], sorted(grid["batches"])
            middle_first = models[len(models) // 2 :] + models[: len(models) // 2]
            shapes += [
                Cell(op, model, batch, max(1, TUNED_TOKENS // batch))
                for batch in batches
                for model in middle_first
                if (op, model["name"], batch) in wanted
                or (model is middle_first[0] and batch == batches[0])
            ]
    return shapes


def tune(shapes: Iterable[Cell]) -> list[str]:
    """Let the peers make, or read from disk, their choices on `shapes`; what failed, in words."""
    failed = []
    timer = functools.partial(testing.do_bench, warmup=TUNING_MS[0], rep=TUNING_MS[1])
    with mock.patch.object(driver.active, "get_benchmarker", return_value=timer):
        for cell in shapes:
            failed += _call_each(cell, _triton_peers)
            torch.cuda.synchronize()
    return failed


def compile_all(found: list[Cell], shapes: list[Cell], processes: int) -> list[str]:
    """Compile for `found` in `processes` processes; the peers choose on `shapes` in between.

    Returns:
        What failed, one line each.
    """
    context = multiprocessing.get_context("spawn")
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in found:
        groups.setdefault((cell.op, cell.model["name"], cell.batch), []).append(cell)
    longest_first = sorted(groups.values(), key=lambda g: (g[0].op != "ssd_scan", -len(g)))
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        slots = [(shapes, slot, processes) for slot in range(processes)]
        failed = [line for lines in pool.map(_compile_candidates, slots) for line in lines]
        failed += tune(shapes)
        failed += [line for lines in pool.map(_compile_cells, longest_first) for line in lines]
    return failed


def _triton_peers(case: Case) -> dict[str, Callable[[], Any]]:
    return {
        name: calls[0]
        for name, calls in peers.calls(case).items()
        if (case.op, name) in peers.TRITON and not isinstance(calls, peers.Missing)
    }


def _own(case: Case) -> dict[str, Callable[[], Any]]:
    return {"own": case.calls[0]} | {name: calls[0] for name, calls in case.others.items()}


def _call_each(cell: Cell, chosen: Callable[[Case], dict[str, Callable[[], Any]]]) -> Iterator[str]:
    """Call what `chosen` gives for the case of a cell; one line per call that failed."""
    calls: dict[str, Callable[[], Any]] = {}
    with _reported(cell, "inputs") as failed:
        calls = chosen(build(cell))
    yield from failed
    for name, call in calls.items():
        with _reported(cell, name) as failed:
            call()
        yield from failed


@contextlib.contextmanager
def _reported(cell: Cell, name: str) -> Iterator[list[str]]:
    failed: list[str] = []
    try:
        yield failed
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:160]
        failed.append(f"{cell.name} {name}: {type(error).__name__}: {first}")


def _launches_nothing(self: CompiledKernel, grid: Any) -> Callable[..., None]:
    return lambda *args, **options: None


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """Tensors without memory; launches compile and end there."""
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        return run(self, *args, grid=grid, warmup=True, **options)

    with (
        mock.patch.object(JITFunction, "run", compile_only),
        mock.patch.object(CompiledKernel, "__getitem__", _launches_nothing),
        FakeTensorMode(),
        warnings.catch_warnings(),
    ):
        # Triton asks for the alignment of each pointer; a pretended one is 0, hence aligned.
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield


@contextlib.contextmanager
def candidates(slot: int, slots: int) -> Iterator[None]:
    """Every tuner compiles the candidates of this slot, once per key of its own; none is timed."""
    done: set[Any] = set()

    def compile_some(self: Any, *args: Any, **options: Any) -> None:
        named = dict(zip(self.arg_names, args, strict=False)) | options
        key = (id(self), *(named[k] for k in self.keys if k in named))
        if key in done:
            return
        done.add(key)
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        for at, config in enumerate(self.prune_configs(options)):
            if at % slots == slot:
                # A candidate that cannot be compiled loses when it is timed, too.
                with contextlib.suppress(Exception):
                    self.fn.run(*args, **options, **config.all_kwargs())

    with mock.patch.object(Autotuner, "run", compile_some):
        yield


def _compile_candidates(task: tuple[list[Cell], int, int]) -> list[str]:
    found, slot, slots = task
    load_peers()
    failed = []
    with pretended(), candidates(slot, slots):
        for cell in found:
            failed += _call_each(cell, _triton_peers)
    return failed if slot == 0 else []


def _untuned(self: Any, *args: Any, **options: Any) -> Any:
    raise RuntimeError(f"{self.base_fn.__name__} has no choice on disk for this shape")


def _compile_cells(found: list[Cell]) -> list[str]:
    load_peers()
    failed = []
    with pretended(), mock.patch.object(Autotuner, "_bench", _untuned):
        for cell in found:
            failed += _call_each(cell, lambda case: _own(case) | _triton_peers(case))
    return failed
