"""Shares, launch gaps, memory, energy and trust, on virtual runs whose answers are known."""

import pytest
from make import (
    ENVIRONMENT,
    attribution,
    decision,
    environment,
    failure,
    measured,
    measurement,
    memory,
    power_law,
    run,
    scenario,
)
from msgspec import structs
from msgspec.structs import replace

from ssmprof.analysis import FINDERS, analyze
from ssmprof.analysis.decide.rules import RULES
from ssmprof.records import Calibration, Check, Energy, Note
from ssmprof.store import schema

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


def dominances(example, family="scan"):
    (answer,) = analyze(example).latencies
    return [one for one in answer.dominance if (one.family, one.of) == (family, "device")]


def test_a_family_dominates_from_the_zone_in_which_its_share_passes_half():
    example = scan_run({512: 0.2, 1024: 0.4, 2048: 0.6, 4096: 0.8})
    (scan,) = dominances(example)
    assert (scan.kind, scan.low_tokens, scan.high_tokens) == ("from", 1024, 2048)
    (gemm,) = dominances(example, "gemm")
    assert (gemm.kind, gemm.low_tokens, gemm.high_tokens) == ("up-to", 1024, 2048)
    (custom,) = dominances(example, "custom")
    assert (custom.kind, custom.low_tokens) == ("from", 1024)


@pytest.mark.parametrize(
    ("shares", "kind"),
    [
        ({512: 0.1, 4096: 0.49}, "never"),
        ({512: 0.6, 4096: 0.9}, "throughout"),
        ({512: 0.6, 1024: 0.4, 4096: 0.9}, "several"),
    ],
)
def test_the_other_answers_about_dominance(shares, kind: str):
    (scan,) = dominances(scan_run(shares))
    assert scan.kind == kind
    assert scan.peak_share == pytest.approx(max(shares.values()))


def test_a_share_that_noise_hides_owns_nothing():
    """0.52 in the mean of processes that scatter by a fifth is no majority."""
    shares = (0.35, 0.52, 0.69)
    example = run(
        *(
            measurement(
                context=context, round=turn, execution="graph",
                attribution=attribution(1e-3, scan=share, gemm=1 - share),
            )
            for context in (512, 1024)
            for turn, share in enumerate(shares)
        )
    )  # fmt: skip
    (scan,) = dominances(example)
    assert scan.kind == "unresolved"


def test_kernels_of_their_own_are_counted_by_who_brought_them():
    parts = attribution(1e-3, scan=0.3, norm=0.3, gemm=0.4)
    kernels = tuple(
        replace(one, provider="ssmprof" if one.family == "norm" else None) for one in parts.kernels
    )
    example = run(
        *rounds(context=512, execution="graph", attribution=replace(parts, kernels=kernels))
    )
    (custom,) = dominances(example, "custom")
    assert custom.peak_share == pytest.approx(0.6)
    assert dominances(example)[0].kind == "never"


def test_shares_add_up_for_every_denominator():
    graph = rounds(context=512, execution="graph", time_s=1.1e-3, attribution=attribution(1e-3))
    eager = rounds(context=512, execution="eager", time_s=4e-3)
    sums: dict = {}
    for share in analyze(run(*graph, *eager)).shares:
        if share.family != "custom":  # counted in its families already
            sums.setdefault(share.of, {})[share.family] = share.share
    assert set(sums) == {"device", "graph-wall", "eager-wall"}
    for table in sums.values():
        assert sum(table.values()) == pytest.approx(1.0)
    assert sums["eager-wall"]["launch-gap"] == pytest.approx(0.75)
    assert sums["eager-wall"]["scan"] == pytest.approx(0.15)


def test_who_dominates_is_not_said_where_parts_miss_the_whole_by_more_than_a_tenth():
    bad = run(*rounds(attribution=attribution(1e-3, scan=0.8)))
    assert analyze(bad).shares == ()
    (answer,) = analyze(bad).latencies
    (closure,) = (limit for limit in answer.limits if limit.kind == "closure")
    assert (closure.grade, closure.points) == ("C", 3)
    assert closure.text == (
        "Parts of 3 of 3 points miss the whole, by up to 20%; 3 are left out of the shares."
    )


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
    found = {
        point.conditions.phase: point for point in analyze(run(*prefill, *decode, *unread)).energy
    }
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
def test_the_grade_follows_the_printed_rules(outcomes, calibration, grade: str):
    (answer,) = analyze(run(*outcomes, **checked(**calibration))).latencies
    assert answer.grade == grade
    assert (answer.withheld is not None) == (grade == "D")
    assert all(len(limit.text.split()) <= 25 for limit in answer.limits)
    assert all(limit.kind in RULES for limit in answer.limits)


def test_a_grade_is_of_its_own_conditions():
    good = rounds(context=512)
    bad = [
        structs.replace(one, notes=(Note(kind="throttled", text="x", value=0.6),))
        for one in rounds(context=512, phase="decode")
    ]
    prefill, decode = analyze(run(*good, *bad, **checked())).latencies
    assert (prefill.grade, decode.grade) == ("A", "D")
    assert decode.withheld.text == (
        "100% of the points were measured while throttled, down to 60% of the highest clock."
    )


def test_a_fact_is_told_once_and_with_one_grade():
    outcomes = rounds() + noted("throttled", 0.5)
    (answer,) = analyze(run(*outcomes, **checked())).latencies
    assert [limit.kind for limit in answer.limits] == ["throttled"]


def test_early_runs_called_a_power_limit_at_full_clock_throttled():
    line = {
        "point": {"block": "x", "block_digest": "y", "phase": "decode", "context": 8},
        "clocks": {"throttle": ["power cap"]},
        "notes": [{"kind": "throttled", "text": "power cap"}],
    }
    assert schema.upgrade(line, 1)["notes"][0]["kind"] == "power-cap"
    slow = "power cap; SM clock at 1400 of 1980 MHz"
    line["notes"] = [{"kind": "throttled", "text": slow}]
    (note,) = schema.upgrade(line, 1)["notes"]
    assert note["kind"] == "throttled"
    assert note["value"] == pytest.approx(1400 / 1980)


def test_a_machine_that_was_never_examined_carries_no_verdict():
    (answer,) = analyze(run(*rounds())).latencies
    assert ENVIRONMENT.calibration is None
    assert answer.grade == "D"
    assert answer.withheld.kind == "never-examined"


def test_what_an_examination_found_is_said_once_for_all_environments_of_a_machine():
    found = Calibration(repeat_noise=0.03, checks=(Check(name="clocks", level="warn", text="x"),))
    machines = [environment(calibration=found, git=commit) for commit in ("a", "b", "c")]
    outcomes = [
        measurement(round=turn, environment=one.fingerprint) for turn, one in enumerate(machines)
    ]
    known = {one.fingerprint: one for one in machines}
    (answer,) = analyze(run(*outcomes, environments=known)).latencies
    kinds = [one.kind for one in answer.limits]
    assert kinds.count("process-noise") == kinds.count("examination-warning") == 1


def test_published_numbers_are_graded_as_such_and_not_withheld():
    (answer,) = analyze(run(*rounds(), origin="published")).latencies
    assert (answer.grade, answer.withheld) == ("C", None)


def test_a_roofline_needs_known_rates_and_states_their_origin():
    rates = {"copy_bytes_per_s": 3e12, "matmul_flops": 6e14, "exps_per_s": 4e12}
    outcomes = rounds(context=4096, execution="graph", dtype="bfloat16", time_s=1e-3)
    points = analyze(run(*outcomes, **checked(**rates))).roofline
    (whole,) = (point for point in points if point.scope == "whole")
    assert whole.source == "measured"
    assert 0 < whole.of_ceiling < 1
    assert whole.floor_s >= whole.moved_bytes / 3e12
    assert analyze(run(*outcomes)).roofline == ()


def disagreeing(**changes):
    return decision(contexts=(704, 1472), disagreed=(1472,), **changes)


def test_processes_that_chose_otherwise_limit_the_answers_they_speak_of():
    outcomes = [*rounds(), *rounds(phase="decode"), *rounds(execution="graph")]
    chosen = (disagreeing(), disagreeing(op="conv"), decision(phase="decode"))
    answers = analyze(run(*outcomes, decisions=chosen, **checked())).latencies
    found = {(a.conditions.phase, a.conditions.execution): a.limits for a in answers}
    assert found["decode", "eager"] == ()
    (limit,) = found["prefill", "eager"]
    assert found["prefill", "graph"] == (limit,), "a choice holds under every execution"
    assert (limit.kind, limit.grade, limit.points) == ("providers-disagree", "B", 2)
    assert limit.text == (
        "Two processes chose different implementations of mamba2 rms_norm, mamba2 conv; "
        "there the first stays."
    )
    assert limit.fix == "stop what else runs on this machine, then sweep again"


def test_a_long_list_of_disagreements_is_still_short():
    chosen = tuple(disagreeing(op=f"op{number}") for number in range(9))
    (answer,) = analyze(run(*rounds(), decisions=chosen, **checked())).latencies
    (limit,) = answer.limits
    assert "mamba2 op2 and 6 more" in limit.text
    assert len(limit.text.split()) <= 25


@pytest.mark.parametrize(
    "other",
    [{"batch": 2}, {"dtype": "bfloat16"}, {"device": "another"}, {"block_digest": "0" * 12}],
    ids=lambda change: next(iter(change)),
)
def test_a_disagreement_elsewhere_limits_nothing_here(other):
    (answer,) = analyze(run(*rounds(), decisions=(disagreeing(**other),), **checked())).latencies
    assert answer.limits == ()
