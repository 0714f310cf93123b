"""SI inside, readable outside: formatting of times, bytes, contexts and ratios, and their parsing.

Suffixes K and M of a context are powers of two (8K = 8,192 tokens), as the field writes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ssmprof import limits

_THOUSANDS = r"[0-9]{1,3}(?:,[0-9]{3})+"
# Digits that are one length: groups of three that begin with 0, or a lone digit and its group.
_JOINED = re.compile(
    r"(?<![0-9.])[1-9][0-9]{0,2}(?:,0[0-9]{2})+(?![0-9.KkMm])"
    r"|(?<![0-9.,])[1-9],[0-9]{3}(?![0-9.,KkMm])"
)
_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTE_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
_BYTE_SUFFIXES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_DURATION_SUFFIXES = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def three_digits(value: float) -> str:
    """Three significant digits without an exponent, thousands separated: 1,234 · 12.3 · 0.0123."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def format_time(seconds: float) -> str:
    """`3.2e-4` -> `320 µs`."""
    size = abs(seconds)
    unit, name = next(((u, n) for u, n in _TIME_UNITS if size >= u), _TIME_UNITS[-1])
    return f"{three_digits(seconds / unit)} {name}"


def format_bytes(count: float) -> str:
    """`1610612736` -> `1.50 GiB`."""
    size = abs(count)
    unit, name = next(((u, n) for u, n in _BYTE_UNITS if size >= u), _BYTE_UNITS[-1])
    return f"{three_digits(count / unit)} {name}"


def format_context(tokens: float) -> str:
    """Tokens as the field writes them: `8192` -> `8K`, `512` -> `512`, and `9300` -> `9,300`.

    K and M are powers of two, so only their multiples are written with them.
    """
    if not math.isfinite(tokens):
        return f"{tokens:.0f}"
    whole = round(tokens)
    for unit, suffix in ((2**20, "M"), (2**10, "K")):
        if whole >= unit and whole % unit == 0:
            return f"{whole // unit}{suffix}"
    return f"{whole:,}"


def format_zone(low: float | None, high: float | None, one: float | None = None) -> str:
    """`4,352-4,480`, or the one number a narrow zone is printed as; an open end is a word."""
    if one is not None:
        return format_context(one)
    if low is None or high is None:
        known = low if high is None else high
        side = "above" if high is None else "below"
        return "nowhere" if known is None else f"{side} {format_context(known)}"
    ends = dict.fromkeys((format_context(low), format_context(high)))
    return "-".join(ends)


def format_duration(seconds: float) -> str:
    """`263` -> `4m 23s`."""
    if not math.isfinite(seconds):
        return f"{seconds:.0f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def format_ratio(ratio: float) -> str:
    """`1.637` -> `1.64x`, `1.1` -> `1.10x`: three digits, the last one kept where it is a zero."""
    return f"{three_digits(ratio)}x"


def parse_tokens(text: str) -> int:
    """`8K` -> 8192, `1.5K` -> 1536, `3,000` -> 3000. Raises ValueError with the text."""
    match = re.fullmatch(rf"\s*({_THOUSANDS}|[0-9]+(?:\.[0-9]+)?)\s*([kKmM]?)\s*", text)
    if not match:
        raise ValueError(f"{_quoted(text)} is not a number of tokens; write 512, 3,000, 8K or 1M")
    tokens = float(match[1].replace(",", "")) * {"": 1, "k": 2**10, "m": 2**20}[match[2].lower()]
    if tokens > limits.CONTEXT_TOKENS:
        raise ValueError(f"{_quoted(text)}: more than {limits.CONTEXT_TOKENS:,} tokens")
    if tokens != int(tokens) or tokens < 1:
        raise ValueError(f"{_quoted(text)} is not a whole, positive number of tokens")
    return int(tokens)


def parse_contexts(text: str) -> tuple[int, ...]:
    """Parse `512-128K*2` (factor), `1K-9K+2K` (step) and `512,1K,4K`, in any combination.

    Returns ascending, distinct context lengths in tokens. Raises ValueError with the part at fault.
    A comma joins the digits of one length where it hardly parts two: `3,000`, `24,000` and `9,300`
    are one, `64,128` are two.
    """
    found: set[int] = set()
    for part in _JOINED.sub(lambda found: found[0].replace(",", ""), text).split(","):
        match = re.fullmatch(r"\s*([^-*+]+)-([^-*+]+)([*+])([^-*+]+)\s*", part)
        lengths = _range(part, *match.groups()) if match else (parse_tokens(part),)
        found.update(lengths)
        if len(found) > limits.CONTEXTS:
            raise ValueError(f"more than {limits.CONTEXTS:,} lengths")
    return tuple(sorted(found))


def parse_batches(text: str) -> tuple[int, ...]:
    """`1,4` and what else `parse_contexts` takes, where a comma always parts two.

    Raises ValueError with the text, which speaks of sequences.
    """
    try:
        return parse_contexts(text.replace(",", ", "))
    except ValueError as error:
        raise ValueError(str(error).replace("tokens", "sequences")) from None


def _range(part: str, first: str, last: str, sign: str, by: str) -> Sequence[int]:
    """`first-last+by` or `first-last*by`; counted before it is written out."""
    low, high = parse_tokens(first), parse_tokens(last)
    if high < low:
        raise ValueError(f"{_quoted(part)} runs backwards")
    if sign == "+":
        step = parse_tokens(by)
        return range(low, high + 1, step)[: limits.CONTEXTS + 1]
    factor = float(by) if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", by) else 0.0
    if factor <= 1:
        raise ValueError(f"{_quoted(part)}: the factor must be a number above 1")
    steps = math.floor(math.log(high / low) / math.log(factor) + 1e-9)
    if steps > limits.CONTEXTS:
        raise ValueError(f"{_quoted(part)}: more than {limits.CONTEXTS:,} lengths")
    return [round(low * factor**step) for step in range(steps + 1)]


def parse_bytes(text: str) -> int:
    """`8GiB` -> 8589934592, `8GB` -> 8000000000. Raises ValueError with the text."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", text)
    if match and not match[2]:
        told = f"write {match[1][:12]}GiB or {match[1][:12]}MiB"
        raise ValueError(f"{_quoted(text)} is not a size, it lacks a unit; {told}")
    if not match or match[2].lower() not in _BYTE_SUFFIXES:
        raise ValueError(f"{_quoted(text)} is not a size; write 8GiB or 500MB")
    count = float(match[1]) * _BYTE_SUFFIXES[match[2].lower()]
    if not 1 <= count <= limits.BYTES:
        raise ValueError(f"{_quoted(text)}: a size is between 1 byte and 1 EiB")
    return int(count)


def parse_duration(text: str) -> float:
    """`20m` -> 1200.0, `500ms` -> 0.5, `1h` -> 3600.0, in seconds. Raises ValueError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|min|h)?\s*", text)
    if match and not match[2]:
        told = f"write {match[1][:12]}s, {match[1][:12]}m or {match[1][:12]}ms"
        raise ValueError(f"{_quoted(text)} is not a duration, it lacks a unit; {told}")
    if not match:
        raise ValueError(f"{_quoted(text)} is not a duration; write 90s, 20m or 500ms")
    seconds = float(match[1]) * _DURATION_SUFFIXES[match[2]]
    if not 0 < seconds <= limits.SECONDS:
        raise ValueError(f"{_quoted(text)}: a duration is above 0 and at most {limits.SECONDS:g} s")
    return seconds


def _quoted(text: str) -> str:
    """What was written, short enough for a message."""
    text = text.strip()
    return f'"{text}"' if len(text) <= 60 else f'"{text[:59]}…"'
