"""The service of jetson-stats, the last source, read only where its user already runs it.

It is never a dependency, nothing of it is copied, and it is imported only after its socket has
answered. Its known traps are kept out: a zero stands for "missing" there and is None here; its
total counts a rail twice on some boards, so totals are made from its rails by `boards.toml`.
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SOCKET = "/run/jtop.sock"
ANSWER_S = 1.0


def answers(path: str = SOCKET) -> bool:
    """Whether the service takes a connection within a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def installed() -> bool:
    """Whether the user has jetson-stats; does not import it."""
    return importlib.util.find_spec("jtop") is not None


class JtopSource:
    """Readings of the running service. Raises OSError or ImportError where there is none.

    `connect` gives the started client; it is a parameter for tests.
    """

    name = "jtop"

    def __init__(self, connect: Callable[[], Any] | None = None) -> None:
        self._client: Any = (connect or _connect)()

    def rails_w(self) -> dict[str, float]:
        """Momentary power by rail; the service prints milliwatt."""
        rails = _table(_table(self._ask("power")).get("rail"))
        return {
            name: milliwatt / 1e3
            for name, rail in rails.items()
            if (milliwatt := _positive(_table(rail).get("power")))
        }

    def temperature_c(self) -> float | None:
        """The junction temperature."""
        return _positive(_table(_table(self._ask("temperature")).get("tj")).get("temp"))

    def load(self) -> float | None:
        """GPU load, 0 to 1. Exactly zero is not told apart from "missing", and is None."""
        for gpu in _table(self._ask("gpu")).values():
            percent = _positive(_table(_table(gpu).get("status")).get("load"))
            if percent is not None:
                return percent / 100
        return None

    def _ask(self, name: str) -> Any:
        try:
            return getattr(self._client, name)
        except Exception:  # whatever a foreign client raises is a missing reading
            return None

    def close(self) -> None:
        """Leave the service."""
        with suppress(Exception):
            self._client.close()


def _table(value: object) -> dict[str, Any]:
    """What a foreign client gives, if it is a table; else an empty one."""
    return value if isinstance(value, dict) else {}


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value > 0 else None


def _connect() -> Any:
    if not installed():
        raise ImportError("jetson-stats is not installed")
    if not answers():
        raise OSError(f"{SOCKET}: the jtop service does not answer within {ANSWER_S:g} s")
    client = importlib.import_module("jtop").jtop()
    client.start()
    return client
