"""The most that a door lets in, each with its reason; beyond it stands one clear error.

A door is whatever reads what another person wrote: a scenario, a config.json, a run folder, a page,
a word on the command line. The limits are far above what anybody measures and far below what takes
a machine's memory or its night.
"""

from __future__ import annotations

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

# A question.
CONTEXT_TOKENS = 2**30  # a hundred times the longest context that a model claims
CONTEXTS = 10_000  # lengths of one sweep: more than pixels of a curve
BATCH = 2**20  # sequences of one call
BLOCKS = 256  # contenders of one run
LAYERS = 10_000  # entries of a pattern, and repetitions of it
WIDTH = 2**24  # features, heads, states, vocabulary: sixty times the widest model published
POINTS = 1_000_000  # points times rounds of one sweep: ten times what a report is built for
ROUNDS = 1_000  # an interval narrows with the root of them
SAMPLES = 1_000_000  # samples of one point
EXTRA_CONTEXTS = 1_000  # lengths that refining may add
SECONDS = 1e7  # any duration asked for: four months
BYTES = 2**60  # any size asked for: an exbibyte
ROPE_BASE = 1e12  # a thousand times the largest published
NAME_CHARACTERS = 200  # what a line of a table can show
TEXT_CHARACTERS = 10_000  # a question, a page long
