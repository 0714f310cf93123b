"""The measured thing: embedding, stack, norm and head, or the layers alone where vocab is None.

`prefill` reads a prompt and `step` one token. Neither moves the cache's position (`cache.advance`
does), so a call can be captured and replayed for ever. Logits are asked for per call: none (layers
only), of the last token (what serving needs), or of all (what most published memory curves kept).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.mixers.building import Building
from ssmprof.mixers.cache import Cache, tensor_bytes
from ssmprof.mixers.ops import Ops
from ssmprof.mixers.weights import Weights
from ssmprof.models.build.stack import Stack, Stream, norm_of
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Logits
from ssmprof.scopes import scope

EMBEDDING_STD = 1.0


class Model(nn.Module):
    """A block of random weights, ready to be called. `logits` is the default of both phases."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        dtype: torch.dtype,
        seed: int = 0,
        logits: Logits = "none",
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.device = device
        self.dtype = dtype
        self.logits: Logits = logits
        self.ops = Ops(device, recipe.providers)
        if recipe.meta_tokens:
            raise ConfigError(
                f"{recipe.name}: learned tokens before the prompt (meta_tokens) cannot be run yet, "
                "only counted and planned"
            )
        weights = Weights(device, dtype, seed, layers=len(recipe.layers))
        building = Building(recipe.d_model, weights, self.ops, recipe.norm_eps)
        self.stack = Stack(recipe, building)
        self.embedding: nn.Linear | None = None
        self.head: nn.Linear | None = None
        self.embedding_norm: nn.Module | None = None
        if recipe.vocab is not None:
            # (vocab, d), as a lookup table and, tied, as the head.
            scale = EMBEDDING_STD if not recipe.tie_embeddings else 1.0
            self.embedding = weights.linear(recipe.d_model, recipe.vocab, scale=scale)
            self.head = self.embedding
            if not recipe.tie_embeddings:
                self.head = weights.linear(recipe.d_model, recipe.vocab, bias=recipe.head_bias)
            elif recipe.head_bias:
                self.head = weights.biased(self.embedding)
            if recipe.embedding_norm:
                self.embedding_norm = norm_of(recipe, building)
            self.norm = norm_of(recipe, building)

    @torch.inference_mode()
    def prefill(
        self, inputs: Tensor, cache: Cache | None = None, logits: Logits | None = None
    ) -> Tensor:
        """Token ids (B, L), or hidden states (B, L, d) without a vocabulary, from the cache's
        position on. Returns hidden states (B, L, d), or logits (B, 1 or L, vocab).
        """
        x, own = self._embed(inputs)
        wanted = self._wanted(logits)
        return self._finish(self.stack(x, cache, step=False, own=own), wanted)

    @torch.inference_mode()
    def step(self, inputs: Tensor, cache: Cache, logits: Logits | None = None) -> Tensor:
        """Token ids (B) or hidden states (B, d) -> hidden states (B, d) or logits (B, vocab).

        The new token's row is written and its state updated; the position stays.
        """
        x, own = self._embed(inputs)
        wanted = self._wanted(logits)
        stream = self.stack(x, cache, step=True, own=own)
        return self._finish(stream, "none" if wanted == "none" else "all")

    def _wanted(self, logits: Logits | None) -> Logits:
        wanted = self.logits if logits is None else logits
        if wanted != "none" and self.head is None:
            raise ConfigError(
                f'{self.recipe.name}: logits = "{wanted}" and no vocabulary',
                fix='set vocab, or logits = "none" (layers only)',
            )
        return wanted

    def _embed(self, inputs: Tensor) -> tuple[Tensor, bool]:
        if self.embedding is None:
            return inputs, False
        with scope("embedding", "embedding"):
            x = F.embedding(inputs, self.embedding.weight)
            if self.recipe.embedding_scale != 1.0:
                x *= self.recipe.embedding_scale
            if self.embedding_norm is not None:
                x = self.embedding_norm(x)
            return x, True

    def _finish(self, stream: Stream, wanted: Logits) -> Tensor:
        """Hidden states, or the logits of the last token or of all."""
        with scope("final"):
            if wanted == "none":
                return stream.summed()
            if wanted == "last":
                stream = stream.last_token()
            stream, normed = stream.normed(self.norm)
        assert self.head is not None
        recipe = self.recipe
        with scope("head"):
            logits = self.head(normed)
            if recipe.logits_scale != 1.0:
                logits *= recipe.logits_scale
            if recipe.logits_cap is not None:
                logits = logits.div_(recipe.logits_cap).tanh_().mul_(recipe.logits_cap)
            return logits

    @torch.inference_mode()
    def new_cache(self, batch: int, max_context: int) -> Cache:
        """An empty cache on the model's device."""
        return self.stack.new_cache(batch, max_context, self.device, self.dtype)

    def example(self, batch: int, tokens: int | None, seed: int = 0) -> Tensor:
        """Random input of `prefill` (tokens) or `step` (None): ids or hidden states."""
        shape = (batch,) if tokens is None else (batch, tokens)
        generator = torch.Generator(self.device).manual_seed(seed)
        if self.recipe.vocab is not None:
            return torch.randint(self.recipe.vocab, shape, device=self.device, generator=generator)
        size = (*shape, self.recipe.d_model)
        return torch.randn(size, device=self.device, dtype=self.dtype, generator=generator)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all parameters, a tied head once."""
        return sum(tensor_bytes(parameter) for parameter in self.parameters())

    def memory_anatomy(
        self, cache: Cache, batch: int, tokens: int, logits: Logits | None = None
    ) -> dict[str, int]:
        """Bytes by owner from shapes and dtypes: weights, kv, conv_state, ssm_state, logits."""
        rows = {"none": 0, "last": 1, "all": tokens}[self._wanted(logits)]
        size = torch.finfo(self.dtype).bits // 8
        return {
            "weights": self.weights_bytes,
            "kv": cache.kv_bytes,
            "conv_state": cache.conv_state_bytes,
            "ssm_state": cache.ssm_state_bytes,
            "logits": batch * rows * (self.recipe.vocab or 0) * size,
        }

    def providers(self) -> dict[str, str]:
        """Op -> name of the implementation that served its latest call."""
        return self.ops.names()
