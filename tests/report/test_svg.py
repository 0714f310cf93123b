"""Figures inside the page: themed, unique ids, no style attributes, the same bytes each time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from xml.etree import ElementTree

import make
import pytest

from ssmprof.analysis import analyze
from ssmprof.report import placement, theme
from ssmprof.report.figures import shares
from ssmprof.report.figures.curves import Drawing, draw_pair
from ssmprof.report.svg import standalone, to_svg
from ssmprof.report.verdicts import views_of

SVG = "{http://www.w3.org/2000/svg}"
LAWS = {"attention": (1.0, 2.0), "mamba1": (9000.0, 1.0), "mamba2": (8000.0, 1.0)}


def hero(prefix: str = "hero", themed: bool = True) -> str:
    contexts = tuple(2**power for power in range(9, 17))
    asked = make.scenario(*LAWS, contexts=contexts)
    measure = make.dies_above(32768, make.power_law(between=0.01, **LAWS), only="attention")
    run = make.measured(asked, measure)
    analysis = analyze(run)
    found = views_of(run, analysis)[analysis.latencies[0].key]
    drawing = Drawing(found, "time per prefill, ms", 1e3, zones=True, reference="attention")
    return to_svg(
        draw_pair(drawing), prefix, "A title", 'A finding with <angle> & "quotes"', themed
    )


def drawn(
    parent: ElementTree.Element, above: dict[str, str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """(tag, attributes, those of its groups included) of all that is drawn.

    A path in <defs> takes its paint from the <use> that places it.
    """
    for child in parent:
        tag = child.tag.removeprefix(SVG)
        if tag == "defs":
            continue
        said = (above or {}) | child.attrib
        yield tag, said
        yield from drawn(child, said)


def test_the_figure_has_no_style_attribute_and_no_black_default() -> None:
    text = hero()
    assert "style=" not in text
    assert "<style" not in text
    assert "<metadata" not in text
    root = ElementTree.fromstring(text)
    painted = [(tag, said) for tag, said in drawn(root) if tag in ("path", "use", "text")]
    assert len(painted) > 20
    for _, said in painted:
        assert {"fill", "stroke"} & set(said), said


def test_ids_are_unique_prefixed_and_every_reference_resolves() -> None:
    text = hero("one")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("one-") for name in ids)
    for name in re.findall(r'(?:url\(#|href="#)([^)"]+)', text):
        assert name in ids


def test_hatches_resolve_and_keep_their_colours() -> None:
    panel = shares.Panel("mamba2", {512: {"scan": 0.3, "launch-gap": 0.5, "other": 0.1}})
    wider = shares.Panel("hybrid", {at: {"scan": 0.4, "launch-gap": 0.3} for at in (512, 1024)})
    text = to_svg(shares.draw([panel, wider]), "share", "t", "d")
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    used = re.findall(r'fill="url\(#([^)"]+)', text)
    assert len(used) >= 4
    assert set(used) <= ids
    assert "var(--muted," in text[text.index("<pattern") : text.index("</pattern>")]


def test_every_series_and_band_can_be_found_by_its_name() -> None:
    text = hero()
    for block in LAWS:
        assert f'id="hero-series-{block}"' in text
        assert f'id="hero-band-{block}"' in text
    assert 'id="hero-misfit-attention"' in text


def test_colours_are_tokens_in_the_page_and_literals_in_a_file_of_its_own() -> None:
    page, alone = hero(), hero(themed=False)
    assert f"var(--attn,{theme.literal('attn')})" in page
    assert "var(" not in alone
    for sentinel in theme.by_sentinel():
        assert sentinel not in page.lower()
        assert sentinel not in alone.lower()


def test_a_figure_of_its_own_has_a_size_a_ground_and_no_variable() -> None:
    text = standalone(hero())
    assert "var(" not in text
    root = ElementTree.fromstring(text)
    assert root.get("width", "").endswith("pt")
    assert next(root.iter(f"{SVG}rect")).get("fill") == theme.literal("bg")


def test_the_same_data_gives_the_same_bytes() -> None:
    assert hero() == hero()


def test_title_and_description_are_text_and_escaped() -> None:
    root = ElementTree.fromstring(hero())
    assert root.get("role") == "img"
    texts = [child.text for child in list(root)[:2]]
    assert texts == ["A title", 'A finding with <angle> & "quotes"']


def test_text_stays_text_and_is_large_enough() -> None:
    root = ElementTree.fromstring(hero())
    texts = list(root.iter(f"{SVG}text"))
    assert "mamba2" in {"".join(text.itertext()) for text in texts}
    for tag, said in drawn(root):
        assert tag != "text" or float(said.get("font-size", "0")) >= 9.5


@pytest.mark.parametrize(
    "wanted", [[0.1, 0.5, 0.9], [0.5, 0.5, 0.5], [0.99, 0.98, 0.97, 0.96], [0.0, 0.0], [0.3]]
)
def test_labels_keep_their_distance_and_their_order(wanted: list[float]) -> None:
    placed = placement.spread(wanted, 0.06, 0.02, 0.98)
    ordered = sorted(placed)
    assert all(high - low >= 0.06 - 1e-9 for low, high in pairwise(ordered))
    assert ordered[0] >= 0.02 - 1e-9
    assert ordered[-1] <= 0.98 + 1e-9
