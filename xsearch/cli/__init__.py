"""The command line. Importing it is light: every command imports what it needs when it runs."""

__all__ = ["main"]


def main() -> None:
    """The `xsearch` program."""
    from xsearch.cli.signals import ending
    from xsearch.cli.streams import guarded

    with ending(), guarded():
        from xsearch.cli.app import app

        app(prog_name="xsearch")
