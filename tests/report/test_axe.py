"""axe-core finds no violation on any page: widths, themes, paper, everything unfolded.

axe-core (MPL-2.0) comes with the package `axe-playwright-python` of the extra `dev`; no wheel of
ours holds it. Needs Chromium, as `test_browser` does.
"""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from typing import Any

import pytest

from report import pages, surfaces
from report.committed import COMMITTED, page_of
from ssmprof.report import gallery, to_html

PAGES = ("rich", "surface", "gallery", *COMMITTED)
# Rules of WCAG 2.2 A and AA, and what axe-core calls best practice.
START = """() => { window.looked = new Promise((resolve) => setTimeout(() => resolve(
  axe.run(document, {resultTypes: ['violations']})))) }"""
FOUND = """async () => (await window.looked).violations
  .map((one) => [one.id, one.impact, one.nodes.length, one.nodes[0].html.slice(0, 160)])"""
UNFOLD = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"


@pytest.fixture(scope="module")
def axe() -> str:
    if find_spec("axe_playwright_python") is None:
        pytest.skip("no axe-core here: pip install axe-playwright-python (extra dev)")
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")


@pytest.fixture(scope="module", params=PAGES)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("page")
    if request.param == "gallery":
        runs = [("one", pages.rich()), ("two", pages.rich())]
        gallery.write(runs, target, "1")
        return (target / "index.html").as_uri()
    made = {"rich": pages.rich, "surface": surfaces.planted}.get(request.param)
    text = to_html(made()) if made else page_of(request.param)
    (target / "report.html").write_text(text, encoding="utf-8")
    return (target / "report.html").as_uri()


def violations(axe: str, *opened: Any) -> list[Any]:
    """Violations on each page; all are looked at side by side, each in a process of its own."""
    for page in opened:
        page.evaluate(axe)
        page.evaluate(START)
    return [page.evaluate(FOUND) for page in opened]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_a_page_has_no_violation_in_either_theme(
    browser: Any, address: str, axe: str, width: int
) -> None:
    contexts = [
        browser.new_context(
            offline=True, viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        for scheme in ("light", "dark")
    ]
    opened = [context.new_page() for context in contexts]
    for page in opened:
        page.goto(address)
        page.evaluate(UNFOLD)
    light, dark = violations(axe, *opened)
    assert light == []
    assert dark == []
    for page in opened:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for context in contexts:
        context.close()


def test_paper_has_no_violation(browser: Any, address: str, axe: str) -> None:
    context = browser.new_context(offline=True, viewport={"width": 703, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.emulate_media(media="print")
    assert violations(axe, page) == [[]]
    context.close()
