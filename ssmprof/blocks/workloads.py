"""One point as a callable that can be run, captured in a CUDA graph and replayed for ever.

Prefill reads `context` tokens into the same static cache at each call; decode reads one token
against a cache that holds `context` tokens of finite random values, always at the same position.
States are overwritten in place and stay finite, since every decay is below one. A call allocates
nothing but activations and does not wait for the device.

Decode does not rotate state buffers by itself: a caller that times it cold flushes the L2 cache
before each call, which evicts the state as the other layers of a deep model would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ssmprof.blocks import foreign
from ssmprof.blocks.foreign import ForeignModel
from ssmprof.blocks.model import Model
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

    @property
    def cache_bytes(self) -> int:
        """What a sequence must keep between tokens."""
        return self.kv_bytes + self.conv_state_bytes + self.ssm_state_bytes

    def providers(self) -> dict[str, str]:
        """Op -> implementation of the latest call; ask after the warm-up."""
        return self._providers()

    def release(self) -> None:
        """Drop inputs and cache, so that the next workload finds their memory free."""
        self.held.clear()
        self.call = _released


def _released() -> Tensor:
    raise RuntimeError("this workload was released")


def workload(model: Model | ForeignModel, point: Point) -> Workload:
    """The call of `point` on a built block; its cache is allocated here, before any timing."""
    return _foreign(model, point) if isinstance(model, ForeignModel) else _ours(model, point)


def _ours(model: Model, point: Point) -> Workload:
    tokens = 1 if point.phase == "decode" else point.context
    rows = point.context + (1 if point.phase == "decode" else 0)
    cache = model.new_cache(point.batch, rows)
    logits = point.logits
    if point.phase == "prefill":
        inputs = model.example(point.batch, point.context, point.seed)

        def call() -> Tensor:
            return model.prefill(inputs, cache, logits)
    else:
        inputs = model.example(point.batch, None, point.seed)
        cache.randomize(torch.Generator(model.device).manual_seed(point.seed))
        cache.seek(point.context)

        def call() -> Tensor:
            return model.step(inputs, cache, logits)

    anatomy = model.memory_anatomy(cache, point.batch, tokens, logits)
    return Workload(
        point=point,
        call=call,
        weights_bytes=anatomy["weights"],
        kv_bytes=anatomy["kv"],
        conv_state_bytes=anatomy["conv_state"],
        ssm_state_bytes=anatomy["ssm_state"],
        logits_bytes=anatomy["logits"],
        _providers=model.providers,
        held=[inputs, cache],
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
