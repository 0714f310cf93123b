"""The journal survives being killed at any instant and says so when it was damaged otherwise."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import failure, measurement, power_law, scenario
from make import jobs as all_jobs

from ssmprof.errors import StoreError
from ssmprof.store import schema
from ssmprof.store.journal import Journal, encode_line, parse, read

OUTCOMES = (
    measurement(context=512),
    failure(context=1024, detail="2 GiB gefordert, µ"),
    measurement(context=2048, time_s=1.23456789e-5),
)
BYTES = b"".join(encode_line(outcome) for outcome in OUTCOMES)


def test_what_was_appended_is_read_again_in_order(tmp_path: Path):
    file = tmp_path / "outcomes.jsonl"
    with Journal(file) as journal:
        for outcome in OUTCOMES:
            journal.append(outcome)
        assert journal.done == {outcome.key for outcome in OUTCOMES}
    with Journal(file) as again:
        assert tuple(again.outcomes) == tuple(journal.outcomes)
        assert [outcome.key for outcome in again.outcomes] == [o.key for o in OUTCOMES]


def test_an_outcome_reads_the_same_in_memory_and_from_the_disk(tmp_path: Path):
    outcomes = list(
        power_law(noise=0.1, mamba2=(1.0, 1.0), attention=(1.0, 1.1))(all_jobs(scenario()))
    )
    with Journal(tmp_path / "j") as journal:
        for outcome in outcomes:
            journal.append(outcome)
    assert read(tmp_path / "j").outcomes == tuple(journal.outcomes)


def test_samples_keep_six_digits():
    (outcome,) = parse(encode_line(OUTCOMES[2]), Path("j")).outcomes
    assert outcome.times_s == (1.23457e-5,) * 3


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, len(BYTES)))
def test_a_journal_cut_at_any_byte_loses_at_most_the_torn_line(cut: int):
    contents = parse(BYTES[:cut], Path("j"))
    whole = BYTES[:cut].count(b"\n")
    assert whole <= len(contents.outcomes) <= whole + 1  # the line break alone may be missing
    torn = cut not in (0, len(BYTES)) and len(contents.outcomes) == whole
    assert contents.dropped_lines == (torn and not BYTES[:cut].endswith(b"\n"))


@pytest.mark.parametrize("cut", [1, 40, BYTES.index("µ".encode()) + 1, len(BYTES) - 1])
def test_appending_after_a_torn_line_leaves_a_whole_journal(tmp_path: Path, cut: int):
    file = tmp_path / "j"
    file.write_bytes(BYTES[:cut])
    with Journal(file) as journal:
        missing = [outcome for outcome in OUTCOMES if outcome.key not in journal.done]
        for outcome in missing:
            journal.append(outcome)
    assert [outcome.key for outcome in read(file).outcomes] == [o.key for o in OUTCOMES]
    assert read(file).dropped_lines == 0


def test_a_bad_line_elsewhere_names_file_and_line(tmp_path: Path):
    file = tmp_path / "outcomes.jsonl"
    lines = BYTES.splitlines(keepends=True)
    file.write_bytes(lines[0] + b"{rubbish\n" + lines[2])
    with pytest.raises(StoreError, match=r"outcomes\.jsonl: line 2: "):
        Journal(file)
    assert file.read_bytes() == lines[0] + b"{rubbish\n" + lines[2]


def test_a_line_that_is_no_outcome_is_never_dropped_silently(tmp_path: Path):
    file = tmp_path / "outcomes.jsonl"
    file.write_bytes(BYTES + b'{"type":"measurement","point":{}}\n')
    with pytest.raises(StoreError, match="line 4"):
        Journal(file)


def test_two_sweeps_cannot_write_to_one_run(tmp_path: Path):
    with (
        Journal(tmp_path / "j"),
        pytest.raises(StoreError, match="another ssmprof is writing"),
    ):
        Journal(tmp_path / "j")


def test_a_full_disk_stops_at_once_and_keeps_every_finished_line(tmp_path: Path):
    file = tmp_path / "outcomes.jsonl"
    line = encode_line(OUTCOMES[0])
    code = f"""
import resource, signal
from pathlib import Path
from make import measurement
from ssmprof.errors import StoreError
from ssmprof.store.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({2 * len(line) + 20}, -1))
journal = Journal(Path({str(file)!r}))
journal.append(measurement(context=512)); journal.append(measurement(context=512))
try:
    journal.append(measurement(context=512))
except StoreError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert "--resume" in done.stdout
    assert file.read_bytes() == 2 * line
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_older_lines_are_upgraded_while_they_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "FORMAT", 2)
    monkeypatch.setitem(schema.UPGRADES, 1, lambda line: {**line, "cold_s": 7.0})
    (outcome,) = parse(encode_line(OUTCOMES[0]), Path("j"), 1).outcomes
    assert outcome.cold_s == 7.0
