"""`python -m virtual ...`: the ssmprof command, with formula workers in place of measured ones.

Launcher, pool, journal and command line are the real ones; `fakes` says how workers die on command.
`Sweep` starts such a command in a folder of its own, so that it can be hurt from outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fakes

FINISHED = "SSMPROF_TEST_FINISHED"  # a file that is told every outcome that was kept
SCENARIO = """
name = "virtual"
question = "Which is faster?"
device = "cpu"
[sweep]
contexts = "64-1K+64"
execution = ["eager"]
dtype = "float32"
[budget]
rounds = 2
[passes]
parts = false
memory = "off"
energy = false
host = false
cupti = false
[[blocks]]
preset = "mamba2-130m"
"""
POINTS = 32


class Sweep:
    """A sweep in a folder of its own, its temporary files included.

    `program` is `virtual` (formula workers) or `ssmprof` (torch workers), `nap_s` what a formula
    takes, and `environ` is added to the environment of the command.
    """

    def __init__(
        self,
        path: Path,
        nap_s: float = 0.0,
        scenario: str = SCENARIO,
        program: str = "virtual",
        **environ: str,
    ) -> None:
        self.path = path
        self.program = program
        self.run = path / "run"
        self.scratch = path / "tmp"
        self.scratch.mkdir(parents=True, exist_ok=True)
        (path / "asked.toml").write_text(scenario)
        self.tag = f"tag-{os.getpid()}-{path.name}"
        self.environ = {
            **os.environ, **fakes.ENVIRON, "TMPDIR": str(self.scratch), fakes.NAP: str(nap_s),
            FINISHED: str(path / "finished"), "SSMPROF_TEST_TAG": self.tag, **environ,
        }  # fmt: skip

    def start(self, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
        """Start the sweep, or with `--resume run` go on with it."""
        asked = arguments or ("asked.toml", "-o", "run")
        values = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE} | streams
        return subprocess.Popen(
            [sys.executable, "-m", self.program, "sweep", *asked, "--no-doctor"],
            cwd=self.path, env=self.environ, text=True, start_new_session=True, **values,
        )  # fmt: skip

    def lines(self) -> int:
        """How many outcomes the journal holds."""
        file = self.run / "outcomes.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def wait_for(self, lines: int) -> None:
        """Wait until the journal is there and holds so many outcomes."""
        end = time.monotonic() + 60.0
        while not (self.run / "outcomes.jsonl").exists() or self.lines() < lines:
            assert time.monotonic() < end, "the sweep does not get going"
            time.sleep(0.01)

    def finished(self) -> set[str]:
        """Keys of the outcomes that the command was told to be on the disk."""
        file = self.path / "finished"
        return set(file.read_text().split()) if file.exists() else set()

    def is_whole(self) -> bool:
        """Whether the run holds every point of the scenario above."""
        from ssmprof.store import folder

        found = folder.load(self.run)
        return len(found.outcomes) == POINTS and not found.dropped

    def leaves_nothing(self) -> bool:
        """Whether neither a process nor a temporary file is left."""
        return fakes.gone(self.tag) == [] and list(self.scratch.iterdir()) == []


def _tell_what_is_kept(file: str) -> None:
    from ssmprof.store.journal import Journal

    kept = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    append = Journal.append

    def told(journal: Journal, outcome: Any) -> None:
        append(journal, outcome)
        os.write(kept, f"{outcome.key}\n".encode())

    Journal.append = told


if __name__ == "__main__":
    from ssmprof.cli import main
    from ssmprof.measure.workers.client import Client

    Client.__init__.__kwdefaults__["runner"] = fakes.RUNNER
    if os.environ.get(FINISHED):
        _tell_what_is_kept(os.environ[FINISHED])
    main()
