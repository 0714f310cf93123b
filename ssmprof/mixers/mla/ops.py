"""Who norms and turns what goes into the cache of latents, and who lets one token look at it: calls
of torch, or our kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssmprof.mixers.finding import Ours, Plain
from ssmprof.mixers.ops import Candidates


def _by_lengths(
    kernel: Callable[..., Tensor], q: Tensor, latents: Tensor, lengths: Tensor, rows: int, **o: Any
) -> Tensor:
    """Lengths are read on the device: each sequence may have its own, and a graph stays valid as
    they grow."""
    return kernel(q, latents, lengths, **o)


def _by_rows(
    call: Callable[..., Tensor], q: Tensor, latents: Tensor, lengths: Tensor, rows: int, **o: Any
) -> Tensor:
    """Torch multiplies no more rows than there are, as many of each sequence."""
    return call(q, latents[:, :rows], **o)


OPS = {
    # It writes the same rows of a cache again; queries are turned in place.
    "latent_rotary": Candidates(
        "rope",
        {
            "ssmprof": Ours("latent", "latent_rotary"),
            "torch": Plain("reference.latent", "latent_rotary"),
        },
        mutates=0,
    ),
    "latent_decode": Candidates(
        "attention",
        {
            # Of all 128 heads of DeepSeek-V3 torch's products are faster, of few heads our kernel.
            "torch": Plain("reference.latent", "latent_decode", _by_rows),
            "ssmprof": Ours("latent", "latent_decode", _by_lengths),
            "reference": Plain("reference.latent", "latent_decode", _by_lengths),
        },
        last=frozenset({"reference"}),
    ),
}
