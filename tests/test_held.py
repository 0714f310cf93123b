"""Numbers in prose that come from a committed run or table are those of its file.

Promises: every number of a paragraph that cites reports/, and of the pages named in WHOLE, stands
in a part that the script writes, in a sentence of `held` (or of `test_docs` and
`serving/test_committed`), or is listed as one that no file of this tree can hold.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from held import ELSEWHERE, HELD, UNHELD
from made.markdown import without_parts
from made.runs import REPORTS, ROOT
from transcripts import PAGES

# Pages of which every number counts, not only those of paragraphs that cite reports/.
WHOLE = {"README.md", "docs/guide/first-run.md", "docs/how-it-works/accuracy.md"}
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.-])[−+-]?\d+(?:[.,]\d+)*[KM]?")
# Targets of links, code, and the places of a list are no numbers that anybody measured.
_NO_NUMBERS = re.compile(r"\]\([^)]*\)|`[^`]*`|(?:^|(?<=\s))\d\. (?=[A-Z`\"A])")
_FILES = {
    file.name
    for pattern in ("*.json", "*.txt", "*.csv")
    for file in REPORTS.rglob(pattern)
    if file.name not in ("run.json", "decisions.json") and "environments" not in file.parts
}


def flat(text: str) -> str:
    return " ".join(text.split())


def paragraphs(text: str) -> list[str]:
    """Prose of a page: no code blocks, no parts of the script, no headings."""
    parts = re.split(r"\n\s*\n|\n(?=- )", _FENCE.sub("", without_parts(text)))
    return [flat(one) for one in parts if not one.lstrip().startswith("#")]


@pytest.mark.parametrize("page", HELD)
def test_sentences_hold_the_numbers_of_their_files(page: str) -> None:
    text = flat((ROOT / page).read_text(encoding="utf-8"))
    for sentence in HELD[page]():
        assert sentence in text, sentence


def unheld(page: str, text: str) -> list[str]:
    """Numbers of a page that cite a file of reports/ and that nothing holds."""
    found: list[str] = []
    sentences = HELD[page]() if page in HELD else []
    patterns = [*ELSEWHERE.get(page, ()), *UNHELD.get(page, ())]
    for paragraph in paragraphs(text):
        if page not in WHOLE and not _cites(paragraph):
            continue
        for sentence in sentences:
            paragraph = paragraph.replace(sentence, " ")
        for pattern in patterns:
            paragraph = re.sub(pattern, " ", paragraph)
        left = _NO_NUMBERS.sub(" ", paragraph)
        found += [f"{number} in: {paragraph[:80]}" for number in _NUMBER.findall(left)]
    return found


def _cites(paragraph: str) -> bool:
    return "reports/" in paragraph or any(f"`{name}`" in paragraph for name in _FILES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_number_of_a_run_is_left_to_a_person(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if not text.startswith("<!-- Written by docs/generate.py. -->"):
        assert unheld(str(page.relative_to(ROOT)), text) == []


def test_a_number_that_nothing_holds_is_found() -> None:
    text = "It takes 5 ms.\n\nIt takes 6.5 ms (`reports/scale/scale.json`).\n"
    assert unheld("docs/made-up.md", text) == [
        "6.5 in: It takes 6.5 ms (`reports/scale/scale.json`)."
    ]


def test_every_pattern_of_what_is_not_held_here_still_stands() -> None:
    for page, patterns in (*ELSEWHERE.items(), *UNHELD.items()):
        text = flat((ROOT / page).read_text(encoding="utf-8"))
        for pattern in patterns:
            assert re.search(pattern, text), pattern
