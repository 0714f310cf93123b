"""How fla's functions and our kernels are called: which argument goes where, and what comes back.

Stand-ins have fla's signatures (0.6.0) and their meaning; our kernels run in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ssmprof_kernels import reference
from ssmprof_kernels.reference import delta, linear_attention
from torch import Tensor

from ssmprof.mixers.finding import Package
from ssmprof.mixers.ops import table

B, L, HK, H, K, V = 2, 5, 2, 4, 8, 8


def _logit(share: Tensor) -> Tensor:
    return torch.log(share) - torch.log1p(-share)


def _delta(q, k, v, beta, initial_state=None, output_final_state=False, **options: Any):
    assert q.shape[2] == v.shape[2], "fla's delta rule takes a key for each head of values"
    assert options == {"use_qk_l2norm_in_kernel": True}
    return delta.delta_rule(
        q, k, v, _logit(beta), initial_state=initial_state, return_final_state=True
    )


def _gated(
    q, k, v, g, beta, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False,
    use_gate_in_kernel=False, use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False, A_log=None,
    dt_bias=None,
):  # fmt: skip
    assert use_qk_l2norm_in_kernel
    assert use_gate_in_kernel
    assert use_beta_sigmoid_in_kernel
    bias = dt_bias.view(g.shape[2:]) if g.dim() == 4 else dt_bias
    return delta.gated_delta_rule(
        q, k, v, g, beta, A_log, bias, negative=allow_neg_eigval, initial_state=initial_state,
        return_final_state=True,
    )  # fmt: skip


def _decayed(q, k, v, log_decays, scale, initial_state):
    y, state = [], torch.zeros(B, H, K, V) if initial_state is None else initial_state
    for t in range(q.shape[1]):
        decay = log_decays[:, t].exp()
        state = state * (decay[..., None] if decay.dim() == 3 else decay[..., None, None])
        state = state + k[:, t, :, :, None] * v[:, t, :, None, :]
        y.append(scale * torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(y, 1), state


def _gla(q, k, v, g, scale=None, initial_state=None, output_final_state=False):
    return _decayed(q, k, v, g, scale, initial_state)


def _gla_step(q, k, v, gk=None, scale=None, initial_state=None, output_final_state=False):
    return _decayed(q, k, v, gk, scale, initial_state)


def _simple_gla(q, k, v, g=None, g_gamma=None, scale=None, initial_state=None,
                output_final_state=False):  # fmt: skip
    assert g is None
    return _decayed(q, k, v, g_gamma.expand(q.shape[:3]), scale, initial_state)


def _rwkv7(r, w, k, v, a, b, scale=1.0, initial_state=None, output_final_state=False,
           safe_gate=False, lower_bound=None, chunk_size=None):  # fmt: skip
    assert scale == 1.0
    assert lower_bound < w.min()
    return reference.rwkv7(
        r, w, k, v, -a, b / -a, initial_state=initial_state, return_final_state=True
    )


def _rwkv7_step(r, w, k, v, kk, a, scale=1.0, initial_state=None, output_final_state=False):
    return reference.rwkv7(r, w, k, v, kk, a, initial_state=initial_state, return_final_state=True)


def _norm(x, g, weight, bias, activation="swish", eps=1e-6):
    assert bias is None
    assert activation == "sigmoid"
    return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, eps) * g.sigmoid()


def _qkv(heads: int, values: int) -> list[Tensor]:
    return [torch.randn(B, L, heads, K), torch.randn(B, L, HK, K), torch.randn(B, L, values, V)]


def _gates(*shape: int) -> list[Tensor]:
    return [torch.randn(B, L, H, *shape), torch.randn(B, L, H)]


RULES: list[tuple[str, Callable[..., Any], Callable[..., Any], list[Tensor], int, dict[str, Any]]]
RULES = [
    ("delta_rule", _delta, _delta, [*_qkv(HK, H), torch.randn(B, L, H)], 0, {"negative": False}),
    ("gated_delta_rule", _gated, _gated, [*_qkv(HK, H), *_gates(), torch.rand(H), torch.rand(H)], 2,
     {"negative": True}),
    ("kda", _gated, _gated, [*_qkv(HK, H), *_gates(K), torch.rand(H), torch.rand(H, K)], 2,
     {"negative": False}),
    ("gla", _gla, _gla_step, [*_qkv(H, HK), torch.randn(B, L, HK, K)], 0, {"scale": 0.5}),
    ("retention", _simple_gla, _simple_gla, [*_qkv(H, HK), -torch.rand(H)], 1, {"scale": 0.5}),
    ("rwkv7", _rwkv7, _rwkv7_step, [
        torch.randn(B, L, H, K), -0.5 * torch.rand(B, L, H, K), torch.randn(B, L, H, K),
        torch.randn(B, L, H, K), torch.rand(B, L, H, K) + 0.1, torch.rand(B, L, H, K)], 0, {}),
]  # fmt: skip
each = pytest.mark.parametrize(
    ("op", "prompt", "step", "inputs", "fixed", "options"), RULES, ids=lambda one: one
    if isinstance(one, str) else "",
)  # fmt: skip
CPU = torch.device("cpu")


def both(op: str, stand_in: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """fla's call with a stand-in, and plain torch's."""
    found = table()[op].find
    package = found["fla"]
    assert isinstance(package, Package)
    plain = found["reference"](CPU)
    assert plain is not None
    return lambda *args, **kwargs: package.adapter(stand_in, *args, **kwargs), plain


@each
def test_a_prompt_means_to_fla_what_it_means_here(
    op: str, prompt: Any, step: Any, inputs: list[Tensor], fixed: int, options: dict[str, Any]
):
    theirs, ours = both(op, prompt)
    torch.testing.assert_close(theirs(*inputs, **options), ours(*inputs, **options))
    more = options | {"initial_state": torch.randn(B, H, K, V), "return_final_state": True}
    torch.testing.assert_close(theirs(*inputs, **more), ours(*inputs, **more))
    half = more | {"return_final_state": torch.bfloat16}
    assert theirs(*inputs, **half)[1].dtype == torch.bfloat16


@each
def test_a_step_means_to_fla_what_it_means_here(
    op: str, prompt: Any, step: Any, inputs: list[Tensor], fixed: int, options: dict[str, Any]
):
    name = {"delta_rule": "delta_step", "gated_delta_rule": "gated_delta_step"}
    theirs, ours = both(name.get(op, f"{op}_step"), step)
    moving = len(inputs) - fixed
    token = [x[:, 0] for x in inputs[:moving]] + inputs[moving:]
    one = torch.randn(B, H, K, V)
    other = one.clone()
    torch.testing.assert_close(theirs(one, *token, **options), ours(other, *token, **options))
    torch.testing.assert_close(one, other)


def test_a_norm_with_a_sigmoid_gate_means_to_all_what_it_means_here():
    theirs, ours = both("sigmoid_gated_rmsnorm", _norm)
    x, weight, gate = torch.randn(2, 3, 8), torch.randn(8), torch.randn(2, 3, 8)
    calls = (theirs, table()["sigmoid_gated_rmsnorm"].find["ssmprof"](CPU), ours)
    found = [call(x, weight, z=gate, eps=1e-3) for call in calls if call is not None]
    assert len(found) == 3
    for one in found[:2]:
        torch.testing.assert_close(one, found[2])


@each
def test_our_kernels_mean_what_the_plain_form_means(
    op: str, prompt: Any, step: Any, inputs: list[Tensor], fixed: int, options: dict[str, Any]
):
    names = {"delta_rule": "delta_step", "gated_delta_rule": "gated_delta_step"}
    of_prompt, of_step = table()[op].find, table()[names.get(op, f"{op}_step")].find
    kernel, plain = of_prompt["ssmprof"](CPU), of_prompt["reference"](CPU)
    stepped, plainly = of_step["ssmprof"](CPU), of_step["reference"](CPU)
    assert kernel is not None and plain is not None  # noqa: PT018
    assert stepped is not None and plainly is not None  # noqa: PT018
    state = torch.randn(B, H, K, V)
    more = options | {"initial_state": state, "return_final_state": True}
    for mine, one in zip(kernel(*inputs, **more), plain(*inputs, **more), strict=True):
        torch.testing.assert_close(mine, one, rtol=1e-3, atol=1e-4)
    moving = len(inputs) - fixed
    token = [x[:, 0] for x in inputs[:moving]] + inputs[moving:]
    one, other = state.clone(), state.clone()
    y, want = stepped(one, *token, **options), plainly(other, *token, **options)
    torch.testing.assert_close(y, want, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_linear_attention_takes_the_sixteenth_root_of_its_gates():
    a = torch.randn(3)
    torch.testing.assert_close(linear_attention.log_gate(a).exp() ** 16, a.sigmoid())
