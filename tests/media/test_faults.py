"""What is to blame for an exception: the file, or something that passes."""

from __future__ import annotations

import errno
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image, UnidentifiedImageError

from xsearch import media
from xsearch.errors import MissingPackage, NotMedia, Transient, Unreadable
from xsearch.media import facts, faults, identify, passing, read, walk
from xsearch.media.depth import fits as fits_depth
from xsearch.media.thermal import fits as fits_thermal
from xsearch.types import Modality


def raised_from(error: Exception, cause: Exception, *, hidden: bool = False) -> Exception:
    """An exception that was raised while another one was handled."""
    try:
        try:
            raise cause
        except type(cause):
            if hidden:
                raise error from None
            raise error  # noqa: B904
    except type(error) as raised:
        return raised


def too_large() -> Exception:
    """NumPy's exception."""
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, np.uint8)
    return caught.value


PASSING = [
    MemoryError(),
    too_large(),
    pa.ArrowMemoryError("malloc of size 99 failed"),
    av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"),
    av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),  # a thread that cannot start
    RuntimeError("std::bad_alloc"),
    RuntimeError("can't start new thread"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
    OSError("out of memory error when reading image file"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    Exception(b"Unsufficient memory"),  # LibRaw's spelling
    zlib.error("Error -4 while decompressing data"),
    ImportError("libraw.so: failed to map segment from shared object"),
    *(
        OSError(number, os.strerror(number))
        for number in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.EACCES, errno.ENOENT)
    ),
    PermissionError(errno.EPERM, "Operation not permitted", "a.jpg"),
    raised_from(Unreadable("a.jpg: a damaged image; replace the file"), OSError(errno.EIO, "Input/output")),
    raised_from(Unreadable("a.csv: a damaged table"), MemoryError(), hidden=True),
    raised_from(MissingPackage("a.jxl: pip install"), ImportError("cannot allocate memory in static block")),
]
DAMAGE = [
    UnidentifiedImageError("cannot identify image file <_io.BufferedReader name='memory card.jpg'>"),
    OSError("image file is truncated (9 bytes not processed)"),
    OSError(errno.EINVAL, "Invalid argument"),  # of a seek to a damaged offset
    av.error.InvalidDataError(1094995529, "Invalid data found when processing input", "memory.mp4"),
    av.error.OSError(errno.EIO, "Input/output error"),  # FFmpeg's word for a file that is too short
    zlib.error("Error -3 while decompressing data: incorrect header check"),
    zipfile.BadZipFile("File is not a zip file"),
    EOFError(),
    ValueError("bad header"),
    soundfile.LibsndfileError(3),
    raised_from(MissingPackage("a.jxl: pip install"), ImportError("No module named 'pillow_jxl'")),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes_is_told_by_class_number_words_and_cause(error: Exception) -> None:
    assert passing(error)
    with pytest.raises(Transient) as caught, media.reading(Path("a.jpg")):
        raise error
    assert str(caught.value).startswith("a.jpg: ")
    assert "replace" not in str(caught.value)
    with pytest.raises(type(error)), faults.unless_passing(Exception):
        raise error


@pytest.mark.parametrize("error", DAMAGE, ids=repr)
def test_damage_is_not_taken_for_it(error: Exception) -> None:
    assert passing(error) is None
    with pytest.raises(type(error)), media.reading(Path("a.jpg")):
        raise error
    with faults.unless_passing(Exception):
        raise error


def test_without_memory_nothing_is_called_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "program.exe").write_bytes(bytes(99))
    with pytest.raises(Unreadable):
        list(read(identify(tmp_path / "a.png")))
    monkeypatch.setattr(faults, "is_short", lambda: True)
    with pytest.raises(Transient, match=r"a\.png: not enough memory; close other programs"):
        list(read(identify(tmp_path / "a.png")))
    with pytest.raises(NotMedia):
        identify(tmp_path / "program.exe")


# ---------------------------------------------------------------- disks that fail


class Failing(io.FileIO):
    """A file whose reads fail behind `good` bytes, or once there."""

    good, once = 0, False

    def readinto(self, buffer: Any) -> int:
        if self.tell() >= Failing.good and (not Failing.once or not failed):
            failed.append(self.name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        size = len(buffer) if failed else min(len(buffer), Failing.good - self.tell())
        return super().readinto(memoryview(buffer)[:size]) or 0

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(1 << 20), b""))


failed: list[Any] = []


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make every file that is opened from now on fail."""

    def begin(good: int, *, once: bool = False) -> None:
        Failing.good, Failing.once = good, once
        failed.clear()
        monkeypatch.setattr(Path, "open", lambda path, *_, **__: io.BufferedReader(Failing(path)))

    yield begin
    failed.clear()


def sound(path: Path, seconds: int = 25) -> Path:
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.normal(0, 0.1, seconds * 8000), 8000)
    return path


def video(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for _ in range(150):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (64, 64, 3), np.uint8), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def picture(path: Path) -> Path:
    rng = np.random.default_rng(0)
    if path.suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(path)
    return path


def animation(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = [Image.new("L", (99, 99)), *(Image.fromarray(rng.integers(0, 256, (99, 99), np.uint8)),) * 5]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


FILES: list[tuple[str, Callable[[Path], Path]]] = [
    ("a.mkv", video),
    ("a.avi", video),
    ("a.mp4", video),
    ("a.mp3", sound),
    ("a.wav", sound),
    ("a.ogg", sound),
    ("a.flac", sound),
    ("a.heic", picture),
    ("a.webp", picture),
    ("a.jp2", picture),
    ("a.png", picture),
    ("a.tif", picture),
    ("a.jpg", picture),
    ("a.gif", animation),
]


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("name", "write"), FILES)
def test_a_disk_that_fails_neither_shortens_a_file_nor_damages_it(
    tmp_path: Path, failing: Callable[..., None], name: str, write: Callable[[Path], Path], once: bool
) -> None:
    file = identify(write(tmp_path / name))
    expected = [np.asarray(sample.data) for sample in read(file)]
    for part in (0.0, 0.3, 0.6, 0.9):
        failing(int(file.bytes * part), once=once)
        problem, found = "", list[Any]()
        try:
            found.extend(np.asarray(sample.data) for sample in read(file))
        except Transient as error:
            problem = str(error)
        assert bool(failed) == ("cannot be read: Input/output error; check its disk or network" in problem)
        np.testing.assert_equal(found, expected[: len(found)])  # those of a first try are not repeated
        assert problem or len(found) == len(expected)


def test_a_chained_file_on_a_disk_that_fails(tmp_path: Path, failing: Callable[..., None]) -> None:
    whole = b"".join(sound(tmp_path / f"{number}.ogg", 5).read_bytes() for number in range(3))
    (tmp_path / "all.ogg").write_bytes(whole)
    file = identify(tmp_path / "all.ogg")
    assert len(list(read(file))) == 2
    expected = [sample.data for sample in read(file)]
    for part in (0.1, 0.5, 0.9):
        failing(int(len(whole) * part))
        found: list[Any] = []
        with pytest.raises(Transient, match="Input/output error"):
            found.extend(sample.data for sample in read(file))
        np.testing.assert_equal(found, expected[: len(found)])


# ---------------------------------------------------------------- the kind of a file


@pytest.mark.parametrize("fits", [fits_depth, fits_thermal])
def test_a_kind_is_not_guessed_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: Callable[[Path, str], bool]
) -> None:
    path = picture(tmp_path / "a.png")
    fits(path, "image/png")

    def lacking(*_: object, **__: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(Image, "open", lacking)
    with pytest.raises(MemoryError):
        fits(path, "image/png")


def test_facts_are_not_lost_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = identify(picture(tmp_path / "a.jpg"))

    def lacking(*_: object, **__: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(facts.still, "columns", lacking)
    with pytest.raises(Transient, match="not enough memory"):
        list(read(file, with_facts=True))
    assert len(list(read(file))) == 1


def test_a_track_that_cannot_be_read_for_now_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        pictures, track = out.add_stream("mpeg4", rate=10), out.add_stream("pcm_s16le", rate=8000)
        pictures.width = pictures.height = 64
        for _ in range(20):
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        noise = av.AudioFrame.from_ndarray(np.ones((1, 16000), np.int16), "s16", "mono")
        noise.sample_rate = 8000
        out.mux(track.encode(noise))
        for stream in (pictures, track):
            out.mux(stream.encode(None))
    file = identify(tmp_path / "a.mkv")
    assert {sample.modality for sample in read(file)} == {Modality.VIDEO, Modality.AUDIO}

    def lacking(*_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(media.audio, "track", lacking)
    with pytest.raises(Transient):
        list(read(file))


# ---------------------------------------------------------------- folders


def test_a_folder_that_cannot_be_listed_is_a_passing_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (skip,) = walk([tmp_path])
    assert (skip.error.is_passing, skip.reason) == (  # type: ignore[union-attr]
        True,
        "cannot be opened: Permission denied; check its permissions; the next ingest tries it again",
    )
