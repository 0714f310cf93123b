"""Attribution without a GPU: the wall-clock route, the ladder, rows, names and closure."""

import ctypes
import time

import pytest
import torch
from torch import nn

from ssmprof import scopes
from ssmprof.errors import SsmprofError
from ssmprof.measure import attribution
from ssmprof.measure.attribution import (
    ROUTES,
    Parts,
    Untraceable,
    attribute,
    cupti,
    notes,
)
from ssmprof.measure.attribution.cupti import Kernel
from ssmprof.measure.attribution.driver import (
    EVENT_RECORD,
    KERNEL,
    MEMCPY,
    Capture,
    demangle,
    watch,
)
from ssmprof.measure.attribution.intervals import Interval, rows, short_name, total_s
from ssmprof.measure.attribution.tracer import Op
from ssmprof.records import Attribution, median


@torch.library.custom_op("ssmprof_test::sleep_ms", mutates_args=())
def sleep_ms(x: torch.Tensor, milliseconds: float) -> torch.Tensor:
    time.sleep(milliseconds / 1e3)
    return x + 0


def test_ops_of_known_duration_are_timed_and_close():
    x = torch.ones(1)

    def call():
        with scopes.scope("layers.0.slow"):
            sleep_ms(x, 8.0)
        with scopes.scope("layers.1.slow"):
            sleep_ms(x, 8.0)
        with scopes.scope("head"):
            sleep_ms(x, 4.0)

    found = attribute(call, device="cpu", replays=3)
    assert found.route == "wall-clock"
    slow, head = found.kernels
    assert (slow.scope, slow.calls, head.scope) == ("layers.*.slow", 2, "head")
    # A sleep may last longer on a busy machine, never shorter.
    assert 16e-3 <= median(slow.times_s) < 32e-3
    assert 4e-3 <= median(head.times_s) < 12e-3
    assert found.closure < 0.3
    assert len(slow.times_s) == 3


def test_views_that_the_tracer_slows_down_are_no_part_and_no_miss():
    x = torch.randn(256, 256)

    def call():
        for _ in range(20):
            for _ in range(20):
                x.view(-1).view(256, 256)
            torch.mm(x, x)

    found = attribute(call, device="cpu", replays=5)
    assert sum(row.calls for row in found.kernels) == 20
    assert found.closure < 0.1
    assert found.gap_s is not None
    assert found.gap_s < found.whole_s


def test_parts_are_held_against_the_whole_that_is_given():
    x = torch.ones(1)
    found = attribute(lambda: sleep_ms(x, 5.0), device="cpu", replays=3, whole_s=1.0)
    assert found.whole_s == 1.0
    assert 0.9 < found.closure < 1.0
    assert {note.kind for note in notes(found)} >= {"closure"}
    assert "withheld" in next(note.text for note in notes(found) if note.kind == "closure")


def test_a_foreign_model_is_attributed_by_family():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.LayerNorm(64))
    x = torch.randn(8, 64)
    found = attribute(lambda: model(x), device="cpu", module=model, replays=3)
    assert [(row.scope, row.family) for row in found.kernels] == [
        ("0", "gemm"),
        ("1", "elementwise"),
        ("2", "norm"),
    ]


def test_a_call_that_changes_its_ops_is_refused_with_the_reason():
    turn = iter(range(100))
    x = torch.ones(2)

    def call():
        x.exp() if next(turn) % 4 == 1 else x.sin()

    with pytest.raises(Untraceable, match="different ops"):
        attribute(call, device="cpu", replays=4)


def test_a_call_without_ops_is_refused():
    with pytest.raises(Untraceable, match="no op"):
        attribute(lambda: None, device="cpu", replays=2)


def test_an_unknown_route_is_answered_with_the_nearest():
    with pytest.raises(SsmprofError, match="graph-events"):
        attribute(lambda: None, device="cpu", routes=["graph-event"])  # type: ignore[list-item]


def _interval(op="aten::mm", times=(1e-5, 2e-5), scope="", kernels=(), core=None, cupti_s=None):
    return Interval(Op(scope, core, op, ""), times, kernels, cupti_s)


def test_each_route_that_fails_leaves_its_reason(monkeypatch):
    def no(request):
        raise Untraceable("aten::item waits for the device")

    def yes(request):
        return Parts([_interval()], 1.5e-5, marks=2, mark_cost_s=1e-6)

    monkeypatch.setitem(ROUTES, "graph-events", no)
    monkeypatch.setitem(ROUTES, "stream-events", yes)
    found = attribute(lambda: None, device="cuda")
    assert found.route == "stream-events"
    assert found.fallback == "graph-events: aten::item waits for the device"
    assert found.closure == pytest.approx(0.0)
    assert [note.kind for note in notes(found)] == ["route"]


def test_no_route_at_all_names_every_reason(monkeypatch):
    for route in attribution.LADDER["cuda"]:

        def no(request, route=route):
            raise Untraceable(f"no {route} here")

        monkeypatch.setitem(ROUTES, route, no)
    with pytest.raises(Untraceable, match=r"no graph-events here.*no stream-events.*no cupti"):
        attribute(lambda: None, device="cuda")


def test_layers_share_a_row_and_other_scopes_do_not():
    found = rows(
        [
            _interval(scope="layers.0.mamba2.in_proj"),
            _interval(scope="layers.11.mamba2.in_proj"),
            _interval(scope="layers.1.mlp.up"),
        ]
    )
    assert [(row.scope, row.calls) for row in found] == [
        ("layers.*.mamba2.in_proj", 2),
        ("layers.*.mlp.up", 1),
    ]
    assert found[0].times_s == pytest.approx((2e-5, 4e-5))


def _bundle(op, kernels, durations, core=None):
    each = tuple(durations)
    return Interval(
        Op("mixer", core, op, ""), (1e-4,), tuple(kernels), sum(each), cupti_each_s=each
    )


def test_a_fused_op_is_split_into_its_kernels():
    fused = _bundle(
        "mamba_ssm::mamba_split_conv1d_scan_combined",
        (
            "causal_conv1d_fwd_kernel",
            "_chunk_scan_fwd_kernel",
            "_layer_norm_fwd_1pass_kernel",
            "nvjet",
        ),
        (1e-5, 5e-5, 1e-5, 3e-5),
    )
    found = {row.family: row for row in rows([fused])}
    assert set(found) == {"conv", "scan", "norm", "gemm"}
    assert found["scan"].times_s == pytest.approx((5e-5,))
    assert found["gemm"].times_s == pytest.approx((3e-5,))
    assert sum(row.times_s[0] for row in found.values()) == pytest.approx(1e-4)


def test_a_raw_launch_before_an_op_is_not_counted_as_that_op():
    found = rows([_bundle("aten::linear", ("selective_scan_fwd_kernel<x>", "nvjet"), (8e-5, 2e-5))])
    assert {row.family: row.op for row in found} == {"gemm": "aten::linear", "scan": "kernel"}


def test_attention_stays_whole_whatever_it_is_made_of():
    made = ("Memset (Device)", "nvjet_qk", "softmax_warp_forward", "nvjet_pv")
    op = "aten::scaled_dot_product_attention"
    (row,) = rows([_bundle(op, made, (1e-6, 4e-5, 2e-5, 4e-5))])
    assert row.family == "attention"


def test_helpers_of_an_op_stay_with_it():
    (row,) = rows([_bundle("aten::linear", ("Memset (Device)", "nvjet"), (1e-6, 2e-5))])
    assert (row.family, row.kernel) == ("gemm", "nvjet")


def test_a_row_names_the_implementation_that_ran():
    intervals = [
        _interval("triton", kernels=("ssmprof_scan_ssd_walk",)),
        _interval("triton", kernels=("ssmprof_norm_gated_rms",)),
    ]
    ran = {"ssd_scan": "ssmprof", "gated_rmsnorm": "ssmprof", "rms_norm": "torch"}
    scan, norm = rows(intervals, ran)
    assert scan.provider == "ssmprof"
    assert norm.provider is None  # two names fit


def test_numbers_inside_a_name_are_kept():
    (row,) = rows([_interval(scope="layers.0.mamba2.conv1d")])
    assert row.scope == "layers.*.mamba2.conv1d"


def test_a_row_below_zero_is_zero_but_counts_in_the_sum():
    intervals = [_interval(times=(-1e-6,)), _interval(times=(3e-6,), op="aten::silu")]
    assert rows(intervals)[0].times_s == (0.0,)
    assert total_s(intervals) == pytest.approx(2e-6)


def test_one_interval_without_cupti_leaves_its_row_without():
    found = rows([_interval(cupti_s=1e-5), _interval(cupti_s=None)])
    assert found[0].cupti_s is None


def test_more_than_two_percent_of_other_is_told_with_its_names():
    kernels = rows(
        [_interval(times=(97e-6,)), _interval(op="triton", times=(3e-6,), kernels=("mystery",))]
    )
    made = Attribution(route="graph-events", kernels=kernels, whole_s=1e-4, closure=0.0)
    (note,) = notes(made)
    assert note.kind == "unnamed"
    assert "mystery" in note.text
    assert "3.0%" in note.text


def _cycle(*durations, start=0.0, gap=1e-6):
    found, now = [], start
    for index, duration in enumerate(durations):
        found.append(Kernel(f"k{index}", now, duration))
        now += duration + gap
    return found


def test_names_are_joined_by_position_and_node_count():
    intervals = [_interval(kernels=("a", "b")), _interval(kernels=("c",))]
    assert cupti.join(intervals, [_cycle(1e-6, 5e-6, 3e-6)]) is None
    assert intervals[0].kernels == ("k0", "k1")
    assert intervals[0].cupti_s == pytest.approx(6e-6)
    assert intervals[0].kernel == "k1"  # the longest stands for the interval
    assert intervals[1].cupti_s == pytest.approx(3e-6)


def test_names_are_dropped_when_counts_differ():
    intervals = [_interval(kernels=("a",)), _interval(kernels=("b",))]
    assert cupti.join(intervals, [_cycle(1e-6)]) == "2 kernels captured, 1 seen by CUPTI"
    assert intervals[0].cupti_s is None
    assert intervals[0].kernels == ("a",)


def test_gaps_are_the_time_without_a_kernel():
    cycle = _cycle(1e-6, 2e-6, 3e-6, gap=2e-6)
    assert cupti.gap_s([cycle]) == pytest.approx(4e-6)
    overlapping = [Kernel("a", 0.0, 5e-6), Kernel("b", 1e-6, 1e-6), Kernel("c", 6e-6, 1e-6)]
    assert cupti.gap_s([overlapping]) == pytest.approx(1e-6)


def test_without_a_driver_there_is_no_view_of_a_capture():
    assert watch(0) is None


class _Driver:
    """A graph of nodes, (kind, kernel) each; keeps which kernels' names were asked for."""

    def __init__(self, *nodes):
        self._nodes = nodes
        self.named = []

    def cuGraphGetNodes(self, _graph, handles, count):
        if handles is not None:
            handles[:] = range(1, len(self._nodes) + 1)
        count._obj.value = len(self._nodes)
        return 0

    def cuGraphNodeGetType(self, handle, kind):
        kind._obj.value = self._nodes[handle.value - 1][0]
        return 0

    def cuGraphKernelNodeGetParams_v2(self, handle, parameters):
        parameters._obj.func = self._nodes[handle.value - 1][1]
        return 0

    def cuFuncGetName(self, name, function):
        self.named.append(function.value)
        name._obj.value = b"kernel%d" % function.value
        return 0


def test_launches_are_counted_without_names_and_a_kernel_is_named_once():
    driver = _Driver((KERNEL, 7), (MEMCPY, 0), (EVENT_RECORD, 0), (KERNEL, 7), (KERNEL, 8))
    capture = Capture(driver, ctypes.c_void_p(1))
    assert capture.launches() == 4
    assert driver.named == []
    names = [node.name for node in capture.nodes()]
    assert names == ["kernel7", "Memcpy", "", "kernel7", "kernel8"]
    assert driver.named == [7, 8]


def test_mangled_names_become_readable():
    assert demangle("_ZN2at6native4funcEi") == "at::native::func(int)"
    assert demangle("_chunk_scan_fwd_kernel") == "_chunk_scan_fwd_kernel"
    assert demangle("_Znonsense") == "_Znonsense"


def test_long_names_keep_kernel_and_functor():
    functor = "at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>"
    name = f"void at::native::vectorized_elementwise_kernel<4, {functor}>(int, {'x' * 80})"
    assert short_name(name) == "at::native::vectorized_elementwise_kernel<CUDAFunctor_add>"
    assert short_name("_chunk_scan_fwd_kernel") == "_chunk_scan_fwd_kernel"


def test_a_kernel_launched_early_owns_only_what_its_predecessor_leaves():
    summaries = Kernel("_summaries", 0.0, 21e-6)
    walk = Kernel("ssmprof_scan_ssd_walk", 4e-6, 61e-6)
    inner = Kernel("inside", 10e-6, 2e-6)
    assert cupti.own_s([summaries, walk]) == pytest.approx([21e-6, 44e-6])
    assert cupti.own_s([walk, inner])[1] == 0.0
    intervals = [_interval(kernels=("a",)), _interval(kernels=("b",))]
    assert cupti.join(intervals, [[summaries, walk]]) is None
    assert intervals[1].cupti_s == pytest.approx(44e-6)
    assert intervals[1].span_s == pytest.approx(44e-6)
