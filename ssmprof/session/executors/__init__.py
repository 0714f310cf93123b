"""Where the points of a sweep are measured: on this machine, by a formula, by a `fleet`."""

from ssmprof.session.executors.choosing import executor_for
from ssmprof.session.executors.local import Local
from ssmprof.session.executors.protocol import Bench, Desk, Executor, SideBySide, devices_of
from ssmprof.session.executors.virtual import Virtual

__all__ = [
    "Bench", "Desk", "Executor", "Local", "SideBySide", "Virtual", "devices_of", "executor_for"
]  # fmt: skip
