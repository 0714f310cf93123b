"""Decode steps that overlap the kernel before give the bits of steps that wait for its end.

Every call of a chain reads what something wrote right before it: our kernels, foreign kernels,
copies, fills, another stream. Whatever is read too early, or taken from a stale cache, differs in
the outputs, all of which are kept.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ssmprof_kernels import OPS, launch
from ssmprof_kernels.state_update import op as state_update

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
REPEATS = 20
STEPS = 26  # kept outputs of a repetition, at most
INNER = {"mamba1": (5120,), "mamba2": (80, 64)}
STATES = {"mamba1": 16, "mamba2": 128}
BF16, F32 = torch.bfloat16, torch.float32


def _clear(tensor: torch.Tensor) -> None:
    """Zeros by a memset node; torch's own `zero_` is a kernel."""
    stream = torch.cuda.current_stream().cuda_stream
    code = ctypes.CDLL("libcuda.so.1").cuMemsetD8Async(
        ctypes.c_uint64(tensor.data_ptr()), ctypes.c_ubyte(0), ctypes.c_size_t(tensor.nbytes),
        ctypes.c_void_p(stream),
    )  # fmt: skip
    assert code == 0


class Chain:
    """Buffers of a chain of decode steps; values stay bounded, since inputs pass through tanh."""

    def __init__(self, model: str, batch: int, dtype: torch.dtype, gathered: bool) -> None:
        g = torch.Generator(DEVICE).manual_seed(3)

        def rand(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
            return torch.randn(shape, generator=g, device=DEVICE).to(dtype)

        inner, N = INNER[model], STATES[model]
        heads, slots = inner[0], batch + 3 if gathered else batch
        self.inner, self.N, self.channels = inner, N, 1
        for size in inner:
            self.channels *= size
        width = self.channels + 2 * N
        self.state, self.other = (rand(slots, *inner, N, dtype=dtype) for _ in range(2))
        self.mirror = torch.empty_like(self.state)
        self.x, self.noise = rand(batch, *inner), rand(31, batch, *inner)
        rates = (heads, N) if model == "mamba1" else (heads,)
        self.A = -(1 + 3 * torch.rand(rates, generator=g, device=DEVICE))
        self.D, self.bias = rand(heads, dtype=F32), rand(heads, dtype=F32) - 2
        self.given: dict[str, Any] = {
            "dt": rand(batch, heads), "A": self.A, "B": rand(batch, 1, N), "C": rand(batch, 1, N),
            "D": self.D, "dt_bias": self.bias, "dt_softplus": True,
        }  # fmt: skip
        self.index = None
        if gathered:
            orders = [torch.randperm(slots, generator=g, device=DEVICE)[:batch] for _ in range(7)]
            self.orders = torch.stack(orders).to(torch.int32)
            self.index = self.given["state_indices"] = self.orders[0].clone()
        self.window, self.taps = rand(batch, width, 3), rand(width, 4)
        self.offset, self.wide, self.projected = rand(width), rand(batch, width), rand(batch, width)
        self.kept = torch.zeros(REPEATS * STEPS, *self.x.shape, dtype=BF16, device=DEVICE)
        self.count = 0
        self.side = torch.cuda.Stream()
        written = (
            self.state, self.other, self.mirror, self.x, self.A, self.D, self.bias, self.window,
            self.projected, self.kept,
        )  # fmt: skip
        self.written = written if self.index is None else (*written, self.index)
        self.start = [tensor.clone() for tensor in self.written]
        self.weights = {"A": self.A.clone(), "D": self.D.clone(), "bias": self.bias.clone()}

    def restore(self) -> None:
        for tensor, first in zip(self.written, self.start, strict=True):
            tensor.copy_(first)

    def results(self) -> list[torch.Tensor]:
        torch.cuda.synchronize()
        found = (self.kept[: self.count], self.state, self.other, self.window)
        return [tensor.clone() for tensor in found]

    def walk(self, overlap: bool) -> None:
        """All repetitions on the current stream."""
        self.count, self.overlap = 0, overlap
        for t in range(REPEATS):
            before = self.count
            self._behind_own()
            self._behind_foreign(t)
            self._behind_nodes()
            self._behind_convolution(t)
            self._behind_streams()
            assert self.count - before <= STEPS

    def _step(self, state: torch.Tensor | None = None, **changes: Any) -> torch.Tensor:
        if "out" not in changes:
            changes["out"] = self.kept[self.count]
            self.count += 1
        x = changes.pop("x", self.x)
        state = self.state if state is None else state
        arguments = {**self.given, **changes, "overlap": self.overlap}
        return OPS["selective_state_update"].kernel(state, x, **arguments)

    def _fresh(self, y: torch.Tensor) -> torch.Tensor:
        """The next x: it depends on y, is bounded, and resembles no x before it."""
        return y + self.noise[self.count % len(self.noise)]

    def _behind_own(self) -> None:
        self._step()
        self._step()
        self._step(self.other)
        self._step(self.other)
        if self.other.dtype == BF16:
            # Our kernel writes into the very state that the next one has prefetched.
            self._step(out=self.other.view(-1)[: self.x.numel()].view_as(self.x))
            self._step(self.other)

    def _behind_foreign(self, t: int) -> None:
        torch.tanh(self._fresh(self._step()), out=self.x)
        self._step()
        for name, first in self.weights.items():
            torch.mul(first, 0.5 + t % 7 / 7, out=getattr(self, name))
            self._step(self.other)
            self._step()
        torch.mul(self.state, -0.5, out=self.state)
        y = self._step()
        if self.index is not None:
            torch.add(self.orders[t % len(self.orders)], 0, out=self.index)
            y = self._step()
        torch.tanh(self._fresh(y), out=self.x)

    def _behind_nodes(self) -> None:
        new = torch.tanh(self._fresh(self._step()))
        self.x.copy_(new)
        self._step()
        torch.mul(self.state, 0.75, out=self.mirror)
        self.state.copy_(self.mirror)
        self._step()
        _clear(self.kept[self.count])
        y = self._step()
        _clear(self.x)
        self._step()
        torch.tanh(self._fresh(y), out=self.x)

    def _behind_convolution(self, t: int) -> None:
        conv = OPS["causal_conv1d_update"].kernel
        torch.mul(self.wide, 0.5 + t % 5 / 5, out=self.projected)
        self.projected[:, : self.channels].add_(self.x.flatten(1))
        for _ in range(2):
            mixed = conv(self.projected, self.window, self.taps, self.offset, activation="silu")
            x, B, C = mixed.split((self.channels, self.N, self.N), 1)
            shape = (-1, *self.inner)
            self._step(x=x.view(shape), B=B.unsqueeze(1), C=C.unsqueeze(1))

    def _behind_streams(self) -> None:
        y = self._step()
        here = torch.cuda.current_stream()
        for own_before in (False, True):
            # The step after the join has two kernels before it, one of them perhaps our own.
            self.side.wait_stream(here)
            with torch.cuda.stream(self.side):
                torch.tanh(self._fresh(y), out=self.x)
            if own_before:
                self._step(self.other, x=self.noise[self.count % len(self.noise)])
            here.wait_stream(self.side)
            y = self._step()


def _held(walk: Callable[[], None]) -> None:
    """Eagerly, on a device that begins when the host has queued much of it."""
    torch.cuda._sleep(40_000_000)
    walk()


def _captured(walk: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        walk()
    return graph.replay


def _launched_early() -> set[bool]:
    recordings = [known[0] for known in state_update._recordings.values()]
    return {bool(s.compiled.metadata.launch_pdl) for found in recordings for s in found._steps}


@pytest.mark.parametrize(
    ("model", "batch", "dtype", "gathered"),
    [
        *((m, b, d, False) for m in INNER for b in (1, 8, 64) for d in (BF16, F32)),
        ("mamba1", 8, BF16, True),
    ],
    ids=str,
)
def test_steps_that_overlap_give_the_bits_of_steps_that_wait(model, batch, dtype, gathered):
    chain = Chain(model, batch, dtype, gathered)
    state_update._recordings.clear()
    chain.walk(False)
    expected = chain.results()
    for tensor, first in zip(expected[1:], chain.start[:2], strict=False):
        assert tensor.isfinite().all()
        assert not torch.equal(tensor, first)
    outputs = expected[0].float()
    assert outputs.isfinite().all()
    assert 0.05 < outputs.std().item() < 100
    assert (outputs[1:] != outputs[:-1]).float().mean().item() > 0.9

    chain.restore()
    _held(lambda: chain.walk(True))
    found = {"eager": chain.results()}
    if launch.facts(chain.x.device).sm >= 90:
        assert _launched_early() == {False, True}
    replay = _captured(lambda: chain.walk(True))
    for turn in ("first replay", "second replay"):
        chain.restore()
        replay()
        found[turn] = chain.results()
    for way, tensors in found.items():
        for name, got, want in zip(
            ("outputs", "state", "other state", "window"), tensors, expected, strict=True
        ):
            assert torch.equal(got, want), f"{way}: {name} differ"
