"""The program `xsearch`: its commands, and how problems reach the user.

Results go to stdout, everything else to stderr. A problem is one line, "error: what, where, what to do".
Exit codes: 0 done, 1 failure, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from xsearch.cli import collection, demo, doctor, eval, exchange, index, ingest, models, query, train
from xsearch.errors import UsageError, XsearchError

__all__ = ["Commands", "app"]

# typer's own exception for wrong options; its module moved between versions of typer.
_WrongOption: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """Turns every expected exception into one line and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except _WrongOption as problem:
            command = problem.ctx.command_path if problem.ctx else "xsearch"
            _fail(f"{problem.format_message().rstrip('.')}; see {command} --help", code=2)
        except typer.Abort:
            _fail(
                "not confirmed, nothing was done; answer y, or give --yes (for a licence, --accept-license)"
            )
        sys.exit(code or 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("\ninterrupted: nothing is lost, run the same command again to go on", err=True)
            raise typer.Exit(130) from None
        except XsearchError as problem:
            _fail(str(problem), code=2 if isinstance(problem, UsageError) else 1)
        except OSError as problem:
            if problem.errno == errno.EPIPE:  # `| head` has seen enough: typer ends silently
                raise
            _fail(f"{problem.strerror or problem}: {problem.filename}" if problem.filename else str(problem))


def _fail(message: str, *, code: int = 1) -> NoReturn:
    typer.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(code)


app = typer.Typer(
    name="xsearch",
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,  # plain help: a tenth of a second faster, and narrow enough for any terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"xsearch {version('xsearch')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Search any media with any media: images, videos, text, sounds, depth maps,
    thermal pictures and IMU recordings, in one vector space.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command()(ingest.ingest)
app.command()(query.query)
app.command()(query.compose)
app.command()(collection.info)
app.command("ls")(collection.list_items)
app.command("rm")(collection.remove)
app.command()(collection.skipped)
app.command()(collection.compact)
app.command()(collection.verify)
app.command()(exchange.export)
app.command("import")(exchange.import_)
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
app.command()(train.train)
app.command("eval")(eval.evaluate)
app.command()(doctor.doctor)
app.command()(demo.demo)
