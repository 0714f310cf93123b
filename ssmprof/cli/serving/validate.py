"""`ssmprof serving validate`: the simulator against a loop that really batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssmprof import limits
from ssmprof.cli.options import batch_type, emit, load_run, say, table_options, write
from ssmprof.errors import ConfigError
from ssmprof.harmless import slug

if TYPE_CHECKING:
    from ssmprof.devices import Wanted
    from ssmprof.doctor.accuracy.bench import Report
    from ssmprof.engine.proof import Contender
    from ssmprof.records import Run


@click.command("validate", short_help="The simulator against a loop that really runs.")
@click.argument("run", metavar="RUN")
@click.option("--model", "models", multiple=True, help="A contender of the run; all by default.")
@click.option("--slots", metavar="LIST", default="8,64", show_default=True, callback=batch_type,
              help="Sequences at once.")  # fmt: skip
@click.option("--count", type=click.IntRange(8, 100_000), default=400, show_default=True,
              help="Requests that are served each time.")  # fmt: skip
@click.option("--chunk", type=click.IntRange(8, limits.CONTEXT_TOKENS),
              help="Tokens of an iteration; half of the run's chunk by default.")  # fmt: skip
@click.option("--longest", type=click.IntRange(2, limits.CONTEXT_TOKENS), default=1792,
              show_default=True, help="Tokens of the longest prompt.")  # fmt: skip
@click.option("--answer", type=click.IntRange(2, limits.CONTEXT_TOKENS), default=64,
              show_default=True, help="Tokens of an answer, on average.")  # fmt: skip
@click.option("--folder", metavar="FOLDER", help="Where serving.json goes; reports/serving-DEVICE.")
@click.option("--device", type=click.Choice(["any", "cuda", "cpu"]), default="any",
              show_default=True, help="Where to serve.")  # fmt: skip
@table_options
def validate(
    run: str, models: tuple[str, ...], slots: tuple[int, ...], count: int, chunk: int | None,
    longest: int, answer: int, folder: str | None, device: Wanted, form: str | None,
    output: str | None,
) -> None:  # fmt: skip
    """Serve made requests with contenders of RUN, whose surface was measured (scenario serving), in
    a real loop of continuous batching on this device; simulate the same; compare the medians.

    Example: ssmprof serving validate RUN --slots 8,64
    """
    from ssmprof.devices import detect
    from ssmprof.doctor.host import need_torch

    loaded = load_run(run)
    measured = loaded.scenario.sweep.chunk
    if measured is None or measured < 8:
        raise ConfigError(
            f"{run}: measured no chunks of prompts", fix="ssmprof sweep serving measures them"
        )
    need_torch()
    from ssmprof.engine.proof import Setting, prove

    opened = detect(device)
    kind, name = opened.kind, opened.name
    opened.close()
    grid = measured // 8
    setting = Setting(
        slots=slots, requests=count, chunk_tokens=max(grid, chunk or measured // 2),
        grid_tokens=grid, longest=max(grid, longest // grid * grid), output_tokens=answer,
    )  # fmt: skip
    target = Path(folder or f"reports/serving-{slug(name)}")
    found = prove(_contenders(loaded, models, kind), setting, kind, name, target, say)
    say(f"written: {target / 'serving.json'}")
    _show(found, form, output)
    if any(one.value is not None and one.value > one.bar for one in found.quantities):
        say("! some medians are predicted worse than the bar")


def _contenders(run: Run, models: tuple[str, ...], kind: str) -> list[Contender]:
    from ssmprof.engine.proof import Contender
    from ssmprof.models.recipe import Recipe
    from ssmprof.serving.steps import of_run

    blocks = {one.name: one for one in run.scenario.blocks}
    names = list(models or blocks)
    surfaces = of_run(run, names, "graph" if kind == "cuda" else "eager", True)
    found: list[Contender] = []
    for name, surface in zip(names, surfaces, strict=True):
        recipe = blocks[name]
        if not isinstance(recipe, Recipe):
            raise ConfigError(f"{name}: a model that is not ours cannot be served by this loop")
        providers: Any = {
            phase: {
                one.op: one.provider(run.scenario.sweep.chunk or 1)
                for one in run.decisions
                if one.block == name and one.conditions.phase == phase
                and one.op != "attention_decode"
            }
            for phase in ("prefill", "decode")
        }  # fmt: skip
        found.append(
            Contender(recipe=recipe, dtype=run.scenario.sweep.dtype, providers=providers,
                      surface=surface)
        )  # fmt: skip
    return found


def _show(found: Report, form: str | None, output: str | None) -> None:
    import msgspec

    from ssmprof.report.tables import Column, Table

    rows = tuple(msgspec.to_builtins(one) for one in found.quantities)
    if form == "json":
        document = {"device": found.device, "quantities": rows}
        write(json.dumps(document, ensure_ascii=False, indent=1) + "\n", output)
        return
    columns = (
        Column("name", "quantity"),
        Column("value", "off by", lambda value: f"{value:.1%}", numeric=True),
        Column("bar", "bar", lambda value: f"{value:.0%}", numeric=True),
        Column("how", "how"),
        Column("reason", "why not"),
    )
    emit(Table("The simulator against the loop", columns, rows), form, output)
