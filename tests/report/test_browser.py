"""The page in a real browser: offline, without scripts, by keyboard; `test_layout` has its layout.

Needs Chromium (SSMPROF_CHROMIUM, or `chromium` on the PATH); playwright brings none of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report import pages
from ssmprof.report import write_report
from ssmprof.report.again import load_any
from ssmprof.report.embed import decoded

# Contrast of text, ids, names of controls: what axe-core would say first, without a download.
SAYS_NOTHING = """() => [...document.querySelectorAll('button:not([hidden]), a, select')]
  .filter(e => !(e.textContent || '').trim() && !e.getAttribute('aria-label')).length"""

# Text of the page against the nearest ground that is painted: (contrast, text) below 4.5. Figures
# are looked at in test_theme, since their text may stand on a shape.
TOO_FAINT = """() => {
  const light = (css) => {
    const [r, g, b] = css.match(/[\\d.]+/g).slice(0, 3).map((n) => n / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const css = getComputedStyle(node).backgroundColor;
      if (!/^rgba.*, 0\\)$/.test(css)) return css;
    }
    return 'rgb(255, 255, 255)';
  };
  document.querySelectorAll('details').forEach((fold) => { fold.open = true; });
  const found = [];
  for (const node of document.querySelectorAll('body *:not(svg *, script, .skip)')) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push([contrast.toFixed(2), node.className, node.textContent]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(pages.rich(), path)
    return path.as_uri()


@pytest.fixture(autouse=True)
def _closed(browser: Any) -> Iterator[None]:
    """The browser is everybody's: what a test opened goes with it."""
    yield
    for context in browser.contexts:
        context.close()


def opened(browser: Any, address: str, **context: Any) -> Any:
    """A page that is offline and fails the test on any error of its script."""
    page = browser.new_context(offline=True, **context).new_page()
    page.asked = []
    page.errors = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda line: page.errors.append(line.text) if line.type == "error" else None,
    )
    page.goto(address)
    return page


def test_nothing_is_requested_and_nothing_fails(browser: Any, address: str) -> None:
    page = opened(browser, address)
    page.wait_for_timeout(200)
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.errors == []
    assert page.evaluate(SAYS_NOTHING) == 0


def test_the_first_screen_holds_verdict_hero_and_key_numbers(browser: Any, address: str) -> None:
    page = opened(browser, address, viewport={"width": 1280, "height": 800})
    for selector in ("h1", "#picture svg", "#cards"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 800, selector


def test_without_scripts_everything_is_there_and_no_control_is_dead(
    browser: Any, address: str
) -> None:
    page = opened(browser, address, java_script_enabled=False)
    assert page.locator("svg").count() >= 8
    assert page.locator("button:visible").count() == 0
    assert page.locator("select:visible").count() == 0
    assert page.locator("section").count() == 7


def test_arrow_keys_read_the_chart_out_and_the_address_follows(browser: Any, address: str) -> None:
    page = opened(browser, address)
    page.locator("#hero").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#readout").inner_text()
    assert first.startswith("512 tokens: attention")
    page.keyboard.press("End")
    assert page.locator("#readout").inner_text().startswith("32,768 tokens:")
    assert "x=6" in page.evaluate("location.hash")


def test_another_facet_is_unpacked_and_the_address_restores_it(browser: Any, address: str) -> None:
    page = opened(browser, address)
    before = page.locator("#verdict").inner_text()
    page.select_option("#facet", "2")
    page.wait_for_function("t => document.getElementById('verdict').textContent !== t", arg=before)
    after = page.locator("#verdict").inner_text()
    assert page.locator("#picture svg").count() == 1
    again = opened(browser, address + page.evaluate("location.hash"))
    again.wait_for_function("t => document.getElementById('verdict').textContent === t", arg=after)
    assert again.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: Any, address: str, scheme: str) -> None:
    page = opened(browser, address, color_scheme=scheme)
    page.locator("#legend button").first.click()
    assert page.evaluate(TOO_FAINT) == []


def test_time_can_start_at_zero_and_the_address_restores_it(browser: Any, address: str) -> None:
    page = opened(browser, address)
    ticks = "[...document.querySelectorAll('#picture text')].map(t => t.textContent)"
    assert "0" not in page.evaluate(ticks)
    page.locator("#legend button", has_text="mamba1").click()
    page.locator("#scale").click()
    page.wait_for_function(f"() => {ticks}.includes('0')")
    assert page.locator("#scale").get_attribute("aria-pressed") == "true"
    assert not page.locator("#hero0-series-mamba1").is_visible()
    page.select_option("#facet", "1")
    page.wait_for_function("() => location.hash.includes('f=1')")
    assert "0" in page.evaluate(ticks)
    again = opened(browser, address + page.evaluate("location.hash"))
    again.wait_for_function("() => document.querySelector('#hero1-series-mamba2') !== null")
    assert "0" in again.evaluate(ticks)
    again.locator("#scale").click()
    again.wait_for_function(f"() => !{ticks}.includes('0')")
    assert again.errors == []


def test_a_contender_can_be_taken_out_of_the_picture(browser: Any, address: str) -> None:
    page = opened(browser, address)
    line = page.locator("#hero0-series-mamba1")
    assert line.is_visible()
    page.locator("#legend button", has_text="mamba1").click()
    assert not line.is_visible()
    assert "off=mamba1" in page.evaluate("location.hash")


def test_tables_sort_by_number(browser: Any, address: str) -> None:
    page = opened(browser, address)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    table = page.locator("#fits table", has_text="bytes/token").last
    table.locator("th button", has_text="bytes/token").click()
    cells = table.locator("tbody tr td:nth-child(5)").all_inner_texts()
    numbers = [float(cell.replace(",", "")) for cell in cells]
    assert numbers == sorted(numbers, reverse=True)


def test_the_theme_changes_the_colours_of_figures_too(browser: Any, address: str) -> None:
    page = opened(browser, address, color_scheme="light")
    colour = "getComputedStyle(document.querySelector('#hero0-series-attention path')).stroke"
    light = page.evaluate(colour)
    page.locator("#theme").click()
    assert page.evaluate(colour) != light
    dark = opened(browser, address, color_scheme="dark")
    assert dark.evaluate(colour) == page.evaluate(colour)


def test_data_can_be_taken_out_of_the_page(browser: Any, address: str) -> None:
    page = opened(browser, address, accept_downloads=True)
    with page.expect_download() as found:
        page.locator("button", has_text="Points as CSV").click()
    lines = Path(found.value.path()).read_text().splitlines()
    assert lines[0].startswith("block,phase,context")
    assert len(lines) > 100
    with page.expect_download() as found:
        page.locator("button", has_text="Run as JSON").click()
    # The script unpacks the columns as Python does: what is saved is the run.
    saved = Path(found.value.path()).read_bytes()
    assert all(isinstance(json.loads(saved)[name], list) for name in ("outcomes", "decisions"))
    assert decoded(saved) == load_any(Path(address.removeprefix("file://")))
