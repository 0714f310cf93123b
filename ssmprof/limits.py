"""Every threshold of a judgement, once, with its reason. Ratios unless the name says otherwise."""

from __future__ import annotations

import math

# The answer (who wins where)
LEVEL = 0.95  # of every interval that stands alone
END_ERROR = 0.025  # chance that one end of a zone is wrong: 5 % per crossing
LEAST_PROCESSES = 3  # fewer say little about processes: a range is shown beside them
FIRST_LOOK, LAST_LOOK = 3, 5  # visits after which signs are looked at: three looks spend the error
ONE_NUMBER = 1.04  # a zone as narrow as this is printed as one number
JAG = math.sqrt(2)  # a return to the other winner shorter than half an octave is a jag
ASIDE = (
    1.10  # a contender this much slower on both sides of a length was rightly not measured there
)
UNKNOWN_NOISE = 0.10  # assumed of processes that nobody repeated: ten times a quiet machine's
MODE_JUMP = 0.01  # a process this far from the others may run in another mode ...
MODE_CHANCE = 0.002  # ... where its distance in spreads has this chance (one-sided, Student)
LEANS = 0.3  # a mean that is no certain sign points somewhere where its chance is this or less
HOMOGENEOUS = 0.01  # chance at which noise of two groups counts as different: they are not pooled

# The parts of a call
CLOSURE_GRAPH = 0.02  # parts may miss the whole of a replayed graph by this
CLOSURE_ELSE = 0.05  # ... and of any other call by this
CLOSURE_WITHHOLDS = 0.10  # beyond, who owns the time of that point is not said
UNNAMED = 0.02  # share of device time without a kernel family that is worth a word
HALF = 0.5  # who owns more than this dominates

# How far a run is believed
PROCESS_NOISE = 0.01  # equal calls in two processes may differ by this
PROCESS_NOISE_WITHHOLDS = 0.25  # beyond, nothing here is a measurement
THROTTLED_WITHHOLDS = 0.25  # share of points below three quarters of the clock
THROTTLED_CLOCK = 0.75  # an SM clock below this share of the highest is throttled
NOISY_POINTS = 0.10  # share of points above their noise limit that is worth a word

# Launches
LAUNCH_BOUND = 0.5  # share of an eager call that a graph would not need
MIXED = 0.1


def closure_target(route: str) -> float:
    """How far the parts of a call may miss the whole, by the route they were taken on."""
    return CLOSURE_GRAPH if route == "graph-events" else CLOSURE_ELSE
