"""`ssmprof trace MODEL`: every op of one call of a model, ours or foreign, unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssmprof.cli.asking import asked
from ssmprof.cli.options import emit, say
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.records import Attribution
    from ssmprof.spec import ForeignSpec


def trace_model(
    name: str, tokens: int, phase: Any, device: Any, shape: Any, form: str | None,
    output: str | None,
) -> None:  # fmt: skip
    """Measure one call of the model in a process of its own and print its ops.

    Raises ConfigError where the call could not be measured or its ops not be timed.
    """
    from msgspec import structs

    from ssmprof.devices import detect
    from ssmprof.doctor.host import need_torch
    from ssmprof.measure.workers.client import Client
    from ssmprof.models.recipe import Recipe
    from ssmprof.records import WORKLOADS, Job, Measurement, Point
    from ssmprof.scalars import digest
    from ssmprof.spec import Budget, ForeignSpec, Passes

    subject = asked((name,)).blocks[0]
    if shape is not None:
        if not isinstance(subject, ForeignSpec):
            raise ConfigError(
                "--input goes with module:factory; models of ours take token ids",
                fix=f"ssmprof trace {name}",
            )
        subject = structs.replace(subject, input=shape)
    need_torch()
    if isinstance(subject, ForeignSpec) and not subject.factory.startswith("hf:"):
        _rehearsed(name, subject, tokens)
    opened = detect(device)
    kind = opened.kind
    opened.close()
    logits = "last" if isinstance(subject, Recipe) and subject.vocab else "none"
    job = Job(
        point=Point(
            block=subject.name, block_digest=digest(subject),
            workload=WORKLOADS[phase](context=tokens), execution="eager", logits=logits,
        ),
        subject=subject,
        round=0,
        budget=Budget(rounds=1, min_samples=3, min_time_s=0.05, max_noise=0.1, point_s=2.0),
        passes=Passes(memory="off"),
    )  # fmt: skip
    with Client(kind) as client:
        outcome = next(iter(client([job])))
    if not isinstance(outcome, Measurement):
        what, _, fix = outcome.detail.partition(" try: ")
        told = what.removeprefix(f"{name}: ")
        raise ConfigError(f"{name}: {outcome.reason}: {told}", fix=fix.strip() or None)
    if outcome.attribution is None:
        reason = next((note.text for note in outcome.notes), "no timing route works here")
        raise ConfigError(f"{name}: its ops could not be timed", cause=reason)
    _show(outcome.attribution, form, output)
    for note in outcome.notes:
        say(f"! {note.text}")


def _rehearsed(name: str, subject: ForeignSpec, tokens: int) -> None:
    """Raise ConfigError for what is wrong with the user's code, before anything is started."""
    from ssmprof.models.build.rehearse import rehearse

    found = rehearse(subject, tokens)
    if found is not None:
        what, fix = found
        raise ConfigError(f"{name}: {what.removeprefix(f'{subject.factory}: ')}", fix=fix)


def _show(found: Attribution, form: str | None, output: str | None) -> None:
    from ssmprof.records import median
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_time

    total = sum(median(row.times_s) for row in found.kernels) or 1.0
    rows = tuple(
        {
            "scope": row.scope,
            "op": row.op,
            "family": row.family,
            "kernel": row.kernel,
            "calls": row.calls,
            "time_s": median(row.times_s),
            "share": median(row.times_s) / total,
            "cupti_s": row.cupti_s,
        }
        for row in found.kernels
    )
    columns = (
        Column("scope", "scope"),
        Column("op", "op"),
        Column("family", "family"),
        Column("kernel", "kernel"),
        Column("calls", "calls", numeric=True),
        Column("time_s", "time", format_time, numeric=True),
        Column("share", "share", lambda share: f"{share:.1%}", numeric=True),
        Column("cupti_s", "CUPTI", format_time, numeric=True),
    )
    emit(Table("Ops of one call", columns, rows), form, output)
    say(
        f"{found.route}: whole {format_time(found.whole_s)}, parts miss it by {found.closure:.1%}"
        f", {found.marks} marks of {format_time(found.mark_cost_s)} taken off"
    )
