"""What stands between markers: parts of pages that people write, filled by the script."""

from __future__ import annotations

from collections.abc import Callable

from made import cast
from made.markdown import filled
from made.runs import ROOT

# Page -> marker -> what is written there.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"cast": cast.short},
}


def pages() -> dict[str, str]:
    """Path below the checkout -> the page with its parts as they are today."""
    made: dict[str, str] = {}
    for name, parts in PARTS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        made[name] = filled(text, {part: write() for part, write in parts.items()})
    return made
