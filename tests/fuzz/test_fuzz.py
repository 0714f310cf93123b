"""A few hundred mutated inputs through every door; `make fuzz` takes ten thousand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import run
from fuzz.doors import DOORS, Door

from ssmprof.errors import ConfigError

INPUTS = 300


@pytest.mark.parametrize("name", DOORS)
def test_no_input_is_more_than_one_clear_error(name: str) -> None:
    found = run.through(name, seed=7, count=INPUTS)
    faults = {kind: texts for kind, texts in found["examples"].items() if texts}
    assert not faults
    assert sum(found["counts"].values()) == INPUTS
    assert found["counts"]["refused"] > INPUTS / 10
    assert found["counts"]["accepted"] > 0, "mutations that all fail test one check only"


def _raises(_: bytes, __: Path) -> None:
    raise ZeroDivisionError


def _refuses(_: bytes, __: Path) -> None:
    raise ConfigError("no")


def _waits(_: bytes, __: Path) -> None:
    try:
        time.sleep(60)
    except Exception:  # a reader that swallows everything does not hide it
        return


def _dies(_: bytes, __: Path) -> None:
    import os

    os._exit(9)


@pytest.mark.parametrize(
    ("enter", "kind"),
    [
        (_raises, "tracebacks"),
        (_refuses, "refused"),
        (_waits, "hangs"),
        (_dies, "deaths"),
        (lambda data, _: "accepted " + data.decode(), "wrong accepts"),
        (lambda *_: bytearray(8 * 2**30) and None, "memory exhausted"),
        (lambda *_: None, "accepted"),
    ],
)
def test_what_goes_wrong_is_counted_and_the_rest_goes_on(
    enter: Callable[[bytes, Path], str | None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "DEADLINE_S", 0.2)
    monkeypatch.setitem(DOORS, "fake", Door(lambda rng: b"x", enter))
    found = run.through("fake", seed=1, count=3)
    assert found["counts"] == {kind: 3}
    rows = {row["name"]: row["value"] for row in run.quantities("fake", found, 3)}
    assert rows.pop("fake: inputs missing") == 0
    assert sum(rows.values()) == (0 if kind in ("refused", "accepted") else 3)


def test_the_committed_result_is_of_every_door_and_within_its_bars() -> None:
    report = json.loads(run.OUT.read_text("utf-8"))
    rows = {row["name"]: row for row in report["quantities"]}
    kinds = ("inputs missing", *run.KINDS)
    assert set(rows) == {f"{name}: {kind}" for name in DOORS for kind in kinds}
    assert all(row["value"] <= row["bar"] == 0 for row in rows.values())
    assert all(row["how"].startswith("10,000 ") for row in rows.values())
