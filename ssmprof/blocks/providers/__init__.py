"""Which implementation runs an op: PROVIDERS, strongest expected first; the race; and its name.

A crossover measured with a slow implementation is a lie about the architecture. So on a GPU all
installed candidates race once per shape bucket, on the arguments of the first call, outside of any
measurement (the warm-up calls it), and the fastest runs from then on. Last resorts never race: they
run when nothing else can, or when a spec asks for them by name. The name that ran is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from ssmprof.blocks.providers.race import fastest
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
# Ops that overwrite an argument (its index): candidates race on copies of it.
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
# Lengths within a bucket share one decision, so that a sweep does not race at every point.
LENGTH_BUCKETS = (1, 256, 1024, 4096, 16384)


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
    # Without a GPU there is nothing to race for: the first that exists.
    return dict(list((strong or everything).items())[:1])


def _find(op: str, name: str, device: torch.device) -> Implementation | None:
    module = import_module(f"ssmprof.blocks.providers.{ORIGINS[name]}")
    return module.find(op, name, device)


def choose(
    op: str, device: torch.device, providers: Mapping[str, str] | None = None
) -> tuple[Implementation, str]:
    """The implementation expected to be strongest on this device, without a race, and its name."""
    found = candidates(op, device, (providers or {}).get(op))
    name = next(iter(found))
    return found[name], name


def length_bucket(tokens: int) -> int:
    """Index of the bucket a length falls into; the last one is open."""
    return sum(tokens > edge for edge in LENGTH_BUCKETS)


class Op:
    """One op of a model, bound to the implementations that may run it.

    Calling it runs the winner of the bucket of the first argument's shape; `name` is the provider
    of the latest call.
    """

    def __init__(self, op: str, device: torch.device, forced: str | None) -> None:
        self.op = op
        self.found = candidates(op, device, forced)
        self.name = next(iter(self.found))
        self._only = self.found[self.name] if len(self.found) == 1 else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._only is not None:
            return self._only(*args, **kwargs)
        key = (self.op, *_bucket(self.op, args))
        name = _DECISIONS.get(key)
        if name is None and (name := _ADOPTED.get(repr(key))) is not None:
            _DECISIONS[key] = name  # the text is looked up once, and not in every timed call
        if torch.cuda.is_current_stream_capturing():
            # A race inside a capture would become part of it.
            self.name = name if name in self.found else next(iter(self.found))
            return self.found[self.name](*args, **kwargs)
        if name in self.found:
            self.name = name
            try:
                return self.found[name](*args, **kwargs)
            except (NotImplementedError, ValueError, RuntimeError) as refusal:
                if isinstance(refusal, torch.OutOfMemoryError):
                    raise
                # The winner of the bucket refuses this call of it: the others are asked.
        self.name = _DECISIONS[key] = fastest(self.found, args, kwargs, MUTATES.get(self.op))
        return self.found[self.name](*args, **kwargs)


_DECISIONS: dict[tuple[Any, ...], str] = {}
_ADOPTED: dict[str, str] = {}


def decisions() -> dict[str, str]:
    """What the races of this process decided, and what it adopted, as plain text."""
    return _ADOPTED | {repr(key): name for key, name in _DECISIONS.items()}


def adopt(found: Mapping[str, str]) -> None:
    """Take over decisions of another process of the same sweep.

    A race costs seconds where a library compiles, and two candidates of equal speed would change
    places from process to process.
    """
    _ADOPTED.update(found)


def _bucket(op: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    first = args[0]
    shape = tuple(first.shape)
    if op == "attention_decode":
        rows, kv_heads = args[1].shape[1:3]
        return (first.dtype, *shape, length_bucket(rows), kv_heads)
    if op == "attention_prefill":
        return (first.dtype, shape[0], length_bucket(shape[1]), *shape[2:], args[1].shape[2])
    if len(shape) < 3 or op in ("selective_state_update", "causal_conv1d_update"):
        return (first.dtype, *shape)
    return (first.dtype, shape[0], length_bucket(shape[1]), *shape[2:])


class Ops:
    """The ops of one model: `ops["ssd_scan"]` is one `Op`, shared by all layers."""

    def __init__(self, device: torch.device, forced: Mapping[str, str] | None = None) -> None:
        self.device = device
        self.forced = dict(forced or {})
        self._ops: dict[str, Op] = {}
        for op in self.forced:
            if op not in PROVIDERS:
                raise ConfigError(f'providers: unknown op "{op}"{nearest(op, PROVIDERS)}')

    def __getitem__(self, op: str) -> Op:
        if op not in self._ops:
            self._ops[op] = Op(op, self.device, self.forced.get(op))
        return self._ops[op]

    def names(self) -> dict[str, str]:
        """Op -> provider of the latest call."""
        return {op: bound.name for op, bound in self._ops.items()}
