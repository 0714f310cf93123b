"""Padding of the last block, as advice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from serving.models import published

from ssmprof.analysis.findings import Advice
from ssmprof.cli import cli
from ssmprof.serving.padding import advice, padding
from ssmprof.store.folder import load

RUN = Path(__file__).parents[2] / "reports" / "2026-11-22-crossover-h100-80gb-hbm3"
HYBRIDS = ["interleaved", "parallel"]


def test_padding_at_a_median_prompt() -> None:
    found = padding(published("qwen3-next-80b-a3b"), 534, "your median prompt")
    assert found is not None
    assert "522 of 1,056 tokens of a block are padding at your median prompt" in found.finding
    assert padding(published("qwen3-next-80b-a3b"), 1_056, "x") is None
    assert padding(published("qwen3-next-80b-a3b"), 100_000, "x") is None
    assert padding(published("llama-3.1-8b"), 5, "x") is None
    assert padding(published("mamba2-2.7b"), 5, "x") is None


def test_advice_is_about_the_median_prompt_of_a_run() -> None:
    run = load(RUN)
    short = tuple(one for one in run.outcomes if one.point.context == 512)
    found = advice(replace(run, outcomes=short))
    assert [one.finding.partition(":")[0] for one in found] == HYBRIDS
    assert advice(replace(run, outcomes=())) == []


def test_advise_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [Advice(finding="padding", evidence="blocks")]
    monkeypatch.setattr("ssmprof.serving.padding.advice", lambda run: told)
    rows = json.loads(CliRunner().invoke(cli, ["advise", str(RUN), "--json"]).stdout)
    assert rows[-1] == {"finding": "padding", "at_most": None, "evidence": "blocks"}
