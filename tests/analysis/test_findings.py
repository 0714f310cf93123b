"""Shares, launch gaps, memory, energy and trust, on virtual runs whose answers are known."""

import math

import pytest
from make import (
    ENVIRONMENT,
    attribution,
    environment,
    failure,
    measured,
    measurement,
    memory,
    power_law,
    run,
    scenario,
)

from ssmprof.analysis import FINDERS, analyze
from ssmprof.analysis.tags import tags
from ssmprof.records import Calibration, Check, Clocks, Energy, Note

GIB = 2**30
CONTEXTS = (512, 1024, 2048, 4096, 8192)


def checked(**changes):
    """A machine `doctor` has seen."""
    machine = environment(calibration=Calibration(**changes))
    return {"environments": {machine.fingerprint: machine}}


def rounds(*args, count=3, **kwargs):
    return [measurement(*args, round=turn, **kwargs) for turn in range(count)]


def scan_run(shares, execution="graph", **changes):
    """Mamba-2 whose scan takes shares[context] of 1 ms of kernels."""
    return run(
        *(
            one
            for context, share in shares.items()
            for one in rounds(
                context=context,
                execution=execution,
                attribution=attribution(1e-3, scan=share, gemm=1 - share),
            )
        ),
        **changes,
    )


@pytest.mark.parametrize("field", FINDERS)
def test_every_finder_copes_with_empty_failed_and_full_runs(field: str):
    full = measured(scenario(contexts=CONTEXTS), power_law(attention=(1, 2), mamba2=(4000, 1)))
    for example in (run(), run(failure()), run(measurement()), full, scan_run({512: 0.6})):
        assert isinstance(getattr(analyze(example), field), tuple)


def test_the_same_run_gives_the_same_findings():
    example = measured(
        scenario(contexts=CONTEXTS), power_law(noise=0.01, attention=(1, 2), mamba2=(4000, 1))
    )
    assert analyze(example) == analyze(example)


def test_a_family_dominates_from_the_context_where_its_share_passes_half():
    found = analyze(scan_run({512: 0.2, 1024: 0.4, 2048: 0.6, 4096: 0.8}))
    (scan,) = (d for d in found.dominances if d.family == "scan" and d.of == "device")
    assert (scan.kind, scan.low, scan.high) == ("from", 1024, 2048)
    assert scan.context == pytest.approx(math.sqrt(1024 * 2048))
    assert scan.interval[0] <= scan.context <= scan.interval[1]
    (gemm,) = (d for d in found.dominances if d.family == "gemm" and d.of == "device")
    assert gemm.kind == "up-to"


@pytest.mark.parametrize(
    ("shares", "kind"),
    [
        ({512: 0.1, 4096: 0.49}, "not-reached"),
        ({512: 0.6, 4096: 0.9}, "throughout"),
        ({512: 0.6, 1024: 0.4, 4096: 0.9}, "several"),
    ],
)
def test_the_other_answers_about_dominance(shares, kind: str):
    found = analyze(scan_run(shares)).dominances
    (scan,) = (d for d in found if d.family == "scan" and d.of == "device")
    assert scan.kind == kind
    assert scan.peak_share == pytest.approx(max(shares.values()))


def test_shares_add_up_for_every_denominator():
    graph = rounds(context=512, execution="graph", time_s=1.1e-3, attribution=attribution(1e-3))
    eager = rounds(context=512, execution="eager", time_s=4e-3)
    sums: dict = {}
    for share in analyze(run(*graph, *eager)).shares:
        sums.setdefault(share.of, {})[share.family] = share.share
    assert set(sums) == {"device", "graph-wall", "eager-wall"}
    for table in sums.values():
        assert sum(table.values()) == pytest.approx(1.0)
    assert sums["eager-wall"]["launch-gap"] == pytest.approx(0.75)
    assert sums["eager-wall"]["scan"] == pytest.approx(0.15)


def test_who_dominates_is_not_said_where_parts_miss_the_whole_by_more_than_a_tenth():
    bad = run(*rounds(attribution=attribution(1e-3, scan=0.8)))
    assert analyze(bad).shares == ()
    assert any(warning.kind == "closure" for warning in analyze(bad).warnings)


@pytest.mark.parametrize(
    ("eager_s", "verdict"),
    [(8e-3, "launch-bound"), (1.3e-3, "mixed"), (1.05e-3, "device-bound")],
)
def test_a_point_is_launch_bound_when_a_graph_would_halve_its_time(eager_s, verdict):
    graph = rounds(execution="graph", time_s=1e-3, attribution=attribution(0.9e-3))
    eager = rounds(execution="eager", time_s=eager_s, launches=10)
    (found,) = analyze(run(*graph, *eager)).launches
    assert found.verdict == verdict
    assert found.gap == pytest.approx(1 - 1e-3 / eager_s)
    assert found.busy == pytest.approx(0.9e-3 / eager_s)
    assert found.host_s_per_launch == pytest.approx(eager_s / 10)


def test_a_cpu_has_no_launch_verdict():
    assert analyze(run(*rounds(execution="eager"))).launches == ()


def test_the_memory_law_is_found_and_tells_predicted_from_measured():
    def peak(context):
        return memory(context, allocator_peak_bytes=GIB + context * 2**20)

    outcomes = [
        measurement("attention", context, execution="graph", memory=peak(context))
        for context in CONTEXTS
    ]
    dead = failure("attention", 131072, execution="graph", predicted_bytes=129 * GIB)
    found = analyze(run(*outcomes, dead))
    (law,) = found.memory_laws
    assert law.fixed_bytes == pytest.approx(GIB)
    assert law.bytes_per_token == pytest.approx(2**20)
    assert law.fits_up_to == pytest.approx(79 * 1024)
    assert (law.measured_up_to, law.failed_at) == (8192, 131072)
    assert [point.fits for point in found.memory] == [True] * 5 + [False]


def test_memory_that_does_not_grow_has_no_longest_context():
    outcomes = [
        measurement(context=context, memory=memory(context, allocator_peak_bytes=GIB))
        for context in CONTEXTS
    ]
    (law,) = analyze(run(*outcomes)).memory_laws
    assert law.fits_up_to is None


def test_energy_is_per_token_of_the_phase_and_absent_where_it_could_not_be_read():
    def energy(joules):
        return Energy(
            energy_j=joules, mean_power_w=1, window_s=5, calls=1, source="nvml", scope="device",
            integral_j=joules * 1.02,
        )  # fmt: skip

    prefill = rounds(context=1000, energy=energy(50.0))
    decode = rounds(context=1000, phase="decode", energy=energy(0.5))
    unread = rounds("mamba1", context=1000)
    found = {point.facet.phase: point for point in analyze(run(*prefill, *decode, *unread)).energy}
    assert found["prefill"].per_token_j == pytest.approx(0.05)
    assert found["decode"].per_token_j == pytest.approx(0.5)
    assert found["prefill"].counter_gap == pytest.approx(0.02)
    assert {point.block for point in found.values()} == {"mamba2"}


def noted(kind, share, total=20):
    return [
        measurement(context=context, notes=(Note(kind=kind, text="x"),) * (turn < share * total))
        for turn, context in enumerate(range(512, 512 + total))
    ]


@pytest.mark.parametrize(
    ("outcomes", "calibration", "grade"),
    [
        (rounds(), {}, "A"),
        (rounds(), {"checks": (Check(name="clocks", level="warn", text="free"),)}, "B"),
        (rounds(), {"checks": (Check(name="clocks", level="error", text="bad"),)}, "C"),
        (rounds(), {"repeat_noise": 0.02}, "C"),
        (rounds(), {"repeat_noise": 0.3}, "D"),
        (rounds(count=2), {}, "C"),
        (rounds() + noted("throttled", 0.1), {}, "C"),
        (rounds() + noted("throttled", 0.5), {}, "D"),
        (rounds() + noted("power-cap", 0.9), {}, "C"),
        (rounds() + noted("noisy", 0.05), {}, "B"),
        (rounds() + noted("noisy", 0.5), {}, "C"),
    ],
)
def test_the_grade_follows_the_printed_limits(outcomes, calibration, grade: str):
    trust = analyze(run(*outcomes, **checked(**calibration))).trust
    assert trust.grade == grade
    assert (trust.withheld is not None) == (grade == "D")


def test_a_power_limit_named_at_full_clock_is_no_throttling():
    def flagged(clock_hz: float, *more: Note):
        return measurement(
            clocks=Clocks(sm_before_hz=1.98e9, sm_after_hz=clock_hz, throttle=("power cap",)),
            notes=(Note(kind="throttled", text="power cap"), *more),
        )

    assert tags(flagged(1.7e9)) == ("power-cap",)
    slow = Note(kind="clock", text="SM clock at 1400 of 1980 MHz")
    assert tags(flagged(1.4e9, slow)) == ("throttled", "clock")


def test_a_machine_that_was_never_checked_carries_no_verdict():
    trust = analyze(run(*rounds())).trust
    assert ENVIRONMENT.calibration is None
    assert trust.grade == "D"
    assert "doctor" in trust.withheld


def test_published_numbers_are_graded_as_such_and_not_withheld():
    trust = analyze(run(*rounds(), origin="published")).trust
    assert (trust.grade, trust.withheld) == ("C", None)


def test_a_roofline_needs_known_rates_and_states_their_origin():
    rates = {"copy_bytes_per_s": 3e12, "matmul_flops": 6e14, "exps_per_s": 4e12}
    outcomes = rounds(context=4096, execution="graph", dtype="bfloat16", time_s=1e-3)
    points = analyze(run(*outcomes, **checked(**rates))).roofline
    (whole,) = (point for point in points if point.scope == "whole")
    assert whole.source == "measured"
    assert 0 < whole.of_ceiling < 1
    assert whole.floor_s >= whole.moved_bytes / 3e12
    assert analyze(run(*outcomes)).roofline == ()
