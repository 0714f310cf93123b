"""Few forms that contain every combination of any two (or three ...) values of their options.

Promises: pure and deterministic; `covering` is greedy, hence small, not smallest (the method of
Cohen et al., The AETG system, IEEE TSE 23(7), 1997, without its random candidates).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Axes = Mapping[str, Sequence[Any]]
Form = dict[str, Any]


def combinations(axes: Axes, strength: int) -> Iterable[tuple[tuple[str, Any], ...]]:
    """Every choice of values for every `strength` axes, in the order of the axes."""
    for names in itertools.combinations(axes, strength):
        for values in itertools.product(*(axes[name] for name in names)):
            yield tuple(zip(names, values, strict=True))


def covering(axes: Axes, strength: int = 2) -> list[Form]:
    """Forms that contain each of `combinations(axes, strength)` at least once; the first one has
    the first value of every axis."""
    strength = min(strength, len(axes))
    missing = dict.fromkeys(combinations(axes, strength))
    found: list[Form] = []
    form: Form = {name: values[0] for name, values in axes.items()}
    while True:
        found.append({name: form[name] for name in axes})
        for done in itertools.combinations(found[-1].items(), strength):
            missing.pop(done, None)
        if not missing:
            return found
        form = dict(next(iter(missing)))
        for name in axes:
            if name not in form:
                form[name] = _best(axes, form, name, missing, strength)


def _best(axes: Axes, form: Form, name: str, missing: Mapping[Any, None], strength: int) -> Any:
    """The value of `name` that completes most missing combinations with what `form` has already."""
    order = {n: i for i, n in enumerate(axes)}
    others = list(itertools.combinations(form.items(), strength - 1))

    def gain(value: Any) -> int:
        pairs = ((*other, (name, value)) for other in others)
        return sum(tuple(sorted(p, key=lambda item: order[item[0]])) in missing for p in pairs)

    return max(axes[name], key=gain)


def split(found: Sequence[Form], parts: int) -> list[list[Form]]:
    """The forms in `parts` of similar size, each with every value of every axis; a form stands in
    several parts only where a value would be missing otherwise."""
    shares: list[list[Form]] = [[] for _ in range(parts)]
    known: list[set[tuple[str, Any]]] = [set() for _ in range(parts)]
    for form in found:
        # To the smallest share; among those to the one that learns most from it.
        least = min(map(len, shares))
        at = max(
            (i for i in range(parts) if len(shares[i]) == least),
            key=lambda i: len(set(form.items()) - known[i]),
        )
        shares[at].append(form)
        known[at] |= set(form.items())
    for share, values in zip(shares, known, strict=True):
        for form in found:
            if not set(form.items()) <= values:
                share.append(form)
                values |= set(form.items())
    return shares
