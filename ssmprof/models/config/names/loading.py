"""Published tensors -> our parameters, as their names say; imports torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ssmprof.errors import ConfigError
from ssmprof.models.config.names import Piece, Source, spellings


def assembled(source: Source, published: Mapping[str, Tensor]) -> Tensor:
    """One parameter of ours. Raises ConfigError where a tensor is missing."""
    pieces = [_piece(piece, published) for piece in source.pieces]
    whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    if source.transform == "neg_exp":
        return -whole.float().exp()
    return whole.squeeze(1) if source.transform == "squeeze" else whole


def _piece(piece: Piece, published: Mapping[str, Tensor]) -> Tensor:
    name = next((name for name in spellings(piece.name) if name in published), None)
    if name is None:
        raise ConfigError(f"{piece.name}: no tensor of this name")
    found = published[name]
    if piece.rows is not None:
        found = found[piece.rows[0] : piece.rows[1]]
    if piece.order:
        starts = range(0, len(found), len(piece.order))
        found = found[[start + row for start in starts for row in piece.order]]
    if piece.add == 0.0 and piece.scale == 1.0:
        return found
    return ((found.float() + piece.add) * piece.scale).to(found.dtype)
