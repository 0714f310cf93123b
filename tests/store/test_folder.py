"""Run folders: never overwritten, resumable, refused clearly when they cannot be read."""

import json
from pathlib import Path

import pytest
from make import ENVIRONMENT, environment, failure, measured, measurement, power_law, run, scenario

from ssmprof.errors import ConfigError, StoreError
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


def test_telemetry_and_log_are_kept(tmp_path: Path):
    with folder.create(tmp_path / "run", ASKED) as open_folder:
        open_folder.add_environment(ENVIRONMENT)
        open_folder.add_telemetry(TelemetrySample(unix_s=1_700_000_000.5, power_w=70.0))
        open_folder.log("started")
    assert folder.load(tmp_path / "run").telemetry[0].unix_s == 1_700_000_000.5
    assert "started" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize("record", schema.RECORDS)
def test_every_record_has_a_json_schema(record: str):
    assert schema.json_schema(record)["$defs"]


def test_an_unknown_record_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match='did you mean "measurement"'):
        schema.json_schema("measurment")
