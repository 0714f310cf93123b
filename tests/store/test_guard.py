"""A run folder from a stranger: nothing in it is followed, waited for, or written through."""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import make
import pytest

from ssmprof.bounded import inflate, read_file
from ssmprof.errors import StoreError
from ssmprof.store import files, folder

ASKED = make.scenario()
LAWS = make.power_law(attention=(1.0, 2.0), mamba2=(8000.0, 1.0))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    folder.write(path, make.measured(ASKED, LAWS))
    return path


def link(entry: Path) -> None:
    outside = entry.parents[1] / "outside"
    outside.write_text("mine")
    entry.unlink(missing_ok=True)
    entry.symlink_to(outside)


def fifo(entry: Path) -> None:
    entry.unlink(missing_ok=True)
    os.mkfifo(entry)


def bound_socket(entry: Path) -> None:
    entry.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(entry))


NAMES = ("run.json", "outcomes.jsonl", "telemetry.jsonl", "report.html", "log.txt", "stacks-a.txt")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("put", [link, fifo, bound_socket])
@pytest.mark.parametrize("act", [folder.load, folder.resume])
def test_what_is_no_plain_file_is_refused_by_name(
    run: Path, name: str, put: Callable[[Path], None], act: Callable[[Path], object]
) -> None:
    put(run / name)
    with pytest.raises(StoreError, match=f"{name}: .*plain files only"):
        act(run)
    outside = run.parent / "outside"
    assert not outside.exists() or outside.read_text() == "mine"


def test_a_linked_folder_inside_is_refused_and_one_that_the_user_names_is_not(run: Path) -> None:
    (run.parent / "latest").symlink_to(run)
    assert folder.load(run.parent / "latest").outcomes
    machines = run / "environments"
    machines.rename(run.parent / "elsewhere")
    machines.symlink_to(run.parent / "elsewhere")
    with pytest.raises(StoreError, match=r"environments: a symbolic link"):
        folder.load(run)


def test_a_link_in_place_of_a_draft_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / f".a.json.{os.getpid()}").symlink_to(outside)
    files.write_whole(tmp_path / "a.json", b"new")
    assert outside.read_text() == "mine"
    assert (tmp_path / "a.json").read_bytes() == b"new"


def test_a_journal_that_became_a_link_is_not_appended_to(run: Path) -> None:
    opened = folder.read_header(run)
    link(run / "outcomes.jsonl")
    with pytest.raises(StoreError, match=r"outcomes\.jsonl"):
        folder.RunFolder(run, opened)
    assert (run.parent / "outside").read_text() == "mine"


def test_a_packed_bomb_is_refused_before_it_is_unpacked(run: Path) -> None:
    bomb = gzip.compress(b"0" * 300 * 2**20)
    (run / "outcomes.jsonl").unlink()
    (run / "outcomes.jsonl.gz").write_bytes(bomb)
    with pytest.raises(StoreError, match="unpacks to more than"):
        folder.load(run)


def test_members_and_padding_are_unpacked_and_a_missing_end_is_told() -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"two") + b"\0" * 8
    assert inflate(packed) == b"onetwo"
    assert inflate(b"") == b""
    for size in range(1, len(gzip.compress(b"one" * 100))):
        with pytest.raises(EOFError):
            inflate(gzip.compress(b"one" * 100)[:size])


def test_a_file_is_read_up_to_its_most(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="larger than"):
        read_file(tmp_path / "a", 4)
    for other, why in (("/dev/zero", "regular"), (tmp_path, "directory"), ("nul\0name", "null")):
        with pytest.raises(OSError, match=why):
            read_file(Path(other), 4)


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [{"pattern": ["mamba9"]}]},
        {"budget": {"rounds": 2**63 - 1}},
        {"sweep": {"contexts": [2**62]}},
        {"name": "\u001b[31m"},
    ],
    ids=str,
)
def test_a_header_is_held_against_the_same_limits_as_a_scenario_file(
    run: Path, change: dict[str, object]
) -> None:
    def laid_over(value: object, over: object) -> object:
        if isinstance(value, dict) and isinstance(over, dict):
            return value | {key: laid_over(value.get(key), item) for key, item in over.items()}
        if isinstance(value, list) and isinstance(over, list) and over and value:
            return [laid_over(value[0], over[0]), *value[1:]]
        return over

    header = json.loads((run / "run.json").read_text())
    header["scenario"] = laid_over(header["scenario"], change)
    (run / "run.json").write_text(json.dumps(header))
    with pytest.raises(StoreError, match=r"run\.json"):
        folder.load(run)


def test_a_header_nested_beyond_reason_is_one_error(run: Path) -> None:
    (run / "run.json").write_text("[" * 100_000)
    with pytest.raises(StoreError, match=r"run\.json"):
        folder.load(run)
