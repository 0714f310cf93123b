"""Where the py-spy program is: on the path, in this environment, or beside its package."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from contextlib import suppress
from importlib import metadata
from pathlib import Path


def find() -> str | None:
    """The program's path, None where it is not installed."""
    folders = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent]
    # `pip install --target` puts programs into a folder of the target.
    with suppress(metadata.PackageNotFoundError):
        folders.append(Path(str(metadata.distribution("py-spy").locate_file("bin"))))
    beside = (str(folder / "py-spy") for folder in folders if (folder / "py-spy").is_file())
    return shutil.which("py-spy") or next(beside, None)
