"""Tables: aligned, with whole paths in a pipe, as wide as the terminal in a terminal."""

import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from xsearch.cli.table import print_table, relative

ROWS = [("1", "image", "/a/very/long/folder/name/that/goes/on/and/on/for/ever/picture.jpg", "x" * 90)]
HEADER = ("#", "kind", "path", "text")
HITS = ("rank", "cosine", "balanced", "modality", "path", "start_s", "end_s", "text")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture
def terminal():
    """`terminal(header, rows, COLUMNS="80")` -> the lines of the table in a terminal."""

    def terminal(header, rows, **environment):
        program = f"from xsearch.cli.table import print_table; print_table({header}, {rows})"
        mine, its = os.openpty()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"} | environment
        subprocess.run([sys.executable, "-c", program], stdout=its, check=True, env=environment)
        os.close(its)
        printed = b""
        try:
            while more := os.read(mine, 4096):
                printed += more
        except OSError:  # the other end is closed
            pass
        os.close(mine)
        return [line.rstrip() for line in printed.decode().splitlines()]

    return terminal


def test_a_pipe_gets_everything_but_the_end_of_long_texts(capsys):
    print_table(HEADER, ROWS)
    header, line = capsys.readouterr().out.splitlines()
    assert line.split() == [*ROWS[0][:3], "x" * 79 + "…"]
    assert header.index("path") == line.index("/a/very")


def test_empty_cells_make_room_for_texts(terminal):
    figures = ("0.123", "+1.50", "<0.001", "2.09", "text")
    header = (*HITS[:3], "expected", "bm25", *HITS[3:])
    rows = [(str(i), *figures, f"/a/long/folder/{i}.txt", "", "", "a dog on the beach") for i in range(3)]
    rows.append(("3", *figures, "/a/long/folder/3.wav", "0", "10", ""))
    lines = [COLOUR.sub("", line) for line in terminal(header, rows, COLUMNS="80")]
    assert lines[0].split()[-2:] == ["path", "text"]
    assert "a dog on" in lines[1]
    assert max(map(len, lines)) <= 80


def test_a_terminal_gets_what_fits(terminal):
    _, line = terminal(HEADER, ROWS, COLUMNS="80", NO_COLOR="1")
    line = COLOUR.sub("", line)
    assert len(line) == 80
    assert line.endswith("x…")
    assert "picture.jpg" in line
    assert "/a/very" in line


def test_a_narrow_terminal_loses_the_last_columns_but_not_the_path(terminal):
    rows = [("1", "0.123", "+1.50", "thermal", "media/thermal/0001.png", "10", "20", "a dog")]
    names = COLOUR.sub("", terminal(HITS, rows, COLUMNS="80")[0]).split()
    assert names == list(HITS)
    header, line = (COLOUR.sub("", line) for line in terminal(HITS, rows, COLUMNS="40"))
    assert header.split() == ["rank", "cosine", "balanced", "path"]
    assert line.endswith("01.png")
    assert max(len(header), len(line)) <= 40


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_wide_characters_are_aligned_and_cut_between(terminal, capsys, columns):
    names = ["plain.jpg", "写真" * 20 + ".jpg", "🐕 on the beach.jpg", "größe.jpg"]
    rows = [(str(i), name, "海の犬" * 9, f"<{i}") for i, name in enumerate(names)]
    header = ("id", "path", "text", "kept")
    lines = [COLOUR.sub("", line) for line in terminal(header, rows, COLUMNS=columns)]
    print_table(header, rows)
    for printed in (lines, capsys.readouterr().out.splitlines()):
        starts = {cell_len(line[: line.index("<")]) for line in printed[1:]}
        assert starts == {cell_len(printed[0][: printed[0].index("kept")])}
    assert max(map(cell_len, lines)) <= int(columns)
    assert all(name.split()[-1][-6:] in line for name, line in zip(names, lines[1:], strict=True))


def test_colours_are_for_terminals_without_no_color(terminal, capsys):
    header, rows = ("modality", "text"), [("image", "a dog")]
    assert "\x1b[36m" in terminal(header, rows, COLUMNS="80")[1]
    assert "\x1b[36m" not in terminal(header, rows, COLUMNS="80", NO_COLOR="1")[1]
    print_table(header, rows)
    assert "\x1b" not in capsys.readouterr().out


def test_other_cells_wrap_in_a_terminal(terminal):
    lines = terminal(("path", "reason"), [("a.heic", "needs pillow-heif: " * 6)], COLUMNS="60", NO_COLOR="1")
    assert len(lines) == 4
    assert sum(line.count("pillow-heif") for line in lines) == 6


def test_dates_do_not_wrap_in_a_terminal(terminal):
    row = ("1", "a/picture/of/a/long/name.jpg", "A text of many words", "2024-06-01 12:00:00")
    lines = terminal(("id", "path", "text", "taken_at"), [row], COLUMNS="60", NO_COLOR="1")
    assert len(lines) == 2
    assert lines[1].endswith("2024-06-01 12:00:00")


def test_a_header_of_several_words_wraps_in_a_terminal(terminal):
    header = ("nprobe", "recall@10 same", "recall@10 cross", "kept")
    lines = terminal(header, [("8", "0.910", "0.905", "<-")], COLUMNS="38", NO_COLOR="1")
    assert [COLOUR.sub("", line).split() for line in lines] == [
        ["recall@10", "recall@10"],
        ["nprobe", "same", "cross", "kept"],
        ["8", "0.910", "0.905", "<-"],
    ]


def test_numbers_are_to_the_right(capsys):
    print_table(("n", "of", "name"), [("1", "-", "1"), ("1,000", "+2.5", "1b")])
    assert capsys.readouterr().out.splitlines() == ["    n    of  name", "    1     -  1", "1,000  +2.5  1b"]


def test_empty_columns_are_left_out_and_control_characters_escaped(capsys):
    print_table(HEADER, [("1", "text", "", "a\n\x1b[31mb")])
    assert capsys.readouterr().out.splitlines() == ["#  kind  text", r"1  text  a\x0a\x1b[31mb"]


def test_paths_below_here_are_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative(str(tmp_path / "a" / "b.jpg")) == "a/b.jpg"
    assert relative("/elsewhere/b.jpg") == "/elsewhere/b.jpg"


def test_a_table_without_rows_is_nothing(capsys):
    print_table(HEADER, [])
    assert capsys.readouterr().out == ""
