"""What a campaign of faults injected and found; campaigns are added up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import fakes
from msgspec import Struct, field

from ssmprof.errors import StoreError
from ssmprof.records import Failure, Measurement, Outcome
from ssmprof.store.folder import load

Quantity = Literal[
    "finished points lost", "finished points duplicated", "hangs", "orphans", "scratch left",
    "resumed runs that differ", "tracebacks", "wrong accepts",
]  # fmt: skip
QUANTITIES: tuple[Quantity, ...] = Quantity.__args__


class Ledger(Struct):
    """Injections by kind, and by quantity what went wrong."""

    kinds: dict[str, int] = field(default_factory=dict)
    torch: int = 0
    flips: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)

    @property
    def injected(self) -> int:
        """How many deaths and errors were injected; flipped bits are counted apart."""
        return sum(self.kinds.values())

    def inject(self, kind: str, *, torch: bool = False) -> None:
        """Note one injection."""
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.torch += torch

    def find(self, quantity: Quantity, text: object) -> None:
        """Note something that must not be."""
        self.wrong.setdefault(quantity, []).append(str(text))

    def add(self, other: Ledger) -> None:
        """Take over what another campaign found."""
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count
        for quantity, texts in other.wrong.items():
            self.wrong.setdefault(quantity, []).extend(texts)
        self.torch += other.torch
        self.flips += other.flips


def loaded(path: Path, ledger: Ledger, where: str) -> dict[str, Outcome]:
    """Outcomes of a run by key; a run that cannot be read has lost them all."""
    try:
        return {outcome.key: outcome for outcome in load(path).outcomes}
    except StoreError as error:
        ledger.find("finished points lost", f"{where}: {error}")
        return {}


def check_kept(
    before: Mapping[str, Outcome], path: Path, ledger: Ledger, where: str, told: Iterable[str] = ()
) -> dict[str, Outcome]:
    """Outcomes of a run now: those of `before` as they were, and all that were told to be kept."""
    now = loaded(path, ledger, where)
    for key in (before.keys() | set(told)) - now.keys():
        ledger.find("finished points lost", f"{where}: {key}")
    for key, outcome in before.items():
        if not is_transient(outcome) and now.get(key, outcome) != outcome:
            ledger.find("finished points lost", f"{where}: {key} was changed")
    return now


def check_once(file: Path, ledger: Ledger, where: str) -> None:
    """No job is answered twice in a journal, but for what failed in passing the first time."""
    from ssmprof.store.journal import read

    counts = Counter(one.key for one in read(file).outcomes if not is_transient(one))
    for key, count in counts.items():
        if count > 1:
            ledger.find("finished points duplicated", f"{where}: {key}, {count} times")


def check_nothing_left(tag: str, scratch: Path, ledger: Ledger, where: str) -> None:
    """Neither a process with this tag in its environment nor a temporary file.

    What torch keeps there for whoever comes next is no scratch of ours.
    """
    for pid in fakes.gone(tag):
        ledger.find("orphans", f"{where}: process {pid}")
    for file in scratch.iterdir():
        if not file.name.startswith("torchinductor_"):
            ledger.find("scratch left", f"{where}: {file}")


def is_transient(outcome: Outcome) -> bool:
    """Whether a resumed sweep is to measure this point again."""
    return isinstance(outcome, Failure) and outcome.transient


def bare(outcome: Outcome) -> object:
    """What two runs of one job must agree in: times of day and words of a death may differ."""
    if isinstance(outcome, Measurement):
        return outcome.key, tuple(f"{time:.5e}" for time in outcome.times_s)
    return outcome.key, outcome.reason


def check_equal(
    found: Mapping[str, Outcome], whole: Mapping[str, Outcome], ledger: Ledger, where: str,
    same: Callable[[Outcome], object] = bare,
) -> None:  # fmt: skip
    """A resumed run equals an uninterrupted one."""
    if {key: same(one) for key, one in found.items()} != {k: same(v) for k, v in whole.items()}:
        missing, more = whole.keys() - found.keys(), found.keys() - whole.keys()
        text = f"{where}: {len(missing)} missing, {len(more)} more, others changed"
        ledger.find("resumed runs that differ", text)


def timed(limit_s: float, ledger: Ledger, where: str) -> Callable[[], None]:
    """A clock that was started; calling it notes a hang where the limit is past."""
    began = time.monotonic()

    def look() -> None:
        if (took := time.monotonic() - began) > limit_s:
            ledger.find("hangs", f"{where}: {took:.1f} s instead of {limit_s:g} s")

    return look
