"""`ssmprof completion`: the shell's completion script."""

from __future__ import annotations

import click


@click.command("completion", short_help="Completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL; runs complete from folders, without importing torch.

    Example: ssmprof completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from ssmprof.cli import cli

    found = get_completion_class(shell)
    assert found is not None, "the choices are those click knows"
    click.echo(found(cli, {}, "ssmprof", "_SSMPROF_COMPLETE").source())
