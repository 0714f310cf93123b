"""One GPU of a host against several: throughput, answers, power and clocks, host cores.

    python -m fleet.gpus [--output FOLDER] [--file fleet.json] [--seconds 480]

Every part is a sweep of its own by the command line, `--device all` (points shared between the
cards) or `--device each` (every card measures everything), of the shipped scenario `crossover`.
Kernels are compiled once, before. What was found is written after each part, the important ones
first; a part for which there is no time is left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from itertools import combinations, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import replace

from fleet import results
from fleet.watch import Watch
from ssmprof.analysis import analyze
from ssmprof.analysis.compare.conditions import of_device
from ssmprof.analysis.compare.devices import difference
from ssmprof.analysis.decide.changes import compare
from ssmprof.records import Decision, Environment, Run
from ssmprof.session.asking import Axes, scenario_of
from ssmprof.session.executors.fleet.clusters import visible_gpus
from ssmprof.spec import Scenario
from ssmprof.store import folder as store

SHARE = {2: 1.8, 4: 3.5}  # what so many GPUs must reach, in times of one
OTHERWISE = 0.875  # of each further one
TIE = 0.02
_SPARE_S = 6.0  # for pages and the end


class Host:
    """The cards, the folder of results, and the time that is left."""

    program = "ssmprof"
    deciding = False  # by --decide: who runs which op is looked into, once, before the first part

    def __init__(self, output: Path, file: str, seconds: float, asked: Scenario) -> None:
        self.cards = visible_gpus()
        self.output = output
        self.file = output / file
        self.asked = asked
        self.watch = Watch(self.cards)
        self.device = f"{len(self.cards)} x {self.watch.names()[0]}, {os.cpu_count()} cores"
        self.environments: list[Environment] = []
        self.decisions: list[Decision] = []
        self.rows: list[dict[str, Any]] = []
        self._end = time.monotonic() + seconds
        output.mkdir(parents=True, exist_ok=True)

    def left_s(self) -> float:
        """Seconds until the end."""
        return self._end - time.monotonic() - _SPARE_S

    def swept(self, name: str, cards: list[str], how: str, asked: Scenario) -> Run | None:
        """One sweep by the command line; None where it ended badly, which is printed."""
        path = self.output / name
        with store.create(path, asked, command=f"ssmprof sweep crossover --device {how}") as run:
            for machine, found in self._known(cards if how == "each" else []):
                run.add_environment(machine)
                run.add_decisions(found)
        began = time.monotonic()
        code = self._command(path, cards, how)
        wall_s = time.monotonic() - began
        try:
            found = store.load(path)
            row = self._row(name, cards, how, found, wall_s, code)
        except Exception as error:
            print(f"{name}: exit {code} after {wall_s:.0f} s: {error}", flush=True)
            self._tail(path)
            return None
        self.rows.append(row)
        print(_line(row), flush=True)
        for state in row["states"]:
            print(_state(state), flush=True)
        if code not in (0, 3, 4, 5):
            self._tail(path)
        self.write([])
        return found

    def write(self, found: list[dict[str, Any]]) -> None:
        """Keep what was found so far."""
        for row in found:
            print(results.show(row), flush=True)
        table = self.file.with_name(f"{self.file.stem}-gpus.json")
        table.write_text(json.dumps({"device": self.device, "runs": self.rows}, indent=1) + "\n")
        if found:
            results.keep(self.file, self.device, found)

    def _known(self, each: list[str]) -> list[tuple[Environment, list[Decision]]]:
        """Machines and their decisions; with `each`, once per card."""
        known = [
            (machine, [one for one in self.decisions if one.environment == machine.fingerprint])
            for machine in self.environments
        ]
        if not each:
            return known
        found: list[tuple[Environment, list[Decision]]] = []
        for card in each:
            for machine, mine in known:
                here = replace(machine, device=f"{machine.device} #{card}")
                found.append((here, [_on(one, here) for one in mine]))
        return found

    def _command(self, path: Path, cards: list[str], how: str) -> int:
        """The sweep's exit code; it is told to end when the time is up, and then made to."""
        environ = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(cards)}
        words = ["sweep", "--resume", str(path), "--device", how, "--no-doctor"]
        words += [] if self.deciding else ["--no-decide"]
        with path.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", self.program, *words], stdout=log, stderr=log, env=environ,
                start_new_session=True,
            )  # fmt: skip
            self.watch.of(process.pid)
            try:
                return process.wait(max(self.left_s(), 5.0))
            except subprocess.TimeoutExpired:
                print(f"{path.name}: the time is up", flush=True)
                process.send_signal(signal.SIGTERM)
                try:
                    return process.wait(10.0)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    return process.wait()
            finally:
                self.watch.of(None)

    def _row(
        self, name: str, cards: list[str], how: str, run: Run, wall_s: float, code: int
    ) -> dict[str, Any]:
        begin = min(one.started_unix_s for one in run.outcomes)
        end = max(one.started_unix_s + one.wall_s for one in run.outcomes)
        return {
            "run": name,
            "cards": cards,
            "device": how,
            "exit": code,
            "outcomes": len(run.outcomes),
            "measurements": sum(1 for _ in run.measurements()),
            "command_s": wall_s,
            "measuring_s": end - begin,
            "points_per_s": len(run.outcomes) / (end - begin),
            "start_s": _start_s(run) if len(cards) == 1 else None,
            "decisions": len(run.decisions),
            "states": self.watch.between(begin, end),
        }

    def _tail(self, path: Path) -> None:
        print(path.with_suffix(".log").read_text(errors="replace")[-1500:], flush=True)


def _start_s(run: Run) -> float:
    """What a worker takes to start before its first point, where one card shows it: the usual gap
    between two visits. The first visit's own start lies before everything in the journal.
    """
    order = sorted(run.outcomes, key=lambda one: one.started_unix_s)
    gaps = [
        after.started_unix_s - before.started_unix_s - before.wall_s
        for before, after in pairwise(order)
        if (before.point.block, before.round) != (after.point.block, after.round)
    ]
    return max(0.0, median(gaps)) if gaps else 0.0


def _on(found: Decision, machine: Environment) -> Decision:
    conditions = replace(found.conditions, device=machine.device)
    return replace(found, environment=machine.fingerprint, conditions=conditions)


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['run']:14} {len(row['cards'])} GPU, --device {row['device']:4}: "
        f"{row['measurements']} of {row['outcomes']} points in {row['measuring_s']:.1f} s, "
        f"{row['points_per_s']:.3f} per second; command {row['command_s']:.1f} s, "
        f"exit {row['exit']}"
    )


def _state(state: dict[str, Any]) -> str:
    used = state["cores_used_mean"]
    cores = f"{used:.2f} of {state['cores_assigned']} cores" if used is not None else "no worker"
    return (
        f"    card {state['card']}: {state['power_median_w']:.0f} W (to {state['power_max_w']:.0f})"
        f", SM {state['sm_median_hz'] / 1e6:.0f} MHz (from {state['sm_min_hz'] / 1e6:.0f}), "
        f"to {state['temperature_max_c']:.0f} C, busy {state['load_mean']:.0%}, {cores}"
    )


def disagreements(here: Run, there: Run) -> tuple[int, int, list[str]]:
    """(answers that certainly differ, pairs of contenders at lengths compared, in words)."""
    ours = {_question(one): one for one in analyze(here).latencies}
    count = compared = 0
    words: list[str] = []
    for other in analyze(there).latencies:
        mine = ours.get(_question(other))
        if mine is None:
            continue
        found = difference(mine, other)
        compared += found.compared
        count += len(found.opposite) + len(found.moved)
        words += [f"{one.block} and {one.other} at {one.context}" for one in found.opposite]
        words += [f"{one.here.before} to {one.here.after}" for one in found.moved]
    return count, compared, words


def _question(answer: Any) -> object:
    return replace(answer.conditions, device="")


def points_apart(here: Run, there: Run) -> str:
    """Single points that are certainly more than the tie apart, in words."""
    found = compare(here, there, gate=TIE)
    counts = ", ".join(f"{found.count(one)} {one}" for one in ("slower", "faster", "unchanged"))
    middle = sorted(one.ratio for one in found.changes)[len(found.changes) // 2]
    return f"{len(found.changes)} points beyond {TIE:.0%}: {counts}; middle ratio {middle:.4f}"


def throughput(host: Host, many: int) -> list[dict[str, Any]]:
    """What so many GPUs reach in times of one, once both were seen."""
    rows = {
        len(row["cards"]): row
        for row in host.rows
        if row["device"] == "all" and row["run"] != "prepare"
    }
    if many not in rows or 1 not in rows:
        return []
    start_s = rows[1]["start_s"]  # of the first worker, which the journal does not hold
    speeds = {
        size: row["measurements"] / (row["measuring_s"] + start_s) for size, row in rows.items()
    }
    share = SHARE.get(many, OTHERWISE * many)
    times = speeds[many] / speeds[1]
    return [
        results.quantity(
            f"{many} GPUs of one host, crossover: throughput missing from {share:g} times one",
            max(0.0, share - times), 0.0, "times one GPU",
            f"{times:.3f} times: {speeds[1]:.3f} and {speeds[many]:.3f} points per second, "
            f"{rows[1]['measurements']} and {rows[many]['measurements']} points",
        )
    ]  # fmt: skip


def agreement(name: str, pairs: list[tuple[str, Run, Run]]) -> dict[str, Any]:
    """A quantity: answers of these pairs of runs that certainly differ."""
    total = compared = 0
    said: list[str] = []
    for what, here, there in pairs:
        count, seen, words = disagreements(here, there)
        print(f"{what}: {count} answers differ of {seen} compared. {points_apart(here, there)}")
        total, compared = total + count, compared + seen
        said += [f"{what}: {word}" for word in words]
    runs = "; ".join(what for what, _, _ in pairs)
    how = f"{compared} pairs of contenders at a length: {runs}"
    return results.quantity(name, total, 0, "answers", how, "; ".join(said)[:400] or None)


def measure(host: Host) -> None:
    """All parts, those that decide first."""
    cards, asked = host.cards, host.asked
    many = len(cards)
    first = replace(asked, budget=replace(asked.budget, rounds=1))
    prepared = host.swept("prepare", cards, "all", first)
    if prepared is None:
        return
    host.environments = list(prepared.environments.values())
    host.decisions = list(prepared.decisions)
    shared = host.swept(f"all-{many}", cards, "all", asked)
    spent_s = host.rows[-1]["command_s"]
    alone: dict[str, Run] = {}

    def has_time(name: str, needed_s: float) -> bool:
        if host.left_s() > needed_s:
            return True
        print(f"{name}: left out, {host.left_s():.0f} s are left and {needed_s:.0f} s needed")
        return False

    def by_itself(card: str) -> None:
        needed_s = spent_s * (many if not alone else 1.05)
        if has_time(f"alone-{card}", needed_s):
            found = host.swept(f"alone-{card}", [card], "all", asked)
            if found is not None:
                alone[card] = found

    by_itself(cards[0])
    host.write(throughput(host, many))
    if not alone:
        return
    if shared is not None:
        pairs = [(f"alone on {card}, shared by {many}", one, shared) for card, one in alone.items()]
        name = f"answers shared by {many} GPUs that disagree with one alone beyond their errors"
        host.write([agreement(name, pairs)])
    spent_s = next(row["command_s"] for row in host.rows if row["run"].startswith("alone"))
    if has_time(f"each-{many}", 1.1 * spent_s):
        each = host.swept(f"each-{many}", cards, "each", asked)
        if each is not None:
            own = _by_card(each, cards)
            if many == 2:
                by_itself(cards[1])
            host.write(_of_each(own, alone))
    for size in (2**power for power in range(1, many.bit_length())):
        if size < many and has_time(f"all-{size}", 1.2 * spent_s / size):
            host.swept(f"all-{size}", cards[:size], "all", asked)
            host.write(throughput(host, size))


def _of_each(own: dict[str, Run], alone: dict[str, Run]) -> list[dict[str, Any]]:
    """Each card's answer while all measured, against runs alone and against each other."""
    with_alone = [
        (f"card {card} alone on {by}, while all measure", one, own[card])
        for card in own
        for by, one in alone.items()
        if by == card or card not in alone
    ]
    cards = [
        (f"cards {a} and {b} at the same time", own[a], own[b]) for a, b in combinations(own, 2)
    ]
    name = "answers of the devices that disagree with runs alone beyond their errors"
    other = "answers of the devices that disagree with each other beyond their errors"
    return [agreement(name, with_alone), agreement(other, cards)]


def _by_card(run: Run, cards: list[str]) -> dict[str, Run]:
    names = sorted({machine.device for machine in run.environments.values()})
    return {
        card: of_device(run, name) for card in cards for name in names if name.endswith(f" #{card}")
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fleet.gpus", description=__doc__)
    parser.add_argument("--output", type=Path, default=results.FOLDER)
    parser.add_argument("--file", default="fleet.json", help="quantities are added to it")
    parser.add_argument("--seconds", type=float, default=480.0, help="for all parts together")
    parser.add_argument("--contexts", help="lengths; without them the scenario's")
    parser.add_argument("--phase", help="prefill, decode; both without it")
    parser.add_argument("--decide", action="store_true", help="who runs which op, beforehand")
    parser.add_argument("--rounds", type=int, default=4)
    told = parser.parse_args()
    axes = Axes(contexts=told.contexts, phase=told.phase, rounds=told.rounds, device="cuda")
    asked = scenario_of("crossover", axes)
    # Latencies alone: the other passes belong to one round, and would not be shared evenly.
    passes = replace(asked.passes, parts=False, memory="off", cupti=False)
    budget = replace(asked.budget, point_s=0.1, sweep_s=None)
    host = Host(told.output, told.file, told.seconds, replace(asked, passes=passes, budget=budget))
    host.deciding = told.decide
    print(f"{host.device}: cards {', '.join(host.cards)}; {told.seconds:.0f} s", flush=True)
    try:
        measure(host)
    finally:
        host.watch.close()
        host.write([])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
