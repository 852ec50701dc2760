"""What every command has in common: help, errors, exit codes, a fast start."""

import logging
import os
import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from xsearch.cli.app import Commands, app
from xsearch.errors import BadFilter, NoCollection
from xsearch.types import Modality

COMMANDS = ["ingest", "query", "compose", "generate", "locate", "info", "ls", "rm", "skipped", "compact"]
COMMANDS += [
    "verify",
    "export",
    "import",
    "push",
    "serve",
    "train",
    "doctor",
    "demo",
    "eval",
    "index",
    "models",
]
GROUPS = {
    "eval": ["pairs", "collection", "scenes", "benchmark"],
    "index": ["plan", "build", "tune", "info"],
    "models": ["list", "info", "verify", "pull", "rm"],
}


def test_help_names_every_command_in_80_columns(run):
    text = run("--help").stdout
    assert re.findall(r"^  (\w+)  +[A-Z]", text.split("Commands:")[1], re.M) == COMMANDS
    assert "..." not in text.split("Commands:")[1]  # every summary is short enough
    for command in COMMANDS:
        assert max(map(len, run(command, "--help").stdout.splitlines())) <= 80


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_names_its_commands_in_80_columns(run, group):
    summaries = run(group, "--help").stdout.split("Commands:")[1]
    assert re.findall(r"^  (\w+)  +[A-Z]", summaries, re.M) == GROUPS[group]
    assert "..." not in summaries
    for command in GROUPS[group]:
        assert max(map(len, run(group, command, "--help").stdout.splitlines())) <= 80


def test_without_a_command_there_is_help(run):
    assert run().stdout == run("--help").stdout


def test_help_has_no_python_types(run):
    for command in [*COMMANDS, *(f"{group} {command}" for group in GROUPS for command in GROUPS[group])]:
        text = run(*command.split(), "--help").stdout
        assert not re.search(r"list\[|<(str|int|float|path|Path|bool)>|\{[A-Z]", text)
    assert run("ingest", "-h").stdout.splitlines()[0] == "Usage: xsearch ingest [OPTIONS] PATH..."
    assert run("rm", "-h").stdout.splitlines()[0] == "Usage: xsearch rm [OPTIONS] [WHAT...]"


@pytest.mark.parametrize("group", [None, *GROUPS])
def test_a_group_alone_prints_its_help(run, group):
    words = [group] if group else []
    result = run(*words)
    assert result.stdout == run(*words, "--help").stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["serach", "dog"], "did you mean query?"),
        (["search", "dog"], "did you mean query?"),
        (["igest", "."], "did you mean ingest?"),
        (["list"], "did you mean ls?"),
        (["models", "ls"], "did you mean list?"),
        (["index", "bild"], "did you mean build?"),
        (["query", "dog", "--modailty", "image"], "--modality"),
        ([__file__], f"xsearch ingest {__file__}"),
    ],
)
def test_mistyped_names_and_those_of_other_programs_get_a_hint(run, words, hint):
    (line,) = run(*words, code=2).stderr.splitlines()
    assert hint in line


def test_an_option_has_one_name_everywhere():
    names: dict[str, set[str]] = {}  # by short name

    def visit(command):
        for option in command.params:
            *long, short = sorted(option.opts, key=len, reverse=True)
            if long and len(short) == 2:
                names.setdefault(short, set()).update(long)
        for other in getattr(command, "commands", {}).values():
            visit(other)

    visit(typer.main.get_command(app))
    assert {short for short, long in names.items() if len(long) > 1} == set()
    assert names["-n"] == {"--top"}


def test_help_loads_nothing_heavy():
    program = (
        "import sys\nsys.argv = ['xsearch', '--help']\n"
        "import xsearch.cli\ntry: xsearch.cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'torch', 'faiss', 'duckdb', 'pyarrow', 'PIL', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["query", "dog", "--tpo", "3"], "--tpo"),
        (["query", "dog", "--top", "0"], "--top"),
        (["query", "dog", "--modality", "smell"], "smell"),
        (["ingest"], "PATH"),
        (["ingest", "/no/such/folder"], "/no/such/folder"),
        (["quary"], "quary"),
        (["eval", "pears"], "pears"),
        (["query", "dog", "-k"], "-k"),
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
        (KeyboardInterrupt(), 130, "interrupted: nothing is lost, run the same command again to continue"),
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
    elsewhere = {"XSEARCH_COLLECTION": "/nowhere"}
    for option in ("--collection", "-c", "--index"):
        assert runner.invoke(app, ["info", option, str(index)], env=elsewhere).exit_code == 0
    assert runner.invoke(app, ["info"], env={"XSEARCH_COLLECTION": str(index)}).exit_code == 0
    assert runner.invoke(app, ["info"], env={"XSEARCH_INDEX": str(index)}).exit_code == 0
    both = {"XSEARCH_COLLECTION": str(index), "XSEARCH_INDEX": "/nowhere"}
    assert runner.invoke(app, ["info"], env=both).exit_code == 0
    result = runner.invoke(app, ["info"])
    assert result.exit_code == 1
    assert "indexes/default" in result.stderr
    assert "--collection indexes/default" in result.stderr
    assert "in a folder above or at" in result.stderr


def test_a_type_that_is_refused_is_all_that_is_said(run, media, tmp_path):
    result = run("ingest", media, "--dtype", "int8", "--collection", tmp_path / "new", code=2)
    assert result.stderr.startswith("error: int8 gains nothing for")
    assert not (tmp_path / "new").exists()


def test_the_nearest_collection_is_found_from_below_its_folder(run, media, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"new collection: {tmp_path / 'indexes/default'}" in run("ingest", media / "note.txt").stderr
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert str(tmp_path / "indexes/default") in run("info").stdout
    assert "nothing changed" in run("ingest", media / "note.txt").stdout
    assert list(below.iterdir()) == []
    result = run("info", "-c", "indexes/default", code=1)  # one that is named is meant exactly
    assert "folder above" not in result.stderr


def test_former_names_are_not_in_the_help(run):
    text = run("query", "--help").stdout
    assert "XSEARCH_COLLECTION; default: indexes/default" in " ".join(text.split())
    for former in ("--index", "XSEARCH_INDEX", "--min-score"):
        assert former not in text


def test_short_options(run, index, tmp_path):
    words = ["query", "dog", "-c", index, "-n", 2, "-k", "image", "-k", "text", "-w", "id >= 0", "--paths"]
    assert run(*words).stdout == run("query", "dog", "--collection", index, "--top", 2, "--modality", "image",
        "--modality", "text", "--where", "id >= 0", "--paths").stdout  # fmt: skip
    for option in ("-n", "--top", "--limit"):
        assert len(run("ls", option, 2, "-c", index).stdout.splitlines()) == 3


@pytest.mark.parametrize(
    "words", [["-v", "query", "dog"], ["query", "dog", "-v"], ["-v", "query", "-v", "dog"]]
)
def test_verbose_logs_to_stderr_until_the_command_ends(run, index, words):
    told = run(*words, "-c", index).stderr
    assert len(re.findall(r"^\d+ ms INFO searched 7 items in", told, re.M)) == 1
    assert "INFO" not in run("query", "dog", "-c", index).stderr
    assert logging.getLogger("xsearch").level == logging.NOTSET


@pytest.fixture
def complete():
    """`complete("query", "-k", "te")` -> what bash is offered for the last word."""

    def complete(*words, shell="bash"):
        line = " ".join(["xsearch", *words])
        environment = {
            "_XSEARCH_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
            "_TYPER_COMPLETE_ARGS": line,
        }
        command = [sys.executable, "-m", "xsearch"]
        environment |= os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    return complete


def test_kinds_commands_and_options_are_completed(complete):
    assert complete("query", "dog", "-k", "t").split() == ["text", "thermal"]
    assert complete("query", "--modality", "").split() == list(Modality)
    assert complete("in").split() == ["ingest", "info", "index"]
    assert complete("eval", "benchmark", "ny").split() == ["nyu-d"]
    assert complete("ls", "--coll").split() == ["--collection"]
    assert "--index" not in complete("ls", "--").split()
    assert complete("query", "--image", "./").split() == []  # the shell completes paths
    assert complete("query", "--image", "./", shell="zsh").split() == ["_files"]
    assert '"thermal"' in complete("query", "-k", "th", shell="zsh")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell, monkeypatch):
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    result = CliRunner().invoke(app, ["--show-completion"], prog_name="xsearch")
    assert result.exit_code == 0
    assert "_XSEARCH_COMPLETE" in result.stdout
