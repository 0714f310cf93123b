"""The page on a phone, a tablet, a desktop and paper: nothing cut, page one decides, six pages.

Needs Chromium, as `test_browser` does, and looks at the runs that come along, too.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from report import pages
from report.committed import COMMITTED, page_of
from ssmprof.report import to_html

MOST_PAGES = 6
# Figures wider than the box they stand in.
CUT = """() => [...document.querySelectorAll('.chart')]
  .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.ariaLabel)"""
# Text of figures that reaches beyond them, and is not seen there.
OUTSIDE = """() => [...document.querySelectorAll('svg[viewBox] text')].filter((text) => {
  const mine = text.getBoundingClientRect();
  const own = text.ownerSVGElement.getBoundingClientRect();
  return mine.width && (mine.right > own.right + 1 || mine.left < own.left - 1);
}).map((text) => text.textContent)"""
# Text of figures in pixels of the screen: the smallest.
SMALLEST = """() => Math.min(...[...document.querySelectorAll('svg text')].map((text) => {
  const svg = text.ownerSVGElement;
  const size = parseFloat(getComputedStyle(text).fontSize);
  return size * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
}))"""
# What stands on the right half of a desktop's page, as a share of its height.
RIGHT = """() => {
  const main = document.querySelector('main').getBoundingClientRect();
  const middle = main.left + main.width / 2;
  const spans = [...document.querySelectorAll('main :is(p, table, svg, figcaption, dl, li)')]
    .map((node) => node.getBoundingClientRect())
    .filter((box) => box.height && box.right > middle + main.width / 6);
  const rows = new Set();
  for (const { top, bottom } of spans)
    for (let y = top; y < bottom; y += 10) rows.add(Math.round(y / 10));
  return rows.size * 10 / main.height;
}"""


@pytest.fixture(scope="module", params=["rich", *COMMITTED])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    text = to_html(pages.rich()) if request.param == "rich" else page_of(request.param)
    target = tmp_path_factory.mktemp("page") / "report.html"
    target.write_text(text, encoding="utf-8")
    return target.as_uri()


def opened(browser: Any, address: str, width: int, **how: Any) -> Any:
    page = browser.new_context(
        offline=True, viewport={"width": width, "height": 900}, **how
    ).new_page()
    page.goto(address)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_page_scrolls_sideways_and_no_figure_is_cut(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    page = opened(browser, address, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT) == []
    assert page.evaluate(OUTSIDE) == []
    page.context.close()


def test_figures_can_be_read_on_a_phone(browser: Any, address: str) -> None:
    page = opened(browser, address, 390)
    assert page.evaluate(SMALLEST) >= 9
    page.context.close()


def test_words_in_tables_are_stacked_on_a_phone(browser: Any, address: str) -> None:
    page = opened(browser, address, 390)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert page.locator(".stack").count() > 2
    wide = "node => node.parentElement.scrollWidth > node.parentElement.clientWidth + 1"
    assert not page.locator(".stack").evaluate_all(f"found => found.some({wide})")
    page.context.close()


def test_the_right_of_a_desktop_is_used(browser: Any, address: str) -> None:
    page = opened(browser, address, 1280)
    assert page.evaluate(RIGHT) > 0.6
    page.context.close()


def test_paper_is_light_short_and_its_first_page_decides(browser: Any, address: str) -> None:
    page = opened(browser, address, 1280, color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    data = page.pdf(format="A4", prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page[^s]", data)) <= MOST_PAGES
    page.set_viewport_size({"width": 703, "height": 900})  # A4 without its margins
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#decision").bounding_box()["height"] <= 1000
    assert page.locator("details:visible").count() == 0
    page.context.close()
