"""What the table of truth is made of: one run folder per item, each resumed where it stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

import ssmprof
from ssmprof.planning import scenario as scenarios
from ssmprof.scalars import Strategy
from ssmprof.session.executors import Local
from ssmprof.spec import Passes, Scenario
from ssmprof.store import files

ROOT = Path(__file__).parents[2]
CROSSOVER = ROOT / "scenarios" / "crossover.toml"
QUICKSTART = ROOT / "scenarios" / "quickstart.toml"
FIRST = "transformer"
OTHERS = ("mamba2", "mamba1", "interleaved")
SWEEPS = 5
EQUALS = 10
MODELS = ("qwen2.5-0.5b", "mamba2-370m")
NO_PASSES = Passes(parts=False, memory="off", energy=False, host=False, cupti=False)
DONE = "done.json"


@dataclass(frozen=True)
class Item:
    """A run folder under the table's own, and how it is measured. `measure` may be called again."""

    name: str
    measure: Callable[[Path], None]

    def done(self, table: Path) -> dict[str, float] | None:
        """Its wall seconds, once it is whole."""
        file = table / self.name / DONE
        return msgspec.json.decode(file.read_bytes()) if file.is_file() else None

    def run(self, table: Path) -> None:
        """Measure it, or what is missing of it, and compress its lines."""
        folder = table / self.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        self.measure(folder)
        wall_s = time.monotonic() - begin
        files.pack(folder)
        (folder / DONE).write_bytes(msgspec.json.encode({"wall_s": wall_s}))


def every(device: str) -> Iterator[Item]:
    """All items of a device, those first that say most."""
    if device == "cpu":
        for turn in range(SWEEPS):
            yield Item(f"quickstart/{turn}", lambda at: command(at, "quickstart"))
        for turn in range(EQUALS):
            yield Item(f"equal/{turn}", swept(equal(QUICKSTART, turn)))
        return
    # One sweep before the clock counts: it compiles what the others find in the cache.
    yield Item("crossover", lambda at: command(at, "crossover"))
    for other in OTHERS:
        yield Item(f"reference/{other}", swept(pair(other, "dense")))
        for turn in range(SWEEPS):
            yield Item(f"sweep/{other}/{turn}", swept(pair(other, "decide")))
    for turn in range(EQUALS):
        yield Item(f"equal/{turn}", swept(equal(CROSSOVER, turn)))
    for turn in ("cold", "warm"):
        yield Item(f"models/{turn}", lambda at: command(at, *MODELS, "--contexts", "512-32K*2"))


def pair(other: str, strategy: Strategy) -> Scenario:
    """The transformer of `crossover` against one contender, in graphs, without other passes."""
    asked = scenarios.load(CROSSOVER)
    sweep = replace(asked.sweep, execution=("graph",), strategy=strategy, eager_up_to=None)
    blocks = tuple(one for one in asked.blocks if one.name in (FIRST, other))
    return replace(asked, blocks=blocks, sweep=sweep, passes=NO_PASSES)


def equal(source: Path, turn: int) -> Scenario:
    """One block of a scenario under two names: a crossing found here is a false one."""
    asked = scenarios.load(source)
    block = asked.blocks[turn % len(asked.blocks)]
    twice = (block, replace(block, name=f"{block.name}-again"))
    sweep = replace(asked.sweep, execution=asked.sweep.execution[:1], phase=asked.sweep.phase[:1])
    return replace(asked, blocks=twice, sweep=sweep, passes=NO_PASSES)


def swept(asked: Scenario) -> Callable[[Path], None]:
    """A sweep through the session, in processes of its own as every sweep."""

    def measure(folder: Path) -> None:
        executor = Local(asked.device)
        try:
            if folder.exists():
                ssmprof.resume(folder, executor=executor)
            else:
                ssmprof.sweep(asked, output=folder, executor=executor)
        finally:
            executor.close()

    return measure


def command(folder: Path, *words: str) -> None:
    """The command itself, from the shell's view: its wall time is a quantity."""
    # The run keeps its command, and where this checkout lies is nobody's business.
    place = str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)
    asked = ["--resume", place] if folder.exists() else [*words, "--output", place]
    # Findings have exit codes of their own; the table reads the folder.
    whole = [sys.executable, "-m", "ssmprof", "--exit-zero", "sweep", *asked]
    subprocess.run(whole, check=True, cwd=ROOT)
