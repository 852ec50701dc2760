"""Collections at a URL, published by `push` and opened by `Mirror`.

    blobs/SHA256             every file of a collection, named by its content
    generations/N.json       a generation: its manifest, and the bytes of each file

Nothing is changed once it is there: a file is put only where there is none of its name, and the generation
last. So readers find a whole generation or none of it, whenever a push is killed; the next one takes over
what is there. Of two pushes of generation N one wins, and the other fails.

The last KEPT_GENERATIONS stay. An older one is deleted, with the blobs that no later one has; a reader that
still needs one of them opens the newest. Blobs of a push that was never completed stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock

from xsearch.errors import Damaged, NoCollection, StoreError, UsageError, XsearchError
from xsearch.nearest import NAME
from xsearch.store.manifest import MAX_ID, Manifest, parsed_manifest, serialized
from xsearch.store.snapshot import Snapshot
from xsearch.system.durable import digest
from xsearch.system.objects import Objects, objects_at
from xsearch.system.retries import is_of_disk, reason_of, retried
from xsearch.types import KEPT_GENERATIONS

__all__ = ["CONNECTIONS", "Generation", "Published", "Pushed"]

CONNECTIONS = 8
PART_BYTES = 32 << 20  # of a file that is transferred alone
SUFFIX = ".json"
_NAMES = re.compile(r"\d{1,19}\.json")
_LARGE = Lock()


@dataclass(frozen=True, slots=True)
class Pushed:
    """Result of `Published.push`. files, bytes: that were not there. deleted: files of old generations."""

    generation: int
    files: int
    bytes: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Generation:
    """A published generation.

    name: tells it from all others. written: the content of its `manifest.json`. sizes: bytes of each file.
    """

    name: str
    written: bytes
    manifest: Manifest
    sizes: dict[str, int]


class Published:
    """What is at a URL. Methods raise StoreError if it cannot be reached, and UsageError for a wrong URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def newest(self, *, patient: bool = True) -> str:
        """Return the name of the newest generation. Raises NoCollection.

        patient: try again if the URL cannot be reached.
        """
        names = self._names(patient=patient)
        if not names:
            raise NoCollection(f"no collection at {self.url}; publish one with `xsearch push {self.url}`")
        return names[-1]

    def read(self, name: str) -> Generation:
        """Read a generation. Raises Damaged."""
        with self._reaching():
            written = retried(lambda: self._objects("generations").get(name))
        try:
            content = json.loads(written)
            text, sizes = content["manifest"].encode(), content["sizes"]
            manifest = parsed_manifest(Path(self.url), NAME, text)
            sizes = {path: sizes[path] for path in manifest.contents()}
            if not all(type(size) is int and 0 <= size <= MAX_ID for size in sizes.values()):
                raise ValueError("not the size of a file")
        except (ValueError, LookupError, TypeError, AttributeError, Damaged) as error:
            problem = error.problem if isinstance(error, Damaged) else error
            raise Damaged(self.url, f"generations/{name}", problem, "delete it and push again") from error
        return Generation(f"{name}-{sha256(written).hexdigest()[:16]}", text, manifest, sizes)

    def get(self, blob: str, size: int, path: Path) -> None:
        """Write a blob of `size` bytes to `path`. Raises OSError for the disk of `path`."""
        with self._reaching(), _turn(size):
            retried(lambda: self._objects("blobs").get_file(blob, path, size))

    def push(
        self,
        snapshot: Snapshot,
        *,
        keep: int = KEPT_GENERATIONS,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Pushed:
        """Publish a snapshot. keep: generations. progress: called with bytes that are there, of how many.

        Raises StoreError if there is a later generation, or another of that number, and Damaged; UsageError
        for the folder of a collection.
        """
        manifest, contents = snapshot.manifest, _contents(snapshot)
        name = f"{manifest.generation}{SUFFIX}"
        snapshot.bring(contents)  # if it is itself of a URL
        sizes = {path: (snapshot.path / path).stat().st_size for path in contents}
        content = {"manifest": serialized(manifest).decode(), "sizes": sizes}
        document = json.dumps(content, indent=1, sort_keys=True).encode()
        with self._reaching():
            self._check_place()
            self._check_newest(manifest)
            sent = self._send(snapshot.path, contents, sizes, progress)
            generations = self._objects("generations", create=True)
            retried(lambda: generations.put(name, document))
            if retried(lambda: generations.get(name)) != document:
                raise self._taken(manifest.generation)
            deleted = self._delete_old(keep)
        return Pushed(manifest.generation, len(sent), sum(sizes[path] for path in sent), deleted)

    def _send(
        self,
        folder: Path,
        contents: dict[str, str],
        sizes: dict[str, int],
        progress: Callable[[int, int], None],
    ) -> list[str]:
        """Put the blobs that are not there, and return their paths."""
        blobs, paths = self._objects("blobs", create=True), {blob: path for path, blob in contents.items()}
        there = retried(blobs.sizes)
        new = {blob: path for blob, path in paths.items() if there.get(blob) != sizes[path]}
        for blob in new.keys() & there.keys():  # cut short: this file system does not write atomically
            blobs.remove(blob)
        total = sum(sizes[path] for path in paths.values())
        done = total - sum(sizes[path] for path in new.values())
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                for size in pool.map(partial(_put, blobs, folder), new.keys(), new.values()):
                    done += size
                    progress(done, total)
            except BaseException:  # Ctrl-C too
                pool.shutdown(cancel_futures=True)
                raise
        return list(new.values())

    def _check_place(self) -> None:
        """Raise UsageError for the folder of a collection."""
        with suppress(FileNotFoundError):
            if NAME in retried(objects_at(self.url).names):
                raise UsageError(f"{self.url} is a collection itself; push to a folder or URL of its own")

    def _check_newest(self, manifest: Manifest) -> None:
        """Raise StoreError unless `manifest` is what is there, or follows it."""
        if not (names := self._names()):
            return
        newest = self.read(names[-1])
        there = newest.manifest
        if there.generation > manifest.generation or there.next_id > manifest.next_id:
            raise StoreError(
                f"{self.url} has generation {there.generation} with ids below {there.next_id:,}, later than "
                f"generation {manifest.generation} with ids below {manifest.next_id:,}: another collection, "
                "or a later copy of this one; choose another URL"
            )
        if there.fingerprint != manifest.fingerprint:
            raise StoreError(
                f"{self.url} has a collection of the model {there.fingerprint.name}, this one is of "
                f"{manifest.fingerprint.name}; choose another URL"
            )
        if there.generation == manifest.generation and newest.written != serialized(manifest):
            raise self._taken(manifest.generation)

    def _taken(self, generation: int) -> StoreError:
        return StoreError(
            f"{self.url} has another generation {generation}, from another copy of this collection; "
            "choose another URL, or go on with that copy"
        )

    def _delete_old(self, keep: int) -> int:
        """Delete all but the last `keep` generations; return how many blobs these alone had."""
        names = self._names()
        if not (old := names[:-keep]):
            return 0
        contents = {name: set(self.read(name).manifest.contents().values()) for name in names}
        kept = set[str]().union(*(contents[name] for name in names[-keep:]))
        deleted: set[str] = set()
        for name in old:
            for blob in contents[name] - kept - deleted:
                retried(partial(self._objects("blobs").remove, blob))
                deleted.add(blob)
            retried(partial(self._objects("generations").remove, name))
        return len(deleted)

    def _names(self, *, patient: bool = True) -> list[str]:
        """The names of the generations, the newest last."""
        with self._reaching():
            try:
                names = self._objects("generations").names
                found = filter(_NAMES.fullmatch, retried(names) if patient else names())
            except FileNotFoundError:
                return []
        return sorted(found, key=lambda name: int(name.removesuffix(SUFFIX)))

    def _objects(self, folder: str, *, create: bool = False) -> Objects:
        return objects_at(f"{self.url}/{folder}", create=create)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Raise StoreError for whatever a file system raises, except for errors of the local disk."""
        try:
            yield
        except FileNotFoundError as problem:
            raise StoreError(
                f"{self.url} lacks a file: {problem}; there is no such bucket, or an old generation has been "
                "deleted: try again"
            ) from problem
        except PermissionError as problem:
            raise StoreError(f"{self.url}: no permission: {problem}; check the credentials") from problem
        except NotImplementedError as problem:
            raise UsageError(
                f"{self.url} cannot be written to; use one such as s3://bucket/name"
            ) from problem
        except Exception as problem:  # file systems raise exceptions of their own
            if isinstance(problem, XsearchError) or is_of_disk(problem):
                raise
            raise StoreError(
                f"{self.url}: {reason_of(problem)}; check the network and the credentials, and try again"
            ) from problem


def _contents(snapshot: Snapshot) -> dict[str, str]:
    """Path -> sha256 of every file of a snapshot. Raises StoreError if one has no digest."""
    contents, folder = snapshot.manifest.contents(), snapshot.path
    if snapshot.manifest.files() - {path for file in contents for path in (file, file.rpartition("/")[0])}:
        raise StoreError(
            f"{folder} has files of format 1, without a digest; renew them: "
            f"`xsearch compact --collection {folder}`, and `xsearch index build`"
        )
    return contents


def _put(blobs: Objects, folder: Path, blob: str, path: str) -> int:
    """Put a file, unless it is damaged, and return its size."""
    if digest(folder / path) != blob:
        raise Damaged(folder, path, "a wrong sha256")
    size = (folder / path).stat().st_size
    with _turn(size):
        retried(lambda: blobs.put_file(blob, folder / path))
    return size


def _turn(size: int) -> AbstractContextManager[object]:
    """Large files in turn: file systems transfer one in several parts at once, all of which are in memory."""
    return _LARGE if size > PART_BYTES else nullcontext()
