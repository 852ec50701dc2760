"""What every command has in common: help, errors, exit codes, a fast start."""

import os
import re
import resource
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from xsearch.cli.app import Commands, app
from xsearch.errors import BadFilter, NoCollection

COMMANDS = ["ingest", "query", "compose", "info", "ls", "rm", "skipped", "compact", "verify"]
COMMANDS += ["export", "import", "train", "eval", "doctor", "demo", "index", "models"]


def test_help_names_every_command_in_80_columns(run):
    text = run("--help").stdout
    assert re.findall(r"^  (\w+)  +[A-Z]", text.split("Commands:")[1], re.M) == COMMANDS
    assert "..." not in text.split("Commands:")[1]  # every summary is short enough
    for command in COMMANDS:
        assert max(map(len, run(command, "--help").stdout.splitlines())) <= 80


def test_without_a_command_there_is_help(run):
    assert run().stdout == run("--help").stdout


def test_help_loads_nothing_heavy_and_is_fast():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = (
        "import sys\nsys.argv = ['xsearch', '--help']\n"
        "import xsearch.cli\ntry: xsearch.cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'torch', 'faiss', 'duckdb', 'pyarrow', 'PIL', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert out.splitlines()[-1] == "[]"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3  # seconds of CPU


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["query", "dog", "--tpo", "3"], "--tpo"),
        (["query", "dog", "--top", "0"], "--top"),
        (["query", "dog", "--modality", "smell"], "smell"),
        (["ingest"], "PATH"),
        (["ingest", "/no/such/folder"], "/no/such/folder"),
        (["quary"], "quary"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(run, words, part):
    result = run(*words, code=2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert part in line
    assert line.endswith("--help")


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (BadFilter("where: no\nSQL"), 2, "error: where: no SQL"),
        (NoCollection("nothing there"), 1, "error: nothing there"),
        (PermissionError(13, "Permission denied", "/x.html"), 1, "error: Permission denied: /x.html"),
        (KeyboardInterrupt(), 130, "interrupted: nothing is lost, run the same command again to go on"),
    ],
)
def test_every_problem_is_one_line_and_an_exit_code(problem, code, line):
    failing = typer.Typer(cls=Commands)

    @failing.command()
    def fail() -> None:
        raise problem

    @failing.command()
    def other() -> None: ...

    result = CliRunner().invoke(failing, ["fail"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.strip() == line


def test_a_bug_of_ours_is_not_hidden():
    failing = typer.Typer(cls=Commands)

    @failing.callback()
    def fail() -> None:
        raise RuntimeError("a bug")

    @failing.command()
    def other() -> None: ...

    with pytest.raises(RuntimeError, match="a bug"):
        CliRunner().invoke(failing, ["other"], catch_exceptions=False)


def test_a_closed_pipe_ends_silently(index):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = (
        f"for i in 1 2 3; do '{sys.executable}' -m xsearch ls --json --index '{index}'; done | head -n 1"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "["
    assert done.stderr == ""


def test_the_collection_is_option_then_environment_then_default(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert (
        runner.invoke(app, ["info", "--index", str(index)], env={"XSEARCH_INDEX": "/nowhere"}).exit_code == 0
    )
    assert runner.invoke(app, ["info"], env={"XSEARCH_INDEX": str(index)}).exit_code == 0
    result = runner.invoke(app, ["info"])
    assert result.exit_code == 1
    assert "indexes/default" in result.stderr
