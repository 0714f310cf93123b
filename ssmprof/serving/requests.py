"""Traces of requests: two published formats, read line by line.

Lines of JSON (Mooncake, FAST'25): timestamp in milliseconds, input_length, output_length and
hash_ids, one for each block of the prompt; equal ids mean equal prompts up to and including that
block. A table (Azure LLM inference 2023): arrival, context tokens, generated tokens; no prefixes.
Both may be packed with gzip.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ssmprof import limits
from ssmprof.bounded import inflate, read_file
from ssmprof.errors import ConfigError, reason

BLOCK_TOKENS = 512  # of a block of the published traces with prefixes
AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class Request(NamedTuple):
    """One prompt: when it comes, its lengths, and names of its blocks (none where unknown)."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trace:
    """Requests in the order of their arrival; `block_tokens` is None where prefixes are unknown.

    `dropped` says of each line that was left out what is wrong with it.
    """

    name: str
    requests: tuple[Request, ...]
    block_tokens: int | None
    dropped: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """Of all requests."""
        return sum(one.prompt_tokens for one in self.requests)


class _Line(msgspec.Struct):
    timestamp: Annotated[float, Meta(ge=0, le=limits.SECONDS * 1e3)]
    input_length: Annotated[int, Meta(ge=1, le=limits.CONTEXT_TOKENS)]
    output_length: Annotated[int, Meta(ge=0, le=limits.CONTEXT_TOKENS)]
    hash_ids: tuple[int, ...]


def read(file: Path, *, block_tokens: int = BLOCK_TOKENS, skip_bad: bool = False) -> Trace:
    """The trace in a file of a known format.

    Raises ConfigError with the number of the first bad line (which `skip_bad` leaves out), where
    the format is not known, or where nothing is left.
    """
    lines = _text(file).splitlines()
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        found, dropped = _kept(file, _jsonl(lines, block_tokens), skip_bad)
        blocks: int | None = block_tokens
    elif tuple(next(csv.reader([first]), ())) == AZURE:
        found, dropped = _kept(file, _azure(lines), skip_bad)
        start = min((one.arrival_s for one in found), default=0.0)
        found = [one._replace(arrival_s=one.arrival_s - start) for one in found]
        blocks = None
    else:
        raise ConfigError(
            f"{file}: not a trace of requests that is known",
            cause="neither lines of JSON with timestamp, input_length, output_length and hash_ids, "
            f"nor a table of {', '.join(AZURE)}",
        )
    if not found:
        raise ConfigError(f"{file}: no request in it")
    found.sort(key=lambda one: one.arrival_s)
    return Trace(file.name, tuple(found), blocks, tuple(dropped))


def _text(file: Path) -> str:
    try:
        data = read_file(file, limits.TRACE_BYTES)
        if data[:2] == b"\x1f\x8b":
            data = inflate(data, limits.TRACE_BYTES)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {reason(error)}") from None
    except (EOFError, zlib.error):
        raise ConfigError(f"{file}: its packed data is broken") from None
    return data.decode("utf-8", "replace")


_Read = Callable[[], Request]


def _kept(
    file: Path, lines: Iterator[tuple[int, _Read]], skip_bad: bool
) -> tuple[list[Request], list[str]]:
    found: list[Request] = []
    dropped: list[str] = []
    for number, make in lines:
        made = _made(make)
        if isinstance(made, Request):
            found.append(made)
            continue
        problem = f"line {number}: {made}"
        if not skip_bad:
            raise ConfigError(f"{file}: {problem}", fix="--skip-bad leaves such lines out")
        dropped.append(problem)
    return found, dropped


def _made(make: _Read) -> Request | str:
    """A request, or what is wrong with its line."""
    try:
        return make()
    except (ValueError, msgspec.MsgspecError) as error:
        return str(error)
    except RecursionError:
        return "nested too deeply"


def _jsonl(lines: list[str], block_tokens: int) -> Iterator[tuple[int, _Read]]:
    decode = msgspec.json.Decoder(_Line).decode

    def one(line: str) -> Request:
        value = decode(line)
        blocks = -(-value.input_length // block_tokens)
        if len(value.hash_ids) != blocks:
            raise ValueError(
                f"{len(value.hash_ids)} hash_ids, but {value.input_length:,} tokens are {blocks} "
                f"blocks of {block_tokens}"
            )
        arrival_s = value.timestamp / 1e3
        return Request(arrival_s, value.input_length, value.output_length, value.hash_ids)

    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, lambda line=line: one(line)


def _azure(lines: list[str]) -> Iterator[tuple[int, _Read]]:
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith(AZURE[0]):
            yield number, lambda line=line: _azure_row(line)


def _azure_row(line: str) -> Request:
    cells = line.split(",")
    if len(cells) != len(AZURE):
        raise ValueError(f"{len(cells)} cells, not {len(AZURE)}")
    when, _, fraction = cells[0].strip().partition(".")
    arrival = datetime.fromisoformat(f"{when}+00:00").timestamp()
    if fraction and not fraction.isdecimal():
        raise ValueError(f"{cells[0][:40]} is no time")
    prompt, output = int(cells[1]), int(cells[2])
    if not 1 <= prompt <= limits.CONTEXT_TOKENS or not 0 <= output <= limits.CONTEXT_TOKENS:
        raise ValueError(f"{prompt} tokens of context and {output} generated")
    return Request(arrival + (float(f"0.{fraction}") if fraction else 0.0), prompt, output)


def lines(trace: Trace) -> str:
    """The trace as lines of JSON, which `read` reads."""
    encode = msgspec.json.encode
    return "".join(
        encode(
            {
                "timestamp": round(one.arrival_s * 1e3, 3),
                "input_length": one.prompt_tokens,
                "output_length": one.output_tokens,
                "hash_ids": one.blocks,
            }
        ).decode()
        + "\n"
        for one in trace.requests
    )


def likeness(trace: Trace) -> dict[str, float | int | str | None]:
    """What a trace is like: requests, duration, rate, lengths (median and 99 %), shared blocks.

    `shared_share` is the part of all blocks that an earlier prompt had, too; None without prefixes.
    """
    prompts = sorted(one.prompt_tokens for one in trace.requests)
    outputs = sorted(one.output_tokens for one in trace.requests)
    count = len(trace.requests)
    duration_s = trace.requests[-1].arrival_s - trace.requests[0].arrival_s
    blocks = [block for one in trace.requests for block in one.blocks]
    return {
        "name": trace.name,
        "requests": count,
        "duration_s": duration_s,
        "rate_per_s": (count - 1) / duration_s if duration_s else None,
        "prompt_tokens": trace.prompt_tokens,
        "prompt_tokens_p50": prompts[count // 2],
        "prompt_tokens_p99": prompts[min(count - 1, count * 99 // 100)],
        "output_tokens_p50": outputs[count // 2],
        "output_tokens_p99": outputs[min(count - 1, count * 99 // 100)],
        "block_tokens": trace.block_tokens,
        "shared_share": 1 - len(set(blocks)) / len(blocks) if blocks else None,
    }
