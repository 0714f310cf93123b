"""Memory anatomy on a CPU, the closure's arithmetic, and the search for what fits."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmprof.devices import NullDevice
from ssmprof.devices.cpu import CpuDevice
from ssmprof.errors import ConfigError
from ssmprof.measure.fit import fit, predicted_longest
from ssmprof.measure.passes.memory import (
    call_peak_bytes,
    cap,
    closure_bytes,
    held_bytes,
    prediction_holds,
    weigh,
)
from ssmprof.records import Memory

MIB = 2**20


def test_the_peak_of_a_call_counts_what_lives_at_once():
    def call():
        first = torch.ones(MIB // 4)  # 1 MiB of floats
        second = first + 1  # 2 MiB alive
        del first
        return second * 2  # 2 MiB alive again

    assert call_peak_bytes(call) == pytest.approx(2 * MIB, abs=4096)


@dataclass
class Load:
    call: object
    weights_bytes: int = 0
    kv_bytes: int = 0
    conv_state_bytes: int = 0
    ssm_state_bytes: int = 0
    logits_bytes: int = 0


def test_the_anatomy_of_a_cpu_call_adds_up():
    weight = torch.randn(1024, 1024)
    x = torch.randn(4, 1024)
    load = Load(
        call=lambda: (x @ weight).exp(), weights_bytes=4 * MIB, kv_bytes=MIB, logits_bytes=16384
    )
    memory = weigh(load, device=CpuDevice(), fresh=True, predicted_bytes=5 * MIB)
    assert memory.cache_bytes == MIB
    assert memory.allocator_peak_bytes == pytest.approx(5 * MIB + 2 * 16384, abs=8192)
    owners = memory.weights_bytes + memory.cache_bytes + memory.logits_bytes
    assert owners + memory.activation_peak_bytes == memory.allocator_peak_bytes
    assert memory.host_rss_bytes is not None
    assert memory.process_used_bytes is None
    assert "process_used_bytes" in memory.missing
    assert prediction_holds(memory)


def _memory(**values):
    known = {
        "weights_bytes": 100, "kv_bytes": 0, "conv_state_bytes": 0, "ssm_state_bytes": 0,
        "logits_bytes": 0, "allocator_peak_bytes": 150, "activation_peak_bytes": 50,
    }  # fmt: skip
    return Memory(**{**known, **values})


def test_closure_is_what_the_driver_counts_beyond_the_anatomy():
    memory = _memory(process_used_bytes=1000, context_bytes=700, slack_bytes=100)
    assert closure_bytes(memory) == 50


@pytest.mark.parametrize("absent", ["process_used_bytes", "context_bytes", "slack_bytes"])
def test_a_missing_reading_leaves_no_closure(absent):
    readings = {"process_used_bytes": 1000, "context_bytes": 700, "slack_bytes": 100}
    assert closure_bytes(_memory(**{**readings, absent: None})) is None


def test_a_prediction_holds_within_64_mib_or_two_percent():
    assert prediction_holds(_memory()) is None
    large = 10_000 * MIB
    near = _memory(allocator_peak_bytes=large, predicted_peak_bytes=large + 190 * MIB)
    far = _memory(allocator_peak_bytes=large, predicted_peak_bytes=large + 210 * MIB)
    small = _memory(allocator_peak_bytes=MIB, predicted_peak_bytes=60 * MIB)
    assert prediction_holds(near)
    assert not prediction_holds(far)
    assert prediction_holds(small)


def _device(processes, per_process):
    device = NullDevice("card", "nothing", "cuda")
    return SimpleNamespace(
        processes=lambda: processes,
        process_bytes=per_process.get,
        missing={"process_bytes": "another name space"},
        kind=device.kind,
    )


def test_the_only_process_on_the_device_is_this_one_whatever_its_number():
    missing = {}
    assert held_bytes(_device((4242,), {4242: 99}), missing) == 99
    assert missing == {}


def test_one_of_several_processes_is_not_guessed():
    missing = {}
    assert held_bytes(_device((4242, 4243), {4242: 99, 4243: 98}), missing) is None
    assert missing == {"process_used_bytes": "another name space"}


@settings(max_examples=60)
@given(
    truth=st.integers(0, 300_000),
    error=st.floats(0.5, 2.0),
    step=st.sampled_from([256, 1024, 4096]),
)
def test_the_longest_context_is_found_whatever_the_prediction_says(truth, error, step):
    most = 262_144
    found = fit(lambda c: c * error, lambda c: c <= truth, cap_bytes=truth, most=most, step=step)
    expected = min(truth, most) // step * step
    assert (found.longest or 0) == expected
    if found.failed is not None:
        assert found.failed == expected + step
    successes = [context for context, ok in found.attempts if ok and context == found.longest]
    assert found.longest is None or len(successes) >= 3


def test_a_good_prediction_needs_few_tries():
    found = fit(lambda c: c * 1.01, lambda c: c <= 100_000, cap_bytes=100_000, most=10**6)
    assert found.longest == 97 * 1024
    assert len(found.attempts) <= 10


def test_a_flaky_success_is_not_believed():
    turns = {}

    def attempt(context):
        turns[context] = turns.get(context, 0) + 1
        return context <= 50_000 or (context <= 52_000 and turns[context] == 1)

    found = fit(lambda c: c, attempt, cap_bytes=50_000, most=10**5, step=1000)
    assert found.longest == 50_000


def test_the_predicted_longest_is_exact():
    assert predicted_longest(lambda c: 10 + 2 * c, 100, 1000) == 45
    assert predicted_longest(lambda c: 10 + 2 * c, 5, 1000) == 0
    assert predicted_longest(lambda c: c, 10**9, 1000) == 1000


def test_a_step_beyond_the_range_is_refused():
    with pytest.raises(ValueError, match="step 10"):
        fit(lambda c: c, lambda c: True, cap_bytes=1, most=5, step=10)


def test_a_cap_limits_the_allocator_and_stays_within_the_device(monkeypatch):
    limits = []
    cuda = SimpleNamespace(
        current_device=lambda: 0,
        get_device_properties=lambda _: SimpleNamespace(total_memory=80 * 2**30),
        set_per_process_memory_fraction=limits.append,
    )
    monkeypatch.setattr("ssmprof.measure.passes.memory.torch", SimpleNamespace(cuda=cuda))
    cap(8 * 2**30)
    assert limits == [pytest.approx(0.1)]
    with pytest.raises(ConfigError, match=r"96.0 GiB on a device of 80.0 GiB"):
        cap(96 * 2**30)
