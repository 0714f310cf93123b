"""How often an answer is right: planted curves, measured with noise, through the whole analysis.

`make simulate` prints, per kind of curve and way of measuring, how many planted changes of the
winner an answer holds (`scoring`), how wide its zones are and how much it leaves open. Tests run a
smaller number of the same sweeps.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from itertools import combinations

import make
import numpy as np
import planted
from planted import A, B, Curve, Device, Scatter, Truth
from scoring import TIE, Score, Shot

from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import by_conditions

Random = np.random.Generator
# The noise between visits that was seen on one H200, in prefill.
USUAL = Scatter(level=0.003, slope=0.003, residual=0.0015, sample=0.0024)
OCTAVE = math.log(2)


def _between(rng: Random, low: float, high: float) -> float:
    """A number with an evenly spread logarithm."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


# Each kind draws a truth and the length around which it crosses.
def smooth(rng: Random) -> tuple[Truth, float]:
    """One crossing, steep or slow."""
    at = _between(rng, 2500, 9000)
    line = planted.smooth(at, _between(rng, 0.08, 0.5), rng.uniform(-0.03, 0.1))
    return planted.pair(line), at


def jagged(rng: Random) -> tuple[Truth, float]:
    """Teeth of 1 to 6 % every 400 to 625 tokens."""
    at = _between(rng, 2500, 9000)
    teeth = planted.sawtooth(rng.uniform(0.01, 0.06), rng.uniform(400, 625), rng.random())
    return planted.pair(planted.both(planted.smooth(at, _between(rng, 0.1, 0.5)), teeth)), at


def h200(rng: Random) -> tuple[Truth, float]:
    """The prefill curve measured on one H200."""
    return planted.pair(planted.h200), 4416.0


def stepped(rng: Random) -> tuple[Truth, float]:
    """Another implementation of an op from a length near the crossing on."""
    at = _between(rng, 2500, 9000)
    edge = at * math.exp(rng.uniform(-0.2, 0.2))
    jump = float(rng.choice((-1, 1)) * rng.uniform(0.01, 0.04))
    line = planted.both(planted.smooth(at, rng.uniform(0.05, 0.3)), planted.step(edge, jump))
    return planted.pair(line, providers={A: ("rms_norm", edge)}), at


def bistable(rng: Random) -> tuple[Truth, float]:
    """Half of all processes run one contender 1 to 12 % slower."""
    truth, at = smooth(rng)
    return Truth(truth.curves, jumps={A: rng.uniform(0.01, 0.12)}), at


def waves(rng: Random) -> tuple[Truth, float]:
    """Three crossings, more than half an octave apart."""
    at = _between(rng, 2500, 9000)
    line = planted.wave(at, _between(rng, 1.5, 2.5), rng.uniform(0.02, 0.06))
    return planted.pair(line), at


def ripple(rng: Random) -> tuple[Truth, float]:
    """Three crossings, less than half an octave apart."""
    at = _between(rng, 2500, 9000)
    line = planted.wave(at, _between(rng, 1.05, 1.35), rng.uniform(0.01, 0.05))
    return planted.pair(line), at


def never(rng: Random) -> tuple[Truth, float]:
    """No crossing: 1 to 20 % apart and more."""
    at, least = _between(rng, 2500, 9000), _between(rng, 0.01, 0.2)
    side, steep = float(rng.choice((-1, 1))), rng.uniform(0, 0.2)

    def line(contexts: planted.Array) -> planted.Array:
        return side * (least + steep * np.abs(np.log(contexts / at)))

    return planted.pair(line), at


def five(rng: Random) -> tuple[Truth, float]:
    """Five contenders, of which two to four are best somewhere."""
    at = _between(rng, 2500, 9000)
    curves: dict[str, Curve] = {B: planted.base}
    for name in (A, *planted.NAMES[2:]):
        line = planted.smooth(at * math.exp(rng.uniform(-0.7, 0.7)), rng.uniform(0.05, 0.4))
        away = 0.0 if name == A else rng.uniform(0.0, 0.05)
        curves[name] = planted.both(planted.base, line, lambda _, away=away: away)
    return Truth(curves), at


def close(rng: Random) -> tuple[Truth, float]:
    """Less than 1 % apart, everywhere."""
    away = rng.uniform(-0.01, 0.01)
    return planted.pair(lambda contexts: 0 * contexts + away), _between(rng, 2500, 9000)


def same(rng: Random) -> tuple[Truth, float]:
    """One block under two names."""
    return planted.pair(lambda contexts: 0 * contexts), _between(rng, 2500, 9000)


def same_bistable(rng: Random) -> tuple[Truth, float]:
    """One block under two names, one of them in two modes."""
    truth, at = same(rng)
    return Truth(truth.curves, jumps={A: 0.03}), at


TRUTHS: dict[str, Callable[[Random], tuple[Truth, float]]] = {
    "smooth": smooth,
    "jagged": jagged,
    "h200": h200,
    "h200, usual": h200,
    "stepped": stepped,
    "drift": smooth,
    "drift of one": smooth,
    "short noisy": smooth,
    "bistable": bistable,
    "three crossings": waves,
    "ripple": ripple,
    "never": never,
    "five contenders": five,
    "within the tie": close,
    "A/A": same,
    "A/A, usual": same,
    "A/A, short noisy": same,
    "A/A, drift": same,
    "A/A, bistable": same_bistable,
}


def scatter(kind: str, truth: Truth, rng: Random) -> Scatter:
    """Noise of one sweep: visit effects and residuals of 0.1 to 1 %.

    Modes lie eight times as far apart as processes scatter, else nobody could tell them.
    """
    if kind.endswith("usual"):
        return USUAL
    level, residual = _between(rng, 0.001, 0.01), _between(rng, 0.001, 0.01)
    jump = max(truth.jumps.values(), default=1.0)
    return Scatter(
        level=level,
        slope=level * rng.uniform(0, 1),
        residual=residual,
        sample=residual,
        drift=0.03 if kind.endswith("drift") else 0.003,
        drift_one=0.01 if kind == "drift of one" else 0.0,
        short=3.0 if kind.endswith("short noisy") else 1.0,
    ).times(min(1.0, jump / (8 * max(level, residual))))


def rounds(kind: str, rng: Random, count: int) -> Shot:
    """A grid of powers of two and some lengths where a search would have put them."""
    truth, at = TRUTHS[kind](rng)
    device = Device(truth, scatter(kind, truth, rng), rng)
    extra = {round(at * math.exp(rng.uniform(-0.35, 0.35))) for _ in range(int(rng.integers(0, 6)))}
    found = device.rounds(sorted({*planted.powers(), *extra}), count)
    return Shot(truth, device.seen, found)


def visits(kind: str, rng: Random, count: int, guarded: int = 1) -> Shot:
    """A zoom in every visit, guards in the first `guarded` ones; decode beside prefill.

    More than two contenders take turns pair by pair.
    """
    truth, at = TRUTHS[kind](rng)
    noise = scatter(kind, truth, rng)
    device = Device(truth, noise, rng)
    zoom = planted.near(at * math.exp(rng.uniform(-0.05, 0.05)))
    guards = {round(512 * 2 ** ((quarter + rng.random()) / 4)) for quarter in range(24)}
    every = sorted({*zoom, *(at for at in guards if not zoom[0] <= at <= zoom[-1])})
    found: list[make.Measurement] = []
    for index, names in enumerate(combinations(truth.curves, 2)):
        first = 100 * index
        found += device.visits(every, guarded, first, names)
        found += device.visits(zoom, count - guarded, first + guarded, names)
    beside, where = smooth(rng)
    found += Device(beside, noise, rng, "decode").visits(planted.near(where), count)
    return Shot(truth, device.seen, found)


def guarded_visits(kind: str, rng: Random, count: int) -> Shot:
    """Visits of which each measures every length."""
    return visits(kind, rng, count, guarded=count)


Measure = Callable[[str, Random, int], Shot]
WAYS: dict[str, tuple[Measure, int]] = {
    "3 rounds": (rounds, 3),
    "5 rounds": (rounds, 5),
    "3 visits": (visits, 3),
    "5 visits": (visits, 5),
    "7 visits": (visits, 7),
    "3 of all": (guarded_visits, 3),
}


def answer_of(shot: Shot) -> Answer:
    """The answer for the prefill."""
    environments = {planted.FINGERPRINT: make.ENVIRONMENT}
    groups = by_conditions(shot.outcomes, environments)
    found = answers(groups, environments, TIE, metrics=("latency",))
    return next(one for one in found if one.conditions.phase == "prefill")


def shot_of(kind: str, way: str, number: int, seed: int = 0) -> Shot:
    """One sweep; the same arguments give the same sweep."""
    measure, count = WAYS[way]
    return measure(kind, np.random.default_rng([seed, number, *f"{kind} {way}".encode()]), count)


def simulate(kind: str, way: str, times: int, seed: int = 0) -> Score:
    """So many sweeps of one kind."""
    found = Score()
    for number in range(times):
        shot = shot_of(kind, way, number, seed)
        found.add(shot, answer_of(shot), number)
    return found


def table(kinds: Iterable[str], times: int, seed: int) -> Iterable[str]:
    """The lines of the table."""
    yield (
        f"{'kind':16} {'measured in':12} {'sweeps':>6} {'changes':>7} {'coverage':>8} {'false':>5} "
        f"{'claims':>6} {'open':>5} {'unresolved':>10} {'equal':>5} {'width':>6} {'<=1.04':>6}"
    )
    for kind in kinds:
        for way in WAYS:
            one = simulate(kind, way, times, seed)
            yield (
                f"{kind:16} {way:12} {one.sweeps:6} {one.changes:7} {one.coverage:8.1%} "
                f"{one.false:5} {one.claims:6} {one.open:5} {one.unresolved / one.sweeps:10.0%} "
                f"{one.equal / one.sweeps:5.0%} {one.width:6.3f} {one.narrow:6.0%}"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="sweeps of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("kinds", nargs="*", default=list(TRUTHS), help=", ".join(TRUTHS))
    asked = parser.parse_args()
    for line in table(asked.kinds, asked.times, asked.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
