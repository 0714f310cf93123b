"""What an implementation of a recurrence holds while it runs, counted and predicted."""

from __future__ import annotations

import math
from typing import Any

import make
import msgspec
import pytest
import torch
from models.test_peak import Alive
from ssmprof_kernels import launch
from ssmprof_kernels.launch import replay
from ssmprof_kernels.norm import reference as norm
from torch import Tensor

from ssmprof.mixers.delta.shape import Delta, GatedDelta, Kda
from ssmprof.mixers.linear_attention.shape import Gla, Lightning, RetNet
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.ops import Op
from ssmprof.mixers.part import MIB, Part
from ssmprof.mixers.rwkv7.shape import Rwkv7
from ssmprof.models.build import build, workload

HEADS = {"heads": 4, "key_dim": 128, "value_dim": 64}
RANKS = {"decay_rank": 4, "step_rank": 3, "gate_rank": 5}
PARTS: list[Part] = [
    Delta(**HEADS),
    GatedDelta(**HEADS),
    Kda(**HEADS, rank=8),
    GatedDelta(**HEADS, negative_eigenvalues=True),
    Kda(**HEADS, rank=8, negative_eigenvalues=True),
    Gla(**HEADS),
    RetNet(**HEADS),
    Lightning(**HEADS),
    Rwkv7(heads=4, head_dim=64, **RANKS),
    Mamba2(d_inner=512, d_state=64, headdim=64),
    Mamba2(d_inner=512, d_state=64, headdim=64, gated_norm=False),
    Mamba3(d_inner=512, d_state=64, headdim=64),
]
D_MODEL = 256


def held_bytes(part: Part, context: int, provider: str) -> tuple[int, Any]:
    """Most that one call of the part's recurrence held beside its inputs and outputs."""
    name = type(part).__struct_config__.tag
    spec = make.block(str(name), layers=str(name), d_model=D_MODEL, **{str(name): part})
    spec = msgspec.structs.replace(spec, providers={part.scan_op: provider})
    model = build(spec, "cpu", "bfloat16")
    point = make.point(spec.name, context, dtype="bfloat16", logits="none")
    load = workload(model, point)
    found: list[int] = []

    def look(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if op.op != part.scan_op:
            return
        alive = Alive()
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                alive.add(value)
        before = alive.now
        with alive:
            made = op.found[op.name](*args, **kwargs)
        outputs = made if isinstance(made, tuple) else (made,)
        found.append(alive.most - before - sum(x.untyped_storage().nbytes() for x in outputs))

    with model.ops.observed(look):
        load.call()
    return found[0], point


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.scan_op)
@pytest.mark.parametrize(("context", "close"), [(512, 0.3), (2500, 0.1)])
def test_a_plain_form_holds_a_span_whatever_the_length(
    part: Part, context: int, close: float, monkeypatch
):
    monkeypatch.setattr("ssmprof_kernels.reference.mamba3.CPU_CHUNKS", 4)  # as on a GPU
    held, point = held_bytes(part, context, "reference")
    predicted = part.workspace(D_MODEL, point, "plain")
    assert held == pytest.approx(predicted, rel=close, abs=MIB / 2)


def test_a_plain_norm_copies_neither_heads_nor_their_gate():
    """The gate of heads is a slice of a projection: joined with the tokens it would be copied."""
    heads, width, tokens = 4, 512, 8192
    y, gate = torch.ones(1, tokens, 3 * heads * width, dtype=torch.bfloat16).split(
        (heads * width, 2 * heads * width), dim=-1
    )
    gate = gate[..., : heads * width].unflatten(-1, (heads, width))
    y, weight = y.unflatten(-1, (heads, width)), torch.ones(width, dtype=torch.bfloat16)
    alive = Alive()
    for value in (y, gate, weight):
        alive.add(value)
    before = alive.now
    with alive:
        made = norm.gated_rmsnorm(y, weight, z=gate)
    pieces = 5 * 4 * norm.PIECE
    assert alive.most - before <= made.untyped_storage().nbytes() + pieces


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.scan_op)
def test_our_kernels_hold_what_their_chunks_hand_on(part: Part, monkeypatch):
    held: list[int] = []

    def reserved(recording: replay.Recording, tensors: Any, device: torch.device) -> None:
        """Counts what a call reserves, and launches nothing."""
        made = sum(math.prod(shape) * dtype.itemsize for shape, dtype in recording._extra)
        held.append(made + 4 * recording._scratch)

    monkeypatch.setattr(replay.Recording, "run", reserved)
    with launch.pretend(torch.device("cpu"), launch.DeviceFacts(90, 132, 227 * 1024, "H200")):
        launch.forget()
        _, point = held_bytes(part, 32_768, "ssmprof")
    launch.forget()
    predicted = part.workspace(D_MODEL, point, "kernels")
    # The states that begin segments are as many as fill the device.
    assert max(held) == pytest.approx(predicted, rel=0.1, abs=10 * MIB)
