"""The command line. Importing it is light: every command imports what it needs when it runs."""

__all__ = ["main"]


def main() -> None:
    """The `xsearch` program."""
    from xsearch.cli.app import app
    from xsearch.system.terminal import guard

    guard()
    app(prog_name="xsearch")
