"""The pages are parsed, and what is embedded in them is decoded again."""

import base64
import io
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.small_files import one_of_each
from xsearch import gallery, query
from xsearch.types import Hit, Modality, Sample

VOID = {"meta", "img", "br", "wbr"}


class Page(HTMLParser):
    """Tags that were opened and not closed, in order, and every attribute that could load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open += [tag] * (tag not in VOID)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "poster")]

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(html):
    page = Page(html)
    assert page.open == []
    return page


def embedded(page, mime):
    """The bytes of every data URI of this kind."""
    return [base64.b64decode(a.split(",", 1)[1]) for a in page.addresses if a.startswith(f"data:{mime}")]


def hit(path, modality, rank=1, **more):
    return Hit(rank, 1.25, 0.5, 1.25, rank, str(path), Modality(modality), **more)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small file of every kind."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    return one_of_each(folder, rng.integers(0, 256, (60, 80, 3), np.uint8))


TAGS = {"image": "img", "text": "blockquote", "audio": "audio", "video": "video", "imu": "polyline"}


@pytest.mark.parametrize(("kind", "tag"), [*TAGS.items(), ("depth", "img"), ("thermal", "img")])
def test_every_kind_is_shown_in_its_own_way(files, kind, tag):
    page = parsed(gallery.page([hit(files[kind], kind, text="a dog" if kind == "text" else None)]))
    assert tag in page.tags
    assert "cannot be shown" not in page.text
    assert all(word in page.text for word in (kind, files[kind].name, "0.500", "+1.25"))


def test_a_page_loads_nothing_and_a_table_plays_nothing(files):
    hits = [hit(path, kind, rank) for rank, (kind, path) in enumerate(files.items(), 1)]
    page, table = parsed(gallery.page(hits)), parsed(gallery.table(hits))
    assert all(address.startswith(("data:", "file:")) for address in page.addresses)
    assert not re.search(r"https?:|url\(|@import|<script", gallery.page(hits))
    assert not {"audio", "video"} & set(table.tags)
    assert len(embedded(table, "image/jpeg")) == 4  # image, video, depth, thermal


def test_names_and_texts_are_escaped(tmp_path):
    path = tmp_path / "<u onerror='x'>&.txt"
    html = gallery.page([hit(path, "text", text="<script>alert(1)</script>")], query.text("<i>'\""))
    page = parsed(html)
    assert not {"u", "i", "script"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert "<i>'\"" in page.text


def test_one_lost_file_does_not_spoil_the_page(files, tmp_path):
    page = parsed(gallery.page([hit(tmp_path / "gone.jpg", "image"), hit(files["image"], "image", 2)]))
    assert "the file no longer exists" in page.text
    assert len(embedded(page, "image/jpeg")) == 1


def test_a_big_video_has_a_poster_and_no_player(files, tmp_path):
    path = tmp_path / "big.mp4"
    size = gallery.PLAYER_BYTES
    path.write_bytes(files["video"].read_bytes() + struct.pack(">I4s", size, b"free") + bytes(size - 8))
    page = parsed(gallery.page([hit(path, "video", start_s=0.0, end_s=2.0)]))
    assert "video" not in page.tags
    assert len(embedded(page, "image/jpeg")) == 1


def test_the_query_stands_above_the_hits_as_a_sum(files):
    request = query.image(files["image"]) + 0.7 * query.audio(files["audio"]) - query.text("a cage")
    page = parsed(gallery.page([], request))
    order = [
        page.text.index(word) for word in ("image.jpg", "+ 0.7 ×", "audio.wav", "−", "a cage", "No items")
    ]
    assert order == sorted(order)


def test_parts_in_memory_are_shown_too():
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    tone = np.sin(np.arange(16_000) / 9).astype(np.float32)
    request = query.image(pixels[0]) + query.video(pixels) + query.audio(tone)
    request += query.imu(np.ones((6, 100), np.float32)) + query.vector(np.ones(4, np.float32), "depth")
    page = parsed(gallery.page([], request))
    assert "cannot be shown" not in page.text
    assert "an embedding of depth" in page.text
    assert len(embedded(page, "image/jpeg")) == 2


def test_a_stored_item_is_named_by_its_id():
    (part,) = query.item(17).parts
    page = parsed(gallery.page([], query.Query((replace(part, modality=Modality.IMAGE),))))
    assert "item 17 of the collection" in page.text


def test_several_answers_share_one_page(files):
    answers = [(query.text(word), [hit(files["image"], "image")]) for word in ("one", "two")]
    page = parsed(gallery.album(answers))
    assert page.tags.count("section") == 2
    assert Path(page.addresses[-1]).name == "image.jpg"


def test_whatever_a_decoder_raises_is_said_in_the_place_of_its_hit(files):
    broken = Sample(Modality.IMU, np.ones(3, np.float32))  # one row of numbers: an IndexError
    request = query.Query((query.Part(Modality.IMU, (broken,)),))
    page = parsed(gallery.page([hit(files["image"], "image")], request))
    assert "cannot be shown: " in page.text
    assert len(embedded(page, "image/jpeg")) == 1


def test_a_sound_is_drawn_in_two_ways_and_played(files):
    page = parsed(gallery.page([hit(files["audio"], "audio", start_s=10.0, end_s=20.0)]))
    assert "svg" in page.tags
    (spectrogram,), (sound,) = embedded(page, "image/png"), embedded(page, "audio/")
    assert Image.open(io.BytesIO(spectrogram)).height == 128
    wave, rate_hz = soundfile.read(io.BytesIO(sound))
    assert len(wave) / rate_hz == pytest.approx(10, abs=0.1)


def test_a_video_plays_from_where_its_window_starts_to_its_end(files):
    page = parsed(gallery.page([hit(files["video"], "video", start_s=0.5, end_s=2.0)]))
    (video,) = (address for address in page.addresses if address.startswith("data:video/mp4"))
    assert video.endswith("#t=0.5,2")


def test_a_pair_of_kinds_without_a_baseline_has_no_balanced_figure(files):
    alone = Hit(1, 0.5, 0.5, None, 1, str(files["text"]), Modality.TEXT, text="a dog")
    for html in (gallery.page([alone]), gallery.table([alone])):
        assert "–" in parsed(html).text
        assert "None" not in html
