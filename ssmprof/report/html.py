"""A Page to one self-contained HTML file: no request, no `eval`, every string of the data escaped.

Deterministic: the same page gives the same bytes. The content security policy allows the one script
by its hash and nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ssmprof.bounded import inflate
from ssmprof.report import theme
from ssmprof.report.page import Hero, Page, Part, Picture, Section

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# A string, or a sign with the spaces around it.
_SPACED = re.compile(r"""("(?:\\.|[^"\\])*"|'[^']*')|[ ]*([]=+*/<>?:,;{}()&|![-])[ ]*""")
_OPEN_END = re.compile(r"([{;,(>?:&|+])\n")
_HYPHENATED = re.compile(r"(\S+-\S+)")  # as report.js splits a heading
_RIGHT = 20  # columns that can be told to stand to the right


def render(page: Page, version: str) -> str:
    """The document."""
    from markupsafe import Markup

    environment = _environment()
    script = _dense("report.js")
    payloads = {f"{hero.key}-log": hero.svg.encode() for hero in page.heroes[1:]}
    payloads |= {f"{one.key}-linear": one.linear.encode() for one in page.heroes if one.linear}
    payloads |= page.payloads
    return environment.get_template("report.html.j2").render(
        page=page,
        version=version,
        css=Markup(_css()),
        js=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        views=[_view(hero) for hero in page.heroes],
        payloads={key: pack(data) for key, data in payloads.items()},
    )


def render_index(title: str, question: str, sections: Sequence[Section], version: str) -> str:
    """The page of a gallery: sections alone, without a script."""
    from markupsafe import Markup

    return (
        _environment()
        .get_template("gallery.html.j2")
        .render(
            title=title,
            question=question,
            sections=sections,
            version=version,
            css=Markup(_css()),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader
    from markupsafe import Markup

    made = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    # The only markup let through unescaped is SVG that ElementTree has written.
    made.filters["safe_svg"] = Markup
    made.filters["side_by_side"] = _side_by_side
    made.filters["unbroken"] = _unbroken
    return made


def _unbroken(text: str) -> Markup:
    """A heading whose names stay whole: no line ends behind the hyphen of Mamba-2."""
    from markupsafe import Markup, escape

    return Markup("").join(
        Markup('<span class="nb">{}</span>').format(part) if at % 2 else escape(part)
        for at, part in enumerate(_HYPHENATED.split(text))
    )


def _side_by_side(parts: Sequence[Part]) -> list[tuple[bool, list[Part]]]:
    """Runs of pictures, which stand beside each other, and of everything else."""
    return [
        (pictures, list(found))
        for pictures, found in groupby(parts, lambda part: isinstance(part, Picture))
    ]


def pack(data: bytes) -> str:
    """gzip and base64, the same for the same data."""
    return base64.b64encode(gzip.compress(data, compresslevel=9, mtime=0)).decode()


def unpack(text: str) -> bytes:
    """What `pack` packed. Raises OSError, EOFError or ValueError where it is something else."""
    try:
        return inflate(base64.b64decode(text))
    except zlib.error as error:
        raise ValueError(f"not packed data: {error}") from None


@cache
def _template(name: str) -> str:
    return resources.files("ssmprof.report").joinpath("templates").joinpath(name).read_text("utf-8")


def _dense(name: str) -> str:
    """A script without indentation, comments and spaces, which are for whoever edits it.

    Strings keep theirs, and lines end where a statement may.
    """
    lines = (line.strip() for line in _template(name).splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"
    text = _SPACED.sub(lambda found: found[1] or found[2], text)
    return _OPEN_END.sub(r"\1", text)


def _css() -> str:
    pairs = "".join(
        f".pair-{index}{{background:{fill};color:{text}}}"
        for index, (fill, text) in enumerate(
            zip(theme.WINNER_FILLS, theme.WINNER_TEXT, strict=True)
        )
    )
    right = ",".join(f".r{at} tr>:nth-child({at})" for at in range(1, _RIGHT + 1))
    return (
        _template("report.css")
        .replace("RIGHT", right)
        .replace("LIGHT", theme.css_variables("light"))
        .replace("DARK", theme.css_variables("dark"))
        .replace("PAIRS", pairs)
    )


def _view(hero: Hero) -> dict[str, Any]:
    """What the script needs of a facet: text and numbers, no markup."""
    return {
        "key": hero.key,
        "sentence": hero.sentence,
        "dominance": hero.dominance,
        "conditions": hero.conditions,
        "reading": hero.reading,
        "contexts": hero.contexts,
        "left": round(hero.span[0], 5),
        "right": round(hero.span[1], 5),
        "low": round(hero.limits[0], 3),
        "high": round(hero.limits[1], 3),
        "cards": [
            {"number": card.number, "label": card.label, "state": card.state} for card in hero.cards
        ],
        "series": [
            {"block": one.block, "label": one.label, "token": one.token, "mark": one.mark}
            | ({"legend": one.legend} if one.legend != one.label else {})
            for one in hero.series
        ],
        "caption": hero.table.caption,
        "rows": hero.table.cells(),
    }
