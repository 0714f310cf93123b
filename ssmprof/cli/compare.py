"""`ssmprof compare`: two runs, point by point."""

from __future__ import annotations

import click

from ssmprof.cli.options import answer, emit, load_device, say, table_options
from ssmprof.errors import EXIT_DONE, EXIT_FINDING, ConfigError


@click.command("compare", short_help="Two runs, point by point; a gate for CI.")
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN")
@click.option("--gate", default="5%", show_default=True, help="What counts as a difference.")
@click.option(
    "--metric", type=click.Choice(["latency", "hot-latency", "energy", "memory"]), default="latency"
)
@click.option(
    "--allow-ambiguous",
    is_flag=True,
    help="Exit 0 where points could be slower and none surely is.",
)
@click.option("--all", "everything", is_flag=True, help="List unchanged points, too.")
@table_options
def command(
    before: str, after: str, gate: str, metric: str, allow_ambiguous: bool, everything: bool,
    form: str | None, output: str | None,
) -> int:  # fmt: skip
    """What became slower, faster, or cannot be told, from the first RUN to the second.

    Exits 1 if a point is slower than the gate allows, or may be: what cannot be told does not pass.
    RUN@DEVICE is what one device of a run measured: compare fleet@h100 fleet@h200.
    Example: ssmprof compare main pr --gate 5%
    """
    from ssmprof.analysis import analyze
    from ssmprof.analysis.decide.changes import compare
    from ssmprof.report.tables import Column, Table
    from ssmprof.report.verdicts import verdicts_of
    from ssmprof.units import format_context, format_time

    allowed = _share(gate)
    runs = load_device(before), load_device(after)
    found = compare(*runs, gate=allowed, metric=metric)  # type: ignore[arg-type]
    rows = tuple(
        {
            "verdict": one.verdict,
            "block": one.point.block,
            "phase": one.point.phase,
            "context_tokens": one.point.context,
            "batch": one.point.batch,
            "execution": one.point.execution,
            "before": one.before,
            "after": one.after,
            "ratio": one.ratio,
            "ci_low": one.interval[0] if one.interval else None,
            "ci_high": one.interval[1] if one.interval else None,
            "change": _change(one.ratio, one.interval),
            "blame": one.note or one.blame,
            "cycles_ratio": one.cycles_ratio,
        }
        for one in found.changes
        if everything or one.verdict != "unchanged"
    )
    show = format_time if metric.endswith("latency") else lambda value: f"{value:.4g}"
    columns = (
        Column("verdict", "verdict"),
        Column("block", "contender"),
        Column("phase", "phase"),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("batch", "batch", numeric=True),
        Column("execution", "launch"),
        Column("before", "before", show, numeric=True),
        Column("after", "after", show, numeric=True),
        Column("change", "change"),
        Column("blame", "most changed, or why not told"),
    )
    emit(Table("Changes", columns, rows), form, output)
    verdicts = ("slower", "faster", "unchanged", "ambiguous")
    counts = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in verdicts)  # type: ignore[arg-type]
    floor = f" (A/A noise floor {found.noise_floor:.1%})" if found.noise_floor is not None else ""
    answer(f"{len(found.changes)} points: {counts}{floor}", form, output)
    unclear = found.count("ambiguous")
    missing = len(found.only_before)
    if unclear or missing:
        answer(
            f"The gate could not see {unclear + missing} points: {unclear} ambiguous, "
            f"{missing} missing in the second run.",
            form,
            output,
        )
    said = [verdicts_of(run, analyze(run)) for run in runs]
    told = [
        {(key[0].label(), key[1]): verdict.sentence for key, verdict in one.items()} for one in said
    ]
    for key in (key for key in told[0] if key in told[1]):
        was, now = (one[key] for one in told)
        if key[1] == metric and was != now:
            answer(f"{key[0]}: was: {was} Is now: {now}", form, output)
    if not found.same_stack:
        say("! the runs differ in device or software; a difference may be theirs")
    for name, only in (("first", found.only_before), ("second", found.only_after)):
        if only:
            say(f"! only in the {name} run: {', '.join(only[:5])}{' ...' * (len(only) > 5)}")
    failed = found.count("slower") or (unclear and not allow_ambiguous)
    return EXIT_FINDING if failed else EXIT_DONE


def _change(ratio: float, interval: tuple[float, float] | None) -> str:
    text = f"{(ratio - 1) * 100:+.1f} %"
    if interval is None:
        return text
    low, high = ((bound - 1) * 100 for bound in interval)
    return f"{text} [{low:+.1f}, {high:+.1f}]"


def _share(text: str) -> float:
    """`5%` or `0.05`."""
    try:
        number = float(text.rstrip("% "))
    except ValueError:
        raise ConfigError(f'--gate: "{text}" is not a share', fix="--gate 5%") from None
    share = number / 100 if "%" in text else number
    if not 0 < share < 10:
        raise ConfigError(f'--gate: "{text}" is out of range', fix="--gate 5%")
    return share
