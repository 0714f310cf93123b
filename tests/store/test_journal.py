"""The journal survives being killed at any instant and says so when it was damaged otherwise."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import failure, measurement, power_law, scenario
from make import jobs as all_jobs

from ssmprof.errors import EXIT_NOT_KEPT, NotKeptError, StoreError
from ssmprof.store import journal as journal_module
from ssmprof.store import lock, schema
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


@settings(max_examples=200)
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


def test_a_bad_line_is_left_out_by_its_number_and_the_rest_is_read(tmp_path: Path):
    file = tmp_path / "outcomes.jsonl"
    lines = BYTES.splitlines(keepends=True)
    damaged = lines[0] + b"{rubbish\n" + lines[2]
    file.write_bytes(damaged)
    with Journal(file) as journal:
        assert journal.done == {OUTCOMES[0].key, OUTCOMES[2].key}
        (dropped,) = journal.dropped
        assert str(dropped).startswith("outcomes.jsonl: line 2: ")
        journal.append(OUTCOMES[1])
    assert file.read_bytes() == damaged + lines[1], "what is bad stays for whoever looks into it"
    assert {outcome.key for outcome in read(file).outcomes} == {one.key for one in OUTCOMES}


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"measurement","point":{}}',
        b"[]", b"null", b"", b"7", b"[" * 100_000, b'{"crc":"00000000","type":"failure"}',
    ],
)  # fmt: skip
def test_a_line_that_is_no_outcome_is_never_dropped_silently(tmp_path: Path, line: bytes):
    file = tmp_path / "outcomes.jsonl"
    for data in (line, schema.sealed(line) if line[:1] == b"{" else line):
        file.write_bytes(BYTES + data + b"\n")
        with Journal(file) as journal:
            assert [one.line for one in journal.dropped] == [4]
            assert len(journal.outcomes) == 3


@settings(max_examples=300)
@given(position=st.integers(0, 8 * len(BYTES) - 1))
def test_no_flipped_bit_is_accepted_silently(position: int):
    data = bytearray(BYTES)
    data[position // 8] ^= 1 << position % 8
    contents = parse(bytes(data), Path("j"))
    assert contents.dropped_lines
    assert all(outcome in parse(BYTES, Path("j")).outcomes for outcome in contents.outcomes)


def test_an_outcome_line_is_plain_json_whose_checksum_others_can_check():
    line = encode_line(OUTCOMES[1])
    plain = json.loads(line)
    assert next(iter(plain)) == "crc"
    without = line.rstrip(b"\n").replace(b'"crc":"%s",' % plain["crc"].encode(), b"")
    assert f"{zlib.crc32(without):08x}" == plain["crc"]
    assert plain["detail"] == "2 GiB gefordert, µ"


def test_what_another_process_wrote_before_the_lock_was_free_is_kept(tmp_path: Path):
    """A resume that waits for the lock must not cut off what was written while it waited."""
    file = tmp_path / "j"
    line = encode_line(OUTCOMES[0])
    file.write_bytes(line)
    taken = lock.take
    late = BYTES[len(line) :]

    def slowly(descriptor: int, name: Path) -> bool:
        with file.open("ab") as other:
            other.write(late)
        return taken(descriptor, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "take", slowly)
        with Journal(file) as journal:
            assert journal.done == {outcome.key for outcome in OUTCOMES}
    assert file.read_bytes() == BYTES


def _unlink(file: Path) -> None:
    file.unlink()


def _replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.replace(file)


def _move_folder(file: Path) -> None:
    file.parent.rename(file.parent.with_name("moved"))


def _truncate(file: Path) -> None:
    os.truncate(file, 10)


def _append(file: Path) -> None:
    with file.open("ab") as other:
        other.write(b"{}\n")


@pytest.mark.parametrize("change", [_unlink, _replace, _move_folder, _truncate, _append])
def test_a_journal_that_is_not_ours_any_more_is_told_before_the_next_line(tmp_path, change):
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "outcomes.jsonl"
    with Journal(file) as journal:
        journal.append(OUTCOMES[0])
        change(file)
        with pytest.raises(NotKeptError, match="during the run") as raised:
            journal.append(OUTCOMES[1])
        assert OUTCOMES[1].key not in journal.done
    assert raised.value.exit_code == EXIT_NOT_KEPT


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_another_ssmprof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Journal(tmp_path / "j") as journal, Journal(tmp_path / "j") as other:
        assert not journal.locked
        journal.append(OUTCOMES[0])
        with pytest.raises(NotKeptError, match="was changed during the run"):
            other.append(OUTCOMES[1])


def test_a_new_journal_is_synced_with_the_folder_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    with Journal(tmp_path / "j") as journal:
        assert synced == [str(tmp_path)]
        journal.append(OUTCOMES[0])
    assert synced == [str(tmp_path), str(tmp_path / "j")]


def test_a_transient_failure_is_to_be_measured_again_and_then_replaced(tmp_path: Path):
    file = tmp_path / "j"
    lost = failure(context=512, reason="crash", transient=True)
    with Journal(file) as journal:
        journal.append(lost)
        assert journal.done == set()
        assert journal.outcomes == [lost]
    with Journal(file) as journal:
        assert journal.done == set()
        journal.append(OUTCOMES[0])
        assert journal.done == {OUTCOMES[0].key}
        assert [one.key for one in journal.outcomes] == [OUTCOMES[0].key]
    with Journal(file) as journal:
        assert [one.key for one in journal.outcomes] == [OUTCOMES[0].key]
        assert journal.outcomes[0] != lost


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
    line = schema.unsealed(encode_line(OUTCOMES[0]).rstrip(b"\n"))
    (outcome,) = parse(line + b"\n", Path("j"), 1).outcomes
    assert outcome.cold_s == 7.0
