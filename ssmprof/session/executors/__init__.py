"""Where the points of a sweep are measured: on this machine, by a formula, by a fleet (`dask`)."""

from ssmprof.session.executors.choosing import executor_for
from ssmprof.session.executors.local import Local
from ssmprof.session.executors.protocol import Bench, Desk, Executor
from ssmprof.session.executors.virtual import Virtual

__all__ = ["Bench", "Desk", "Executor", "Local", "Virtual", "executor_for"]
