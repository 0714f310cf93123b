"""What came out, where and of what, as frozen values: `outcomes` of a `machine`.

SI units, the unit in the name. A reading a device cannot give is None and `missing` says why; it is
never 0. Not-a-number and infinity are refused when a record is built, since JSON cannot carry them.
"""

from ssmprof.records.base import content_hash, encode, median
from ssmprof.records.machine import (
    Calibration,
    Check,
    Clocks,
    Environment,
    Level,
    Spread,
    TelemetrySample,
    Violations,
)
from ssmprof.records.outcomes import (
    Attribution,
    Cost,
    Energy,
    Failure,
    FailureReason,
    Family,
    Host,
    Job,
    KernelTime,
    Measurement,
    Memory,
    Note,
    NoteKind,
    Outcome,
    Route,
    Run,
)
from ssmprof.records.point import (
    WORKLOADS,
    Axis,
    Conditions,
    Decode,
    Point,
    Prefill,
    Workload,
)

__all__ = [
    "WORKLOADS", "Attribution", "Axis", "Calibration", "Check", "Clocks", "Conditions", "Cost",
    "Decode", "Energy", "Environment", "Failure", "FailureReason", "Family", "Host", "Job",
    "KernelTime", "Level", "Measurement", "Memory", "Note", "NoteKind", "Outcome", "Point",
    "Prefill", "Route", "Run", "Spread", "TelemetrySample", "Violations", "Workload",
    "content_hash", "encode", "median",
]  # fmt: skip
