"""A workload as a table, for page and `ssmprof decide`, and the curves the page computes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ssmprof.analysis import Analysis
from ssmprof.analysis.decide.workload import Curves, Served, Workload, curves, phases, serve
from ssmprof.report.page import Mine
from ssmprof.report.tables import Column, Table
from ssmprof.units import format_context, format_time, three_digits

_ANSWER = 512
_COLUMNS = (
    Column("block", "contender"),
    Column("first_s", "first token", format_time, numeric=True),
    Column("request_s", "whole request", format_time, numeric=True),
    Column("tokens_per_s", "tokens/s", three_digits, numeric=True),
    Column("cost_per_million", "cost per million", three_digits, numeric=True),
    Column("out", "ruled out by"),
)


def table(served: Iterable[Served], choice: str | None = None) -> Table:
    """A row per contender, the fastest first; `choice` is marked in the data."""
    rows = tuple(
        {
            "block": one.block,
            "choice": one.block == choice,
            "first_s": one.first_s,
            "request_s": one.request_s,
            "tokens_per_s": one.tokens_per_s,
            "cost_per_million": one.cost_per_million,
            "out": one.out,
        }
        for one in served
    )
    return Table("Whole requests: prompt and answer", _COLUMNS, rows)


def mine(analysis: Analysis) -> Mine | None:
    """The form's first workload, and what the page's script needs; None without any prefill."""
    found = phases(analysis.latencies)
    if found is None or found[0].withheld is not None or not found[0].contexts:
        return None
    prefill, decode = found
    known = curves(prefill, decode, analysis.memory)
    lengths = sorted(prefill.contexts)
    middle = lengths[len(lengths) // 2]
    asked = Workload(mix={middle: 1.0}, answer_tokens=_ANSWER if decode else 0, price_per_hour=1.0)
    batch = prefill.conditions.batch or 1
    return Mine(
        mix=f"{format_context(middle)}:100%".replace(",", ""),
        answer_tokens=asked.answer_tokens,
        table=table(serve(known, asked, batch)),
        data={"batch": batch, "curves": [_plain(one) for one in known]},
    )


def _plain(one: Curves) -> dict[str, Any]:
    """Full numbers: the page has to give what `ssmprof decide` gives."""
    kinds = (one.prompt_s, one.token_s, one.peak_bytes)
    lists = [[[at, float(f"{kind[at]:.10g}")] for at in sorted(kind)] for kind in kinds]
    return {"block": one.block, "curves": lists}
