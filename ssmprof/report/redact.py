"""A whole run without what names a person or a machine, wherever in it that stands.

Every string of every record is looked at, keys of tables included; only words of a closed list are
left as they are. What refers to something else still does: a contender has one name everywhere, an
environment goes under its new fingerprint, and two names that become alike are told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from operator import is_
from typing import Any, TypeVar

from msgspec import Struct, inspect
from msgspec.structs import replace

from ssmprof.harmless import one_line, terminal
from ssmprof.private import at_home, redact, without_own
from ssmprof.records import Decision, Outcome, Run, collector_at_rest
from ssmprof.spec import ForeignSpec, Scenario

Clean = Callable[[str], str]
Located = TypeVar("Located", bound="Outcome | Decision")


def redacted(run: Run) -> Run:
    """The run as it may be shown to anybody: names nobody, and holds nothing but plain text."""
    return _shown(run, _private)


def plain(run: Run) -> Run:
    """The run with its names, as plain text: a figure cannot hold a control character."""
    return _shown(run, terminal)


@lru_cache(maxsize=65_536)
def _private(text: str) -> str:
    return redact(terminal(text))


def _shown(run: Run, cleaning: Clean) -> Run:
    blocks = (block.name for block in run.scenario.blocks)
    names = _distinct(blocks, lambda name: one_line(cleaning(name)))
    words = _Words(lambda text: names.get(text) or cleaning(text))
    machines = {name: _cleaned(machine, words) for name, machine in run.environments.items()}
    prints = {name: machine.fingerprint for name, machine in machines.items()}
    with collector_at_rest():
        outcomes = tuple([_moved(one, words, prints) for one in run.outcomes])
    return replace(
        _cleaned(replace(run, environments={}, decisions=(), outcomes=()), words),
        environments={machine.fingerprint: machine for machine in machines.values()},
        decisions=tuple([_moved(one, words, prints) for one in run.decisions]),
        outcomes=outcomes,
    )


def _moved(one: Located, words: _Words, prints: Mapping[str, str]) -> Located:
    """Cleaned, and in its environment under the name that this has now."""
    found: Located = _cleaned(one, words)
    name = prints.get(one.environment, found.environment)
    return found if name == found.environment else replace(found, environment=name)


def recorded(outcome: Outcome) -> Outcome:
    """An outcome as it may be stored: without the names of this user, host and home.

    Its point stays: the scenario was stored without them, too.
    """
    return replace(cleaned(outcome, without_own), point=outcome.point)


def recorded_scenario(scenario: Scenario) -> Scenario:
    """A scenario as it may be stored; code of one's own is found again below `~`."""
    names = _distinct((block.name for block in scenario.blocks), without_own)
    blocks = tuple(
        replace(block, name=names[block.name], factory=at_home(block.factory))
        if isinstance(block, ForeignSpec)
        else replace(block, name=names[block.name])
        for block in scenario.blocks
    )
    name, question = without_own(scenario.name), without_own(scenario.question)
    return replace(scenario, name=name, question=question, blocks=blocks)


def cleaned(value: Any, clean: Clean) -> Any:
    """A value with `clean` applied to every string in it; what does not change is not copied."""
    return _cleaned(value, _Words(clean))


class _Words(dict[str, str]):
    """Text -> its cleaned form, the text itself where that is equal; each text is cleaned once."""

    def __init__(self, clean: Clean) -> None:
        super().__init__()
        self._clean = clean

    def __missing__(self, text: str) -> str:
        new = self._clean(text)
        self[text] = found = text if new == text else new
        return found


def _cleaned(value: Any, words: _Words) -> Any:
    if isinstance(value, str):
        return words[value]
    if isinstance(value, Struct):
        return _cleaned_struct(value, words)
    if isinstance(value, tuple):
        parts = [_cleaned(part, words) for part in value]
        same = all(map(is_, parts, value))
        return value if same else tuple(parts)
    if isinstance(value, dict):
        items = [_cleaned(item, words) for item in value.values()]
        if all(map(is_, items, value.values())) and all(words[key] == key for key in value):
            return value
        keys = _distinct(value, words.__getitem__)
        return {keys[key]: item for key, item in zip(value, items, strict=True)}
    return value


def _cleaned_struct(value: Struct, words: _Words) -> Any:
    changes: dict[str, Any] = {}
    for name in _fields_with_text(type(value)):
        old = getattr(value, name)
        # Straight for a string, of which a large run has millions.
        new = words[old] if type(old) is str else _cleaned(old, words) if old else old
        if new is not old and new != old:
            changes[name] = new
    return replace(value, **changes) if changes else value


def _distinct(names: Iterable[str], clean: Clean) -> dict[str, str]:
    """Name -> its cleaned form, numbered where another name has become the same."""
    found: dict[str, str] = {}
    for name in names:
        new = wanted = clean(name)
        number = 2
        while new in found.values():
            new, number = f"{wanted} {number}", number + 1
        found[name] = new
    return found


@cache
def _fields_with_text(record: type[Struct]) -> tuple[str, ...]:
    """Fields of a record that can hold free text, directly or below."""
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    return tuple(field.name for field in info.fields if _has_text(field.type, frozenset()))


def _has_text(kind: Any, inside: frozenset[type]) -> bool:
    if isinstance(kind, inspect.StrType):
        return True
    if isinstance(kind, inspect.StructType):
        if kind.cls in inside:
            return False
        return any(_has_text(field.type, inside | {kind.cls}) for field in kind.fields)
    parts: list[Any] = [*getattr(kind, "types", ()), *getattr(kind, "item_types", ())]
    parts += [getattr(kind, name) for name in ("item_type", "key_type", "value_type")
              if hasattr(kind, name)]  # fmt: skip
    return any(_has_text(part, inside) for part in parts)


__all__ = ["cleaned", "plain", "recorded", "recorded_scenario", "redact", "redacted"]
