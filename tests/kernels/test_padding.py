"""What is padding in every form: slots, pages and sequence ids below 0, tokens behind the last
sequence; and what one document can never do to another, whatever its numbers are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ssmprof_kernels import OPS, launch, reference
from ssmprof_kernels.compat import causal_conv1d as conv
from ssmprof_kernels.compat import fla, mamba_ssm
from ssmprof_kernels.ssd import plan as ssd_plan

#: The kernels in Triton's interpreter, and the plain forms that serve a CPU.
FORMS = ["interpreter", "cpu"]
INDEX = torch.tensor([2, -1, 0, -2, -7], dtype=torch.int32)
#: Two documents, padding between, before and behind them.
IDS = torch.tensor([[0] * 20 + [-1] * 3 + [1] * 17 + [-2] * 10, [-1] * 5 + [4] * 45])


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which form the operations take; all of them are asked for it at every call."""
    if request.param == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "0")
    return request.param


@pytest.fixture(params=[1, 2, 3, 7])
def segments(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Into how many segments a scan of Mamba-2 is cut, which the time model would choose."""
    for default in (ssd_plan.DEFAULT_PORTABLE, ssd_plan.DEFAULT_FP32):
        monkeypatch.setitem(default, "S", request.param)
    launch.forget()
    yield request.param
    launch.forget()


def close(got: torch.Tensor, want: torch.Tensor, bound: float = 1e-5) -> None:
    assert got.shape == want.shape
    assert torch.equal(got.isfinite(), want.isfinite())
    fine = want.isfinite()
    error = (got.double() - want.double())[fine].norm() / want.double()[fine].norm().clamp(min=1e-9)
    assert error <= bound


def ssd_inputs(length: int = 50, batch: int = 2) -> dict[str, Any]:
    torch.manual_seed(3)
    return {
        "x": torch.randn(batch, length, 2, 16),
        "dt": torch.rand(batch, length, 2) + 0.1,
        "A": -torch.rand(2) - 0.1,
        "B": torch.randn(batch, length, 1, 16),
        "C": torch.randn(batch, length, 1, 16),
        "D": torch.randn(2),
        "z": torch.randn(batch, length, 2, 16),
    }


def scan_inputs(length: int = 13) -> dict[str, Any]:
    torch.manual_seed(4)
    return {
        "u": torch.randn(1, length, 5),
        "dt": torch.rand(1, length, 5) + 0.1,
        "A": -torch.rand(5, 4) - 0.1,
        "B": torch.randn(1, length, 4),
        "C": torch.randn(1, length, 4),
        "D": torch.randn(5),
        "z": torch.randn(1, length, 5),
    }


def conv_inputs(length: int = 50, batch: int = 2) -> dict[str, Any]:
    torch.manual_seed(5)
    return {
        "x": torch.randn(batch, length, 19),
        "weight": torch.randn(19, 4),
        "bias": torch.randn(19),
        "activation": "silu",
    }


def guarded(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """A pool and its middle: what is written before slot 0 is seen and harms nothing."""
    pool = torch.randn(shape[0] + 16, *shape[1:])
    return pool, pool[8:-8]


def written(pool: torch.Tensor, before: torch.Tensor) -> list[int]:
    return [i - 8 for i in range(len(pool)) if not torch.equal(pool[i], before[i])]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("heads", [True, False])
def test_a_row_with_a_slot_below_0_updates_nothing(heads: bool) -> None:
    torch.manual_seed(0)
    inner = (2, 8) if heads else (16,)
    pool, state = guarded((4, *inner, 4))
    before = pool.clone()
    x, B = torch.randn(5, *inner), torch.randn(5, 1, 4)
    x[1] = torch.nan
    A = -torch.rand(*inner, 4)
    given = {"x": x, "dt": x.abs(), "A": A, "B": B, "C": B, "state_indices": INDEX}
    y = OPS["selective_state_update"].kernel(state, **given)
    assert written(pool, before) == [0, 2]
    assert not y[INDEX < 0].any()
    want, new = OPS["selective_state_update"].sequential(before[8:-8], **given)
    close(y, want)
    close(state, new)
    pool.copy_(before)
    theirs = mamba_ssm.selective_state_update(state, x, x.abs(), A, B, B, state_batch_indices=INDEX)
    assert torch.equal(theirs, y)
    assert written(pool, before) == [0, 2]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("tokens", [None, 3])
@pytest.mark.parametrize("ring", [False, True])
def test_a_row_with_a_slot_below_0_shifts_no_convolution_state(
    tokens: int | None, ring: bool
) -> None:
    torch.manual_seed(1)
    pool, state = guarded((4, 16, 3))
    before = pool.clone()
    x = torch.randn(5, 16) if tokens is None else torch.randn(5, tokens, 16)
    weight = torch.randn(16, 4)
    at = torch.tensor([0, 1, 2, 3, 4], dtype=torch.int32) if ring else None
    more = {"state_indices": INDEX, "cache_seqlens": at}
    y = OPS["causal_conv1d_update"].kernel(x, state, weight, **more)
    assert written(pool, before) == [0, 2]
    assert not y[INDEX < 0].any()
    twin = before[8:-8].clone()
    close(y, OPS["causal_conv1d_update"].sequential(x, twin, weight, **more))
    assert torch.equal(state, twin)
    pool.copy_(before)
    theirs = conv.causal_conv1d_update(
        x if tokens is None else x.transpose(1, 2), state, weight,
        conv_state_indices=INDEX, cache_seqlens=at,
    )  # fmt: skip
    assert torch.equal(theirs if tokens is None else theirs.transpose(1, 2), y)
    assert written(pool, before) == [0, 2]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("window", [None, 20])
def test_a_page_below_0_holds_no_tokens(window: int | None) -> None:
    torch.manual_seed(2)
    pages = torch.randn(10, 16, 2, 16)
    pages[0] = torch.nan  # nothing of what lies at a clamped address may be seen
    caches = pages[1:9], pages.flip(1)[1:9]
    q = torch.randn(3, 4, 16)
    table = torch.tensor([[3, -1, 6, -2], [-1, -1, -1, -9], [1, 2, 7, -1]], dtype=torch.int32)
    lengths = torch.tensor([60, 64, 48], dtype=torch.int32)
    o = OPS["attention_decode"].kernel(q, *caches, lengths, window=window, block_table=table)
    want = OPS["attention_decode"].sequential(
        q.double(), *[c.double() for c in caches], lengths, window=window, block_table=table
    )
    close(o, want)
    assert not o[1].any()
    if window is None:
        kept = [c[[3, 6]].flatten(0, 1)[None] for c in caches]
        close(o[:1], OPS["attention_decode"].plain(q[:1], *kept))


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("layout", ["tokens", "channels"])
def test_padding_in_a_convolution_is_0_and_changes_nothing_else(layout: str) -> None:
    given = conv_inputs()
    if layout == "channels":
        given["x"] = given["x"].transpose(1, 2).contiguous().transpose(1, 2)
    init = torch.randn(2, 19, 3)
    ids = IDS.int()
    y, final = OPS["causal_conv1d"].kernel(
        **given, seq_idx=ids, initial_state=init, return_final_state=True
    )
    for dirty in (torch.nan, torch.inf):
        poisoned = torch.where(ids[..., None] < 0, dirty, given["x"])
        again = OPS["causal_conv1d"].kernel(
            **{**given, "x": poisoned}, seq_idx=ids, initial_state=init, return_final_state=True
        )
        assert torch.equal(again[0], y)
        assert torch.equal(again[1], final)
    assert not y[ids < 0].any()
    want = reference.causal_conv1d_sequential(
        **given, seq_idx=ids, initial_state=init, return_final_state=True
    )
    close(y, want[0])
    assert torch.equal(final, want[1])
    # The final state is the last document's, as if no padding stood behind it.
    assert torch.equal(final[0], given["x"][0, 37:40].T)
    theirs = conv.causal_conv1d_fn(
        given["x"].transpose(1, 2), given["weight"], given["bias"], seq_idx=ids, activation="silu"
    )
    assert not theirs.transpose(1, 2)[ids < 0].any()


@pytest.mark.usefixtures("form")
def test_a_row_of_padding_keeps_its_initial_state() -> None:
    ids = torch.full((2, 300), -1, dtype=torch.int32)
    ids[1, :2] = 3
    given, init = conv_inputs(300), torch.randn(2, 19, 3)
    y, final = OPS["causal_conv1d"].kernel(
        **given, seq_idx=ids, initial_state=init, return_final_state=True
    )
    assert not y[0].any()
    assert torch.equal(final[0], init[0])
    assert torch.equal(final[1], torch.cat([init[1, :, 2:], given["x"][1, :2].T], 1))


@pytest.mark.usefixtures("form")
def test_padding_in_a_scan_is_0_and_changes_nothing_else() -> None:
    given, ids = ssd_inputs(), IDS.int()
    init = torch.randn(2, 2, 16, 16)
    more: dict[str, Any] = {"seq_idx": ids, "initial_state": init}
    y, final = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    want = OPS["ssd_scan"].sequential(**given, **more)
    assert not y[ids < 0].any()
    close(y, want[0])
    close(final, want[1])
    # The final state is the last document's, as if no padding stood behind it.
    cut = {n: t[:1, 23:40] if t.dim() > 2 else t for n, t in given.items()}
    close(final[:1], OPS["ssd_scan"].sequential(**cut)[1])
    for name in ("x", "dt", "B", "C", "z"):
        dirty = given[name].clone()
        dirty[ids < 0] = torch.nan
        again = OPS["ssd_scan"].kernel(**{**given, name: dirty}, **more, return_final_state=True)
        close(again[0], want[0])
        close(again[1], want[1])
    theirs = mamba_ssm.mamba_chunk_scan_combined(
        **given, chunk_size=64, initial_states=init, seq_idx=ids
    )
    assert torch.equal(theirs, y)


@pytest.mark.usefixtures("segments")
@pytest.mark.parametrize("dirty", [None, "x", "dt", "B"])
def test_segments_agree_about_padding_and_documents(dirty: str | None) -> None:
    length = 210
    ids = torch.zeros(2, length, dtype=torch.int32)
    ids[0, 25:45], ids[0, 45:100], ids[0, 100:103], ids[0, 103:] = -1, 1, -3, 2
    ids[1, 31:33], ids[1, 33:66], ids[1, 66:] = 5, 6, -1
    given = ssd_inputs(length)
    more: dict[str, Any] = {"seq_idx": ids, "initial_state": torch.randn(2, 2, 16, 16)}
    clean = OPS["ssd_scan"].sequential(**given, **more)
    if dirty is not None:
        given[dirty] = given[dirty].clone()
        given[dirty][ids < 0] = torch.nan
        given[dirty][0, 60] = torch.nan
    y, final = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**given, **more)
    close(y, want)
    close(final, state)
    close(y[0, 100:], clean[0][0, 100:])
    close(y[1], clean[0][1])


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("how", ["seq_idx", "cu_seqlens"])
@pytest.mark.parametrize("name", ["x", "dt", "B", "C", "z", "initial_state"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nothing_of_one_document_reaches_the_next_in_a_scan(
    how: str, name: str, value: float
) -> None:
    given = ssd_inputs(96, 1)
    at = torch.tensor([0, 40, 96], dtype=torch.int32)
    more = {how: at if how == "cu_seqlens" else (torch.arange(96) >= 40).int()[None]}
    given["initial_state"] = torch.randn(2 if how == "cu_seqlens" else 1, 2, 16, 16)
    clean = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    given[name] = given[name].clone()
    # Of the first document, then of the second: neither may reach the other.
    first = given[name][:1] if name == "initial_state" else given[name][:, 30:40]
    first.fill_(value)
    y, final = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**given, **more)
    close(y[:, 40:], clean[0][:, 40:])
    close(final[-1:], clean[1][-1:])
    if value != value:  # inf - inf and 0 * inf depend on the order of operations
        close(y, want)
        close(final, state)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("name", ["u", "dt", "B", "C", "z"])
def test_nothing_of_one_sequence_reaches_its_neighbours(name: str) -> None:
    given = scan_inputs()
    cu = torch.tensor([0, 5, 9, 13], dtype=torch.int32)
    want = OPS["selective_scan"].kernel(**given, cu_seqlens=cu, return_final_state=True)
    given[name] = given[name].clone()
    given[name][:, 5:9] = torch.nan
    y, final = OPS["selective_scan"].kernel(**given, cu_seqlens=cu, return_final_state=True)
    for part in (slice(0, 5), slice(9, 13)):
        assert torch.equal(y[:, part], want[0][:, part])
    assert torch.equal(final[::2], want[1][::2])


@pytest.mark.usefixtures("form")
def test_nothing_of_one_document_reaches_the_next_in_a_convolution() -> None:
    given, ids = conv_inputs(), IDS.int().abs()
    cu = torch.tensor([0, 20, 50], dtype=torch.int32)
    for more in ({"seq_idx": ids}, {"cu_seqlens": cu}):
        if "cu_seqlens" in more:
            given["x"] = given["x"][:1]
        clean = OPS["causal_conv1d"].kernel(**given, **more)
        dirty = given["x"].clone()
        dirty[0, :20] = torch.nan
        y = OPS["causal_conv1d"].kernel(**{**given, "x": dirty}, **more)
        assert torch.equal(y[0, 20:], clean[0, 20:])


SHORT = torch.tensor([0, 10, 10, 30], dtype=torch.int32)


def packed(op: str) -> dict[str, Any]:
    if op == "ssd_scan":
        return ssd_inputs(140, 1)
    return scan_inputs(40) if op == "selective_scan" else conv_inputs(40, 1)


@pytest.mark.usefixtures("segments")
def test_segments_agree_about_what_no_sequence_covers() -> None:
    given = ssd_inputs(300, 1)
    for ends in ([0, 10, 10, 130], [0, 0], [0, 200, 200], [0, 7, 299]):
        cu = torch.tensor(ends, dtype=torch.int32)
        y, final = OPS["ssd_scan"].kernel(**given, cu_seqlens=cu, return_final_state=True)
        assert not y[:, ends[-1] :].any()
        cut = {n: t[:, : ends[-1]] if t.dim() > 2 else t for n, t in given.items()}
        want, state = OPS["ssd_scan"].sequential(**cut, cu_seqlens=cu)
        close(y[:, : ends[-1]], want)
        close(final, state)


@pytest.mark.parametrize("op", ["ssd_scan", "selective_scan", "causal_conv1d"])
def test_behind_the_last_sequence_a_kernel_writes_zeros(op: str) -> None:
    given = packed(op)
    poison = torch.full((1 << 16,), 7e7)  # what the allocator hands out next
    del poison
    y, final = OPS[op].kernel(**given, cu_seqlens=SHORT, return_final_state=True)
    cut = {n: t[:, :30] if torch.is_tensor(t) and t.dim() > 2 else t for n, t in given.items()}
    want = OPS[op].kernel(**cut, cu_seqlens=SHORT, return_final_state=True)
    assert y.shape == next(iter(given.values())).shape
    assert torch.equal(y[:, :30], want[0])
    assert not y[:, 30:].any()
    assert torch.equal(final, want[1])


@pytest.mark.parametrize("op", ["ssd_scan", "selective_scan", "causal_conv1d"])
def test_a_sequence_that_ends_behind_the_tokens_ends_with_them(op: str) -> None:
    given = packed(op)
    length = next(iter(given.values())).shape[1]
    late = torch.tensor([0, 10, length + 50], dtype=torch.int32)
    right = torch.tensor([0, 10, length], dtype=torch.int32)
    got = OPS[op].kernel(**given, cu_seqlens=late, return_final_state=True)
    want = OPS[op].kernel(**given, cu_seqlens=right, return_final_state=True)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("ends", [[0, 10, 30], [0, 10, 41], [3, 40], [0, 20, 10, 40]])
@pytest.mark.parametrize("op", ["ssd_scan", "selective_scan", "causal_conv1d"])
def test_the_plain_forms_read_the_ends_and_name_them(
    op: str, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    given = ssd_inputs(40, 1) if op == "ssd_scan" else packed(op)
    cu = torch.tensor(ends, dtype=torch.int32)
    for call in (OPS[op].plain, OPS[op].sequential):
        with pytest.raises(ValueError, match=r"^cu_seqlens must ascend from 0 to L = 40, got \["):
            call(**given, cu_seqlens=cu)


@pytest.mark.usefixtures("form")
def test_the_compatible_scans_know_short_sequences(form: str) -> None:
    given = ssd_inputs(40, 1)
    q = given["x"]

    def chunk() -> torch.Tensor:
        return mamba_ssm.mamba_chunk_scan_combined(**given, chunk_size=8, cu_seqlens=SHORT)

    def gla() -> torch.Tensor:
        return fla.chunk_simple_gla(q, q, q, -given["dt"], cu_seqlens=SHORT)[0]

    for call in (chunk, gla):
        if form == "cpu":
            with pytest.raises(ValueError, match="cu_seqlens"):
                call()
        else:
            y = call()
            assert y.shape == q.shape
            assert not y[:, 30:].any()
