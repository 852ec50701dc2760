"""Walking, kinds, hashing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from xsearch.errors import MediaError, NotMedia, Transient, UsageError
from xsearch.media import Skipped, identify, read, sha256, walk
from xsearch.types import MediaFile, Modality


def colour(path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (200, 90, 10)).save(path, **options)
    return path


def grey(path: Path, dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(48, dtype=dtype).reshape(6, 8)).save(path)
    return path


def write(path: Path, content: str | bytes = "some words") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(found, root: Path) -> list[str]:
    return [Path(file.path).relative_to(root).as_posix() for file in found]


def test_walk_is_sorted_depth_first_and_leaves_hidden_files_out(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/c/k.txt", "c with space/ü.md", ".hidden.txt", ".git/x.txt"):
        write(tmp_path / name)
    found = list(walk([tmp_path]))
    assert names(found, tmp_path) == ["a/c/k.txt", "a/z.txt", "b.txt", "c with space/ü.md"]
    assert all(isinstance(file, MediaFile) and file.path.is_absolute() for file in found)


def test_walk_gives_every_file_once_whatever_the_roots(tmp_path):
    for name in ("a/1.txt", "a/2.txt", "b.txt", ".hidden.txt"):
        write(tmp_path / name)
    roots = [tmp_path / "a", tmp_path, tmp_path / "a/../b.txt", tmp_path / "a", tmp_path / ".hidden.txt"]
    assert sorted(names(walk(roots), tmp_path)) == [".hidden.txt", "a/1.txt", "a/2.txt", "b.txt"]


def test_walk_ends_on_link_loops_and_prefers_real_names(tmp_path):
    write(tmp_path / "b/1.txt")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b/up").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    found = list(walk([tmp_path]))
    assert names(found, tmp_path) == ["b/1.txt", "itself"]
    assert isinstance(found[1], Skipped)
    assert found[1].error == "Unreadable"


def test_walk_follows_a_link_that_leads_elsewhere(tmp_path):
    write(tmp_path / "far/1.txt")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "far")
    assert names(walk([tmp_path / "root"]), tmp_path) == ["root/link/1.txt"]


def test_walk_reports_what_gives_no_samples(tmp_path):
    write(tmp_path / "metadata.csv", "path,colour\na.txt,red\n")
    write(tmp_path / "a.json", "{}")
    write(tmp_path / "empty.jpg", b"")
    write(tmp_path / "table.csv", "name,price\nbread,2\n")
    os.mkfifo(tmp_path / "pipe.wav")
    found = {Path(skip.path).name: skip for skip in walk([tmp_path])}
    assert {name: skip.error for name, skip in found.items()} == {
        "metadata.csv": "NotMedia",
        "a.json": "NotMedia",
        "empty.jpg": "Unreadable",
        "table.csv": "NotMedia",
        "pipe.wav": "NotMedia",
    }
    assert found["empty.jpg"].reason == "empty file; remove or replace it"


def test_walk_skips_names_that_are_not_utf8(tmp_path):
    try:
        os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9.txt", os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    [skip] = walk([tmp_path])
    assert isinstance(skip, Skipped)
    assert Path(skip.path).name == r"caf\xe9.txt"
    assert "UTF-8" in skip.reason


def test_walk_of_a_missing_root_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere: no such file or folder; check the path$"):
        list(walk([tmp_path, tmp_path / "nowhere"]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_walk_goes_on_after_a_folder_it_may_not_read(tmp_path):
    write(tmp_path / "z.txt")
    (tmp_path / "closed").mkdir(mode=0)
    assert [type(found) for found in walk([tmp_path])] == [Skipped, MediaFile]


@pytest.mark.parametrize(
    ("name", "dtype", "kind"),
    [
        ("depth/a.png", np.uint16, "depth"),
        ("depth/scene 1/a.tiff", np.uint16, "depth"),
        ("Depth/a.tif", np.float32, "depth"),
        ("a_Depth.png", np.uint16, "depth"),
        ("depth/a.png", np.uint8, "image"),
        ("photos/a.png", np.uint16, "image"),
        ("thermal/a.png", np.uint16, "thermal"),
        ("ir/a.jpg", np.uint8, "thermal"),
        ("cat_ir.png", np.uint8, "thermal"),
        ("cat_ir_2.png", np.uint8, "thermal"),
        ("my_irish_cat.png", np.uint8, "image"),
        ("photos/grey.jpg", np.uint8, "image"),
        ("depth/a_thermal.png", np.uint16, "thermal"),  # the nearer word counts
    ],
)
def test_conventions_hold_where_the_format_can(tmp_path, name, dtype, kind):
    assert identify(grey(tmp_path / name, dtype)).modality == kind


@pytest.mark.parametrize("name", ["depth_of_field.jpg", "depth/a.png", "thermal/a.jpg", "thermal_bath.png"])
def test_a_colour_picture_is_never_taken_for_depth_or_heat_by_its_name(tmp_path, name):
    assert identify(colour(tmp_path / name)).modality is Modality.IMAGE


def test_arrays_are_depth_only_by_name_or_order(tmp_path):
    for name in ("depth/a.npy", "a.npy"):
        (tmp_path / "depth").mkdir(exist_ok=True)
        np.save(tmp_path / name, np.ones((3, 4), np.float32))
    np.save(tmp_path / "depth/b.npy", np.ones((3, 4, 5), np.float32))
    assert identify(tmp_path / "depth/a.npy").modality is Modality.DEPTH
    for name in ("a.npy", "depth/b.npy"):
        with pytest.raises(NotMedia, match="--as"):
            identify(tmp_path / name)
    assert identify(tmp_path / "a.npy", kinds=[(Modality.DEPTH, "*.npy")]).modality is Modality.DEPTH


def test_explicit_rules_come_first_and_match_name_or_relative_path(tmp_path):
    file = grey(tmp_path / "thermal/flir/a.png")
    rules = [(Modality.IMAGE, "thermal/flir/*"), (Modality.DEPTH, "*.png")]
    assert identify(file, root=tmp_path, kinds=rules).modality is Modality.IMAGE
    assert identify(file, kinds=rules).modality is Modality.DEPTH
    [found] = walk([tmp_path], kinds=[(Modality.IMAGE, "*/a.png")])
    assert isinstance(found, MediaFile)
    assert found.modality is Modality.IMAGE


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_content_outranks_the_extension(tmp_path, format):
    for name in ("really.txt", "really.wav", "really"):
        file = identify(colour(tmp_path / name, format=format))
        assert (file.modality, file.mime) == (Modality.IMAGE, f"image/{format.lower()}")


def test_the_extension_decides_where_content_says_nothing(tmp_path):
    assert identify(write(tmp_path / "a.md", "BMW cars")).modality is Modality.TEXT
    assert identify(write(tmp_path / "page.jpg", "<html>")).modality is Modality.IMAGE
    with pytest.raises(NotMedia, match="unsupported file type"):
        identify(write(tmp_path / "a.py"))


def test_a_link_to_nothing_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("gone.jpg")
    with pytest.raises(Transient, match=r"a\.jpg: cannot be opened: .* a link to a file that is gone"):
        identify(tmp_path / "a.jpg")


def test_facts_of_a_file(tmp_path):
    path = write(tmp_path / "a.txt", "four")
    file = identify(path)
    assert (file.path, file.bytes, file.mtime_ns) == (path, 4, path.stat().st_mtime_ns)
    assert file.mime == "text/plain"
    assert sha256(path) == hashlib.sha256(b"four").hexdigest()
    with pytest.raises(Transient, match="cannot be opened"):
        sha256(tmp_path / "b.txt")
    with pytest.raises(Transient, match="cannot be opened"):
        identify(tmp_path / "b.txt")


@pytest.mark.parametrize("happens", ["grows", "vanishes"])
def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path, happens):
    path = write(tmp_path / "a.txt", "some words " * 90)
    samples = read(identify(path))
    next(samples)
    write(path, "other words") if happens == "grows" else path.unlink()
    with pytest.raises(Transient, match=r"a\.txt: modified or deleted while being read; ingest again"):
        list(samples)


def test_a_file_that_vanishes_before_it_is_read_is_not_called_damaged(tmp_path):
    path = colour(tmp_path / "a.png")
    file = identify(path)
    path.unlink()
    with pytest.raises(Transient, match="modified or deleted"):
        list(read(file))


def test_damaged_files_are_unreadable_and_nothing_worse(tmp_path):
    rng = np.random.default_rng(7)
    (
        colour(tmp_path / "a.png"),
        colour(tmp_path / "a.jpg"),
        colour(tmp_path / "a.tiff", compression="tiff_lzw"),
    )
    grey(tmp_path / "depth.png", np.uint16), grey(tmp_path / "thermal.png")
    np.save(tmp_path / "depth.npy", np.ones((6, 8), np.float32))
    write(tmp_path / "depth.pfm", b"Pf\n8 6\n-1.0\n" + np.ones(48, "<f4").tobytes())
    for name in ("a.wav", "a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, rng.standard_normal(8000) / 10, 8000)
    np.savez(tmp_path / "a.npz", imu=np.ones((50, 6)), t=np.arange(50) / 100)
    outcomes = set()
    for whole in sorted(tmp_path.iterdir()):
        data = whole.read_bytes()
        for _ in range(12):
            damaged = bytearray(data[: rng.integers(1, len(data))])
            damaged[rng.integers(len(damaged))] ^= 0xFF
            path = write(tmp_path / "damaged" / whole.name, bytes(damaged))
            try:
                outcomes.add(len(list(read(identify(path)))))
            except MediaError as error:
                message = str(error)
                assert message.startswith(f"{path}: ")
                assert "\n" not in message
                outcomes.add(type(error).__name__)
    assert "Unreadable" in outcomes
