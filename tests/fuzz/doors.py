"""Every way in for what another person wrote: how to make an input, how to bring it in.

`enter` returns None, or what was wrongly accepted; a refusal is an `SsmprofError` (for words a
ValueError, which the command line turns into wrong use). Anything else that escapes is a fault.
What was accepted goes on to what a person would do next: plan it, or ask the run.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import make
import msgspec
from fuzz import mutate

from ssmprof import limits, units
from ssmprof.analysis import analyze
from ssmprof.chips import chips
from ssmprof.errors import SsmprofError, StoreError
from ssmprof.models.config.reader import read
from ssmprof.models.cost import cost, parameters
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe, check_recipe
from ssmprof.planning import feasible, scenario
from ssmprof.planning.expand import expand
from ssmprof.records import Point, Prefill, Run, TelemetrySample, encode
from ssmprof.report.again import load_any
from ssmprof.report.decided import chosen, trials
from ssmprof.report.embed import compact, encoded
from ssmprof.report.html import pack
from ssmprof.report.text import summary
from ssmprof.scalars import digest
from ssmprof.spec import Scenario
from ssmprof.store import folder, schema
from ssmprof.store.decisions import DECISIONS_FILE

_SMALL = 200  # points that are planned, so that a door's time is the door's


@dataclass(frozen=True)
class Door:
    """`make` writes an input for a seed; `enter` brings it in below a scratch folder."""

    make: Callable[[Random], bytes]
    enter: Callable[[bytes, Path], str | None]
    refusal: type[Exception] = SsmprofError


@cache
def good_run() -> Run:
    """A run with everything a record can hold, small enough to be read ten thousand times."""
    asked = make.scenario(
        "attention", "mamba2", contexts=(512, 8192), budget=make.QUICK, phase=("prefill",)
    )
    laws = make.power_law(attention=(1.0, 2.0), mamba2=(8000.0, 1.0))
    outcomes: list[Any] = [
        msgspec.structs.replace(
            one,
            attribution=make.attribution(one.time_s),
            memory=make.memory(one.point.context),
            hot_times_s=one.times_s,
            launches=12,
            notes=(make.note("noisy"),),
        )
        for one in laws(make.jobs(asked))
    ]
    outcomes[-1] = make.failure(point=outcomes[-1].point, round=outcomes[-1].round)
    beside = tuple(TelemetrySample(unix_s=1e9 + at, power_w=300.0 + at) for at in range(4))
    chosen = tuple(make.decision(block.name) for block in asked.blocks)
    return make.run(*outcomes, asked=asked, telemetry=beside, decisions=chosen)


def _plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


@cache
def _good_folder(scratch: Path) -> Path:
    path = scratch / "run"
    folder.write(path, good_run())
    return path


@cache
def _good_texts() -> tuple[str, ...]:
    folder_of = Path(__file__).parents[2] / "scenarios"
    return tuple(file.read_text("utf-8") for file in sorted(folder_of.glob("*.toml")))


# What every accepted value must be, whoever read it: said again here, apart from the readers.


def _wrong_scenario(found: Scenario) -> str | None:
    lengths = found.sweep.contexts
    if not lengths or not all(1 <= at <= limits.CONTEXT_TOKENS for at in lengths):
        return f"contexts {lengths[:5]}"
    points = len(lengths) * len(found.sweep.batch) * len(found.blocks) * found.budget.rounds
    if points > limits.POINTS:
        return f"{points} points"
    if len({block.name for block in found.blocks}) < len(found.blocks):
        return "two blocks of one name"
    names = [found.name, *(block.name for block in found.blocks)]
    if bad := [name for name in names if not name or re.search(r"[\x00-\x1f\x7f-\x9f]", name)]:
        return f"name {bad[0]!r}"
    for block in found.blocks:
        if isinstance(block, Recipe) and (wrong := _wrong_block(block)):
            return wrong
    return _wrong_numbers(msgspec.to_builtins(found))


def _wrong_block(block: Recipe) -> str | None:
    problem = check_recipe(block)
    if problem:
        return f"{problem[0]}: {problem[1]}"
    if not block.layers or any(size < 0 for size in (parameters(block), len(block.layers))):
        return "no layers"
    return None


def _wrong_numbers(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"number {value}"
    parts = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list, tuple)):
        return None
    return next((wrong for part in parts if (wrong := _wrong_numbers(part))), None)


def _wrong_run(run: Run) -> str | None:
    for outcome in run.outcomes:
        if outcome.point.context < 1 or outcome.point.batch < 1:
            return f"point {outcome.point.label()!r}"
        if (times := getattr(outcome, "times_s", (1.0,))) == ():
            return "a measurement without samples"
        if not all(math.isfinite(time_s) for time_s in times):
            return f"times {times[:3]}"
    wrong = _wrong_scenario(run.scenario)
    if wrong is None:
        summary(run, analyze(run))
        for table in (chosen(run), trials(run)):
            table.cells()
        wrong = _wrong_numbers(msgspec.to_builtins(run.decisions))
    return wrong


def _scenario(data: bytes, scratch: Path) -> str | None:
    file = scratch / "asked.toml"
    file.write_bytes(data)
    found = scenario.load(file)
    wrong = _wrong_scenario(found)
    axes = found.sweep
    count = len(axes.contexts) * len(axes.batch) * len(axes.phase) * found.budget.rounds
    if wrong is None and count * len(found.blocks) <= _SMALL:
        feasible.plan(expand(found), feasible.Machine.of_device(chips()["h100-sxm"].name, "cuda"))
    return wrong


def _config(data: bytes, scratch: Path) -> str | None:
    file = scratch / "config.json"
    file.write_bytes(data)
    found = read(file)
    wrong = _wrong_block(found) or _wrong_numbers(msgspec.to_builtins(found))
    if wrong is None:
        at = Point(block=found.name, block_digest=digest(found), workload=Prefill(context=512))
        work = cost(found, at)
        if not (work.flops > 0 and math.isfinite(work.flops)):
            return f"{work.flops} operations"
        if footprint(found, at).peak_bytes < 0 or parameters(found) < 1:
            return "less than nothing"
    return wrong


def _file_of_run(name: str) -> Callable[[bytes, Path], str | None]:
    def enter(data: bytes, scratch: Path) -> str | None:
        path = _good_folder(scratch)
        file = path / name
        before = file.read_bytes()
        try:
            file.write_bytes(data)
            found = folder.load(path)
        finally:
            file.write_bytes(before)
        if name == folder.TELEMETRY_FILE and len(found.outcomes) != len(good_run().outcomes):
            return "outcomes were lost"
        wrong = _wrong_run(found)
        if wrong is None and found.dropped:
            raise StoreError(str(found.dropped[0]))  # a line is refused by itself, the rest holds
        return wrong

    return enter


def _page(data: bytes, scratch: Path) -> str | None:
    file = scratch / "page.html"
    file.write_bytes(b'<script type="application/gzip+b64" id="data-run">' + data + b"</script>")
    return _wrong_run(load_any(file))


def _page_input(rng: Random) -> bytes:
    good = _plain_page()
    kind = rng.random()
    if kind < 0.25:
        return mutate.data(rng, pack(json.dumps(good).encode()).encode())
    if kind < 0.3:
        return _bomb(rng.choice((b"0", b"[", b"[0,")), rng.choice((10**5, 10**7, 5 * 10**7)))
    return pack(mutate.as_json(rng, good, by_bytes=0.25)).encode()


@cache
def _bomb(piece: bytes, count: int) -> bytes:
    return base64.b64encode(gzip.compress(piece * count, compresslevel=1))


@cache
def _plain_page() -> Any:
    return json.loads(encoded(compact(good_run())))


def _header_input(rng: Random) -> bytes:
    return mutate.as_json(rng, json.loads(_good_file(folder.RUN_FILE)))


def _decisions_input(rng: Random) -> bytes:
    return mutate.as_json(rng, json.loads(_good_file(DECISIONS_FILE)), by_bytes=0.2)


@cache
def _good_file(name: str) -> bytes:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        folder.write(Path(scratch, "run"), good_run())
        return Path(scratch, "run", name).read_bytes()


def _lines_input(name: str) -> Callable[[Random], bytes]:
    """Lines of a file with one of them changed, or the bytes of the whole.

    Whoever changes an outcome by intent seals it again: its checksum would hide what lies behind.
    """

    def made(rng: Random) -> bytes:
        good = _good_file(name)
        if rng.random() < 0.4:
            return mutate.data(rng, good)
        lines = good.splitlines()
        at = rng.randrange(len(lines))
        sealed = name == folder.OUTCOMES_FILE
        line = schema.unsealed(lines[at]) if sealed else lines[at]
        line = mutate.as_json(rng, json.loads(line), by_bytes=0.1)
        lines[at] = schema.sealed(line) if sealed else line
        return b"\n".join(lines) + b"\n"

    return made


# Words of the command line, and what they mean by plain decimal arithmetic.

_PIECES = (
    "512", "4K", "1M", "0", "-1", "1.5K", "1.3K", "9" * 30, "1" * 500, "K", "1e9", "-", "*", "+",
    ",", "2", "1.0000001", " ", "inf", "nan", "٣", "½", "\u0000", "8GiB", "500MB", "1.5 KiB", "b",
    "EiB", "90s", "20m", "500ms", "1h", "min", "0.0s", "1K-64K*2", "1-1000000000+1", "1-1G*1.00001",
)  # fmt: skip


def _words_input(rng: Random) -> bytes:
    text = "".join(rng.choice(_PIECES) for _ in range(rng.choice((1, 1, 2, 3, 6, 40))))
    return text.encode()


def _words(data: bytes, scratch: Path) -> str | None:
    text = data.decode()
    accepted = 0
    for parse, check in (
        (units.parse_contexts, _wrong_contexts),
        (units.parse_bytes, _wrong_bytes),
        (units.parse_duration, _wrong_duration),
    ):
        try:
            value = parse(text)
        except ValueError as error:
            if len(str(error)) > 300:
                return f"a message of {len(str(error))} characters"
            continue
        accepted += 1
        if wrong := check(text, value):
            return f"{parse.__name__}({text[:60]!r}): {wrong}"
    if not accepted:
        raise ValueError(text)
    return None


def _wrong_contexts(text: str, found: tuple[int, ...]) -> str | None:
    if list(found) != sorted(set(found)) or not 1 <= len(found) <= limits.CONTEXTS:
        return f"{len(found)} lengths"
    if not (found[0] >= 1 and found[-1] <= limits.CONTEXT_TOKENS):
        return f"{found[0]} to {found[-1]}"
    ends = {int(number(end)) for part in text.split(",") for end in re.split("[-*+]", part)[:2]}
    return None if min(ends) == found[0] and max(ends) >= found[-1] else f"{found[0]}, {found[-1]}"


def number(text: str) -> Decimal:
    """A number of tokens as it is written."""
    text = text.strip()
    scale = {"k": 2**10, "m": 2**20}.get(text[-1:].lower(), 1)
    return Decimal(text.rstrip("kKmM")) * scale


_SIZES = {"": 1, "b": 1, **{f"{p}b": 1000**n for n, p in enumerate("kmgt", start=1)}}
_SIZES |= {f"{p}ib": 1024**n for n, p in enumerate("kmgt", start=1)}
_TIMES = {"ms": Decimal("0.001"), "s": 1, "m": 60, "min": 60, "h": 3600}


def _wrong_bytes(text: str, found: int) -> str | None:
    return _wrong_amount(text, found, _SIZES, limits.BYTES)


def _wrong_duration(text: str, found: float) -> str | None:
    return _wrong_amount(text, found, _TIMES, limits.SECONDS)


def _wrong_amount(text: str, found: float, scales: dict[str, Any], most: float) -> str | None:
    split = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", text.lower())
    if split is None or not 0 < found <= most:
        return f"{found}"
    wanted = Decimal(split[1]) * scales[split[2]]
    return None if abs(Decimal(found) - wanted) <= max(1, wanted * Decimal("1e-12")) else f"{found}"


@cache
def _configs() -> tuple[dict[str, Any], ...]:
    """Keys of published models, as transformers 4 and 5 write them."""
    files = sorted((Path(__file__).parents[1] / "data" / "configs").glob("*.json"))
    return tuple(json.loads(file.read_text("utf-8"))["config"] for file in files)


DOORS: dict[str, Door] = {
    "scenario": Door(lambda rng: mutate.toml(rng, rng.choice(_good_texts())), _scenario),
    "config.json": Door(lambda rng: mutate.as_json(rng, rng.choice(_configs()), 0.25), _config),
    "run.json": Door(_header_input, _file_of_run(folder.RUN_FILE)),
    "outcomes": Door(_lines_input(folder.OUTCOMES_FILE), _file_of_run(folder.OUTCOMES_FILE)),
    "telemetry": Door(_lines_input(folder.TELEMETRY_FILE), _file_of_run(folder.TELEMETRY_FILE)),
    "decisions": Door(_decisions_input, _file_of_run(DECISIONS_FILE)),
    "page": Door(_page_input, _page),
    "words": Door(_words_input, _words, ValueError),
}

__all__ = ["DOORS", "Door", "encode", "good_run"]
