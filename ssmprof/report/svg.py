"""From a matplotlib figure to inline SVG: themed, with unique ids and no style attributes.

A strict `style-src` drops style attributes, and a figure without its fills is a solid black
rectangle; hence presentation attributes. Sentinel colours become `var(--token,#literal)`. The same
figure gives the same bytes. At a construct not understood, the un-themed figure is used.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ssmprof.report import theme
from ssmprof.report.slim import slim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_URL = re.compile(r"url\(#([^)]+)\)")
# `font: 12px "Sans"`, `font: 700 9.5px ...`: what matplotlib writes with fonttype none.
_FONT_SHORTHAND = re.compile(r"(?:(?:italic|oblique|normal)\s+)?(?:(bold|\d{3})\s+)?([\d.]+)px\b")
_VARIABLE = re.compile(r"var\(--[\w-]+,(#[0-9A-Fa-f]{6})\)")
_HREF = re.compile(r'href="(#[^"]+)"')
_SPACES = re.compile(r"\s+")
# Ids that matplotlib hands out by itself: `line2d_12`, `matplotlib.axis_3`.
_AUTOMATIC = re.compile(r"[A-Za-z0-9.]+_\d+")
_DEFAULTS = {
    ("stroke-linejoin", "miter"),
    ("stroke-linecap", "square"),
    ("fill-opacity", "1"),
    ("stroke-opacity", "1"),
    ("stroke-dashoffset", "0"),
}


def to_svg(figure: Figure, prefix: str, title: str, description: str, themed: bool = True) -> str:
    """The figure as one `<svg>` element; `description` states the finding, not the axes.

    `prefix` makes every id unique on the page. Stand-alone files take `themed=False`: literal
    colours, since many editors do not resolve `var()`.
    """
    root = ElementTree.fromstring(_draw(figure))
    try:
        _clean(root, prefix, themed)
    except (ValueError, KeyError):
        root = ElementTree.fromstring(_draw(figure))
        _clean(root, prefix, themed=False)
    _describe(root, prefix, title, description)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def standalone(inline: str) -> str:
    """An inline figure as a file of its own: literal colours on white, with a size."""
    root = ElementTree.fromstring(inline)
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, _VARIABLE.sub(r"\1", value))
    _, _, wide, high = root.get("viewBox", "0 0 1 1").split()
    root.set("width", f"{wide}pt")
    root.set("height", f"{high}pt")
    page = {"width": wide, "height": high, "fill": theme.literal("bg")}
    root.insert(2, ElementTree.Element(f"{{{_SVG}}}rect", page))
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _draw(figure: Figure) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ssmprof"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _clean(root: ElementTree.Element, prefix: str, themed: bool) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    colours = theme.by_sentinel()
    for element in root.iter():
        _split_style(element)
        for name, value in list(element.attrib.items()):
            element.set(name, _attribute(name, value, prefix, colours, themed))
        href = element.attrib.pop(f"{{{_XLINK}}}href", None)
        if href:
            element.set("href", f"#{prefix}-{href[1:]}")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("font-family", _FONT)
    _tidy(root, prefix)
    slim(root)


def _tidy(root: ElementTree.Element, prefix: str) -> None:
    """Drop ids nobody refers to, groups that group nothing, and white space."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = {*_URL.findall(text), *(href[1:] for href in _HREF.findall(text))}
    for element in root.iter():
        name = element.get("id")
        if name and name not in used and _AUTOMATIC.fullmatch(name.removeprefix(f"{prefix}-")):
            del element.attrib["id"]
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
        if element.get("d"):
            element.set("d", _SPACES.sub(" ", element.get("d", "")).strip())
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
    _rename(root, used, prefix)
    _unwrap(root)


def _rename(root: ElementTree.Element, used: set[str], prefix: str) -> None:
    """Short names for what only this figure refers to: clips, markers and hatches."""
    order = [element.get("id", "") for element in root.iter() if element.get("id") in used]
    short = {name: f"{prefix}-{number}" for number, name in enumerate(dict.fromkeys(order))}
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, short.get(value, value))
            elif key == "href":
                element.set(key, f"#{short.get(value[1:], value[1:])}")
            elif value.startswith("url(#"):
                element.set(key, f"url(#{short.get(value[5:-1], value[5:-1])})")


def _unwrap(parent: ElementTree.Element) -> None:
    for child in list(parent):
        _unwrap(child)
        if child.tag == f"{{{_SVG}}}g" and not child.attrib:
            at = list(parent).index(child)
            parent.remove(child)
            for offset, grandchild in enumerate(list(child)):
                parent.insert(at + offset, grandchild)


def _split_style(element: ElementTree.Element) -> None:
    style = element.attrib.pop("style", None)
    for declaration in (style or "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if not name:
            continue
        if name == "font":
            found = _FONT_SHORTHAND.search(value)
            if not found:
                raise ValueError(f"a font that is not understood: {value}")
            element.set("font-size", found[2])
            if found[1]:
                element.set("font-weight", found[1])
        elif name == "font-size":
            element.set(name, value.removesuffix("px"))
        elif name != "font-family" and (name, value) not in _DEFAULTS:
            element.set(name, value)


def _attribute(name: str, value: str, prefix: str, colours: dict[str, str], themed: bool) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("fill", "stroke"):
        value = _HEX.sub(lambda found: _colour(found[0].lower(), colours, themed), value)
    if name in ("d", "transform", "x", "y", "points", "viewBox"):
        return _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
    return _URL.sub(lambda found: f"url(#{prefix}-{found[1]})", value)


def _colour(found: str, colours: dict[str, str], themed: bool) -> str:
    token = colours.get(found)
    if token is None:
        return found
    return f"var(--{token},{theme.literal(token)})" if themed else theme.literal(token)


def _describe(root: ElementTree.Element, prefix: str, title: str, description: str) -> None:
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{prefix}-{tag}"})
        element.text = text
        root.insert(position, element)
