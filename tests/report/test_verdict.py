"""Every case of the verdict's grammar, and that no sentence contradicts the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import make
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ssmprof.analysis import analyze
from ssmprof.analysis.compare.answer import Answer, Segment
from ssmprof.records import Calibration, Energy, Outcome, Run
from ssmprof.report.lines import view
from ssmprof.report.names import name_contenders
from ssmprof.report.rows import crossings
from ssmprof.report.verdict import MOST_CHARACTERS, Verdict, verdict
from ssmprof.report.verdicts import verdicts_of
from ssmprof.units import format_duration

OCTAVES = tuple(2**power for power in range(9, 18))
FINE = tuple(round(2 ** (power / 4)) for power in range(36, 69))
DENSE = tuple(round(512 * 1.03**step) for step in range(189))
MACHINE = make.environment(calibration=Calibration())


def swept(
    contexts: tuple[int, ...] = FINE,
    wrap: Callable[[make.Measure], make.Measure] = lambda measure: measure,
    noise: float = 0.0,
    between: float = 0.0,
    rounds: int = 3,
    **laws: tuple[float, float],
) -> Run:
    asked = make.scenario(*laws, contexts=contexts, budget=replace(make.QUICK, rounds=rounds))
    return make.measured(asked, wrap(make.power_law(noise=noise, between=between, **laws)))


def examined(run: Run) -> Run:
    """The run as if the machine had been examined: else no verdict is given."""
    outcomes = tuple(replace(one, environment=MACHINE.fingerprint) for one in run.outcomes)
    return replace(run, outcomes=outcomes, environments={MACHINE.fingerprint: MACHINE})


def judged(run: Run) -> tuple[Answer, Verdict]:
    run = examined(run)
    analysis = analyze(run)
    answer = analysis.latencies[0]
    return answer, verdicts_of(run, analysis)[answer.key]


def say(contexts: tuple[int, ...] = FINE, **changes: object) -> str:
    return judged(swept(contexts, **changes))[1].sentence  # type: ignore[arg-type]


def test_a_narrow_zone_is_said_as_one_number() -> None:
    said = say(DENSE, attention=(1, 2.0), mamba2=(9000, 1.0))
    assert said == "Use the transformer below 8,900 tokens, Mamba-2 above."


def test_a_wide_zone_is_said_with_both_ends_and_why_it_is_wide() -> None:
    assert say(OCTAVES, attention=(1, 2.0), mamba2=(9000, 1.0)) == (
        "Use the transformer below 8K tokens and Mamba-2 above 16K; where between was not measured."
    )


def test_no_range_is_named_beyond_the_lengths_measured() -> None:
    """A certain length at an end of what was measured says nothing of what lies beyond it."""
    laws = {"attention": (1.0, 2.0), "mamba2": (9000.0, 1.0)}
    assert say((8192, 16384), **laws) == (
        "Use the transformer at 8K tokens and Mamba-2 at 16K; where between was not measured."
    )
    assert say((4096, 8192, 16384), **laws).startswith("Use the transformer below 8K tokens and ")
    assert "and Mamba-2 above 16K;" in say((8192, 16384, 32768), **laws)


def test_curves_side_by_side_are_said_as_such() -> None:
    said = say(DENSE, between=0.001, rounds=5, attention=(1, 1.02), mamba2=(1.2, 1.0))
    assert said.startswith("Use the transformer below 7,")
    assert said.endswith("; between them they differ by less than 2%.")


def test_noise_that_hides_a_difference_is_said_as_such_and_costed_once() -> None:
    noisy = swept(DENSE, between=0.004, rounds=5, attention=(1, 1.02), mamba2=(1.2, 1.0))
    answer, said = judged(noisy)
    assert said.sentence.endswith("; between them noise hides who is fastest.")
    two = replace(answer, crossings=answer.crossings * 2)
    notes = verdict(view(two, name_contenders(noisy.scenario.blocks))).notes
    (cost,) = (note for note in notes if note.endswith(" more would decide it"))
    whole_s = 2 * (answer.crossings[0].cost_to_resolve_s or 0)
    assert cost.startswith(f"about {format_duration(whole_s)}")


def test_three_segments_come_from_the_envelope_and_not_from_a_pair() -> None:
    said = say(DENSE, attention=(1, 2.0), hybrid=(300, 1.3), mamba2=(8000, 1.0))
    assert said == (
        "Use the transformer below 3,400 tokens, the hybrid from 3,400 to 57,000, Mamba-2 above."
    )


def test_one_segment_says_that_it_holds_throughout() -> None:
    assert say(attention=(1, 1.0), mamba2=(3, 1.0)) == (
        "The transformer is fastest at every length measured (512 to 128K)."
    )


def test_an_end_at_which_two_are_equal_is_said_as_one() -> None:
    laws = {"attention": (1, 2.0), "hybrid": (9000, 1.0), "mamba2": (9000, 1.0)}
    said = say(between=0.002, rounds=5, **laws)
    assert said.startswith("Use the transformer below 8")
    assert said.endswith("2 and the hybrid are equal.") or said.endswith("and Mamba-2 are equal.")


def test_equal_contenders_are_no_difference() -> None:
    said = say(attention=(1, 1.0), hybrid=(1.01, 1.0), mamba2=(1, 1.0))
    assert said == "No difference: all three are within 2% at every length measured (512 to 128K)."


def test_one_block_under_two_names_ends_in_equal() -> None:
    said = say(between=0.002, rounds=5, attention=(1, 1.0), mamba2=(1, 1.0))
    assert said == "No difference: both are within 2% at every length measured (512 to 128K)."


def test_noise_is_not_called_agreement() -> None:
    said = say(attention=(1, 1.0), mamba2=(1.15, 1.0), between=0.5)
    assert said == "Not resolved: noise hides who is fastest (512 to 128K)."


def test_many_segments_are_no_simple_rule() -> None:
    def wobble(measure: make.Measure) -> make.Measure:
        def shaken(jobs: object) -> object:
            for one in measure(jobs):  # type: ignore[arg-type]
                turn = int(math.log2(one.point.context) / 2)
                faster = (one.point.block == "mamba2") == (turn % 2 == 0)
                scale = 0.5 if faster else 2.0
                times = tuple(time * scale for time in one.times_s)
                yield make.measurement(point=one.point, round=one.round, times_s=times)

        return shaken  # type: ignore[return-value]

    run = swept(OCTAVES, wobble, attention=(1, 1.0), mamba2=(1, 1.0))
    assert judged(run)[1].sentence == "No simple rule: the winner changes 4 times."


def test_capacity_decides_where_only_one_fits() -> None:
    said = say(
        wrap=lambda measure: make.dies_above(32768, measure, only="attention"),
        attention=(1, 1.0),
        mamba2=(8, 1.0),
    )
    assert said == (
        "The transformer is fastest at every length measured (512 to 32K). "
        "Only Mamba-2 fits above 32K tokens on this device."
    )


def test_one_context_compares_the_two_best() -> None:
    said = say((32768,), attention=(1.3, 1.0), hybrid=(1.0, 1.0), mamba2=(1.08, 1.0))
    assert said == "At 32K tokens the hybrid is 1.08x [1.08, 1.08] faster than Mamba-2."


def test_one_contender_has_nothing_to_be_compared_with() -> None:
    assert say(attention=(1, 2.0)) == "Only one contender was measured; nothing to compare."


def test_nothing_measured_says_why() -> None:
    said = say(
        wrap=lambda measure: make.dies_above(1, measure), attention=(1, 2.0), mamba2=(1, 1.0)
    )
    assert said == "Nothing was measured: every point ended in out-of-memory."


def test_a_verdict_can_be_withheld() -> None:
    run = swept(attention=(1, 2.0), mamba2=(9000, 1.0))
    analysis = analyze(run)
    found = verdicts_of(run, analysis)[analysis.latencies[0].key]
    assert found == Verdict(
        "No verdict: this machine was never examined. See Trust.", (), withheld=True
    )


def test_another_metric_that_disagrees_gets_a_second_sentence() -> None:
    asked = make.scenario("attention", "mamba2", contexts=FINE)
    found: list[Outcome] = []
    laws = make.power_law(attention=(1, 2.0), mamba2=(9000, 1.0))
    for one in laws(make.jobs(asked)):
        joules = one.point.context * (2000 if one.point.block == "mamba2" else 0)
        joules += one.point.context**2 if one.point.block == "attention" else 0
        energy = Energy(
            energy_j=float(joules), mean_power_w=1.0, window_s=1.0, calls=1, source="test",
            scope="device",
        )  # fmt: skip
        found.append(
            make.measurement(point=one.point, round=one.round, times_s=one.times_s, energy=energy)
        )
    said = judged(make.run(*found, asked=asked))[1]
    assert "n energy the switch comes earlier, at " in said.text


def test_a_refined_context_of_one_pair_does_not_crown_a_slower_contender() -> None:
    asked = make.scenario("attention", "hybrid", "mamba2", contexts=OCTAVES)
    laws = make.power_law(attention=(1, 2.0), hybrid=(100, 1.0), mamba2=(8000, 1.0))
    extra = make.jobs(make.scenario("attention", "mamba2", contexts=(6000,)))
    run = make.run(*laws(make.jobs(asked)), *laws(extra), asked=asked)
    answer, _ = judged(run)
    standings = {one.context: one.winners for one in answer.standings}
    assert standings[6000] == ()
    assert standings[8192] == ("hybrid",)


def test_two_contenders_of_one_kind_are_called_by_name() -> None:
    said = say(DENSE, attention=(1, 2.0), hybrid=(8000, 1.0), parallel=(4000, 1.0))
    assert said == "Use the transformer below 4,000 tokens, parallel above."


def test_long_sentences_leave_what_is_beside_to_the_line_below() -> None:
    run = swept(
        OCTAVES, lambda measure: make.dies_above(65536, measure, only="attention"),
        attention=(1, 2.0), mamba2=(9000, 1.0),
    )  # fmt: skip
    _, said = judged(run)
    assert len(said.sentence) <= MOST_CHARACTERS
    assert any("only Mamba-2 fits above 64K" in note for note in said.notes)


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        (
            ((("attention", "hybrid"), False), (("mamba2", "hybrid"), False)),
            "Not resolved: noise hides who is fastest (512 to 128K).",
        ),
        (
            ((("attention", "hybrid"), False), (("mamba2", "hybrid"), True)),
            "No winner is certain; below 8K noise hides who is fastest; "
            "from 8K on Mamba-2 and the hybrid are equal.",
        ),
        (
            ((("attention",), False), (("mamba2", "hybrid"), False)),
            "Use the transformer up to 4K tokens; from 8K on Mamba-2 or the hybrid, noise hides "
            "which.",
        ),
    ],
)
def test_an_end_without_a_winner_is_told_as_what_it_leaves_open(
    ends: tuple[tuple[tuple[str, ...], bool], ...], sentence: str
) -> None:
    run = examined(swept(OCTAVES, attention=(1, 2.0), hybrid=(100, 1.4), mamba2=(9000, 1.0)))
    answer = analyze(run).latencies[0]
    (first, alike), (last, equal) = ends
    segments = (
        Segment(winners=first, low_tokens=512, high_tokens=4096, equal=alike),
        Segment(winners=last, low_tokens=8192, high_tokens=131_072, equal=equal),
    )
    shown = view(
        replace(answer, segments=segments, crossings=()), name_contenders(run.scenario.blocks)
    )
    assert verdict(shown).sentence.startswith(sentence)


LAW = st.tuples(st.floats(0.5, 5e4), st.floats(0.8, 2.2))
LIMIT = st.one_of(st.none(), st.sampled_from(OCTAVES))


@given(
    laws=st.fixed_dictionaries({"attention": LAW, "hybrid": LAW, "mamba2": LAW}),
    limits=st.fixed_dictionaries({"attention": LIMIT, "hybrid": LIMIT}),
    between=st.sampled_from([0.0, 0.005, 0.05]),
)
@settings(max_examples=60)
def test_what_is_said_holds_at_every_measured_context(
    laws: dict[str, tuple[float, float]], limits: dict[str, int | None], between: float
) -> None:
    def limited(measure: make.Measure) -> make.Measure:
        for block, most in limits.items():
            if most is not None:
                measure = make.dies_above(most, measure, only=block)
        return measure

    answer, said = judged(swept(OCTAVES, limited, between=between, **laws))
    assert said.sentence.endswith(".")
    assert "Use ;" not in said.sentence
    assert len(said.sentence) <= MOST_CHARACTERS
    values = {(one.block, one.context): one.estimate.value for one in answer.curves}
    for segment in answer.segments:
        for one in answer.standings:
            if segment.low_tokens <= one.context <= segment.high_tokens and one.winners:
                assert set(segment.winners) & set(one.winners)
                best = min(value for (_, at), value in values.items() if at == one.context)
                assert best in [values[name, one.context] for name in one.winners]
    for crossing in answer.crossings:
        if crossing.kind == "zone":
            assert crossing.low_tokens is not None
            assert crossing.high_tokens is not None
            assert crossing.low_tokens < crossing.high_tokens
            if crossing.context_tokens is not None:
                assert crossing.low_tokens <= crossing.context_tokens <= crossing.high_tokens


def test_a_failure_that_a_later_round_made_good_is_no_misfit() -> None:
    good = make.measurement("attention", 1024, round=1)
    bad = make.failure("attention", 1024, round=0)
    answer, _ = judged(make.run(bad, good, make.measurement("mamba2", 1024)))
    assert answer.failures == {}
    assert all(one.absent == () for one in answer.standings)


@pytest.mark.parametrize("count", [1, 2])
def test_few_processes_limit_the_answer(count: int) -> None:
    asked = make.scenario("attention", "mamba2", budget=replace(make.QUICK, rounds=count))
    run = make.measured(asked, make.power_law(attention=(1, 2.0), mamba2=(900, 1.0)))
    answer, _ = judged(run)
    assert [one.kind for one in answer.limits if one.grade == "C"] == ["few-processes"]


def shaken(low: int, high: int, *factors: float) -> Callable[[make.Measure], make.Measure]:
    """Mamba-2 times a factor per process at the lengths between: its means may lean to it."""

    def wrap(measure: make.Measure) -> make.Measure:
        def shake(jobs: object) -> Iterator[Outcome]:
            for one in measure(jobs):  # type: ignore[arg-type]
                here = one.point.block == "mamba2" and low <= one.point.context <= high
                scale = factors[one.round] if here else 1.0
                yield replace(one, times_s=tuple(time * scale for time in one.times_s))

        return shake  # type: ignore[return-value]

    return wrap


def test_a_doubt_inside_one_winners_range_is_said_between_its_certain_ends() -> None:
    run = swept(
        OCTAVES, shaken(4096, 8192, 0.60, 0.65, 0.69), attention=(1, 1.0), mamba2=(1.5, 1.0)
    )
    answer, said = judged(run)
    assert [(one.winners[0], len(one.winners)) for one in answer.segments] == [
        ("attention", 1), ("mamba2", 2), ("attention", 1)
    ]  # fmt: skip
    assert said.sentence == (
        "The transformer is fastest (512 to 128K); between 2K and 16K Mamba-2 may be faster."
    )
    (row,) = crossings([answer]).rows
    assert row["zone"] == "mamba2 may win within 2K-16K"


def test_a_doubt_before_a_switch_follows_the_switch_and_is_never_left_out() -> None:
    run = swept(
        OCTAVES, shaken(2048, 2048, 0.040, 0.050, 0.060), attention=(1, 2.0), mamba2=(40_000, 1.0)
    )
    answer, said = judged(run)
    assert [one.kind for one in answer.crossings] == ["unresolved", "zone"]
    assert said.sentence == (
        "Use the transformer below 32K tokens and Mamba-2 above 64K; "
        "between 1K and 4K Mamba-2 may be faster."
    )


def test_an_end_without_a_winner_is_no_doubt_inside() -> None:
    wrap = shaken(65536, 131072, 0.60, 0.65, 0.69)
    answer, said = judged(swept(OCTAVES, wrap, attention=(1, 1.0), mamba2=(1.5, 1.0)))
    assert said.sentence == (
        "Use the transformer up to 32K tokens; from 64K on noise hides who is fastest."
    )
    assert crossings([answer]).rows[0]["zone"] == "not resolved above 64K"
