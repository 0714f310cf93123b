"""What parent and worker say to each other: one JSON line per message, on pipes of their own.

A library that prints cannot corrupt an answer, since standard output is another file.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ssmprof.records import (
    Environment,
    Job,
    Measurement,
    Memory,
    OpChoice,
    Outcome,
    Sampling,
    Trials,
)


class Measure(Struct, frozen=True, kw_only=True, tag="measure"):
    """Parent: measure this job in all passes but the memory of a fresh process.

    `chosen` says who runs which op (op -> provider) where that was decided; `folder` keeps what is
    too big for a record (collapsed stacks).
    """

    job: Job
    chosen: dict[str, str] = {}
    folder: str | None = None


class Weigh(Struct, frozen=True, kw_only=True, tag="weigh"):
    """Parent, to a worker that has run nothing else: the memory of this job's call."""

    job: Job
    chosen: dict[str, str] = {}


class Pair(Struct, frozen=True, kw_only=True, tag="pair"):
    """Parent: measure these contenders in turn at their length; one alone where it must be.

    `chosen` has one entry per job, in their order.
    """

    jobs: tuple[Job, ...]
    chosen: tuple[dict[str, str], ...]
    sampling: Sampling


class Decide(Struct, frozen=True, kw_only=True, tag="decide"):
    """Parent: find out who runs the ops of a block best; `excluded` have killed a worker.

    An entry is `op provider`.
    """

    trials: Trials
    process: int
    excluded: tuple[str, ...] = ()


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """Worker: the device is there and this is what it is."""

    environment: Environment


class Doing(Struct, frozen=True, kw_only=True, tag="doing"):
    """Worker: the pass that begins; names where a hang or a crash happened."""

    stage: str


class Kept(Struct, frozen=True, kw_only=True, tag="kept"):
    """Worker: the measurement so far; it stands if a later pass kills the worker."""

    measurement: Measurement


class Answer(Struct, frozen=True, kw_only=True, tag="answer"):
    """Worker: the outcome of the job it was given."""

    outcome: Outcome


class Paired(Struct, frozen=True, kw_only=True, tag="paired"):
    """Worker: outcomes of contenders at one length, those of jobs it had to give up left out.

    `apart` says why they do not fit beside each other on the device; there are no outcomes then.
    """

    outcomes: tuple[Outcome, ...] = ()
    apart: str | None = None


class Decided(Struct, frozen=True, kw_only=True, tag="decided"):
    """Worker: who runs what, by op and length, and why a length (by its context) is missing.

    `candidates` False says that nothing on this device has more than one implementation.
    """

    choices: tuple[OpChoice, ...] = ()
    missing: dict[int, str] = {}
    candidates: bool = True


class Weighed(Struct, frozen=True, kw_only=True, tag="weighed"):
    """Worker: the memory of the job, or why there is none.

    `cold_s` is the first call of a process that has run nothing else, `compilations` the kernels
    it had to compile.
    """

    key: str
    memory: Memory | None = None
    missing: str | None = None
    cold_s: float | None = None
    compilations: int | None = None
    measuring_s: float = 0.0
    wall_s: float = 0.0


Request = Measure | Weigh | Pair | Decide
Reply = Hello | Doing | Kept | Answer | Weighed | Paired | Decided

_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(Request)
_replies = msgspec.json.Decoder(Reply)


def line(message: Request | Reply) -> bytes:
    """One message as one line."""
    return _encoder.encode(message) + b"\n"


def request(data: bytes) -> Request:
    """Decode a line of the parent. Raises msgspec.DecodeError."""
    return _requests.decode(data)


def reply(data: bytes) -> Reply:
    """Decode a line of the worker. Raises msgspec.DecodeError."""
    return _replies.decode(data)
