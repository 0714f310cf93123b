"""Traces with the prefixes of real ones, from a few parameters and a seed.

A session opens with one of a few shared system prompts; each of its turns appends what was said
before, the answer to it and new words of the user. A branch starts again from an earlier turn, as
one who edits a question does. Blocks are named by what stands in them and before them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from ssmprof import limits
from ssmprof.errors import ConfigError, nearest
from ssmprof.serving.requests import BLOCK_TOKENS, Request, Trace

Count = Annotated[int, Meta(ge=1, le=limits.SESSIONS)]
Tokens = Annotated[int, Meta(ge=1, le=limits.GENERATED_TOKENS)]
Some = Annotated[int, Meta(ge=0, le=limits.GENERATED_TOKENS)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=limits.SECONDS)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a generated trace; lengths are means of exponential distributions.

    `spread` draws them so far around their means: 0 gives every length its mean, 1 the whole
    distribution. `systems` prompts are shared by all sessions (0 for none); `branch` is the share
    of turns that start again from an earlier one. Sessions come as a Poisson process of
    `sessions_per_s`, a turn `think_s` after the one before it, in the mean.
    """

    sessions: Count = 100
    turns: Count = 5
    systems: Annotated[int, Meta(ge=0, le=limits.SESSIONS)] = 4
    system_tokens: Some = 1024
    user_tokens: Tokens = 512
    output_tokens: Tokens = 256
    spread: Share = 1.0
    branch: Share = 0.1
    sessions_per_s: Positive = 1.0
    think_s: Positive = 30.0
    block_tokens: Tokens = BLOCK_TOKENS
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


def parameters(text: str) -> Parameters:
    """`sessions=200,turns=6` -> parameters. Raises ConfigError with the part at fault."""
    values: dict[str, str] = {}
    for part in text.split(","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if name not in Parameters.__struct_fields__:
            known = nearest(name, Parameters.__struct_fields__)
            raise ConfigError(f'requests: unknown parameter "{name[:40]}"{known}')
        if not sign or name in values:
            raise ConfigError(f'requests: "{part[:40]}" is not NAME=VALUE, once for each name')
        values[name] = value
    try:
        return msgspec.convert(values, Parameters, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"requests: {error}") from None


class _Segment(msgspec.Struct, frozen=True):
    """So many tokens that stand nowhere else."""

    name: int
    tokens: int


class _Maker:
    """Draws lengths and names blocks; the same parameters make the same trace."""

    def __init__(self, given: Parameters) -> None:
        self.given = given
        self.random = random.Random(given.seed)
        self._segments = 0
        self._blocks: dict[tuple[int, ...], int] = {}

    def segment(self, mean: int) -> _Segment:
        spread = self.given.spread
        drawn = mean * (1 - spread + spread * self.random.expovariate(1.0))
        self._segments += 1
        return _Segment(self._segments, max(1, round(drawn)))

    def waits(self, mean_s: float) -> float:
        return self.random.expovariate(1 / mean_s)

    def blocks(self, prompt: tuple[_Segment, ...]) -> tuple[int, ...]:
        """A block is named by the one before it and by the pieces of segments in it."""
        names: list[int] = []
        pieces: list[int] = []
        free = self.given.block_tokens
        for segment in prompt:
            start = 0
            while start < segment.tokens:
                end = min(segment.tokens, start + free)
                pieces += (segment.name, start, end)
                free -= end - start
                start = end
                if not free:
                    self._name(names, pieces)
                    pieces, free = [], self.given.block_tokens
        if pieces:
            self._name(names, pieces)
        return tuple(names)

    def _name(self, names: list[int], pieces: list[int]) -> None:
        key = (names[-1] if names else -1, *pieces)
        names.append(self._blocks.setdefault(key, len(self._blocks)))

    def session(self, start_s: float, system: _Segment | None) -> Iterator[Request]:
        given, at = self.given, start_s
        prompt = (system,) if system else ()
        past: list[tuple[_Segment, ...]] = [prompt]
        for turn in range(given.turns):
            if turn:
                at += self.waits(given.think_s)
            branches = len(past) > 1 and self.random.random() < given.branch
            before = self.random.choice(past[:-1]) if branches else past[-1]
            prompt = (*before, self.segment(given.user_tokens))
            answer = self.segment(given.output_tokens)
            tokens = sum(one.tokens for one in prompt)
            yield Request(at, tokens, answer.tokens, self.blocks(prompt))
            past.append((*prompt, answer))


def generate(given: Parameters) -> Trace:
    """The trace of these parameters. Raises ConfigError where it would be too large to hold."""
    length = given.system_tokens + given.turns * (given.user_tokens + given.output_tokens)
    blocks = given.sessions * given.turns * max(1, length // given.block_tokens)
    if blocks > limits.TRACE_BLOCKS:
        raise ConfigError(f"requests: {blocks:,} blocks are more than {limits.TRACE_BLOCKS:,}")
    maker = _Maker(given)
    shared = [maker.segment(given.system_tokens) for _ in range(given.systems)]
    shared = shared if given.system_tokens else []
    found: list[Request] = []
    at = 0.0
    for _ in range(given.sessions):
        at += maker.waits(1 / given.sessions_per_s)
        found += maker.session(at, maker.random.choice(shared) if shared else None)
    found.sort(key=lambda one: one.arrival_s)
    return Trace("generated", tuple(found), given.block_tokens)


def described(given: Parameters) -> str:
    """`sessions=100,turns=5,...`: every parameter, as `parameters` reads them."""
    return ",".join(f"{name}={getattr(given, name)}" for name in given.__struct_fields__)
