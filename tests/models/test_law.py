"""The memory law against the published peaks of SSM-Scope."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ssmprof.errors import ConfigError
from ssmprof.models.law import LAW_MODELS, law_model, longest_context, peak_law

DATA = Path(__file__).parents[1] / "data" / "ssm_scope" / "peaks.csv"
MIB = 2**20


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
        predicted = peak_law(law_model(name), context).peak_bytes / MIB
        assert predicted == pytest.approx(peak, rel=1e-3), (name, context)


def test_most_published_peaks_are_met_to_two_hundredths_of_a_mebibyte():
    misses = [
        abs(peak_law(law_model(name), context).peak_bytes / MIB - peak)
        for name, context, peak in published()
    ]
    assert sum(miss <= 0.02 for miss in misses) >= 73


def test_the_published_wall_of_qwen_is_a_mask_and_not_its_cache():
    last = peak_law(law_model("qwen2.5-0.5b"), 57_344)
    assert last.mask_bytes == 6 * 57_344**2
    before = peak_law(law_model("qwen2.5-0.5b"), 49_152)
    assert before.mask_bytes == 0
    assert before.logits_bytes > 20 * before.kv_bytes


@pytest.mark.parametrize("name", LAW_MODELS)
def test_the_longest_context_fits_and_one_token_more_does_not(name: str):
    model, capacity = LAW_MODELS[name], 24 * 2**30
    longest = longest_context(model, capacity)
    assert peak_law(model, longest).peak_bytes <= capacity
    assert peak_law(model, longest + 1).peak_bytes > capacity


def test_an_unknown_model_is_answered_with_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r'did you mean "mamba2-780m"'):
        law_model("mamba2-780")
