"""The page as it looks, in Debian's Chromium: a collection of rendered scenes.

    python -m benchmarks.screenshots --out FOLDER     # all views: 390, 1280 and 1920 pixels, light and dark
    python -m benchmarks.screenshots --readme         # the two of the README
    python -m benchmarks.screenshots --out FOLDER --collection DIR

Needs `apt install chromium` and the extra test. The picture and the sound of the query are of other scenes
than those that are found.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xsearch
from xsearch import scenes

HERE = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
SIZES = {390: 844, 1280: 860, 1920: 1080}
THEMES = ("light", "dark")
COUNT = 60
PATIENCE_MS = 300_000
VIEWS = {  # name -> address, and what is pressed there
    "start": ("/", ""),
    "text": ("/?q=a dog on the beach", ""),
    "kinds": ("/?q=a boat in the harbour&view=kinds", ""),
    "cut": ("/?q=a train in the mountains", "#cut summary"),
    "filters": ("/?q=a fire in the forest", "[data-do=filters]"),
    "item": ("/?q=a dog on the beach", "#results .image .open"),
    "sound": ("/?q=a dog on the beach&kind=audio", "#results .audio .open"),
    "map": ("/?q=a boat in the harbour&view=map", ""),
}
README = (("light", "text"), ("dark", "sum"))


@contextmanager
def served(collection: xsearch.Collection) -> Iterator[str]:
    """Yield the address of a server in this process."""
    from xsearch.serve.app import create_app
    from xsearch.serve.run import listen, uvicorn_server
    from xsearch.serve.settings import Settings

    listening, settings = listen(Settings(port=0))
    ready = threading.Event()
    server = uvicorn_server(create_app([collection], settings, xsearch.load_decoder()), settings, ready.set)
    thread = threading.Thread(target=server.run, args=[[listening]])
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{settings.port}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextmanager
def opened(path: Path | None) -> Iterator[tuple[xsearch.Collection, list[Path]]]:
    """Yield a collection, by default one of scenes, and a picture and a sound to search it with."""
    with TemporaryDirectory() as folder:
        media, questions = Path(folder, "media"), Path(folder, "questions")
        scenes.write(scenes.sample(1, seed=100, subjects=["dog"], places=["forest"]), questions / "picture")
        (beach,) = scenes.sample(1, seed=101, places=["beach"])
        scenes.write([replace(beach, count=0)], questions / "sound")  # nothing but the sea
        if path is None:
            scenes.write(scenes.sample(COUNT, seed=7), media)
            collection = xsearch.open(Path(folder, "collection"), create=True)
            collection.ingest(media)
        else:
            collection = xsearch.open(path)
        dog, sea = (next(questions.glob(kind)) for kind in ("picture/photos/0*", "sound/sounds/0*"))
        yield collection, [dog.rename(questions / "dog.jpg"), sea.rename(questions / "sea.wav")]


def settle(page: Any) -> None:
    """Wait until what is visible has been painted."""
    page.locator(".grid[data-laid], #map, .columns, .notice").first.wait_for(
        state="attached", timeout=PATIENCE_MS
    )
    visible = """() => [...document.images].filter((image) => {
        const { top, bottom, width } = image.getBoundingClientRect();
        return width && top < innerHeight && bottom > 0;
    }).every((image) => image.complete) && !document.body.classList.contains("busy")"""
    for _ in range(PATIENCE_MS // 500):
        page.wait_for_timeout(500)
        if page.evaluate(visible):
            return


def shoot(page: Any, base: str, view: str, files: list[Path], path: Path) -> None:
    """Write a screenshot of one view."""
    address, pressed = VIEWS.get(view, ("/", ""))
    page.goto(base + address)
    if view == "sum":
        page.locator("#pick").set_input_files(files)
        page.locator(".term[data-source]").nth(1).wait_for()
        page.locator(".term input").nth(1).fill("0.7")
        page.locator(".formula").get_by_text("0.7").wait_for()
        page.locator(".term input").nth(1).blur()
    if pressed:
        page.locator(pressed).first.click()
    settle(page)
    page.screenshot(path=path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--collection", type=Path)
    parser.add_argument("--views", nargs="*", choices=[*VIEWS, "sum"])
    parser.add_argument("--sizes", nargs="*", type=int, choices=list(SIZES), default=list(SIZES))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    options.out.mkdir(parents=True, exist_ok=True)
    with opened(options.collection) as (collection, files), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        views = options.views or [*VIEWS, "sum"]
        wanted = [(width, theme, view) for width in options.sizes for theme in THEMES for view in views]
        if options.readme:
            wanted = [(1280, theme, view) for theme, view in README]
        with served(collection) as base:
            for width, theme, view in wanted:
                size = {"width": width, "height": SIZES[width]}
                context = browser.new_context(viewport=size, color_scheme=theme, has_touch=width < 500)
                context.set_default_timeout(PATIENCE_MS)
                name = f"page-{theme}.png" if options.readme else f"{view}-{width}-{theme}.png"
                shoot(context.new_page(), base, view, files, options.out / name)
                print(options.out / name, flush=True)
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
