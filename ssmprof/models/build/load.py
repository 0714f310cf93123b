"""Published weights into a model of ours: every parameter, or one error that says which is not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.models.config.names import Source, spelled
from ssmprof.models.config.names.loading import assembled


@torch.no_grad()
def load(model: nn.Module, tensors: Mapping[str, Tensor], names: Mapping[str, Source]) -> list[str]:
    """Overwrite every parameter of `model` with what `names` says it is made of.

    Returns the names of tensors that nothing was made of (a tied head that was written twice).
    Raises ConfigError where a parameter has no source, a source no parameter, a tensor is missing
    or a shape does not fit; parameters before the one named are overwritten by then.
    """
    parameters = dict(model.named_parameters())
    for name in names:
        if name not in parameters:
            raise ConfigError(f"weights: {name} has a source, but the model has no such parameter")
    used: set[str] = set()
    for name, parameter in parameters.items():
        if name not in names:
            raise ConfigError(f"weights: {name} has no source among the published tensors")
        try:
            found = assembled(names[name], tensors)
        except ConfigError as error:
            raise ConfigError(f"weights: {name}: {error.what}") from None
        if found.shape != parameter.shape:
            told = f"{tuple(found.shape)}, but the model has {tuple(parameter.shape)}"
            raise ConfigError(f"weights: {name}: published as {told}")
        parameter.copy_(found)
        used |= {spelled(piece.name, tensors) for piece in names[name].pieces}
    return [name for name in tensors if name not in used]
