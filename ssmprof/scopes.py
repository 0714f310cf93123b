"""Named scopes: `with scope("scan")` in a block names what runs inside, for whoever listens.

Blocks name their parts and `measure` listens; neither knows the other. While nobody listens, a
scope costs one attribute test. Scopes nest; the full name is joined by dots, outermost first.
A scope that holds one operator and no projection may say which kernel family it is (`core`), so
that generic kernels inside it (a bmm, a softmax) are counted there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator


class Listener(Protocol):
    """Told when a scope is entered and left."""

    def enter(self, name: str, core: str | None) -> None: ...

    def leave(self) -> None: ...


_listener: Listener | None = None


class _Idle:
    """The scope nobody listens to: entering and leaving does nothing."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


_IDLE = _Idle()


class _Scope:
    __slots__ = ("core", "listener", "name")

    def __init__(self, name: str, core: str | None, listener: Listener) -> None:
        self.name = name
        self.core = core
        self.listener = listener

    def __enter__(self) -> None:
        self.listener.enter(self.name, self.core)

    def __exit__(self, *_: object) -> None:
        self.listener.leave()


def scope(name: str, core: str | None = None) -> _Scope | _Idle:
    """Name the operators run inside; `core` is the family of a scope that holds one operator."""
    listener = _listener
    return _IDLE if listener is None else _Scope(name, core, listener)


@contextmanager
def listening(listener: Listener) -> Generator[None, None, None]:
    """Deliver scopes to `listener` until the block ends; listeners do not nest."""
    global _listener
    if _listener is not None:
        raise RuntimeError("somebody is listening to scopes already")
    _listener = listener
    try:
        yield
    finally:
        _listener = None


def is_listening() -> bool:
    """Whether a listener is installed (the test suite's leak check asks)."""
    return _listener is not None
