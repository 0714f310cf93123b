"""Where the points of a sweep are measured: on this machine, or by a formula."""

from ssmprof.session.executors.local import Local
from ssmprof.session.executors.protocol import Bench, Desk, Executor
from ssmprof.session.executors.virtual import Virtual

__all__ = ["Bench", "Desk", "Executor", "Local", "Virtual"]
