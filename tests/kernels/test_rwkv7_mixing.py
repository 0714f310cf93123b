"""What stands around RWKV-7's rule (interpreter here) against plain torch and fp64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agreement import check
from ssmprof_kernels import OPS, reference, relu2, rwkv7_keys, rwkv7_output, token_shift
from ssmprof_kernels.rwkv7 import plan
from torch import Tensor

LOWEST = -0.6065306597126334
DTYPES = (torch.float32, torch.float16)
#: Sequences and tokens; one token each without the latter.
LEADS = [(1,), (3,), (1, 1), (2, 13), (1, 70)]


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def double(given: dict[str, Any]) -> dict[str, Any]:
    return {n: v.double() if isinstance(v, Tensor) else v for n, v in given.items()}


def compare(op: str, **given: Any) -> None:
    """Kernel and plain form against the walk in fp64."""
    results = [OPS[op].kernel(**given), OPS[op].plain(**given), OPS[op].sequential(**double(given))]
    parts = [one if isinstance(one, tuple) else (one,) for one in results]
    for at, (got, plain, oracle) in enumerate(zip(*parts, strict=True)):
        assert got.dtype == plain.dtype
        check(f"{op} {at}", got, oracle, plain)
        check(f"plain {op} {at}", plain, oracle, plain)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("mixes", [None, 1, 6])
@pytest.mark.parametrize(("lead", "width"), [*((lead, 48) for lead in LEADS), ((2, 9), 300)])
def test_a_shift_mixes_each_token_with_the_one_before(lead, width, mixes, resumed, dtype):
    x, before = drawn(*lead, width, dtype=dtype), drawn(lead[0], width, dtype=dtype, seed=1)
    mix = drawn(*(() if mixes is None else (mixes,)), width, seed=2).sigmoid().to(dtype)
    own, other = before.clone(), before.clone()
    got = token_shift(x, mix, own, resumed=resumed)
    plain = reference.token_shift(x, mix, other, resumed=resumed)
    oracle, last = reference.token_shift_sequential(
        x.double(), mix.double(), before.double(), resumed=resumed
    )
    assert got.shape == plain.shape == (*mix.shape[:-1], *x.shape)
    check("mixed", got, oracle, plain)
    assert torch.equal(own, other)
    assert torch.equal(own.double(), last)


def test_a_shift_goes_on_where_it_stopped():
    x, mix, last = drawn(2, 21, 40), drawn(3, 40, seed=1), torch.full((2, 40), float("nan"))
    whole = token_shift(x, mix, last, resumed=False)
    parts = [token_shift(x[:, :8], mix, last, resumed=False)]
    parts.append(token_shift(x[:, 8:20], mix, last, resumed=True))
    parts.append(token_shift(x[:, 20], mix, last, resumed=True)[:, :, None])
    assert torch.equal(torch.cat(parts, 2), whole)
    assert torch.equal(last, x[:, -1])


def test_a_shift_takes_any_strides_and_a_last_token_of_another_dtype():
    x, mix = drawn(2, 11, 40), drawn(3, 40, seed=1)
    last = drawn(2, 40, seed=2).half()
    wanted = token_shift(x, mix, last.clone(), resumed=True)
    apart = torch.stack([x, x], -1)[..., 0].transpose(0, 1).contiguous().transpose(0, 1)
    rows = last.t().contiguous().t()
    assert torch.equal(token_shift(apart, mix.t().contiguous().t(), rows, resumed=True), wanted)
    assert torch.equal(rows, x[:, -1].half())


def keys(lead: tuple[int, ...], heads: int, width: int, dtype: torch.dtype, mixed: bool) -> Any:
    shape = (*lead, heads * width)
    tokens = {n: drawn(*shape, dtype=dtype, seed=i) for i, n in enumerate(("w", "k", "a", "v"))}
    weights = {
        n: drawn(heads * width, seed=i).to(dtype) for i, n in enumerate(("removed", "added"))
    }
    more = {}
    if mixed:
        more = {n: drawn(*shape, dtype=dtype, seed=i) for i, n in ((7, "v_first"), (8, "share"))}
    return {**tokens, **weights, **more, "heads": heads, "lowest": LOWEST}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(
    ("lead", "heads", "width"),
    [*((lead, 3, 16) for lead in LEADS), ((2, 5), 20, 48), ((2,), 5, 64), ((1, 3), 1, 128)],
)
def test_keys_are_those_of_plain_torch(lead, heads, width, mixed, dtype):
    compare("rwkv7_keys", **keys(lead, heads, width, dtype, mixed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("lead", "heads", "width"),
    [*((lead, 3, 16) for lead in LEADS), ((2, 5), 20, 48), ((2,), 5, 64), ((1, 3), 1, 128)],
)
def test_outputs_are_those_of_plain_torch(lead, heads, width, bias, dtype):
    shape, size = (*lead, heads, width), heads * width
    given = {n: drawn(*shape, dtype=dtype, seed=i) for i, n in enumerate(("y", "r", "k", "v"))}
    given |= {n: drawn(size, seed=i).to(dtype) for i, n in ((4, "weight"), (5, "bonus"))}
    given["bias"] = drawn(size, seed=6).to(dtype) if bias else None
    compare("rwkv7_output", **given, gate=drawn(*lead, size, dtype=dtype, seed=7), eps=64e-5)


def test_bf16_is_right_to_its_rounding():
    # The interpreter cuts where a GPU rounds: twice the error.
    given = keys((2, 5), 3, 16, torch.bfloat16, True)
    for got, want in zip(
        rwkv7_keys(**given), reference.rwkv7_keys_sequential(**double(given)), strict=True
    ):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), want, rtol=2**-7, atol=1e-6)
    x, mix, last = drawn(2, 5, 48).bfloat16(), drawn(48).bfloat16(), drawn(2, 48).bfloat16()
    want, _ = reference.token_shift_sequential(
        x.double(), mix.double(), last.double(), resumed=True
    )
    got = token_shift(x, mix, last, resumed=True)
    torch.testing.assert_close(got.double(), want, rtol=2**-7, atol=1e-6)


def apart(x: Tensor) -> Tensor:
    """The same values, every second element of a larger tensor whose first two axes are swapped."""
    return torch.stack([x, x], -1)[..., 0].transpose(0, 1).contiguous().transpose(0, 1)


def test_keys_and_outputs_take_any_strides():
    given = keys((2, 7), 3, 16, torch.float32, True)
    spread = {n: apart(v) if isinstance(v, Tensor) and v.dim() > 1 else v for n, v in given.items()}
    spread["removed"] = torch.stack([given["removed"]] * 2, -1)[..., 0]
    for got, wanted in zip(rwkv7_keys(**spread), rwkv7_keys(**given), strict=True):
        assert torch.equal(got, wanted)
    heads = [drawn(2, 7, 3, 16, seed=i) for i in range(4)]
    gate, weight, bonus = drawn(2, 7, 48, seed=4), drawn(48, seed=5), drawn(48, seed=6)
    wanted = rwkv7_output(*heads, gate, weight, bonus, eps=1e-5)
    got = rwkv7_output(*map(apart, heads), apart(gate), weight, bonus.flip(0).flip(0), eps=1e-5)
    assert torch.equal(got, wanted)


def test_a_key_that_is_zero_stays_zero_and_large_logits_do_not_overflow():
    given = keys((2,), 2, 16, torch.float32, True)
    given["k"][0, :16] = 0.0
    given["a"] *= 1e4
    given["w"] *= 1e4
    w, _, _, kk, a = rwkv7_keys(**given)
    assert not kk[0, 0].any()
    assert all(one.isfinite().all() for one in (w, kk, a))
    torch.testing.assert_close(kk.norm(dim=-1)[1], torch.ones(2))


def test_a_nan_stays_in_its_head():
    given = keys((1, 4), 3, 16, torch.float32, False)
    given["k"][0, 2, 20] = float("nan")
    _, _, _, kk, _ = rwkv7_keys(**given)
    bad = kk.isnan().any(-1)
    assert bad.nonzero().tolist() == [[0, 2, 1]]
    heads = [drawn(1, 4, 3, 16, seed=i) for i in range(4)]
    heads[0][0, 1, 2, 3] = float("nan")
    out = rwkv7_output(*heads, drawn(1, 4, 48), drawn(48), drawn(48), eps=1e-5)
    assert out.unflatten(-1, (3, 16)).isnan().any(-1).nonzero().tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (3, 700), (2, 3, 1024)])
def test_a_squared_rectifier_is_that_of_plain_torch_in_place(shape, dtype):
    hidden = 3 * drawn(*shape).to(dtype)
    hidden.view(-1)[0] = float("nan")
    own, other = hidden.clone(), hidden.clone()
    assert relu2(own) is own
    wide = reference.relu2_sequential(hidden.double())
    # The interpreter cuts bf16 where a GPU rounds.
    exact = 0.0 if dtype != torch.bfloat16 else 2**-7
    torch.testing.assert_close(own, reference.relu2(other), rtol=exact, atol=0.0, equal_nan=True)
    torch.testing.assert_close(
        own.double(), wide, rtol=2 * torch.finfo(dtype).eps, atol=1e-6, equal_nan=True
    )


def test_threads_have_eight_elements_and_few_tokens_small_programs():
    cpu = torch.device("cpu")
    few = plan.choose_heads("rwkv7_keys", (1, 32, 64), cpu).meta
    many = plan.choose_heads("rwkv7_keys", (1, 4096, 32, 64), cpu).meta
    assert plan.heads_of_program(32, 64, few) == (64, 4, 1)
    assert plan.heads_of_program(32, 64, many) == (64, 16, 4)
    assert plan.heads_of_program(3, 48, many) == (64, 4, 1)
    assert plan.heads_of_program(2, 2048, few) == (2048, 1, 8)


X, F, H = torch.zeros(2, 4, 32), torch.zeros(32), torch.zeros(2, 4, 2, 16)
SHIFT = {"x": X, "mix": torch.zeros(6, 32), "last": torch.zeros(2, 32), "resumed": True}
KEYS = {**dict.fromkeys("wkav", X), "removed": F, "added": F, "heads": 2, "lowest": LOWEST}
OUTPUT = {**dict.fromkeys("yrkv", H), "gate": X, "weight": F, "bonus": F, "eps": 1e-5}


@pytest.mark.parametrize(
    ("op", "given", "change", "named"),
    [
        ("token_shift", SHIFT, {"x": F}, "x must have shape"),
        ("token_shift", SHIFT, {"x": X[:0]}, "x must have shape"),
        ("token_shift", SHIFT, {"mix": torch.zeros(6, 31)}, "mix must have shape"),
        ("token_shift", SHIFT, {"last": torch.zeros(1, 32)}, "last must have shape"),
        ("token_shift", SHIFT, {"last": torch.zeros(2, 32).long()}, "last of shape"),
        ("token_shift", SHIFT, {"mix": SHIFT["mix"].to("meta")}, "mix of shape"),
        ("rwkv7_keys", KEYS, {"k": F}, "k must have shape"),
        ("rwkv7_keys", KEYS, {"w": X[:1]}, "w must have shape"),
        ("rwkv7_keys", KEYS, {"added": F[:3]}, "added must have shape"),
        ("rwkv7_keys", KEYS, {"heads": 5}, "heads must divide"),
        ("rwkv7_keys", KEYS, {"share": X}, "v_first and share"),
        ("rwkv7_keys", KEYS, {"v": X.half()}, "k's dtype"),
        ("rwkv7_keys", KEYS, {"a": X.to("meta")}, "a of shape"),
        ("rwkv7_output", OUTPUT, {"y": X[0]}, "y must have shape"),
        ("rwkv7_output", OUTPUT, {"v": H[:1]}, "v must have shape"),
        ("rwkv7_output", OUTPUT, {"gate": H}, "gate must have shape"),
        ("rwkv7_output", OUTPUT, {"bias": F[:3]}, "bias must have shape"),
        ("rwkv7_output", OUTPUT, {"r": H.to("meta")}, "r of shape"),
        ("relu2", {}, {"hidden": X.transpose(0, 1)}, "hidden must be contiguous"),
        ("relu2", {}, {"hidden": X.long()}, "hidden of shape"),
    ],
)
def test_bad_input_is_named_before_any_launch(op, given, change, named):
    with pytest.raises(ValueError, match=named):
        OPS[op].kernel(**given | change)
