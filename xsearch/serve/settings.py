"""Where the server listens, who may use it, and what a request may cost."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from xsearch.errors import UsageError
from xsearch.models.registry import home

__all__ = ["Settings", "is_loopback"]

TOKEN = "[!-~][ -~]{14,}[!-~]"  # what a header can hold
MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a server. Raises UsageError if others could reach it without a token.

    names: further names that a Host header may have, such as that of a reverse proxy.
    trust_paths: also open the files and URLs that only an import names.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    names: tuple[str, ...] = ()
    trust_paths: bool = False
    cache: Path = field(default_factory=lambda: home() / "serve")  # of previews and maps
    cache_bytes: int = 512 * MB
    upload_bytes: int = 256 * MB
    uploads: int = 200
    uploads_bytes: int = 1024 * MB  # of those that are kept, and of all that is being received
    upload_age_s: float = 3600.0
    body_bytes: int = 4 * MB  # of a request that is no upload
    head_s: float = 10.0  # that a client may take for the head of a request
    body_s: float = 20.0  # and for its body, besides a second for each `least_rate` bytes
    least_rate: int = 64 << 10
    stall_s: float = 60.0  # in which a client has to read some of an answer
    requests: int = 512  # that are answered at once
    streams: int = 64  # of events

    def __post_init__(self) -> None:
        if self.token is not None and not re.fullmatch(TOKEN, self.token):
            raise UsageError(
                f"the token has {len(self.token)} characters; expected at least 16 of ASCII, such as "
                'those of: python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"--host {self.host} lets other machines read the media; it needs --token or XSEARCH_TOKEN"
            )


def is_loopback(host: str) -> bool:
    """Whether a name or address is that of this machine alone."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
