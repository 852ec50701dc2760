"""`locate`: where in a picture is what is said, heard or shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import hits, options, output, table
from xsearch.cli.query import composition, print_left_out, takes_terms
from xsearch.errors import UsageError
from xsearch.types import FALSE_ALARMS

if TYPE_CHECKING:
    from xsearch.locate import Located

__all__ = ["locate"]

WRITTEN = (".png", ".jpg", ".jpeg", ".webp")


def _marked(file: Path | None) -> Path | None:
    if file is not None and file.suffix.lower() not in WRITTEN:
        raise typer.BadParameter(f"{file}: expected a name that ends in {', '.join(WRITTEN)}")
    return options.writable(file)


@takes_terms(before="false_alarms")
def locate(
    ctx: typer.Context,
    what: Annotated[
        list[str] | None, typer.Argument(metavar="WHAT", help="What to look for: a file or a text.")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="PICTURE", help="The picture to look in.")
    ] = None,
    false_alarms: Annotated[
        float,
        typer.Option(
            "--false-alarms",
            metavar="SHARE",
            min=0.01,
            max=0.2,
            help="Of pictures without it, how many may get a box.",
        ),
    ] = FALSE_ALARMS,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", callback=_marked, help="Write the picture with boxes and heat map."
        ),
    ] = None,
    heat: Annotated[bool, typer.Option("--heat/--no-heat", help="Draw the heat map too.")] = True,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure the false alarms of this model first; once, for minutes."),
    ] = False,
    json: options.JsonObject = False,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    **terms: Any,
) -> None:
    """Print boxes around what is said, heard or shown in a picture.

    Boxes are in pixels, the best first. What to look for is a text or file, or a sum as of xsearch compose.
    What is not in the picture has no box. The score is by how many standard deviations it exceeds unrelated
    queries.
    """
    params = {**ctx.params, "image": None, "plus": [*(what or []), *(terms["plus"] or [])]}
    wanted = composition(params, None)
    if not (calibrate or image):
        raise UsageError("locate: expected a picture to look in: --image PICTURE")
    if image and not wanted.parts:
        raise UsageError("locate: expected what to look for: a text, a file, --text WORDS or --audio FILE")
    from xsearch import query
    from xsearch.locate import Locator, Reading
    from xsearch.locate import calibrate as measure

    locator = Locator.load(model, device=device, dtype=dtype)
    if calibrate:
        with output.progress_bar("picture") as progress:
            measured = measure(locator.backend, progress=progress)
        output.note(f"thresholds from {measured.pictures} pictures: {measured.save()}")
        locator = Locator(locator.backend)
    if not image:
        return
    (embedded,) = query.embed([wanted], locator.backend)
    (picture, *_) = query.read(query.image(image).parts[0])
    located = locator.find(Reading(picture.data, locator.backend), embedded, false_alarms=false_alarms)
    if out is not None:
        located.draw(picture.data, heat=heat).save(out)
        output.note(f"marked picture: {out}")
    (hits.print_parts if len(wanted.parts) > 1 else hits.print_query)(embedded)
    name = locator.backend.fingerprint.name
    print_left_out(embedded.left_out, name)
    _print(located, image, json=json)
    if located.false_alarms is None:
        output.note(f"false alarms were not measured for the {name} model; once: xsearch locate --calibrate")


def _print(located: Located, name: str, *, json: bool) -> None:
    width, height = located.size
    rows = [
        {
            "left": round(box.left * width),
            "top": round(box.top * height),
            "right": round(box.right * width),
            "bottom": round(box.bottom * height),
            "score": box.score,
        }
        for box in located.boxes
    ]
    if json:
        about = {"picture": name, "width": width, "height": height, "boxes": rows}
        figures = ("score", "threshold", "false_alarms")
        output.print_json(about | {figure: getattr(located, figure) for figure in figures})
        return
    cells = [[f"{row['score']:.2f}", *(str(row[side]) for side in list(row)[:4])] for row in rows]
    table.print_table(["score", "left", "top", "right", "bottom"], cells)
    if not rows:
        output.note(
            f"not found in {name}: the score is {located.score:.2f}, and {located.threshold:.2f} is needed"
        )
