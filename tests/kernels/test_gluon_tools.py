"""The lane sum of the Gluon scan, its assembly walked over 32 lanes on the CPU."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from ssmprof_kernels import launch
from ssmprof_kernels.device.gluon_tools import transposing_constraints, transposing_sum

LANE = np.arange(32)


def walk(code: str, inputs: np.ndarray) -> np.ndarray:
    """Run the assembly on (values, 32 lanes); returns the outputs, one row per operand."""
    count = len(inputs)
    registers: dict[str, Any] = {f"${count + i}": inputs[i] for i in range(count)}
    registers["%laneid"] = LANE
    for statement in re.split(r"[;\n]", code.strip("{} \n")):
        words = re.findall(r"[^\s,]+", statement)
        if not words or words[0].startswith(".reg"):
            continue
        name, target, *operands = words
        a, *rest = [registers[w] if w in registers else float(w) for w in operands]
        if name in ("mov.u32", "mov.b32"):
            value = a * np.ones(32)
        elif name == "and.b32":
            value = np.asarray(a, int) & int(rest[0])
        elif name == "setp.ne.b32":
            value = np.asarray(a) != rest[0]
        elif name == "selp.b32":
            value = np.where(rest[1], a, rest[0])
        elif name == "shfl.sync.bfly.b32":
            value = np.asarray(a)[LANE ^ int(rest[0])]
        else:
            assert name == "add.f32", name
            value = a + rest[0]
        registers[target] = value
    return np.stack([registers[f"${i}"] for i in range(count)])


@pytest.mark.parametrize(("tokens", "lanes"), [(8, 8), (16, 8), (16, 16), (8, 4), (8, 2), (32, 32)])
def test_each_lane_ends_with_the_sums_of_its_own_tokens(tokens: int, lanes: int) -> None:
    values = np.random.default_rng(1).normal(size=(tokens, 32))
    out = walk(transposing_sum.fn(tokens, lanes), values)  # type: ignore[attr-defined]
    sums = values.reshape(tokens, 32 // lanes, lanes).sum(-1)
    for lane in range(32):
        for k in range(tokens // lanes):
            want = sums[k * lanes + lane % lanes, lane // lanes]
            assert out[k, lane] == pytest.approx(want)


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_the_sum_takes_one_shuffle_less_than_tokens_per_group(lanes: int) -> None:
    code = transposing_sum.fn(2 * lanes, lanes)  # type: ignore[attr-defined]
    assert code.count("shfl.sync") == 2 * (lanes - 1)
    assert transposing_constraints.fn(3) == "=f,=f,=f,f,f,f"  # type: ignore[attr-defined]


def test_every_shipped_gluon_configuration_is_one_the_kernel_takes() -> None:
    for path in sorted(launch.SHIPPED.glob("sm_*.json")):
        for name, entry in json.loads(path.read_text()).get("selective_scan", {}).items():
            meta = entry["meta"]
            states = int(name.split("-")[1].removeprefix("n"))
            assert states % meta["LANES"] == 0, name
            if meta.get("GLUON"):
                assert meta["BLOCK_T"] % max(4, meta["LANES"]) == 0, name
                assert meta["AHEAD"] % 4 == 0, name
