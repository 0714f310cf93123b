"""Scopes cost nothing while nobody listens and name what runs inside while somebody does."""

from __future__ import annotations

import pytest

from ssmprof import scopes


class Recorder:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def enter(self, name: str, core: str | None) -> None:
        self.seen.append(f"+{name}" + (f":{core}" if core else ""))

    def leave(self) -> None:
        self.seen.append("-")


def test_scopes_nest_and_are_delivered_in_order() -> None:
    recorder = Recorder()
    with scopes.listening(recorder), scopes.scope("layer"), scopes.scope("scan", "scan"):
        pass
    assert recorder.seen == ["+layer", "+scan:scan", "-", "-"]


def test_a_scope_nobody_listens_to_is_one_shared_object() -> None:
    assert scopes.scope("a") is scopes.scope("b")


def test_an_error_inside_leaves_the_scope_and_the_listener() -> None:
    recorder = Recorder()
    with pytest.raises(KeyError), scopes.listening(recorder), scopes.scope("layer"):
        raise KeyError
    assert recorder.seen == ["+layer", "-"]
    assert not scopes.is_listening()


def test_listeners_do_not_nest() -> None:
    with scopes.listening(Recorder()):  # noqa: SIM117 - the inner one must fail alone
        with pytest.raises(RuntimeError, match="already"), scopes.listening(Recorder()):
            pass
