"""What a reader with a keyboard, a screen reader or weak sight needs, as far as markup can tell.

The same rules as axe-core's: names, headings, tables, landmarks; and the contrast of every pair of
colours that the style sheet puts on each other. `test_browser` looks at the page as drawn.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

import make
import pytest

from report import pages
from report.test_theme import contrast
from ssmprof.report import theme, to_html
from ssmprof.store.imports import ssm_scope

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect"}
OPEN_ENDED = {"td", "tr"}  # their end tags may be left out, and are


class Element:
    """A tag with its attributes, text and children."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element] = []
        self.text = ""

    def all(self, *tags: str) -> list[Element]:
        """Descendants of these tags, in the order of the document."""
        found = []
        for child in self.children:
            found += [child] if not tags or child.tag in tags else []
            found += child.all(*tags)
        return found

    def words(self) -> str:
        """Text of the element and what is in it."""
        return " ".join([self.text, *(child.words() for child in self.children)]).strip()

    def get(self, name: str) -> str:
        return self.attributes.get(name, "")


class Reader(HTMLParser):
    """A document as a tree."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self.here = Element("", {}, None)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self.here.tag in OPEN_ENDED and tag in OPEN_ENDED and self.here.parent:
            if self.here.tag == "tr" and tag == "td":
                break
            self.here = self.here.parent
        made = Element(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.children.append(made)
        if tag not in VOID:
            self.here = made

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.here.children.append(
            Element(tag, {name: value or "" for name, value in attrs}, self.here)
        )

    def handle_endtag(self, tag: str) -> None:
        while self.here.parent and self.here.tag != tag and self.here.tag in OPEN_ENDED:
            self.here = self.here.parent
        if self.here.parent and self.here.tag == tag:
            self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.text += data


def two_devices() -> str:
    gpu = make.environment(device="Some GPU", calibration=pages.CHECKED, missing={"x": "because"})
    cpu = make.environment(device="A CPU", kind="cpu", calibration=pages.CHECKED)
    outcomes = [
        make.measurement(
            block, at, time * at * 1e-6, environment=machine.fingerprint, round=turn,
            memory=make.memory(at), attribution=make.attribution(time * at * 1e-6, scan=0.9),
        )
        for machine in (cpu, gpu)
        for block, time in (("attention", 1.0), ("mamba2", 2.0))
        for at in (512, 1024)
        for turn in range(3)
    ]  # fmt: skip
    return to_html(make.run(*outcomes, environments={m.fingerprint: m for m in (cpu, gpu)}))


@pytest.fixture(
    scope="module",
    params=[
        lambda: to_html(pages.rich((512, 2048, 8192, 32768))),
        lambda: to_html(ssm_scope()),
        two_devices,
    ],
    ids=["measured", "published", "two devices"],
)
def page(request: pytest.FixtureRequest) -> Element:
    return Reader(request.param()).root


def test_the_document_says_its_language_and_its_title(page: Element) -> None:
    (html,) = page.all("html")
    assert html.get("lang") == "en"
    assert page.all("title")[0].words()
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == 1
    assert all(nav.get("aria-label") for nav in page.all("nav"))
    skip = page.all("a")[0]
    assert skip.get("class") == "skip"
    assert skip.get("href").removeprefix("#") in {one.get("id") for one in page.all()}


def test_headings_go_down_one_level_at_a_time(page: Element) -> None:
    headings = page.all("h1", "h2", "h3", "h4")
    levels = [int(heading.tag[1]) for heading in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper <= higher + 1 for higher, deeper in pairwise(levels))
    assert all(heading.words() for heading in headings)


def test_every_figure_is_an_image_with_a_title_and_a_finding(page: Element) -> None:
    ids = {one.get("id") for one in page.all()}
    pictures = page.all("svg")
    assert pictures
    for picture in pictures:
        assert picture.get("role") == "img"
        assert set(picture.get("aria-labelledby").split()) <= ids
        title, description = picture.children[:2]
        assert (title.tag, description.tag) == ("title", "desc")
        assert title.words()
        assert len(description.words()) > 30, title.words()
    for figure in page.all("figure"):
        assert figure.all("figcaption")[0].words()


def test_every_table_has_a_caption_and_every_column_a_name(page: Element) -> None:
    tables = page.all("table")
    assert tables
    for table in tables:
        assert table.all("caption")[0].words()
        heads = table.all("th")
        assert all(head.get("scope") in ("col", "row") for head in heads)
        assert all(head.words() for head in heads), table.words()[:80]
        columns = [head for head in heads if head.get("scope") == "col"]
        for row in table.all("tr")[1:]:
            assert len(row.all("td", "th")) == len(columns)


def test_landmarks_have_names_of_their_own(page: Element) -> None:
    regions = [one for one in page.all() if one.get("role") == "region"]
    names = Counter(one.get("aria-label") for one in regions)
    assert regions
    assert names[""] == 0
    assert [name for name, times in names.items() if times > 1] == []
    assert all(one.get("tabindex") == "0" for one in regions), "a box that scrolls takes the focus"
    for section in page.all("section"):
        assert section.get("aria-labelledby") in {one.get("id") for one in section.all("h2")}


def test_controls_have_names_and_folds_say_what_they_hold(page: Element) -> None:
    for button in page.all("button"):
        assert button.words() or button.get("aria-label")
    for choice in page.all("select"):
        assert choice.parent is not None
        assert choice.parent.tag == "label"
        assert choice.parent.text.strip()
    assert all(fold.all("summary")[0].words() for fold in page.all("details"))
    assert [line for line in page.all("p") if line.get("aria-live") == "polite"]


# What the style sheet writes on what; `page` and `raised` are the two grounds.
ON_GROUNDS = ("fg", "muted", "link", "ok", "warn", "bad", *theme.SERIES)
ON_FILLS = [("on-fill", fill) for fill in ("attn", "scan", "hyb")] + [
    (pill, f"{pill}-bg") for pill in theme.PILLS
]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [(text, ground) for ground in ("bg", "raised") for text in ON_GROUNDS] + ON_FILLS,
)
def test_text_of_the_style_sheet_can_be_read(mode: str, text: str, ground: str) -> None:
    ink, under = (getattr(theme.TOKENS[name], mode) for name in (text, ground))
    # Names of contenders are bold and never stand on the raised ground: large text asks for 3.
    least = 3.0 if text in theme.SERIES and ground == "raised" else 4.5
    assert contrast(ink, under) >= least


def test_the_style_sheet_uses_known_colours_and_dims_no_text() -> None:
    css = re.search(r"<style>(.*?)</style>", to_html(pages.rich((512,))), re.S)
    assert css is not None
    assert set(re.findall(r"var\(--([\w-]+)", css[1])) <= set(theme.TOKENS)
    assert "opacity" not in css[1]
    assert "outline:none" not in css[1]
