"""How contenders are called: a phrase in a sentence, a label on a line and in a cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ssmprof.models.recipe import Recipe
from ssmprof.models.slicing import piece
from ssmprof.scalars import Architecture
from ssmprof.spec import Subject


@dataclass(frozen=True)
class Name:
    """How a contender is called: `the hybrid` in a sentence, `hybrid` on a label.

    A slice of a model has its own name in sentences, too, and says of how many layers in `piece`.
    """

    block: str
    phrase: str
    label: str
    architecture: Architecture
    nth: int
    piece: str | None = None

    @property
    def opening(self) -> str:
        """The phrase at the start of a sentence."""
        return self.phrase[0].upper() + self.phrase[1:]


Names = dict[str, Name]


def name_contenders(blocks: Iterable[Subject]) -> Names:
    """Block name -> how it is called: by its architecture where it is the only one of it.

    Not so a slice: `the hybrid` would be taken for the model.
    """
    subjects = list(blocks)
    kinds: list[Architecture] = [subject.architecture for subject in subjects]
    words = [_word(subject) for subject in subjects]
    names: Names = {}
    for subject, kind, word in zip(subjects, kinds, words, strict=True):
        of = piece(subject) if isinstance(subject, Recipe) else None
        alone = words.count(word) == 1 and of is None
        nth = sum(kinds[index] == kind for index in range(len(names)))
        the = "the " if kind != "ssm" else ""
        phrase = the + word if alone else subject.name
        names[subject.name] = Name(subject.name, phrase, subject.name, kind, nth, of)
    return names


def _word(subject: Subject) -> str:
    if subject.architecture != "ssm" or not isinstance(subject, Recipe):
        return subject.architecture
    states = {part.label for _, part in subject.used() if part.memory == "fixed"}
    return states.pop() if len(states) == 1 else subject.name


def listed(phrases: Sequence[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} {word} {phrases[-1]}"
