"""The command line. Importing it is light: every command imports what it needs when it runs."""

__all__ = ["main"]


def main() -> None:
    """The `xsearch` program."""
    from xsearch.cli.signals import ending
    from xsearch.cli.streams import guarded
    from xsearch.system.terminal import escape_output

    with ending(), guarded():
        escape_output()
        from xsearch.cli.app import app

        app(prog_name="xsearch")
