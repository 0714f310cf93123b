"""On a real device: routes agree with each other, with CUPTI and with known durations."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from ssmprof.measure.attribution import attribute, compare_cupti, marks, notes
from ssmprof.measure.attribution.graph_events import capture, find_sync
from ssmprof.measure.attribution.mark_cost import mark_cost
from ssmprof.measure.attribution.marks import Ends, Marker
from ssmprof.records import median

pytestmark = pytest.mark.gpu


class Layer(nn.Module):
    """Attention and a feed-forward part, wide enough that no op is lost in a mark's cost."""

    def __init__(self, width=1024, heads=8):
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        rows, tokens, width = x.shape
        shape = (rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = self.qkv(self.norm(x)).view(shape).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + mixed.transpose(1, 2).reshape(rows, tokens, width)
        return x + self.down(functional.silu(self.up(x)))


@pytest.fixture(scope="module")
def model():
    return nn.Sequential(Layer(), Layer()).to("cuda", torch.bfloat16).requires_grad_(False)


@pytest.fixture(scope="module")
def call(model):
    x = torch.randn(1, 4096, 1024, device="cuda", dtype=torch.bfloat16)

    def run():
        return model(x)

    with torch.inference_mode():
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    return run


def test_event_nodes_work_here():
    assert marks.external_events_work() is None


def test_a_mark_costs_microseconds():
    cost = mark_cost()
    assert 0.3e-6 < cost.kernel_s < 10e-6
    assert -5e-6 < cost.fill_s <= cost.kernel_s


def test_parts_of_a_graph_add_up_to_the_whole(call, model):
    found = attribute(call, device="cuda", module=model, names=False)
    assert found.route == "graph-events"
    assert found.closure < 0.02, notes(found)
    assert {"attention", "gemm", "norm", "elementwise"} <= {row.family for row in found.kernels}


def test_every_op_has_its_kernels_names(call, model):
    found = attribute(call, device="cuda", module=model)
    assert found.fallback is None
    assert all(row.kernel and row.cupti_s for row in found.kernels)


def test_tracing_runs_the_same_kernels_as_the_call_alone(call):
    with torch.inference_mode():
        traced, alone = (capture(call, kind(marks.external_event)) for kind in (Marker, Ends))
    assert traced.kernel_count == alone.kernel_count


def test_events_agree_with_cupti(call):
    found = compare_cupti.compare(call, block="layers", context=4096)
    used = [row.allowance_used for row in compare_cupti.judged([found])]
    assert found.problem is None
    assert compare_cupti.percentile(used, 0.95) <= 1.0, compare_cupti.table([found], every=True)


@pytest.mark.parametrize("route", ["stream-events", "prefix-replay", "cupti"])
def test_the_other_routes_see_the_same_time(call, route):
    best = attribute(call, device="cuda", names=False)
    other = attribute(call, device="cuda", routes=[route], names=False)
    total = sum(median(row.times_s) for row in best.kernels)
    assert sum(median(row.times_s) for row in other.kernels) == pytest.approx(total, rel=0.15)


def test_a_synchronising_call_falls_back_and_names_the_op(call):
    def waits():
        return call().sum().item()

    with torch.inference_mode():
        waits()
        reason = find_sync(waits)
    assert reason is not None
    assert "item" in reason or "_local_scalar_dense" in reason
    found = attribute(waits, device="cuda")
    assert found.route == "cupti"
    assert "graph-events" in (found.fallback or "")


def test_a_millisecond_of_spinning_is_measured_within_half_a_percent():
    from ssmprof.doctor.device import spin_seen_s

    seen_s, spun_s = spin_seen_s(1e-3)
    assert seen_s == pytest.approx(spun_s, rel=5e-3)
