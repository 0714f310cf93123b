"""Published results beside their paper: shares of device time, and as the paper divides them."""

from __future__ import annotations

from ssmprof.records import Run
from ssmprof.report.page import Listing, Part, Prose, Section
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.store import ssm_scope
from ssmprof.store.imports import COMPARABLE_FROM, SOURCE
from ssmprof.units import format_bytes, format_context, format_time


def section(run: Run) -> Section | None:
    """None for a run that was measured, or published by somebody else."""
    if run.origin != "published" or run.source != SOURCE:
        return None
    parts: tuple[Part, ...] = (
        Prose(
            "Published by others, not measured by ssmprof. Times are device time of one forward, "
            "summed by a profiler on a board whose clocks were not pinned; the host column is time "
            "inside operators under that profiler and no latency. Below "
            f"{format_context(COMPARABLE_FROM)} tokens the board waited for its host and its "
            "clocks fell: the heading is drawn from longer contexts only.",
            "warning",
        ),
        Listing(
            _shares(),
            reading="The bucket of the paper holds fused functions: the scan together with its "
            "convolution, gate and projections. The left share divides device time by device time; "
            "the right one is the paper's, which adds host time to both.",
        ),
        Listing(_memory(), folded=True, reading="Logits of all positions are in the activations."),
    )
    return Section("published", "As published", "What did the publication say itself?", parts)


def _shares() -> Table:
    rows = tuple(
        {
            "block": one.model,
            "context": one.context,
            "device_s": one.device_s,
            "host_s": one.host_s,
            "device_share": one.device_share,
            "published_share": one.published_share,
        }
        for one in ssm_scope.buckets()
    )
    columns = (
        Column("block", "model"),
        Column("context", "context", format_context, numeric=True),
        Column("device_s", "GPU time", format_time, numeric=True),
        Column("host_s", "host, profiled", format_time, numeric=True),
        Column("device_share", "SSM bucket of GPU time", percent, numeric=True),
        Column("published_share", "as published: of CPU + GPU time", percent, numeric=True),
    )
    return Table("Share of the paper's SSM_Scan bucket by both denominators", columns, rows)


def _memory() -> Table:
    rows = tuple(
        {
            "block": one.model,
            "context": one.context,
            "weights_bytes": one.weights_bytes,
            "kv_bytes": one.kv_bytes,
            "activation_bytes": one.activation_bytes,
            "peak_bytes": one.peak_bytes,
            "reserved_bytes": one.reserved_bytes,
        }
        for one in ssm_scope.memory_rows()
    )
    names = {
        "weights_bytes": "weights", "kv_bytes": "KV cache", "activation_bytes": "activations",
        "peak_bytes": "allocated peak", "reserved_bytes": "reserved",
    }  # fmt: skip
    columns = (
        Column("block", "model"),
        Column("context", "context", format_context, numeric=True),
        *(Column(key, heading, format_bytes, numeric=True) for key, heading in names.items()),
    )
    return Table("Memory of one prefill on the board, as published", columns, rows)
