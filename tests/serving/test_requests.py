"""Traces: two formats, bad lines, and made ones."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmprof.errors import ConfigError
from ssmprof.serving.generator import Parameters, described, generate, parameters
from ssmprof.serving.requests import Request, likeness, lines, read

GOOD = (
    '{"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [1, 2]}\n'
    '{"timestamp": 1500, "input_length": 512, "output_length": 0, "hash_ids": [1], "more": 1}\n'
)


def test_lines_of_json(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl.gz"
    file.write_bytes(gzip.compress(GOOD.encode()))
    found = read(file)
    assert found.requests == (Request(0.0, 1000, 5, (1, 2)), Request(1.5, 512, 0, (1,)))
    assert (found.block_tokens, found.prompt_tokens) == (512, 1512)


def test_a_table_without_prefixes(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
        "2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:05,3180,8\r\n"
    )
    found = read(file)
    assert found.block_tokens is None
    assert [one.arrival_s for one in found.requests] == [0.0, pytest.approx(1.02004)]
    assert found.requests[0][1:] == (4808, 10, ())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"timestamp": 0}', "line 3: Object missing required field"),
        ('{"timestamp": 0, "input_length": 0, "output_length": 1, "hash_ids": []}', "line 3: "),
        (
            '{"timestamp": 0, "input_length": 600, "output_length": 1, "hash_ids": [7]}',
            "line 3: 1 hash_ids, but 600 tokens are 2 blocks of 512",
        ),
        ("[" * 100_000, "line 3: "),
        ("no json", "line 3: JSON is malformed"),
    ],
)
def test_a_bad_line_is_named_and_can_be_left_out(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(GOOD + line + "\n" + GOOD)
    with pytest.raises(ConfigError) as caught:
        read(file)
    assert problem in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    found = read(file, skip_bad=True)
    assert len(found.requests) == 4
    assert found.dropped[0].startswith("line 3")


def test_a_bad_row_of_a_table(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,x,10\n")
    with pytest.raises(ConfigError, match="line 2: invalid literal"):
        read(file)


@pytest.mark.parametrize("text", ["", "hello\n", "a,b,c\n1,2,3\n"])
def test_what_is_no_trace(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(ConfigError, match="not a trace"):
        read(file)


@given(
    st.builds(
        Parameters,
        sessions=st.integers(1, 6), turns=st.integers(1, 5), systems=st.integers(0, 3),
        system_tokens=st.integers(0, 200), user_tokens=st.integers(1, 200),
        output_tokens=st.integers(1, 100), spread=st.floats(0, 1), branch=st.floats(0, 1),
        block_tokens=st.sampled_from([1, 16, 64, 512]), seed=st.integers(0, 9),
    )
)  # fmt: skip
@settings(max_examples=50)
def test_a_made_trace_is_told_by_its_parameters(tmp_path_factory: pytest.TempPathFactory,
                                                given_: Parameters) -> None:  # fmt: skip
    found = generate(given_)
    assert parameters(described(given_)) == given_
    assert generate(parameters(described(given_))) == found
    assert len(found.requests) == given_.sessions * given_.turns
    for one in found.requests:
        assert len(one.blocks) == -(-one.prompt_tokens // given_.block_tokens)
    # Equal blocks stand behind equal blocks: a name says what is before it, too.
    before: dict[int, int] = {}
    for one in found.requests:
        for earlier, later in zip((-1, *one.blocks), one.blocks, strict=False):
            assert before.setdefault(later, earlier) == earlier
    file = tmp_path_factory.mktemp("made") / "made.jsonl"
    file.write_text(lines(found))
    again = read(file, block_tokens=given_.block_tokens)
    assert [one[1:] for one in again.requests] == [one[1:] for one in found.requests]


def test_sessions_share_systems_and_branches_share_turns() -> None:
    def shared(text: str) -> float:
        found = likeness(generate(parameters(text)))["shared_share"]
        assert isinstance(found, float)
        return found

    assert shared("sessions=50,turns=1,systems=0") == 0
    assert shared("sessions=50,turns=1,systems=1,spread=0") == pytest.approx(49 * 2 / (50 * 3))
    assert 0.3 < shared("sessions=50,turns=6,systems=0") < 0.9


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sesions=3", 'did you mean "sessions"'),
        ("turns=many", "Expected `int`"),
        ("turns=0", "`int` >= 1"),
        ("turns", "is not NAME=VALUE"),
        ("turns=1,turns=2", "once for each name"),
        ("sessions=1000000,turns=1000000", "blocks are more than"),
    ],
)
def test_parameters_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generate(parameters(text))
    assert problem in str(caught.value)


DOORS = (
    GOOD.encode(),
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n",
    gzip.compress(GOOD.encode()),
)


@given(st.sampled_from(DOORS), st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=4)),
                                        max_size=4))  # fmt: skip
@settings(max_examples=300)
def test_a_broken_file_is_a_trace_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, changes: list[tuple[int, bytes]]
) -> None:
    for at, piece in changes:
        data = data[: at % len(data)] + piece + data[at % len(data) + len(piece) // 2 :]
        data = data or b"x"
    file = tmp_path_factory.mktemp("broken") / "trace"
    file.write_bytes(data)
    for skip_bad in (False, True):
        try:
            found = read(file, skip_bad=skip_bad)
        except ConfigError:
            continue
        assert all(one.prompt_tokens >= 1 and one.arrival_s >= 0 for one in found.requests)


@given(st.text(max_size=40))
def test_any_text_is_parameters_or_one_clear_error(text: str) -> None:
    for written in (text, f"seed={text}", f"turns={text}"):
        with suppress(ConfigError):
            parameters(written)
