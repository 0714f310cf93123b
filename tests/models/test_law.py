"""The memory law against the published peaks of SSM-Scope."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import pytest

from ssmprof.mixers.part import MIB
from ssmprof.models.law import PUBLISHED, LawModel, law_model, longest_context, peak_law
from ssmprof.models.zoo import preset

DATA = Path(__file__).parents[1] / "data" / "ssm_scope" / "peaks.csv"


def law(name: str) -> LawModel:
    return law_model(preset(name), PUBLISHED[name])


def published() -> list[tuple[str, int, float]]:
    with DATA.open(encoding="utf-8") as file:
        return [
            (row["model"], int(row["context"]), float(row["peak_mib"]))
            for row in csv.DictReader(file)
        ]


def test_every_published_peak_from_512_tokens_on_is_within_a_thousandth():
    rows = [row for row in published() if row[1] >= 512]
    assert len(rows) > 90
    for name, context, peak in rows:
        predicted = peak_law(law(name), context).peak_bytes / MIB
        assert predicted == pytest.approx(peak, rel=1e-3), (name, context)


def test_most_published_peaks_are_met_to_two_hundredths_of_a_mebibyte():
    misses = [
        abs(peak_law(law(name), context).peak_bytes / MIB - peak)
        for name, context, peak in published()
    ]
    assert sum(miss <= 0.02 for miss in misses) >= 73


def test_the_published_wall_of_qwen_is_a_mask_and_not_its_cache():
    last = peak_law(law("qwen2.5-0.5b"), 57_344)
    assert last.mask_bytes == 6 * 57_344**2
    before = peak_law(law("qwen2.5-0.5b"), 49_152)
    assert before.mask_bytes == 0
    assert before.logits_bytes > 20 * before.kv_bytes


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_longest_context_fits_and_one_token_more_does_not(name: str):
    model, capacity = law(name), 24 * 2**30
    longest = longest_context(model, capacity)
    assert peak_law(model, longest).peak_bytes <= capacity
    assert peak_law(model, longest + 1).peak_bytes > capacity


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_run_the_shapes_alone_are_within_a_mebibyte(name: str):
    told, found = law(name), law_model(preset(name))
    assert found.constant_mib == pytest.approx(told.constant_mib, abs=1.0)
    assert found.parameters == told.parameters


def test_layers_without_a_vocabulary_have_no_law():
    bare = msgspec.structs.replace(preset("mamba2-130m"), vocab=None)
    with pytest.raises(ValueError, match="have no logits"):
        law_model(bare)
