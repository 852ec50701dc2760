"""Files and folders named by the user."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from xsearch import media

__all__ = ["Roots"]


class Roots:
    """Paths, made absolute, and URLs; a name is in them if it is one of them or below one."""

    def __init__(self, names: Iterable[str | Path]) -> None:
        self.names = [str(name if media.is_url(name) else media.absolute(name)) for name in names]
        self._folders = tuple(f"{name.rstrip('/')}/" for name in self.names)

    def __contains__(self, name: str) -> bool:
        return name.startswith(self._folders) or name in self.names
