"""Which implementation runs an op: the candidates of `ops.py` of each folder, and who ran.

A crossover measured with a slow implementation is a lie about the architecture. So who runs an op
is decided on the whole block, once per run (`measure.deciding`), and a `Choice` carries that into
every call. Without one the first that takes the call runs. Last resorts take no part: they run when
nothing else can, or when a spec asks for them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch

from ssmprof.errors import ConfigError, nearest
from ssmprof.mixers import registry
from ssmprof.mixers.finding import Find, Implementation

if TYPE_CHECKING:
    from ssmprof.records import Family


@dataclass(frozen=True)
class Candidates:
    """Who may run an op, strongest expected first.

    `family` is that of its kernels, None where they have none of their own. `last` names those that
    run only when nothing else can: plain torch needs far more memory at long contexts. `mutates` is
    the index of an argument that is overwritten: candidates are timed on copies of it.
    """

    family: Family | None
    find: dict[str, Find]
    last: frozenset[str] = frozenset()
    mutates: int | None = None


@cache
def table() -> dict[str, Candidates]:
    """Op -> its candidates, from every folder's `ops.py`."""
    found: dict[str, Candidates] = {}
    for module in registry.files("ops"):
        found.update(cast("dict[str, Candidates]", import_module(module).OPS))
    return found


def candidates(
    op: str, device: torch.device, forced: str | None = None
) -> dict[str, Implementation]:
    """Implementations of `op` that exist on this device, strongest expected first.

    Last resorts are left out where anything else exists. `forced` names the only one wanted; a
    ConfigError says which names there are when it cannot run here.
    """
    entry = table()[op]
    if forced is not None:
        if forced not in entry.find:
            raise ConfigError(
                f'providers.{op}: unknown provider "{forced}"{nearest(forced, entry.find)}'
            )
        found = entry.find[forced](device)
        if found is None:
            raise ConfigError(
                f"providers.{op}: {forced} cannot run on {device.type} here",
                fix=f"one of {', '.join(candidates(op, device))}, or install {forced}",
            )
        return {forced: found}
    everything = {
        name: found
        for name, find in entry.find.items()
        # Without a GPU the kernels run in Triton's interpreter: on request, to check arithmetic.
        if not (name.startswith("ssmprof") and device.type != "cuda")
        and (found := find(device)) is not None
    }
    if not everything:
        raise ConfigError(f"{op}: no implementation for {device.type} is installed here")
    strong = {name: found for name, found in everything.items() if name not in entry.last}
    if device.type == "cuda" and strong:
        return strong
    # Without a GPU there is nothing to choose from: the first that exists.
    return dict(list((strong or everything).items())[:1])


def choose(
    op: str, device: torch.device, providers: Mapping[str, str] | None = None
) -> tuple[Implementation, str]:
    """The implementation expected to be strongest on this device, untimed, and its name."""
    found = candidates(op, device, (providers or {}).get(op))
    name = next(iter(found))
    return found[name], name


def choices_exist(device: torch.device) -> bool:
    """Whether any op has more than one implementation on this device."""
    return any(len(candidates(op, device)) > 1 for op in table())


class Choice:
    """Who runs the ops of one workload: `wanted`, op -> provider, and who had to give way.

    `fallbacks` says, by op, who runs instead of whom and why; the calls after the first refusal go
    straight to the replacement, so a provider that fails at one length is given up there alone.
    """

    def __init__(self, wanted: Mapping[str, str] | None = None) -> None:
        self.wanted = dict(wanted or {})
        self.fallbacks: dict[str, str] = {}


class Op:
    """One op of a model, bound to the implementations that may run it; `name` is the one that does.

    `observer` is told of every call before it runs.
    """

    def __init__(self, op: str, device: torch.device, forced: str | None) -> None:
        self.op = op
        self.found = candidates(op, device, forced)
        self.name = next(iter(self.found))
        self.observer: Observer | None = None
        self._forced = forced is not None
        self._choice = Choice()

    def choose(self, choice: Choice) -> None:
        """Run what `choice` wants from now on; a provider that the spec forces stays."""
        self._choice = choice
        self.name = next(iter(self.found))
        wanted = choice.wanted.get(self.op)
        if wanted in self.found:
            self.name = wanted
        elif wanted is not None and not self._forced:
            choice.fallbacks[self.op] = f"{self.name} for {wanted}, which is not installed here"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.observer is not None:
            self.observer(self, args, kwargs)
        try:
            return self.found[self.name](*args, **kwargs)
        except Exception as refusal:
            if len(self.found) == 1 or _is_no_refusal(refusal):
                raise
            return self._instead(refusal, args, kwargs)

    def _instead(self, refusal: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ask the others, in their order; raise the first refusal where nobody takes the call."""
        refused = self.name
        for name, call in self.found.items():
            if name == refused:
                continue
            try:
                result = call(*args, **kwargs)
            except Exception as error:
                if _is_no_refusal(error):
                    raise
                continue
            self.name = self._choice.wanted[self.op] = name
            why = " ".join(str(refusal).split())[:200] or type(refusal).__name__
            self._choice.fallbacks[self.op] = f"{name} for {refused}, which refused: {why}"
            return result
        raise refusal


Observer = Callable[[Op, tuple[Any, ...], dict[str, Any]], None]


def _is_no_refusal(error: Exception) -> bool:
    """Lack of memory, or a device whose context is lost: asking another would hide the cause."""
    return isinstance(error, torch.OutOfMemoryError) or "CUDA error" in str(error)


class Ops:
    """The ops of one model: `ops["ssd_scan"]` is one `Op`, shared by all layers."""

    def __init__(self, device: torch.device, forced: Mapping[str, str] | None = None) -> None:
        self.device = device
        self.forced = dict(forced or {})
        self.choice = Choice()
        self._ops: dict[str, Op] = {}
        for op in self.forced:
            if op not in table():
                raise ConfigError(f'providers: unknown op "{op}"{nearest(op, table())}')

    def __getitem__(self, op: str) -> Op:
        if op not in self._ops:
            self._ops[op] = Op(op, self.device, self.forced.get(op))
        return self._ops[op]

    def choose(self, choice: Choice) -> None:
        """Run what `choice` wants from now on, in every layer."""
        self.choice = choice
        for bound in self._ops.values():
            bound.choose(choice)

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Tell `observer` of every call of an op in this context."""
        for bound in self._ops.values():
            bound.observer = observer
        try:
            yield
        finally:
            for bound in self._ops.values():
                bound.observer = None

    def bound(self) -> tuple[Op, ...]:
        """The ops that the layers of the model hold."""
        return tuple(self._ops.values())

    def names(self) -> dict[str, str]:
        """Op -> provider of the latest call."""
        return {op: bound.name for op, bound in self._ops.items()}
