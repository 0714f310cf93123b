"""The first picture of README: made by a command, and its title says device and finding."""

from __future__ import annotations

import re
from pathlib import Path

import make
import pytest

from report import pages
from ssmprof.analysis import analyze
from ssmprof.errors import ConfigError
from ssmprof.report.poster import picture
from ssmprof.report.redact import redacted
from ssmprof.store import folder

ROOT = Path(__file__).parents[2]
RUN = ROOT / "reports" / "2026-11-30-crossover-h200"


def words(svg: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", one) for one in re.findall(r"<text[^>]*>(.*?)</text>", svg)]


@pytest.fixture(scope="module")
def committed() -> tuple[str, object]:
    run = redacted(folder.load(RUN))
    analysis = analyze(run, ("answers",))
    return picture(run, analysis), analysis.latencies[0]


def test_the_committed_picture_is_what_the_command_makes(committed) -> None:
    made, _ = committed
    assert words((RUN / "picture.svg").read_text()) == words(made)
    assert f"{RUN.name}/picture.svg" in (ROOT / "README.md").read_text()


def test_the_title_names_the_device_and_the_finding(committed) -> None:
    made, answer = committed
    title = words(made)[0] if "H200" in words(made)[0] else next(
        one for one in words(made) if "H200" in one
    )  # fmt: skip
    pair = answer.pair("transformer", "mamba2")
    assert title == "H200: Mamba-2 beats the transformer from 4,928 tokens"
    assert pair.crossings[0].high_tokens == 4928
    longest = pair.points[-1]
    ratio = longest.ratio if pair.block == "transformer" else 1 / longest.ratio
    assert f"Mamba-2 {ratio:.3g}x at 128K" in words(made)


def test_a_picture_without_a_crossing_says_who_wins() -> None:
    run = pages.rich((512, 1024, 2048), phase=("decode",), execution=("graph",))
    text = " ".join(words(picture(run, analyze(run, ("answers",)))))
    assert "beats" in text
    assert "512 to 2K tokens" in text


def test_nobody_to_compare_is_an_error() -> None:
    run = make.run(make.measurement())
    with pytest.raises(ConfigError, match="compares nobody"):
        picture(run, analyze(run, ("answers",)))
