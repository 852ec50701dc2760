"""The files below the roots of an ingest, and the user's rules about them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import chain
from pathlib import Path

from xsearch import media
from xsearch.ingest.known import Known
from xsearch.ingest.others import LEFT_OUT
from xsearch.ingest.roots import Roots
from xsearch.media import Exclusion, Remote, RemoteFile, Skipped
from xsearch.metadata import Files, Metadata
from xsearch.types import MediaFile, Modality

__all__ = ["Listing"]


class Listing:
    """The files of local folders, and those of URLs, which are not fetched yet."""

    def __init__(
        self,
        roots: Sequence[str | Path],
        known: Known,
        *,
        kinds: Sequence[tuple[Modality, str]],
        exclude: Sequence[str],
        collection: Path | None,
        scratch: Path,
        identify: Callable[..., MediaFile],
    ) -> None:
        self.roots, self._kinds = Roots(roots), kinds
        self._unmatched = list(dict.fromkeys(kinds))
        self._exclusion = Exclusion(exclude, known.removed - known.files.keys())
        names = self.roots.names
        urls = filter(media.is_url, names)
        self.remotes = {url: Remote(url, scratch, kinds=kinds, identify=identify) for url in urls}
        local = [Path(name) for name in names if name not in self.remotes]
        self._folders = [*local, *(remote.folder for remote in self.remotes.values())]
        remote_files = [file for each in self.remotes.values() for file in each.files(self._exclusion)]
        local_files = media.walk(
            local, kinds=kinds, known=known.unchanged, exclusion=self._exclusion, identify=identify
        )
        ours = Roots([collection] if collection else [])
        self.files: deque[MediaFile | RemoteFile | Skipped] = deque(
            file
            for file in chain(remote_files, local_files)
            if (file.path if isinstance(file, Skipped) else file.name) not in ours
        )

    def drain(self) -> Iterator[MediaFile | RemoteFile | Skipped]:
        """Yield the files, releasing each: a million take 640 MB."""
        while self.files:
            yield self.files.popleft()

    def has_rule(self, path: Path) -> bool:
        """Whether the user has named the kind of a file."""
        return any(media.match_kind(path, folder, self._kinds) for folder in self._folders)

    def match(self, path: Path) -> None:
        """Note which rules match a file."""
        for rule in list(self._unmatched):
            if any(media.matches(path, folder, rule[1]) for folder in self._folders):
                self._unmatched.remove(rule)

    def notes(self) -> Iterator[str]:
        """Yield what the user should know of rules and ignore files."""
        rules = [f"--as {kind}={glob}" for kind, glob in self._unmatched]
        rules += [f"--exclude {glob}" for glob in self._exclusion.unmatched]
        for rule in rules:
            yield f"{rule} matches nothing; a glob is compared with names and with paths below PATH"
        yield from self._exclusion.problems

    def missing(self, names: Iterable[str], visited: Set[str], unreached: Roots) -> Iterator[str]:
        """Yield the names below the roots of files that do not exist, of URLs not listed, or excluded.

        unreached: files and folders that exist, but could not be read or listed.
        """
        for name in names:
            is_below = name not in visited and name in self.roots and name not in unreached
            if is_below and (media.is_url(name) or media.is_gone(name) or self._is_excluded(Path(name))):
                yield name

    def listed(self, names: Iterable[str], visited: Set[str], unreached: Roots) -> Iterator[str]:
        """Yield the names of folders, which have been listed."""
        for name in names:
            if name not in visited and name in self.roots and name not in unreached and Path(name).is_dir():
                yield name

    def metadata(self, requested: str | Path | None) -> Metadata:
        """Read the tables among the files, and the requested one."""
        tables = [path for remote in self.remotes.values() for path in remote.tables]
        for file in self.files:
            if (
                isinstance(file, Skipped)
                and file.error not in LEFT_OUT
                and media.is_metadata(Path(file.path))
            ):
                tables += [] if self.has_rule(Path(file.path)) else [Path(file.path)]
        table = media.absolute(requested) if requested else None
        files = Files(self._paths() if tables or table else (), map(str, self._folders))
        return Metadata(files, tables, table, shown=self._shown)

    def _is_excluded(self, path: Path) -> bool:
        roots = [folder for folder in self._folders if path.is_relative_to(folder)]
        return all(self._exclusion.covers(path, root) for root in roots)

    def _paths(self) -> Iterator[str]:
        """Yield the paths of all files, also of those that are skipped; for URLs those of their copies."""
        place = next((remote.place for remote in self.remotes.values()), Path)
        for file in self.files:
            if isinstance(file, Skipped):
                yield str(place(file.path)) if media.is_url(file.path) else file.path
            else:
                yield from (str(path) for path in (file.path, file.companion) if path)

    def _shown(self, path: Path) -> str:
        """Return the URL of a copy, any other path relative to the current folder if it is below it."""
        for url, remote in self.remotes.items():
            if path.is_relative_to(remote.folder):
                return f"{url.rstrip('/')}/{path.relative_to(remote.folder)}"
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
