"""A group of commands, such as `index`, which alone prints its help and suggests what was meant."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["Group", "WrongOption", "new_group"]

# typer's exception for wrong options; its module moved between versions of typer.
WrongOption: Any = typer.BadParameter.__base__
# What other programs call a command
SYNONYMS = {
    "add": "ingest", "create": "build", "delete": "rm", "download": "pull", "embed": "ingest",
    "find": "query", "list": "ls", "load": "import", "ls": "list", "remove": "rm", "save": "export",
    "search": "query", "show": "info", "stats": "info", "status": "info",
}  # fmt: skip


class Group(TyperGroup):
    """Suggests the command that is spelled like one that does not exist, or means the same."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except WrongOption as problem:
            if args[0].startswith("-"):
                raise
            message = f"No such command {args[0]!r}{self._hint(args[0])}"
            raise type(problem)(message, ctx=ctx) from None

    def _hint(self, typed: str) -> str:
        if os.path.exists(typed):  # noqa: PTH110  a text may be too long for a path
            return f"; to embed it: xsearch ingest {typed}"
        known = {name: name for name in self.commands}
        known |= {name: command for name, command in SYNONYMS.items() if command in known}
        alike = [typed] if typed in known else get_close_matches(typed.lower(), known, n=1)
        return f"; did you mean {known[alike[0]]}?" if alike else ""


def new_group(summary: str) -> typer.Typer:
    """An empty group whose help begins with `summary`."""
    return typer.Typer(
        cls=Group, help=summary, callback=print_help, invoke_without_command=True, rich_markup_mode=None
    )


def print_help(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
