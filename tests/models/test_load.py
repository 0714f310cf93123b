"""Weights that cannot be loaded say which and why; those that can are all taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import make
import pytest
import torch
from torch import Tensor

from ssmprof.errors import ConfigError
from ssmprof.models.build import build
from ssmprof.models.build.load import load
from ssmprof.models.build.model import Model
from ssmprof.models.config.names import Piece, Source, one

Names = dict[str, Source]
QKV = "stack.layers.0.parts.0.qkv_proj.weight"


def built() -> tuple[Model, Names, dict[str, Tensor]]:
    """A tiny model, and tensors that are published under its own names."""
    model = build(make.block("attention", vocab=50), "cpu", "float32")
    assert isinstance(model, Model)
    tensors = {name: torch.rand_like(value) for name, value in model.named_parameters()}
    return model, {name: one(name) for name in tensors}, tensors


def test_every_parameter_is_overwritten_and_what_is_left_is_named():
    model, names, tensors = built()
    assert load(model, {**tensors, "lm_head.weight": tensors["embedding.weight"]}, names) == [
        "lm_head.weight"
    ]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, tensors[name])


def test_a_weight_is_scaled_before_it_is_rounded():
    model = build(make.block("attention", vocab=50), "cpu", "bfloat16")
    tensors = {name: torch.rand_like(value) for name, value in model.named_parameters()}
    names = {name: one(name) for name in tensors} | {QKV: one(QKV, scale=0.3, add=1.0)}
    load(model, tensors, names)
    wanted = ((tensors[QKV].float() + 1.0) * 0.3).bfloat16()
    assert torch.equal(dict(model.named_parameters())[QKV], wanted)


def _without(names: Names, tensors: dict[str, Tensor]) -> None:
    del tensors[QKV]


def _transposed(names: Names, tensors: dict[str, Tensor]) -> None:
    tensors[QKV] = tensors[QKV].T


def _unnamed(names: Names, tensors: dict[str, Tensor]) -> None:
    del names[QKV]


def _stranger(names: Names, tensors: dict[str, Tensor]) -> None:
    names["stack.layers.9.norm.weight"] = one(QKV)


def _few_rows(names: Names, tensors: dict[str, Tensor]) -> None:
    names[QKV] = Source((Piece(QKV, rows=(0, 1000)),))


def _odd_blocks(names: Names, tensors: dict[str, Tensor]) -> None:
    names[QKV] = Source((Piece(QKV, order=tuple(range(7))),))


def _apart(names: Names, tensors: dict[str, Tensor]) -> None:
    names[QKV] = Source((Piece(QKV), Piece("norm.weight")))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without, f"{QKV}: {QKV}: no tensor of this name"),
        (_transposed, f"{QKV}: published as (64, 128), but the model has (128, 64)"),
        (_unnamed, f"{QKV} has no source among the published tensors"),
        (_stranger, "stack.layers.9.norm.weight has a source, but the model has no such"),
        (_few_rows, f"{QKV}: {QKV}: has 128 rows, not 1000"),
        (_odd_blocks, f"{QKV}: {QKV}: 128 rows are no blocks of 7"),
        (_apart, f"{QKV}: (128, 64) and (64,) cannot stand one below the other"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error(spoil: Callable[[Any, Any], None], message: str):
    model, names, tensors = built()
    spoil(names, tensors)
    with pytest.raises(ConfigError) as error:
        load(model, tensors, names)
    assert message in str(error.value)
