"""Tables: aligned, whole in a pipe, as wide as the terminal in a terminal."""

import json
import os
import subprocess
import sys

from xsearch.cli.output import note, print_json, print_table, relative

ROWS = [("1", "image", "/a/very/long/folder/name/that/goes/on/and/on/for/ever/picture.jpg", "x" * 90)]
HEADER = ("#", "kind", "path", "text")


def test_a_pipe_gets_everything(capsys):
    print_table(HEADER, ROWS, numbers=1)
    header, line = capsys.readouterr().out.splitlines()
    assert line.split() == list(ROWS[0])
    assert header.index("path") == line.index("/a/very")


def test_a_terminal_gets_what_fits():
    program = f"from xsearch.cli.output import print_table; print_table({HEADER}, {ROWS}, numbers=1)"
    mine, its = os.openpty()
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], stdout=its, check=True, env=environment)
    os.close(its)
    with os.fdopen(mine, encoding="utf-8") as screen:
        _, line = (screen.readline().rstrip() for _ in range(2))
    assert len(line) == 80
    assert line.endswith("x…")
    assert "picture.jpg" in line
    assert "/a/very" in line


def test_empty_columns_are_left_out_and_control_characters_harmless(capsys):
    print_table(HEADER, [("1", "text", "", "a\n\x1b[31mb")], numbers=1)
    assert capsys.readouterr().out.splitlines() == ["#  kind  text", "1  text  a  [31mb"]


def test_a_note_is_one_line(capsys):
    note("skipped two\nlines.txt: \x1b[31mred")
    assert capsys.readouterr().err == "skipped two lines.txt:  [31mred\n"


def test_paths_below_here_are_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative(str(tmp_path / "a" / "b.jpg")) == "a/b.jpg"
    assert relative("/elsewhere/b.jpg") == "/elsewhere/b.jpg"


def test_a_table_without_rows_is_nothing(capsys):
    print_table(HEADER, [])
    assert capsys.readouterr().out == ""


def test_json_has_no_nan(capsys):
    print_json([{"a": float("nan"), "b": [float("-inf"), 0.5, 3], "c": "NaN", "d": None}])
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": [None, 0.5, 3], "c": "NaN", "d": None}]
