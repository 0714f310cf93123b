"""What the notes of a measurement mean for its worth.

A device at its power limit says so also at full clock: of 178 points that an H100 flagged in one
sweep, one ran below three quarters of its highest clock. So that flag alone is `power-cap`, which
widens intervals like any other noise; `throttled` is a clock below three quarters of the highest,
or any other reason.
"""

from __future__ import annotations

from ssmprof.records import Measurement

_POWER_ALONE = ("power cap",)


def tags(one: Measurement) -> tuple[str, ...]:
    """Kinds of the notes of a measurement, each once, told apart as above."""
    kinds = dict.fromkeys(note.kind for note in one.notes)
    slow = any(note.kind == "clock" and "SM clock" in note.text for note in one.notes)
    if "throttled" in kinds and one.clocks.throttle == _POWER_ALONE and not slow:
        kinds = dict.fromkeys("power-cap" if kind == "throttled" else kind for kind in kinds)
    return tuple(kinds)
