"""A captured board on another machine: telemetry from the tree, compute on this processor.

`SSMPROF_JETSON_TREE=FILE.tsv` names a tree that `jetson/capture.sh` wrote. The device is a CPU,
since that is what computes, and its name says so: nothing it times tells of the board.
"""

from __future__ import annotations

import os
from pathlib import Path

from ssmprof.devices.jetson import board
from ssmprof.devices.jetson.device import JetsonDevice
from ssmprof.devices.sysfs import RecordedFiles, Sysfs
from ssmprof.errors import ConfigError

VARIABLE = "SSMPROF_JETSON_TREE"


def open_replay() -> JetsonDevice:
    """The board of the tree that the environment names.

    Raises LookupError where it names none, ConfigError where the file is no tree of a Jetson.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise LookupError(f"{VARIABLE} is not set")
    path = Path(named)
    if not path.is_file():
        raise ConfigError(f"{VARIABLE}: {path}: no such file", fix=f"unset {VARIABLE}")
    sysfs = Sysfs(RecordedFiles.load(path))
    found = board.identify(sysfs)
    if found is None:
        raise ConfigError(f"{path}: no Tegra in this tree", fix="jetson/capture.sh writes one")
    # No name of a chip in it, so that its peaks are not taken for those of this processor.
    title = f"CPU with telemetry replayed from {found.p_number or found.soc}"
    return JetsonDevice(sysfs, found, kind="cpu", title=title)
