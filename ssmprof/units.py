"""SI inside, readable outside: formatting of times, bytes, contexts and ratios, and their parsing.

Suffixes K and M of a context are powers of two (8K = 8,192 tokens), as the field writes them.
"""

from __future__ import annotations

import math
import re

_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTE_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
_BYTE_SUFFIXES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_DURATION_SUFFIXES = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def three_digits(value: float) -> str:
    """Three significant digits without an exponent, thousands separated: 1,234 · 12.3 · 0.0123."""
    if value == 0:
        return "0"
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
    """`8K` -> 8192, `1.5K` -> 1536, `512` -> 512. Raises ValueError with the text."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmM]?)\s*", text)
    if not match:
        raise ValueError(f'"{text}" is not a number of tokens (512, 8K, 1M)')
    tokens = float(match[1]) * {"": 1, "k": 2**10, "m": 2**20}[match[2].lower()]
    if tokens != int(tokens) or tokens < 1:
        raise ValueError(f'"{text}" is not a whole, positive number of tokens')
    return int(tokens)


def parse_contexts(text: str) -> tuple[int, ...]:
    """Parse `512-128K*2` (factor), `1K-9K+2K` (step) and `512,1K,4K`, in any combination.

    Returns ascending, distinct context lengths in tokens. Raises ValueError with the part at fault.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([^-*+]+)-([^-*+]+)([*+])([^-*+]+)\s*", part)
        if not match:
            found.add(parse_tokens(part))
            continue
        low, high = parse_tokens(match[1]), parse_tokens(match[2])
        if high < low:
            raise ValueError(f'"{part.strip()}" runs backwards')
        if match[3] == "+":
            found.update(range(low, high + 1, parse_tokens(match[4])))
            continue
        factor = float(match[4]) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", match[4]) else 0.0
        if factor <= 1:
            raise ValueError(f'"{part.strip()}": the factor must be a number above 1')
        steps = math.floor(math.log(high / low) / math.log(factor) + 1e-9)
        found.update(round(low * factor**step) for step in range(steps + 1))
    return tuple(sorted(found))


def parse_bytes(text: str) -> int:
    """`8GiB` -> 8589934592, `8GB` -> 8000000000. Raises ValueError with the text."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in _BYTE_SUFFIXES:
        raise ValueError(f'"{text}" is not a size (8GiB, 500MB)')
    return int(float(match[1]) * _BYTE_SUFFIXES[match[2].lower()])


def parse_duration(text: str) -> float:
    """`20m` -> 1200.0, `500ms` -> 0.5, `1h` -> 3600.0, in seconds. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)\s*", text)
    if not match:
        raise ValueError(f'"{text}" is not a duration (90s, 20m, 500ms)')
    return float(match[1]) * _DURATION_SUFFIXES[match[2]]
