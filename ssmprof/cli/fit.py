"""`ssmprof fit`: the longest context that fits, found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssmprof import limits
from ssmprof.cli.asking import asked
from ssmprof.cli.options import bytes_type, emit, say, stored_options, table_options, tokens_type
from ssmprof.errors import EXIT_DONE, EXIT_FINDING, ConfigError

if TYPE_CHECKING:
    from ssmprof.measure.fit import Fit
    from ssmprof.measure.workers.client import Client
    from ssmprof.models.recipe import Recipe
    from ssmprof.records import Job


@click.command("fit", short_help="Longest context that fits, found by trying.")
@click.argument("what", nargs=-1, metavar="SCENARIO | MODEL...", required=True)
@click.option("--cap", metavar="SIZE", callback=bytes_type, help="Such as 8GiB; all by default.")
@click.option("--phase", type=click.Choice(["prefill", "decode"]), default="prefill")
@click.option("--batch", type=click.IntRange(1, limits.BATCH), default=1, show_default=True)
@click.option("--most", metavar="TOKENS", callback=tokens_type, default="1M", show_default=True)
@click.option("--step", metavar="TOKENS", callback=tokens_type, default="1K", show_default=True)
@click.option("--device", type=click.Choice(["any", "cuda", "cpu"]), default="any")
@stored_options
@table_options
def command(
    what: tuple[str, ...], cap: int | None, phase: str, batch: int, most: int, step: int,
    device: str, form: str | None, output: str | None, **stored: str | None,
) -> int:  # fmt: skip
    """The longest context of each contender that runs, each try in a process of its own.

    With --cap torch's allocator hands out SIZE and no more, as on a smaller card: for memory only.
    With weights, caches or states in a dtype of their own the answer is predicted, not tried.
    Example: ssmprof fit llama-3.2-1b mamba2-780m --cap 8GiB
    """
    from ssmprof.devices import detect
    from ssmprof.doctor.host import need_torch
    from ssmprof.measure.fit import Fit, fit, predicted_longest
    from ssmprof.measure.workers.client import Client
    from ssmprof.models.recipe import Recipe
    from ssmprof.planning import feasible
    from ssmprof.report.contenders import PIECE, has_slices
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_context

    scenario = asked(what)
    if not any(stored.values()):
        need_torch()
    opened = detect(device)  # type: ignore[arg-type]
    machine = feasible.Machine.of_device(opened.name, opened.kind, opened.memory_bytes())
    # On a board the memory is shared: what is left of it counts, and a watch keeps the rest alive.
    guard = opened.onboard.guard() if opened.onboard is not None else None
    limit = cap or (guard.room_bytes() if guard else None) or machine.memory_bytes
    opened.close()
    if limit is None:
        raise ConfigError("this device does not tell its memory", fix="--cap 8GiB")
    rows: list[dict[str, Any]] = []
    for block in scenario.blocks:
        if not isinstance(block, Recipe):
            raise ConfigError(f"{block.name}: what it needs cannot be predicted from shapes")

        def needed(at: int, block: Recipe = block) -> int:
            return feasible.peak_bytes(_job(block, at, phase, batch, cap, stored), machine) or 0

        if any(stored.values()):
            guess = predicted_longest(needed, limit, most)
            rows.append(_row(block, Fit(longest=None, failed=None, predicted=guess, attempts=())))
            continue
        with Client(
            opened.kind, watch=guard, predict=lambda job: feasible.peak_bytes(job, machine)
        ) as client:
            found = fit(
                needed,
                lambda at, block=block, client=client: _fits(
                    client, _job(block, at, phase, batch, cap, stored), cap
                ),
                cap_bytes=limit,
                most=most,
                step=step,
            )
        rows.append(_row(block, found))
    columns = (
        Column("block", "contender"),
        *([PIECE] if has_slices(scenario.blocks) else []),
        Column("longest_tokens", "longest that runs", format_context, numeric=True),
        Column("failed_tokens", "shortest that fails", format_context, numeric=True),
        Column("predicted_tokens", "predicted", format_context, numeric=True),
        Column("tries", "tries", numeric=True),
    )
    emit(Table("What fits", columns, tuple(rows)), form, output)
    if any(stored.values()):
        say("PREDICTED from shapes: calls with weights, caches or states of their own dtype.")
        return EXIT_DONE if all(row["predicted_tokens"] for row in rows) else EXIT_FINDING
    return EXIT_DONE if all(row["longest_tokens"] for row in rows) else EXIT_FINDING


def _row(block: Recipe, found: Fit) -> dict[str, Any]:
    from ssmprof.report.contenders import facts

    return {
        "block": block.name,
        **facts(block),
        "longest_tokens": found.longest,
        "failed_tokens": found.failed,
        "predicted_tokens": found.predicted,
        "tries": len(found.attempts),
    }


def _job(
    block: Recipe, context: int, phase: Any, batch: int, cap: int | None, stored: dict[str, Any]
) -> Job:
    """One eager call, weighed and not timed with care."""
    from ssmprof.records import WORKLOADS, Job, Point
    from ssmprof.scalars import digest
    from ssmprof.spec import Budget, Passes

    return Job(
        point=Point(
            block=block.name, block_digest=digest(block),
            workload=WORKLOADS[phase](context=context), batch=batch, execution="eager",
            logits="last" if block.vocab else "none", **stored,
        ),
        subject=block,
        round=0,
        budget=Budget(rounds=1, min_samples=1, min_time_s=0.0, max_noise=0.5, point_s=1.0),
        passes=Passes(parts=False, memory="block", cupti=False, cap_bytes=cap),
    )  # fmt: skip


def _fits(client: Client, job: Job, cap: int | None) -> bool:
    from ssmprof.records import Measurement
    from ssmprof.units import format_bytes, format_context

    outcome = next(iter(client([job])))
    where = f"{job.point.block} at {format_context(job.point.context)}"
    if not isinstance(outcome, Measurement):
        say(f"{where}: {outcome.reason}")
        return False
    peak = outcome.memory.allocator_peak_bytes if outcome.memory else None
    if cap is not None and peak is None:
        raise ConfigError("memory is not weighed on this device, so --cap cannot be kept")
    fits = cap is None or peak is None or peak <= cap
    words = f"peak {format_bytes(peak)}" if peak else "ran"
    say(f"{where}: {words}, {'fits' if fits else 'too much'}")
    return fits
