"""A collection that a server holds, to be searched as one that is here.

    collection = xsearch.connect("http://127.0.0.1:8080")
    collection.search(xsearch.image("bird.jpg") + xsearch.audio("sea.wav"), top=10)

Files of a query are uploaded, unless the collection has them in that state. Hits are what they would be here.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlencode, urlsplit
from weakref import finalize

from xsearch import errors
from xsearch.errors import ServerError, UnknownWords, UsageError, XsearchError
from xsearch.query.expression import Part, Query, parse_each
from xsearch.query.hits import Hits
from xsearch.query.options import Options, as_modalities
from xsearch.query.wire import from_wire
from xsearch.types import FALSE_ALARMS, Box, Hit, Match, Modality, Rank, Sample, Sort

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["Answers", "Client", "connect"]

TIMEOUT_S = 300.0  # of a request: decoding an uploaded video takes a while
TOGETHER, TOGETHER_BYTES = 64, 2 << 20  # queries of one request
DIGITS = 20  # of a number of a vector
_ERRORS: dict[str, type[XsearchError]] = {
    "bad-filter": errors.BadFilter,
    "collection": errors.StoreError,
    "empty-query": errors.EmptyQuery,
    "invalid-request": UsageError,
    "model": errors.ModelError,
    "no-collection": errors.NoCollection,
    "no-item": UsageError,
    "too-large": errors.TooLarge,
    "unreadable-media": errors.Unreadable,
    "unsupported-media": errors.Unsupported,
    "url": UsageError,
    "usage": UsageError,
}
_CLOSED = {
    "file-changed",
    "file-gone",
    "not-opened",
    "too-large",
    "unreadable-media",
    "unsupported-media",
}

Kinds = Modality | str | Sequence[Modality | str]


def connect(
    url: str, token: str | None = None, *, collection: str | None = None, timeout_s: float = TIMEOUT_S
) -> Client:
    """The collection of the server at `url`, which is not asked before it is needed.

    token: that of `xsearch serve --token`. collection: the name of one of several, by default the first.
    timeout_s: that the server may be silent for.
    """
    return Client(url, token, collection=collection, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to some queries, of one state of the collection."""

    hits: list[Hits]
    items: int  # of the collection
    model: str
    path: str  # of the collection, there
    error: XsearchError | None  # which the search would have raised here, too


class Client:
    """A collection of a server. Its methods are those of `Collection`, and so are their errors.

    Where the server cannot be reached, refuses or fails they raise ServerError. May be shared by threads.
    A context manager that closes its connections.
    """

    def __init__(
        self,
        server: str | Path,
        token: str | None = None,
        *,
        collection: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """server: its URL, or the path of a Unix socket."""
        self._channel = _Channel(server, token, timeout_s)
        self._suffix = "" if collection is None else "?" + urlencode({"collection": collection})

    def close(self) -> None:
        """Close the connections; they are opened again when needed."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self.info()["items"])

    def __repr__(self) -> str:
        return f"<Client {self._channel.name}>"

    def search(
        self,
        query: Query | str | Path,
        top: int = 10,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        rank: Rank | str = Rank.BALANCED,
        match: Match | str | None = None,
        min_cosine: float | None = None,
        max_expected: float | None = None,
        unique: bool = False,
        sort: Sort | str | None = None,
        exclude_self: bool = False,
        anyway: bool = False,
    ) -> Hits:
        """The `top` items nearest to a `Query`, a path here, or a text; see `xsearch.query.Options`.

        The `query` of the hits has no vectors; `embed` returns them. Raises as `Collection.search` does.
        """
        (hits,) = self.search_many(
            [query],
            top,
            modality=modality,
            where=where,
            rank=rank,
            match=match,
            min_cosine=min_cosine,
            max_expected=max_expected,
            unique=unique,
            sort=sort,
            exclude_self=exclude_self,
            anyway=anyway,
        )
        if hits.problem is not None:
            raise hits.problem
        return hits

    def search_many(self, queries: Sequence[Query | str | Path], top: int = 10, **options: Any) -> list[Hits]:
        """`search` for many queries, with its options, some of them at a time.

        Unknown words are the `problem` of the hits of their query alone.
        """
        requested = Options(top=top, **options)
        hits: list[Hits] = []
        for some in _batches(parse_each(queries)):
            answers = self.answers(some, requested)
            if answers.error is not None:
                raise answers.error
            hits += answers.hits
        return hits

    def answers(self, queries: Sequence[Query], options: Options, *, exact: bool = False) -> Answers:
        """The answers to these queries, in one request, and what there is to know about them.

        exact: raise ServerError where they would not be those that a search here returns.
        """
        request = {"options": asdict(options) | {"modality": options.modalities}}
        uploads = _Uploads(self._channel)
        try:
            try:
                content = self._post("answers", request | {"queries": uploads.sent(queries, as_states=True)})
            except _Problem as problem:
                if problem.type not in ("new-files", *(() if exact else ("imported-files",))):
                    raise
                content = self._post("answers", request | {"queries": uploads.sent(queries)})
        except _Problem as problem:
            if (path := problem.content.get("exact")) is None:
                raise problem.error() from None
            return Answers([], 0, "", path, problem.error())
        with self._channel.decoding():
            answer = json.loads(content)
            hits = [from_wire(*each) for each in zip(answer["answers"], queries, strict=True)]
            return Answers(hits, answer["items"], answer["model"], answer["path"], None)

    def locate(self, hits: Hits, *, false_alarms: float = FALSE_ALARMS) -> Hits:
        """The same hits with boxes: where in each picture the query is; see `Collection.locate`."""
        if hits.query is None:
            return hits
        (parts,) = _Uploads(self._channel).sent([hits.query.query])
        request = {"parts": parts, "false_alarms": false_alarms, "anyway": True}
        return hits.located([self._boxes(hit, request) for hit in hits])

    def _boxes(self, hit: Hit, request: Mapping[str, Any]) -> tuple[Box, ...] | None:
        if hit.modality is not Modality.IMAGE:
            return None
        try:
            content = self._post(f"items/{hit.id}/locate", request)
        except _Problem as problem:
            if problem.type in _CLOSED:
                return None
            raise problem.error() from None
        with self._channel.decoding():
            return tuple(Box(**box) for box in json.loads(content)["boxes"])

    def embed(self, queries: Sequence[Query | str | Path]) -> np.ndarray:
        """The vectors that these queries are searched with: float32 [N, dim], rows of length 1.

        Also those of texts of which the model has learned no word.
        """
        import numpy as np

        vectors: list[list[float]] = []
        uploads = _Uploads(self._channel)
        for some in _batches(parse_each(queries)):
            with _raising():
                content = self._post("embed", {"queries": uploads.sent(some)})
            with self._channel.decoding():
                vectors += json.loads(content)["vectors"]
        return np.array(vectors, np.float32)

    def items(
        self,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        sort: Sort | str | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The items as an Arrow table, by id, or by `taken_at`: "date", the newest first, or "-date"."""
        import pyarrow as pa

        request = {"modality": as_modalities(modality), "where": where, "columns": columns, "limit": limit}
        with _raising():
            content = self._post("table", request | {"sort": None if sort is None else Sort(sort)})
        with self._channel.decoding():
            return pa.ipc.open_stream(content).read_all()

    def info(self) -> dict[str, Any]:
        """What the server knows of the collection: items, kinds, model, columns, generation and others."""
        return self._get("info")

    def identity(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Which xsearch the server is, and which collections it serves with which options."""
        return self._get("identity", timeout_s=timeout_s)

    def _get(self, route: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        with _raising():
            content = self._channel.request("GET", f"/v1/{route}{self._suffix}", timeout_s=timeout_s)
        with self._channel.decoding():
            return dict(json.loads(content))

    def _post(self, route: str, request: Mapping[str, Any]) -> bytes:
        return self._channel.request("POST", f"/v1/{route}{self._suffix}", json.dumps(request).encode())


def _batches(queries: Sequence[Query]) -> Iterator[list[Query]]:
    """Yield the queries in batches that make requests of a moderate size."""
    batch: list[Query] = []
    size = 0
    for query in queries:
        lengths = (len(part.source) for part in query.parts if hasattr(part.source, "__len__"))
        more = DIGITS * sum(lengths)
        if batch and (len(batch) == TOGETHER or size + more > TOGETHER_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(query)
        size += more
    if batch:
        yield batch


class _Uploads:
    """Queries as they are sent. Each of their files is uploaded once."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._ids: dict[tuple[Modality | None, int], str] = {}

    def sent(self, queries: Sequence[Query], *, as_states: bool = False) -> list[list[dict[str, Any]]]:
        """as_states: send the state of each local file, in which the collection may have it, in its place."""
        return [[self._sent(part, as_states) for part in query.parts] for query in queries]

    def _sent(self, part: Part, as_states: bool) -> dict[str, Any]:
        content: dict[str, Any]
        match part.source:
            case Path() as path if as_states:
                content = {"kind": part.modality, "file": _state(path)}
            case Path() | bytes() | tuple():
                key = part.modality, id(part.source)
                if key not in self._ids:
                    self._ids[key] = self._uploaded(part)
                content = {"kind": part.modality, "upload": self._ids[key]}
            case _:
                ((content,),) = Query((part,)).to_dict().values()
        return content | {"weight": part.weight}

    def _uploaded(self, part: Part) -> str:
        """Upload the file of a part; return its id."""
        with _content(part) as (name, kind, file):
            query = {"name": name} | ({"kind": kind} if kind else {})
            answer = self._channel.request("POST", f"/v1/uploads?{urlencode(query, errors='replace')}", file)
        with self._channel.decoding():
            return str(json.loads(answer)["id"])


def _state(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
    except OSError:
        raise _no_file(path) from None
    return {"name": os.path.abspath(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}  # noqa: PTH100


def _no_file(path: Path) -> UsageError:
    from xsearch.media import why_no_file

    return UsageError(why_no_file(path))


@contextmanager
def _content(part: Part) -> Iterator[tuple[str, Modality | None, BinaryIO]]:
    """Yield the name, kind and content of the file of a part, or of its picture."""
    match part.source:
        case bytes() as source:
            yield "file", part.modality, BytesIO(source)
        case Path() as path:
            from xsearch import decoders

            if not path.is_file():
                raise _no_file(path)
            kinds = [(part.modality, "*")] if part.modality else ()
            about = decoders.identify(path.absolute(), kinds=kinds)  # also by the names of its folders
            if about.companion is not None:
                raise UsageError(f"{path}: consists of several files, and a server takes one; search here")
            with path.open("rb") as file:
                yield path.name, about.modality, file
        case (Sample(modality=Modality.IMAGE, data=picture),):
            picture.save(content := BytesIO(), "PNG")
            yield "picture.png", part.modality, content
        case _:
            raise UsageError(f"{part.label}: a server takes files and vectors; send the bytes of a file")


class _Channel:
    """Requests over HTTP, on connections that are used again; for any number of threads."""

    def __init__(self, server: str | Path, token: str | None, timeout_s: float) -> None:
        self.name = str(server)
        self._timeout_s = timeout_s
        if token is not None and not (token.isascii() and token.isprintable()):
            raise UsageError("token: expected ASCII without line ends")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._idle: list[HTTPConnection] = []  # whose methods are atomic
        finalize(self, _close, self._idle)
        self._root = ""
        if isinstance(server, Path):
            self._new: Callable[[], HTTPConnection] = partial(_UnixConnection, server, timeout_s)
            return
        try:
            url = urlsplit(server)
            is_http = url.scheme in ("http", "https") and server.isascii()
            if not is_http or not url.hostname or url.query or url.fragment:
                raise ValueError("expected a URL such as http://127.0.0.1:8080")
            kind: type[HTTPConnection] = HTTPSConnection if url.scheme == "https" else HTTPConnection
            self._new = partial(kind, url.hostname, url.port, timeout=timeout_s)
        except ValueError as problem:
            raise UsageError(f"server {server!r}: {problem}") from None
        self._root = url.path.rstrip("/")

    def close(self) -> None:
        _close(self._idle)

    def request(
        self,
        method: str,
        target: str,
        body: bytes | BinaryIO | None = None,
        *,
        timeout_s: float | None = None,
    ) -> bytes:
        """Return the content of the answer. Raises _Problem for one, else ServerError."""
        while self._idle:
            with suppress(IndexError, _Stale):  # taken by another thread; closed by the server meanwhile
                return self._exchange(self._idle.pop(), method, target, body, timeout_s)
        try:
            return self._exchange(self._new(), method, target, body, timeout_s)
        except _Stale as problem:
            raise ServerError(f"{self.name}: {problem}") from problem.__cause__

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Raise ServerError if an answer is not of its form."""
        try:
            yield
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as problem:
            raise ServerError(f"{self.name}: not the answer of a server of this xsearch") from problem

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        target: str,
        body: bytes | BinaryIO | None,
        timeout_s: float | None,
    ) -> bytes:
        headers, seconds = dict(self._headers), timeout_s or self._timeout_s
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        elif body is not None:
            size = body.seek(0, os.SEEK_END)
            body.seek(0)
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        connection.timeout = seconds
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have refused before it read all
                connection.request(method, self._root + target, body, headers)
            response = connection.getresponse()
            content = response.read()
        except TimeoutError:
            connection.close()
            raise ServerError(f"{self.name}: no answer within {seconds:g} s") from None
        except (OSError, HTTPException) as problem:
            connection.close()
            raise _Stale(str(problem) or type(problem).__name__) from problem
        if not response.will_close:
            self._idle.append(connection)
        if response.status < 300:
            return content
        try:
            about = dict(json.loads(content))
            raise _Problem(str(about["type"]).removeprefix("urn:xsearch:"), str(about["detail"]), about)
        except (KeyError, TypeError, ValueError):
            raise ServerError(f"{self.name}: {response.status} {response.reason}") from None


def _close(connections: list[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()


class _UnixConnection(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Stale(Exception):
    """A connection that cannot be opened, or that the server has closed."""


class _Problem(Exception):
    """An answer of problem details (RFC 9457)."""

    def __init__(self, type: str, detail: str, content: Mapping[str, Any]) -> None:
        super().__init__(detail)
        self.type = type
        self.content = content

    def error(self) -> XsearchError:
        """What a search here would raise, as far as the problem says so."""
        if self.type == "unknown-words":
            fields = ("text", "words", "near", "model")
            with suppress(KeyError):
                return UnknownWords(**{name: self.content[name] for name in fields})
        return _ERRORS.get(self.type, ServerError)(str(self.content.get("message", self)))


@contextmanager
def _raising() -> Iterator[None]:
    """Raise what problems stand for."""
    try:
        yield
    except _Problem as problem:
        raise problem.error() from None
