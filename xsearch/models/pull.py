"""ImageBind's published weights: fetched, checked, converted, installed; and removed.

$XSEARCH_HOME/models/imagebind/          the model folder, and origin.json: what it was made from, and when
                                         and how the licence was accepted
$XSEARCH_HOME/downloads/imagebind/       what is on its way, and a checkpoint that was to be kept
$XSEARCH_HOME/pull.lock                  one process at a time
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from xsearch.errors import ModelError
from xsearch.models.config import HUGE, ImageBindConfig
from xsearch.models.convert import convert_official
from xsearch.models.download import Progress, Say, Source, disk_error, fetch, need_room, unfinished
from xsearch.models.precision import DTYPES
from xsearch.models.registry import home, imagebind_folder
from xsearch.system.durable import fsync

__all__ = [
    "CHECKPOINT",
    "LICENCE",
    "VOCABULARY",
    "Download",
    "downloaded",
    "is_installed",
    "origin",
    "pull_imagebind",
    "remove_imagebind",
]

# As published by facebookresearch/ImageBind at commit 53680b0; the vocabulary is openai/CLIP's.
CHECKPOINT = Source(
    "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth",
    "d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157",
    4_803_584_173,
    option="--sha256",
)
VOCABULARY = Source(
    "https://github.com/facebookresearch/ImageBind/raw/main/imagebind/bpe/bpe_simple_vocab_16e6.txt.gz",
    "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
)
LICENCE = "CC-BY-NC-4.0"  # of the weights, as an SPDX identifier


@dataclass(frozen=True)
class Download:
    """The checkpoint, as far as it is here."""

    folder: Path
    bytes: int
    total: int | None  # None where the server does not tell; equal to `bytes` when all of it is here
    url: str | None  # None when all of it is here


def pull_imagebind(
    weights: Source = CHECKPOINT,
    vocabulary: Source = VOCABULARY,
    *,
    accepted: Literal["flag", "prompt"],
    dtype: str = "fp32",
    keep_checkpoint: bool = False,
    base: ImageBindConfig = HUGE,
    say: Say = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Install ImageBind from `weights` and `vocabulary`; returns the folder.

    Does nothing where the same is installed already, and waits for another process that is at it.
    An installed model is replaced when the new one is complete. Interrupted, it goes on when called again.
    keep_checkpoint: do not delete the checkpoint if it was downloaded. A file of this machine always stays.
    base: what the shapes of the checkpoint do not tell, see `official_config`.
    Raises ModelError: no connection, no room, the wrong file, no weights.
    """
    folder = imagebind_folder()
    old, new = _beside(folder)
    with _alone(say):
        _tidy(folder)
        if is_installed(weights, dtype):
            say(f"ImageBind is installed as {dtype} already: nothing to do")
            return folder
        share = DTYPES[dtype].itemsize / 4  # of the checkpoint's size, which is float32
        words = _obtain(vocabulary, _fetched(VOCABULARY), say=say)
        pth = _obtain(weights, _fetched(CHECKPOINT), spare=share, say=say, progress=progress)
        size = int(pth.stat().st_size * share)
        need_room(home(), size)
        try:
            convert_official(pth, words, new, base=base, dtype=DTYPES[dtype], say=say)
            record = {"source": weights.place, "sha256": weights.sha256, "dtype": dtype}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record |= {"licence": LICENCE, "accepted": now, "by": accepted}
            (new / "origin.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            if folder.exists():
                folder.replace(old)
            new.replace(folder)
            fsync(folder.parent)
        except OSError as error:
            _tidy(folder)
            raise disk_error(error, home(), size) from error
        finally:  # Ctrl-C too
            _tidy(folder)
        if vocabulary.is_url:
            words.unlink()
        if weights.is_url and keep_checkpoint:
            say(f"the checkpoint stays in {pth}")
        elif weights.is_url:
            pth.unlink()
    return folder


def is_installed(weights: Source, dtype: str) -> bool:
    """Whether the installed ImageBind was made from `weights` and is stored as `dtype`."""
    folder = imagebind_folder()
    made = origin(folder)
    there = (folder / "config.json").is_file()
    return there and (made.get("sha256"), made.get("dtype")) == (weights.sha256, dtype)


def origin(folder: Path) -> dict[str, str]:
    """What `pull_imagebind` wrote about a model folder; empty for others."""
    try:
        return dict(json.loads((folder / "origin.json").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}


def downloaded() -> Download | None:
    """The checkpoint, if it or a part of it is among the downloads."""
    path = _fetched(CHECKPOINT)
    if path.exists():
        return Download(path.parent, path.stat().st_size, path.stat().st_size, None)
    if found := unfinished(path):
        part, here = found
        return Download(path.parent, here, part.bytes, part.url)
    return None


def remove_imagebind() -> None:
    """Delete the installed ImageBind and its downloads. Raises ModelError while another process pulls it."""
    folder = imagebind_folder()
    with _alone():
        _tidy(folder)
        if folder.exists():
            folder.replace(_beside(folder)[1])  # at once: no reader sees half a model
            _tidy(folder)
        shutil.rmtree(_fetched(CHECKPOINT).parent, ignore_errors=True)


@contextmanager
def _alone(say: Say | None = None) -> Iterator[None]:
    """One process at a time: others wait and `say` so, or raise ModelError."""
    home().mkdir(parents=True, exist_ok=True)
    lock = FileLock(home() / "pull.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if say is None:
            raise ModelError("another process is pulling ImageBind; wait for it, or stop it") from None
        say("another process is pulling ImageBind: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _obtain(source: Source, path: Path, *, say: Say, **how: Any) -> Path:
    """The file of `source`, checked: where it is on this machine, or fetched to `path`."""
    if source.is_url:
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"fetching {source.place}")
        fetch(source, path, say=say, **how)
        return path
    path = Path(source.place).expanduser()
    say(f"checking {path}")
    source.check(path)
    return path


def _fetched(source: Source) -> Path:
    return home() / "downloads" / "imagebind" / source.place.rsplit("/", 1)[1]


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the model that is being replaced, and the one being made, are for a while."""
    return folder.with_name(f".{folder.name}.old"), folder.with_name(f".{folder.name}.new")


def _tidy(folder: Path) -> None:
    """Undo what a run left that ended early."""
    old, new = _beside(folder)
    if old.exists() and not folder.exists():
        old.replace(folder)
    for path in (old, new):
        shutil.rmtree(path, ignore_errors=True)
