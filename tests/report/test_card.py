"""The decision card: every number of it is one of the run's data, and no sentence stands twice."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from report import pages
from report.committed import COMMITTED
from ssmprof.analysis import Analysis, analyze
from ssmprof.analysis.decide.question import comparison
from ssmprof.models.cost import parameters
from ssmprof.records import Run
from ssmprof.report.build import build
from ssmprof.report.html import render
from ssmprof.report.page import Page
from ssmprof.store import folder

NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
CLOSE = 0.006  # three digits are printed


@pytest.fixture(scope="module", params=["rich", *COMMITTED])
def run(request: pytest.FixtureRequest) -> Run:
    return pages.rich() if request.param == "rich" else folder.load(COMMITTED[request.param])


@pytest.fixture(scope="module")
def analysis(run: Run) -> Analysis:
    return analyze(run)


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return build(run)


def tokens(text: str) -> list[float]:
    """Numbers as a reader reads them: `4K` is 4,096."""
    found: list[float] = []
    for match in NUMBER.finditer(text):
        suffix = text[match.end() : match.end() + 1]
        unit = {"K": 1024, "M": 1024**2}.get(suffix, 1)
        if text[match.end() : match.end() + 2] in ("Ki", "Mi"):
            unit = 1
        found.append(float(match[0].replace(",", "")) * unit)
    return found


def known(run: Run, analysis: Analysis) -> list[float]:
    """What the run's data hold, computed here from outcomes and answers alone."""
    found: list[float] = []
    for answer in analysis.answers:
        found += answer.tried
        for pair in answer.pairs:
            for point in pair.points:
                for value in (point.ratio, *point.interval):
                    found += [value, 1 / value]
        for one in (*answer.crossings, *(c for pair in answer.pairs for c in pair.crossings)):
            found += [end for end in (one.low_tokens, one.high_tokens) if end]
            found += [one.context_tokens] if one.context_tokens else []
        for standing in answer.standings:
            if standing.lead is not None:
                found += [standing.lead.ratio, *standing.lead.interval]
        for limit in answer.limits:
            found += tokens(limit.text)
        found.append(len(answer.crossings) - 2)
        found += [len(answer.limits) - shown for shown in range(4)]
    for block in run.scenario.blocks:
        found += [block.layer_count, block.d_model, parameters(block) / 1e6]  # type: ignore[union-attr]
        if block.slice is not None:  # type: ignore[union-attr]
            found += [block.slice.layers, block.slice.whole]  # type: ignore[union-attr]
    return found


def is_known(value: float, data: list[float]) -> bool:
    return any(abs(value - one) <= CLOSE * max(abs(one), 1e-9) for one in data if one is not None)


def test_every_number_of_the_card_is_one_of_the_data(
    run: Run, analysis: Analysis, page: Page
) -> None:
    card, data = page.decision, known(run, analysis)
    names = [*(block.name for block in run.scenario.blocks), "Mamba-1", "Mamba-2"]
    lines = [
        *card.contenders, *card.turns, *card.limits,
        *(line for ruling in card.rulings for line in ruling.lines),
        *(f"{one.number} {one.label}" for one in page.heroes[0].cards),
    ]  # fmt: skip
    numbers = 0
    for line in lines:
        for name in sorted(names, key=len, reverse=True):
            line = line.replace(name, "")
        line = re.sub(r"batch \d+|b\d+|bfloat16", "", line)
        for value in tokens(line):
            numbers += 1
            assert is_known(value, data), (line, value)
    assert numbers > 20


def test_software_and_device_are_those_of_the_run(run: Run, page: Page) -> None:
    machine = next(iter(run.environments.values()))
    assert page.decision.machine.startswith(machine.device)
    for value in (machine.torch, machine.triton, machine.driver):
        assert value is None or value in page.decision.machine


def test_the_comparison_is_of_kinds_and_of_the_best_of_each(run: Run, analysis: Analysis) -> None:
    kinds = {block.name: block.architecture for block in run.scenario.blocks}
    for answer in analysis.latencies:
        found = comparison(answer, run.scenario.blocks)
        if found is None or len(set(kinds.values())) == 1:
            continue
        assert kinds[found.base] != kinds[found.block]
        pair = answer.pair(found.base, found.block)
        assert pair is not None
        for gain in found.gains:
            point = pair.at(gain.context)
            assert point is not None
            expected = point.ratio if pair.block == found.base else 1 / point.ratio
            assert gain.ratio == pytest.approx(expected)
            assert gain.interval[0] <= gain.ratio <= gain.interval[1]


class Blocks(HTMLParser):
    """Text by the element that holds it, without scripts, figures and tables of numbers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("script", "style", "svg", "title")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style", "svg", "title")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(data)


def test_no_sentence_stands_twice(page: Page) -> None:
    said: Counter[str] = Counter()
    for text in Blocks(render(page, "0")).found:
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text.strip())
        said.update(one for one in sentences if len(one.split()) >= 7 and one.endswith("."))
    assert [one for one, count in said.items() if count > 1] == []
