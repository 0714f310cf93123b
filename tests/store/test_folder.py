"""Run folders: never overwritten, resumable, refused clearly when they cannot be read."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from make import ENVIRONMENT, environment, failure, measured, measurement, power_law, run, scenario
from msgspec.structs import replace

from ssmprof.errors import EXIT_NOT_KEPT, ConfigError, NotKeptError, StoreError
from ssmprof.records import TelemetrySample
from ssmprof.store import files, folder, schema

ASKED = scenario()
RUN = measured(ASKED, power_law(attention=(1.0, 2.0), mamba2=(8000.0, 1.0), noise=0.01))


def stored(path: Path) -> Path:
    folder.write(path / "run", RUN)
    return path / "run"


def test_a_run_written_and_loaded_holds_the_same_outcomes(tmp_path: Path):
    again = folder.load(stored(tmp_path))
    assert again.scenario == RUN.scenario
    assert again.environments == RUN.environments
    assert [outcome.key for outcome in again.outcomes] == [o.key for o in RUN.outcomes]
    for old, new in zip(RUN.measurements(), again.measurements(), strict=True):
        assert new.times_s == pytest.approx(old.times_s, rel=1e-5)


def test_results_are_never_overwritten(tmp_path: Path):
    path = stored(tmp_path)
    with pytest.raises(StoreError, match="never overwritten") as error:
        folder.create(path, ASKED)
    assert "--resume" in str(error.value)


def test_an_unwritable_folder_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/run"):
        folder.create(tmp_path / "file" / "run", ASKED)


def test_resuming_knows_what_is_done_and_refuses_another_scenario(tmp_path: Path):
    path = stored(tmp_path)
    with folder.resume(path, ASKED) as again:
        assert again.journal.done == {outcome.key for outcome in RUN.outcomes}
    with pytest.raises(StoreError, match="another scenario"):
        folder.resume(path, scenario(contexts=(512,)))


def test_a_folder_of_a_newer_format_names_file_version_and_mend(tmp_path: Path):
    path = stored(tmp_path)
    header = json.loads((path / "run.json").read_text())
    header["format"] = schema.FORMAT + 1
    (path / "run.json").write_text(json.dumps(header))
    for action in (folder.load, folder.resume):
        with pytest.raises(StoreError) as error:
            action(path)
        message = str(error.value)
        assert "run.json" in message
        assert f"format {schema.FORMAT + 1} is newer" in message
        assert "upgrade" in message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', '{"format": 1}', "\x00"])
def test_a_damaged_header_is_one_clear_error(tmp_path: Path, text: str):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoreError, match=r"run\.json"):
        folder.load(tmp_path)


def test_a_folder_without_a_run_says_so(tmp_path: Path):
    with pytest.raises(StoreError, match="not a run folder"):
        folder.load(tmp_path)


def test_a_torn_line_is_counted_and_the_rest_loads(tmp_path: Path):
    path = stored(tmp_path)
    file = path / "outcomes.jsonl"
    file.write_bytes(file.read_bytes()[:-7])
    again = folder.load(path)
    assert again.dropped_lines == 1
    assert len(again.outcomes) == len(RUN.outcomes) - 1


def test_a_missing_environment_is_an_error(tmp_path: Path):
    path = stored(tmp_path)
    (path / "environments" / f"{ENVIRONMENT.fingerprint}.json").unlink()
    with pytest.raises(StoreError, match="environments"):
        folder.load(path)


def test_of_two_outcomes_of_a_job_a_measurement_wins_then_the_later(tmp_path: Path):
    slow, fast = measurement(time_s=2.0), measurement(time_s=1.0)
    folder.write(tmp_path / "run", run(failure(), slow, failure(), fast))
    (kept,) = folder.load(tmp_path / "run").outcomes
    assert kept == fast


def test_merging_is_a_union_by_job(tmp_path: Path):
    half = len(RUN.outcomes) // 2 + 2
    first, second = (
        run(*RUN.outcomes[:half], asked=ASKED),
        run(*RUN.outcomes[half - 4 :], asked=ASKED),
    )
    assert folder.merge([first, second]).outcomes == RUN.outcomes


def test_merging_different_machines_must_be_asked_for():
    other = environment(device="Other GPU")
    elsewhere = run(
        measurement(environment=other.fingerprint, time_s=3.0),
        environments={other.fingerprint: other},
    )
    with pytest.raises(StoreError, match="different machines"):
        folder.merge([run(measurement()), elsewhere])
    both = folder.merge([run(measurement()), elsewhere], allow_different=True)
    assert len(both.outcomes) == 2


def test_a_packed_folder_is_small_loads_and_resumes(tmp_path: Path):
    path = stored(tmp_path)
    before, size = folder.load(path), (path / "outcomes.jsonl").stat().st_size
    (packed,) = files.pack(path)
    assert packed.stat().st_size < size / 4
    assert folder.load(path) == before
    assert files.pack(path) == [packed]
    with folder.resume(path) as again:
        assert again.journal.done == {outcome.key for outcome in before.outcomes}


def test_telemetry_is_kept(tmp_path: Path):
    with folder.create(tmp_path / "run", ASKED) as open_folder:
        open_folder.add_environment(ENVIRONMENT)
        open_folder.add_telemetry(TelemetrySample(unix_s=1_700_000_000.5, power_w=70.0))
    assert folder.load(tmp_path / "run").telemetry[0].unix_s == 1_700_000_000.5


SAMPLES = tuple(TelemetrySample(unix_s=1e9 + second) for second in range(50))


def watched(path: Path) -> Path:
    """A stored run with telemetry."""
    folder.write(path / "run", replace(RUN, telemetry=SAMPLES))
    return path / "run"


def test_a_power_cut_in_the_telemetry_costs_one_reading(tmp_path: Path):
    """Case 03: the torn line must not end up in the middle of the file."""
    path = watched(tmp_path)
    file = path / "telemetry.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert len(folder.load(path).telemetry) == len(SAMPLES) - 1
    with folder.resume(path) as again:
        again.add_telemetry(TelemetrySample(unix_s=2e9))
    loaded = folder.load(path)
    assert [one.unix_s for one in loaded.telemetry] == [
        *(one.unix_s for one in SAMPLES[:-1]), 2e9
    ]  # fmt: skip
    assert loaded.dropped == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"[" * 100_000 + b"\n{}\n",
        b"\xff\xfe\n\n[1]\nnull\n",
        b'{"unix_s":"x"}\n',
    ],
)  # fmt: skip
def test_nothing_in_the_telemetry_keeps_outcomes_from_being_read(tmp_path: Path, data: bytes):
    path = watched(tmp_path)
    (path / "telemetry.jsonl").write_bytes(data)
    loaded = folder.load(path)
    assert loaded.outcomes == folder.load(stored(tmp_path / "other")).outcomes
    assert loaded.telemetry == ()
    assert loaded.dropped_lines == 0
    assert bool(loaded.dropped) == (b"\n" in data)
    with folder.resume(path) as again:
        again.add_telemetry(SAMPLES[0])


@pytest.mark.parametrize("cut", [0, 1, 10, 60, -1])
def test_packed_telemetry_that_was_cut_short_is_told_and_no_more(tmp_path: Path, cut: int):
    """Case 09: gzip's end of file is not Ctrl-D."""
    path = watched(tmp_path)
    files.pack(path)
    packed = path / "telemetry.jsonl.gz"
    packed.write_bytes(packed.read_bytes()[:cut])
    loaded = folder.load(path)
    assert len(loaded.outcomes) == len(RUN.outcomes)
    assert loaded.telemetry == ()
    assert [one.file for one in loaded.dropped] == ["telemetry.jsonl"] * (cut != 0)
    with folder.resume(path) as again:
        again.add_telemetry(SAMPLES[0])
    assert folder.load(path).telemetry == SAMPLES[:1]


def test_packed_outcomes_that_were_cut_short_are_one_clear_error(tmp_path: Path):
    path = stored(tmp_path)
    (packed,) = files.pack(path)
    packed.write_bytes(packed.read_bytes()[:60])
    for action in (folder.load, folder.resume):
        with pytest.raises(StoreError, match=r"outcomes\.jsonl"):
            action(path)


def test_an_environment_that_nothing_refers_to_is_left_out(tmp_path: Path):
    path = stored(tmp_path)
    (path / "environments" / "0123456789ab.json").write_text("rubbish")
    loaded = folder.load(path)
    assert loaded.environments == RUN.environments
    assert [one.file for one in loaded.dropped] == ["environments/0123456789ab.json"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_can_hold_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    """Case 08."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with folder.create(tmp_path / "run", ASKED) as opened:
        assert not opened.locked
    folder.resume(tmp_path / "run").close()


def test_nobody_packs_or_resumes_a_run_that_is_written_to(tmp_path: Path):
    with folder.create(tmp_path / "run", ASKED) as opened:
        opened.add_environment(ENVIRONMENT)
        opened.journal.append(RUN.outcomes[0])
        for action in (files.pack, folder.resume):
            with pytest.raises(StoreError, match="another ssmprof"):
                action(tmp_path / "run")
        opened.journal.append(RUN.outcomes[1])
    assert len(folder.load(tmp_path / "run").outcomes) == 2


RACE = """
import sys
from pathlib import Path
from make import scenario
from ssmprof.errors import StoreError
from ssmprof.store import folder
path, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(25):
    try:
        with folder.create(path / str(turn), scenario(), command=name):
            (path / f"{turn}.{name}").touch()
    except StoreError as error:
        assert "already there" in str(error) or "another ssmprof" in str(error), error
"""


def test_of_two_who_create_one_folder_the_header_is_the_winners(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path), name], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=60)
        assert racer.returncode == 0
    for turn in range(25):
        winners = [name for name in ("one", "two") if (tmp_path / f"{turn}.{name}").exists()]
        assert len(winners) == 1
        assert folder.read_header(tmp_path / str(turn)).command == winners[0]
        assert {file.name for file in (tmp_path / str(turn)).iterdir()} == {
            "run.json", "outcomes.jsonl"
        }  # fmt: skip


def test_a_file_system_without_hard_links_can_hold_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    folder.create(tmp_path / "run", ASKED).close()
    assert folder.read_header(tmp_path / "run").scenario == ASKED
    with pytest.raises(StoreError, match="never overwritten"):
        folder.create(tmp_path / "run", ASKED)


def test_drafts_of_a_dead_writer_are_removed_and_those_of_a_living_one_are_not(tmp_path: Path):
    path = stored(tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = [
        path / f".run.json.{dead.pid}",
        path / "environments" / f".0123456789ab.json.{dead.pid}",
    ]
    kept = [path / f".outcomes.jsonl.gz.{os.getpid()}", path / ".notes.17", path / ".hidden"]
    for file in (*stale, *kept):
        file.write_text("")
    folder.resume(path).close()
    assert not any(file.exists() for file in stale)
    assert all(file.exists() for file in kept)


def test_a_full_disk_is_not_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(NotKeptError, match="No space left") as raised:
        folder.create(tmp_path / "run", ASKED)
    assert raised.value.exit_code == EXIT_NOT_KEPT == 74
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("record", schema.RECORDS)
def test_every_record_has_a_json_schema(record: str):
    assert schema.json_schema(record)["$defs"]


def test_an_unknown_record_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match='did you mean "measurement"'):
        schema.json_schema("measurment")
