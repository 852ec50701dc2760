"""ImageBind from a server or a file to an installed model, with everything that may come between."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
import torch

from tests import official
from tests.web import Web
from xsearch.errors import ModelError
from xsearch.models import load_config
from xsearch.models.checkpoint import tower_file, verify
from xsearch.models.download import Source
from xsearch.models.pull import (
    CHECKPOINT,
    VOCABULARY,
    downloaded,
    is_installed,
    origin,
    pull_imagebind,
    remove_imagebind,
)
from xsearch.models.registry import home, imagebind_folder, resolve

Pull = Callable[..., Path]


@pytest.fixture
def web(pth: bytes) -> Iterator[Web]:
    with Web({"/imagebind.pth": pth, "/vocab.gz": official.vocabulary()}) as web:
        yield web


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XSEARCH_MODEL", raising=False)


@pytest.fixture
def sources(web: Web, pth: bytes) -> tuple[Source, Source]:
    def source(published: Source, name: str, content: bytes) -> Source:
        sha256 = hashlib.sha256(content).hexdigest()
        return dataclasses.replace(published, place=f"{web.url}/{name}", sha256=sha256, bytes=len(content))

    return source(CHECKPOINT, "imagebind.pth", pth), source(VOCABULARY, "vocab.gz", official.vocabulary())


@pytest.fixture
def pull(sources: tuple[Source, Source]) -> Pull:
    return partial(pull_imagebind, *sources, accepted="flag")


def paths(web: Web) -> list[str]:
    return [path for path, _ in web.asked]


def left() -> set[str]:
    """What is in the home, other than complete models and the lock."""
    files = (path.relative_to(home()) for path in home().rglob("*") if path.is_file())
    return (
        {str(path) for path in files}
        - {"pull.lock"}
        - {f"models/imagebind/{path.name}" for path in imagebind_folder().glob("*")}
    )


def test_it_is_installed_once(pull, sources, web):
    folder = pull()
    assert folder == imagebind_folder() == resolve("imagebind").folder
    assert load_config(folder)[0] == official.small()
    assert not any(finding for _, finding in verify(folder))
    assert tower_file(folder, "vision").dtype == "fp32"
    made = origin(folder)
    assert (made["licence"], made["by"]) == ("CC-BY-NC-4.0", "flag")
    assert (made["source"], made["sha256"]) == (sources[0].place, sources[0].sha256)
    assert abs(datetime.fromisoformat(made["accepted"]).timestamp() - time.time()) < 60
    assert left() == set()

    told = []
    pull(say=told.append)
    assert told == ["ImageBind is installed as fp32 already: nothing to do"]
    assert paths(web) == ["/vocab.gz", "/imagebind.pth"]


def test_a_kept_checkpoint_is_not_fetched_again(pull, sources, web):
    pull(keep_checkpoint=True)
    assert left() == {"downloads/imagebind/imagebind_huge.pth"}
    assert downloaded().url is None
    first = load_config(imagebind_folder())[1]
    kept = dataclasses.replace(sources[0], place=str(home() / "downloads/imagebind/imagebind_huge.pth"))
    pull_imagebind(kept, sources[1], accepted="flag", dtype="bf16")
    assert left() == {"downloads/imagebind/imagebind_huge.pth"}
    pull(dtype="fp16")
    assert paths(web).count("/imagebind.pth") == 1
    assert tower_file(imagebind_folder(), "vision").dtype == "fp16"
    assert load_config(imagebind_folder())[1] != first
    assert is_installed(sources[0], "fp16")
    assert left() == set()


def test_files_of_this_machine_stay_and_are_not_copied(sources, tmp_path, pth, web):
    for name, content in (("a.pth", pth), ("v.gz", official.vocabulary())):
        (tmp_path / name).write_bytes(content)
    local = [
        dataclasses.replace(source, place=str(tmp_path / name))
        for source, name in zip(sources, ("a.pth", "v.gz"), strict=True)
    ]
    pull_imagebind(*local, accepted="prompt")
    assert (tmp_path / "a.pth").read_bytes() == pth
    assert (tmp_path / "v.gz").exists()
    assert left() == set()
    assert web.asked == []
    with pytest.raises(ModelError, match=r"gone\.pth: cannot be read: No such file"):
        pull_imagebind(
            dataclasses.replace(local[0], place="gone.pth"), local[1], accepted="flag", dtype="bf16"
        )


@pytest.mark.parametrize("local", [True, False])
def test_other_weights_are_refused_unless_their_checksum_is_given(local, sources, tmp_path, pth, web):
    other = b"x" * len(pth)
    (tmp_path / "other.pth").write_bytes(other)
    web.files["/imagebind.pth"] = other
    weights = dataclasses.replace(sources[0], place=str(tmp_path / "other.pth")) if local else sources[0]
    found = hashlib.sha256(other).hexdigest()
    with pytest.raises(ModelError, match=rf"expected .*{weights.sha256}, .*if you trust .*--sha256 {found}"):
        pull_imagebind(weights, sources[1], accepted="flag")
    assert (tmp_path / "other.pth").exists()
    assert left() == {"downloads/imagebind/bpe_simple_vocab_16e6.txt.gz"}


def test_another_vocabulary_is_refused(pull, web):
    web.files["/vocab.gz"] = official.vocabulary()[:-1] + b"x"
    with pytest.raises(ModelError, match=r"vocab.gz: expected sha256 \w+, found \w+$"):
        pull()
    assert paths(web) == ["/vocab.gz"]


def test_code_in_a_trusted_file_is_not_run(sources, tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save(Malicious(), tmp_path / "bad.pth")
    sha256 = hashlib.sha256((tmp_path / "bad.pth").read_bytes()).hexdigest()
    weights = Source(str(tmp_path / "bad.pth"), sha256)
    with pytest.raises(ModelError, match=r"asks for posix\.mkdir, which was not run; do not use this file"):
        pull_imagebind(weights, sources[1], accepted="flag")
    assert not (tmp_path / "pwned").exists()
    assert not imagebind_folder().exists()


def test_an_interrupted_conversion_leaves_the_old_model_and_goes_on_without_fetching(pull, web):
    def interrupt(line):
        if "audio" in line:
            raise KeyboardInterrupt

    pull(dtype="fp16")
    digest = load_config(imagebind_folder())[1]
    with pytest.raises(KeyboardInterrupt):
        pull(say=interrupt)
    assert load_config(imagebind_folder())[1] == digest
    assert [path.name for path in imagebind_folder().parent.iterdir()] == ["imagebind"]
    web.asked.clear()
    pull()
    assert web.asked == []
    assert load_config(imagebind_folder())[1] != digest
    assert left() == set()


def test_what_a_killed_run_left_is_tidied_up(pull):
    pull()
    models = imagebind_folder().parent
    imagebind_folder().replace(models / ".imagebind.old")  # between the two renames
    (models / ".imagebind.new").mkdir()
    pull()
    assert [path.name for path in models.iterdir()] == ["imagebind"]
    assert not any(finding for _, finding in verify(imagebind_folder()))


def test_a_download_goes_on_in_the_next_run_and_is_told_of(pull, sources, web, pth):
    def interrupt(done, total):
        if done >= 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(progress=interrupt)
    here = downloaded()
    assert (here.total, here.url) == (len(pth), sources[0].place)
    assert 1_000_000 <= here.bytes < len(pth)
    pull()
    assert web.asked[-1] == ("/imagebind.pth", f"bytes={here.bytes}-")
    assert downloaded() is None


def test_the_second_of_two_processes_waits_and_finds_the_model(pull, sources, web):
    web.open.clear()  # the first one hangs in its download
    first = threading.Thread(target=pull)
    first.start()
    while not web.asked:
        time.sleep(0.01)
    program = f"""
from xsearch.models.pull import *
from xsearch.models.download import Source
say = lambda line: print(line, flush=True)
print(pull_imagebind({sources[0]!r}, {sources[1]!r}, accepted="flag", say=say))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as second:
        waiting = second.stdout.readline()
        with pytest.raises(ModelError, match="another process is pulling"):
            remove_imagebind()
        web.open.set()
        rest = second.stdout.read().splitlines()
    first.join()
    assert waiting == "another process is pulling ImageBind: waiting for it\n"
    assert rest == ["ImageBind is installed as fp32 already: nothing to do", str(imagebind_folder())]
    assert second.returncode == 0
    assert list(dict.fromkeys(paths(web))) == ["/vocab.gz", "/imagebind.pth"]  # again, if it hangs for long


def test_room_for_download_and_model_is_looked_for_first(sources, small_disk, pth, monkeypatch, web):
    monkeypatch.setenv("XSEARCH_HOME", str(small_disk))
    with pytest.raises(ModelError, match=r"free, .* are needed: free"):
        pull_imagebind(*sources, accepted="flag")
    assert downloaded() is None


@pytest.mark.parametrize("small_disk", [6], indirect=True)
def test_a_disk_that_fills_up_leaves_no_half_model(sources, small_disk, tmp_path, pth, monkeypatch):
    def fill(line):
        if "text" in line:
            (small_disk / "filler").write_bytes(bytes(3 << 20))

    monkeypatch.setenv("XSEARCH_HOME", str(small_disk))
    (tmp_path / "a.pth").write_bytes(pth)
    weights = dataclasses.replace(sources[0], place=str(tmp_path / "a.pth"))
    with pytest.raises(ModelError, match=r"free, .* are needed: free"):
        pull_imagebind(weights, sources[1], accepted="flag", say=fill)
    assert list((small_disk / "models").iterdir()) == []
    (small_disk / "filler").unlink()
    assert pull_imagebind(weights, sources[1], accepted="flag") == imagebind_folder()


def test_removing_takes_downloads_along(pull, web):
    pull(keep_checkpoint=True)
    remove_imagebind()
    assert [path.name for path in home().rglob("*") if path.is_file()] == ["pull.lock"]
    remove_imagebind()


def test_a_record_that_is_damaged_is_none(pull):
    folder = pull()
    (folder / "origin.json").write_text(json.dumps([1]))
    assert origin(folder) == {}
