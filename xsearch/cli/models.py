"""`models`: which models there are on this machine, and how to get ImageBind's."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import options, output
from xsearch.cli.group import new_group
from xsearch.cli.table import print_table
from xsearch.errors import ModelError, UsageError
from xsearch.system.terminal import printable, unescaped

if TYPE_CHECKING:
    from xsearch.models.vocabulary import Vocabulary

__all__ = ["app"]

PULL = "xsearch models pull imagebind"
TERMS = "https://creativecommons.org/licenses/by-nc/4.0/"

app = new_group("List, check and remove models, or pull ImageBind's.")


class Dtype(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


Model = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="bundled, imagebind, or a folder; else the one in use."),
]


@app.command("list")
def list_models() -> None:
    """Print the models that --model knows by name, and downloads."""
    from xsearch.models.checkpoint import tower_file
    from xsearch.models.download import size
    from xsearch.models.pull import CHECKPOINT, downloaded
    from xsearch.models.registry import BUNDLED, imagebind_folder, resolve

    rows = []
    for name, folder in (("bundled", BUNDLED), ("imagebind", imagebind_folder())):
        dtype, state = "", "not there"
        if (folder / "config.json").is_file():
            try:
                dtype, state = tower_file(folder, "vision").dtype, "installed"
            except ModelError:
                state = f"damaged: xsearch models verify {name}"
        rows.append((name, size(_bytes(folder)) if dtype else "", dtype, state, str(folder)))
    if here := downloaded():
        state = "checkpoint"
        if here.url:
            total = f" of {size(here.total)}" if here.total else ""
            mirror = "" if here.url == CHECKPOINT.place else f" --from {shlex.quote(here.url)}"
            state = f"downloading: {size(here.bytes)}{total}, go on with: {PULL}{mirror}"
        rows.append(("imagebind", size(here.bytes), "", state, str(here.folder)))
    print_table(("model", "size", "dtype", "state", "path"), rows)
    try:
        output.note(resolve().line)
    except ModelError as problem:
        output.note(str(problem))


@app.command()
def info(
    model: Model = None,
    words: Annotated[
        bool, typer.Option("--words", help="Print the words that the model knows instead.")
    ] = False,
    json: options.JsonObject = False,
) -> None:
    """Print licence, digest, settings and towers of a model."""
    from xsearch.models.checkpoint import license_of, load_config, tower_file
    from xsearch.models.config import TOWERS
    from xsearch.models.pull import origin
    from xsearch.models.registry import resolve
    from xsearch.models.vocabulary import Vocabulary

    choice = resolve(model)
    if words:
        _print_words(Vocabulary.load(choice.folder), json=json)
        return
    config, digest = load_config(choice.folder)
    made = origin(choice.folder)
    files = {name: tower_file(choice.folder, name) for name in TOWERS}
    about: dict[str, Any] = {
        "name": config.name,
        "path": str(choice.folder),
        "licence": made.get("licence") or license_of(choice.folder) or "unknown",
        "accepted": made.get("accepted"),
        "source": made.get("source"),
        "digest": digest,
        "dim": config.embed_dim,
        "dtype": files["vision"].dtype,
        "preprocessing": config.preprocessing.stamp,
    }
    settings = dataclasses.asdict(config.preprocessing)
    sizes = {name: getattr(config, name) for name in TOWERS}
    if json:
        towers = {name: dataclasses.asdict(files[name]) | dataclasses.asdict(sizes[name]) for name in TOWERS}
        output.print_json(about | {"settings": settings, "towers": towers})
        return
    output.print_fields(about, width=13)
    for name, value in settings.items():
        typer.echo(f"  {name:<19} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    rows = []
    for name, file in files.items():
        tower = sizes[name]
        numbers = (file.parameters, round(file.bytes / 1e6, 1), tower.width, tower.depth, tower.heads)
        rows.append((name, *(f"{number:,}" for number in numbers)))
    print_table(("tower", "parameters", "MB", "width", "depth", "heads"), rows)


@app.command()
def verify(model: Model = None) -> None:
    """Compare a model's files with the checksums in its config.json.

    Exits with 1 if one is damaged or missing.
    """
    from xsearch.models.checkpoint import verify
    from xsearch.models.registry import resolve

    choice = resolve(model)
    damaged = 0
    for name, finding in verify(choice.folder):
        typer.echo(f"{name:<20} {finding or 'ok'}")
        damaged += bool(finding)
    if damaged:
        again = {"imagebind": f"xsearch models rm imagebind, then {PULL}", "bundled": "reinstall xsearch"}
        advice = again.get(choice.name, "copy it again")
        output.note(f"{damaged} damaged or missing in {choice.folder}: {advice}")
        raise typer.Exit(1)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="imagebind.")] = "imagebind",
    weights: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|URL", help="Read imagebind_huge.pth from here."),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option("--vocab", metavar="FILE|URL", help="Read bpe_simple_vocab_16e6.txt.gz from here."),
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option("--dtype", help="Type to store; fp16 and bf16 take half the space.")
    ] = Dtype.FP32,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", metavar="HEX", help="Expect this checksum, of other weights."),
    ] = None,
    accept: Annotated[bool, typer.Option("--accept-license", help="Accept the licence; do not ask.")] = False,
    keep: Annotated[bool, typer.Option("--keep-checkpoint", help="Keep the downloaded .pth.")] = False,
) -> None:
    """Download ImageBind's weights, once, and convert them.

    May be interrupted at any time; run it again to continue. No other command
    downloads a model.
    """
    from xsearch.models.pull import CHECKPOINT, VOCABULARY, is_installed, pull_imagebind
    from xsearch.models.registry import resolve

    if name != "imagebind":
        raise UsageError(f"models pull {name}: no such model to pull; there is: imagebind")
    source = dataclasses.replace(CHECKPOINT, place=_place("--from", weights) or CHECKPOINT.place)
    words = dataclasses.replace(VOCABULARY, place=_place("--vocab", vocabulary) or VOCABULARY.place)
    if sha256:
        if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise UsageError(f"--sha256 {sha256}: expected 64 hexadecimal digits")
        source = dataclasses.replace(source, sha256=sha256.lower(), bytes=None)
    if not is_installed(source, dtype):
        output.note(f"ImageBind's weights are under CC-BY-NC 4.0, not for commercial use: {TERMS}")
        if not accept and not sys.stdin.isatty():
            raise UsageError("models pull: no terminal to confirm the licence; use --accept-license")
        if not accept:
            typer.confirm("Accept?", abort=True, err=True)
    with _reports() as (say, progress):
        folder = pull_imagebind(
            source,
            words,
            accepted="flag" if accept else "prompt",
            dtype=dtype,
            keep_checkpoint=keep,
            say=say,
            progress=progress,
        )
    typer.echo(folder)
    output.note(resolve().line)


@app.command("rm")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="imagebind.")],
    yes: options.Yes = False,
) -> None:
    """Delete what pull installed, and its downloads."""
    from xsearch.models.download import size
    from xsearch.models.pull import downloaded, remove_imagebind
    from xsearch.models.registry import imagebind_folder

    if name != "imagebind":
        why = "it comes with xsearch" if name == "bundled" else "only imagebind can be"
        raise UsageError(f"models rm {name}: cannot be removed, {why}")
    folder, here = imagebind_folder(), downloaded()
    present = {folder: _bytes(folder)} if folder.exists() else {}
    if here:
        present[here.folder] = here.bytes
    if not present:
        typer.echo("imagebind is not installed, nothing was removed")
        return
    removed = " and ".join(f"{path} ({size(bytes)})" for path, bytes in present.items())
    if not yes:
        typer.confirm(f"Remove {removed}?", abort=True, err=True)
    remove_imagebind()
    typer.echo(f"removed {removed}")


def _print_words(vocabulary: Vocabulary | None, *, json: bool) -> None:
    """The words, sorted: columns in a terminal, else one a line."""
    listed = sorted(vocabulary.words) if vocabulary else None
    if json:
        output.print_json({"words": listed})
    elif listed is None:
        output.note("its vocabulary is open: it reads any word")
    elif sys.stdout.isatty():
        text, width = " ".join(map(printable, listed)), shutil.get_terminal_size().columns
        typer.echo(textwrap.fill(text, width, break_on_hyphens=False))
    else:
        for word in listed:
            output.say(word)


@contextmanager
def _reports() -> Iterator[tuple[Callable[[str], None], Callable[[int, int | None], None]]]:
    """A printer of lines and a progress bar that share stderr; the bar is for terminals only."""
    from tqdm import tqdm

    bar = None

    def say(line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    def progress(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None:
            shown = {"unit": "B", "unit_scale": True, "disable": None, "leave": False, "dynamic_ncols": True}
            bar = tqdm(total=total, initial=done, file=unescaped(sys.stderr), **shown)
        bar.update(done - bar.n)
        if done == total:
            bar.close()
            bar = None

    try:
        yield say, progress
    finally:
        if bar is not None:
            bar.close()


def _place(option: str, place: str | None) -> str | None:
    """A URL or the path of a file that is there."""
    if place and not place.lower().startswith(("http://", "https://")):
        if "://" in place:
            raise UsageError(f"{option} {place}: expected an http or https URL, or a file")
        if not Path(place).expanduser().is_file():
            raise UsageError(f"{option} {place}: no such file")
    return place


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
