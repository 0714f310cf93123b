"""When slices of models may be ranked without a word, and what is said where they may not."""

from __future__ import annotations

import make
import pytest
from msgspec.structs import replace

from ssmprof.analysis.decide.slices import unequal
from ssmprof.models.cost import parameters
from ssmprof.models.recipe import Recipe
from ssmprof.models.slicing import sliced
from ssmprof.spec import ForeignSpec, Subject


def cut(name: str, layers: int, whole: int, **changes: object) -> Recipe:
    return sliced(make.block(name, whole, **changes), layers)  # type: ignore[arg-type]


SAME = (cut("mamba2", 2, 8), replace(cut("mamba2", 2, 24), name="other@2"))


@pytest.mark.parametrize(
    "blocks",
    [
        SAME,
        (make.block("attention"), make.block("mamba2")),
        (make.block("attention"), ForeignSpec(name="f", factory="m:f")),
        (cut("mamba2", 2, 8),),
    ],
    ids=["one size", "written out", "foreign", "alone"],
)
def test_nothing_is_said_of_what_compares_or_is_no_slice(blocks: tuple[Subject, ...]) -> None:
    assert unequal(blocks) is None


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ((SAME[0], make.block("attention")), "mamba2@2 is 2 of 8 layers, attention is no slice"),
        (
            (ForeignSpec(name="f", factory="m:f"), SAME[0]),
            "f is no slice, mamba2@2 is 2 of 8",
        ),
        (
            (cut("attention", 1, 4), cut("mamba2", 2, 8)),  # one share of the layers
            "attention@1 is 1 of 4 layers, mamba2@2 is 2 of 8",
        ),
        (
            tuple(cut("mamba2", layers, 8) for layers in (1, 2, 3, 4, 5, 6)),
            "mamba2@1 is 1 of 8 layers, mamba2@2 is 2 of 8, mamba2@3 is 3 of 8, mamba2@4 is 4 of 8 "
            "and 2 more",
        ),
    ],
)
def test_who_is_what_stands_in_the_limit(blocks: tuple[Subject, ...], said: str) -> None:
    assert unequal(blocks) == f"{said}: what wins here need not win whole."


@pytest.mark.parametrize("vocab", [None, 50_000])
@pytest.mark.parametrize("wider", [128, 140, 160, 190])
def test_slices_are_of_one_size_by_their_layers_alone(wider: int, vocab: int | None) -> None:
    mlp = make.PARTS["mlp"]
    narrow = cut("attention", 4, 8, mlp=replace(mlp, d_ff=128))
    wide = cut("attention", 4, 16, mlp=replace(mlp, d_ff=wider))
    near = parameters(wide) / parameters(narrow) <= 1.1
    told = unequal((narrow, replace(wide, name="wide@4", vocab=vocab)))
    assert (told is None) == near
    assert near == (wider < 160)
