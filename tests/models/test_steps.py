"""What a plain form launches, held against the ops that torch runs for it on a CPU.

Forms that a run on a GPU has counted are held against it (`tests/planning/test_calls.py`): a GPU
launches a few more, for copies and fills within an op.
"""

from __future__ import annotations

from typing import Any

import make
import msgspec
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.ops import Op
from ssmprof.mixers.part import Part
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.models.build import build, workload

# They make a tensor and compute nothing, or look at one otherwise.
NOTHING = ("empty", "detach", "_unsafe_view", "_reshape_alias", "new_empty")
PADDED = "constant_pad_nd"  # a fill and a copy
PARTS: list[tuple[Part, str]] = [
    (Mamba2(d_inner=128, d_state=16, headdim=32), "ssd_scan"),
    (Mlstm(heads=2, key_dim=16, value_dim=32), "mlstm_scan"),
    (RgLru(width=64, heads=2), "rglru_scan"),
]


class Launched(TorchDispatchMode):
    """Counts the ops that compute."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.split("::")[1]
        if not func.is_view and not name.startswith(NOTHING):
            self.count += 2 if name == PADDED else 1
        return func(*args, **(kwargs or {}))


def launched(part: Part, op: str, context: int) -> tuple[int, Any]:
    """Ops of one call of the recurrence, and its point."""
    name = str(type(part).__struct_config__.tag)
    spec = make.block(name, layers=name, **{name: part})
    spec = msgspec.structs.replace(spec, providers={op: "reference"})
    point = make.point(name, context)
    model = build(spec, "cpu", "float32")
    load = workload(model, point)
    found: list[int] = []

    def look(seen: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if seen.op == op:
            with Launched() as ops:
                seen.found[seen.name](*args, **kwargs)
            found.append(ops.count)

    with model.ops.observed(look):
        load.call()
    return found[0], point


@pytest.mark.parametrize(("part", "op"), PARTS, ids=lambda one: one if isinstance(one, str) else "")
def test_a_plain_form_launches_so_much_for_each_span(part: Part, op: str, monkeypatch) -> None:
    monkeypatch.setattr("ssmprof_kernels.reference.mlstm.CPU_CHUNKS", 4)  # as on a GPU
    shorter, longer = (launched(part, op, context) for context in (1024, 3072))
    said = [part.steps(point, "plain").launches for _, point in (shorter, longer)]
    assert said[1] - said[0] == pytest.approx(longer[0] - shorter[0], rel=0.02)
