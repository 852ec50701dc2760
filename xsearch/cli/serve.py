"""`serve`: collections in the browser, and for programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import demo, options, output
from xsearch.errors import ModelError, UsageError, optional_module

if TYPE_CHECKING:
    from xsearch.collection import Collection
    from xsearch.generate import Decoder
    from xsearch.serve.settings import Settings

__all__ = ["serve"]


def serve(
    folders: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            "-c",
            metavar="DIR",
            help="Folder or URL of a collection; repeatable, the first is shown first.  "
            "[default: that of the other commands, or that of `xsearch demo`]",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="Name or address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, metavar="N", help="Port to listen on; 0: any.")
    ] = 8080,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="SECRET",
            show_default=False,
            help="Answer only those who send it; needed unless HOST is this machine.  "
            "[env var: XSEARCH_TOKEN]",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name", metavar="NAME", help="Another name of this server, such as a proxy's; repeatable."
        ),
    ] = None,
    trust_paths: Annotated[
        bool, typer.Option("--trust-paths", help="Also open the files and URLs that only an import names.")
    ] = False,
    engine: Annotated[
        options.Engine,
        typer.Option("--engine", help="local: search on this machine; ray: on many that share its files."),
    ] = options.Engine.LOCAL,
    address: options.Address = None,
    embedders: Annotated[
        int | None,
        typer.Option("--embedders", min=1, metavar="N", help="Replicas of the model on Ray, or 1."),
    ] = None,
    searchers: Annotated[
        int | None,
        typer.Option("--searchers", min=1, metavar="N", help="Replicas of each shard on Ray, or 1."),
    ] = None,
    shard_timeout: Annotated[
        float | None,
        typer.Option(
            "--shard-timeout", min=0.01, metavar="S", help="How long a shard on Ray may take, or 10."
        ),
    ] = None,
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Answer without shards that do not; the answer names them."),
    ] = False,
    decoder: Annotated[
        str | None,
        typer.Option("--decoder", metavar="NAME", help="What draws pictures, as of xsearch generate."),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Serve collections: a page to search them, and an HTTP interface.

    Loads the model once, answers many requests at a time, and follows what other processes
    ingest or remove. Nothing leaves this machine unless --host says so. With --engine ray, replicas
    embed the queries, and each file of an index built with --shards is searched where there is room.
    """
    optional_module("fastapi", "serve")
    import xsearch
    from xsearch.serve.settings import Settings

    requested: dict[str, Any] = {
        "embedders": embedders,
        "searchers": searchers,
        "timeout_s": shard_timeout,
        "allow_partial": allow_partial or None,
    }
    requested = {name: value for name, value in requested.items() if value is not None}
    if engine is options.Engine.LOCAL and (requested or address is not None):
        names_of_ray = "--address, --embedders, --searchers, --shard-timeout and --allow-partial"
        raise UsageError(f"{names_of_ray} are options of --engine ray")
    token = token or os.environ.get("XSEARCH_TOKEN") or None
    settings = Settings(host=host, port=port, token=token, names=tuple(names or ()), trust_paths=trust_paths)
    folders = folders or [_default_collection()]
    try:
        artist = xsearch.load_decoder(decoder, device=device)
    except ModelError:
        if decoder is not None:
            raise
        artist = None  # an installation without the bundled one
    if engine is options.Engine.LOCAL:
        local = [xsearch.open(folder, device=device, dtype=dtype) for folder in folders]
        _run(local, settings, artist, open_page)
        return
    from xsearch.cluster.serving import Options, Serving
    from xsearch.serve.distributed import Distributed
    from xsearch.store import open_store

    stores = [open_store(folder) for folder in folders]
    with Serving(address, Options(**requested)) as serving:
        collections = [Distributed(store, serving, device=device, dtype=dtype) for store in stores]
        _run(collections, settings, artist, open_page)


def _run(
    collections: Sequence[Collection], settings: Settings, artist: Decoder | None, open_page: bool
) -> None:
    """Serve collections until it is stopped."""
    from xsearch.serve.app import create_app
    from xsearch.serve.run import listen, uvicorn_server
    from xsearch.system import identity
    from xsearch.system.rendezvous import announced

    listening, settings = listen(settings)
    app = create_app(collections, settings, artist)
    address = page = f"http://{_in_url(settings.host)}:{settings.port}/"
    if settings.token is not None:
        page = f"{address}login?code={app.state.server.doors.new_code()}"

    def started() -> None:
        for held in app.state.server.shelf:
            output.note(
                f"{held.name}: {output.plural(len(held.collection), 'item')} of {held.collection.place}"
            )
        output.say(page)
        output.note("serving; stop with Ctrl-C" + ("; the link works once" if settings.token else ""))
        if open_page:
            import webbrowser

            webbrowser.open(page)

    identity.code()  # as of now
    folders = [collection.path for collection in collections]
    with announced(folders) as sockets, suppress(KeyboardInterrupt):  # by which it is told to stop
        uvicorn_server(app, settings, started).run([listening, *sockets])
    output.note("stopped")


def _default_collection() -> str:
    """The collection of the other commands, or that of a demo if there is none."""
    from xsearch.nearest import default_collection, is_remote

    place, of_demo = default_collection(), demo.OUT / demo.COLLECTION
    return str(of_demo if of_demo.exists() and not (is_remote(place) or Path(place).exists()) else place)


def _in_url(host: str) -> str:
    """The host as others reach it: a wildcard address as the name of this machine."""
    import socket

    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
