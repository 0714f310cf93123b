"""The page: complete without scripts, safe with hostile names, deterministic, small, and honest."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import make
import pytest
from msgspec.structs import replace

from report import pages
from report.committed import COMMITTED, page_of
from ssmprof.records import Run, encode
from ssmprof.report import to_html, write_report
from ssmprof.report.again import load_any
from ssmprof.report.build import build
from ssmprof.report.html import unpack
from ssmprof.store import folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run() -> Run:
    return pages.rich((512, 2048, 8192, 32768))


@pytest.fixture(scope="module")
def small() -> Run:
    return pages.rich((512, 8192, 32768), phase=("prefill",), execution=("graph",))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return to_html(run)


class Reader(HTMLParser):
    """Tags, their attributes and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._silent = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def test_the_verdict_is_the_only_first_heading(page: str) -> None:
    found = re.findall(r"<h1[^>]*>([^<]+)</h1>", page)
    assert len(found) == 1
    assert found[0].startswith("Use the transformer")
    assert len(found[0]) <= 160


def test_sections_come_in_the_order_of_the_decision(page: str) -> None:
    anchors = re.findall(r'<section id="(\w+)"', page)
    assert anchors == ["where", "why", "fits", "serving", "cost", "trust", "data"]


def test_the_page_requests_nothing(page: str) -> None:
    reader = Reader(page)
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base"), tag
        for name in ("src", "srcset", "action", "poster", "data"):
            assert name not in attributes, (tag, name)
        href = attributes.get("href")
        assert href is None or href.startswith("#"), href
    assert "@import" not in page
    assert "url(http" not in page


def test_the_policy_allows_this_script_and_no_other(page: str) -> None:
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert f"script-src &#39;sha256-{digest}" in policy[1] or f"'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1].replace("&#39;", "'")
    assert len(script.encode()) <= 12_000
    assert "eval(" not in script


def test_the_page_is_complete_without_scripts(page: str) -> None:
    reader = Reader(page)
    assert sum(tag == "svg" for tag, _ in reader.tags) >= 8
    for tag, attributes in reader.tags:
        if tag in ("button", "select"):
            assert "hidden" in attributes or tag == "select", "a dead control without scripts"
    words = " ".join(reader.text)
    for word in ("Trust", "does not fit", "out-of-memory", "nvml.total_energy", "sdpa-cudnn"):
        assert word in words, word


def test_ids_are_unique_and_style_attributes_absent(page: str) -> None:
    ids = [a["id"] for _, a in Reader(page).tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert not [tag for tag, a in Reader(page).tags if "style" in a]


def test_every_table_has_a_caption_and_every_head_a_scope(page: str) -> None:
    assert page.count("<table") == page.count("<caption>")
    for tag, attributes in Reader(page).tags:
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")


def test_two_builds_are_the_same_bytes(run: Run, page: str) -> None:
    assert to_html(run) == page


def test_the_page_stays_within_its_budget(page: str) -> None:
    assert len(page.encode()) <= 330_000
    assert len(re.findall(r"<[a-z]", page)) <= 5_000


# Misses of the budget, told and not moved: curves, rows and parts of every contender are in a page.
TOO_LARGE = {"2026-11-30-zoo-h200": "24 contenders in two phases: 694 KB, where 403 are allowed"}
PAGES = [
    pytest.param(name, marks=[pytest.mark.xfail(strict=True, reason=TOO_LARGE[name])])
    if name in TOO_LARGE
    else name
    for name in COMMITTED
]


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_the_runs_that_come_along_stay_within_their_budget(name: str) -> None:
    thousands = max(1.0, len(folder.load(COMMITTED[name]).outcomes) / 1000)
    assert len(page_of(name).encode()) <= 400_000 * thousands


def test_hostile_names_stay_text() -> None:
    text = to_html(pages.hostile())
    assert "<img" not in text
    assert "onerror=alert" not in text.replace("&lt;img src=x onerror=alert", "").replace(
        "\\u003cimg src=x onerror=alert", ""
    )
    reader = Reader(text)
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    assert text.count("</script>") == sum(tag == "script" for tag, _ in reader.tags)


def test_identifiers_are_redacted_unless_asked_for(small: Run) -> None:
    command = "ssmprof sweep x -o /root/secret/run --note me@example.org"
    run = replace(small, command=command)
    text = to_html(run)
    data = re.search(r'id="data-run">([^<]+)', text)
    assert data is not None
    for place in (text, unpack(data[1]).decode()):
        assert "secret" not in place
        assert "me@example.org" not in place
    assert "/root/secret/run" in to_html(run, identifiers=True)


def test_a_page_can_be_rendered_again_from_itself(small: Run, tmp_path: Path) -> None:
    first = tmp_path / "first.html"
    write_report(small, first)
    again = load_any(first)
    assert [one.key for one in again.measurements()] == [one.key for one in small.measurements()]
    assert re.findall(r"<h1[^>]*>([^<]+)", to_html(again)) == re.findall(
        r"<h1[^>]*>([^<]+)", first.read_text()
    )


def test_a_run_without_parts_memory_or_decode_still_has_a_page() -> None:
    asked = make.scenario("attention", "mamba2")
    run = make.measured(asked, make.power_law(attention=(1, 2.0), mamba2=(900, 1.0)))
    anchors = re.findall(r'<section id="(\w+)"', to_html(run))
    assert anchors[0] == "where"
    assert "why" not in anchors
    assert anchors[-2:] == ["trust", "data"]


def test_one_contender_and_nothing_at_all_have_pages() -> None:
    alone = make.measured(make.scenario("mamba2"), make.power_law(mamba2=(900, 1.0)))
    assert "<h1" in to_html(alone)
    nothing = make.run(make.failure("mamba2", 512), make.failure("attention", 512))
    assert "No verdict" in to_html(nothing) or "Nothing was measured" in to_html(nothing)


def test_published_numbers_say_so_above_everything() -> None:
    run = make.measured(
        make.scenario("attention", "mamba2"),
        make.power_law(attention=(1, 2.0), mamba2=(900, 1.0)),
        origin="published",
        source="arXiv:2507.12442",
    )
    text = to_html(run)
    assert "ssmprof did not measure them" in text
    assert text.index("ssmprof did not measure them") < text.index("<h1")


def test_a_cpu_run_is_labelled_as_one() -> None:
    machine = replace(pages.MACHINE, kind="cpu", device="Some CPU")
    outcomes = [
        make.measurement(block, at, time * 1e-3, environment=machine.fingerprint, round=turn)
        for block, time in (("attention", 1.0), ("mamba2", 2.0))
        for at in (512, 1024)
        for turn in range(3)
    ]
    run = make.run(*outcomes, environments={machine.fingerprint: machine})
    assert "CPU, wall clock" in to_html(run)


def test_the_report_needs_no_torch(small: Run, tmp_path: Path) -> None:
    target = tmp_path / "run"
    folder.write(target, small)
    block = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'triton'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"from ssmprof.cli import main\nmain(['report', {str(target)!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(target / "report.html")
    assert (target / "report.html").stat().st_size > 50_000


def test_the_hash_on_the_page_is_that_of_the_data(small: Run) -> None:
    found = build(small)
    assert hashlib.sha256(encode(small)).hexdigest()[:12] in found.footer


def test_a_run_of_two_devices_tells_them_apart_and_starts_with_the_gpu() -> None:
    gpu = make.environment(device="Some GPU", calibration=pages.CHECKED)
    cpu = make.environment(device="A CPU", kind="cpu", calibration=pages.CHECKED)
    outcomes = [
        make.measurement(
            block, at, time * at * 1e-6, environment=machine.fingerprint, round=turn,
            providers={"attention": f"sdpa of {machine.device}"},
        )
        for machine in (cpu, gpu)
        for block, time in (("attention", 1.0), ("mamba2", 2.0))
        for at in (512, 1024)
        for turn in range(3)
    ]  # fmt: skip
    run = make.run(*outcomes, environments={m.fingerprint: m for m in (cpu, gpu)})
    first, second = build(run).heroes
    assert first.label.startswith("Some GPU: ")
    assert second.label.startswith("A CPU: ")
    assert "sdpa of Some GPU" in first.conditions
    assert "A CPU" not in first.conditions


def test_a_run_whose_environments_are_lost_still_has_a_page() -> None:
    run = replace(
        pages.rich((512, 2048), phase=("prefill",), execution=("graph",)), environments={}
    )
    assert "<h1" in to_html(run)
