"""What a choice between attention and states also hangs on and nobody measures here.

Rules of thumb from the ledger of published claims, each with its source and with what is known of
it. They stand apart from what was measured, and only where both kinds are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ssmprof.analysis.decide.ledger import ledger
from ssmprof.spec import Subject

# What is asked of the model -> the claim that speaks of it.
RULES: dict[str, str] = {
    "verbatim recall beyond 2,000 tokens": "copy-limit-2000",
    "eight and more examples in the prompt": "few-shot-8-16",
    "fine-tuning on fewer than 10,000 examples": "finetune-10000",
    "no custom kernels on the target": "custom-kernel-dependency",
    "audio and time series": "audio-continuous",
    "long context with several places to combine": "ruler-8-15-points",
}


class Caution(NamedTuple):
    """One rule: when it applies, what was published, where, and what is known of it."""

    when: str
    statement: str
    source: tuple[str, ...]
    note: str

    @property
    def sources(self) -> str:
        """Where it was published, as people read it."""
        return ", ".join(self.source).replace("secondary", "secondary text, no paper named")


def cautions(subjects: Iterable[Subject]) -> tuple[Caution, ...]:
    """Every rule, where a contender with attention stands beside one without; else none."""
    kinds = {subject.architecture for subject in subjects}
    if "ssm" not in kinds or len(kinds) < 2:
        return ()
    known = {claim.id: claim for claim in ledger()}
    found = ((when, known[name]) for when, name in RULES.items())
    return tuple(Caution(when, claim.statement, claim.source, claim.note) for when, claim in found)
