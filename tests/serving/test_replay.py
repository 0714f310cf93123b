"""The simulated server: closed forms in limits, conservation, monotony, what was not measured."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmprof.errors import ConfigError
from ssmprof.serving.requests import Request
from ssmprof.serving.service import Limits, breaking, limits_of, serve
from ssmprof.serving.simulator import Room, Server, simulate
from ssmprof.serving.steps import Surface, of_run, of_table
from ssmprof.store.folder import load

RUN = Path(__file__).parents[2] / "reports" / "2026-11-22-crossover-h100-80gb-hbm3"


def flat(prefill_s: float = 0.1, decode_s: float = 0.01) -> Surface:
    """Times that depend on nothing."""
    ends = (1, 2**20)
    return Surface("flat", dict.fromkeys(ends, prefill_s),
                   {batch: dict.fromkeys(ends, decode_s) for batch in (1, 4096)})  # fmt: skip


def grows() -> Surface:
    """Prefills in proportion to their length; decodes with batch and context."""
    lengths = [2**k for k in range(21)]
    return Surface(
        "grows",
        {length: length * 1e-5 for length in lengths},
        {b: {n: 1e-2 + b * 1e-4 + b * n * 1e-8 for n in lengths} for b in (1, 4, 16, 64, 256)},
    )


def poisson(count: int, rate: float, output: int = 1, prompt: int = 100) -> list[Request]:
    draw, at, found = random.Random(1), 0.0, []
    for _ in range(count):
        at += draw.expovariate(rate)
        found.append(Request(at, prompt, output))
    return found


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_one_at_a_time_is_m_d_1(share: float) -> None:
    """Mean wait of M/D/1 (Pollaczek-Khinchine): s rho / (2 (1 - rho))."""
    service = 0.1
    served = simulate(poisson(60_000, share / service), Server(flat(service), max_batch=1))
    wait = sum(served.ttft_s) / len(served.ttft_s) - service
    assert wait == pytest.approx(service * share / (2 * (1 - share)), rel=0.06)
    assert served.busy_s == pytest.approx(60_000 * service)


def test_a_server_without_a_queue() -> None:
    """Far apart: a first token after the prefill, every other after one step."""
    requests = [Request(10.0 * k, 500, 21) for k in range(5)]
    served = simulate(requests, Server(flat()))
    assert served.ttft_s == [pytest.approx(0.1)] * 5
    assert served.tpot_s == [pytest.approx(0.01)] * 5
    assert served.ends_s == pytest.approx(40.0 + 0.1 + 20 * 0.01)
    assert (served.iterations, served.largest_batch) == (5 * 21, 1)


def test_a_batch_shares_its_steps() -> None:
    """N prompts at once, prefilled in one iteration; then N tokens per step."""
    served = simulate([Request(0.0, 10, 101)] * 8, Server(flat()))
    assert served.ttft_s == [pytest.approx(0.8)] * 8
    assert served.ends_s == pytest.approx(0.8 + 100 * 0.01)
    assert (served.largest_batch, served.output_tokens) == (8, 8 * 101)


def test_prompts_are_computed_in_chunks_beside_decode_steps() -> None:
    first, second = Request(0.0, 1_000, 1_000), Request(0.105, 4_000, 2)
    served = simulate([first, second], Server(flat(), chunk_tokens=1_000))
    # The second: 4,000 tokens in pieces of 999 beside a step each, five iterations.
    begins = 0.1 + 0.01  # the step under way when it comes
    assert served.ttft_s[1] == pytest.approx(begins + 5 * 0.11 - 0.105)


def test_memory_admits_and_rejects() -> None:
    room = Room(units=300, needs=lambda tokens: tokens)
    requests = [Request(0.0, 100, 50), Request(0.0, 100, 50), Request(0.0, 100, 50),
                Request(0.0, 400, 1)]  # fmt: skip
    served = simulate(requests, Server(flat(), room))
    assert served.rejected == 1
    assert math.isnan(served.ttft_s[3])
    assert served.largest_batch == 2
    # The third waits for the first two to end: one iteration of two prompts, 49 steps.
    assert served.ttft_s[:3] == [pytest.approx(0.2)] * 2 + [pytest.approx(0.2 + 0.49 + 0.1)]


def test_reused_tokens_are_not_computed() -> None:
    one = [Request(0.0, 1024, 1)]
    plain = simulate(one, Server(grows()))
    reused = simulate(one, Server(grows()), reused=[512])
    assert plain.ttft_s == [pytest.approx(1024e-5)]
    assert reused.ttft_s == [pytest.approx(512e-5)]
    assert (plain.prompt_tokens, reused.prompt_tokens) == (1024, 512)


REQUESTS = st.lists(
    st.builds(Request, st.floats(0, 20), st.integers(1, 9_000), st.integers(0, 300)),
    min_size=1, max_size=40,
).map(lambda found: sorted(found, key=lambda one: one.arrival_s))  # fmt: skip


@given(REQUESTS, st.sampled_from([None, 1, 3]), st.sampled_from([64, 2_048]),
       st.sampled_from([None, 2_000, 20_000]))  # fmt: skip
@settings(max_examples=120)
def test_every_token_is_made_once_and_time_adds_up(
    requests: list[Request], most: int | None, chunk: int, units: int | None
) -> None:
    room = None if units is None else Room(units, lambda tokens: tokens)
    served = simulate(requests, Server(grows(), room, most, chunk))
    fits = [units is None or one.prompt_tokens + one.output_tokens <= units for one in requests]
    assert served.rejected == fits.count(False)
    kept = [one for one, fit in zip(requests, fits, strict=True) if fit]
    assert served.prompt_tokens == sum(one.prompt_tokens for one in kept)
    assert served.output_tokens == sum(max(1, one.output_tokens) for one in kept)
    assert served.busy_s <= served.ends_s * (1 + 1e-9)
    assert served.largest_batch <= (most or len(requests))
    for one, first, between in zip(requests, served.ttft_s, served.tpot_s, strict=True):
        if math.isnan(first):
            continue
        assert first >= one.prompt_tokens * 1e-5 * (1 - 1e-9)
        assert math.isnan(between) == (one.output_tokens < 2)
        if one.output_tokens >= 2:
            assert between >= 1e-2
    again = simulate(requests, Server(grows(), room, most, chunk))
    assert again.ends_s == served.ends_s


@given(REQUESTS, st.floats(1.1, 4.0))
@settings(max_examples=60)
def test_a_slower_server_and_a_higher_load_never_help_one_at_a_time(
    requests: list[Request], factor: float
) -> None:
    plain = Surface("a", {1: 1e-3, 2**20: 1.0}, {1: {1: 1e-2, 2**20: 2e-2}})
    slow = Surface("b", {n: factor * t for n, t in plain.prefills.items()},
                   {1: {n: factor * t for n, t in plain.decodes[1].items()}})  # fmt: skip
    base = simulate(requests, Server(plain, max_batch=1))
    slower = simulate(requests, Server(slow, max_batch=1))
    denser = simulate(requests, Server(plain, max_batch=1), load=factor)
    for first, later, crowded in zip(base.ttft_s, slower.ttft_s, denser.ttft_s, strict=True):
        assert later >= first * (1 - 1e-9)
        assert crowded >= first * (1 - 1e-9)


def test_steps_in_a_row_cost_what_one_by_one_does() -> None:
    """The context of a step is that of its own iteration, to a fraction of a percent."""
    served = simulate([Request(0.0, 1_000, 5_001)], Server(grows()))
    exact = sum(grows().decode(1, 1_001 + k) for k in range(5_000))
    assert served.tpot_s[0] * 5_000 == pytest.approx(exact, rel=1e-4)


def test_where_a_server_breaks() -> None:
    """One at a time, in step: it holds up to a load of 1 / (rate times service)."""
    requests = [Request(0.25 * k, 100, 1) for k in range(2_000)]
    server = Server(flat(0.1), max_batch=1)
    found = breaking(requests, server, Limits(ttft_s=0.15))
    assert found == pytest.approx(2.5, rel=0.05)
    assert breaking(requests, server, Limits(ttft_s=0.05)) == 0
    assert breaking(requests[:1], server, Limits(ttft_s=0.2)) is None
    row = serve("x", requests, server, Limits(ttft_s=0.15), load=2.0, breaks=found)
    assert (row.goodput_share, row.rate_per_s) == (1.0, pytest.approx(8.0))
    assert row.breaks_at_rate_per_s == pytest.approx(4 * (found or 0))


def test_prompts_are_powers_of_their_length_and_steps_linear_between_measured_ones() -> None:
    surface = Surface("x", {100: 1.0, 10_000: 100.0}, {1: {10: 1.0, 1_000: 4.0}, 16: {10: 4.0,
                                                       1_000: 16.0}})  # fmt: skip
    assert surface.prefill(1_000) == pytest.approx(10.0)
    assert surface.decode(1, 505) == pytest.approx(2.5)
    assert surface.decode(4, 505) == pytest.approx(2.5 + (10.0 - 2.5) * 3 / 15)
    assert surface.chunk(1_000, 9_000) == pytest.approx(90.0)


def test_measured_chunks_take_what_their_past_adds() -> None:
    """Chunks of 100 tokens: 1 s each, and 0.5 s more for every 100 tokens before them."""
    times = {50: 0.5, 100: 1.0, 200: 1.5, 1_000: 5.5}
    surface = Surface("x", times, {}, chunk_tokens=100)
    assert surface.prefill(100) == 1.0
    assert surface.prefill(20) == 0.5  # the shortest that was measured
    assert surface.prefill(300) == pytest.approx(1.0 + 1.5 + 2.0)
    assert surface.chunk(400, 100) == pytest.approx(3.0)
    assert surface.chunk(400, 50) == pytest.approx(0.5 + 2.0 / 2)
    assert surface.chunk(400, 1) == pytest.approx(0.5 + 2.0 / 100)  # the shortest that was measured
    assert surface.chunk(0, 300) == surface.prefill(300)
    assert surface.chunk(100, 150) == surface.chunk(100, 100) + surface.chunk(200, 50)
    assert surface.chunk(950, 50) == pytest.approx(0.5 + 4.5 / 2)
    with pytest.raises(ConfigError, match="prefill of 1,100 tokens"):
        surface.chunk(1_000, 100)


def test_chunks_end_on_a_grid_and_the_host_takes_its_time() -> None:
    """Budget 100 beside one that runs: 64 tokens of a prompt of 200, twice; then the rest."""
    server = Server(flat(), chunk_tokens=100, grid_tokens=64, host_s=0.001)
    first, second = Request(0.0, 10, 50), Request(0.05, 200, 1)
    served = simulate([first, second], server)
    assert served.ttft_s[0] == pytest.approx(0.101)
    begins = 0.101
    assert served.ttft_s[1] == pytest.approx(begins + 3 * 0.111 - 0.05)
    assert served.busy_s == pytest.approx(served.ends_s)


def test_what_was_not_measured_is_an_error_or_held_and_counted() -> None:
    surface = Surface("x", {100: 1.0, 1_000: 2.0}, {1: {10: 1.0, 99: 2.0}, 4: {10: 3.0, 99: 4.0}})
    for call, text in (
        (lambda: surface.prefill(99), "x: a prefill of 99 tokens (batch 1) was not measured"),
        (lambda: surface.decode(5, 50), "x: a decode of batch 5 was not measured (1 to 4 was)"),
        (lambda: surface.decode(1, 100), "x: a decode of 100 tokens (batch 1) was not measured"),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert text in str(caught.value)
    held = Surface("x", surface.prefills, surface.decodes, hold=True)
    assert (held.prefill(9), held.decode(8, 500), held.held) == (1.0, 4.0, 3)
    with pytest.raises(ConfigError, match="no prefill of batch 1"):
        Surface("x", {}, {})
    with pytest.raises(ConfigError, match="no decode step was measured"):
        Surface("x", {1: 1.0}, {}).decode(1, 1)


def test_times_of_a_run() -> None:
    (mamba2, transformer) = of_run(load(RUN), ["mamba2", "transformer"], None, hold=False)
    assert mamba2.prefill(131_072) == pytest.approx(53.9e-3, rel=0.01)
    assert transformer.prefill(131_072) == pytest.approx(296e-3, rel=0.01)
    assert mamba2.about.startswith("prefill, bfloat16, graph, batch 1; decode")
    with pytest.raises(ConfigError, match="a decode of batch 2 was not measured"):
        mamba2.decode(2, 1_000)
    with pytest.raises(ConfigError, match='did you mean "mamba2"'):
        of_run(load(RUN), ["mamba3"], None, hold=False)


def test_times_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "times.csv"
    head = "model,phase,batch,context_tokens,time_s\n"
    file.write_text(head + "a,prefill,1,512,0.01\na,decode,1,512,0.002\n")
    (found,) = of_table(file, ["a"], hold=False)
    assert (found.prefill(512), found.decode(1, 512)) == (pytest.approx(0.01), pytest.approx(0.002))
    for text, problem in (
        ("a,prefill,1,512\n", "line 2: "),
        ("a,prefil,1,512,1\n", "line 2: Invalid enum value 'prefil'"),
        ("a,prefill,0,512,1\n", "line 2: batch, context and time must be above 0"),
        ("a,decode,1,512,1\n", "a: no prefill of batch 1 was measured"),
        ("b,prefill,1,512,1\n", 'has no model "a"'),
    ):
        file.write_text(head + text)
        with pytest.raises(ConfigError, match=problem):
            of_table(file, ["a"], hold=False)
    file.write_text("x,y\n")
    with pytest.raises(ConfigError, match="its first line is not"):
        of_table(file, ["a"], hold=False)


def test_limits_are_read() -> None:
    assert limits_of("ttft=500ms, tpot=50ms") == Limits(0.5, 0.05)
    assert limits_of(None) == Limits()
    with pytest.raises(ConfigError, match=r'unknown "tft".*did you mean "ttft"'):
        limits_of("tft=1s")
    with pytest.raises(ConfigError, match="is not a duration"):
        limits_of("ttft=soon")
