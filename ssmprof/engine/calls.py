"""What an iteration calls: a step of b sequences, and a chunk of a prompt; graphs on a GPU.

A graph is captured once for each batch and room of the caches, and for each place and size of a
chunk, before anything is served: servers do the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

import torch
from msgspec.structs import replace
from torch import Tensor

from ssmprof.engine.slots import Slots
from ssmprof.mixers.cache import StateCache
from ssmprof.mixers.ops import Choice
from ssmprof.mixers.state_update.ring import RING
from ssmprof.models.build import build
from ssmprof.models.build.model import Model
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Dtype, Logits, Phase

Call = Callable[[], object]


def served(
    recipe: Recipe, device: str, dtype: Dtype = "bfloat16", seed: int = 0, logits: Logits = "none"
) -> Model:
    """A block whose decode attention reads the length of each sequence, as a loop needs it."""
    reads = "ssmprof" if device == "cuda" else "reference"
    providers = {**recipe.providers, "attention_decode": reads, "latent_decode": reads}
    made = build(replace(recipe, providers=providers), device, dtype, seed, logits)
    assert isinstance(made, Model)
    return made


class Calls:
    """The calls of one model over its slots.

    `ids` are the newest tokens of the running sequences, or hidden states where the model has no
    vocabulary: then every step reads the same ones. `prompt` is what the chunks are read from.
    `providers` says who runs which op of each phase.
    """

    def __init__(
        self,
        model: Model,
        slots: Slots,
        providers: Mapping[Phase, Mapping[str, str]] | None = None,
    ) -> None:
        self.model, self.slots = model, slots
        self.graphs = model.device.type == "cuda"
        self.has_tokens = model.recipe.vocab is not None
        self.ids = model.example(slots.count, None)
        self.prompt = model.example(1, slots.rows)
        self.alone = model.new_cache(1, slots.rows)
        self._home = [one.ssm for one in self.alone.layers if isinstance(one, StateCache)]
        self.first = torch.zeros(1, dtype=torch.long, device=model.device)
        wanted = providers or {}
        self._reading = Choice(wanted.get("prefill"))
        # A ring belongs to one cache, and here each batch is a view of the same caches.
        steps = {op: who for op, who in (wanted.get("decode") or {}).items() if who != RING}
        self._stepping = Choice(steps)
        self._made: dict[tuple[int, ...], Call] = {}
        self._pool = torch.cuda.graph_pool_handle() if self.graphs else None

    def step(self, batch: int, rows: int) -> Call:
        """One token of each of the first `batch` sequences, all shorter than `rows` tokens."""
        key = (batch, self.room(rows))
        if key not in self._made:
            self._made[key] = self._ready(self._step(*key))
        return self._made[key]

    def chunk(self, done: int, tokens: int) -> Call:
        """The next tokens of the prompt, of which `done` are in the cache `alone`."""
        key = (done, tokens, 0)
        if key not in self._made:
            self._made[key] = self._ready(self._chunk(done, tokens), at=done)
        return self._made[key]

    def _choose(self, choice: Choice) -> None:
        if self.model.ops.choice is not choice:
            self.model.ops.choose(choice)

    def room(self, rows: int) -> int:
        """Rows in powers of two from 1,024 on: a kernel's grid follows from them."""
        return min(self.slots.rows, 1 << max(10, (rows - 1).bit_length()))

    def _step(self, batch: int, rows: int) -> Call:
        cache = self.slots.first(batch, rows)
        ids = self.ids[:batch]
        each, visible = self.slots.each[:batch], self.slots.visible[:batch]

        @torch.inference_mode()
        def call() -> None:
            self._choose(self._stepping)
            out = self.model.step(ids, cache)
            if self.has_tokens:
                ids.copy_(out.argmax(-1))
            each.add_(1)
            visible.add_(1)

        return call

    def _chunk(self, done: int, tokens: int) -> Call:
        part, cache = self.prompt[:, done : done + tokens], self.alone

        @torch.inference_mode()
        def call() -> None:
            self._choose(self._reading)
            cache.seek(done)
            out = self.model.prefill(part, cache)
            states = (one for one in cache.layers if isinstance(one, StateCache))
            for home, one in zip(self._home, states, strict=True):
                if one.ssm is not home:  # a scan makes a state of its own
                    home.copy_(one.ssm)
                    one.ssm = home
            if self.has_tokens:
                self.first.copy_(_newest(out))

        return call

    def _ready(self, call: Call, at: int = 0) -> Call:
        """The call itself, or the graph of it; the lengths are as before."""
        if not self.graphs:
            return call
        each, visible = self.slots.each.clone(), self.slots.visible.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            call()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        gc.disable()
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                call()
        finally:
            gc.enable()
        graph.replay()  # the first one uploads the graph, which nobody should wait for later
        with torch.inference_mode():
            self.slots.each.copy_(each)
            self.slots.visible.copy_(visible)
        return graph.replay


def _newest(out: Tensor) -> Tensor:
    """The likeliest token after the last one, (1)."""
    return out[:, -1].argmax(-1)
