"""What a model that is not ours is fed with: token ids, or numbers of the shape that was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.spec import ForeignSpec, InputSize

Example = Callable[[int, int], Any]


def example_of(
    spec: ForeignSpec, module: nn.Module, device: torch.device, dtype: torch.dtype, seed: int
) -> Example:
    """Makes the input of a batch and a length. Raises ConfigError where its kind is not known."""
    if spec.input is not None:
        return _numbers(spec.input, device, dtype, seed)
    return _token_ids(spec, module, device, seed)


def _numbers(
    shape: Sequence[InputSize], device: torch.device, dtype: torch.dtype, seed: int
) -> Example:
    """Normal numbers of the model's own dtype."""

    def example(batch: int, context: int) -> Tensor:
        known = {"batch": batch, "length": context}
        sizes = [known[one] if isinstance(one, str) else one for one in shape]
        generator = torch.Generator(device).manual_seed(seed)
        return torch.randn(sizes, device=device, dtype=dtype, generator=generator)

    return example


def _token_ids(spec: ForeignSpec, module: nn.Module, device: torch.device, seed: int) -> Example:
    """Random ids below the size of the module's first embedding."""
    tables = [m.num_embeddings for m in module.modules() if isinstance(m, nn.Embedding)]
    if not tables:
        raise ConfigError(
            f"{spec.factory}: takes no token ids (it has no embedding)",
            fix="ssmprof trace with --input 1x{L}x256, the shape of its input; or return (module, "
            "example) with example(batch, context) -> input",
        )

    def example(batch: int, context: int) -> Tensor:
        generator = torch.Generator(device).manual_seed(seed)
        return torch.randint(tables[0], (batch, context), device=device, generator=generator)

    return example
