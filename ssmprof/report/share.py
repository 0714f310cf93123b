"""One run as a file that may be given away: its page and its data, without names."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from ssmprof.records import Run
from ssmprof.report import to_html
from ssmprof.report.redact import redacted
from ssmprof.store.folder import load, write

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same run gives the same bytes


def packed(run: Run, name: str) -> tuple[bytes, Run]:
    """A zip archive with one folder, the redacted run, which every command reads, and its page; and
    that run.
    """
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        write(folder, redacted(run))
        shown = load(folder)  # as whoever unpacks it reads it
        (folder / "report.html").write_text(to_html(shown), encoding="utf-8")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    inside = zipfile.ZipInfo(
                        f"{name}/{file.relative_to(folder).as_posix()}", _EPOCH
                    )
                    inside.compress_type = zipfile.ZIP_DEFLATED
                    inside.external_attr = 0o644 << 16
                    archive.writestr(inside, file.read_bytes())
    return out.getvalue(), shown
