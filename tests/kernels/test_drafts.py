"""Several tokens per sequence, from slot to slot: kernels and plain forms against single steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ssmprof_kernels import OPS
from ssmprof_kernels.conv import reference as conv_reference
from ssmprof_kernels.conv.drafts import causal_conv1d_drafts
from ssmprof_kernels.state_update import reference
from ssmprof_kernels.state_update.drafts import selective_state_drafts

FORMS = [selective_state_drafts, reference.selective_state_drafts]


def ints(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def case(rows: int, *, channels: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    """Arguments of one step for `rows` rows, and its options; twelve slots."""
    g = torch.Generator().manual_seed(3)
    inner, N = ((6,), 5) if channels else ((2, 5), 5)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g)

    groups = (2, N)
    given = {
        "state": rand(12, *inner, N).to(dtype), "x": rand(rows, *inner), "dt": rand(rows, *inner),
        "A": -torch.rand(*inner, N, generator=g),
        "B": rand(rows, *groups), "C": rand(rows, *groups),
    }  # fmt: skip
    options = {
        "D": rand(*inner), "z": rand(rows, *inner), "dt_bias": rand(*inner), "dt_softplus": True,
    }  # fmt: skip
    return given, options


def walked(
    given: Any, options: Any, spans: Any, starts: Any, kept: Any, pads: Any = (-1,)
) -> tuple[torch.Tensor, torch.Tensor]:
    """y and the slots, single steps in fp64; `kept(i, t, last)` is the slot a state goes to."""
    by_row = ("x", "dt", "B", "C")
    y = torch.zeros_like(given["x"], dtype=torch.float64)
    before = given["state"].double()
    after = before.clone()
    for i, (first, end) in enumerate(spans):
        if starts[i] in pads or first == end:
            continue
        h = before[starts[i]][None]
        for row in range(first, end):
            one = {name: t[row : row + 1] if name in by_row else t for name, t in given.items()}
            more = {n: t[row : row + 1] if n == "z" else t for n, t in options.items()}
            y[row], h = OPS["selective_state_update"].sequential(**{**one, "state": h}, **more)
            slot = kept(i, row - first, row == end - 1)
            if slot is not None and slot not in pads:
                after[slot] = h[0]
    return y, after


@pytest.mark.parametrize("call", FORMS)
@pytest.mark.parametrize("channels", [False, True])
def test_a_step_reads_one_slot_and_writes_another(call, channels):
    given, options = case(4, channels=channels)
    old, new = ints(3, -1, 0, 7), ints(5, 6, 1, -1)
    want, slots = walked(
        given, options, [(i, i + 1) for i in range(4)], old.tolist(), lambda i, t, last: new[i]
    )
    got = call(**given, **options, state_indices=old, new_indices=new)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given["state"].double(), slots, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call", FORMS)
def test_tokens_of_a_sequence_follow_one_another_and_the_last_state_stays(call):
    given, options = case(7)
    cu, old = ints(0, 3, 3, 7), ints(4, 2, 9)
    want, slots = walked(
        given, options, [(0, 3), (3, 3), (3, 7)], old.tolist(),
        lambda i, t, last: old[i] if last else None,
    )  # fmt: skip
    got = call(**given, **options, state_indices=old, cu_seqlens=cu)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given["state"].double(), slots, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call", FORMS)
@pytest.mark.parametrize("separate", [False, True])
def test_the_state_after_each_draft_is_kept_and_the_accepted_one_continued(call, separate):
    given, options = case(6)
    cu, accepted = ints(0, 2, 5, 6), ints(2, 0, 1)
    old = ints([0, 1, 2], [3, 4, 5], [-1, 6, 7])
    new = ints([8, 9, -1], [10, -1, 11], [6, 7, 0]) if separate else old
    starts = [int(old[i, max(int(a), 1) - 1]) for i, a in enumerate(accepted)]
    want, slots = walked(
        given, options, [(0, 2), (2, 5), (5, 6)], starts, lambda i, t, last: int(new[i, t])
    )
    more = {"new_indices": new} if separate else {}
    got = call(**given, **options, state_indices=old, cu_seqlens=cu, accepted=accepted, **more)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given["state"].double(), slots, rtol=1e-5, atol=1e-5)


def test_a_state_of_16_bits_is_rounded_where_it_is_kept_alone():
    given, options = case(3, dtype=torch.float16)
    same = {name: t.clone() for name, t in given.items()}
    cu, slot = ints(0, 3), ints(2)
    selective_state_drafts(**given, **options, state_indices=slot, cu_seqlens=cu)
    _, slots = walked(same, options, [(0, 3)], [2], lambda i, t, last: 2 if last else None)
    torch.testing.assert_close(given["state"], slots.to(torch.float16), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"accepted": ints(1, 1)}, "state_indices must have shape"),
        ({"state_indices": ints(1)}, "state_indices must have shape"),
        ({"state_indices": ints(1, 2), "new_indices": ints([1, 2])}, "new_indices must have"),
        ({"cu_seqlens": ints(0, 2).long()}, "cu_seqlens must be int32"),
        ({"state_indices": ints(1, 2).long()}, "state_indices of shape .* must be int32"),
    ],
)
def test_a_wrong_argument_is_named(more, message):
    given, options = case(2)
    with pytest.raises(ValueError, match=message):
        selective_state_drafts(**given, **options, **more)


CONVS = [causal_conv1d_drafts, conv_reference.causal_conv1d_drafts]


def conv_case(*shape: int, room: int, width: int = 4) -> Any:
    g = torch.Generator().manual_seed(5)

    def rand(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=g)

    return rand(*shape, 7), rand(9, 7, room), rand(7, width), rand(7)


@pytest.mark.parametrize("call", CONVS)
@pytest.mark.parametrize("room", [3, 5])
def test_inputs_go_from_one_slot_to_another(call, room):
    x, state, weight, bias = conv_case(4, 2, room=room)
    old, new = ints(3, -1, 0, 7), ints(5, 6, 1, -1)
    same = state.double()
    want = OPS["causal_conv1d_update"].sequential(
        x.double(), same, weight, bias, activation="silu", state_indices=old
    )
    slots = state.double()
    slots[5], slots[1] = same[3], same[0]
    got = call(x, state, weight, bias, activation="silu", state_indices=old, new_indices=new)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state.double(), slots, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call", CONVS)
@pytest.mark.parametrize("width", [2, 4])
def test_drafts_that_were_not_accepted_never_were(call, width):
    """Three rounds of up to three drafts against the convolution of what was accepted."""
    x, state, weight, bias = conv_case(20, room=width + 1, width=width)
    slot, start = ints(4, 2), state[[4, 2], :, : width - 1].clone()
    history: list[list[torch.Tensor]] = [[], []]
    accepted = ints(1, 1)
    for cu, takes in ((ints(0, 3, 4), (2, 1)), (ints(0, 1, 4), (1, 3)), (ints(0, 2, 2), (1, 0))):
        rows, x = x[: int(cu[-1])], x[int(cu[-1]) :]
        got = call(rows, state, weight, bias, state_indices=slot, cu_seqlens=cu, accepted=accepted)
        for i in range(2):
            drafts = rows[int(cu[i]) : int(cu[i + 1])]
            if not len(drafts):
                continue
            seen = torch.cat([start[i].T, *history[i], drafts]).double()
            want = seen.T.unfold(1, width, 1)[:, -len(drafts) :] @ weight.double()[:, :, None]
            want = want.squeeze(2).T + bias if want.ndim == 3 else want
            torch.testing.assert_close(
                got[int(cu[i]) : int(cu[i + 1])].double(), want, rtol=1e-5, atol=1e-5
            )
            history[i].append(drafts[: takes[i]])
        accepted = ints(*(max(take, 1) for take in takes))


def test_both_forms_of_the_convolution_agree_on_drafts_of_equal_length():
    x, state, weight, bias = conv_case(3, 3, room=5)
    other = state.clone()
    more = {"state_indices": ints(0, 8, 3), "accepted": ints(1, 3, 2)}
    got = causal_conv1d_drafts(x, state, weight, bias, activation="silu", **more)
    want = conv_reference.causal_conv1d_drafts(x, other, weight, bias, activation="silu", **more)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(state, other)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"accepted": ints(1)}, "accepted must have shape"),
        ({"new_indices": ints(1)}, "new_indices must have shape"),
        ({"cu_seqlens": ints(0, 2)}, "x must have shape .rows,D. beside cu_seqlens"),
        ({"accepted": ints(1, 1)}, "conv_state must have shape .* 5 or more"),
    ],
)
def test_a_wrong_argument_of_the_convolution_is_named(more, message):
    x, state, weight, bias = conv_case(2, 3, room=4)
    with pytest.raises(ValueError, match=message):
        causal_conv1d_drafts(x, state, weight, bias, **more)
