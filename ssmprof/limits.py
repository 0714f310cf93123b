"""Every threshold of a judgement and every bound of a door, once, with its reason.

Thresholds are ratios unless the name says otherwise. A door is whatever reads what another person
wrote: a scenario, a config.json, a run folder, a page, a word on the command line; beyond a bound
stands one clear error. Bounds are far above what anybody measures and far below what takes a
machine's memory or its night.
"""

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
EVERY_PAIR = 24  # contenders up to which all pairs are compared; of more, those that decide
UNKNOWN_NOISE = 0.10  # assumed of processes that nobody repeated: ten times a quiet machine's
MODE_JUMP = 0.01  # a process this far from the others may run in another mode ...
MODE_CHANCE = 0.002  # ... where its distance in spreads has this chance (one-sided, Student)
LEANS = 0.3  # a mean that is no certain sign points somewhere where its chance is this or less
HOMOGENEOUS = 0.01  # chance at which noise of two groups counts as different: they are not pooled
EQUAL_SLICES = 1.10  # slices this near in parameters are of one size: layers do not come finer

# The parts of a call
CLOSURE_GRAPH = 0.02  # parts may miss the whole of a replayed graph by this
CLOSURE_ELSE = 0.05  # ... and of any other call by this
CLOSURE_WITHHOLDS = 0.10  # beyond, who owns the time of that point is not said
TRACED_LAUNCHES = 4_000  # a longer call is not marked: that takes longer than all else of a point
UNNAMED = 0.02  # share of device time without a kernel family that is worth a word
HALF = 0.5  # who owns more than this dominates

# Who runs an op
LONG_CALL_S = 0.1  # a call as long as this is not repeated to warm up, nor for a median

# How far a run is believed
PROCESS_NOISE = 0.01  # equal calls in two processes may differ by this
PROCESS_NOISE_WITHHOLDS = 0.25  # beyond, nothing here is a measurement
THROTTLED_WITHHOLDS = 0.25  # share of points below three quarters of the clock
THROTTLED_CLOCK = 0.75  # an SM clock below this share of the highest is throttled
NOISY_POINTS = 0.10  # share of points above their noise limit that is worth a word

# Launches
LAUNCH_BOUND = 0.5  # share of an eager call that a graph would not need
MIXED = 0.1

MIB = 2**20

# Files, in bytes.
SCENARIO_BYTES = MIB  # the largest that ships has 3 KB
CONFIG_BYTES = 4 * MIB  # the longest published config.json has 60 KB (a rope factor per dimension)
RUN_FILE_BYTES = 8 * MIB  # run.json and environments: a scenario of every preset has 40 KB
PAGE_BYTES = 256 * MIB  # a page above 20 MB is refused when it is written, unless forced
# 100,000 points with times per kernel are 400 MB of lines: an H100's run has 4 KB a line.
LINES_BYTES = 2048 * MIB
# Lines of a run shrink to a tenth, columns of a page to a thirtieth; deflate can reach 1 to 1,030.
INFLATION = 100
INFLATION_FREE_BYTES = MIB  # small data may shrink as it likes
PAGE_VALUES = 20_000_000  # written out from short columns: 100,000 points have a tenth of it
FOLDER_ENTRIES = 100_000  # files in a run folder; a stack file per point of the largest run
FOLDER_DEPTH = 8  # a run folder has one level of folders

TOML_DOTS = 1_000  # in one line of TOML: a key has a handful of parts

TRACE_BYTES = 1024 * MIB  # of a trace of requests: those published unpack to 30 MB

# Requests that nobody sent.
SESSIONS = 1_000_000  # of a generated trace, its turns and its shared prompts
GENERATED_TOKENS = 2**24  # of one piece of a prompt: ten times the longest context in use
TRACE_BLOCKS = 20_000_000  # of all prompts: seventy times the longest published trace

# A question.
CONTEXT_TOKENS = 2**30  # a hundred times the longest context that a model claims
CONTEXTS = 10_000  # lengths of one sweep: more than pixels of a curve
BATCH = 2**20  # sequences of one call
BLOCKS = 256  # contenders of one run
LAYERS = 10_000  # sub-layers of one model, one after the other
RANKS = 4_096  # of a tensor-parallel group: more than any server holds
DRAFTS = 1_024  # tokens speculated ahead: those published draft up to a dozen
TAPS = 64  # of a short convolution: those published have 2 to 4
WIDTH = 2**24  # features, heads, states, vocabulary: sixty times the widest model published
POINTS = 1_000_000  # points times rounds of one sweep: ten times what a report is built for
ROUNDS = 1_000  # an interval narrows with the root of them
SAMPLES = 1_000_000  # samples of one point
EXTRA_CONTEXTS = 1_000  # lengths that refining may add
SECONDS = 1e7  # any duration asked for: four months
LOG_RATIO = 25.0  # of two measured values: e to this many is a nanosecond against a minute
BYTES = 2**60  # any size asked for: an exbibyte
ROPE_BASE = 1e12  # a thousand times the largest published
SCALE = 1e6  # any multiplier of a model: ten thousand times the largest published
NAME_CHARACTERS = 200  # what a line of a table can show
TEXT_CHARACTERS = 10_000  # a question, a page long


def closure_target(route: str) -> float:
    """How far the parts of a call may miss the whole, by the route they were taken on."""
    return CLOSURE_GRAPH if route == "graph-events" else CLOSURE_ELSE
