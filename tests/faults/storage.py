"""Campaigns against what is kept: torn, flipped, replaced, foreign and unlockable files."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import fakes
import make
from ledger import Ledger, check_equal, check_nothing_left, check_once, loaded
from workers import jobs, swept

from ssmprof.errors import NotKeptError, StoreError
from ssmprof.measure.workers.client import Client
from ssmprof.records import Job, Outcome, TelemetrySample
from ssmprof.store import files, folder
from ssmprof.store.journal import encode_line, parse

SAMPLES = tuple(TelemetrySample(unix_s=1e9 + second, power_w=70.0) for second in range(20))
FLIPS = 20_000


def damaged(path: Path, seed: int, ledger: Ledger) -> None:
    """A finished run is damaged in every way and resumed: nothing else may be lost."""
    draw = random.Random(seed)
    todo = jobs(12)
    tag = f"tag-storage-{os.getpid()}"
    with fakes.client(environ={"SSMPROF_TEST_TAG": tag}) as client:
        swept(path / "whole", todo, client)
        with folder.resume(path / "whole") as run:
            for sample in SAMPLES:
                run.add_telemetry(sample)
        whole = loaded(path / "whole", ledger, "whole")
        for turn in range(90):
            damage = draw.choice(DAMAGES)
            where = f"{damage.__name__.strip('_')} {turn}"
            run_path = path / f"run-{turn}"
            shutil.copytree(path / "whole", run_path)
            untouched = damage(run_path, draw)
            ledger.inject(f"storage: {damage.__name__.strip('_').replace('_', ' ')}")
            _check_damaged(run_path, whole, untouched, ledger, where)
            _resumed(run_path, todo, client, whole, ledger, where)
            shutil.rmtree(run_path)
        for turn, change in enumerate(CHANGES * 6):
            _changed(path / f"changed-{turn}", change, todo, client, whole, ledger, draw)
        for turn, number in enumerate([errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP] * 2):
            _unlocked(path / f"unlocked-{turn}", number, todo, client, whole, ledger)
    check_nothing_left(tag, path / "tmp", ledger, "storage")


def _check_damaged(
    path: Path, whole: dict[str, Outcome], untouched: int, ledger: Ledger, where: str
) -> None:
    """What is read of a damaged run is true, and all that was untouched is read."""
    now = loaded(path, ledger, where)
    for key, outcome in now.items():
        if whole.get(key) != outcome:
            ledger.find("wrong accepts", f"{where}: {key}")
    if len(now) < untouched:
        ledger.find("finished points lost", f"{where}: {len(now)} of {untouched} read")


def _resumed(
    path: Path, todo: list[Job], client: Client, whole: dict[str, Outcome], ledger: Ledger,
    where: str,
) -> None:  # fmt: skip
    try:
        swept(path, todo, client)
        with folder.resume(path) as run:
            run.add_telemetry(SAMPLES[0])
    except StoreError as error:
        ledger.find("resumed runs that differ", f"{where}: {error}")
        return
    check_equal(loaded(path, ledger, where), whole, ledger, where)
    check_once(path / "outcomes.jsonl", ledger, where)


def _torn_tail(path: Path, draw: random.Random) -> int:
    """A power cut: the journal ends anywhere."""
    file = path / "outcomes.jsonl"
    data = file.read_bytes()[: draw.randrange(file.stat().st_size)]
    file.write_bytes(data)
    return data.count(b"\n")


def _zeroed_tail(path: Path, draw: random.Random) -> int:
    """A power cut on a file system that had only kept the length."""
    file = path / "outcomes.jsonl"
    data, cut = file.read_bytes(), draw.randrange(file.stat().st_size)
    file.write_bytes(data[:cut] + bytes(len(data) - cut))
    return data[:cut].count(b"\n")


def _untouched(data: bytes, start: int, end: int) -> int:
    """How many lines share no byte with [start, end), nor the line break before them."""
    count, position = 0, 0
    for line in data.splitlines(keepends=True):
        count += end < position or start >= position + len(line)
        position += len(line)
    return count


def _flipped_bit(path: Path, draw: random.Random) -> int:
    file = path / "outcomes.jsonl"
    data = file.read_bytes()
    position = draw.randrange(8 * len(data))
    changed = bytearray(data)
    changed[position // 8] ^= 1 << position % 8
    file.write_bytes(changed)
    return _untouched(data, position // 8, position // 8 + 1)


def _lost_block(path: Path, draw: random.Random) -> int:
    """A sector of another file in the middle."""
    file = path / "outcomes.jsonl"
    data = file.read_bytes()
    start = draw.randrange(len(data))
    block = draw.randbytes(min(512, len(data) - start))
    file.write_bytes(data[:start] + block + data[start + len(block) :])
    return _untouched(data, start, start + len(block))


FOREIGN = [b"\n", b"{}\n", b"[]\n", b'{"type":"failure"}\n', b"\xff\xfe\n", b"[" * 9999 + b"\n"]


def _foreign_line(path: Path, draw: random.Random) -> int:
    file = path / "outcomes.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines.insert(draw.randrange(len(lines)), draw.choice(FOREIGN))
    file.write_bytes(b"".join(lines))
    return 12


def _torn_telemetry(path: Path, draw: random.Random) -> int:
    file = path / "telemetry.jsonl"
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
    return 12


def _foreign_telemetry(path: Path, draw: random.Random) -> int:
    (path / "telemetry.jsonl").write_bytes(draw.randbytes(draw.randrange(2000)))
    return 12


def _cut_packed_telemetry(path: Path, draw: random.Random) -> int:
    files.pack(path)
    file = path / "telemetry.jsonl.gz"
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
    return 12


def _half_packed(path: Path, draw: random.Random) -> int:
    """Packing ended after the packed file was written and before the plain one was removed."""
    data = (path / "outcomes.jsonl").read_bytes()
    files.pack(path)
    (path / "outcomes.jsonl").write_bytes(data)
    return 12


def _stale_draft(path: Path, draw: random.Random) -> int:
    for name in (".outcomes.jsonl.gz.999999999", ".run.json.999999999"):
        (path / name).write_bytes(draw.randbytes(50))
    return 12


DAMAGES: list[Callable[[Path, random.Random], int]] = [
    _torn_tail, _torn_tail, _zeroed_tail, _flipped_bit, _flipped_bit, _lost_block, _foreign_line,
    _torn_telemetry, _foreign_telemetry, _cut_packed_telemetry, _half_packed, _stale_draft,
]  # fmt: skip


def _unlink(file: Path) -> None:
    file.unlink()


def _replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(file.read_bytes())
    other.replace(file)


def _truncate(file: Path) -> None:
    os.truncate(file, 100)


def _write_into(file: Path) -> None:
    with file.open("ab") as other:
        other.write(b'{"crc":"00000000","type":"failure"}\n')


CHANGES: list[Callable[[Path], None]] = [_unlink, _replace, _truncate, _write_into]


def _changed(
    path: Path, change: Callable[[Path], None], todo: list[Job], client: Client,
    whole: dict[str, Outcome], ledger: Ledger, draw: random.Random,
) -> None:  # fmt: skip
    """Something else changes the journal while a sweep writes to it, and puts it back later."""
    where = f"journal: {change.__name__.strip('_').replace('_', ' ')}"
    file, after = path / "outcomes.jsonl", draw.randrange(1, len(todo) - 1)
    kept: list[bytes] = []
    finished: list[str] = []

    def told(outcome: Outcome) -> None:
        finished.append(outcome.key)
        if len(finished) == after:
            kept.append(file.read_bytes())
            change(file)

    ledger.inject(where)
    try:
        swept(path, todo, client, told)
        ledger.find("finished points lost", f"{where}: went on as if nothing had happened")
    except NotKeptError:
        pass
    if len(finished) != after:
        ledger.find("finished points lost", f"{where}: {len(finished) - after} after the change")
    file.write_bytes(kept[0])
    if missing := set(finished) - loaded(path, ledger, where).keys():
        ledger.find("finished points lost", f"{where}: {missing}")
    _resumed(path, todo, client, whole, ledger, where)


def _unlocked(
    path: Path, number: int, todo: list[Job], client: Client, whole: dict[str, Outcome],
    ledger: Ledger,
) -> None:  # fmt: skip
    """A file system that refuses locks."""
    flock = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    ledger.inject("locks refused")
    fcntl.flock = refuse
    try:
        swept(path, todo[:6], client)
        _resumed(path, todo, client, whole, ledger, f"no locks: {os.strerror(number)}")
    finally:
        fcntl.flock = flock


def flipped(path: Path, seed: int, ledger: Ledger) -> None:
    """Single bits of a journal are flipped: no line is read as another than it was."""
    draw = random.Random(seed)
    data = b"".join(_lines())
    truth = parse(data, path)
    assert not truth.dropped
    for _ in range(FLIPS):
        position = draw.randrange(8 * len(data))
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        found = parse(bytes(changed), path)
        ledger.flips += 1
        if not found.dropped:
            ledger.find("wrong accepts", f"bit {position}: nothing was noticed")
        if not all(outcome in truth.outcomes for outcome in found.outcomes):
            ledger.find("wrong accepts", f"bit {position}: another outcome was read")
        if len(found.outcomes) < len(truth.outcomes) - 2:
            ledger.find("finished points lost", f"bit {position}: more than the lines it touches")


def _lines() -> Iterator[bytes]:
    """A small journal with everything an outcome may hold."""
    for turn in range(4):
        yield encode_line(
            make.measurement(
                context=64 + turn, time_s=1.2345e-3 * (turn + 1), memory=make.memory(),
                attribution=make.attribution(), cold_s=0.25, providers={"scan": "own"},
            )
        )  # fmt: skip
        yield encode_line(make.failure(context=128 + turn, detail="2 GiB gefordert, µ"))
