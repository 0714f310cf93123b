"""Fresh processes answer, raise, die or hang; nothing waits for them for ever."""

from __future__ import annotations

import os
import time

import pytest

from ssmprof.doctor import processes


def test_a_fresh_process_answers_with_what_the_function_returns():
    assert processes.fresh(os.getpid) != os.getpid()
    assert processes.fresh(int, "7") == 7


def test_a_fresh_process_raises_what_the_function_raises():
    with pytest.raises(ValueError, match="invalid literal"):
        processes.fresh(int, "seven")


def test_an_answer_that_cannot_be_sent_is_told():
    with pytest.raises(RuntimeError, match="cannot be sent"):
        processes.fresh(open, os.devnull)


@pytest.mark.parametrize("status", [0, 3])
def test_a_fresh_process_that_dies_is_told(status):
    with pytest.raises(processes.BrokenProcessPool):
        processes.fresh(os._exit, status)


def test_a_fresh_process_that_hangs_is_given_up_and_ended(monkeypatch):
    monkeypatch.setattr(processes, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(processes, "_FAREWELL_S", 0.2)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer of a fresh process"):
        processes.fresh(time.sleep, 1000)
    assert time.monotonic() - began < 5.0
