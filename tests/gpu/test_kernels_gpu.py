"""The kernels on a real GPU: the full correctness matrix, large offsets, graphs, configurations.

Run with `make test-gpu`. Every comparison is against the token-by-token form in fp64.
"""

from __future__ import annotations

import pytest
import torch
from agreement import check
from gpu.cases import DELTA, WITH_STATE, Case, case, packed, split
from ssmprof_kernels import OPS, launch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LENGTHS = (1, 7, 63, 64, 65, 127, 129, 2047, 2048, 2049)
SOME_LENGTHS = (1, 65, 129, 2049)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# Tests that fill most of the memory take turns when several processes share the GPU.
large = pytest.mark.xdist_group("large")

# Operations that round factors to the input dtype on the way, for the matrix units.
MATRIX_OPS = (
    *("ssd_scan", "attention_decode", "rwkv7", "gla", "retention", "lightning"),
    *("mamba3_scan", "latent_decode", *DELTA),
)
MATRIX_ULPS = {torch.float32: 32.0, torch.float16: 4.0, torch.bfloat16: 4.0}


def agree(given: Case, dtype: torch.dtype) -> None:
    got, oracle, plain = given.kernel(), given.oracle(), given.plain()
    torch.cuda.synchronize()
    for name, value in got.items():
        check(
            f"{given.op} {name}",
            value,
            oracle[name],
            plain[name],
            precision=dtype,
            matrix_ulps=MATRIX_ULPS[dtype] if given.op in MATRIX_OPS else None,
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("op", OPS)
def test_every_length_and_option_agrees_with_the_walk(op, dtype):
    lengths = LENGTHS if dtype == torch.bfloat16 else SOME_LENGTHS
    for variant, length in enumerate(lengths):
        agree(case(op, dtype, length, variant + DTYPES.index(dtype)), dtype)


@pytest.mark.parametrize("op", WITH_STATE)
def test_a_length_that_is_no_multiple_of_anything_agrees(op):
    agree(case(op, torch.bfloat16, 8191, 3), torch.bfloat16)


@pytest.mark.parametrize("op", WITH_STATE)
@pytest.mark.parametrize(
    "lengths",
    [[0, 1], [0, 0, 16], [1, 1, 0, 2, 300, 64, 65], [3] * 300, [700]],
    ids=["empty", "leading-empty", "ragged", "300", "one"],
)
def test_packed_sequences_agree(op, lengths):
    agree(packed(op, lengths, torch.bfloat16), torch.bfloat16)


@pytest.mark.parametrize("op", WITH_STATE)
def test_two_calls_joined_by_the_state_equal_one_at_every_residue(op):
    # fp32, so that the state passed on loses nothing.
    whole = case(op, torch.float32, 200, 0)
    expected = whole.kernel()
    for first in (*range(1, 130, 1 if op == "causal_conv1d" else 8), 199):
        a, b = split(whole, first)
        one = a.kernel()
        two = b.kernel(initial_state=one["final_state"])
        y = torch.cat([one["y"], two["y"]], 1)
        torch.testing.assert_close(y, expected["y"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            two["final_state"], expected["final_state"], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("op", OPS)
def test_two_runs_and_a_graph_replay_give_equal_bits(op):
    given = case(op, torch.bfloat16, 1000, 3)
    first, second = given.kernel(), given.kernel()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        given.kernel()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        third = given.kernel()
    graph.replay()
    torch.cuda.synchronize()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert torch.equal(value, third[name]), name


@pytest.mark.parametrize("op", WITH_STATE)
def test_a_nan_reaches_its_own_row_only_and_no_earlier_than_is_promised(op):
    given = case(op, torch.bfloat16, 300, 1)
    given.arguments.pop("seq_idx", None)
    name = next(n for n in ("u", "x", "v") if n in given.arguments)
    before = given.kernel()["y"]
    # A delta rule promises no more than that what lies before the token's chunk of 64 is clean.
    clean = 150 // 64 * 64 if op in DELTA else 150
    poisoned = given.arguments[name].clone()
    poisoned[1, 150] = float("nan")
    after = given.kernel(**{name: poisoned})["y"]
    assert torch.equal(after[0], before[0])
    # The Mamba-2 scan walks a segment with such a token one by one: equal numbers, other rounding.
    largest = before[1, :clean].float().abs().max().item()
    torch.testing.assert_close(after[1, :clean], before[1, :clean], rtol=0.0, atol=0.02 * largest)
    assert after[1, 150].isnan().all()


@large
def test_a_convolution_and_a_norm_reach_beyond_two_to_the_31_elements():
    dim = 5376
    length = (1 << 31) // dim + 4096
    x = torch.randn(1, length, dim, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(dim, 4, device="cuda", dtype=torch.bfloat16)
    y = OPS["causal_conv1d"].kernel(x, weight)
    tail = OPS["causal_conv1d"].kernel(x[:, -67:], weight)
    assert torch.equal(y[:, -64:], tail[:, -64:])
    del y
    y = OPS["gated_rmsnorm"].kernel(x, weight[:, 0])
    assert torch.equal(y[:, -64:], OPS["gated_rmsnorm"].kernel(x[:, -64:], weight[:, 0]))


@large
def test_what_stands_around_rwkv7_reaches_beyond_two_to_the_31_elements():
    heads, width, rest = 32, 64, 68
    length = (1 << 31) // (heads * width) + 4096
    x = torch.randn(1, length, heads * width, device="cuda", dtype=torch.bfloat16)
    mix = torch.rand(2, heads * width, device="cuda", dtype=torch.bfloat16)
    last, tail = x[:, 0].clone(), x[:, -rest - 1]
    mixed = OPS["token_shift"].kernel(x, mix, last, resumed=False)
    wanted = OPS["token_shift"].kernel(x[:, -rest:], mix, tail.clone(), resumed=True)
    assert torch.equal(mixed[:, :, -rest:], wanted)
    assert torch.equal(last, x[:, -1])
    del mixed
    options = {"heads": heads, "lowest": -0.6}
    found = OPS["rwkv7_keys"].kernel(x, x, x, x, mix[0], mix[1], **options)
    end = x[:, -rest:]
    wanted = OPS["rwkv7_keys"].kernel(end, end, end, end, mix[0], mix[1], **options)
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(got[:, -rest:], want)
    del found, got
    y, z = (one.unflatten(-1, (heads, width)) for one in (x, end))
    got = OPS["rwkv7_output"].kernel(y, y, y, y, x, mix[0], mix[1], eps=1e-5)
    want = OPS["rwkv7_output"].kernel(z, z, z, z, end, mix[0], mix[1], eps=1e-5)
    assert torch.equal(got[:, -rest:], want)
    del got
    want = OPS["relu2"].kernel(end.contiguous())
    assert torch.equal(OPS["relu2"].kernel(x)[:, -rest:], want)


@large
def test_a_decode_attention_reaches_beyond_two_to_the_31_elements():
    length = (1 << 31) // 1024 + 4096
    q = torch.randn(1, 32, 128, device="cuda", dtype=torch.bfloat16)
    k = torch.randn(1, length, 8, 128, device="cuda", dtype=torch.bfloat16)
    lengths = torch.tensor([length], dtype=torch.int32, device="cuda")
    got = OPS["attention_decode"].kernel(q, k, k, lengths, window=1000)
    near = OPS["attention_decode"].kernel(q, k[:, -1000:], k[:, -1000:])
    torch.testing.assert_close(got, near, rtol=2e-2, atol=2e-3)


@large
def test_rows_of_latents_reach_beyond_two_to_the_31_elements():
    length = (1 << 31) // 576 + 4096
    q = torch.randn(1, length, 2, 96, device="cuda", dtype=torch.bfloat16)
    row = torch.randn(1, length, 576, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(512, device="cuda", dtype=torch.bfloat16)
    angles = torch.rand(length, 32, device="cuda") * 6
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    near = [tensor[:, -64:].clone() for tensor in (q, row)]
    OPS["latent_rotary"].kernel(q, row, weight, cos, sin, eps=1e-5)
    OPS["latent_rotary"].kernel(*near, weight, cos[-64:], sin[-64:], eps=1e-5)
    assert torch.equal(q[:, -64:], near[0])
    assert torch.equal(row[:, -64:], near[1])


@large
@pytest.mark.parametrize("op", ["ssd_scan", "selective_scan"])
def test_a_scan_reaches_beyond_two_to_the_31_elements(op):
    width, rest = 8192, 4100
    length = (1 << 31) // width + rest
    wide = torch.randn(1, length, width, device="cuda", dtype=torch.bfloat16)
    bc = torch.randn(1, length, 16, device="cuda", dtype=torch.bfloat16)
    if op == "ssd_scan":
        dt = torch.rand(1, length, 128, device="cuda", dtype=torch.bfloat16)
        arguments = {"x": wide.view(1, length, 128, 64), "dt": dt, "B": bc[:, :, None]}
        arguments |= {"C": arguments["B"], "A": -torch.rand(128, device="cuda") - 0.5}
    else:
        dt = torch.rand(1, 1, width, device="cuda", dtype=torch.bfloat16).expand(wide.shape)
        arguments = {"u": wide, "dt": dt, "B": bc, "C": bc}
        arguments["A"] = -torch.rand(width, 16, device="cuda") - 0.5
    whole = Case(op, arguments)
    # Decays of 0.5 per token and more: 4,100 tokens later nothing is left of what was before.
    _, tail = split(whole, length - rest)
    expected = tail.kernel()["y"][:, -64:].float()
    got = whole.kernel()["y"][:, -64:].float()
    assert ((got - expected).norm() / expected.norm()).item() < 5e-3


@large
def test_a_state_update_reaches_slots_beyond_two_to_the_31_elements():
    given = case("selective_state_update", torch.bfloat16, 3, 1)
    small = given.arguments["state"]
    slots = (1 << 31) // small[0].numel() + 10
    state = torch.zeros(slots, *small.shape[1:], device="cuda", dtype=torch.bfloat16)
    batch = given.arguments["x"].shape[0]
    index = torch.arange(slots - batch, slots, device="cuda", dtype=torch.int32)
    near = torch.zeros(batch, *small.shape[1:], device="cuda", dtype=torch.bfloat16)
    arguments = given.arguments | {"state": state, "state_indices": index}
    got = OPS["selective_state_update"].kernel(**arguments)
    arguments = given.arguments | {"state": near, "state_indices": None}
    assert torch.equal(got, OPS["selective_state_update"].kernel(**arguments))
    assert torch.equal(state[-batch:], near)


def _shipped() -> list[tuple[str, str, dict]]:
    if not torch.cuda.is_available():
        return []
    sm = launch.facts(torch.device("cuda", 0)).sm
    found = launch.table(launch.SHIPPED / f"sm_{sm}.json")
    return [(op, b, e["meta"]) for op, buckets in found.items() for b, e in buckets.items()]


@pytest.mark.parametrize(("op", "bucket", "meta"), _shipped())
def test_every_shipped_configuration_computes_the_same(op, bucket, meta, monkeypatch):
    # Three chunks and a ragged tail, the configuration forced wherever its parameters fit.
    original = launch.pick

    def forced(name, asked, device, default):
        if name == op and set(default) == set(meta):
            return launch.Choice(meta, True, bucket)
        return original(name, asked, device, default)

    monkeypatch.setattr(launch, "pick", forced)
    if op in OPS:
        # What was recorded with another configuration must not be replayed.
        OPS[op].kernel.__globals__.get("_recordings", {}).clear()
        agree(case(op, torch.bfloat16, 3 * 64 + 5, 0), torch.bfloat16)
        agree(case(op, torch.bfloat16, 2100, 0), torch.bfloat16)
