"""Reads a run back out of a report: a page carries the data it was made from."""

from __future__ import annotations

import re
from pathlib import Path

from ssmprof import limits
from ssmprof.bounded import read_file
from ssmprof.errors import StoreError
from ssmprof.records import Run
from ssmprof.report.embed import decoded
from ssmprof.report.html import unpack
from ssmprof.store.folder import load

_DATA = re.compile(r'<script type="application/gzip\+b64" id="data-run">([A-Za-z0-9+/=]+)</script>')


def load_any(path: Path) -> Run:
    """A run folder, or the run inside a report. Raises StoreError where a file holds none."""
    if path.suffix != ".html":
        return load(path)
    try:
        found = _DATA.search(read_file(path, limits.PAGE_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None
    if found is None:
        raise StoreError(f"{path}: holds no data of a run", fix="name a page that ssmprof wrote")
    try:
        return decoded(unpack(found[1]))
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(f"{path}: its data cannot be read", cause=str(error)) from None
