"""Which implementation runs an op: PROVIDERS, strongest expected first, and the name that ran.

A crossover measured with a slow implementation is a lie about the architecture. So who runs an op
is decided on the whole block, once per run (`measure.deciding`), and a `Choice` carries that into
every call. Without one the first that takes the call runs. Last resorts take no part: they run when
nothing else can, or when a spec asks for them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch

from ssmprof.errors import ConfigError, nearest

Implementation = Callable[..., Any]

PROVIDERS: dict[str, tuple[str, ...]] = {
    "ssd_scan": ("ssmprof", "fla", "mamba_ssm", "reference"),
    "selective_scan": ("ssmprof", "mamba_ssm", "reference"),
    "selective_state_update": ("ssmprof", "mamba_ssm", "reference"),
    "causal_conv1d": ("ssmprof", "causal_conv1d", "reference"),
    "causal_conv1d_update": ("ssmprof", "causal_conv1d", "reference"),
    "gated_rmsnorm": ("ssmprof", "mamba_ssm", "reference"),
    "rms_norm": ("ssmprof", "torch"),
    "add_rms_norm": ("ssmprof", "torch"),
    "rotary": ("ssmprof", "torch"),
    "swiglu": ("ssmprof", "torch"),
    "attention_prefill": ("sdpa-cudnn", "sdpa-flash", "sdpa-efficient", "sdpa", "sdpa-math"),
    "attention_decode": (
        "ssmprof",
        "sdpa-cudnn",
        "sdpa-flash",
        "sdpa-efficient",
        "sdpa",
        "sdpa-math",
        "reference",
    ),
}
# Run only when nothing else can: plain torch needs far more memory at long contexts.
LAST_RESORT = frozenset({"reference", "sdpa", "sdpa-math"})
# Ops that overwrite an argument (its index): candidates are timed on copies of it.
# `rotary` writes the same rows of its caches again, and needs none.
MUTATES: dict[str, int] = {
    "selective_state_update": 0,
    "causal_conv1d_update": 1,
    "add_rms_norm": 0,
}
# Module that offers a provider; each has `find(op, name, device) -> callable | None`.
ORIGINS: dict[str, str] = {
    "ssmprof": "own",
    "reference": "reference",
    "torch": "reference",
    "mamba_ssm": "mamba_ssm",
    "causal_conv1d": "mamba_ssm",
    "fla": "fla",
    "sdpa": "sdpa",
    "sdpa-cudnn": "sdpa",
    "sdpa-flash": "sdpa",
    "sdpa-efficient": "sdpa",
    "sdpa-math": "sdpa",
}


def candidates(
    op: str, device: torch.device, forced: str | None = None
) -> dict[str, Implementation]:
    """Implementations of `op` that exist on this device, strongest expected first.

    Last resorts are left out where anything else exists. `forced` names the only one wanted; a
    ConfigError says which names there are when it cannot run here.
    """
    names = PROVIDERS[op]
    if forced is not None:
        if forced not in names:
            raise ConfigError(
                f'providers.{op}: unknown provider "{forced}"{nearest(forced, names)}'
            )
        found = _find(op, forced, device)
        if found is None:
            raise ConfigError(
                f"providers.{op}: {forced} cannot run on {device.type} here",
                fix=f"one of {', '.join(candidates(op, device))}, or install {forced}",
            )
        return {forced: found}
    everything = {
        name: found
        for name in names
        # Without a GPU the kernels run in Triton's interpreter: on request, to check arithmetic.
        if not (name == "ssmprof" and device.type != "cuda")
        and (found := _find(op, name, device)) is not None
    }
    if not everything:
        raise ConfigError(f"{op}: no implementation for {device.type} is installed here")
    strong = {name: found for name, found in everything.items() if name not in LAST_RESORT}
    if device.type == "cuda" and strong:
        return strong
    # Without a GPU there is nothing to choose from: the first that exists.
    return dict(list((strong or everything).items())[:1])


def _find(op: str, name: str, device: torch.device) -> Implementation | None:
    module = import_module(f"ssmprof.blocks.providers.{ORIGINS[name]}")
    return module.find(op, name, device)


def choose(
    op: str, device: torch.device, providers: Mapping[str, str] | None = None
) -> tuple[Implementation, str]:
    """The implementation expected to be strongest on this device, untimed, and its name."""
    found = candidates(op, device, (providers or {}).get(op))
    name = next(iter(found))
    return found[name], name


def choices_exist(device: torch.device) -> bool:
    """Whether any op has more than one implementation on this device."""
    return any(len(candidates(op, device)) > 1 for op in PROVIDERS)


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
            if op not in PROVIDERS:
                raise ConfigError(f'providers: unknown op "{op}"{nearest(op, PROVIDERS)}')

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
