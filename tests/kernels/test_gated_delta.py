"""`gated_delta`, `kda` and their steps against the recurrence in fp64, on Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton.language as tl
from kernels.delta_cases import PUBLISHED, inputs, rms, state
from ssmprof_kernels import OPS, launch
from ssmprof_kernels.gated_delta import plan
from triton.runtime import interpreter

PROMPTS = ("gated_delta", "kda")
STEPS = ("gated_delta_step", "kda_step")
rules = pytest.mark.parametrize("op", PROMPTS)


@pytest.fixture
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """As many segments as the test's parameter says."""
    for default in (plan.DEFAULT, plan.DEFAULT_FP32):
        monkeypatch.setitem(default, "S", request.param)
    launch.forget()
    yield request.param
    launch.forget()


def segmented(*counts: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cut", counts, indirect=True)


def both(op: str, given: dict[str, Any], **options: Any) -> Iterator[tuple[Any, Any]]:
    """Outputs, then states, of the kernel and of the recurrence."""
    got = OPS[op].kernel(**given, **options, return_final_state=True)
    return zip(got, OPS[op].sequential(**given, **options), strict=True)


@rules
@pytest.mark.parametrize("length", [1, 7, 31, 33, 100])
def test_a_prompt_equals_the_recurrence(op: str, length: int) -> None:
    given = inputs(op, length, batch=2)
    for got, want in both(op, given, **PUBLISHED, initial_state=state(op, 2)):
        assert rms(got, want) < 1e-5


@rules
def test_the_torch_form_equals_the_recurrence(op: str) -> None:
    given = inputs(op, 70, batch=2)
    more = {**PUBLISHED, "initial_state": state(op, 2)}
    got = OPS[op].plain(**given, **more, return_final_state=True)
    for a, b in zip(got, OPS[op].sequential(**given, **more), strict=True):
        assert rms(a, b) < 1e-6


@rules
def test_raw_decays_and_step_sizes_are_taken_as_they_are(op: str) -> None:
    given = inputs(op, 40)
    given |= {
        "A_log": None,
        "dt_bias": None,
        "g": -given["g"].abs(),
        "beta": given["beta"].sigmoid(),
    }
    given["k"] = given["k"] / given["k"].norm(dim=-1, keepdim=True)
    for got, want in both(op, given, scale=0.3):
        assert rms(got, want) < 1e-5


def test_without_decay_it_is_the_delta_rule() -> None:
    given = inputs("gated_delta", 70)
    given |= {"g": None, "A_log": None, "dt_bias": None}
    for got, want in both("gated_delta", given, **PUBLISHED, initial_state=state("gated_delta")):
        assert rms(got, want) < 1e-5


def test_no_decay_and_no_step_keep_the_state() -> None:
    given = inputs("gated_delta", 40)
    given |= {"g": torch.zeros_like(given["g"]), "beta": torch.zeros_like(given["beta"])}
    given |= {"A_log": None, "dt_bias": None}
    first = state("gated_delta")
    _, last = OPS["gated_delta"].kernel(**given, initial_state=first, return_final_state=True)
    assert torch.equal(last, first)


def test_kda_with_equal_decays_is_the_gated_delta_rule() -> None:
    given = inputs("gated_delta", 70)
    wide = dict(given)
    wide["g"] = given["g"][..., None].expand(-1, -1, -1, 16)
    wide["dt_bias"] = given["dt_bias"][:, None].expand(-1, 16)
    one = OPS["gated_delta"].kernel(**given, **PUBLISHED)
    assert rms(OPS["kda"].kernel(**wide, **PUBLISHED), one) < 1e-5


@rules
@segmented(2, 3)
def test_segments_agree_with_the_recurrence(op: str, cut: int) -> None:
    given = inputs(op, 150)
    for got, want in both(op, given, **PUBLISHED, initial_state=state(op)):
        assert rms(got, want) < 1e-5


@rules
@segmented(3)
def test_segments_agree_where_a_program_could_own_more_columns_than_there_are_keys(
    op: str, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The columns that find a segment's map, one per key, are then fewer than a tile."""
    monkeypatch.setitem(plan.DEFAULT_FP32, "BV", 64)
    sizes = {"key": 16, "value": 72}
    given = inputs(op, 100, **sizes)
    for got, want in both(op, given, **PUBLISHED, initial_state=state(op, **sizes)):
        assert rms(got, want) < 1e-5


@rules
@segmented(1, 3)
def test_packed_sequences_do_not_meet(op: str, cut: int) -> None:
    cu = torch.tensor([0, 0, 40, 41, 41, 130], dtype=torch.int32)
    given = inputs(op, 150)
    more = {**PUBLISHED, "initial_state": state(op, 5), "cu_seqlens": cu}
    y, last = OPS[op].kernel(**given, **more, return_final_state=True)
    short = {n: t[:, :130] if t.dim() > 2 else t for n, t in given.items()}
    want, want_last = OPS[op].sequential(**short, **more)
    assert rms(y[:, :130], want) < 1e-5
    assert rms(last, want_last) < 1e-5
    assert torch.equal(last[[0, 3]], more["initial_state"][[0, 3]])
    assert not y[:, 130:].any()
    given["v"][:, :40] = torch.nan
    dirty, _ = OPS[op].kernel(**given, **more, return_final_state=True)
    assert torch.equal(dirty[:, 40:], y[:, 40:])


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles by descriptors, as on Hopper."""
    cpu = torch.device("cpu")
    monkeypatch.setitem(plan.DEFAULT_FP32, "tma", True)
    with launch.pretend(cpu, launch.facts(cpu)._replace(sm=90)):
        launch.forget()
        yield
    launch.forget()


@rules
@segmented(1, 3)
@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize(("length", "batch", "width"), [(96, 2, 16), (75, 1, 16), (75, 2, 19)])
def test_tiles_come_by_descriptors(op: str, cut: int, length: int, batch: int, width: int) -> None:
    given = inputs(op, length, batch=batch, value=width)
    first = state(op, batch, value=width)
    for got, want in both(op, given, **PUBLISHED, initial_state=first):
        assert rms(got, want) < 1e-5


@rules
@pytest.mark.usefixtures("descriptors")
def test_packed_sequences_come_by_descriptors_of_copies(op: str) -> None:
    given = inputs(op, 100)
    cu = torch.tensor([0, 40, 41, 41, 100], dtype=torch.int32)
    more = {**PUBLISHED, "initial_state": state(op, 4), "cu_seqlens": cu}
    for got, want in both(op, given, **more):
        assert rms(got, want) < 1e-5
    given["q"][:, :40] = torch.nan
    dirty = OPS[op].kernel(**given, **more)
    want = OPS[op].sequential(**given, **more)[0]
    assert rms(dirty[:, 40:], want[:, 40:]) < 1e-5


@rules
@pytest.mark.parametrize("at", [1, 31, 32, 45])
def test_a_prompt_may_be_resumed_anywhere(op: str, at: int) -> None:
    given = inputs(op, 70)
    whole = OPS[op].kernel(**given, **PUBLISHED, return_final_state=True)
    parts = []
    last = None
    for span in (slice(0, at), slice(at, 70)):
        part = {n: t[:, span] if t.dim() > 2 else t for n, t in given.items()}
        part["dt_bias"] = given["dt_bias"]
        y, last = OPS[op].kernel(
            **part, **PUBLISHED, initial_state=last, return_final_state=True
        )  # fmt: skip
        parts.append(y)
    assert rms(torch.cat(parts, 1), whole[0]) < 1e-5
    assert last is not None
    assert rms(last, whole[1]) < 1e-5


@rules
def test_steps_continue_a_prompt(op: str) -> None:
    given = inputs(op, 40)
    whole, last = OPS[op].kernel(**given, **PUBLISHED, return_final_state=True)
    kept = {"A_log", "dt_bias"}
    part = {n: t if n in kept else t[:, :37] for n, t in given.items()}
    _, now = OPS[op].kernel(**part, **PUBLISHED, return_final_state=True)
    for t in range(37, 40):
        token = {n: x if n in kept else x[:, t] for n, x in given.items()}
        y = OPS[f"{op}_step"].kernel(now, **token, **PUBLISHED)
        assert rms(y, whole[:, t]) < 1e-5
    assert rms(now, last) < 1e-5


@pytest.mark.parametrize("op", STEPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_step_equals_the_recurrence(op: str, dtype: torch.dtype) -> None:
    given = inputs(op, None, batch=3, heads=4, key_heads=2, key=20, dtype=dtype)
    before = state(op, 3, heads=4, key=20)
    want_y, want = OPS[op].sequential(before, **given, **PUBLISHED)
    for form in (OPS[op].kernel, OPS[op].plain):
        now = before.clone()
        y = form(now, **given, **PUBLISHED)
        assert y.dtype == dtype
        assert rms(y, want_y) < (1e-5 if dtype == torch.float32 else 1e-3)
        assert rms(now, want) < 1e-5


@pytest.mark.parametrize("op", STEPS)
def test_a_step_writes_the_state_where_it_lies(op: str) -> None:
    given = inputs(op, None, batch=2)
    pool = torch.randn(2, 2, 19, 16)
    before = pool.clone()
    y = OPS[op].kernel(pool.transpose(-1, -2), **given, **PUBLISHED, overlap=True)
    want_y, want = OPS[op].sequential(before.transpose(-1, -2), **given, **PUBLISHED)
    assert rms(y, want_y) < 1e-5
    assert rms(pool.transpose(-1, -2), want) < 1e-5


@rules
def test_half_precision_stays_within_its_rounding(op: str) -> None:
    given = inputs(op, 70, dtype=torch.float16)
    for got, want in both(op, given, **PUBLISHED, initial_state=state(op)):
        assert rms(got, want) < 3e-3


@pytest.mark.parametrize("further", [0.0, 40.0, -90.0])  # usual decays, strong ones, hardly any
def test_differences_of_running_sums_are_as_good_in_half_precision(
    further: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs("kda", 150, dtype=torch.float16)
    given["g"] = given["g"] + further
    errors = []
    for prefix in (False, True):
        monkeypatch.setitem(plan.DEFAULT, "prefix", prefix)
        launch.forget()
        found = both("kda", given, **PUBLISHED, initial_state=state("kda"))
        errors.append([rms(got, want) for got, want in found])
    launch.forget()
    assert further or errors[0] != errors[1]  # extremes leave nothing to round
    assert all(after <= 1.1 * before for before, after in zip(*errors, strict=True))


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions to bf16 round, as a GPU's do; those of Triton's interpreter truncate."""
    convert = interpreter._convert_float

    def rounded(x: Any, source: Any, target: Any, mode: Any) -> Any:
        if (source, target) != (tl.float32, tl.bfloat16):
            return convert(x, source, target, mode)
        return torch.from_numpy(x.copy()).bfloat16().view(torch.uint16).numpy()

    monkeypatch.setattr(interpreter, "_convert_float", rounded)


@rules
@segmented(1, 3)
@pytest.mark.usefixtures("rounding")
@pytest.mark.parametrize("tiles", ["pointers", "descriptors"])
def test_doubled_steps_keep_their_precision_in_bf16(
    op: str, cut: int, tiles: str, request: pytest.FixtureRequest
) -> None:
    """More tokens in a chunk than a key has features, steps up to 2 and hardly a decay. A GPU may
    lose 5e-3, of which tf32 takes some."""
    if tiles == "descriptors":
        request.getfixturevalue("descriptors")
    sizes: dict[str, Any] = {"heads": 1, "key": 32, "value": 32}
    given = inputs(op, 160, dtype=torch.bfloat16, **sizes)
    given["dt_bias"] -= 8.0
    for got, want in both(op, given, **PUBLISHED, initial_state=state(op, **sizes)):
        assert rms(got, want) < 4e-3


def test_doubled_steps_are_cut_alike_on_every_gpu() -> None:
    for sm in (80, 90, 100):
        cpu = torch.device("cpu")
        with launch.pretend(cpu, launch.facts(cpu)._replace(sm=sm)):
            launch.forget()
            usual, doubled = (
                plan.choose("kda", 32, 64, 4096, torch.bfloat16, cpu, negative=negative).meta
                for negative in (False, True)
            )
        assert usual["C"] == (64 if sm == 90 else 32)
        assert doubled["C"] == 32
    launch.forget()


@rules
def test_any_strides_are_accepted(op: str) -> None:
    given = inputs(op, 40)
    given["q"] = torch.randn(1, 1, 40, 32)[..., ::2].transpose(1, 2)
    given["v"] = torch.randn(1, 2, 19, 40).permute(0, 3, 1, 2)
    given["beta"] = torch.randn(1, 40, 1).expand(1, 40, 2)
    first = torch.randn(1, 2, 19, 16).transpose(-1, -2)
    for got, want in both(op, given, **PUBLISHED, initial_state=first):
        assert rms(got, want) < 1e-5


@rules
@pytest.mark.parametrize("case", ["forgets at once", "strong", "none", "small steps", "same keys"])
def test_extreme_decays_and_steps_keep_their_precision(op: str, case: str) -> None:
    given = inputs(op, 70)
    rate = given["A_log"].clone()
    if case == "forgets at once":
        # The recurrence in fp64 has no -inf times 0; a rate of e^60 forgets as well.
        given["A_log"] = torch.full_like(rate, torch.inf)
        rate = torch.full_like(rate, 60.0)
    elif case == "strong":
        given["g"] = given["g"] + 40.0
    elif case == "none":
        given["g"] = given["g"] - 90.0
    elif case == "small steps":
        given["beta"] = given["beta"] - 16.0
    else:
        given["k"] = given["k"][:, :1].expand_as(given["k"])
    y, last = OPS[op].kernel(**given, **PUBLISHED, return_final_state=True)
    want, want_last = OPS[op].sequential(**{**given, "A_log": rate}, **PUBLISHED)
    assert y.isfinite().all()
    assert last.isfinite().all()
    assert rms(y, want) < 1e-5
    assert rms(last, want_last) < 1e-5


WRONG: list[tuple[str, Any]] = [
    ("q", lambda c: torch.randn(1, 9, 1, 300)),
    ("q", lambda c: torch.randn(1, 9, 3, 16)),
    ("k", lambda c: torch.randn(1, 9, 1, 17)),
    ("k", lambda c: c["k"].half()),
    ("v", lambda c: torch.randn(1, 9, 2)),
    ("g", lambda c: torch.randn(1, 8, 2)),
    ("beta", lambda c: torch.randn(1, 9, 3)),
    ("A_log", lambda c: torch.randn(3)),
    ("dt_bias", lambda c: torch.randn(5)),
    ("initial_state", lambda c: torch.randn(1, 2, 19, 16)),
    ("cu_seqlens", lambda c: torch.tensor([0, 9])),
    ("beta", lambda c: torch.empty(1, 9, 2, device="meta")),
]


@rules
@pytest.mark.parametrize(("name", "make"), WRONG)
def test_a_bad_argument_is_named(op: str, name: str, make: Any) -> None:
    case: dict[str, Any] = inputs(op, 9)
    with pytest.raises(ValueError, match=rf"^{name} "):
        OPS[op].kernel(**{**case, name: make(case)}, **PUBLISHED)


@rules
def test_options_that_need_another_are_refused(op: str) -> None:
    given = inputs(op, 9)
    with pytest.raises(ValueError, match=r"^negative .* beta_sigmoid"):
        OPS[op].kernel(**given, negative=True)
    with pytest.raises(ValueError, match=r"^dt_bias needs A_log"):
        OPS[op].kernel(**{**given, "A_log": None})
    with pytest.raises(ValueError, match=r"^(A_log needs g|g must)"):
        OPS[op].kernel(**{**given, "g": None, "dt_bias": None})


def test_more_heads_need_fewer_segments() -> None:
    meta = dict(plan.DEFAULT)
    counts = []
    for heads in (8, 16, 64, 512):
        cut = plan.plan(1, 65536, heads, (128, 128), None, meta, 132)
        assert cut.T % meta["C"] == 0
        assert cut.T * cut.S >= 65536 > cut.T * (cut.S - 1)
        counts.append(cut.S)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 1
    assert counts[-1] == 1


def test_slots_suffice_for_ragged_sequences() -> None:
    meta = {**plan.DEFAULT, "S": 3}
    cut = plan.plan(1, 1000, 4, (128, 128), 5, meta, 132)
    assert cut.slots >= 1000 // cut.T + 5
    assert cut.chunks == 1000 // 64 + 5
