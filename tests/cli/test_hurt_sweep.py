"""`ssmprof sweep` that is told to end, that nobody listens to, or whose folder is taken away."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes
import pytest
from virtual import POINTS, Sweep

from ssmprof.cli import main
from ssmprof.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_NOT_KEPT,
    EXIT_WITHHELD,
)
from ssmprof.store import folder

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_to_end_keeps_the_point_and_says_how_to_go_on(tmp_path: Path, number: int):
    sweep = Sweep(tmp_path, nap_s=0.1)
    process = sweep.start()
    sweep.wait_for(3)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED
    assert "ssmprof sweep --resume run" in said.splitlines()[-1]
    assert sweep.leaves_nothing()
    kept = folder.load(sweep.run).outcomes
    assert 3 <= len(kept) < POINTS
    sweep.environ[fakes.NAP] = "0"
    assert sweep.start("--resume", "run").wait(60) == EXIT_WITHHELD
    assert sweep.is_whole()
    assert folder.load(sweep.run).outcomes[: len(kept)] == kept


@pytest.mark.parametrize("number", ENDS)
def test_a_second_signal_ends_at_once_and_still_says_how_to_go_on(tmp_path: Path, number: int):
    sweep = Sweep(tmp_path, nap_s=100.0)
    process = sweep.start()
    sweep.wait_for(0)
    time.sleep(0.5)
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None, "the point in flight is waited for"
    process.send_signal(number)
    _, said = process.communicate(timeout=15)
    assert process.returncode == EXIT_INTERRUPTED
    assert "ssmprof sweep --resume run" in said.splitlines()[-1]
    assert sweep.leaves_nothing()


def test_under_nohup_a_sweep_outlives_its_terminal(tmp_path: Path):
    sweep = Sweep(tmp_path, nap_s=0.02)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = sweep.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    sweep.wait_for(2)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == EXIT_WITHHELD
    assert sweep.is_whole()


def _closed(fd: int) -> dict[str, object]:
    return {"preexec_fn": lambda: os.close(fd)}


def _full() -> object:
    return open("/dev/full", "w")


def _unread() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def _hung_up() -> int:
    """The other end of a terminal that is gone."""
    master, slave = pty.openpty()
    os.close(master)
    return slave


STREAMS = {
    "stderr closed": lambda: _closed(2),
    "stdout closed": lambda: _closed(1),
    "both closed": lambda: {"preexec_fn": lambda: (os.close(1), os.close(2))},
    "stderr full": lambda: {"stderr": _full()},
    "stdout full": lambda: {"stdout": _full()},
    "stderr unread": lambda: {"stderr": _unread()},
    "stdout unread": lambda: {"stdout": _unread()},
    "both unread": lambda: {"stderr": _unread(), "stdout": _unread()},
    "terminal gone": lambda: {"stderr": _hung_up(), "stdout": _hung_up()},
}


@pytest.mark.parametrize("case", STREAMS)
def test_a_sweep_that_nobody_listens_to_measures_all_and_its_exit_code_is_its_own(tmp_path, case):
    sweep = Sweep(tmp_path)
    values = STREAMS[case]()
    process = sweep.start(**values)
    for stream in values.values():
        if isinstance(stream, int):
            os.close(stream)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_WITHHELD, said
    assert "Traceback" not in (said or "")
    assert "Exception ignored" not in (said or "")
    assert sweep.is_whole()
    assert sweep.leaves_nothing()


def test_a_terminal_that_hangs_up_in_the_middle_ends_no_measurement(tmp_path: Path):
    sweep = Sweep(tmp_path, nap_s=0.05)
    master, slave = pty.openpty()
    process = sweep.start(stderr=slave, stdout=slave)
    os.close(slave)
    sweep.wait_for(3)
    os.close(master)
    assert process.wait(60) == EXIT_WITHHELD
    assert sweep.is_whole()


@pytest.mark.parametrize("change", ["unlink", "replace"])
def test_a_journal_that_is_taken_away_is_told_and_not_filled(tmp_path: Path, change: str):
    sweep = Sweep(tmp_path, nap_s=0.05)
    process = sweep.start()
    sweep.wait_for(3)
    file = sweep.run / "outcomes.jsonl"
    data = file.read_bytes()
    file.unlink()
    if change == "replace":
        file.write_bytes(data)
    _, said = process.communicate(timeout=30)
    assert process.returncode == EXIT_NOT_KEPT
    assert "outcomes.jsonl: was removed or replaced during the run" in said
    assert "Traceback" not in said
    assert sweep.leaves_nothing()


def test_a_full_disk_has_an_exit_code_of_its_own_and_a_resume_goes_on(tmp_path: Path):
    sweep = Sweep(tmp_path)
    limit = (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    process = sweep.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, said = process.communicate(timeout=30)
    assert process.returncode == EXIT_NOT_KEPT, said
    assert "outcomes.jsonl: cannot be written" in said
    assert "--resume" in said
    assert sweep.leaves_nothing()
    assert sweep.start("--resume", "run").wait(60) == EXIT_WITHHELD
    assert sweep.is_whole()


def test_output_on_a_full_disk_is_one_line_and_no_wrong_use(tmp_path: Path):
    command = [sys.executable, "-m", "ssmprof", "models", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == EXIT_NOT_KEPT
    assert done.stderr.splitlines() == ["error: output: No space left on device"]


BUG = """
import sys
from ssmprof.cli import main, models
def broken(*_, **__):
    raise ZeroDivisionError("nine\\nlives")
models.command.callback = broken
main(sys.argv[1:])
"""


@pytest.mark.parametrize("options", [(), ("--exit-zero",)])
def test_a_bug_is_told_apart_from_a_finding_in_one_line(tmp_path: Path, options: tuple[str, ...]):
    command = [sys.executable, "-c", BUG, *options, "models"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == EXIT_INTERNAL == 70
    (line,) = done.stderr.splitlines()
    assert line.startswith("internal error: ZeroDivisionError: nine lives (at ")
    assert line.endswith("--debug shows where")


def test_exit_zero_makes_no_success_of_an_interruption(tmp_path: Path):
    """Else the next step of a script would take what was interrupted for whole."""
    killed = BUG.replace('raise ZeroDivisionError("nine\\nlives")', "os.kill(os.getpid(), 15)")
    command = [sys.executable, "-c", f"import os{killed}", "--exit-zero", "models"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == EXIT_INTERRUPTED
    assert done.stderr.strip() == "interrupted"


LATE = """
import atexit, signal, sys
from functools import partial
from ssmprof.cli import main, models, streams
number, place = int(sys.argv.pop(1)), sys.argv.pop(1)
send = partial(signal.raise_signal, number)
def tell(text, say=streams.tell):
    say(text)
    send()
class Last:
    def __del__(self, send=send):
        send()
def interrupted(*_, **__):
    if place == "telling":
        streams.tell = tell
    elif place == "leaving":
        atexit.register(send)
    else:
        sys.last = Last()
    raise KeyboardInterrupt
models.command.callback = interrupted
main()
"""


@pytest.mark.parametrize("place", ["telling", "leaving", "torn down"])
@pytest.mark.parametrize("number", ENDS)
def test_a_signal_after_the_command_changes_neither_code_nor_words(tmp_path, number, place):
    """Up to the last step of the interpreter, which gives signals their deadly default back."""
    command = [sys.executable, "-c", LATE, str(int(number)), place, "models"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == EXIT_INTERRUPTED
    assert done.stderr.strip() == "interrupted"


def test_who_calls_main_from_python_gets_the_handlers_back():
    before = [signal.getsignal(number) for number in ENDS]
    with pytest.raises(SystemExit):
        main(["models"])
    assert [signal.getsignal(number) for number in ENDS] == before


def test_debug_shows_where_a_bug_is(tmp_path: Path):
    command = [sys.executable, "-c", BUG, "--debug", "models"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == EXIT_INTERNAL
    assert "Traceback" in done.stderr


def test_debug_keeps_the_exit_code_of_an_error(tmp_path: Path):
    command = [sys.executable, "-m", "ssmprof", "--debug", "report", "no/such/run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_run_with_damaged_telemetry_is_reported(tmp_path: Path):
    """Case 09, at the command."""
    sweep = Sweep(tmp_path)
    assert sweep.start("asked.toml", "-o", "run", "--pack").wait(60) == EXIT_WITHHELD
    (sweep.run / "telemetry.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00cut")
    command = [sys.executable, "-m", "ssmprof", "--exit-zero", "report", "run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=sweep.environ)
    assert done.returncode == 0, done.stderr
    assert "left out telemetry.jsonl: cannot be read" in done.stderr
    assert Path(tmp_path, done.stdout.strip()).is_file()
