"""Formats by their first bytes and extensions; kinds by whole words of folders and names."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from xsearch.errors import NotMedia
from xsearch.media import identify, walk
from xsearch.media.formats import EXTENSIONS, detect
from xsearch.types import MediaFile, Modality

GREY = (np.arange(48) * 5).astype(np.uint8).reshape(6, 8)
DEEP = (np.arange(48) * 900).astype(np.uint16).reshape(6, 8)
METRES = np.linspace(0.5, 5, 48, dtype=np.float32).reshape(6, 8)


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (b"FORM\0\0\0\0AIFF", "audio/aiff"),
        (b"FORM\0\0\0\0AIFC", "audio/aiff"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc", "audio/aac"),
        (b"caff\0\1\0\0desc", "audio/x-caf"),
        (b"riff\x2e\x91\xcf\x11", "audio/x-w64"),
        (b".snd\0\0\0\x18", "audio/basic"),
        (b"#!AMR\n\x3c", "audio/amr"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
        (b"\xff\x0a\0", "image/jxl"),
        (b"8BPS\0\1\0", "image/vnd.adobe.photoshop"),
        (b"II*\0\x10\0\0\0CR\2\0", "image/x-canon-cr2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "image/x-canon-cr3"),
        (b"FUJIFILMCCD-RAW 0201", "image/x-fuji-raf"),
        (b"II*\0\x08\0\0\0\1\0\x12\xc6\1\0\4\0\0\0\1\4\0\0", "image/x-adobe-dng"),
        (b"MM\0*\0\0\0\x08\0\1\xc6\x12\0\1\0\0\0\4\1\4\0\0", "image/x-adobe-dng"),
        (b"II*\0\x08\0\0\0\1\0", "image/tiff"),
        ((b"G\0" + bytes(186)) * 3, "video/mp2t"),
        ((b"\0\0\0\0G\0" + bytes(186)) * 3, "video/mp2t"),
        ((b"G\0" + bytes(202)) * 3, "video/mp2t"),
        (b"caffeine keeps people awake", ""),
        (b"MAC addresses and DSD files", ""),
    ],
)
def test_content_tells_the_format_whatever_the_name(head, mime):
    assert detect(Path("file"), head) == detect(Path("file.txt2"), head[:512]) == mime


@pytest.mark.parametrize("suffix", ["ts", "mts", "mod", "au", "dts", "voc"])
def test_an_extension_of_text_files_counts_for_binary_content_only(suffix):
    path = Path(f"a.{suffix}")
    assert detect(path, b"export const answer = 42;\n") == ""
    assert detect(path, bytes(9)) == EXTENSIONS[f".{suffix}"]


@pytest.mark.parametrize("suffix", ["nef", "arw", "pef", "srw", "3fr", "dng"])
def test_the_extension_tells_raw_photographs_from_tiff(suffix):
    assert detect(Path(f"a.{suffix}"), b"MM\0*\0\0\0\x08\0\1") == EXTENSIONS[f".{suffix}"]
    assert detect(Path(f"a.{suffix}"), b"\xff\xd8\xff\xe0") == "image/jpeg"


@pytest.mark.parametrize("suffix", ["ts", "MTS", "m2ts", "txt", "dat", ""])
def test_a_transport_stream_is_a_video_whatever_its_name(tmp_path, suffix):
    path = tmp_path / f"film.{suffix}"
    with av.open(str(path), "w", format="mpegts") as target:
        stream = target.add_stream("mpeg2video", rate=25)
        stream.width, stream.height = 32, 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        target.mux(stream.encode(frame) + stream.encode(None))
    assert identify(path).modality is Modality.VIDEO


@pytest.mark.parametrize(("name", "format"), [("a.svg", "SVG"), ("a.xcf", "XCF"), ("a.dcm", "DICOM")])
def test_a_foreign_picture_is_named(tmp_path, name, format):
    (tmp_path / name).write_bytes(b"...")
    with pytest.raises(NotMedia, match=rf"unsupported image format \({format}\): convert it to PNG$"):
        identify(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("LLVIP/infrared/train/1.jpg", GREY, "thermal"),
        ("LLVIP/visible/train/1.jpg", GREY, "image"),
        ("KAIST/set00/V000/lwir/1.jpg", GREY, "thermal"),
        ("M3FD/Ir/1.png", GREY, "thermal"),
        ("a/ir_img/1.png", GREY, "thermal"),
        ("Infra-Red/1.png", GREY, "thermal"),
        ("thermography/1.png", GREY, "thermal"),
        ("a/IRImages/1.png", GREY, "thermal"),
        ("FLIR/thermal_16_bit/1.tiff", DEEP, "thermal"),
        ("FLIR/images_thermal_train/data/1.bmp", GREY, "thermal"),
        ("thermal_set/images_rgb_train/1.jpg", GREY, "image"),
        ("visible/thermal/1.pgm", GREY, "thermal"),
        ("a/NIR/1.png", GREY, "image"),
        ("a/near_infrared/1.png", GREY, "image"),
        ("a/thermal/masks/1.png", GREY, "image"),
        ("irish/1.png", GREY, "image"),
        ("what the thermal camera saw here/1.png", GREY, "image"),
        ("ARKit/lowres_depth/1.png", DEEP, "depth"),
        ("ARKit/confidence/1.png", GREY, "image"),
        ("KITTI/proj_depth/velodyne_raw/image_02/1.png", DEEP, "depth"),
        ("KITTI/groundtruth_depth/1.png", DEEP, "depth"),
        ("NYU/sync_depth_00045.png", DEEP, "depth"),
        ("a/DepthMap/1.png", DEEP, "depth"),
        ("a/frameDepth001.png", DEEP, "depth"),
        ("depth/disparity/1.png", DEEP, "image"),
        ("depth/labels/1.png", DEEP, "image"),
        ("a/depth_seg.png", DEEP, "image"),
        ("a/depthanything.png", DEEP, "image"),
        ("instances/1.png", DEEP, "image"),
        ("DIODE/1_depth.npy", METRES[..., None], "depth"),
        ("DIODE/1_depth_mask.npy", METRES, "not media"),
        ("a/depth_valid.npy", METRES, "not media"),
        ("depth/bool.npy", METRES > 2, "not media"),
        ("depth/two.npy", (METRES > 2).astype(np.float32), "not media"),
        ("depth/8bit.npy", GREY, "not media"),
        ("depth/i2.npy", DEEP.astype(np.int16), "depth"),
    ],
)
def test_whole_words_of_the_nearest_folder_tell_the_kind(tmp_path_factory, name, values, kind):
    root = tmp_path_factory.mktemp("a")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values) if path.suffix == ".npy" else Image.fromarray(values).save(path)
    [found] = walk([root])
    assert (found.modality.value if isinstance(found, MediaFile) else "not media") == kind


def test_a_large_colour_picture_is_not_decoded_to_compare_its_channels(tmp_path):
    (tmp_path / "thermal").mkdir()
    path = tmp_path / "thermal" / "a.png"
    Image.new("RGB", (6000, 6000)).save(path)
    path.write_bytes(path.read_bytes()[:500])  # nothing to decode
    assert identify(path).modality is Modality.IMAGE
