"""What parent and worker say to each other: one JSON line per message, on pipes of their own.

A library that prints cannot corrupt an answer, since standard output is another file.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ssmprof.records import Environment, Job, Measurement, Memory, Outcome


class Measure(Struct, frozen=True, kw_only=True, tag="measure"):
    """Parent: measure this job in all passes but the memory of a fresh process.

    `chosen` are the implementations that other workers of the sweep found fastest; `folder` keeps
    what is too big for a record (collapsed stacks).
    """

    job: Job
    chosen: dict[str, str] = {}
    folder: str | None = None


class Weigh(Struct, frozen=True, kw_only=True, tag="weigh"):
    """Parent, to a worker that has run nothing else: the memory of this job's call."""

    job: Job
    chosen: dict[str, str] = {}


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
    """Worker: the outcome of the job it was given, and the implementations chosen so far."""

    outcome: Outcome
    chosen: dict[str, str] = {}


class Weighed(Struct, frozen=True, kw_only=True, tag="weighed"):
    """Worker: the memory of the job, or why there is none.

    `cold_s` is the first call of a process that has run nothing else, `compilations` the kernels
    it had to compile.
    """

    key: str
    memory: Memory | None = None
    missing: str | None = None
    chosen: dict[str, str] = {}
    cold_s: float | None = None
    compilations: int | None = None
    measuring_s: float = 0.0
    wall_s: float = 0.0


Request = Measure | Weigh
Reply = Hello | Doing | Kept | Answer | Weighed

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
