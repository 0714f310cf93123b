"""Published weights into a model of ours: every parameter, or one error that says which is not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssmprof.errors import ConfigError
from ssmprof.models.config.names import Piece, Source, spelled


@torch.no_grad()
def load(model: nn.Module, tensors: Mapping[str, Tensor], names: Mapping[str, Source]) -> list[str]:
    """Overwrite every parameter of `model`, and buffers, with what `names` says they are made of.

    Returns the names of tensors that nothing was made of (a tied head that was written twice).
    Raises ConfigError where a parameter has no source, a source no parameter, a tensor is missing
    or a shape does not fit; parameters before the one named are overwritten by then.
    """
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in names}
    parameters = dict(model.named_parameters()) | buffers
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


def assembled(source: Source, published: Mapping[str, Tensor]) -> Tensor:
    """One parameter of ours. Raises ConfigError where a tensor is missing or does not fit."""
    pieces = [_piece(piece, published) for piece in source.pieces]
    if len({piece.shape[1:] for piece in pieces}) > 1:
        shapes = " and ".join(str(tuple(piece.shape)) for piece in pieces)
        raise ConfigError(f"{shapes} cannot stand one below the other")
    whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    if source.matrices:
        if len(whole) % source.matrices:
            raise ConfigError(f"{len(whole)} rows are no {source.matrices} equal parts")
        whole = whole.unflatten(0, (source.matrices, -1))
    if source.transform == "neg_exp":
        return -whole.float().exp()
    if source.transform == "flatten":
        return whole.flatten()
    if source.transform.startswith("halves"):
        whole = torch.cat((whole[..., ::2], whole[..., 1::2]), -1)
    if source.transform.endswith("transpose"):
        return whole.transpose(-1, -2)
    return whole.squeeze(1) if source.transform == "squeeze" else whole


def _piece(piece: Piece, published: Mapping[str, Tensor]) -> Tensor:
    name = spelled(piece.name, published)
    if name not in published:
        raise ConfigError(f"{piece.name}: no tensor of this name")
    found = published[name]
    if piece.rows is not None:
        if piece.rows[1] > len(found):
            raise ConfigError(f"{name}: has {len(found)} rows, not {piece.rows[1]}")
        found = found[piece.rows[0] : piece.rows[1]]
    if piece.order:
        if len(found) % len(piece.order):
            raise ConfigError(f"{name}: {len(found)} rows are no blocks of {len(piece.order)}")
        found = found.unflatten(0, (-1, len(piece.order)))[:, list(piece.order)].flatten(0, 1)
    if piece.add == 0.0 and piece.scale == 1.0:
        return found
    return ((found.float() + piece.add) * piece.scale).to(found.dtype)
