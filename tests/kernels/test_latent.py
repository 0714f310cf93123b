"""Latent decode in Triton (interpreter here) and plain torch against the fp64 walk."""

from __future__ import annotations

import pytest
import torch
from agreement import check
from ssmprof_kernels import latent_decode, launch, reference
from ssmprof_kernels.latent import op

SMALL = {
    "BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_V": 16, "FILL": 6, "MIN_TILES": 1, "EFFICIENCY": 0.85,
    "num_warps": 1, "num_stages": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    # Small tiles and six pretended slots: caches of some dozen tokens are split.
    for name in ("DEFAULT", "FEW", "FP32"):
        monkeypatch.setattr(op, name, SMALL)
    launch.forget()
    yield
    launch.forget()


def inputs(batch=2, heads=5, rank=32, turned=8, room=70, dtype=torch.float32):
    g = torch.Generator().manual_seed(3)
    width = rank + turned
    return (
        torch.randn(batch, heads, width, generator=g).to(dtype),
        torch.randn(batch, room, width, generator=g).to(dtype),
    )


def compare(q, latents, lengths=None, rank=32):
    given = {"rank": rank, "scale": 0.3}
    want = reference.latent_decode_sequential(q, latents, lengths, **given)
    plain = reference.latent_decode(q, latents, lengths, **given)
    check("o", latent_decode(q, latents, lengths, **given), want, plain)
    check("plain o", plain, want, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(("heads", "rank", "turned"), [(5, 32, 8), (20, 24, 10), (1, 40, 0)])
def test_every_shape_agrees(heads, rank, turned, dtype):
    lengths = torch.tensor([70, 33], dtype=torch.int32)
    compare(*inputs(heads=heads, rank=rank, turned=turned, dtype=dtype), lengths, rank)


@pytest.mark.parametrize("whole", [16, 64])
def test_values_in_one_tile_or_in_several_agree(whole, monkeypatch):
    for name in ("DEFAULT", "FP32"):
        monkeypatch.setattr(op, name, {**SMALL, "BLOCK_V": whole})
    compare(*inputs())


@pytest.mark.parametrize("lengths", [[0, 1], [15, 16], [17, 70], [70, 0]])
def test_every_length_from_empty_to_full_agrees(lengths):
    compare(*inputs(), torch.tensor(lengths, dtype=torch.int32))


def test_tokens_beyond_the_length_have_no_influence_even_as_nan():
    q, latents = inputs()
    lengths = torch.tensor([20, 41], dtype=torch.int32)
    given = {"rank": 32, "scale": 0.3}
    before = latent_decode(q, latents, lengths, **given)
    latents[0, 20:], latents[1, 41:] = float("nan"), float("nan")
    assert torch.equal(latent_decode(q, latents, lengths, **given), before)
    assert reference.latent_decode(q, latents, lengths, **given).isfinite().all()


def test_strided_inputs_agree():
    q, latents = inputs()
    rows = torch.stack([latents, latents + 1], 2)[:, :, 0]
    compare(q.transpose(0, 1).contiguous().transpose(0, 1), rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": torch.zeros(2, 70, 39)}, "latents must have shape"),
        ({"rank": 41}, "rank must be in 1..40"),
        ({"lengths": torch.zeros(3, dtype=torch.int32)}, "lengths must have shape"),
    ],
)
def test_a_wrong_argument_is_named(change, message):
    q, latents = inputs()
    given = {"q": q, "latents": latents, "lengths": None, "rank": 32, "scale": 1.0} | change
    with pytest.raises(ValueError, match=message):
        latent_decode(**given)
