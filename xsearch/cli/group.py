"""A group of commands, such as `index`: without a command it prints its help."""

from __future__ import annotations

import typer

__all__ = ["new_group"]


def new_group(summary: str) -> typer.Typer:
    """An empty group whose help begins with `summary`."""
    return typer.Typer(help=summary, callback=print_help, invoke_without_command=True, rich_markup_mode=None)


def print_help(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
