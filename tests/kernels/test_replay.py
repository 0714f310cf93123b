"""Recorded launches: the first run goes through the kernel's own launcher, later ones do not."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from ssmprof_kernels.launch import replay
from triton.tools.tensor_descriptor import TensorDescriptor


class Compiled:
    """Stands for a compiled kernel: notes what it is launched with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *values: self.calls.append((grid, *values))


class Kernel:
    """Stands for a jitted kernel; `compiled` None is one that was interpreted."""

    arg_names = ("x_ptr", "tile", "scratch_ptr", "half_ptr", "missing_ptr", "n", "num_warps")

    def __init__(self, compiled: Compiled | None) -> None:
        self.compiled = compiled
        self.calls: list[dict[str, Any]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(**arguments: Any) -> Compiled | None:
            self.calls.append(arguments)
            return self.compiled

        return launch


def tile(t: torch.Tensor) -> TensorDescriptor:
    return TensorDescriptor(t, list(t.shape), list(t.stride()), [8, 8])


def recorded(kernel: Kernel) -> replay.Recording:
    rec = replay.Recording(2)
    rec.work(5)
    rec.add(
        kernel, 7, {"num_warps": 4}, x_ptr=replay.Arg(0), tile=replay.View(0, tile),
        scratch_ptr=rec.work(3, 4), half_ptr=rec.tensor(6, dtype=torch.float16),
        missing_ptr=replay.Arg(1), n=9,
    )  # fmt: skip
    return rec


def test_the_first_run_binds_tensors_by_name():
    kernel = Kernel(Compiled())
    x = torch.zeros(8, 8)
    recorded(kernel).run((x, None), x.device)
    (given,) = kernel.calls
    assert given["x_ptr"] is x
    assert given["tile"].base is x
    assert given["scratch_ptr"].shape == (12,)
    assert given["half_ptr"].dtype == torch.float16
    assert given["missing_ptr"] is None
    assert (given["n"], given["num_warps"]) == (9, 4)


def test_later_runs_pass_the_addresses_of_their_own_tensors():
    kernel = Kernel(Compiled())
    first, second = torch.zeros(8, 8), torch.ones(8, 8)
    rec = recorded(kernel)
    rec.run((first, None), first.device)
    rec.run((second, None), second.device)
    assert len(kernel.calls) == 1
    ((grid, x, view, scratch, half, missing, n, warps),) = kernel.compiled.calls
    assert grid == (7, 1, 1)
    assert x == second.data_ptr()
    assert view.base is second
    assert (view.shape, view.strides) == ([8, 8], [8, 1])
    assert scratch % 16 == 0
    assert half % 2 == 0
    assert missing is None
    assert (n, warps) == (9, 4)


def test_a_kernel_that_was_interpreted_is_called_again():
    kernel = Kernel(None)
    x = torch.zeros(8, 8)
    rec = recorded(kernel)
    rec.run((x, None), x.device)
    rec.run((x, None), x.device)
    assert len(kernel.calls) == 2


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(8, 4),
        torch.zeros(8, 8).T[:, :],
        torch.zeros(8, 8, dtype=torch.float16),
        torch.zeros(8 * 8 + 1)[1:].view(8, 8),
    ],
    ids=["shape", "stride", "dtype", "alignment"],
)
def test_facts_differ_where_a_compiled_kernel_might(other):
    x = torch.zeros(8, 8)
    assert replay.facts_of((x, None)) == replay.facts_of((torch.ones(8, 8), None))
    assert replay.facts_of((x,)) != replay.facts_of((other,))


class Pair(NamedTuple):
    first: Any
    second: Any
    third: Any


def test_a_bundle_of_tensors_is_filled_anew_and_one_of_numbers_is_not():
    kernel = Kernel(Compiled())
    kernel.arg_names = ("bundle", "steps", "num_warps")
    rec = replay.Recording(2)
    work = rec.work(4)
    steps = replay.strides(Pair, torch.zeros(2, 3, 4))
    rec.add(
        kernel, 3, {"num_warps": 1}, bundle=Pair(replay.Arg(0), work, replay.Arg(1)), steps=steps
    )
    x, y = torch.zeros(4), torch.ones(4)
    rec.run((x, None), x.device)
    (given,) = kernel.calls
    assert given["bundle"].first is x
    assert given["bundle"].second.shape == (4,)
    assert given["bundle"].third is None
    rec.run((y, None), y.device)
    ((_, bundle, numbers, _),) = kernel.compiled.calls
    assert bundle[0] == y.data_ptr()
    assert bundle[1] % 4 == 0
    assert bundle[2] is None
    assert numbers == (12, 4, 1)


def test_strides_of_what_is_not_given_are_zeros():
    assert replay.strides(Pair, None) == Pair(0, 0, 0)
