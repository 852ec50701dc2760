"""The pages are parsed, and what is embedded in them is decoded again."""

import base64
import io
import os
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from datetime import datetime
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.odd_files import encode_frames
from tests.small_files import one_of_each
from tests.web import Web
from xsearch import gallery, preview, query
from xsearch.query import Embedded, Hits
from xsearch.types import Hit, Modality, Sample

HAS_H264 = "libx264" in av.codec.codecs_available
needs_h264 = pytest.mark.skipif(not HAS_H264, reason="PyAV was built without libx264")
VOID = {"meta", "img", "br", "wbr"}


class Page(HTMLParser):
    """Tags that were opened and not closed, in order, and every attribute that could load something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open += [tag] * (tag not in VOID)
        self.images += [dict(attributes)] * (tag == "img")
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
    return Hit(rank, 1.25, 0.5, 1.25, 0.2, rank, str(path), Modality(modality), **more)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small file of every kind; the video is one that browsers play, if it can be made here."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    paths = one_of_each(folder, rng.integers(0, 256, (60, 80, 3), np.uint8))
    if HAS_H264:
        encode_frames(paths["video"], np.arange(50) / 25, "libx264")
    return paths


TAGS = {"image": "img", "text": "blockquote", "audio": "audio", "imu": "polyline", "depth": "img"}


@pytest.mark.parametrize(
    ("kind", "tag"), [*TAGS.items(), ("thermal", "img"), pytest.param("video", "video", marks=needs_h264)]
)
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
    assert all(word in page.text for word in ("2 searches", "“one”", "“two”"))
    assert Path(page.addresses[-1]).name == "image.jpg"
    headed = parsed(gallery.album(answers, ["Pictures of one", "Pictures of two"]))
    assert "Pictures of two" in headed.text
    assert "“two”" not in headed.text


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (query.text("a  dog\n& <b>cat</b>"), "“a dog & <b>cat</b>”"),
        (query.text("dog " * 40), f"“{('dog ' * 40)[:59]}…”"),
        (query.image("x/my dog#1.jpg") + 0.7 * query.audio("sea.wav") - query.text("cage"),
         "image my dog#1.jpg + 0.7 × audio sea.wav − “cage”"),
        (-2 * query.item(17), "− 2 × item 17"),
        (query.image("https://example.org/a/bird.jpg?size=2"), "image bird.jpg"),
        (query.vector(np.ones(4, np.float32), "depth"), "depth from memory"),
    ],
)  # fmt: skip
def test_the_title_and_the_heading_name_the_query(asked, name):
    assert gallery.name(asked) == name
    assert "<title>xsearch</title>" in gallery.page([])
    html = gallery.album([(None, [])], [name])
    title, heading = re.search(
        r"<title>(.*) – xsearch</title>.*<h1 [^>]*>(.*)</h1>", html, re.DOTALL
    ).groups()
    assert title == heading == escape(name).replace("&quot;", "&#34;")


def test_the_hits_of_a_search_bring_the_name_of_their_query():
    hits = Hits([], query=Embedded(query.text("a dog"), np.ones(4), np.ones((1, 4)), 1.0))
    assert "<title>“a dog” – xsearch</title>" in gallery.page(hits)


def test_a_text_that_the_heading_states_has_no_card_of_its_own():
    assert 'class="term"' not in gallery.page([], query.text("a dog"))
    assert 'class="term"' in gallery.page([], query.text("a dog " * 30))


def test_a_small_picture_is_enlarged_by_a_whole_factor_or_not_at_all(tmp_path):
    expected = {(64, 48): (128, 96), (50, 20): (100, 40), (100, 80): (100, 80), (1600, 1200): (400, 300)}
    for (width, height), shown in expected.items():
        Image.new("RGB", (width, height), "red").save(path := tmp_path / f"{width}.png")
        (image,) = parsed(gallery.page([hit(path, "image")])).images
        assert (int(image["width"]), int(image["height"])) == shown
        assert image.get("class") == ("enlarged" if shown > (width, height) else None)
        (data,) = embedded(parsed(gallery.table([hit(path, "image")])), "image/jpeg")
        assert Image.open(io.BytesIO(data)).size == (min(width, 400), min(height, 300))


def test_a_card_says_what_is_known_of_its_item(files):
    extra = {"Title": "A <b>", "caption": ["a dog", "on grass"], "taken_at": datetime(2024, 6, 1, 14, 30, 5)}
    extra |= {
        "camera": "Pixel 7",
        "latitude": 48.8583701,
        "longitude": 2.2944813,
        "artist": "",
        "sha256": "0",
    }
    page = parsed(gallery.page([hit(files["image"], "image", extra=extra)]))
    assert page.images[0]["alt"] == "image: A <b>"
    for text in ("A <b>", "a dog, on grass", "2024-06-01 14:30 · Pixel 7 · 48.8584, 2.29448\n"):
        assert text in page.text
    odd = {"title": "x" * 5000, "year": float("nan"), "album": ["", "b"], "tags": 0.1 + 0.2}
    assert gallery.captions(hit("a", "image", extra=odd)) == ["x" * 999 + "…"]
    assert gallery.details(hit("a", "image", extra=odd)) == ["b", "0.3"]
    iso = hit(files["image"], "image", extra={"date": "2024-06-01T14:30:05.123+02:00", "tags": "x"})
    assert gallery.details(iso) == ["2024-06-01 14:30", "x"]
    assert gallery.details(replace(iso, extra={"taken_at": datetime(2019, 1, 1)})) == ["2019-01-01"]
    assert gallery.captions(hit(files["text"], "text", text="Rex\na dog", extra={"caption": "A dog"})) == []


def test_a_text_of_a_picture_is_shown_with_it(files, tmp_path):
    page = parsed(gallery.page([hit(files["image"], "text", text="a dog")]))
    assert len(embedded(page, "image/jpeg")) == 1
    assert "a dog" in page.text
    assert "a dog" in parsed(gallery.table([hit(files["image"], "text", text="a dog")])).text
    assert "a dog" in parsed(gallery.page([hit(tmp_path / "gone.jpg", "text", text="a dog")])).text


@needs_h264
def test_of_a_video_that_browsers_do_not_play_there_is_the_picture(files, tmp_path):
    kinds = {
        "a.mts": ("libx264", ""),
        "a.avi": ("libx264", ""),
        "a.mp4": ("mpeg4", ""),
        "a.mov": ("libx264", "video/mp4"),
        "a.mkv": ("libx264", "video/x-matroska"),
        "a.webm": ("libvpx", "video/webm"),
    }
    for name, (codec, mime) in kinds.items():
        encode_frames(tmp_path / name, np.arange(50) / 25, codec)
        assert preview.playable(tmp_path / name) == mime
        page = parsed(gallery.page([hit(tmp_path / name, "video")]))
        assert len(embedded(page, "image/jpeg")) == 1
        assert len(embedded(page, mime or "video/")) == bool(mime)


def test_odd_names_are_linked_to_and_can_be_written(tmp_path):
    names = ["a b#1?.png", "100%.png", "\"q\" 'r'.png", "größe 写真.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    page = parsed(
        gallery.page([hit(tmp_path / name, "image") for name in names], query.image(tmp_path / names[-1]))
    )
    page.text.encode()
    links = [address for address in page.addresses if address.startswith("file:")]
    assert [os.fsdecode(unquote_to_bytes(urlsplit(link).path)) for link in links[1:]] == [
        str(tmp_path / name) for name in names
    ]
    assert links[0] == links[-1]


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


@needs_h264
def test_a_video_plays_from_where_its_window_starts_to_its_end(files):
    page = parsed(gallery.page([hit(files["video"], "video", start_s=0.5, end_s=2.0)]))
    (video,) = (address for address in page.addresses if address.startswith("data:video/mp4"))
    assert video.endswith("#t=0.5,2")


def test_what_chance_explains_is_dimmed_and_said(files):
    near = hit(files["text"], "text", text="a dog")
    far = replace(near, expected=12.3)
    page = gallery.page(Hits([near, far], nearest_expected=0.2))
    assert page.count('class="card text chance"') == 1
    assert "nothing like it" not in page.lower()
    assert "<dd>12</dd>" in page
    assert gallery.table([near, far]).count("<td>12</td>") == 1
    page = gallery.page(Hits([far], nearest_expected=12.3))
    assert "Nothing like it here: the nearest would be found 12 times by chance." in page


def test_a_pair_of_kinds_without_a_baseline_has_no_balanced_figure(files):
    alone = Hit(1, 0.5, 0.5, None, None, 1, str(files["text"]), Modality.TEXT, text="a dog")
    for html in (gallery.page([alone]), gallery.table([alone])):
        assert "–" in parsed(html).text
        assert "None" not in html


# ---------------------------------------------------------------- strangers

EVIL = "\x1b[31m\u202e<script>alert(1)</script>\x00'\" onload=\udcff"
PATHS = [
    "", ".", "..", "a/b.jpg", "../../etc/passwd", "~root", "a\0b", "new\nline.png", EVIL, "x" * 100_000,
    "/" + "y/" * 50_000, "javascript:alert(1)", "javascript://%0aalert(1)", "data:text/html,<script>",
    "\ud800", "//host/share/x.jpg", "\\\\host\\share\\x.jpg", "file:///etc/passwd", "file://host/x.jpg",
    "zip://x::/y.zip", "https://u:p@h/<x>", "http://[::1", "https://h/" + "z" * 100_000, "s3://bucket/x.png",
    "/dev/zero", "/dev/stdin",
]  # fmt: skip
NUMBERS = [float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 0.0]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path[:20]))
def test_a_path_of_an_import_makes_a_card_without_a_link(path, monkeypatch):
    def opened(*args, **options):
        raise AssertionError("a file or URL was opened")

    for name in ("at_hand", "identify", "read", "sha256", "unchanged"):
        monkeypatch.setattr(f"xsearch.media.{name}", opened)
    for kind in Modality:
        strange = hit(path, kind, is_imported=True)
        for html in (gallery.page([strange]), gallery.table([strange])):
            page = parsed(html)
            assert page.addresses == []
            assert "only an import names its file" in page.text
            assert "script" not in page.tags
            assert len(html.encode()) < 20_000


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path[:20]))
def test_no_path_breaks_a_page_or_makes_a_link_that_runs(path):
    page = parsed(gallery.page([hit(path, "text", text="a dog")]))
    assert all(address.startswith(("file:", "https://", "http://")) for address in page.addresses)
    assert sum(map(len, page.addresses)) <= gallery.LINK
    assert "a dog" in page.text


def test_a_page_shows_the_beginning_of_what_is_long_and_numbers_that_are_none():
    extra = {"title": EVIL * 100_000, "keywords": [EVIL] * 100_000, "latitude": float("nan")}
    extra |= {f"column {i}": "x" for i in range(10_000)}
    long = hit("/a.md", "text", text="<b>" + "[" * 1_000_000, extra=extra)
    hits = [replace(long, path="/a", start_s=first, end_s=last) for first in NUMBERS for last in NUMBERS]
    hits.append(long)
    page = gallery.page(hits)
    assert len(page) / len(hits) < 30_000
    assert not {"nan", "inf", "nan–nan"} & set(parsed(page).text.split())


def test_of_a_text_that_is_not_stored_the_file_is_not_read(files):
    page = parsed(gallery.page([hit(files["text"], "text")]))
    assert "cannot be shown: no text is stored" in page.text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_runs_and_fetches_nothing_that_gets_into_a_page(files, tmp_path):
    loads = (
        "<script>document.title='run'</script><img src='{0}/i' onerror='document.title=1'><video src='{0}/v'>"
        "</video><link rel=stylesheet href='{0}/s'><iframe src='{0}/f'></iframe><object data='{0}/o'>"
        "</object><style>body {{ background: url({0}/b) }}</style><p style='background: url({0}/p)'>"
    )
    with Web({}) as web:
        html = gallery.page([hit(files["image"], "image")], query.text("a dog"))
        (tmp_path / "page.html").write_text(html.replace("<main>", "<main>" + loads.format(web.url)))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=1000", "--dump-dom"]
        options += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
        dumped = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, check=True, timeout=60)
    assert "<title>“a dog” – xsearch</title>" in dumped.stdout
    assert web.asked == []
