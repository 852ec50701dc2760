"""`models`: list, info, verify, pull, rm."""

import dataclasses
import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import official
from tests.web import Web
from xsearch.models import pull as pulling
from xsearch.models.registry import imagebind_folder
from xsearch.models.vocabulary import save_words

ROOT = Path(__file__).parents[2]
PULL = ("models", "pull", "imagebind")


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def web(pth: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A mirror of the published weights, and a made-up vocabulary that counts as the published one."""
    with Web({"/imagebind.pth": pth, "/vocab.gz": official.vocabulary()}) as web:
        sha256 = hashlib.sha256(official.vocabulary()).hexdigest()
        words = dataclasses.replace(pulling.VOCABULARY, place=f"{web.url}/vocab.gz", sha256=sha256)
        monkeypatch.setattr(pulling, "VOCABULARY", words)
        yield web


@pytest.fixture
def pull(run, web, pth):
    """`models pull` from the mirror."""
    sha256 = hashlib.sha256(pth).hexdigest()

    def pull(*words, code=0):
        source = ("--from", f"{web.url}/imagebind.pth", "--sha256", sha256, "--accept-license")
        return run(*PULL, *source, *words, code=code)

    return pull


def test_a_pull_prints_the_folder_and_says_what_it_does(pull, web):
    done = pull("--dtype", "fp16")
    assert done.stdout == f"{imagebind_folder()}\n"
    for told in ("CC-BY-NC 4.0", f"fetching {web.url}/imagebind.pth", "checking", "converting the imu tower"):
        assert told in done.stderr
    again = pull("--dtype", "fp16")
    assert again.stdout == done.stdout
    assert again.stderr.startswith("ImageBind is installed as fp16 already: nothing to do\n")
    assert len(web.asked) == 2


def test_models_are_listed_and_described(run, pull):
    listed = run("models", "list").stdout
    assert [line.split()[:1] for line in listed.splitlines()] == [["model"], ["bundled"], ["imagebind"]]
    assert "not there" in listed
    pull("--dtype", "bf16", "--keep-checkpoint")
    *_, installed, kept = run("models", "list").stdout.splitlines()
    assert installed.split()[3:5] == ["bf16", "installed"]
    assert kept.split()[3] == "checkpoint"

    told = run("models", "info", "imagebind").stdout
    for line in (
        "licence       CC-BY-NC-4.0",
        "dim           8",
        "dtype         bf16",
        "  audio_mean          -4.268",
        "  image_mean          0.48145466 0.4578275 0.40821073",
    ):
        assert f"{line}\n" in told
    count = sum(
        value.numel() for key, value in official.checkpoint(official.small()).items() if ".vision." in key
    )
    assert told.splitlines()[-6].split() == ["vision", f"{count:,}", "0.1", "16", "2", "16"]
    about = json.loads(run("models", "info", "imagebind", "--json").stdout)
    assert about["accepted"]
    assert about["towers"]["text"]["vocab"] == 49_408
    assert about["towers"]["text"]["dtype"] == "bf16"
    assert about["settings"]["audio_mean"] == -4.268


def test_the_weights_have_a_licence_of_their_own(run):
    licence = json.loads(run("models", "info", "bundled", "--json").stdout)["licence"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == f"Apache-2.0 AND {licence}"
    texts = [(ROOT / name).read_text() for name in project["license-files"]]
    assert f"SPDX: {licence}" in texts[-1]
    assert json.loads(run("models", "info", "--json").stdout)["licence"] == "unknown"


def test_the_words_of_a_model_are_listed(run, model, tmp_path):
    assert "its vocabulary is open" in run("models", "info", "--words").stderr
    assert json.loads(run("models", "info", "--words", "--json").stdout) == {"words": None}
    folder = shutil.copytree(model, tmp_path / "words")
    save_words(["sea", "dog", "bark"], folder)
    assert run("models", "info", folder, "--words").stdout == "bark\ndog\nsea\n"
    assert json.loads(run("models", "info", folder, "--words", "--json").stdout)["words"][0] == "bark"


def test_the_words_fill_a_terminal(run, model, tmp_path, monkeypatch):
    folder = shutil.copytree(model, tmp_path / "words")
    save_words(["sea", "dog", "bark"], folder)
    monkeypatch.setenv("COLUMNS", "8")
    terminal, line = pty.openpty()
    with os.fdopen(line, "w") as stdout:
        command = [sys.executable, "-m", "xsearch", "models", "info", folder, "--words"]
        subprocess.run(command, stdout=stdout, check=True)
    assert os.read(terminal, 99) == b"bark dog\r\nsea\r\n"
    os.close(terminal)


def test_a_download_is_listed_with_the_command_that_goes_on(run, pull, web):
    web.cuts = [len(official.vocabulary()), 1_000_000]
    web.statuses = [None, None, 404]
    assert "HTTP 404" in pull(code=1).stderr
    listed = run("models", "list").stdout
    assert "downloading: 1.0 MB of 3.5 MB, go on with: xsearch models pull imagebind --from http" in listed
    pull()
    assert web.asked[-1] == ("/imagebind.pth", "bytes=1000000-")
    assert "downloading" not in run("models", "list").stdout


def test_damage_is_found(run, pull):
    pull()
    assert run("models", "verify", "imagebind").stdout.count(" ok\n") == 7
    (imagebind_folder() / "imu.safetensors").write_bytes(b"torn")
    (imagebind_folder() / "text.safetensors").unlink()
    found = run("models", "verify", "imagebind", code=1)
    assert "imu.safetensors      expected sha256" in found.stdout
    assert "text.safetensors     cannot be read: No such file" in found.stdout
    assert "2 damaged or missing" in found.stderr
    assert "xsearch models rm imagebind" in found.stderr
    assert "ok" in run("models", "verify").stdout  # the model in use


def test_what_was_pulled_can_be_removed(run, pull):
    assert "nothing was removed" in run("models", "rm", "imagebind").stdout
    pull("--keep-checkpoint")
    assert "Remove" in run("models", "rm", "imagebind", input="n\n", code=1).stderr
    assert imagebind_folder().exists()
    done = run("models", "rm", "imagebind", "--yes").stdout
    assert str(imagebind_folder()) in done
    assert "downloads/imagebind (3." in done
    assert not imagebind_folder().exists()
    assert "not there" in run("models", "list").stdout


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["pull", "foo"], "there is: imagebind"),
        (["pull", "bundled"], "there is: imagebind"),
        (["pull"], "--accept-license"),
        (["pull", "imagebind"], "--accept-license"),
        (["pull", "imagebind", "--from", "gone.pth"], "gone.pth: no such file"),
        (["pull", "imagebind", "--vocab", "ftp://a/b"], "expected an http or https URL"),
        (["pull", "imagebind", "--sha256", "123"], "64 hexadecimal digits"),
        (["pull", "imagebind", "--dtype", "int8"], "int8"),
        (["rm", "bundled"], "it comes with xsearch"),
        (["rm", "/some/folder"], "only imagebind"),
    ],
)
def test_wrong_usage_is_told_in_a_line(run, words, part):
    result = run("models", *words, code=2)
    assert part in result.stderr.splitlines()[-1]
    assert result.stdout == ""
    assert not imagebind_folder().parent.exists()


def test_a_terminal_is_asked_for_the_licence():
    terminal, line = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "xsearch", *PULL], stdin=line, stderr=subprocess.PIPE
        ) as asking:
            os.write(terminal, b"n\n")
            told = asking.stderr.read().decode()
    finally:
        os.close(terminal)
        os.close(line)
    assert "not for commercial use" in told
    assert "Accept?" in told
    assert "error: not confirmed, nothing was done" in told
    assert asking.returncode == 1
    assert not imagebind_folder().exists()
