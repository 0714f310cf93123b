"""`ssmprof serving`: what a model costs a serving engine, before anybody deploys it."""

from __future__ import annotations

import click

from ssmprof.cli.serving.capacity import capacity
from ssmprof.cli.serving.replay import replay
from ssmprof.cli.serving.reuse import reuse
from ssmprof.cli.serving.trace import trace
from ssmprof.cli.serving.validate import validate


@click.group("serving", short_help="What a model costs a serving engine.")
def command() -> None:
    """Capacity of a pool, reuse of prefixes, service under load.

    Example: ssmprof serving capacity nemotron-h-8b llama-3.1-8b --pool 40GiB
    """


for one in (capacity, reuse, replay, trace, validate):
    command.add_command(one)
