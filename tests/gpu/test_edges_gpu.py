"""The edges of every operation on a real GPU: padding, other dtypes, extreme rates, neighbours.

What a CPU and Triton's interpreter show in tests/kernels/{test_padding,test_extremes,
test_state_dtypes,test_forward_only}.py must hold here, too, on the kernels that only a GPU runs.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from ssmprof_kernels import OPS, launch, reference
from ssmprof_kernels.compat import causal_conv1d as conv
from ssmprof_kernels.compat import mamba_ssm
from ssmprof_kernels.ssd import plan as ssd_plan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
BF16 = torch.bfloat16


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def rand(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.randn(*shape, device="cuda").to(dtype)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, device="cuda", dtype=torch.int32)


def near(got: torch.Tensor, want: torch.Tensor, bound: float = 0.02) -> None:
    """Finite where the oracle is, and close to it there."""
    got, want = got.double().cpu(), want.double().cpu()
    assert got.shape == want.shape
    assert torch.equal(got.isfinite(), want.isfinite())
    fine = want.isfinite()
    assert (got[fine] - want[fine]).norm() <= bound * want[fine].norm()


def on_cpu(given: dict[str, Any]) -> dict[str, Any]:
    return {n: t.cpu() if torch.is_tensor(t) else t for n, t in given.items()}


def ssd(length: int, dtype: torch.dtype = BF16, H: int = 4, gate: bool = False) -> dict[str, Any]:
    given = {
        "x": rand(1, length, H, 64, dtype=dtype),
        "dt": (torch.rand(1, length, H, device="cuda") * 0.9 + 0.1).to(dtype),
        "A": -torch.rand(H, device="cuda") - 0.5,
        "B": rand(1, length, 1, 128, dtype=dtype),
        "C": rand(1, length, 1, 128, dtype=dtype) * 128**-0.5,
    }
    return given | ({"z": rand(1, length, H, 64, dtype=dtype)} if gate else {})


def scan(length: int, dtype: torch.dtype = BF16, D: int = 256) -> dict[str, Any]:
    return {
        "u": rand(1, length, D, dtype=dtype),
        "dt": (torch.rand(1, length, D, device="cuda") + 0.1).to(dtype),
        "A": -torch.rand(D, 16, device="cuda") - 0.1,
        "B": rand(1, length, 16, dtype=dtype),
        "C": rand(1, length, 16, dtype=dtype),
    }


@pytest.mark.parametrize("tokens", [None, 1, 3])
@pytest.mark.parametrize("ring", [False, True])
def test_a_convolution_state_may_have_any_dtype(tokens: int | None, ring: bool) -> None:
    op = OPS["causal_conv1d_update"]
    for dtype, state_dtype in itertools.product(FLOATS, FLOATS):
        x = rand(4, 96, dtype=dtype) if tokens is None else rand(4, tokens, 96, dtype=dtype)
        state, weight = rand(4, 96, 3, dtype=state_dtype), rand(96, 4, dtype=torch.float32)
        at = ints(0, 1, 5, 30) if ring else None
        before, twin = state.double(), state.clone()
        y = op.kernel(x, state, weight, cache_seqlens=at)
        plain = op.plain(x, twin, weight, cache_seqlens=at)
        want = op.sequential(x.double(), before, weight.double(), cache_seqlens=at)
        assert torch.equal(state, twin)
        near(y, plain, 2 * torch.finfo(dtype).eps)
        near(y, want)


def test_rows_with_any_slot_below_0_touch_nothing() -> None:
    index = ints(1, -1, 3, -2, -5)
    pool = rand(24, 4, 64, 128, dtype=torch.float32)
    before, state = pool.clone(), pool[8:16]
    x, dt = rand(5, 4, 64), rand(5, 4, 64).abs()
    A, B = -torch.rand(4, 64, 128, device="cuda"), rand(5, 1, 128)
    y = mamba_ssm.selective_state_update(state, x, dt, A, B, B, state_batch_indices=index)
    want, new = OPS["selective_state_update"].sequential(
        before[8:16], x, dt, A, B, B, state_indices=index
    )
    assert [i - 8 for i in range(24) if not torch.equal(pool[i], before[i])] == [1, 3]
    assert not y[index < 0].any()
    near(y, want)
    near(state, new)
    for tokens in (None, 3):
        pool = rand(24, 256, 3)
        before, state = pool.clone(), pool[8:16]
        x = rand(5, 256) if tokens is None else rand(5, 256, tokens)
        y = conv.causal_conv1d_update(x, state, rand(256, 4), conv_state_indices=index)
        assert [i - 8 for i in range(24) if not torch.equal(pool[i], before[i])] == [1, 3]
        assert not y[index < 0].any()


@pytest.mark.parametrize("window", [None, 100])
def test_a_page_below_0_holds_no_tokens(window: int | None) -> None:
    pages = rand(66, 16, 8, 128)
    pages[0] = torch.nan
    caches = pages[1:65], pages.flip(1)[1:65]
    table = torch.randperm(64, device="cuda").view(2, 32).int()
    table[0, 3], table[0, 17:], table[1, 0], table[1, 31] = -1, -7, -2, -1
    q, lengths = rand(2, 32, 128), ints(500, 512)
    given = {"lengths": lengths, "window": window, "block_table": table}
    o = OPS["attention_decode"].kernel(q, *caches, **given)
    want = OPS["attention_decode"].plain(q.double(), *[c.double() for c in caches], **given)
    near(o, want)
    table[:] = -3
    assert not OPS["attention_decode"].kernel(q, *caches, **given).any()
    wide = OPS["attention_decode"].kernel(q, *caches, **{**given, "block_table": table.long()})
    assert not wide.any()


@pytest.mark.parametrize("channels_first", [False, True])
def test_padding_in_a_convolution_is_0_and_leaves_the_last_state(channels_first: bool) -> None:
    ids = ints(*[0] * 20, *[1] * 20, *[-1] * 600)[None]
    x = rand(1, 640, 256)
    if channels_first:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    weight = rand(256, 4)
    x[:, 40:] = torch.nan
    y, final = OPS["causal_conv1d"].kernel(x, weight, seq_idx=ids, return_final_state=True)
    want, state = reference.causal_conv1d_sequential(
        x.double(), weight.double(), seq_idx=ids, return_final_state=True
    )
    assert not y[:, 40:].any()
    near(y, want)
    assert torch.equal(final.double(), state)
    theirs = conv.causal_conv1d_fn(x.transpose(1, 2), weight, seq_idx=ids)
    assert torch.equal(theirs.transpose(1, 2), y)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("dirty", [None, "x", "dt", "B", "C", "z"])
def test_padding_in_a_scan_is_0_and_leaves_the_last_state(
    dtype: torch.dtype, dirty: str | None
) -> None:
    given = ssd(2100, dtype, gate=True)
    ids = torch.zeros(1, 2100, dtype=torch.int32, device="cuda")
    ids[:, 700:760], ids[:, 760:1500], ids[:, 1500:] = -1, 3, -2
    if dirty is not None:
        given[dirty][ids < 0] = torch.nan
    more = {"seq_idx": ids, "initial_state": rand(1, 4, 64, 128, dtype=torch.float32)}
    y, final = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**on_cpu(given | more))
    assert not y[ids < 0].any()
    near(y, want)
    near(final, state)


@pytest.mark.parametrize("op", ["ssd_scan", "selective_scan", "causal_conv1d"])
@pytest.mark.parametrize("ends", [[0, 200, 200, 700], [0, 0], [0, 1, 1999], [0, 1500, 1500]])
def test_behind_the_last_sequence_y_is_0(op: str, ends: list[int]) -> None:
    if op == "causal_conv1d":
        given = {"x": rand(1, 2000, 300), "weight": rand(300, 4)}
    else:
        given = ssd(2000, H=24) if op == "ssd_scan" else scan(2000)
    cu = ints(*ends)
    poison = torch.full((1 << 24,), 7e7, device="cuda")  # what the allocator hands out next
    del poison
    y, final = OPS[op].kernel(**given, cu_seqlens=cu, return_final_state=True)
    assert y.shape == next(iter(given.values())).shape
    assert not y[:, ends[-1] :].any()
    if ends[-1]:
        cut = {n: t[:, : ends[-1]] if t.dim() > 2 else t for n, t in given.items()}
        want, state = OPS[op].kernel(**cut, cu_seqlens=cu, return_final_state=True)
        near(y[:, : ends[-1]], want, 1e-2)
        near(final, state, 1e-2)
    late = ints(*ends[:-1], 99_999)
    whole = ints(*ends[:-1], 2000)
    assert torch.equal(
        OPS[op].kernel(**given, cu_seqlens=late), OPS[op].kernel(**given, cu_seqlens=whole)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("steps", [(0.001, 0.1), (1e-7, 1e-6), (5.0, 60.0)])
@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_extreme_steps_and_rates_agree_with_the_walk(
    dtype: torch.dtype, steps: tuple[float, float], factor: float
) -> None:
    given = ssd(520, dtype)
    low, high = steps
    given["dt"] = (torch.rand(1, 520, 4, device="cuda") * (high - low) + low).to(dtype)
    given["A"] = given["A"] * factor
    if dtype == torch.float16 and high > 10:
        given["x"] = given["x"] * 0.1  # within the range of fp16
    y, h = OPS["ssd_scan"].kernel(**given, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**on_cpu(given))
    near(y, want)
    near(h, state)


@pytest.mark.parametrize("count", [1, 2, 9, 33])
@pytest.mark.parametrize("how", ["whole", "packed", "ids", "clamped", "narrow"])
@pytest.mark.parametrize("start", [0.0, 300.0])
def test_fp16_keeps_the_digits_of_tiny_steps(
    how: str, count: int, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 2 segments of 2,100 tokens have their exponents formed by a launch of their own, 9 do not.
    monkeypatch.setitem(ssd_plan.DEFAULT, "S", count)
    launch.forget()
    given = ssd(2100, torch.float16)
    given["dt"] = (torch.rand(1, 2100, 4, device="cuda") * 9e-7 + 1e-7).half()
    if how == "narrow":  # tiles that no descriptor takes
        given["x"] = given["x"][..., :19]
    more: dict[str, Any] = {}
    if how == "packed":
        more["cu_seqlens"] = ints(0, 700, 700, 2100)
    if how == "ids":
        more["seq_idx"] = (torch.arange(2100, device="cuda") // 900).int()[None]
    if how == "clamped":  # keeps the step sizes apart from the exponents
        more["dt_limit"] = (-1.0, 1.0)
    if start:
        width, n = given["x"].shape[-1], 3 if how == "packed" else 1
        more["initial_state"] = rand(n, 4, width, 128, dtype=torch.float32) * start
    y, h = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**on_cpu(given | more))
    own = ((want.half().double() - want).norm() / want.norm()).item()
    near(y, want, 1.5 * own + 1e-3)
    near(h, state, 1e-3)
    launch.forget()


@pytest.mark.parametrize("length", [1, 65, 520, 4096])
@pytest.mark.parametrize("how", ["whole", "packed", "ids"])
def test_a_rate_of_minus_infinity_forgets_in_the_mamba2_scan(length: int, how: str) -> None:
    given = ssd(length)
    given["A"][1] = -torch.inf
    more: dict[str, Any] = {}
    if how == "packed":
        more["cu_seqlens"] = ints(0, length // 3, length)
    if how == "ids":
        more["seq_idx"] = (torch.arange(length, device="cuda") // 37).int()[None]
    y, h = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**on_cpu(given | more))
    near(y, want)
    near(h, state)


@pytest.mark.parametrize("length", [1, 65, 520, 2049])
@pytest.mark.parametrize("packed", [False, True])
def test_a_rate_of_minus_infinity_forgets_in_the_selective_scan(length: int, packed: bool) -> None:
    given = scan(length)
    given["A"][3, 2] = -torch.inf
    given["A"][7] = -torch.inf
    more = {"cu_seqlens": ints(0, length // 3, length)} if packed else {}
    y, h = OPS["selective_scan"].kernel(**given, **more, return_final_state=True)
    want, state = OPS["selective_scan"].sequential(**on_cpu(given | more))
    near(y, want)
    near(h, state)
    step = {n: t[:, 0] for n, t in given.items() if n not in ("A", "u")}
    step |= {"x": given["u"][:, 0], "A": given["A"]}
    start = rand(1, 256, 16, dtype=torch.float32)
    wanted, new = OPS["selective_state_update"].sequential(start, **step)
    near(OPS["selective_state_update"].kernel(start, **step), wanted)
    near(start, new)


@pytest.mark.parametrize("how", ["cu_seqlens", "seq_idx"])
@pytest.mark.parametrize("name", ["x", "dt", "B", "C", "z"])
@pytest.mark.parametrize("heads", [4, 80])
def test_a_nan_stays_in_its_document(how: str, name: str, heads: int) -> None:
    given = ssd(1100, H=heads, gate=True)
    at = ints(0, 450, 1100)
    ids = (torch.arange(1100, device="cuda") >= 450).int()[None]
    more = {how: at if how == "cu_seqlens" else ids}
    clean, end = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    for part, others in ((slice(0, 450), slice(450, 1100)), (slice(450, 1100), slice(0, 450))):
        dirty = given[name].clone()
        dirty[:, part] = torch.nan
        y, h = OPS["ssd_scan"].kernel(**{**given, name: dirty}, **more, return_final_state=True)
        near(y[:, others], clean[:, others], 1e-2)
        if part.start == 0:
            near(h[-1], end[-1], 1e-2)


@pytest.mark.parametrize("name", ["u", "dt", "B", "C"])
def test_a_nan_stays_in_its_sequence_of_a_selective_scan(name: str) -> None:
    given = scan(1100)
    more = {"cu_seqlens": ints(0, 300, 700, 1100)}
    clean, end = OPS["selective_scan"].kernel(**given, **more, return_final_state=True)
    given[name] = given[name].clone()
    given[name][:, 300:700] = torch.nan
    y, h = OPS["selective_scan"].kernel(**given, **more, return_final_state=True)
    for part in (slice(0, 300), slice(700, 1100)):
        assert torch.equal(y[:, part], clean[:, part])
    assert torch.equal(h[::2], end[::2])


def _block(x: torch.Tensor, given: dict[str, Any], weight: torch.Tensor) -> torch.Tensor:
    u = OPS["causal_conv1d"].kernel(x.flatten(2) * 1.0, weight, activation="silu")
    y = OPS["ssd_scan"].kernel(u.view_as(x), **given)
    return OPS["gated_rmsnorm"].kernel(y.flatten(2), weight[:, 0], z=u) + 1.0


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_block_gives_the_eager_result() -> None:
    given = ssd(300)
    x, weight = given.pop("x"), rand(256, 4)
    with torch.no_grad():
        want = _block(x, given, weight)
        compiled = torch.compile(_block, backend="aot_eager")
        for _ in range(2):
            near(compiled(x, given, weight), want, 1e-2)


@pytest.mark.parametrize("op", ["ssd_scan", "causal_conv1d", "gated_rmsnorm", "selective_scan"])
def test_an_input_that_wants_a_gradient_is_refused(op: str) -> None:
    given = {
        "ssd_scan": lambda: ssd(64),
        "selective_scan": lambda: scan(64),
        "causal_conv1d": lambda: {"x": rand(1, 64, 256), "weight": rand(256, 4)},
        "gated_rmsnorm": lambda: {"x": rand(64, 256), "weight": rand(256)},
    }[op]()
    first = next(iter(given))
    given[first].requires_grad_()
    with pytest.raises(RuntimeError, match=f"^{first} requires a gradient"):
        OPS[op].kernel(**given)
    with torch.inference_mode():
        assert OPS[op].kernel(**given).isfinite().all()


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("batch", [1, 64])
def test_a_decode_attention_in_fp32_fits_into_shared_memory(paged: bool, batch: int) -> None:
    cache = [rand(*((256, 16) if paged else (batch, 4096)), 8, 128, dtype=torch.float32)] * 2
    q = rand(batch, 32, 128, dtype=torch.float32)
    table = torch.arange(256, device="cuda").expand(batch, 256).int() if paged else None
    o = OPS["attention_decode"].kernel(q, *cache, block_table=table)
    near(o, OPS["attention_decode"].plain(q, *cache, block_table=table), 1e-5)
