"""What is printed is visible, and different names look different."""

import io
import itertools
import json
import subprocess
import sys
import unicodedata

import pytest

from xsearch.system.terminal import escaped_output, json_escaped, printable, unescaped

# Format characters that are drawn
DRAWN = {*range(0x600, 0x606), 0x6DD, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def hidden_in(text: str) -> list[str]:
    return [char for char in text if unicodedata.category(char) in HIDDEN and ord(char) not in {*DRAWN, 0x0A}]


def test_every_hidden_character_of_unicode_is_escaped():
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) in HIDDEN and code not in DRAWN:
            assert printable(char).isascii(), hex(code)
            assert printable(char).isprintable()
        elif char.isprintable() and not unicodedata.name(char, "").endswith("FILLER"):
            is_ignored = 0xE0100 <= code <= 0xE01EF or code in (0x34F, *range(0x180B, 0x1810), 0x17B4, 0x17B5)
            assert printable(char) == char or is_ignored, hex(code)


def test_names_of_all_languages_stay_as_they_are():
    for name in ("größe.jpg", "写真　１.png", "C:\\new\\text", "🐕", "\u00a0a", "❤\ufe0f", "שלום", "a\\"):
        assert printable(name) == name


def test_different_names_stay_different():
    pieces = ["\\", "\x1b", "x1b", "\n", "x0a", "\u202e", "u202e", "a"]
    names = {"".join(parts) for n in range(5) for parts in itertools.product(pieces, repeat=n)}
    assert len({printable(name) for name in names}) == len(names)


def test_json_comes_back_as_it_was():
    hidden = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in HIDDEN)
    text = json_escaped(json.dumps({"a": hidden, "b": "größe\n"}, ensure_ascii=False, indent=1))
    assert hidden_in(text) == []
    assert json.loads(text)["a"].encode("utf-16", "surrogatepass") == hidden.encode("utf-16", "surrogatepass")
    assert "größe" in text


def test_whatever_is_written_in_the_block_is_escaped(monkeypatch):
    ours = sys.stdout, sys.stderr
    with escaped_output(), escaped_output():
        assert isinstance(unescaped(sys.stdout), type(ours[0]))
        out = io.StringIO()
        monkeypatch.setattr(sys.stdout, "stream", out)
        print("a\tb\r\x1b[31m", "\udcff")
        sys.stdout.writelines(["\x9b", "é\n"])
    assert (sys.stdout, sys.stderr) == ours
    assert out.getvalue() == "a\tb\\x0d\\x1b[31m \\udcff\n\\x9bé\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_tracebacks_logs_and_warnings_are_escaped_in_any_encoding(encoding):
    program = (
        "import logging, sys, warnings\nfrom xsearch.system.terminal import escape_output\n"
        "escape_output()\nname = 'ü\\x1b[2J\\u202e写\\udcff'\nprint(name)\n"
        "logging.getLogger('xsearch').warning(name)\nwarnings.warn(name)\nraise ValueError(name)"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=False)
    printed = (done.stdout + done.stderr).decode(encoding)
    assert printed.count("\\x1b[2J\\u202e") == 4
    assert hidden_in(printed) == []
    assert ("写" in printed) == (encoding == "utf-8")
