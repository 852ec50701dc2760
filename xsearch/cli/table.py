"""Tables: aligned text in a pipe or a file, fitted to its width in a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from xsearch.system.terminal import printable, unescaped

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement

__all__ = ["print_table", "relative", "relative_paths", "seconds"]

GAP = 2  # columns between two cells
WIDEST = 400  # of a cell that others are aligned with in a pipe
TEXT = 80  # of a text in a pipe; JSON and CSV have all of it
SHORTENED = {"path": 12, "text": 12}  # cells of one line, and the width that they keep at least
UNBROKEN = {"taken_at"}  # cells with spaces that are not wrapped
STYLES = {"modality": "cyan", "text": "dim", "reason": "dim"}
_NUMBER = re.compile(r"[+-]?[\d,.]+|nan|-|<0\.001|>99|")


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, shortened: Mapping[str, int] = SHORTENED
) -> None:
    """Print aligned columns, numbers to the right; columns without content are left out.

    A terminal gets what fits its width: columns named in `shortened` lose their end, a path its middle, to
    that width at least; other cells wrap; where even that is too wide, columns are left out: the emptiest
    first, then the last. Elsewhere, texts are cut to TEXT columns.
    """
    if not rows:
        return
    columns = [
        [printable(name), *(printable(row[i]) for row in rows)]
        for i, name in enumerate(header)
        if any(row[i] for row in rows)
    ]
    if sys.stdout.isatty():
        _print_fitted(columns, shortened)
    else:
        for column in columns:
            if column[0] == "text" and "text" in shortened:
                column[1:] = [_shorten(cell, TEXT, middle=False) for cell in column[1:]]
        _print_plain(columns)


def relative(path: str) -> str:
    """A path below the current directory relative to it, any other unchanged."""
    cwd = Path.cwd()
    return str(Path(path).relative_to(cwd)) if Path(path).is_relative_to(cwd) else path


def relative_paths(text: str) -> str:
    """A text in which paths below the current directory are relative to it."""
    return text.replace(f"{Path.cwd()}/", "")


def seconds(value: float | None) -> str:
    """A time in its shortest form, to a tenth.

    >>> seconds(10.0), seconds(12.25), seconds(None)
    ('10', '12.2', '')
    """
    return "" if value is None else f"{value:.1f}".removesuffix(".0")


def _print_plain(columns: list[list[str]]) -> None:
    from rich.cells import cell_len

    aligned = []
    for column in columns:
        width, right = min(max(map(cell_len, column)), WIDEST), _is_numeric(column)
        spaces = [" " * (width - cell_len(cell)) for cell in column]
        aligned.append([s + c if right else c + s for c, s in zip(column, spaces, strict=True)])
    lines = [(" " * GAP).join(row).rstrip() for row in zip(*aligned, strict=True)]
    typer.echo("\n".join(lines))


def _print_fitted(columns: list[list[str]], shortened: Mapping[str, int]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=unescaped(sys.stdout), highlight=False)  # without colours where NO_COLOR is set
    columns = _fitting(columns, console.width, shortened)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    spare = console.width + GAP - sum(max(map(cell_len, c)) + GAP for c in columns if c[0] != "text")
    cells: list[list[_Shortened | Text]] = []
    for name, *texts in columns:
        table.add_column(
            Text(name),
            justify="right" if _is_numeric([name, *texts]) else "left",
            style=STYLES.get(name),
            overflow="fold",
            no_wrap=name in UNBROKEN
            or not (name in shortened or any(" " in text for text in (name, *texts))),
            max_width=max(shortened[name], spare) if name == "text" and name in shortened else None,
        )
        cells.append([_Shortened(text, name) if name in shortened else Text(text) for text in texts])
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    console.print(table)


def _fitting(columns: list[list[str]], width: int, shortened: Mapping[str, int]) -> list[list[str]]:
    """Without columns, other than the path, that do not fit however much the others shrink."""
    from rich.cells import cell_len

    def least(column: list[str]) -> int:
        name, *cells = column
        if name in shortened:
            return max(cell_len(name), min(max(map(cell_len, cells)), shortened[name]))
        parts = cells if name in UNBROKEN else (word for cell in column for word in cell.split())
        return max(map(cell_len, parts))

    def spare(column: list[str]) -> float:
        return column.count("") / (2 if column[0] in shortened else 1)

    kept = list(columns)
    while len(kept) > 1 and sum(map(least, kept)) + GAP * (len(kept) - 1) > width:
        kept.remove(max((column for column in reversed(kept) if column[0] != "path"), key=spare))
    return kept


@dataclass(frozen=True, slots=True)
class _Shortened:
    """A cell of one line that gives up its middle (a path) or its end (a text) where space is short."""

    text: str
    column: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.cells import cell_len
        from rich.measure import Measurement

        width = cell_len(self.text)
        return Measurement(min(width, SHORTENED[self.column]), width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield Text(_shorten(self.text, options.max_width, middle=self.column == "path"), no_wrap=True)


def _shorten(text: str, width: int, *, middle: bool) -> str:
    """`text` in at most `width` columns of a terminal, with an ellipsis for what is left out."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3 if middle else 0  # the name of a file says more than its folder
    cut = next(i for i in range(len(text) + 1) if cell_len(text[i:]) <= tail)
    return set_cell_size(text, width - 1 - tail).rstrip() + "…" + text[cut:]


def _is_numeric(column: list[str]) -> bool:
    return all(map(_NUMBER.fullmatch, column[1:]))
