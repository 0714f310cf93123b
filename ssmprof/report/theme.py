"""Design tokens: one colour per meaning everywhere, checked by a test instead of by eye.

Hue has one meaning on every page and in every figure: blue is attention and the transformer, orange
the scan and the SSM, green the hybrid; marker, dash, direct label and letter repeat it. Figures are
drawn in *sentinel* colours, one per token, which `report.svg` turns into `var(--token,#literal)`:
the dark theme and paper need no second drawing, and the literal still works where CSS is blocked.
"""

from __future__ import annotations

from typing import NamedTuple

from ssmprof.records import Family
from ssmprof.scalars import Architecture


class Token(NamedTuple):
    """A colour in both themes, as sRGB hex."""

    light: str
    dark: str


TOKENS: dict[str, Token] = {
    "bg": Token("#FFFFFF", "#14171A"),
    "raised": Token("#F6F8FA", "#1C2126"),
    "fg": Token("#1B1F24", "#E8EAED"),
    "muted": Token("#57606A", "#9AA4AE"),
    "link": Token("#0B57D0", "#8AB4F8"),
    "grid": Token("#D0D4D9", "#3A4047"),
    "attn": Token("#1B6FE6", "#4C8DF8"),
    "scan": Token("#B65E07", "#D57717"),
    "hyb": Token("#125039", "#26F3A9"),
    "oth": Token("#75246B", "#E2CAE8"),
    "k-gemm": Token("#818285", "#A2A4A6"),
    "k-conv": Token("#113D36", "#07F6FA"),
    "k-norm": Token("#574213", "#F1DD36"),
    "k-elem": Token("#00A569", "#78695A"),
    "k-copy": Token("#961180", "#BB0B8A"),
    "k-moe": Token("#280F39", "#DEF2D6"),
    "on-fill": Token("#FFFFFF", "#0D0F11"),
    "on-gemm": Token("#0D0F11", "#0D0F11"),
    "on-copy": Token("#FFFFFF", "#FFFFFF"),
    "on-elem": Token("#0D0F11", "#FFFFFF"),
    "ok": Token("#0B5D3B", "#6FE0A8"),
    "ok-bg": Token("#E7F6EE", "#12261C"),
    "warn": Token("#7A4B00", "#F6C66A"),
    "warn-bg": Token("#FFF4E0", "#2B2213"),
    "bad": Token("#9B1C1C", "#FF9C94"),
    "bad-bg": Token("#FDECEC", "#2C1717"),
}

SERIES = ("attn", "scan", "hyb", "oth")
FILLS = ("attn", "scan", "k-gemm", "k-conv", "k-norm", "k-elem", "k-copy", "k-moe")
PILLS = ("ok", "warn", "bad")
MARKS = {"ok": "✓", "warn": "!", "error": "✗"}

# Winner map of a pair: fill and the text on it, by log2 of the ratio; the same in both themes.
WINNER_EDGES = (-1.5, -0.6, -0.1, 0.1, 0.6, 1.5)
WINNER_FILLS = ("#0F4DA8", "#4C86DB", "#A9C8F2", "#F2F2F2", "#F3C79B", "#D98A3D", "#9A4E04")
WINNER_TEXT = ("#FDFDFD", "#111111", "#111111", "#111111", "#111111", "#111111", "#FDFDFD")


class Style(NamedTuple):
    """How a contender is drawn: token, marker, dash (on and off lengths) and marker fill."""

    token: str
    marker: str
    dash: tuple[float, ...]
    hollow: bool = False


# Further contenders of an architecture keep its hue; marker, dash and fill tell them apart.
STYLES: dict[Architecture, tuple[Style, ...]] = {
    "transformer": (
        Style("attn", "o", ()),
        Style("attn", "p", (6, 1.5), hollow=True),
        Style("attn", "8", (2, 1.2)),
    ),
    "ssm": (
        Style("scan", "s", (5, 2)),
        Style("scan", "D", (1.5, 1.5), hollow=True),
        Style("scan", "X", (8, 2, 1.5, 2)),
    ),
    "hybrid": (
        Style("hyb", "^", (6, 2, 1.5, 2)),
        Style("hyb", "v", (2, 1.2), hollow=True),
        Style("hyb", "P", (9, 1.5)),
    ),
}


class Band(NamedTuple):
    """One band of the share-of-time chart: its families, fill token or hatch, and text token."""

    name: str
    families: tuple[Family, ...]
    token: str | None
    hatch: str | None = None
    text: str = "on-fill"


# No two families share a fill: those that are rarely more than a line have a hatch.
BANDS: tuple[Band, ...] = (
    Band("attention", ("attention",), "attn"),
    Band("scan", ("scan",), "scan"),
    Band("conv", ("conv",), "k-conv"),
    Band("gemm", ("gemm",), "k-gemm", text="on-gemm"),
    Band("norm", ("norm",), "k-norm"),
    Band("elementwise", ("elementwise",), "k-elem", text="on-elem"),
    Band("rope", ("rope",), None, "---", "fg"),
    Band("copy", ("copy",), "k-copy", text="on-copy"),
    Band("moe", ("moe",), "k-moe"),
    Band("embedding", ("embedding",), None, "++", "fg"),
    Band("other", ("other",), None, "..", "fg"),
    Band("launch gap", ("launch-gap",), None, "////", "fg"),
)
UNATTRIBUTED = Band("unattributed", (), None, "xx", "fg")


def sentinel(token: str) -> str:
    """The hex a figure draws `token` in: unlike any colour on the page, so found again."""
    return f"#ab{list(TOKENS).index(token):02x}cd"


def literal(token: str) -> str:
    """The colour of `token` where no style sheet is read: the light one."""
    return TOKENS[token].light


def by_sentinel() -> dict[str, str]:
    """Sentinel hex -> token name."""
    return {sentinel(token): token for token in TOKENS}


def css_variables(theme: str) -> str:
    """`--bg:#FFFFFF;--fg:...` of the `light` or `dark` theme, for the style sheet."""
    return "".join(f"--{name}:{getattr(token, theme)};" for name, token in TOKENS.items())
