"""Questions to a run: advice, claims, decisions, differences, projections, tables."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import (
    attribution,
    block,
    decision,
    dies_above,
    environment,
    failure,
    measured,
    measurement,
    memory,
    power_law,
    run,
    scenario,
)

from ssmprof.analysis import analyze, frame
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.curve import between
from ssmprof.analysis.decide import claims, static_claims
from ssmprof.analysis.decide.changes import compare
from ssmprof.analysis.decide.decision import Limits, decide
from ssmprof.analysis.decide.ledger import ledger
from ssmprof.analysis.decide.projection import elsewhere, longer
from ssmprof.errors import ConfigError
from ssmprof.models.zoo import preset
from ssmprof.records import Trial
from ssmprof.serving import vllm
from ssmprof.serving.layout import Sharing, caches
from ssmprof.serving.rules import Vllm, engine
from ssmprof.spec import Budget

CONTEXTS = tuple(512 * 2**step for step in range(8))  # 512 to 64K
FIVE = Budget(rounds=5)
CROSS = {"attention": (1.0, 2.0), "mamba2": (8000.0, 1.0)}


def sweep(laws=CROSS, contexts=CONTEXTS, seed=0, factor=1.0, **noise):
    asked = scenario(*laws, contexts=contexts, budget=FIVE)
    scaled = {name: (scale * factor, power) for name, (scale, power) in laws.items()}
    noise = {"noise": 0.002, "between": 0.003} | noise
    return measured(asked, power_law(seed=seed, **noise, **scaled))


def only(example):
    (conditions,) = by_conditions(example.outcomes, example.environments)
    return conditions


# Decisions


def test_a_mix_of_short_contexts_is_decided_for_attention_and_of_long_for_mamba():
    example = sweep()
    short = decide(example, only(example), {1024: 0.9, 2048: 0.1})
    long = decide(example, only(example), {32768: 1.0})
    assert (short.choice, long.choice) == ("attention", "mamba2")
    assert short.next_point is None
    assert short.candidates[0].expected_s.value == pytest.approx(
        0.9 * 1024**2 * 1e-9 + 0.1 * 2048**2 * 1e-9, rel=0.01
    )


def test_at_the_crossover_nobody_is_chosen_and_the_next_measurement_is_named():
    example = sweep(between=0.03)
    found = decide(example, only(example), {8000: 1.0})
    assert found.choice is None
    assert set(found.unresolved) == {"attention", "mamba2"}
    assert "8,000" in found.next_point


def test_contenders_within_the_tie_are_equal_and_not_unresolved():
    example = sweep(laws={"attention": (1.0, 1.0), "mamba2": (1.002, 1.0)}, between=0.001)
    found = decide(example, only(example), {4096: 1.0})
    assert (found.choice, found.unresolved, found.next_point) == (None, (), None)
    assert set(found.equal) == {"attention", "mamba2"}


def test_a_measured_length_is_decided_as_the_answer_says():
    example = sweep(between=0.02)
    (answer,) = analyze(example).latencies
    for standing in answer.standings:
        found = decide(example, only(example), {standing.context: 1.0})
        winners = {found.choice} if found.choice else {*found.equal, *found.unresolved}
        assert winners >= set(standing.winners)
        if len(winners) > len(standing.winners):  # certain, but nothing to act on
            assert found.equal


def test_an_interpolated_length_is_surer_the_smoother_the_curve():
    """A jag of 20 % at one length makes the choice beside it uncertain."""

    def jagged(jag):
        outcomes = []
        for one in sweep(between=0.001).measurements():
            bump = jag if (one.point.block, one.point.context) == ("mamba2", 4096) else 1.0
            times = tuple(time * bump for time in one.times_s)
            outcomes.append(measurement(point=one.point, round=one.round, times_s=times))
        return run(*outcomes, asked=scenario(*CROSS, contexts=CONTEXTS, budget=FIVE))

    smooth, rough = jagged(1.0), jagged(1.2)
    assert decide(smooth, only(smooth), {7400: 1.0}).choice == "attention"
    assert decide(rough, only(rough), {7400: 1.0}).choice is None


def test_a_contender_that_breaks_a_limit_is_out_with_the_reason():
    example = sweep(noise=0.0, between=0.0)
    found = decide(example, only(example), {4096: 1.0}, Limits(time_s=0.02))
    assert found.choice == "attention"
    (out,) = (one for one in found.candidates if one.out)
    assert (out.block, out.out) == ("mamba2", "32.8 ms at 4K")
    memory_limit = decide(example, only(example), {4096: 1.0}, Limits(memory_bytes=1))
    assert memory_limit.choice is None
    assert all("not known" in one.out for one in memory_limit.candidates)


def test_a_contender_that_does_not_fit_is_out():
    asked = scenario(contexts=CONTEXTS, budget=FIVE)
    example = measured(asked, dies_above(20_000, power_law(**CROSS), only="mamba2"))
    found = decide(example, only(example), {1024: 0.9, 32768: 0.1})
    assert found.choice == "attention"


def test_nothing_is_extrapolated():
    example = sweep()
    with pytest.raises(ConfigError, match="128K tokens were not measured"):
        decide(example, only(example), {131072: 1.0})
    with pytest.raises(ConfigError, match="empty"):
        decide(example, only(example), {})


def test_interpolation_is_exact_for_power_laws():
    curve = {512: 512.0**1.5, 8192: 8192.0**1.5}
    assert between(curve, 2048) == pytest.approx(2048**1.5)
    assert between(curve, 256) is None


# Differences between runs


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "unchanged"), (1.2, "slower"), (0.8, "faster")]
)
def test_two_runs_differ_where_the_whole_interval_passes_the_gate(factor, verdict):
    found = compare(sweep(), sweep(seed=1, factor=factor), gate=0.05)
    assert found.count(verdict) == len(found.changes) == 2 * len(CONTEXTS)
    assert found.changes[0].ratio == pytest.approx(factor, rel=0.02)
    assert found.same_stack


def test_a_difference_near_the_gate_or_of_one_round_is_ambiguous():
    near = compare(sweep(between=0.02), sweep(seed=3, factor=1.04, between=0.02), gate=0.05)
    assert near.count("ambiguous") > len(near.changes) / 2
    single = compare(run(measurement(time_s=1.0)), run(measurement(time_s=2.0)))
    assert [change.verdict for change in single.changes] == ["ambiguous"]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_equal_runs_are_hardly_ever_told_apart(seed: int):
    found = compare(sweep(seed=seed), sweep(seed=seed + 1), gate=0.05)
    assert found.count("slower") == found.count("faster") == 0


def test_a_slower_point_blames_the_family_that_grew():
    def one(scan_s):
        return run(
            *(
                measurement(
                    time_s=scan_s + 1e-3,
                    round=turn,
                    attribution=attribution(scan_s + 1e-3, scan=scan_s / (scan_s + 1e-3)),
                )
                for turn in range(3)
            )
        )

    (change,) = compare(one(1e-3), one(5e-3)).changes
    assert change.verdict == "slower"
    assert change.blame.startswith("scan +0.004")


def test_runs_without_a_common_point_cannot_be_compared():
    with pytest.raises(ConfigError, match="no point in common"):
        compare(run(measurement("mamba1")), run(measurement("mamba2")))


# Projections


def test_a_longer_context_is_projected_with_an_interval_that_holds_the_truth():
    example = sweep()
    (long,) = (one for one in longer(example, [131072]) if one.block == "attention")
    assert long.refused is None
    assert long.value_s == pytest.approx(131072**2 * 1e-9, rel=0.03)
    assert long.interval[0] <= long.value_s <= long.interval[1]
    assert "lengths" in long.basis


@pytest.mark.parametrize(
    ("contexts", "beyond", "why"),
    [((512, 1024), 4096, "2 lengths"), (CONTEXTS, 2**21, "more than 8 times")],
)
def test_a_projection_without_ground_is_refused(contexts, beyond, why: str):
    found = longer(sweep(contexts=contexts), [beyond])
    assert found
    assert all(one.value_s is None and why in one.refused for one in found)


def test_a_curve_that_no_law_describes_is_not_projected():
    example = sweep(laws={"mamba2": (1.0, 4.0)})
    (found,) = longer(example, [100_000])
    assert "misses" in found.refused


def test_a_change_of_implementation_stops_a_projection():
    outcomes = [
        measurement(
            context=context,
            time_s=context * 1e-6,
            round=turn,
            providers={"attention": "flash" if context < 20_000 else "math"},
        )
        for context in CONTEXTS
        for turn in range(3)
    ]
    (found,) = longer(run(*outcomes), [131072])
    assert "implementation changes" in found.refused


def test_another_device_needs_an_anchor_measured_on_both():
    board = environment(device="Board")
    here = sweep()
    slow = [
        measurement(
            "attention",
            context,
            time_s=context**2 * 1e-8,
            round=turn,
            environment=board.fingerprint,
        )
        for context in CONTEXTS
        for turn in range(3)
    ]
    there = run(*slow, environments={board.fingerprint: board})
    found = elsewhere(here, there)
    assert {one.block for one in found} == {"mamba2"}
    assert all(one.device == "Board" for one in found)
    for one in found:
        assert one.value_s == pytest.approx(one.context * 8000e-9 * 10, rel=0.03)
    decode = run(
        measurement(phase="decode", environment=board.fingerprint),
        environments={board.fingerprint: board},
    )
    assert all("not calibrated" in one.refused for one in elsewhere(here, decode))


# Claims


def test_every_claim_of_the_ledger_has_a_line_and_checks_name_claims():
    found = analyze(run()).claims
    assert [one.claim for one in found] == [claim.id for claim in ledger()]
    known = {claim.id for claim in ledger()}
    assert set(claims.CHECKS) | set(static_claims.CHECKS) <= known
    assert all(one.source and one.statement and one.why for one in found)


@pytest.mark.parametrize("name", static_claims.CHECKS)
def test_a_static_claim_is_recomputed(name: str):
    here, holds = static_claims.CHECKS[name]()
    assert holds, here


def verdict_of(example, claim: str):
    (found,) = (one for one in analyze(example).claims if one.claim == claim)
    return found.verdict


def test_a_claim_is_judged_only_where_its_conditions_were_measured():
    assert verdict_of(run(), "scope-long-4x") == "not-testable"
    assert verdict_of(sweep(), "waleffe-pure-ssm-recall") == "not-testable"
    assert verdict_of(sweep(), "scope-edge-55") == "not-testable"


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(4.0, "holds"), (2.0, "not-here"), (9.0, "holds-stronger")]
)
def test_the_speed_up_near_57k_is_judged_by_its_size(ratio: float, verdict: str):
    example = sweep(laws={"attention": (ratio, 1.0), "mamba2": (1.0, 1.0)}, contexts=(512, 57344))
    assert verdict_of(example, "scope-long-4x") == verdict


def test_a_speed_up_that_noise_hides_is_not_judged():
    example = sweep(
        laws={"attention": (2.0, 1.0), "mamba2": (1.0, 1.0)}, contexts=(512, 57344), between=0.6
    )
    (answer,) = analyze(example).latencies
    assert all(point.status == "not-resolved" for point in answer.pairs[0].points)
    assert verdict_of(example, "scope-long-4x") == "not-testable"
    assert verdict_of(example, "scope-short-19x") == "not-testable"


def test_a_crossover_near_8k_holds_and_one_elsewhere_does_not():
    assert verdict_of(sweep(), "crossover-8k") == "holds"
    far = sweep(laws={"attention": (1.0, 2.0), "mamba2": (40_000.0, 1.0)})
    assert verdict_of(far, "crossover-8k") == "not-here"


def test_a_state_that_does_not_grow_is_seen():
    def example(kv):
        return run(
            *(measurement(context=c, memory=memory(c, kv_bytes=kv * c)) for c in (512, 1024))
        )

    assert verdict_of(example(0), "constant-state-memory") == "holds"
    assert verdict_of(example(1), "constant-state-memory") == "not-here"


def test_a_decode_that_collapses_beyond_80k_is_seen():
    def example(slower: float, last: int = 131072):
        return run(
            *(
                measurement(
                    "hybrid", context, time_s, phase="decode", execution="graph", round=turn
                )
                for context, time_s in ((512, 1e-3), (last, slower * 1e-3))
                for turn in range(3)
            )
        )

    assert verdict_of(example(26.0), "decode-collapse-80k") == "holds"
    assert verdict_of(example(3.0), "decode-collapse-80k") == "not-here"
    assert verdict_of(example(26.0, 65536), "decode-collapse-80k") == "not-testable"


@pytest.mark.parametrize(
    ("batch", "ratios", "verdict"),
    [
        (1, (0.73, 0.73), "holds"), (128, (1.8, 1.75), "holds"), (128, (1.2, 1.2), "not-here"),
        (8, (1.7, 1.75), "holds-stronger"), (8, (0.4, 1.4), "not-testable"),
        (4, (1.3, 1.3), "not-testable"),
    ],
)  # fmt: skip
def test_a_ring_update_is_judged_by_trials_that_agree(
    batch: int, ratios: tuple[float, float], verdict: str
):
    made = decision(
        phase="decode",
        batch=batch,
        op="selective_state_update",
        trials=tuple(
            Trial(
                context=704,
                process=process,
                provider="ssmprof-ring",
                incumbent="ssmprof",
                outcome="lost",
                cold_s=1e-5,
                incumbent_cold_s=ratio * 1e-5,
            )
            for process, ratio in enumerate(ratios)
        ),
    )
    example = run(measurement(phase="decode"), decisions=(made,))
    assert verdict_of(example, "ring-update") == verdict


def test_blocks_of_a_claim_are_those_of_the_engine():
    for name in ("qwen3.5-9b", "falcon-h1-0.5b"):
        found = static_claims.layers_of(preset(name))
        rules = engine("vllm")
        assert isinstance(rules, Vllm)
        plan = vllm.plan(caches(preset(name), Sharing()), rules, "none", "triton", 0)
        assert static_claims.block_tokens(found) == plan.block_tokens


def test_what_is_not_measured_at_all_says_why():
    (found,) = (one for one in analyze(run()).claims if one.claim == "ssd-by-compiler")
    assert (found.verdict, found.test) == ("not-testable", "none")
    assert "TPU" in found.why


# Advice


def test_a_launch_bound_block_is_told_to_use_graphs_and_what_that_gains():
    pairs = [
        measurement(context=512, execution=execution, time_s=time_s, round=turn)
        for execution, time_s in (("graph", 1e-3), ("eager", 8e-3))
        for turn in range(3)
    ]
    (advice, *_) = analyze(run(*pairs)).advice
    assert "use CUDA graphs" in advice.finding
    assert advice.at_most == pytest.approx(8.0)


def test_a_contender_that_does_not_fit_is_answered_with_those_that_do():
    example = run(
        measurement("mamba2", 4096), measurement("attention", 512), failure("attention", 4096)
    )
    texts = [advice.finding for advice in analyze(example).advice]
    assert any("attention does not fit at 4K" in text and "use mamba2" in text for text in texts)


# Tables


def test_tables_hold_a_row_per_outcome_sample_and_kernel():
    example = run(
        measurement(attribution=attribution(1e-3), memory=memory(), hot_times_s=(1e-3,)),
        failure(context=4096),
    )
    points = frame.points(example)
    assert list(points["status"]) == ["ok", "out-of-memory"]
    assert math.isnan(points["time_s"][1])
    assert points["allocator_peak_bytes"][0] > 0
    assert list(frame.samples(example)["cache"]) == ["cold"] * 3 + ["hot"]
    assert list(frame.kernels(example)["family"]) == ["scan", "gemm"]
    assert len(frame.points(run())) == 0


def test_blocks_are_told_apart_by_architecture():
    assert block("attention").architecture == "transformer"
    assert block("hybrid").architecture == "hybrid"
