"""A `config.json` as typed keys: every missing or ill-typed one is an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from ssmprof import limits
from ssmprof.bounded import read_file
from ssmprof.errors import ConfigError
from ssmprof.planning.models import from_letters


def open_config(path: Path) -> Keys:
    """The keys of a `config.json`, or of the one in a folder.

    Raises ConfigError where it cannot be read or is no object.
    """
    file = path
    try:
        if path.is_dir():
            file = path / "config.json"
        values = msgspec.json.decode(read_file(file, limits.CONFIG_BYTES))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    except RecursionError:
        raise ConfigError(f"{file}: no JSON that can be read: nested too deeply") from None
    except ValueError as error:  # a NUL in the name, too
        raise ConfigError(f"{file}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected an object of keys")
    return Keys(cast("dict[str, Any]", values), file)


class Keys:
    """The keys of one file; a missing or ill-typed one is a ConfigError that names it.

    null is read like a key that is not there: files are written with every key of their class.
    """

    def __init__(self, values: dict[str, Any], file: Path, inside: str = "") -> None:
        self.values = values
        self.file = file
        self.inside = inside

    def wrong(self, name: str, text: str) -> ConfigError:
        """The error about a key."""
        return ConfigError(f"{self.file}: {self.inside}{name}: {text}")

    def _ill_typed(self, name: str, wanted: str) -> ConfigError:
        value = self.values.get(name)
        return self.wrong(name, f"expected {wanted}, got {repr(value)[:60]}")

    def whole(self, name: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._ill_typed(name, "a positive integer")
        return value

    def chosen(self, name: str, default: int) -> int:
        """A positive integer, where null and "auto" leave the choice to a rule."""
        return default if self.values.get(name) == "auto" else self.whole(name, default)

    def number(self, name: str) -> float | None:
        """A positive number, or None."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
            raise self._ill_typed(name, "a positive number")
        if value > limits.ROPE_BASE:
            raise self.wrong(name, f"above {limits.ROPE_BASE:g}, which no model has")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._ill_typed(name, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """A string."""
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self._ill_typed(name, "a string")
        return value

    def items(self, name: str) -> list[Any]:
        """A list."""
        value = self.values.get(name)
        if not isinstance(value, list):
            raise self._ill_typed(name, "a list")
        return cast("list[Any]", value)

    def below(self, name: str) -> Keys:
        """The keys of a nested object; none where it is not there."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._ill_typed(name, "an object of keys")
        return Keys(cast("dict[str, Any]", value or {}), self.file, f"{self.inside}{name}.")

    def layers(self, name: str, letters: dict[str, str]) -> tuple[str, ...]:
        """A list of one name per layer as sub-layers; `letters` of each name (`from_letters`)."""
        kinds = self.items(name)
        for kind in kinds:
            if not isinstance(kind, str) or kind not in letters:
                raise self.wrong(name, f"cannot build {repr(kind)[:60]}")
        self.count_layers(name, len(kinds))
        return from_letters("".join(letters[kind] for kind in kinds))

    def count_layers(self, name: str, found: int) -> None:
        """Raise where a list of layers is empty or disagrees with num_hidden_layers."""
        if not found:
            raise self.wrong(name, "empty: a model without layers")
        if self.values.get("num_hidden_layers") is not None:
            told = self.whole("num_hidden_layers")
            if told != found:
                raise self.wrong(name, f"{found} layers, but num_hidden_layers is {told}")
