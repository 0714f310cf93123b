"""Every cell of the kernel benchmark, small and on a CPU: our call against its exact result."""

from __future__ import annotations

import pathlib
import sys

import pytest
import torch
from benchmarks import verdicts
from ssmprof_kernels import launch
from torch.overrides import TorchFunctionMode

HERE = pathlib.Path(verdicts.__file__).parent
MODULES = [path.stem for path in HERE.glob("*.py")]
LINEAR = {"H": 2, "K": 16, "V": 32}
DELTA = {"H": 2, "Hk": 1, "K": 64, "V": 64}
HEADS = {"H": 2, "P": 16, "N": 16, "G": 1}
#: What the builders need to know of a model.
SMALL = {
    "ssd_scan": HEADS,
    "selective_scan": {"D": 32, "N": 16},
    "selective_state_update": HEADS,
    "causal_conv1d": {"D": 32, "W": 4},
    "causal_conv1d_update": {"D": 32, "W": 4},
    "gated_rmsnorm": {"D": 64, "group": 64},
    "attention_decode": {"Hq": 4, "Hk": 2, "dh": 16, "window": 9, "sinks": True},
    "gla": LINEAR, "retention": LINEAR, "lightning": LINEAR, "rwkv7": {"H": 2, "K": 64, "V": 64},
    "gla_step": LINEAR, "retention_step": LINEAR, "lightning_step": LINEAR,
    "rwkv7_step": {"H": 2, "K": 64, "V": 64},
    "gated_delta": DELTA, "kda": DELTA, "gated_delta_step": DELTA, "kda_step": DELTA,
    "mamba3": {"H": 2, "P": 16, "N": 16, "R": 1}, "mamba3_step": {"H": 2, "P": 16, "N": 16, "R": 1},
    "mla_decode": {"H": 4, "rank": 32, "turned": 8},
    "moe": {"E": 4, "k": 2, "N": 32, "K": 16},
}  # fmt: skip
STEPS = [op for op in SMALL if op.endswith(("step", "update"))]


class OnCpu(TorchFunctionMode):
    """Makes on a CPU what is asked for on a GPU; in fp16, since the interpreter keeps bf16 as
    integers and computes with those."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        if kwargs.get("dtype") is torch.bfloat16:
            kwargs["dtype"] = torch.float16
        return func(*args, **kwargs)


@pytest.fixture
def built(monkeypatch):
    """`built(op, batch, length)` is the case of a small model."""
    monkeypatch.syspath_prepend(str(HERE))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import cases
    import timing

    monkeypatch.setattr(timing, "l2_bytes", lambda: 1 << 12)
    torch.manual_seed(0)
    launch.forget()

    def build(op, batch, length):
        with OnCpu():
            return cases.BUILDERS[op]({"name": "small", **SMALL[op]}, batch, length)

    yield build
    for name in MODULES:
        sys.modules.pop(name, None)


def test_every_operation_has_a_small_model(built):
    import cases

    # The ring is held against our own update, whose state it rebuilds.
    assert set(SMALL) == set(cases.BUILDERS) - {"ring_state_update"}


@pytest.mark.parametrize("op", SMALL)
def test_our_call_yields_what_the_exact_result_says(built, op):
    from exact import error

    case = built(op, 2, 1 if op in STEPS else 70)
    case.restore()
    found = case.calls[0]()
    case.restore()
    assert 0 < error(found, case.exact()) < 2e-2


def test_of_a_long_scan_the_beginning_is_held(built, monkeypatch):
    import exact

    monkeypatch.setattr(exact, "TOKENS", 16)
    case = built("retention", 2, 70)
    truth = case.exact()
    assert (truth.shape[:2], truth.dtype) == ((1, 16), torch.float64)
    found = case.calls[0]()
    assert exact.error(found, truth) < 2e-2
    found[0, 3] += 10.0
    assert exact.error(found, truth) > 0.1
