"""Records are strict, finite, and named the same on every machine and in every release."""

from __future__ import annotations

import msgspec
import pytest

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.records import (
    Calibration,
    Environment,
    Failure,
    Measurement,
    Outcome,
    Point,
    Prefill,
    encode,
    median,
)
from ssmprof.scalars import digest
from ssmprof.work import Cost

POINT = Point(block="mamba2", block_digest="0123456789ab", workload=Prefill(context=8192))


def test_a_point_keeps_its_key_from_release_to_release() -> None:
    assert POINT.key == "cdcdb02559d5"
    assert msgspec.structs.replace(POINT, execution="eager").key == "2aa58a3d91e0"


def test_a_field_at_its_default_does_not_change_a_key() -> None:
    spelled_out = Point(
        block="mamba2", block_digest="0123456789ab", workload=Prefill(context=8192), batch=1,
        dtype="bfloat16", seed=0, execution="graph", logits="none",
    )  # fmt: skip
    assert spelled_out.key == POINT.key


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_measurement(value: float) -> None:
    with pytest.raises(ValueError, match="is not a measurement"):
        Cost(flops=value, read_bytes=1, written_bytes=1, exps=0)
    with pytest.raises(ValueError, match="times_s"):
        Measurement(
            point=POINT,
            round=0,
            environment="e",
            times_s=(1.0, value),
            timer="wall-clock",
            cold_s=1,
        )


def test_an_outcome_is_one_of_two_and_reads_back_as_it_was() -> None:
    done = Measurement(
        point=POINT, round=1, environment="e", times_s=(1.0, 3.0), timer="wall-clock", cold_s=0.5
    )
    dead = Failure(point=POINT, round=1, environment="e", reason="crash", detail="signal 11")
    for outcome in (done, dead):
        assert msgspec.json.decode(encode(outcome), type=Outcome) == outcome
    assert done.time_s == 2.0
    assert done.key == dead.key == f"{POINT.key}-1"


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(
            b'{"flops":1,"read_bytes":1,"written_bytes":1,"exps":0,"x":1}', type=Cost
        )


def test_the_fingerprint_of_a_machine_ignores_what_was_calibrated() -> None:
    bare = Environment(device="x", kind="cpu", ssmprof="0", python="3", platform="p")
    calibrated = msgspec.structs.replace(bare, calibration=Calibration(repeat_noise=0.01))
    assert bare.fingerprint == calibrated.fingerprint
    assert bare.fingerprint != msgspec.structs.replace(bare, torch="2.13").fingerprint


def test_median_of_even_and_odd_and_nothing() -> None:
    assert median([3, 1, 2]) == 2
    assert median([4, 1, 2, 3]) == 2.5
    with pytest.raises(ValueError, match="nothing"):
        median([])


def block(layers: str, depth: int = 3) -> Recipe:
    parts: dict[str, Part] = {
        "attention": Attention(heads=4, kv_heads=2, head_dim=16),
        "mamba2": Mamba2(d_inner=128, d_state=16),
        "mlp": Mlp(d_ff=128),
    }
    return recipe("b", 64, f"({layers})*{depth}", parts)


@pytest.mark.parametrize(
    ("layers", "architecture"),
    [
        ("attention mlp", "transformer"),
        ("mamba2", "ssm"),
        ("mamba2 mlp attention mlp", "hybrid"),
        ("[attention mamba2] mlp", "hybrid"),
    ],
)
def test_layers_say_what_kind_of_contender_it_is(layers: str, architecture: str) -> None:
    assert block(layers).architecture == architecture


def test_side_by_side_sublayers_count_as_what_they_are() -> None:
    spec = block("[attention mamba2] mlp")
    assert [spec.count(name) for name in ("attention", "mamba2", "mlp", "mamba1")] == [3, 3, 3, 0]


def test_a_digest_changes_with_every_size() -> None:
    spec = block("mamba2")
    assert digest(spec) != digest(block("mamba2", depth=4))
    assert digest(spec) == digest(block("mamba2"))
