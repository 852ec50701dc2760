"""`models`: which models there are on this machine, and how to get ImageBind's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xsearch.cli import output

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List the models on this machine, or install ImageBind's.",
)


@app.command("list")
def list_models() -> None:
    """Print every model that --model knows by name."""
    from xsearch.errors import ModelError
    from xsearch.models.registry import BUNDLED, imagebind_folder, resolve

    rows = []
    for name, folder in (("bundled", BUNDLED), ("imagebind", imagebind_folder())):
        try:
            resolve(name)
            size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
            rows.append((name, f"{size:,.0f} MB", str(folder)))
        except ModelError:
            rows.append((name, "not there", str(folder)))
    output.print_table(("model", "size", "path"), rows)
    try:
        output.note(resolve().line)
    except ModelError as problem:
        output.note(str(problem))


@app.command()
def install(
    weights: Annotated[
        Path, typer.Option("--from", metavar="FILE.pth", help="The official imagebind_huge.pth.")
    ],
    vocabulary: Annotated[
        Path, typer.Option("--vocab", metavar="FILE.gz", help="CLIP's bpe_simple_vocab_16e6.txt.gz.")
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept the licence of the weights without asking.")
    ] = False,
) -> None:
    """Convert ImageBind's published weights, once, into the form that xsearch reads.

    Both are files you have downloaded: xsearch itself fetches nothing.
    """
    output.note("ImageBind's weights are licensed CC-BY-NC 4.0: no commercial use.")
    if not yes:
        typer.confirm("Accept?", abort=True, err=True)
    from xsearch.models.registry import install_imagebind

    folder = install_imagebind(weights, vocabulary, accepted="flag" if yes else "prompt", warn=output.note)
    typer.echo(folder)
