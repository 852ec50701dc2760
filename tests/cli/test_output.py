"""Notes on stderr, JSON and fields on stdout."""

import json

from xsearch.cli.output import note, print_fields, print_json


def test_a_note_is_one_line(capsys):
    note("skipped two\nlines.txt: \x1b[31mred")
    assert capsys.readouterr().err == "skipped two\\x0alines.txt: \\x1b[31mred\n"


def test_json_has_no_nan(capsys):
    print_json([{"a": float("nan"), "b": [float("-inf"), 0.5, 3], "c": "NaN", "d": None}])
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": [None, 0.5, 3], "c": "NaN", "d": None}]


def test_fields_are_aligned_and_leave_out_what_is_not_known(capsys):
    print_fields({"items": 1_000, "recall": None, "index": "Flat"})
    assert capsys.readouterr().out.splitlines() == ["items       1,000", "index       Flat"]
