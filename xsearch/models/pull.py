"""ImageBind's published weights: download, verify, convert, install; and remove.

$XSEARCH_HOME/models/imagebind/          the model folder, and origin.json: its source, and when and how the
                                         licence was accepted
$XSEARCH_HOME/downloads/imagebind/       partial downloads, and the checkpoint if it is kept
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
from xsearch.system.durable import fsync, read_file

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
    most=16 << 20,
)
MOST_RECORD = 1 << 16  # bytes of origin.json
LICENCE = "CC-BY-NC-4.0"  # of the weights, as an SPDX identifier


@dataclass(frozen=True)
class Download:
    """The state of the checkpoint's download."""

    folder: Path
    bytes: int
    total: int | None  # None if unknown; equal to `bytes` if complete
    url: str | None  # None if complete


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

    Does nothing if the same is installed, and waits for another process that installs it. An installed model
    is replaced once the new one is complete. An interrupted call is resumed by the next one.
    keep_checkpoint: keep a downloaded checkpoint; local files are always kept.
    base: what the shapes of the checkpoint do not determine, see `official_config`.
    Raises ModelError: no connection, disk full, wrong checksum, invalid checkpoint.
    """
    folder = imagebind_folder()
    old, new = _scratch(folder)
    with _locked(say):
        _tidy(folder)
        if is_installed(weights, dtype):
            say(f"ImageBind is installed as {dtype} already: nothing to do")
            return folder
        share = DTYPES[dtype].itemsize / 4  # of the checkpoint's size, which is float32
        merges = _obtain(vocabulary, _download(VOCABULARY), say=say)
        pth = _obtain(weights, _download(CHECKPOINT), spare=share, say=say, progress=progress)
        size = int(pth.stat().st_size * share)
        need_room(home(), size)
        try:
            convert_official(pth, merges, new, base=base, dtype=DTYPES[dtype], say=say)
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
            merges.unlink()
        if weights.is_url and keep_checkpoint:
            say(f"the checkpoint is kept in {pth}")
        elif weights.is_url:
            pth.unlink()
    return folder


def is_installed(weights: Source, dtype: str) -> bool:
    """Whether ImageBind is installed from `weights` and stored as `dtype`."""
    folder = imagebind_folder()
    record = origin(folder)
    complete = (folder / "config.json").is_file()
    return complete and (record.get("sha256"), record.get("dtype")) == (weights.sha256, dtype)


def origin(folder: Path) -> dict[str, str]:
    """The record that `pull_imagebind` wrote into a model folder; empty for others."""
    try:
        record = dict(json.loads(read_file(folder / "origin.json", MOST_RECORD)))
    except (OSError, RecursionError, TypeError, ValueError):
        return {}
    return {name: value for name, value in record.items() if isinstance(value, str)}


def downloaded() -> Download | None:
    """The state of the checkpoint's download; None if there is none."""
    path = _download(CHECKPOINT)
    if path.exists():
        return Download(path.parent, path.stat().st_size, path.stat().st_size, None)
    if found := unfinished(path):
        part, here = found
        return Download(path.parent, here, part.bytes, part.url)
    return None


def remove_imagebind() -> None:
    """Delete the installed ImageBind and its downloads. Raises ModelError while it is being pulled."""
    folder = imagebind_folder()
    with _locked():
        _tidy(folder)
        if folder.exists():
            folder.replace(_scratch(folder)[1])  # atomic: readers never see a partial model
            _tidy(folder)
        shutil.rmtree(_download(CHECKPOINT).parent, ignore_errors=True)


@contextmanager
def _locked(say: Say | None = None) -> Iterator[None]:
    """Hold the lock of pull; wait for it if `say` is given, else raise ModelError if it is taken."""
    home().mkdir(parents=True, exist_ok=True)
    lock = FileLock(home() / "pull.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if say is None:
            raise ModelError(
                "another process is pulling ImageBind; wait until it has finished, or stop it"
            ) from None
        say("another process is pulling ImageBind: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _obtain(source: Source, path: Path, *, say: Say, **options: Any) -> Path:
    """The verified file of `source`: its local path, or `path` after a download."""
    if source.is_url:
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"fetching {source.place}")
        fetch(source, path, say=say, **options)
        return path
    path = Path(source.place).expanduser()
    say(f"checking {path}")
    source.check(path)
    return path


def _download(source: Source) -> Path:
    return home() / "downloads" / "imagebind" / source.place.rsplit("/", 1)[1]


def _scratch(folder: Path) -> tuple[Path, Path]:
    """Temporary folders beside `folder`: of the model that is replaced, and of the new one."""
    return folder.with_name(f".{folder.name}.old"), folder.with_name(f".{folder.name}.new")


def _tidy(folder: Path) -> None:
    """Clean up after an interrupted call."""
    old, new = _scratch(folder)
    if old.exists() and not folder.exists():
        old.replace(folder)
    for path in (old, new):
        shutil.rmtree(path, ignore_errors=True)
