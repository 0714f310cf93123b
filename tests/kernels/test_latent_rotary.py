"""The norm of latents, the turn of keys and queries and their write, in one launch (interpreter
here) and in plain torch, against the fp64 walk."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agreement import check
from ssmprof_kernels import gated_rmsnorm, latent_rotary, reference
from torch import Tensor

Given = dict[str, Any]


def inputs(
    batch: int = 2, length: int = 5, heads: int = 3, rank: int = 20, turned: int = 6,
    own: int = 7, *, rope: bool = True, cache: bool = False, beside: bool = False,
    apart: bool = False, dtype: torch.dtype = torch.float32,
) -> Given:  # fmt: skip
    """A call; `cache` has other rows before and behind, `beside` are other features of queries,
    `apart` has sequences at positions of their own in such a cache."""
    g = torch.Generator().manual_seed(length + 10 * heads + rank)

    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(dtype)

    found: Given = {
        "q": r(batch, length, heads, own + turned),
        "row": r(batch, length, rank + turned),
        "weight": r(rank),
        "eps": 1e-3,
    }
    if rope:  # of the last tokens of a table
        angles = torch.rand(length + 4, turned // 2, generator=g) * 6
        first = 0 if apart else 4
        found |= {"cos": angles.cos().to(dtype)[first:], "sin": angles.sin().to(dtype)[first:]}
    if apart:
        found["positions"] = torch.arange(batch, dtype=torch.int32).flip(0) * 3
        found["row_out"] = r(batch, length + 9, 2, rank + turned)[:, :, 0]
    elif cache:
        found["row_out"] = r(batch, length + 9, 2, rank + turned)[:, 4 : 4 + length, 0]
    if beside:
        found["q_out"] = r(batch, length, heads, rank + turned)
    return found


def copied(given: Given) -> Given:
    """The same values in memory of their own, laid out alike."""
    return {
        name: torch.empty_strided(v.shape, v.stride(), dtype=v.dtype).copy_(v)
        if torch.is_tensor(v) else v
        for name, v in given.items()
    }  # fmt: skip


def compare(given: Given) -> None:
    want = reference.latent_rotary_sequential(**given)
    plain = reference.latent_rotary(**copied(given))
    mine = copied(given)
    got = latent_rotary(**mine)
    for name, one in (("q", got[0]), ("row", got[1])):
        assert one is mine.get(f"{name}_out", mine[name])
    for name, *three in zip(("q", "row"), got, want, plain, strict=True):
        check(name, *three)
    for name in ("q", "row"):
        if f"{name}_out" in given:
            assert torch.equal(mine[name], given[name])


@pytest.mark.parametrize("rope", [True, False])
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_every_place_of_the_results_agrees(rope: bool, cache: bool, beside: bool) -> None:
    compare(inputs(rope=rope, cache=cache, beside=beside))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "rank", "turned", "own"), [(5, 33, 10, 0), (1, 1, 2, 3), (16, 64, 8, 16)]
)
def test_every_shape_and_dtype_agrees(
    heads: int, rank: int, turned: int, own: int, dtype: torch.dtype
) -> None:
    shape = {"heads": heads, "rank": rank, "turned": turned, "own": own}
    for length in (1, 3):
        compare(inputs(length=length, cache=True, dtype=dtype, **shape))


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("rope", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_sequence_is_turned_and_kept_at_its_own_position(
    length: int, rope: bool, dtype: torch.dtype
) -> None:
    given = inputs(length=length, rope=rope, beside=True, apart=True, dtype=dtype)
    compare(given)
    compare(given | {"positions": given["positions"].long()})
    _, rows = latent_rotary(**copied(given))
    for b, at in enumerate(given["positions"].tolist()):
        one = {n: v[b : b + 1] for n, v in given.items() if n in ("q", "row", "q_out", "row_out")}
        one["row_out"] = one["row_out"][:, at : at + length].clone()
        if rope:
            one |= {n: given[n][at : at + length] for n in ("cos", "sin")}
        _, alone = latent_rotary(**{**copied(one), "weight": given["weight"], "eps": 1e-3})
        assert torch.equal(rows[b : b + 1, at : at + length], alone)
        assert torch.equal(rows[b, at + length :], given["row_out"][b, at + length :])
        assert torch.equal(rows[b, :at], given["row_out"][b, :at])


def test_heads_of_several_programs_agree() -> None:
    compare(inputs(batch=1, length=2, heads=37, turned=64, beside=True))
    compare(inputs(batch=1, length=2, heads=37, turned=61, rope=False, beside=True))


def test_features_that_are_not_turned_and_other_rows_stay() -> None:
    given = inputs(cache=True, beside=True)
    rows = torch.zeros(2, 14, 26)
    queries = given["q_out"].clone()
    latent_rotary(**given | {"row_out": rows[:, 4:9]})
    assert torch.equal(given["q_out"][..., :20], queries[..., :20])
    assert (rows[:, 4:9] != 0).any(-1).all()
    assert not rows[:, :4].any()
    assert not rows[:, 9:].any()
    own = given["q"].clone()
    latent_rotary(**given | {"q_out": None})
    assert torch.equal(given["q"][..., :7], own[..., :7])


def test_strided_inputs_agree() -> None:
    given = inputs(cache=True, beside=True)
    for name, tensor in given.items():
        if torch.is_tensor(tensor):
            apart = torch.stack([tensor, tensor + 1], -1)[..., 0]
            compare(given | {name: apart})
    heads_first = given["q"].transpose(1, 2).contiguous().transpose(1, 2)
    tokens_first = given["row"].transpose(0, 1).contiguous().transpose(0, 1)
    compare(given | {"q": heads_first, "row": tokens_first})


def test_rows_are_normed_as_by_the_norm_alone() -> None:
    given = inputs(dtype=torch.bfloat16, rope=False)
    latents = gated_rmsnorm(given["row"][..., :20], given["weight"], eps=1e-3)
    _, rows = latent_rotary(**given)
    assert torch.equal(rows[..., :20], latents)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 5, 13)}, "q must have shape"),
        ({"row": torch.zeros(2, 4, 26)}, "row must have shape .* L = 5"),
        ({"row": torch.zeros(2, 5, 27), "row_out": None}, "pairs of features"),
        ({"weight": torch.zeros(26)}, r"weight must have shape \(r,\)"),
        ({"weight": torch.zeros(2, 20)}, r"weight must have shape \(r,\)"),
        ({"weight": torch.zeros(3)}, "dr in 1..13"),
        ({"sin": None}, "sin must be given"),
        ({"cos": torch.zeros(6, 3)}, "cos must have shape"),
        ({"q_out": torch.zeros(2, 5, 3, 5)}, "q_out must have shape"),
        ({"row_out": torch.zeros(2, 4, 26)}, "row_out must have shape"),
        ({"row": torch.zeros(2, 5, 26).half()}, "row must have q's dtype"),
        ({"row_out": torch.zeros(2, 5, 26).half()}, "row_out must have q's dtype"),
        ({"positions": torch.zeros(3, dtype=torch.int32)}, r"positions must have shape \(B,\)"),
        ({"positions": torch.zeros(2)}, "positions .* must be int32, int64"),
        ({"positions": torch.zeros(2, dtype=torch.int32)}, "row_out must hold rows of a cache"),
    ],
)
def test_a_wrong_argument_is_named(change: Given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latent_rotary(**inputs() | change)
