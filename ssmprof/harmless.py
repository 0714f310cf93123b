"""Text of a run made harmless for where it goes: one function per way out.

A name, a note or a kernel of a stranger's run may hold what a terminal obeys (escape sequences), a
spreadsheet computes (formulas) or a Markdown reader turns into something else. HTML is escaped by
its template, JSON by its encoder.
"""

from __future__ import annotations

import re
from typing import Any

# CSI, OSC and the other strings, and two-character escapes; bounded, so that nothing is searched
# twice from every place. A sequence without an end loses its introducer and stays as plain words.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]{0,8}[0-~]"
)
# C0 and C1 but tab and line feed; marks that turn the direction of text round, line separators,
# the byte order mark, what is no character, invisible tags, halves of surrogate pairs.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_BREAKS = re.compile(r"[\t\n\r\v\f\x85\u2028\u2029]+")
_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?: ?%)?")
# What starts a formula; the full-width forms are read as the plain ones in some languages.
_FORMULA = "=+-@＝＋－＠"
_MARKDOWN = re.compile(r"[\\|`<]|\](?=[(\[])")


def terminal(text: str) -> str:
    """For a terminal: no escape sequences and no control characters but line feeds and tabs."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text))


def one_line(text: str) -> str:
    """The same on one line, for a cell, a message or a name: breaks and tabs become blanks."""
    return terminal(_BREAKS.sub(" ", text))


def csv_cell(value: Any) -> Any:
    """For a cell of CSV: text that a spreadsheet would compute gets an apostrophe in front.

    Numbers, and texts that are nothing but one, stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    first = text.lstrip()[:1]
    risky = first in _FORMULA if first else False
    return f"'{text}" if risky and not _NUMBER.fullmatch(text) else text


def markdown_cell(text: str) -> str:
    """For a cell or a line of Markdown: no columns, code, tags, links or images of its own."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text))


def slug(text: str) -> str:
    """A name as part of a file's name: small letters, digits and hyphens; the maker's left out."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("nvidia", "")).strip("-")


def json_text(text: str) -> str:
    """For JSON that may land on a terminal: escapes what the encoder left as it was."""
    return _CONTROLS.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
