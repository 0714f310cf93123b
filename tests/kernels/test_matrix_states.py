"""Recurrences over a matrix state: the chunked forms against the papers' own, token by token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from ssmprof_kernels import reference
from ssmprof_kernels.reference import chunks, delta, linear_attention
from torch import Tensor

B, HK, H, K, V = 2, 1, 2, 8, 12
LENGTHS = (1, 7, 64, 65, 129, 1030)


class Rule(NamedTuple):
    """One recurrence: its inputs of so many tokens, and its three forms."""

    inputs: Callable[[int, float], list[Tensor]]
    chunked: Callable[..., Any]
    step: Callable[..., Tensor]
    sequential: Callable[..., tuple[Tensor, Tensor]]
    value: int = V
    fixed: int = 0  # the last of the inputs are the same for all tokens


def _qkv(length: int, heads: int = HK, per_key: bool = False) -> list[Tensor]:
    keys = (torch.randn(B, length, heads, K) for _ in range(2))
    return [*keys, torch.randn(B, length, HK if per_key else H, V)]


def _delta(length: int, strength: float) -> list[Tensor]:
    return [*_qkv(length), torch.randn(B, length, H) * strength]


def _gated(length: int, strength: float) -> list[Tensor]:
    gates = [torch.randn(B, length, H) * strength, torch.randn(B, length, H)]
    return [*_qkv(length), *gates, torch.rand(H) * 2.8, torch.randn(H)]


def _kda(length: int, strength: float) -> list[Tensor]:
    gates = [torch.randn(B, length, H, K) * strength, torch.randn(B, length, H)]
    return [*_qkv(length), *gates, torch.rand(H) * 2.8, torch.randn(H, K)]


def _linear(length: int) -> list[Tensor]:
    keys, values = torch.randn(B, length, HK, K), torch.randn(B, length, HK, V)
    return [torch.randn(B, length, H, K), keys, values]


def _gla(length: int, strength: float) -> list[Tensor]:
    return [*_linear(length), torch.randn(B, length, HK, K) * 20 * strength]


def _retention(length: int, strength: float) -> list[Tensor]:
    return [*_linear(length), -torch.linspace(0, 0.1, H) * strength**2]


def _rwkv7(length: int, strength: float) -> list[Tensor]:
    r, k, v, kk = (torch.randn(B, length, H, K) for _ in range(4))
    w, a = -0.61 * strength * torch.rand(B, length, H, K), torch.rand(B, length, H, K)
    return [r, w, k, v, torch.nn.functional.normalize(kk, dim=-1), a]


def _decayed(
    q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, A_log: Tensor, bias: Tensor,
    **options: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return delta.delta_rule_sequential(q, k, v, b, a=a, A_log=A_log, dt_bias=bias, **options)


def _of_gates(q: Tensor, k: Tensor, v: Tensor, gates: Tensor, **options: Any) -> Any:
    return linear_attention.linear_attention_sequential(q, k, v, gates=gates, **options)


def _of_decay(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, **options: Any) -> Any:
    return linear_attention.linear_attention_sequential(q, k, v, decay=decay, **options)


def _scaled(*calls: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    return tuple(partial(call, scale=K**-0.5) for call in calls)


def _negative(*calls: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    return tuple(partial(call, negative=True) for call in calls)


DELTA = (delta.delta_rule, delta.delta_step, delta.delta_rule_sequential)
DECAYED = (delta.gated_delta_rule, delta.gated_delta_step, _decayed)
GLA = (linear_attention.gla, linear_attention.gla_step, _of_gates)
RETENTION = (linear_attention.retention, linear_attention.retention_step, _of_decay)
RULES = {
    "delta": Rule(_delta, *DELTA),
    "delta-negative": Rule(_delta, *_negative(*DELTA)),
    "gated-delta": Rule(_gated, *DECAYED, fixed=2),
    "gated-delta-negative": Rule(_gated, *_negative(*DECAYED), fixed=2),
    "kda": Rule(_kda, *DECAYED, fixed=2),
    "kda-negative": Rule(_kda, *_negative(*DECAYED), fixed=2),
    "gla": Rule(_gla, *_scaled(*GLA)),
    "retention": Rule(_retention, *_scaled(*RETENTION), fixed=1),
    "rwkv7": Rule(_rwkv7, reference.rwkv7, reference.rwkv7_step, reference.rwkv7_sequential, K),
}
each = pytest.mark.parametrize("name", RULES)


def _tokens(rule: Rule, inputs: list[Tensor], where: slice | int) -> list[Tensor]:
    """The inputs of some tokens only, or of one."""
    moving = len(inputs) - rule.fixed
    return [x[:, where] for x in inputs[:moving]] + inputs[moving:]


def _state(rule: Rule) -> Tensor:
    return torch.randn(B, H, K, rule.value)


def _close(found: Tensor, expected: Tensor) -> None:
    error = (found.double() - expected).square().mean().sqrt()
    assert error <= 1e-5 * expected.square().mean().sqrt() + 1e-30
    assert found.dtype == torch.float32


@each
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_chunks_equal_the_recurrence(name: str, length: int, strength: float) -> None:
    torch.manual_seed(length)
    rule = RULES[name]
    inputs, state = rule.inputs(length, strength), _state(rule)
    y, last = rule.chunked(*inputs, initial_state=state, return_final_state=True)
    expected, state = rule.sequential(*inputs, initial_state=state)
    _close(y, expected)
    _close(last, state)


@each
def test_no_state_to_begin_with_is_one_of_zeros(name: str) -> None:
    rule = RULES[name]
    inputs = rule.inputs(70, 1.0)
    zeros = torch.zeros_like(_state(rule))
    torch.testing.assert_close(rule.chunked(*inputs), rule.chunked(*inputs, initial_state=zeros))
    _close(rule.chunked(*inputs), rule.sequential(*inputs)[0])


@each
@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_steps_equal_the_recurrence_and_overwrite_the_state(name: str, strength: float) -> None:
    rule = RULES[name]
    inputs, state = rule.inputs(40, strength), _state(rule)
    expected, last = rule.sequential(*inputs, initial_state=state)
    steps = [rule.step(state, *_tokens(rule, inputs, t)) for t in range(40)]
    _close(torch.stack(steps, 1), expected)
    _close(state, last)


@each
@pytest.mark.parametrize("first", [1, 63, 64, 100])
def test_two_pieces_equal_one(name: str, first: int) -> None:
    rule = RULES[name]
    inputs = rule.inputs(150, 1.0)
    whole, last = rule.chunked(*inputs, return_final_state=True)
    head, state = rule.chunked(*_tokens(rule, inputs, slice(first)), return_final_state=True)
    tail, state = rule.chunked(
        *_tokens(rule, inputs, slice(first, None)), initial_state=state, return_final_state=True
    )
    torch.testing.assert_close(torch.cat([head, tail], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_outputs_have_the_dtype_of_values_and_states_the_one_asked_for(
    name: str, dtype: torch.dtype
) -> None:
    rule = RULES[name]
    inputs = [x.to(dtype) for x in rule.inputs(70, 1.0)]
    y, state = rule.chunked(*inputs, return_final_state=True)
    assert y.dtype == dtype
    assert state.dtype == torch.promote_types(dtype, torch.float32)
    _, state = rule.chunked(*inputs, return_final_state=torch.bfloat16)
    assert state.dtype == torch.bfloat16
    expected, _ = rule.sequential(*inputs)
    rough = 0.01 if dtype == torch.bfloat16 else 1e-12
    assert (y.double() - expected).square().mean() <= rough**2 * expected.square().mean()


@each
def test_states_stay_finite_and_bounded_over_100_000_tokens(name: str) -> None:
    torch.manual_seed(0)
    rule, state = RULES[name], None
    sizes = []
    for _ in range(10):
        inputs = rule.inputs(10_000, 1.0)
        y, state = rule.chunked(*inputs, initial_state=state, return_final_state=True)
        assert torch.isfinite(y).all()
        sizes.append(state[:, 1:].abs().max().item())  # a first head may forget nothing
    assert max(sizes) < 3 * sizes[0] + 1


@pytest.mark.parametrize("name", ["delta", "gated-delta", "kda", "rwkv7"])
def test_repeated_keys_do_not_cancel(name: str) -> None:
    """One key for all tokens, fully erased by each: powers of the triangle would explode."""
    rule = RULES[name]
    inputs = rule.inputs(200, 1.0)
    for at in (0, 1) if name != "rwkv7" else (2, 4):
        inputs[at] = inputs[at][:, :1].expand_as(inputs[at])
    if name == "rwkv7":
        inputs[5] = torch.ones_like(inputs[5])
    else:
        inputs[3 if name == "delta" else 4] = torch.full((B, 200, H), 20.0)
    expected, last = rule.sequential(*inputs)
    y, state = rule.chunked(*inputs, return_final_state=True)
    _close(y, expected)
    _close(state, last)


def test_the_inverse_of_a_triangle_is_one() -> None:
    lower = torch.randn(3, 64, 64, dtype=torch.float64).tril(-1) / 8
    identity = torch.eye(64, dtype=torch.float64)
    product = chunks.inverse(lower) @ (lower + identity)
    torch.testing.assert_close(product, identity.expand(3, -1, -1))
