"""The reader's own workload: `ssmprof decide` and the page's script give the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssmprof.analysis import analyze
from ssmprof.analysis.decide import workload
from ssmprof.analysis.decide.workload import Workload
from ssmprof.cli import main
from ssmprof.errors import ConfigError
from ssmprof.records import Run
from ssmprof.report import write_report
from ssmprof.report.tables import render
from ssmprof.report.workload import table
from ssmprof.store import folder

CROSSOVER = "2026-11-22-crossover-h100-80gb-hbm3"
RUN = Path(__file__).parents[2] / "reports" / CROSSOVER
ASKED = (
    ("4K:70%,32K:30%", {4096: 0.7, 32768: 0.3}, 512, None, None, 2.0),
    ("1000:100%", {1000: 1.0}, 0, None, None, 1.0),
    ("2K:50%,16K:50%", {2048: 0.5, 16384: 0.5}, 64, 8.0, 1.5, 3.5),
)


@pytest.fixture(scope="module")
def run() -> Run:
    return folder.load(RUN)


@pytest.fixture(scope="module")
def page(run: Run, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(run, path)
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(path.as_uri())
    yield opened
    context.close()


def rows(page: Any) -> list[list[str]]:
    script = "[...document.querySelectorAll('#mine-table tbody tr')]"
    return page.evaluate(f"{script}.map(row => [...row.cells].map(cell => cell.textContent))")


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked[0])
def test_page_and_analysis_give_the_same_numbers(run: Run, page: Any, asked: Any) -> None:
    text, mix, answer, ttft_ms, memory_gib, price = asked
    for name, value in (
        ("mix", text), ("answer", answer), ("ttft", ttft_ms), ("memory", memory_gib),
        ("price", price),
    ):  # fmt: skip
        page.fill(f"#mine [name={name}]", "" if value is None else str(value))
    analysis = analyze(run, ("answers", "memory"))
    found = workload.phases(analysis.latencies)
    assert found is not None
    served = workload.serve(
        workload.curves(*found, analysis.memory),
        Workload(
            mix=mix, answer_tokens=answer, ttft_s=ttft_ms and ttft_ms / 1e3,
            memory_bytes=memory_gib and memory_gib * 2**30, price_per_hour=price,
        ),
    )  # fmt: skip
    assert [row[:5] for row in rows(page)] == [list(cells[:5]) for cells in table(served).cells()]
    assert [row[5] != "–" for row in rows(page)] == [one.out is not None for one in served]
    said = page.locator("#mine-said").inner_text()
    assert f"ssmprof decide RUN --mix {text} --answer {answer}" in said


def test_the_link_keeps_the_settings(page: Any) -> None:
    page.fill("#mine [name=mix]", "8K:100%")
    page.fill("#mine [name=answer]", "100")
    address, before = page.evaluate("location.href"), rows(page)
    again = page.context.new_page()
    again.goto(address)
    assert rows(again) == before
    again.close()


def test_the_page_refuses_a_mix_that_does_not_add_up(page: Any) -> None:
    page.fill("#mine [name=mix]", "4K:70%,32K:20%")
    assert "100 %" in page.locator("#mine-said").inner_text()


@pytest.mark.parametrize("mix", [{}, {4096: 0.9}, {4096: 1.2}, {4096: 1.5, 512: -0.5}])
def test_a_mix_that_does_not_add_up_is_refused(mix: dict[int, float]) -> None:
    with pytest.raises(ConfigError):
        workload.whole(mix)


def test_decide_prints_the_table_of_the_page(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["decide", str(RUN), "--mix", "4K:70%,32K:30%", "--answer", "512", "--price", "2"]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert ended.value.code in (0, 1)
    analysis = analyze(run, ("answers", "memory"))
    found = workload.phases(analysis.latencies)
    assert found is not None
    served = workload.serve(
        workload.curves(*found, analysis.memory),
        Workload(mix={4096: 0.7, 32768: 0.3}, answer_tokens=512, price_per_hour=2.0),
    )
    assert capsys.readouterr().out.startswith(render(table(served), "text"))


def test_who_is_ahead_for_certain_is_ahead_at_one_measured_length_as_the_answer_says(
    run: Run,
) -> None:
    analysis = analyze(run, ("answers", "memory"))
    found = workload.phases(analysis.latencies)
    assert found is not None
    prefill, decode = found
    known = workload.curves(prefill, decode, analysis.memory)
    for standing in prefill.standings:
        asked = Workload(mix={standing.context: 1.0})
        best, *others = [one.block for one in workload.serve(known, asked)]
        sure = all(workload.ahead(best, other, known, asked, prefill, decode) for other in others)
        assert sure == (standing.winners == (best,))
