"""`demo`: the whole program on a small world that it renders itself."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli import hits, options, output
from xsearch.cli.ingest import open_or_create
from xsearch.cli.report import print_report, progress_bar
from xsearch.errors import UsageError
from xsearch.types import Hit, Modality

if TYPE_CHECKING:
    from xsearch.query import Query
    from xsearch.scenes import Scene

__all__ = ["demo"]

INDEXED = (
    "dog beach", "dog forest", "bird forest", "bird harbour", "boat harbour", "boat beach", "car road",
    "car street", "train mountain", "helicopter field", "drum room", "clock room", "fire forest",
    "frog field", "person street", "bell mountain",
)  # fmt: skip
QUERIED = ("train mountain", "clock room", "boat harbour", "fire forest", "dog forest", "nothing beach")
TOP = 4
OUT, COLLECTION = Path("xsearch-demo"), "collection"


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for everything.")] = OUT,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    model: options.Model = None,
) -> None:
    """Render some media, search them, and show the answers."""
    from xsearch import Hits, gallery, scenes

    media, questions, folder = (out / name for name in ("media", "questions", COLLECTION))
    page = out / "results.html"
    if media.exists() and not (questions / "metadata.csv").exists():  # which an earlier demo wrote first
        raise UsageError(f"{media} exists, and is not from an earlier demo; choose another folder with --out")
    collection = open_or_create(folder, model or "bundled")  # the world is the one that it has learned
    scenes.write([_scene(words, seed=100 + i) for i, words in enumerate(QUERIED)], questions)
    output.note(f"rendering {len(INDEXED)} scenes, as seven kinds of media each, into {media}")
    scenes.write([_scene(words, seed=i) for i, words in enumerate(INDEXED)], media)
    with progress_bar() as progress:
        report = collection.ingest(media, prune=True, progress=progress)
    print_report(report, folder)

    answers = [
        (title, query, kind, collection.search(query, TOP, modality=kind, unique=True))
        for title, query, kind in _questions(questions)
    ]
    titles = [title for title, *_ in answers]
    album = gallery.album([(query, answer) for _, query, _, answer in answers], titles)
    page.write_text(album, encoding="utf-8")
    for title, query, kind, answer in answers:
        typer.echo(f"\n{title}\n$ {_command(query, kind, folder)}\n")
        if len(query.parts) > 1:
            hits.print_parts(answer.query)
        hits.print_hits(Hits(map(_labelled, answer)))

    typer.echo(f"\nThe same with pictures and players: {page}\n\nNow yours:")
    for command in (
        "xsearch ingest ./media",
        'xsearch query "a dog on the beach"',
        "xsearch compose --image dog.jpg --plus-audio sea.wav",
    ):
        typer.echo(f"  {command}")
    if open_page:
        typer.launch(str(page))


def _scene(words: str, *, seed: int) -> Scene:
    from xsearch.scenes import sample

    subject, place = words.split()
    if subject == "nothing":
        return replace(sample(1, seed=seed, places=[place])[0], count=0)
    return sample(1, seed=seed, subjects=[subject], places=[place])[0]


def _questions(folder: Path) -> list[tuple[str, Query, Modality | None]]:
    """A title, the query, and the kind that may answer."""
    from xsearch import query

    def file(kind: str, words: str) -> Path:
        return next((folder / kind).glob(f"{QUERIED.index(words):04d}.*"))

    dog = query.image(file("photos", "dog forest"))
    sea = query.audio(file("sounds", "nothing beach"))
    return [
        ("Anything for a text", query.text("a dog on the beach"), None),
        (
            "Pictures for the sound of a train in the mountains",
            query.audio(file("sounds", "train mountain")),
            Modality.IMAGE,
        ),
        ("Sounds for a picture of a clock", query.image(file("photos", "clock room")), Modality.AUDIO),
        (
            "Texts for the depth map of a boat in the harbour",
            query.depth(file("depth", "boat harbour")),
            Modality.TEXT,
        ),
        (
            "Videos for the thermal picture of a fire",
            query.thermal(file("thermal", "fire forest")),
            Modality.VIDEO,
        ),
        (
            "Pictures for the motion of somebody on a boat",
            query.imu(file("imu", "boat harbour")),
            Modality.IMAGE,
        ),
        ("Pictures for a dog in the forest + the sound of the beach", dog + sea, Modality.IMAGE),
    ]


def _labelled(hit: Hit) -> Hit:
    """The hit; if it has no text and the demo rendered it, with what it shows in brackets."""
    truth = [hit.extra[name] for name in ("subject", "place") if hit.extra.get(name)]
    return replace(hit, text=hit.text or (f"({', '.join(truth)})" if truth else None))


def _command(asked: Query, kind: Modality | None, folder: Path) -> str:
    """The same on the command line."""
    first, *others = asked.parts
    words = ["xsearch", "compose" if others else "query", f"--{first.modality}", first.label]
    for part in others:
        weight = f"@{part.weight:g}" if part.weight != 1 else ""
        words += [f"--plus-{part.modality}", part.label + weight]
    words += ["--modality", kind] if kind else []
    return shlex.join([*words, "--top", str(TOP), "--unique", "--collection", str(folder)])
