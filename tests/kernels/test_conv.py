"""Short convolution and its update: Triton (interpreter here) and plain torch against fp64."""

from __future__ import annotations

import functools

import pytest
import torch
from agreement import check
from ssmprof_kernels import launch, reference
from ssmprof_kernels.conv import plan
from ssmprof_kernels.conv import reference as conv
from ssmprof_kernels.conv.op import causal_conv1d
from ssmprof_kernels.conv.update import causal_conv1d_update

SMALL = {"BLOCK_L": 8, "BLOCK_D": 16, "U": 4, "num_warps": 1}
SMALL_ROWS = {"BLOCK_L": 8, "BLOCK_D": 4, "U": 4, "num_warps": 1}
SMALL_PER_TOKEN = {"BLOCK_L": 8, "BLOCK_D": 16, "U": 1, "num_warps": 1}


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    # Small tiles: several programs, ragged tails and halos already at a few tokens.
    monkeypatch.setattr(plan, "DEFAULT", SMALL)
    monkeypatch.setattr(plan, "DEFAULT_PER_TOKEN", SMALL_PER_TOKEN)
    monkeypatch.setattr(plan, "DEFAULT_ROWS", SMALL_ROWS)
    monkeypatch.setattr(plan, "DEFAULT_UNEVEN_ROWS", SMALL_PER_TOKEN)
    small = {**plan.DEFAULT_UPDATE, "BLOCK_D": 16, "num_warps": 1}
    monkeypatch.setattr(plan, "DEFAULT_UPDATE", small)
    monkeypatch.setattr(conv, "PIECE", 200)  # a few tokens
    launch.forget()
    yield
    launch.forget()


def inputs(batch=2, length=21, dim=19, width=4, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    rand = functools.partial(torch.randn, generator=g)
    return (
        rand(batch, length, dim).to(dtype),
        rand(dim, width).to(dtype),
        rand(dim).to(dtype),
        rand(batch, dim, width - 1).to(dtype),
    )


def compare(x, weight, bias=None, **options):
    """Kernel and plain form against the fp64 walk, outputs and final states."""
    wide = {
        k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v
        for k, v in options.items()
    }
    oracle = conv.causal_conv1d_sequential(
        x.double(), weight.double(), None if bias is None else bias.double(), **wide
    )
    plain = conv.causal_conv1d(x, weight, bias, **options)
    got = causal_conv1d(x, weight, bias, **options)
    if not isinstance(oracle, tuple):
        oracle, plain, got = (oracle,), (plain,), (got,)
    for name, g, o, p in zip(("y", "final_state"), got, oracle, plain, strict=False):
        check(name, g, o, p)
        check(f"plain {name}", p, o, p)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 2, 8, 21])
def test_every_width_and_length_agrees_with_the_walk(width, length):
    x, w, b, init = inputs(length=length, width=width)
    activation = "silu" if length % 2 else None
    compare(x, w, b, activation=activation, initial_state=init, return_final_state=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_both_small_dtypes_agree_without_bias_and_state(dtype):
    x, w, _, _ = inputs(dtype=dtype)
    compare(x, w, activation="silu")


def test_channel_first_and_padded_strides_agree():
    x, w, b, init = inputs()
    compare(x.transpose(1, 2).contiguous().transpose(1, 2), w, b, return_final_state=True)
    wide = torch.randn(2, 40, 38)
    compare(wide[:, ::2, ::2], w, b, initial_state=init, return_final_state=True)
    compare(x[:, :, :1].expand(2, 21, 19), w.t().contiguous().t(), b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("length", [8, 16, 40])
@pytest.mark.parametrize("width", [2, 4])
def test_rows_of_whole_vectors_agree_with_the_walk(width, length, dtype):
    x, w, b, init = inputs(length=length, width=width, dtype=dtype)
    first = x.transpose(1, 2).contiguous().transpose(1, 2)
    compare(first, w, b, activation="silu", return_final_state=True)
    compare(first, w, initial_state=init, return_final_state=True)
    assert torch.equal(causal_conv1d(first, w, b), causal_conv1d(x, w, b))


def test_an_output_keeps_the_layout_of_its_input():
    x, w, _, _ = inputs()
    first = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert causal_conv1d(first, w).stride() == first.stride()


@pytest.mark.parametrize("first", [1, 2, 3, 7, 8, 12])
def test_two_calls_joined_by_the_state_equal_one(first):
    x, w, b, init = inputs(length=13)
    whole, end = causal_conv1d(x, w, b, initial_state=init, return_final_state=True)
    a, middle = causal_conv1d(x[:, :first], w, b, initial_state=init, return_final_state=True)
    z, last = causal_conv1d(x[:, first:], w, b, initial_state=middle, return_final_state=True)
    assert torch.equal(torch.cat([a, z], 1), whole)
    assert torch.equal(last, end)


@pytest.mark.parametrize("lengths", [[0, 21, 0], [1, 1, 0, 2, 17], [21], [3] * 7])
@pytest.mark.parametrize("with_state", [False, True])
def test_packed_sequences_of_any_length_agree(lengths, with_state):
    x, w, b, _ = inputs(batch=1)
    cu = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    init = torch.randn(len(lengths), 19, 3) if with_state else None
    compare(x, w, b, activation="silu", cu_seqlens=cu, initial_state=init, return_final_state=True)


def test_nothing_leaks_across_a_packed_boundary():
    x, w, _, _ = inputs(batch=1)
    cu = torch.tensor([0, 9, 21], dtype=torch.int32)
    before = causal_conv1d(x, w, cu_seqlens=cu)
    x[:, 8] = float("nan")
    after = causal_conv1d(x, w, cu_seqlens=cu)
    assert torch.equal(after[:, 9:], before[:, 9:])
    assert torch.equal(after[:, :8], before[:, :8])
    assert after[:, 8].isnan().all()


@pytest.mark.parametrize("with_state", [False, True])
def test_sequence_ids_cut_the_taps(with_state):
    x, w, b, init = inputs()
    ids = torch.tensor([[0] * 6 + [1] * 1 + [2] * 12 + [3, 4], [7] * 21], dtype=torch.int32)
    compare(
        x, w, b, seq_idx=ids, initial_state=init if with_state else None, return_final_state=True
    )


def test_ids_that_return_do_not_reconnect():
    x, w, b, init = inputs(batch=1, length=6)
    ids = torch.tensor([[0, 1, 0, 0, 2, 0]], dtype=torch.int32)
    compare(x, w, b, seq_idx=ids, initial_state=init, return_final_state=True)


def test_a_nan_reaches_the_next_tokens_of_its_channel_only():
    x, w, _, _ = inputs()
    x[1, 5, 3] = float("nan")
    bad = causal_conv1d(x, w).isnan()
    assert bad[1, 5:9, 3].all()
    assert bad.sum() == 4


def update_inputs(room=3, length=None, dtype=torch.float32):
    shape = (4, 19) if length is None else (4, length, 19)
    g = torch.Generator().manual_seed(1)
    rand = functools.partial(torch.randn, generator=g)
    return (
        rand(*shape).to(dtype),
        rand(9, 19, room).to(dtype),
        rand(19, 4).to(dtype),
        rand(19).to(dtype),
    )


@pytest.mark.parametrize(("length", "room"), [(None, 3), (None, 7), (1, 4), (2, 3), (5, 4), (9, 7)])
@pytest.mark.parametrize("ring", [False, True])
def test_updates_agree_for_every_state_width(length, room, ring):
    x, state, w, b = update_inputs(room, length)
    at = torch.tensor([0, 1, 6, 30], dtype=torch.int32) if ring else None
    index = torch.tensor([5, -1, 0, 8], dtype=torch.int32)
    options = {"activation": "silu", "state_indices": index, "cache_seqlens": at}
    states = [state.double(), state.clone(), state.clone()]
    oracle = conv.causal_conv1d_update_sequential(
        x.double(), states[0], w.double(), b.double(), **options
    )
    plain = conv.causal_conv1d_update(x, states[1], w, b, **options)
    got = causal_conv1d_update(x, states[2], w, b, **options)
    check("y", got, oracle, plain)
    check("plain y", plain, oracle, plain)
    assert torch.equal(states[2].double(), states[0])
    assert torch.equal(states[1].double(), states[0])
    for slot in (1, 2, 3, 4, 6, 7):
        assert torch.equal(states[2][slot], state[slot])


def test_prefill_then_updates_equal_one_prefill():
    x, w, b, _ = inputs(length=9)
    whole, end = causal_conv1d(x, w, b, activation="silu", return_final_state=True)
    _, state = causal_conv1d(x[:, :5], w, b, return_final_state=True)
    for t in range(5, 9):
        y = causal_conv1d_update(x[:, t], state, w, b, activation="silu")
        torch.testing.assert_close(y, whole[:, t], rtol=1e-6, atol=1e-6)
    assert torch.equal(state, end)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"x": torch.zeros(2, 0, 19)}, "x must have shape"),
        ({"x": torch.zeros(2, 19)}, "x must have shape"),
        ({"weight": torch.zeros(18, 4)}, "weight must have shape"),
        ({"weight": torch.zeros(19, 5)}, "weight must have shape"),
        ({"bias": torch.zeros(18)}, "bias must have shape"),
        ({"activation": "gelu"}, "activation must be"),
        ({"initial_state": torch.zeros(2, 19, 4)}, "initial_state must have shape"),
        ({"cu_seqlens": torch.zeros(3, dtype=torch.int32)}, "cu_seqlens needs"),
        ({"cu_seqlens": torch.zeros(3)}, "cu_seqlens must be int32"),
        ({"seq_idx": torch.zeros(2, 20, dtype=torch.int32)}, "seq_idx must have shape"),
        ({"weight": torch.zeros(19, 4, device="meta")}, "weight of shape"),
    ],
)
def test_bad_input_is_named_before_any_launch(change, named):
    x, w, b, _ = inputs()
    arguments = {"x": x, "weight": w, "bias": b} | change
    with pytest.raises(ValueError, match=named):
        causal_conv1d(**arguments)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"x": torch.zeros(4)}, "x must have shape"),
        ({"conv_state": torch.zeros(9, 19, 2)}, "conv_state must have shape"),
        ({"conv_state": torch.zeros(3, 19, 3)}, "conv_state must have at least"),
        ({"state_indices": torch.zeros(3, dtype=torch.int32)}, "state_indices must have"),
        ({"cache_seqlens": torch.zeros(3, dtype=torch.int32)}, "cache_seqlens must have"),
    ],
)
def test_bad_update_input_is_named(change, named):
    x, state, w, b = update_inputs()
    arguments = {"x": x, "conv_state": state, "weight": w, "bias": b} | change
    with pytest.raises(ValueError, match=named):
        causal_conv1d_update(**arguments)


def test_on_a_cpu_without_the_interpreter_plain_torch_serves(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    x, w, b, init = inputs()
    got = causal_conv1d(x, w, b, initial_state=init)
    assert torch.equal(got, reference.causal_conv1d(x, w, b, initial_state=init))
