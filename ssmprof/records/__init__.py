"""What came out, where and of what, as frozen values: `outcomes` of a `machine`.

SI units, the unit in the name. A reading a device cannot give is None and `missing` says why; it is
never 0. Not-a-number and infinity are refused when a record is built, since JSON cannot carry them.
"""

from ssmprof.records.base import collector_at_rest, content_hash, encode, median, middle_of
from ssmprof.records.decisions import (
    Decision,
    DisabledPass,
    OpChoice,
    PassName,
    Span,
    Trial,
    TrialOutcome,
    Trials,
    decision_rows,
    providers_at,
    spans_text,
)
from ssmprof.records.fields import ABSENT, fields_of
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
    Dropped,
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
from ssmprof.records.visits import Mode, Sampling, Visit

__all__ = [
    "ABSENT", "WORKLOADS", "Attribution", "Axis", "Calibration", "Check", "Clocks", "Conditions",
    "Decision", "Decode", "DisabledPass", "Dropped", "Energy", "Environment", "Failure",
    "FailureReason", "Family", "Host", "Job", "KernelTime", "Level", "Measurement", "Memory",
    "Mode", "Note", "NoteKind", "OpChoice", "Outcome", "PassName", "Point", "Prefill", "Route",
    "Run", "Sampling", "Span", "Spread", "TelemetrySample", "Trial", "TrialOutcome", "Trials",
    "Violations", "Visit", "Workload", "collector_at_rest", "content_hash", "decision_rows",
    "encode", "fields_of", "median", "middle_of", "providers_at", "spans_text",
]  # fmt: skip
