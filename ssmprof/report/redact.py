"""Takes identifiers out of text before it is embedded: user, host, home paths, serials, UUIDs."""

from __future__ import annotations

import getpass
import re
import socket

_PATTERNS = (
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<uuid>"),
    (re.compile(r"(?:/home/|/Users/|/root\b)[^\s'\",;:]*"), "~/…"),
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\b"), "<user@host>"),
    (re.compile(r"\b(serial\w*\s*[:=]?\s*)\S+", re.IGNORECASE), r"\1<serial>"),
)
_SHORT = 3


def redact(text: str) -> str:
    """The text without what names a person or a machine."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    for name, replacement in ((socket.gethostname(), "<host>"), (_user(), "<user>")):
        # Very short names would take pieces out of ordinary words.
        if len(name) > _SHORT:
            text = re.sub(rf"\b{re.escape(name)}\b", replacement, text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
