"""One point as a callable that can be run, captured in a CUDA graph and replayed for ever.

Prefill reads `context` tokens into the same static cache at each call; a chunk of a prompt, and the
token of a decode step, are read against a cache that holds the tokens before as finite random
values, always at the same position.
States are overwritten in place and stay finite, since every decay is below one. A call allocates
nothing but activations and does not wait for the device.

Decode does not rotate state buffers by itself: a caller that times it cold flushes the L2 cache
before each call, which evicts the state as the other layers of a deep model would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ssmprof.mixers.ops import Choice
from ssmprof.models.build import foreign
from ssmprof.models.build.foreign import ForeignModel
from ssmprof.models.build.model import Model
from ssmprof.records import Point


@dataclass
class Workload:
    """A call to measure. Bytes by owner are exact (shapes and dtypes), not measured."""

    point: Point
    call: Callable[[], Tensor]
    weights_bytes: int
    kv_bytes: int
    conv_state_bytes: int
    ssm_state_bytes: int
    logits_bytes: int
    _providers: Callable[[], dict[str, str]]
    held: list[object] = field(default_factory=list)
    module: nn.Module | None = None  # of a foreign model, whose submodules name its parts
    choice: Choice = field(default_factory=Choice)
    _bind: Callable[[Choice], Callable[[], Tensor]] | None = None

    @property
    def cache_bytes(self) -> int:
        """What a sequence must keep between tokens."""
        return self.kv_bytes + self.conv_state_bytes + self.ssm_state_bytes

    def providers(self) -> dict[str, str]:
        """Op -> implementation of the latest call; ask after the warm-up."""
        return self._providers()

    def with_providers(self, wanted: Mapping[str, str]) -> Workload:
        """The same call on the same inputs and cache, its ops run by others: op -> provider.

        Both write the same cache, so only one of them may run at a time; release both.
        """
        if self._bind is None:
            raise ValueError(f"{self.point.block}: the ops of a model that is not ours are its own")
        choice = Choice(wanted)
        return replace(self, choice=choice, call=self._bind(choice))

    def release(self) -> None:
        """Drop inputs and cache, so that the next workload finds their memory free."""
        self.held.clear()
        self.call, self._bind = _released, None


def _released() -> Tensor:
    raise RuntimeError("this workload was released")


def workload(
    model: Model | ForeignModel, point: Point, providers: Mapping[str, str] | None = None
) -> Workload:
    """The call of `point` on a built block; its cache is allocated here, before any timing.

    `providers` says who runs which op (those a spec forces stay). One that refuses the call gives
    way to the next, and `choice.fallbacks` of the workload says so.
    """
    if isinstance(model, ForeignModel):
        return _foreign(model, point)
    return _ours(model, point, Choice(providers))


def _ours(model: Model, point: Point, choice: Choice) -> Workload:
    tokens = point.tokens
    rows = point.context + (1 if point.phase == "decode" else 0)
    # Who runs the steps decides what a cache holds.
    model.ops.choose(choice)
    cache = model.new_cache(point.batch, rows)
    logits = point.logits
    if point.phase == "prefill":
        inputs = model.example(point.batch, tokens, point.seed)
        run = model.prefill
    else:
        inputs = model.example(point.batch, None, point.seed)
        run = model.step
    if point.past:
        cache.randomize(torch.Generator(model.device).manual_seed(point.seed))
        cache.seek(point.past)

    def bind(wanted: Choice) -> Callable[[], Tensor]:
        def call() -> Tensor:
            if model.ops.choice is not wanted:
                model.ops.choose(wanted)
            return run(inputs, cache, logits)

        return call

    anatomy = model.memory_anatomy(cache, point.batch, tokens, logits)
    return Workload(
        point=point,
        call=bind(choice),
        weights_bytes=anatomy["weights"],
        kv_bytes=anatomy["kv"],
        conv_state_bytes=anatomy["conv_state"],
        ssm_state_bytes=anatomy["ssm_state"],
        logits_bytes=anatomy["logits"],
        _providers=model.providers,
        held=[inputs, cache],
        choice=choice,
        _bind=bind,
    )


def _foreign(model: ForeignModel, point: Point) -> Workload:
    call = foreign.prepare(model, point)
    kept = foreign.cache_bytes(call.cache)
    return Workload(
        point=point,
        call=call.run,
        weights_bytes=model.weights_bytes,
        kv_bytes=kept["kv"],
        conv_state_bytes=kept["conv_state"],
        ssm_state_bytes=kept["ssm_state"],
        logits_bytes=call.logits_bytes,
        _providers=model.providers,
        held=call.held,
        module=model.module,
    )
