"""Op boundaries of unmodified models, on a CPU."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from ssmprof import scopes
from ssmprof.measure.attribution.tracer import Tracer


class Recorder:
    def __init__(self):
        self.ops = []
        self.open = 0

    def before(self):
        self.open += 1

    def after(self, op):
        self.ops.append(op)


def trace(call, module=None):
    recorder = Recorder()
    with torch.inference_mode(), Tracer(recorder).tracing(module):
        call()
    return recorder.ops


def names(ops):
    return [op.op for op in ops]


def test_composite_ops_stay_whole_as_the_model_calls_them():
    layer, x = nn.Linear(4, 4), torch.randn(2, 3, 4)
    assert names(trace(lambda: layer(x))) == ["aten::linear"]
    norm = nn.RMSNorm(4)
    assert names(trace(lambda: norm(x))) == ["aten::rms_norm"]


def test_fused_autograd_functions_dissolve():
    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            return functional.silu(x) @ weight

        @staticmethod
        def backward(ctx, *gradients):
            raise NotImplementedError

    x = torch.randn(2, 4, requires_grad=True)
    ops = trace(lambda: Fused.apply(x, torch.eye(4)))
    assert names(ops) == ["aten::eye", "aten::silu", "aten::matmul"]


def test_views_and_allocations_get_no_boundary():
    x = torch.randn(4, 6)
    views = lambda: (x.view(2, 12).transpose(0, 1)[1:], x.reshape(24), torch.empty(3), x.detach())  # noqa: E731
    assert trace(views) == []


def test_a_reshape_that_copies_is_seen():
    x = torch.randn(4, 6).t()
    assert names(trace(lambda: x.reshape(24))) == ["aten::reshape"]


def test_scopes_name_the_rows_outermost_first():
    x = torch.randn(4)

    def call():
        with scopes.scope("layers.3"):
            with scopes.scope("scan", "scan"):
                x.exp()
            x.sin()

    inner, outer = trace(call)
    assert (inner.scope, inner.core) == ("layers.3.scan", "scan")
    assert (outer.scope, outer.core) == ("layers.3", None)


def test_modules_of_a_foreign_model_name_the_rows():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.SiLU(), nn.LayerNorm(4)))
    x = torch.randn(2, 4)
    with torch.no_grad():
        ops = trace(lambda: model(x), model)
    assert [(op.scope, op.op) for op in ops] == [
        ("0", "aten::linear"),
        ("1.0", "aten::silu"),
        ("1.1", "aten::layer_norm"),
    ]


def test_a_norm_of_a_foreign_model_is_a_core_scope():
    class HandmadeNorm(nn.Module):
        def forward(self, x):
            return x * x.pow(2).mean(-1, keepdim=True).rsqrt()

    model = nn.Sequential(HandmadeNorm())
    ops = trace(lambda: model(torch.ones(2, 4)), model)
    assert {op.core for op in ops if op.scope} == {"norm"}


def test_a_foreign_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.SiLU())
    trace(lambda: model(torch.randn(2, 4)), model)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert not scopes.is_listening()


def test_an_error_in_the_model_leaves_nobody_listening():
    def fail():
        with scopes.scope("layer"):
            torch.randn(2) @ torch.randn(3)

    with pytest.raises(RuntimeError):
        trace(fail)
    assert not scopes.is_listening()
    assert names(trace(lambda: torch.ones(2).exp())) == ["aten::ones", "aten::exp"]


def test_attention_is_one_op():
    q = torch.randn(1, 2, 8, 16)
    with torch.inference_mode():
        ops = trace(lambda: functional.scaled_dot_product_attention(q, q, q, is_causal=True))
    assert len(ops) == 1
    assert "scaled_dot_product" in ops[0].op


@torch.library.custom_op("ssmprof_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x + x


def test_the_insides_of_a_registered_op_belong_to_it():
    x = torch.ones(3)
    assert names(trace(lambda: twice(x))) == ["ssmprof_test::twice"]


def test_tracing_changes_no_result():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.RMSNorm(8), nn.GELU())
    x = torch.randn(3, 8)
    with torch.inference_mode():
        plain = model(x)
        traced = []
        trace(lambda: traced.append(model(x)), model)
    assert torch.equal(plain, traced[0])


def test_triton_launches_are_seen_by_their_hooks(monkeypatch):
    knobs = pytest.importorskip("triton.knobs")

    class Metadata:
        def get(self):
            return {"name": "_chunk_scan_fwd_kernel"}

    def launch():
        for hook in list(knobs.runtime.launch_enter_hook.calls):
            hook(Metadata())
        for hook in list(knobs.runtime.launch_exit_hook.calls):
            hook(Metadata())

    before = len(knobs.runtime.launch_exit_hook.calls)
    (op,) = trace(launch)
    assert (op.op, op.kernel) == ("triton", "_chunk_scan_fwd_kernel")
    assert len(knobs.runtime.launch_exit_hook.calls) == before
