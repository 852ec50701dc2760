"""Searches by a server that is running already: which one, and whether it finds what this process would."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xsearch.errors import ServerError, UsageError
from xsearch.nearest import is_remote
from xsearch.system import identity, rendezvous
from xsearch.system.home import view_folder
from xsearch.types import DEFAULT_COLLECTION

if TYPE_CHECKING:
    from xsearch.client import Answers, Client
    from xsearch.query import Hits, Query

__all__ = ["Found", "search"]

LOG = logging.getLogger("xsearch")

PATIENCE_S = 5.0  # within which a server states its identity


class Found(NamedTuple):
    """The hits of a query, and what is printed of the collection."""

    hits: Hits
    items: int
    model: str


def search(query: Query, options: Mapping[str, Any], params: Mapping[str, Any]) -> Found | None:
    """Search by the server that the parameters of a command choose; None: search in this process.

    --server auto searches here whenever the output might differ: the server of another user, release, model
    or setting is not used, and neither is what it says of most errors. A server that is named is used;
    raises UsageError for what is different about it.
    """
    if params["server"] == "off":
        return None
    if params["server"] != "auto":
        from xsearch.client import Client

        opened = partial(Client, params["server"], os.environ.get("XSEARCH_TOKEN"))
        return _found(_answers(opened, query, options, params, is_named=True))
    place = rendezvous.address(_folder(params["folder"]))
    if place is None or not rendezvous.is_private(place.parent) or not place.is_socket():
        return None
    from xsearch.client import Client

    try:
        answers = _answers(partial(Client, place), query, options, params, is_named=False)
    except Exception as problem:  # whatever another release may answer
        LOG.info("not searched by the server: %s", problem)
        return None
    if answers.error is not None and answers.path in str(answers.error):  # which may be another path here
        return None
    if any(hits.missing_shards for hits in answers.hits):
        return None
    return _found(answers)


def _found(answers: Answers) -> Found:
    """Raises what the search has raised."""
    if answers.error is not None:
        raise answers.error
    (hits,) = answers.hits
    if hits.problem is not None:
        raise hits.problem
    return Found(hits, answers.items, answers.model)


def _answers(
    opened: Callable[..., Client],
    query: Query,
    options: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    is_named: bool,
) -> Answers:
    """opened: returns the client of a collection. Raises UsageError for a server that does not fit."""
    from xsearch.query.options import Options

    chosen = Options(**options)
    with opened() as client:
        server = client.identity(timeout_s=PATIENCE_S)
    try:
        held = _held(server["collections"], _folder(params["folder"]))
        difference = next(_differences(server, held, params, is_named=is_named), "")
    except (KeyError, TypeError):
        raise ServerError(f"{params['server']}: it runs another release of xsearch") from None
    if difference:
        raise UsageError(f"{params['server']}: {difference}; --server off searches without it")
    with opened(collection=held.get("name")) as client:
        return client.answers([query], chosen, exact=not is_named)


def _folder(place: str | Path) -> Path:
    """The folder of a collection; of one at a URL, that of the copies that a server has, too."""
    return view_folder(str(place)) if is_remote(place) else Path(place)


def _held(collections: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """What a server states of the collection in `folder`, empty if it does not serve it.

    Of its first one, if none is named, and there is none here.
    """
    try:
        status = folder.stat()
    except OSError:
        return next(iter(collections), {}) if folder == DEFAULT_COLLECTION else {}
    place = [status.st_dev, status.st_ino]
    return next((each for each in collections if each["folder"] == place), {})


def _differences(
    server: Mapping[str, Any], held: Mapping[str, Any], params: Mapping[str, Any], *, is_named: bool
) -> Iterator[str]:
    """Yield why a server may find something else than a search here; settings of one that is named may do."""
    if is_named:
        import xsearch

        if server["version"] != xsearch.__version__:
            yield f"it runs xsearch {server['version']}, and this is {xsearch.__version__}"
    elif server["code"] != identity.code():
        yield "it runs xsearch from another folder, or as it was before a change"
    elif server["settings"] != identity.settings():
        yield "its XSEARCH_ settings are others"
    if not held:
        paths = ", ".join(each["path"] for each in server["collections"])
        yield f"it serves {paths}, not {params['folder']}"
        return
    if _folder(params["folder"]).exists() and server["user"] != identity.user():
        yield f"it runs as the user {server['user']}"
    if params["model"] not in (None, held["source"], held["model"]):
        yield f"it uses the model {held['model'] or held['source']}, not {params['model']}"
    for name in ("device", "dtype"):
        if params[name] != held[name] and not (is_named and params[name] == "auto"):
            yield f"its {name} is {held[name]}, not {params[name]}"
