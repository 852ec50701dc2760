"""Bounds of HTTP responses that fsspec leaves unbounded: pages, ranges and headers."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from xsearch.system.transfer import TooLong

__all__ = ["http_options"]

PAGE_BYTES = 32 << 20  # of a response that is held in memory: a listing, or a range of a file
HEADERS_S, PAGE_S = 60, 300  # time for the headers of a response, and for a page
SILENCE_S = 30  # before a connection, or between bytes


def http_options(url: str) -> dict[str, dict[str, Any]]:
    """Return keyword arguments of `url_to_fs` for the protocols http and https in `url`, chained or not."""
    schemes = {part.partition("://")[0] for part in url.split("::")} & {"http", "https"}
    return {scheme: {"get_client": _client} for scheme in schemes}


async def _client(**options: Any) -> Any:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    headers = {"Accept-Encoding": "identity"}  # sizes are then those of the files
    return aiohttp.ClientSession(timeout=timeout, headers=headers, response_class=_bounded(), **options)


@cache
def _bounded() -> type[Any]:
    """Return a subclass of aiohttp.ClientResponse."""
    from asyncio import wait_for

    from aiohttp import ClientResponse

    class Bounded(ClientResponse):
        async def start(self, connection: Any) -> ClientResponse:
            return await wait_for(super().start(connection), HEADERS_S)

        async def read(self) -> bytes:
            if self._body is None:
                try:
                    self._body = await wait_for(self._page(), PAGE_S)
                except BaseException:
                    self.close()
                    raise
            return self._body

        async def _page(self) -> bytes:
            page = bytearray()
            async for chunk in self.content.iter_any():
                page += chunk
                if len(page) > PAGE_BYTES:
                    if self.status == 200 and "Range" in self.request_info.headers:
                        break  # only the first bytes were requested
                    raise TooLong(f"more than {PAGE_BYTES:,} bytes in one response")
            return bytes(page)

        async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
            """The page without what fsspec's expression for links takes quadratic time for."""
            page = re.sub(r"\s+", " ", await super().text(encoding, errors))
            return page.replace("<", "><")

    return Bounded
