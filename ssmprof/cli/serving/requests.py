"""Requests as commands take them: a trace in a file, or the parameters of a generated one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssmprof import limits
from ssmprof.cli.options import say
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.serving.requests import Trace

Function = TypeVar("Function", bound=Callable[..., Any])
_MOST_DROPPED = 10  # lines named on stderr


def request_options(command: Function) -> Function:
    """--skip-bad and --block-tokens."""
    command = click.option("--skip-bad", is_flag=True, help="Leave out lines that are not right.")(
        command
    )
    return click.option("--block-tokens", type=click.IntRange(1, limits.GENERATED_TOKENS),
                        default=512, show_default=True,
                        help="Tokens of a block of the trace.")(command)  # fmt: skip


def requests_of(text: str, block_tokens: int, skip_bad: bool) -> Trace:
    """The requests that `text` names; what was left out is told on stderr. Raises ConfigError."""
    from ssmprof.serving.generator import described, generate, parameters
    from ssmprof.serving.requests import read

    file = Path(text)
    if "=" in text and not file.exists():
        given = parameters(text)
        say(f"generated: {described(given)}")
        return generate(given)
    if not file.exists():
        raise ConfigError(
            f"{text}: no such file of requests", fix="a trace, or parameters: sessions=200,turns=6"
        )
    found = read(file, block_tokens=block_tokens, skip_bad=skip_bad)
    for line in found.dropped[:_MOST_DROPPED]:
        say(f"! {file}: left out {line}")
    if len(found.dropped) > _MOST_DROPPED:
        say(f"! {file}: left out {len(found.dropped) - _MOST_DROPPED} more lines")
    return found
