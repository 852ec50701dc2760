"""Text that is safe to print: names and metadata may come from anybody, and control a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

__all__ = ["escape_output", "escaped_output", "json_escaped", "printable", "unescaped"]

# Unicode's control and format characters, surrogates, line and paragraph separators, and others that are
# invisible by default; without the few format characters that are drawn (U+0600 and alike), and without the
# variation selectors U+FE00 to U+FE0F of emoji.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ESCAPE = r"x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}"
_IN_NAME = re.compile(rf"[{_UNSAFE}]|\\(?=\\*(?:[{_UNSAFE}]|{_ESCAPE}))")
_IN_OUTPUT = re.compile(rf"(?![\t\n])[{_UNSAFE}]")


def printable(text: str) -> str:
    """Return `text` on one line, with escapes for characters that are invisible or control a terminal.

    Different texts stay different: a backslash before what looks like an escape is doubled.

    >>> print(printable("two\\nlines \\x1b[31m red \\u202egpj.exe"))
    two\\x0alines \\x1b[31m red \\u202egpj.exe
    """
    return _IN_NAME.sub(_escaped, text)


def json_escaped(text: str) -> str:
    """Return JSON with escapes for such characters within its strings; line ends between them are kept."""
    if text.isascii() and text.isprintable():  # the rule, and a tenth of the time
        return text
    return _IN_OUTPUT.sub(_json_escape, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return r"\\"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", errors="surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


class _Escaping:
    """A text stream that escapes what is unsafe to print, other than tabs and line ends."""

    encoding, errors = "utf-8", "backslashreplace"  # of `write`: whoever looks does not wrap it once more

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(_IN_OUTPUT.sub(_escaped, text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __eq__(self, other: object) -> bool:
        """Whether both print to the same place: tqdm clears the bars of a stream before it writes there."""
        return unescaped(self) is unescaped(other)

    def __hash__(self) -> int:
        return hash(self.stream)


def unescaped(stream: Any) -> Any:
    """Return the stream below, for text with control sequences of our making."""
    return stream.stream if isinstance(stream, _Escaping) else stream


def escape_output() -> None:
    """Escape what is printed from now on: results, messages, logs, warnings, tracebacks.

    What the encoding of a stream lacks is escaped as well.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = _escaping(sys.stdout), _escaping(sys.stderr)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Escape what is printed in the block, unless it is escaped already."""
    before = sys.stdout, sys.stderr
    ours = sys.stdout, sys.stderr = _escaping(sys.stdout), _escaping(sys.stderr)
    try:
        yield
    finally:  # what has been replaced meanwhile stays
        sys.stdout = before[0] if sys.stdout is ours[0] else sys.stdout
        sys.stderr = before[1] if sys.stderr is ours[1] else sys.stderr


def _escaping(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, _Escaping) else _Escaping(stream)
