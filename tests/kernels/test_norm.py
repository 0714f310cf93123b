"""Gated RMS norm: Triton (interpreter here) and plain torch against fp64."""

from __future__ import annotations

import pytest
import torch
from agreement import check
from ssmprof_kernels.norm import reference as norm
from ssmprof_kernels.norm.op import gated_rmsnorm


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(norm, "PIECE", 200)  # a few rows


def compare(x, weight, z=None, **options):
    """Kernel and plain form against the fp64 walk."""
    wide = {n: v.double() if isinstance(v, torch.Tensor) else v for n, v in options.items()}
    oracle = norm.gated_rmsnorm_sequential(
        x.double(), weight.double(), z=None if z is None else z.double(), **wide
    )
    plain = norm.gated_rmsnorm(x, weight, z=z, **options)
    check("y", gated_rmsnorm(x, weight, z=z, **options), oracle, plain)
    check("plain y", plain, oracle, plain)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(("dim", "group"), [(19, None), (64, 16), (96, 48), (130, 1), (1, None)])
def test_every_group_size_and_order_of_norm_and_gate_agrees(gated, before, dim, group):
    torch.manual_seed(0)
    x, z, w = torch.randn(2, 7, dim), torch.randn(2, 7, dim), torch.randn(dim)
    compare(x, w, z if gated else None, group_size=group, norm_before_gate=before)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_sigmoid_gate_agrees(before, dtype):
    torch.manual_seed(0)
    x, z = torch.randn(3, 5, 24).to(dtype), 3 * torch.randn(3, 5, 24).to(dtype)
    compare(x, torch.randn(24), z, norm_before_gate=before, activation="sigmoid")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_small_dtypes_agree_with_a_weight_of_another_dtype(dtype):
    torch.manual_seed(0)
    x, z = torch.randn(5, 40).to(dtype), torch.randn(5, 40).to(dtype)
    compare(x, torch.randn(40), z, eps=1e-3)


@pytest.mark.parametrize("before", [None, False, True])
@pytest.mark.parametrize(("dim", "group"), [(19, None), (64, 16)])
def test_a_bias_and_a_mean_that_is_subtracted_make_a_layer_norm(before, dim, group):
    torch.manual_seed(0)
    x, z, w, b = (
        torch.randn(2, 5, dim) + 3,
        torch.randn(2, 5, dim),
        torch.randn(dim),
        torch.randn(dim),
    )
    gate = None if before is None else z
    for more in ({"bias": b}, {"subtract_mean": True}, {"bias": b, "subtract_mean": True}):
        compare(x, w, gate, group_size=group, norm_before_gate=bool(before), **more)
    if group is None:
        want = torch.nn.functional.layer_norm(x, (dim,), w, b, 1e-5)
        torch.testing.assert_close(gated_rmsnorm(x, w, bias=b, subtract_mean=True), want)


@pytest.mark.parametrize("shape", [(24,), (3, 24), (2, 3, 24), (2, 3, 4, 24)])
def test_any_number_of_leading_axes_keeps_its_shape(shape):
    torch.manual_seed(0)
    compare(torch.randn(shape), torch.randn(24), torch.randn(shape))


def test_slices_of_a_wider_projection_and_expanded_rows_agree():
    torch.manual_seed(0)
    wide, w = torch.randn(2, 5, 100), torch.randn(24)
    compare(wide[..., 10:34], w, wide[..., 60:84])
    compare(wide[..., ::4][..., :24], w, wide[:, :1, :24].expand(2, 5, 24))
    compare(wide.transpose(0, 1)[..., :24], w[::1].flip(0), wide.transpose(0, 1)[..., 24:48])


def test_large_inputs_do_not_overflow_and_a_nan_stays_in_its_row():
    x, w = torch.full((3, 32), 1e15), torch.ones(32)
    torch.testing.assert_close(gated_rmsnorm(x, w), torch.ones(3, 32))
    x = torch.randn(3, 32)
    x[1, 4] = float("nan")
    assert gated_rmsnorm(x, w).isnan().any(1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"x": torch.zeros(0, 24)}, "x must have shape"),
        ({"weight": torch.zeros(23)}, "weight must have shape"),
        ({"z": torch.zeros(2, 24)}, "z must have shape"),
        ({"bias": torch.zeros(23)}, "bias must have shape"),
        ({"group_size": 5}, "group_size must divide"),
        ({"activation": "tanh"}, 'activation must be "silu" or "sigmoid"'),
        ({"z": torch.zeros(3, 24, device="meta")}, "z of shape"),
    ],
)
def test_bad_input_is_named_before_any_launch(change, named):
    arguments = {"x": torch.zeros(3, 24), "weight": torch.zeros(24)} | change
    with pytest.raises(ValueError, match=named):
        gated_rmsnorm(**arguments)
