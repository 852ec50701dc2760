"""The program `xsearch`: its commands, and how problems reach the user.

Results go to stdout, everything else to stderr. A problem is one line, "error: what, where, what to do".
Exit codes: 0 done, 1 failure, 2 wrong usage, 130 interrupted, 143 and 129 by SIGTERM and SIGHUP.
"""

from __future__ import annotations

import errno
import logging
import sys
from typing import Annotated, Any, NoReturn

import typer

from xsearch.cli import (
    collection,
    demo,
    doctor,
    eval,
    exchange,
    generate,
    index,
    ingest,
    locate,
    models,
    options,
    output,
    query,
    serve,
    signals,
    train,
)
from xsearch.cli.group import Group, WrongOption
from xsearch.cli.streams import OUTPUT
from xsearch.errors import UnknownWords, UsageError, XsearchError
from xsearch.system.terminal import escaped_output

__all__ = ["Commands", "app"]


class Commands(Group):
    """Turns every expected exception into one line and an exit code; --verbose may follow any command."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        everywhere = [option for option in self.params if option.name == "verbose"]
        groups: list[Any] = [self]
        for group in groups:
            for command in group.commands.values():
                for param in command.params:
                    if param.param_type_name == "argument":
                        _name_only(param)
                command.params += everywhere
                groups += [command] if isinstance(command, Group) else []

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        with escaped_output():
            self._run(*args, **extra)

    def _run(self, *args: Any, **extra: Any) -> NoReturn:
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except WrongOption as problem:
            command = problem.ctx.command_path if problem.ctx else "xsearch"
            message = problem.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's prefix
            _fail(f"{message}; see {command} --help", code=2)
        except typer.Abort as problem:
            if isinstance(problem.__cause__, KeyboardInterrupt):  # while options were parsed
                raise problem.__cause__ from None
            _fail("not confirmed, nothing was done")
        except OSError as problem:
            _fail(_reason(problem))
        sys.exit(code or 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            signals.report()
            raise typer.Exit(130) from None
        except XsearchError as problem:
            is_usage = isinstance(problem, UsageError) and not isinstance(problem, UnknownWords)
            _fail(str(problem), code=2 if is_usage else 1)
        except OSError as problem:
            if problem.errno == errno.EPIPE:  # the reader, such as `head`, has closed the pipe: end silently
                raise
            _fail(_reason(problem))
        except MemoryError:
            _fail("out of memory; what is committed is safe: end other programs, then run it again")


def _reason(problem: OSError) -> str:
    if problem.filename == OUTPUT:
        return f"cannot write the output: {problem.strerror}"
    return f"{problem.strerror or problem}: {problem.filename}" if problem.filename else str(problem)


def _name_only(argument: Any) -> None:
    """Have the help show an argument by its metavar, without its Python type."""
    name, record = argument.metavar + "..." * (argument.nargs != 1), argument.get_help_record
    argument.get_usage_pieces = lambda ctx: [name if argument.required else f"[{name}]"]
    argument.get_help_record = lambda ctx: (argument.metavar, record(ctx)[1])


def _fail(message: str, *, code: int = 1) -> NoReturn:
    output.note("error: " + " ".join(message.split()))
    sys.exit(code)


app = typer.Typer(
    name="xsearch",
    cls=Commands,
    rich_markup_mode=None,  # plain help: a tenth of a second faster, and narrow enough for any terminal
    pretty_exceptions_enable=False,
    context_settings={
        "color": True,  # escape sequences are escaped, and not taken out
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: options.ALIASES.get(name, name),
    },
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"xsearch {version('xsearch')}")
        raise typer.Exit


def _verbose(ctx: typer.Context, count: int) -> None:
    """Log to stderr until the command ends: -v what happens, -vv details."""
    if not count or ctx.resilient_parsing:
        return
    logger = logging.getLogger("xsearch")
    logger.setLevel(logging.INFO if count == 1 else logging.DEBUG)
    ctx.call_on_close(lambda: logger.setLevel(logging.NOTSET))
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(relativeCreated)d ms %(levelname)s %(message)s"))
        logger.addHandler(handler)
        ctx.call_on_close(lambda: logger.removeHandler(handler))


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            callback=_verbose,
            expose_value=False,
            help="Log to stderr; -vv: more.",
        ),
    ] = 0,
) -> None:
    """Search any media with any media: images, videos, text, sounds, depth maps,
    thermal pictures and IMU recordings, in one vector space.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command()(ingest.ingest)
app.command()(query.query)
app.command()(query.compose)
app.command()(generate.generate)
app.command()(locate.locate)
app.command()(collection.info)
app.command("ls")(collection.list_items)
app.command("rm")(collection.remove)
app.command()(collection.skipped)
app.command()(collection.compact)
app.command()(collection.verify)
app.command()(exchange.export)
app.command("import")(exchange.import_)
app.command()(exchange.push)
app.command()(serve.serve)
app.command()(train.train)
app.command()(doctor.doctor)
app.command()(demo.demo)
app.add_typer(eval.app, name="eval")
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
