"""What watching a board costs: `python -m ssmprof.devices.jetson.polling [TREE.tsv]`.

Takes one telemetry sample per period and prints the CPU time of it as a share of one core; the
promise is under 1 % at 10 Hz. With a tree, its rows are laid out as files below a scratch folder
and read from there, so that what is measured is real reads and not a dictionary.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ssmprof.devices.base import Device, read_telemetry
from ssmprof.devices.jetson.device import detect
from ssmprof.devices.sysfs import LiveFiles, RecordedFiles, Sysfs
from ssmprof.errors import NoDeviceError

HZ = 10.0
ALLOWED = 0.01


def share_of_a_core(device: Device, seconds: float, hz: float = HZ) -> float:
    """CPU seconds per second that samples at `hz` take of this process."""
    read_telemetry(device)
    samples = max(1, int(seconds * hz))
    spent = 0.0
    for _ in range(samples):
        began = time.process_time()
        read_telemetry(device)
        spent += time.process_time() - began
        time.sleep(1 / hz)
    return spent / samples * hz


def lay_out(tree: Path, root: Path) -> None:
    """Write a captured tree as files below a folder; a row that raises an error becomes absent."""
    files = RecordedFiles.load(tree)
    for path in files.paths:
        real = files.realpath(path)
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if real != path:
            target.symlink_to(root / real.lstrip("/"))
            continue
        with suppress(OSError):
            target.write_bytes(files.read(path))


def main(arguments: list[str]) -> int:
    """Print the cost; 0 if it is within the promise."""
    with tempfile.TemporaryDirectory() as scratch:
        if arguments:
            lay_out(Path(arguments[0]), Path(scratch))
        device = detect(Sysfs(LiveFiles(scratch)) if arguments else None)
        if device is None:
            raise NoDeviceError("no Jetson here", fix="name a captured tree: jetson/sysfs/*.tsv")
        try:
            share = share_of_a_core(device, 3.0)
        finally:
            device.close()
    print(f"{device.name}: polling at {HZ:g} Hz takes {share:.2%} of one core")
    return 0 if share < ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
