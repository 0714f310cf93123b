"""The compatible callables: same names, parameters and results; clean arrival and departure."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from types import ModuleType

import pytest
import torch
from ssmprof_kernels import OPS, compat, reference
from ssmprof_kernels.compat import causal_conv1d as conv
from ssmprof_kernels.compat import fla, fla_gated, fla_rwkv7, mamba_ssm, vllm

FUNCTIONS = [f for _, table in compat.PACKAGES.values() for fs in table.values() for f in fs]
FUNCTIONS += [vllm.selective_state_update, vllm.causal_conv1d_update]


@pytest.fixture(autouse=True)
def _plain_forms(monkeypatch):
    # What is tested is the mapping of arguments; the plain forms are the faster way to see it.
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    torch.manual_seed(0)


@pytest.mark.parametrize("name", compat.PACKAGES)
def test_a_package_arrives_with_spec_version_and_every_path_and_leaves_no_trace(name):
    assert name not in sys.modules
    with compat.installed(name):
        module = importlib.import_module(name)
        assert importlib.util.find_spec(name) is not None
        assert "ssmprof" in module.__version__
        for path, functions in compat.PACKAGES[name][1].items():
            inner = importlib.import_module(f"{name}.{path}" if path else name)
            found = module
            for part in filter(None, path.split(".")):
                found = getattr(found, part)
            for function in functions:
                assert getattr(inner, function.__name__) is function
                assert getattr(found, function.__name__) is function
    assert not [m for m in sys.modules if m.partition(".")[0] == name]


def test_what_was_there_before_is_there_again(monkeypatch):
    real = ModuleType("fla")
    monkeypatch.setitem(sys.modules, "fla", real)
    with pytest.raises(RuntimeError, match="replace=True"):
        compat.install("fla")
    with compat.installed("fla", replace=True):
        assert sys.modules["fla"] is not real
    assert sys.modules["fla"] is real


def test_a_model_that_has_already_chosen_is_an_error(monkeypatch):
    name = "transformers.models.mamba2.modeling_mamba2"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    with pytest.raises(RuntimeError, match="already chosen"):
        compat.install("mamba_ssm")
    assert "mamba_ssm" not in sys.modules


def test_an_unknown_package_is_named():
    with pytest.raises(ValueError, match="no compatible package 'flash'"):
        compat.install("flash")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_parameter_is_spelled_out(function):
    kinds = {p.kind for p in inspect.signature(function).parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_the_convolution_is_channel_first_and_knows_swish():
    x, w, b = torch.randn(2, 6, 9), torch.randn(6, 4), torch.randn(6)
    y, final = conv.causal_conv1d_fn(x, w, b, activation="swish", return_final_states=True)
    padded = torch.nn.functional.pad(x, (3, 0))
    expected = torch.nn.functional.conv1d(padded, w[:, None], b, groups=6)
    torch.testing.assert_close(y, torch.nn.functional.silu(expected))
    torch.testing.assert_close(final, x[:, :, -3:])


def test_convolution_steps_continue_a_prefill():
    x, w = torch.randn(2, 6, 9), torch.randn(6, 4)
    whole = conv.causal_conv1d_fn(x, w)
    _, state = conv.causal_conv1d_fn(x[:, :, :5], w, return_final_states=True)
    two = conv.causal_conv1d_update(x[:, :, 5:7], state, w)
    torch.testing.assert_close(two, whole[:, :, 5:7])
    torch.testing.assert_close(conv.causal_conv1d_update(x[:, :, 7], state, w), whole[:, :, 7])


def test_the_selective_scan_then_one_step_equals_a_longer_scan():
    u, dt, z = (torch.randn(2, 6, 9) for _ in range(3))
    A, B, C = -torch.rand(6, 4), torch.randn(2, 4, 9), torch.randn(2, 4, 9)
    D, bias = torch.randn(6), torch.randn(6)
    whole = mamba_ssm.selective_scan_fn(u, dt, A, B, C, D, z, bias, True)
    _, state = mamba_ssm.selective_scan_fn(
        u[..., :8], dt[..., :8], A, B[..., :8], C[..., :8], D, z[..., :8], bias, True, True
    )
    step = mamba_ssm.selective_state_update(
        state, u[..., 8], dt[..., 8], A, B[..., 8], C[..., 8], D, z[..., 8], bias, True
    )
    torch.testing.assert_close(step, whole[..., 8], rtol=1e-4, atol=1e-5)


def test_the_chunk_scan_ignores_its_chunk_and_packs_sequences():
    x, dt = torch.randn(1, 12, 4, 8), torch.randn(1, 12, 4)
    A, B, C = -torch.rand(4), torch.randn(1, 12, 2, 16), torch.randn(1, 12, 2, 16)
    scan = mamba_ssm.mamba_chunk_scan_combined
    a = scan(x, dt, A, B, C, 64, dt_softplus=True)
    torch.testing.assert_close(a, scan(x, dt, A, B, C, 3, dt_softplus=True))
    ends = torch.tensor([0, 5, 12])
    y, last, states = scan(
        x, dt, A, B, C, 64, dt_softplus=True, cu_seqlens=ends,
        return_final_states=True, return_varlen_states=True,
    )  # fmt: skip
    one = scan(x[:, :5], dt[:, :5], A, B[:, :5], C[:, :5], 64, dt_softplus=True)
    torch.testing.assert_close(y[:, :5], one)
    torch.testing.assert_close(last, states[-1:])


def test_the_gated_norm_defaults_to_norm_before_gate():
    x, z, w = torch.randn(3, 16), torch.randn(3, 16), torch.rand(16)
    expected = OPS["gated_rmsnorm"].plain(x, w, z=z, norm_before_gate=True, eps=1e-6)
    torch.testing.assert_close(mamba_ssm.rmsnorm_fn(x, w, None, z=z), expected)


@pytest.mark.parametrize("bias", [None, torch.arange(16.0)])
def test_the_layer_norm_is_that_of_torch(bias):
    x, z, w = torch.randn(3, 16), torch.randn(3, 16), torch.rand(16)
    want = torch.nn.functional.layer_norm(x, (16,), w, bias, 1e-6)
    torch.testing.assert_close(mamba_ssm.layernorm_fn(x, w, bias), want)
    gated = mamba_ssm.layernorm_fn(x, w, bias, z)
    torch.testing.assert_close(gated, want * torch.nn.functional.silu(z))
    rms = mamba_ssm.rmsnorm_fn(x, w, bias)
    plain = torch.nn.functional.rms_norm(x, (16,), w, 1e-6)
    torch.testing.assert_close(rms, plain if bias is None else plain + bias)


def test_states_of_packed_sequences_are_their_last_inputs():
    x, ends = torch.randn(9, 4), torch.tensor([0, 5, 5, 6, 9])
    got = conv.causal_conv1d_varlen_states(x, ends, 3)
    want = torch.zeros(4, 4, 3)
    want[0], want[2, :, 2:], want[3] = x[2:5].T, x[5:6].T, x[6:9].T
    torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("given", ["", "B", "BC"])
@pytest.mark.parametrize("normed", [False, True])
def test_the_inner_function_is_its_parts(given, normed):
    D, N, R, L = 6, 4, 2, 9
    xz, w, w_bias = torch.randn(2, 2 * D, L), torch.randn(D, 1, 4), torch.randn(D)
    projected = R + N * (2 - len(given))
    x_proj, dt_proj, out = torch.randn(projected, D), torch.randn(D, R), torch.randn(5, D)
    A, skip, bias = -torch.rand(D, N), torch.randn(D), torch.randn(D)
    B, C = torch.randn(2, N, L), torch.randn(2, N, L)
    norms = {"b_rms_weight": torch.rand(N), "dt_rms_weight": torch.rand(D)} if normed else {}
    got = mamba_ssm.mamba_inner_fn(
        xz, w, w_bias, x_proj, dt_proj, out, None, A, B if "B" in given else None,
        C if "C" in given else None, skip, bias, B_proj_bias=bias[:N], **norms,
    )  # fmt: skip
    x, z = xz.chunk(2, dim=1)
    x = conv.causal_conv1d_fn(x, w[:, 0], w_bias, activation="silu")
    made = torch.nn.functional.linear(x.transpose(1, 2), x_proj)
    delta = made[..., :R] @ dt_proj.T
    if "B" not in given:
        B = (made[..., R : R + N] + bias[:N]).transpose(1, 2)
    if "C" not in given:
        C = made[..., -N:].transpose(1, 2)
    if normed:
        B = mamba_ssm.rmsnorm_fn(B.transpose(1, 2), norms["b_rms_weight"], None).transpose(1, 2)
        delta = mamba_ssm.rmsnorm_fn(delta, norms["dt_rms_weight"], None)
    y = mamba_ssm.selective_scan_fn(x, delta.transpose(1, 2), A, B, C, skip, z, bias, True)
    torch.testing.assert_close(got, y.transpose(1, 2) @ out.T, rtol=1e-4, atol=1e-4)


def test_the_steps_of_vllm_go_on_from_what_was_accepted():
    """Two sequences, drafts of three and two tokens, of which two and one count."""
    slots = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32)
    cu, accepted = torch.tensor([0, 3, 5], dtype=torch.int32), torch.tensor([1, 1])
    A, skip = -torch.rand(2, 4, 8), torch.randn(2, 4)
    state = torch.randn(6, 2, 4, 8)
    start = state[[0, 3]].clone()

    def tokens(rows):
        return [torch.randn(rows, 2, 4), torch.rand(rows, 2, 4), A] + [
            torch.randn(rows, 1, 8) for _ in range(2)
        ]

    first, then = tokens(5), tokens(2)
    more = {"state_batch_indices": slots, "cu_seqlens": cu}
    vllm.selective_state_update(state, *first, skip, num_accepted_tokens=accepted, **more)
    more["cu_seqlens"] = torch.tensor([0, 1, 2])
    got = vllm.selective_state_update(
        state, *then, skip, num_accepted_tokens=torch.tensor([2, 1]), **more
    )
    for i, kept in enumerate(([0, 1], [3])):
        h = start[i : i + 1].clone()
        for row in kept:
            one = [t if t is A else t[row : row + 1] for t in first]
            vllm.selective_state_update(h, *one, skip)
        want = vllm.selective_state_update(h, *[t if t is A else t[i : i + 1] for t in then], skip)
        torch.testing.assert_close(got[i : i + 1], want, rtol=1e-4, atol=1e-5)


def test_the_convolution_of_vllm_reads_one_block_and_writes_another():
    x, state, w = torch.randn(2, 6), torch.randn(5, 6, 3), torch.randn(6, 4)
    blocks = torch.tensor([[0, 1], [2, 3]], dtype=torch.int32)
    before = state.clone()
    y = vllm.causal_conv1d_update(
        x, state, w, activation=True, conv_state_indices=blocks,
        initial_state_idx=torch.tensor([0, 1]),
        block_idx_last_scheduled_token=torch.tensor([1, 0]),
    )  # fmt: skip
    alone = before[[0, 3]].clone()
    torch.testing.assert_close(y, conv.causal_conv1d_update(x, alone, w, activation="silu"))
    torch.testing.assert_close(state[[1, 2]], alone)
    torch.testing.assert_close(state[[0, 3, 4]], before[[0, 3, 4]])


@pytest.mark.parametrize("gate", ["none", "token", "zero", "head"])
@pytest.mark.parametrize("v_first", [False, True])
def test_simple_gla_is_its_recurrence(gate, v_first):
    q, k, v = torch.randn(2, 7, 3, 8), torch.randn(2, 7, 3, 8), torch.randn(2, 7, 3, 5)
    g = {"token": -torch.rand(2, 7, 3) * 3, "zero": torch.zeros(2, 7, 3)}.get(gate)
    gamma = -torch.rand(3) if gate == "head" else None
    start = torch.randn(2, 3, 8, 5)
    given = start.transpose(-1, -2) if v_first else start
    o, state = fla.chunk_simple_gla(q, k, v, g, gamma, 0.3, given, True, state_v_first=v_first)
    h = start.clone()
    for t in range(7):
        log = torch.zeros(3) if gate == "none" else gamma if g is None else g[:, t]
        h = h * log.exp()[..., None, None] + k[:, t, ..., None] * v[:, t, :, None]
        expected = 0.3 * (q[:, t, ..., None] * h).sum(-2)
        torch.testing.assert_close(o[:, t], expected, rtol=1e-4, atol=1e-4)
    state = state.transpose(-1, -2) if v_first else state
    torch.testing.assert_close(state, h, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("v_first", [False, True])
def test_gla_is_its_recurrence(length, v_first):
    q, k, g = (torch.randn(2, length, 3, 8) for _ in range(3))
    v, g, start = (
        torch.randn(2, length, 3, 5),
        torch.nn.functional.logsigmoid(g),
        torch.randn(2, 3, 8, 5),
    )
    given = start.transpose(-1, -2) if v_first else start
    h, wanted = start.clone(), []
    for t in range(length):
        h = h * g[:, t].exp()[..., None] + k[:, t, ..., None] * v[:, t, :, None]
        wanted.append(0.3 * (q[:, t, ..., None] * h).sum(-2))
    for call in (fla_gated.chunk_gla, fla_gated.fused_recurrent_gla):
        o, state = call(q, k, v, g, scale=0.3, initial_state=given, output_final_state=True,
                        state_v_first=v_first)  # fmt: skip
        torch.testing.assert_close(o, torch.stack(wanted, 1), rtol=1e-4, atol=1e-4)
        state = state.transpose(-1, -2) if v_first else state
        torch.testing.assert_close(state, h, rtol=1e-4, atol=1e-4)
        assert call(q, k, v, g)[1] is None


@pytest.mark.parametrize("length", [1, 9])
def test_retention_and_lightning_decay_by_head(length):
    q, k, v = (torch.randn(1, length, 4, 8) for _ in range(3))
    heads = torch.arange(4.0)
    for calls, decay in (
        (
            (fla_gated.chunk_retention, fla_gated.fused_recurrent_retention),
            torch.log(1 - 2.0 ** (-5 - heads)),
        ),
        (
            (
                functools.partial(fla_gated.chunk_lightning_attn, layer_idx=1, num_layers=4),
                functools.partial(
                    fla_gated.fused_recurrent_lightning_attn, layer_idx=1, num_layers=4
                ),
            ),
            -(8 / 4 * (1 - 1 / 4)) * heads,
        ),
    ):
        wanted, last = reference.retention(q, k, v, decay, scale=8**-0.5, return_final_state=True)
        for call in calls:
            o, state = call(q, k, v, output_final_state=True)
            torch.testing.assert_close(o, wanted, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


def test_rwkv7_takes_the_transition_in_either_form():
    r, w, k, v, kk = (torch.randn(1, 9, 2, 8) for _ in range(5))
    w, a, start = -torch.rand_like(w), torch.rand_like(kk), torch.randn(1, 2, 8, 8)
    wanted, last = reference.rwkv7(r, w, k, v, kk, a, initial_state=start, return_final_state=True)
    options = {"initial_state": start, "output_final_state": True, "scale": 0.5}
    for call, more in (
        (fla_rwkv7.chunk_rwkv7, (-kk, kk * a)),
        (fla_rwkv7.fused_recurrent_rwkv7, (-kk, kk * a)),
        (fla_rwkv7.fused_mul_recurrent_rwkv7, (kk, a)),
    ):
        o, state = call(r, w, k, v, *more, **options)
        torch.testing.assert_close(o, 0.5 * wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


def test_a_gradient_that_would_be_needed_is_refused():
    x, w = torch.randn(2, 6, 9), torch.randn(6, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="weight requires a gradient"):
        conv.causal_conv1d_fn(x, w)
    with torch.no_grad():
        conv.causal_conv1d_fn(x, w)


X = torch.zeros(1, 4, 2, 8)
BC = torch.zeros(1, 4, 1, 16)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: conv.causal_conv1d_fn(X[0], X[0, 0], activation="relu"), "activation"),
        (lambda: mamba_ssm.rmsnorm_fn(X, X[0, 0, 0], X[0, 0, 0, :3]), "bias"),
        (lambda: conv.causal_conv1d_varlen_states(X, X[0, 0, 0], 3), "x and cu_seqlens"),
        (
            lambda: vllm.selective_state_update(
                X[0], X[0], X[0], X[0], X[0], X[0], enable_stochastic_rounding=True
            ),
            "enable_stochastic_rounding",
        ),
        (
            lambda: mamba_ssm.mamba_chunk_scan_combined(
                X, X[..., 0], X[0, 0, :, 0], BC, BC, 64, return_varlen_states=True
            ),
            "cu_seqlens",
        ),
        (
            lambda: mamba_ssm.selective_scan_fn(
                X[0], X[0], torch.zeros(2, 4, dtype=torch.complex64), X[0], X[0]
            ),
            "A is complex",
        ),
        (lambda: fla.chunk_simple_gla(BC, BC, BC, BC[..., 0], BC[0, 0, :, 0]), "g_gamma"),
        (lambda: fla.fused_recurrent_simple_gla(BC, BC, BC, reverse=True), "reverse"),
        (lambda: fla_gated.fused_recurrent_gla(X, X, X, X, X), "gv"),
        (lambda: fla_gated.fused_recurrent_gla(X, X, X, X, reverse=True), "reverse"),
        (lambda: fla_gated.fused_recurrent_retention(X, X, X, reverse=True), "reverse"),
        (lambda: fla_gated.fused_recurrent_lightning_attn(X, X, X, 0, 2, reverse=True), "reverse"),
        (lambda: fla_rwkv7.chunk_rwkv7(X, X, X, X, X, X, cp_context=object()), "cp_context"),
        (
            lambda: fla_rwkv7.fused_mul_recurrent_rwkv7(X, X, X, X, X, X, reverse=True),
            "reverse",
        ),
    ],
)
def test_a_value_that_cannot_be_honoured_raises(call, named):
    with pytest.raises(ValueError, match=named):
        call()
