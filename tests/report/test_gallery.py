"""A gallery of runs and a share of one: links, comparisons, no names, the same each time."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import make
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from report import pages
from ssmprof.cli import cli
from ssmprof.errors import ConfigError
from ssmprof.records import Measurement, Outcome, Run
from ssmprof.report import gallery
from ssmprof.report.share import packed
from ssmprof.store import folder

SECRET = "/home/kowalski/private"


def moved(one: Outcome, environment: str, factor: float) -> Outcome:
    one = replace(one, environment=environment)
    if not isinstance(one, Measurement) or one.point.block == "attention":
        return one
    return replace(one, times_s=tuple(factor * time for time in one.times_s))


def run(device: str, day: int, factor: float = 1.0) -> Run:
    """`rich` on another device; everything that is no attention is slower by a factor."""
    made = pages.rich(execution=("graph",))
    (machine,) = made.environments.values()
    machine = replace(machine, device=device, git=f"{day:02d}abcdef0123")
    outcomes = tuple(moved(one, machine.fingerprint, factor) for one in made.outcomes)
    return replace(
        made, environments={machine.fingerprint: machine}, outcomes=outcomes, decisions=(),
        created_unix_s=1.79e9 + 86_400 * day, command=f"ssmprof sweep -o {SECRET}/run",
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs() -> list[tuple[str, Run]]:
    return [
        ("first", run("NVIDIA H100 80GB HBM3", 1)),
        ("second", run("NVIDIA H100 80GB HBM3", 8, 0.7)),
        ("first", run("NVIDIA GeForce RTX 4090", 3, 1.5)),
    ]


@pytest.fixture(scope="module")
def site(runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    gallery.write(runs, target, "1.2.3")
    return target


def index(site: Path) -> str:
    return (site / "index.html").read_text()


def test_every_run_has_a_page_and_every_link_leads_to_one(site: Path) -> None:
    links = re.findall(r'<a href="(runs/[^"]+)"', index(site))
    assert sorted(links) == ["runs/first-2.html", "runs/first.html", "runs/second.html"]
    assert links[0] == "runs/second.html"  # the newest first
    assert all((site / link).is_file() for link in links)


def test_the_site_asks_for_nothing(site: Path) -> None:
    for file in site.rglob("*.html"):
        text = file.read_text()
        assert "default-src 'none'" in text
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
        assert "kowalski" not in text
    assert "<script" not in index(site)
    assert "3 runs on 2 devices" in index(site)


def test_devices_stand_over_each_other_with_their_own_numbers(site: Path) -> None:
    text = index(site)
    assert "Where do devices and commits agree?" in text
    said = re.search(r"At \S+ tokens: ([^<]+)\.<", text)
    assert said is not None
    found = {label: float(ratio) for label, ratio in
             re.findall(r"((?:H100|GeForce)[^,]*, [\d-]+), \w+ ([\d.]+)x", said[1])}  # fmt: skip
    assert len(found) == 3
    by_date = [found[label] for label in sorted(found, key=lambda one: one[-10:])]
    assert by_date[0] / by_date[1] == pytest.approx(1.5, rel=0.02)
    assert by_date[2] / by_date[0] == pytest.approx(1 / 0.7, rel=0.02)


def test_the_crossover_has_a_history(site: Path) -> None:
    text = index(site)
    assert "How did the crossovers move?" in text
    rows = re.findall(r"<tr><td>((?:H100|GeForce)[^<]*)<td[^>]*>([^<]*)<td", text)
    assert len(rows) >= 3
    assert [row[0].split(", ")[1] for row in rows[:3]] == sorted(
        row[0].split(", ")[1] for row in rows[:3]
    )


def test_the_same_runs_give_the_same_site(runs, site: Path, tmp_path: Path) -> None:
    gallery.write(runs, tmp_path, "1.2.3")
    for file in site.rglob("*.html"):
        assert (tmp_path / file.relative_to(site)).read_bytes() == file.read_bytes()


def test_a_single_run_has_no_comparison(tmp_path: Path) -> None:
    gallery.write([("one", make.run(make.measurement()))], tmp_path, "1")
    text = index(tmp_path)
    assert "1 run on 1 device" in text
    assert "history" not in text


def test_a_share_is_the_run_without_names(tmp_path: Path) -> None:
    one = run("NVIDIA H100 80GB HBM3", 1)
    data, shown = packed(one, "x")
    assert data == packed(one, "x")[0]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
        for name in archive.namelist():
            assert b"kowalski" not in archive.read(name)
    loaded = folder.load(tmp_path / "x")
    assert len(loaded.outcomes) == len(one.outcomes)
    assert loaded.created_unix_s == one.created_unix_s
    # Command, page and the folder that is unpacked name one hash.
    assert loaded.sha256 == shown.sha256
    page = (tmp_path / "x" / "report.html").read_text(encoding="utf-8")
    assert f"Run {shown.sha256[:12]}" in page


def invoked(*words: str):
    return CliRunner().invoke(cli, list(words), standalone_mode=False)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder.write(tmp_path / "reports" / "a", run("NVIDIA H100 80GB HBM3", 1))
    done = invoked("gallery", "reports", "reports/a")
    assert done.exception is None
    assert (tmp_path / "gallery" / "index.html").is_file()
    assert [one.name for one in (tmp_path / "gallery" / "runs").iterdir()] == ["a.html"]
    done = invoked("share", "reports/a")
    assert done.exception is None
    assert (tmp_path / "a-shared.zip").is_file()
    for words, text in (
        (("gallery", "reports"), "gallery: not empty"),
        (("gallery", "nowhere"), "nowhere: no such folder"),
        (("gallery", "gallery", "-o", "x"), "gallery: holds no run"),
        (("gallery", "reports", "-o", "a-shared.zip"), "a-shared.zip: is a file"),
        (("share", "reports/a"), "a-shared.zip: already there"),
        (("share", "nowhere"), "nowhere: no such run folder"),
    ):
        failed = invoked(*words).exception
        assert isinstance(failed, ConfigError)
        assert text in str(failed)
