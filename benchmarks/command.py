"""The command line that the measuring programs share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["parser", "report", "table"]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Shows the module's docstring as it is, and knows `--json`."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, help="write the figures here too")
    return made


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def report(result: dict, markdown: Callable[[dict], str], path: Path | None) -> None:
    print(markdown(result))
    if path:
        path.write_text(json.dumps(result, indent=1))
