"""A state written once in W tokens, Triton (interpreter here) against the plain update."""

from __future__ import annotations

import pytest
import torch
from ssmprof_kernels import OPS, reference, ring_state_update, selective_state_update
from ssmprof_kernels.ring_update import new_ring, settle

SLOTS = 3
KINDS = ("heads", "channels")


def inputs(kind, dtype, seed=0):
    """A state, a token's arguments, and options."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape, of=torch.float32):
        return torch.randn(*shape, generator=g).to(of)

    if kind == "heads":
        inner, per_head, states, bc = (4, 19), (4,), 12, (SLOTS, 2, 12)
        A = -draw(4).abs()
    else:
        inner, per_head, states, bc = (70,), (70,), 8, (SLOTS, 8)
        A = -draw(70, 8).abs()
    token = (
        draw(SLOTS, *inner, of=dtype), draw(SLOTS, *per_head, of=dtype), A, draw(*bc, of=dtype),
        draw(*bc, of=dtype),
    )  # fmt: skip
    options = {
        "D": draw(*per_head), "z": draw(SLOTS, *inner, of=dtype), "dt_bias": draw(*per_head),
        "dt_softplus": True,
    }  # fmt: skip
    return draw(SLOTS, *inner, states), token, options


def fresh(token, seed):
    """The next token: all but A is new."""
    g = torch.Generator().manual_seed(seed)
    return tuple(
        t if i == 2 else torch.randn(t.shape, generator=g).to(t.dtype)
        for i, t in enumerate(token)
    )  # fmt: skip


def ring_of(kind, state, token, tokens=4, **options):
    return new_ring(state, token[0], token[3], tied=kind == "heads", tokens=tokens, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_after_each_writing_the_state_has_the_bits_of_the_plain_update(kind, dtype):
    state, token, options = inputs(kind, dtype)
    ring = ring_of(kind, state, token, staggered=False)
    plain, before = state.clone(), state.clone()
    for at in range(8):
        token = fresh(token, at)
        want = selective_state_update(plain, *token, **options)
        got = ring_state_update(state, ring, *token, **options)
        torch.testing.assert_close(got, want, rtol=2e-3, atol=2e-3)
        if at % 4 == 3:
            assert torch.equal(state, plain)
            before = state.clone()
        assert torch.equal(state, before)


@pytest.mark.parametrize("kind", KINDS)
def test_staggered_tiles_write_at_different_times_and_agree_once_settled(kind):
    state, token, options = inputs(kind, torch.float32)
    ring = ring_of(kind, state, token)
    plain = state.clone()
    written = []
    for at in range(6):
        token = fresh(token, at)
        before = state.clone()
        selective_state_update(plain, *token, **options)
        ring_state_update(state, ring, *token, **options)
        written.append((state != before).any().item())
    assert sum(written) > 2
    settle(state, ring, token[2])
    assert torch.equal(state, plain)
    assert (ring.marks[..., 1] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_places_agree_with_the_walk_from_any_place(kind):
    state, token, options = inputs(kind, torch.float32)
    ring = ring_of(kind, state, token, tokens=16)
    for at in range(11):
        token = fresh(token, at)
        y, new = OPS["ring_state_update"].sequential(state, ring, *token, **options)
        got = ring_state_update(state, ring, *token, **options)
        torch.testing.assert_close(got.double(), y, rtol=1e-4, atol=1e-5)
    settle(state, ring, token[2])
    torch.testing.assert_close(state.double(), new, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_slots_are_chosen_and_padding_is_left_alone(kind):
    state, token, options = inputs(kind, torch.float32)
    ring = ring_of(kind, state, token)
    index = torch.tensor([2, -1, 0], dtype=torch.int32)
    plain, before = state.clone(), state.clone()
    for at in range(5):
        token = fresh(token, at)
        want = selective_state_update(plain, *token, **options, state_indices=index)
        got = ring_state_update(state, ring, *token, **options, state_indices=index)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        assert (got[1] == 0).all()
    assert torch.equal(state[1], before[1])
    settle(state, ring, token[2], index)
    assert torch.equal(state, plain)


def test_a_ring_of_something_else_in_it_does_not_count():
    state, token, options = inputs("heads", torch.float32)
    clean, dirty = (ring_of("heads", state, token, staggered=False) for _ in range(2))
    for tensor in dirty[:3]:
        tensor.fill_(float("nan"))
    one, other = state.clone(), state.clone()
    for at in range(5):
        token = fresh(token, at)
        want = ring_state_update(one, clean, *token, **options)
        assert torch.equal(ring_state_update(other, dirty, *token, **options), want)
    assert torch.equal(one, other)


def test_rejected_tokens_are_forgotten():
    state, token, options = inputs("heads", torch.float32)
    ring = ring_of("heads", state, token, tokens=8, staggered=False)
    once = ring_of("heads", state, token, tokens=8, staggered=False)
    plain = state.clone()
    for at in range(5):  # the last two are rejected
        ring_state_update(state, ring, *fresh(token, at), **options)
    ring.marks[..., 0] = (ring.marks[..., 0] - 2) % 8
    ring.marks[..., 1] -= 2
    for at in range(3):
        ring_state_update(plain, once, *fresh(token, at), **options)
    last = fresh(token, 9)
    y = ring_state_update(state, ring, *last, **options)
    torch.testing.assert_close(y, ring_state_update(plain, once, *last, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_plain_torch_agrees(kind):
    state, token, options = inputs(kind, torch.float32)
    ring, twin = ring_of(kind, state, token), ring_of(kind, state, token)
    other = state.clone()
    for at in range(5):
        token = fresh(token, at)
        want = ring_state_update(state, ring, *token, **options)
        got = reference.ring_state_update(other, twin, *token, **options)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other, state, rtol=1e-5, atol=1e-6)
    assert torch.equal(ring.marks, twin.marks)


def test_wrong_rings_are_refused():
    state, token, options = inputs("heads", torch.float32)
    ring = ring_of("heads", state, token)
    with pytest.raises(ValueError, match="at least 2 places"):
        ring_of("heads", state, token, tokens=1)
    with pytest.raises(ValueError, match=r"ring.B must have shape"):
        ring_state_update(state, ring._replace(B=ring.B[..., :-1]), *token, **options)
    loose = token[2].view(4, 1, 1).expand(4, 19, 12).contiguous()
    with pytest.raises(ValueError, match="tied over each head"):
        ring_state_update(state, ring, token[0], token[1], loose, *token[3:], **options)
