"""Every case of the verdict's grammar, and that no sentence contradicts the medians."""

from __future__ import annotations

import math
from collections.abc import Callable

import make
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ssmprof.records import Energy, Failure, Outcome, Run
from ssmprof.report.envelope import Envelope, envelope
from ssmprof.report.facets import Comparison, compare, facets
from ssmprof.report.verdict import Verdict, format_switch, verdict

OCTAVES = tuple(2**power for power in range(9, 18))
FINE = tuple(round(2 ** (power / 4)) for power in range(36, 69))


def comparison(
    contexts: tuple[int, ...] = FINE,
    wrap: Callable[[make.Measure], make.Measure] = lambda measure: measure,
    noise: float = 0.0,
    between: float = 0.0,
    **laws: tuple[float, float],
) -> Comparison:
    asked = make.scenario(*laws, contexts=contexts)
    measure = wrap(make.power_law(noise=noise, between=between, **laws))
    run = make.measured(asked, measure)
    return compare(run, facets(run)[0])


def say(contexts: tuple[int, ...] = FINE, **changes: object) -> str:
    return verdict(comparison(contexts, **changes)).sentence  # type: ignore[arg-type]


def test_two_segments_name_the_switch() -> None:
    assert say(attention=(1, 2.0), mamba2=(9000, 1.0)) == (
        "Use the transformer below 8.8K tokens, Mamba-2 above 8.8K."
    )


def test_three_segments_come_from_the_envelope_and_not_from_a_pair() -> None:
    said = say(attention=(1, 2.0), hybrid=(300, 1.3), mamba2=(8000, 1.0))
    assert said == (
        "Use the transformer below 3.4K tokens, the hybrid from 3.4K to 55K, Mamba-2 above 55K."
    )


def test_one_segment_says_that_nothing_crosses() -> None:
    assert say(attention=(1, 1.0), mamba2=(3, 1.0)) == (
        "The transformer is fastest at every length measured (512 to 128K). No crossover in range."
    )


def test_a_tie_at_the_first_length_alone_claims_nothing_below_it() -> None:
    said = say((512, 1024, 2048), attention=(1.0, 1.1), mamba2=(1.85, 1.0))
    assert said == "Use Mamba-2 or the transformer at 512 tokens, Mamba-2 above 512."


def test_a_tie_up_to_the_end_is_said_as_one() -> None:
    said = say(attention=(1, 2.0), hybrid=(9000, 1.0), mamba2=(8950, 1.0))
    assert said == (
        "Use the transformer below 8.7K tokens; above that Mamba-2 and the hybrid are tied."
    )


def test_equal_contenders_are_no_difference() -> None:
    said = say(attention=(1, 1.0), hybrid=(1.01, 1.0), mamba2=(1, 1.0))
    assert said == "No difference: all three are within 3 % at every length measured."


def test_noise_is_not_called_agreement() -> None:
    said = say(attention=(1, 1.0), mamba2=(1.15, 1.0), between=0.5)
    assert said.startswith("No difference shown") or "within 3 %" not in said


def test_more_than_three_segments_are_no_simple_rule() -> None:
    def wobble(measure: make.Measure) -> make.Measure:
        def shaken(jobs: object) -> object:
            for one in measure(jobs):  # type: ignore[arg-type]
                turn = int(math.log2(one.point.context))
                faster = (one.point.block == "mamba2") == (turn % 2 == 0)
                scale = 0.5 if faster else 2.0
                times = tuple(time * scale for time in one.times_s)
                yield make.measurement(point=one.point, round=one.round, times_s=times)

        return shaken  # type: ignore[return-value]

    found = verdict(comparison(OCTAVES, wobble, attention=(1, 1.0), mamba2=(1, 1.0)))
    assert found.sentence == "No simple rule: the winner changes 8 times."
    assert found.map_first


def test_ties_between_winners_are_not_counted_as_changes() -> None:
    best = {512: "a", 1024: "bc", 2048: "ac", 4096: "a", 8192: "bc", 16384: "b"}
    ties = {context: tuple(blocks) for context, blocks in best.items()}
    assert Envelope(ties, (), (), (), None).changes == 3


def test_too_few_rounds_are_said_below_the_verdict() -> None:
    asked = make.scenario("attention", "mamba2", budget=replace(make.QUICK, rounds=2))
    run = make.measured(asked, make.power_law(attention=(1, 2.0), mamba2=(900, 1.0)))
    found = verdict(compare(run, facets(run)[0]))
    assert "fewer than 3 rounds at some points: ranges, no intervals" in found.notes


def test_capacity_decides_where_only_one_fits() -> None:
    said = say(
        wrap=lambda measure: make.dies_above(32768, measure, only="attention"),
        attention=(1, 1.0),
        mamba2=(8, 1.0),
    )
    assert said == (
        "The transformer is fastest at every length measured (512 to 32K). "
        "Only Mamba-2 fits above 32K on this device."
    )


def test_a_wide_bracket_is_given_instead_of_a_number() -> None:
    said = say((512, 2048, 8192, 32768), attention=(1, 2.0), mamba2=(4500, 1.0))
    assert said == (
        "Use the transformer up to 2K tokens, Mamba-2 from 8K; the switch is between 2K and 8K."
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
    found = verdict(
        comparison(attention=(1, 2.0), mamba2=(9000, 1.0)),
        withheld="31 % of the points were measured while the clock was throttled",
    )
    assert found == Verdict(
        "No verdict: 31 % of the points were measured while the clock was throttled. See Trust.",
        (),
        None,
        withheld=True,
    )


def test_another_metric_that_disagrees_gets_a_second_sentence() -> None:
    def run() -> Run:
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
                make.measurement(
                    point=one.point, round=one.round, times_s=one.times_s, energy=energy
                )
            )
        return make.run(*found, asked=asked)

    whole = run()
    facet = facets(whole)[0]
    said = verdict(compare(whole, facet), others=(compare(whole, facet, "energy"),)).sentence
    assert said.endswith("On energy the switch comes earlier, at 2K.")


def test_a_refined_context_of_one_pair_does_not_crown_a_slower_contender() -> None:
    asked = make.scenario("attention", "hybrid", "mamba2", contexts=OCTAVES)
    laws = make.power_law(attention=(1, 2.0), hybrid=(100, 1.0), mamba2=(8000, 1.0))
    outcomes = list(laws(make.jobs(asked)))
    extra = make.jobs(make.scenario("attention", "mamba2", contexts=(6000,)))
    run = make.run(*outcomes, *laws(extra), asked=asked)
    found = envelope(compare(run, facets(run)[0]))
    assert 6000 not in found.ties
    assert found.ties[8192] == ("hybrid",)


def test_two_contenders_of_one_kind_are_called_by_name() -> None:
    said = say(attention=(1, 2.0), hybrid=(8000, 1.0), parallel=(4000, 1.0))
    assert said == "Use the transformer below 3.9K tokens, parallel above 3.9K."


@pytest.mark.parametrize(
    ("tokens", "text"),
    [(9300, "9.1K"), (61000, "60K"), (700, "700"), (1.4e6, "1.3M"), (1000, "1000")],
)
def test_a_switch_is_written_with_two_digits(tokens: float, text: str) -> None:
    assert format_switch(tokens) == text


LAW = st.tuples(st.floats(0.5, 5e4), st.floats(0.8, 2.2))
LIMIT = st.one_of(st.none(), st.sampled_from(OCTAVES))


@given(
    laws=st.fixed_dictionaries({"attention": LAW, "hybrid": LAW, "mamba2": LAW}),
    limits=st.fixed_dictionaries({"attention": LIMIT, "hybrid": LIMIT}),
    between=st.sampled_from([0.0, 0.005, 0.05]),
)
@settings(max_examples=60, deadline=None)
def test_the_sentence_agrees_with_the_winner_at_every_measured_context(
    laws: dict[str, tuple[float, float]], limits: dict[str, int | None], between: float
) -> None:
    def limited(measure: make.Measure) -> make.Measure:
        for block, most in limits.items():
            if most is not None:
                measure = make.dies_above(most, measure, only=block)
        return measure

    facet = comparison(OCTAVES, limited, between=between, **laws)
    found = verdict(facet)
    assert found.sentence.endswith(".")
    assert len(found.sentence) < 200
    assert found.envelope is not None
    for segment in found.envelope.segments:
        for at in facet.contexts:
            if not segment.first <= at <= segment.last:
                continue
            measured = {c.name.block: c.at(at) for c in facet.curves if at in c.values}
            best = min(measured, key=lambda block: measured[block])
            assert set(segment.blocks) & set(found.envelope.ties.get(at, segment.blocks))
            if not segment.tied and best != segment.blocks[0]:
                # Named although not the lowest: only where the data cannot tell them apart.
                assert segment.blocks[0] in found.envelope.ties[at]
    _numbers_lie_in_their_brackets(found)


def _numbers_lie_in_their_brackets(found: Verdict) -> None:
    assert found.envelope is not None
    for boundary in found.envelope.boundaries:
        low, high = boundary.bracket
        assert low < high
        if boundary.context is not None:
            assert low <= boundary.context <= high


def test_a_failure_that_a_later_round_mended_is_no_misfit() -> None:
    good = make.measurement("attention", 1024, round=1)
    bad: Failure = make.failure("attention", 1024, round=0)
    run = make.run(bad, good, make.measurement("mamba2", 1024))
    facet = compare(run, facets(run)[0])
    assert not facet.absent("attention", 1024)
    assert facet.curve("attention").failures == {}
