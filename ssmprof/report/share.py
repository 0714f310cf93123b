"""One run as a file that may be given away: its page and its data, without names."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from ssmprof.records import Run
from ssmprof.report import to_html
from ssmprof.report.redact import redacted
from ssmprof.store.folder import write

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same run gives the same bytes


def packed(run: Run, name: str) -> bytes:
    """A zip archive with one folder: the redacted run, which every command reads, and its page."""
    shown = redacted(run)
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        write(folder, shown)
        (folder / "report.html").write_text(to_html(run), encoding="utf-8")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    inside = zipfile.ZipInfo(
                        f"{name}/{file.relative_to(folder).as_posix()}", _EPOCH
                    )
                    inside.compress_type = zipfile.ZIP_DEFLATED
                    inside.external_attr = 0o644 << 16
                    archive.writestr(inside, file.read_bytes())
    return out.getvalue()
