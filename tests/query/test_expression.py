"""The algebra of queries: its laws, its constructors, its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.fakes import DIM, FakeBackend
from xsearch import media
from xsearch import query as q
from xsearch.errors import EmptyQuery, UnknownWords, Unreadable, UsageError
from xsearch.models.vocabulary import Vocabulary
from xsearch.query import Query, embed
from xsearch.types import Modality

BACKEND = FakeBackend()
QUERIES = st.lists(st.sampled_from(["red", "green", "red blue", "bright"]), min_size=1, max_size=3).map(
    lambda words: sum((q.text(word) for word in words), Query())
)
WEIGHTS = st.floats(0.1, 3)
untimed = settings(deadline=None)


def embedded(query: Query) -> q.Embedded:
    return q.embed([query], BACKEND)[0]


def vector(query: Query) -> np.ndarray:
    return embedded(query).vector


def close(a: Query, b: Query) -> None:
    np.testing.assert_allclose(vector(a), vector(b), atol=1e-5)


@untimed
@given(QUERIES, QUERIES, QUERIES)
def test_order_and_grouping_do_not_matter(a: Query, b: Query, c: Query) -> None:
    close(a + b, b + a)
    close((a + b) + c, a + (b + c))


@untimed
@given(QUERIES, QUERIES, WEIGHTS)
def test_scaling_distributes_and_does_not_turn_the_result(a: Query, b: Query, w: float) -> None:
    close(w * (a + b), w * a + b * w)
    close(w * a, a)
    close(1 * a, a)
    close(a / w, a)


@untimed
@given(QUERIES, QUERIES)
def test_subtraction_is_adding_the_negative(a: Query, b: Query) -> None:
    close(a * 2 - 0.5 * b, 2 * a + -b / 2)
    np.testing.assert_allclose(vector(-a), -vector(a), atol=1e-6)


def test_the_sum_agrees_with_arithmetic_by_hand() -> None:
    red, blue = (BACKEND.embed(q.read(q.text(word).parts[0]))[0] for word in ("red", "blue"))
    total = 2 * red - 0.5 * blue
    found = embedded(2 * q.text("red") - 0.5 * q.text("blue"))
    np.testing.assert_allclose(found.vector, total / np.linalg.norm(total), rtol=1e-6)
    assert found.norm == pytest.approx(float(np.linalg.norm(total)))
    np.testing.assert_allclose(found.parts, [red, blue], rtol=1e-6)
    np.testing.assert_allclose(found.cosines, found.parts @ found.vector)


def test_a_query_does_not_change() -> None:
    a = q.text("red")
    _ = a + q.text("blue"), 2 * a, -a
    assert len(a.parts) == 1
    assert a.parts[0].weight == 1.0


def test_repr_reads_like_the_source() -> None:
    assert repr(q.image("bird.jpg") + 0.7 * q.audio("sea.wav") - q.text("cage")) == (
        "image('bird.jpg') + 0.7*audio('sea.wav') - text('cage')"
    )
    assert repr(-q.thermal(np.ones((2, 2)))) == "-thermal(...)"
    assert repr(Query()) == "Query()"


@pytest.mark.parametrize(
    "query",
    [Query(), q.text("red") - q.text("red"), 0 * q.text("red"), q.text("red") - 0.5 * q.text("red red") * 2],
)
def test_nothing_is_not_a_query(query: Query) -> None:
    with pytest.raises(EmptyQuery):
        embedded(query)


def test_blank_text_is_not_a_query() -> None:
    with pytest.raises(EmptyQuery):
        q.text("  \n")


@pytest.mark.parametrize("wrong", ["2", None, [1]])
def test_only_numbers_are_weights_and_only_queries_are_terms(wrong: object) -> None:
    with pytest.raises(TypeError):
        q.text("red") * wrong  # type: ignore[operator]
    with pytest.raises(TypeError):
        q.text("red") + wrong  # type: ignore[operator]


def test_a_weight_is_finite() -> None:
    with pytest.raises(UsageError, match="finite"):
        q.text("red") * float("nan")


def test_arrays_and_files_of_one_picture_agree(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 3), (250, 30, 60), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    close(q.image(pixels), q.image(tmp_path / "a.png"))
    close(q.image(Image.fromarray(pixels).convert("RGBA")), q.image(str(tmp_path / "a.png")))


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        (q.audio(np.sin(np.arange(16_000) * 0.1)), "audio"),
        (q.video(np.ones((4, 8, 8, 3), np.uint8), rate_hz=2), "video"),
        (q.depth(np.ones((4, 4)), focal_px=500), "depth"),
        (q.thermal(np.ones((4, 4)) / 2), "thermal"),
        (q.imu(np.ones((6, 100)), rate_hz=50), "imu"),
        (q.vector(np.eye(DIM)[3] * 7, "depth"), "depth"),
    ],
)
def test_every_kind_takes_arrays(query: Query, kind: str) -> None:
    assert [part.modality for part in query.parts] == [kind]
    assert np.linalg.norm(vector(query)) == pytest.approx(1)


def test_samples_of_arrays_carry_their_units() -> None:
    (frames,) = q.read(q.video(np.ones((4, 8, 8, 3), np.uint8), rate_hz=2).parts[0])
    assert frames.times_s == (0.0, 0.5, 1.0, 1.5)
    (depth,) = q.read(q.depth(np.ones((4, 4)), focal_px=500, baseline_m=0.1).parts[0])
    assert (depth.focal_px, depth.baseline_m, depth.data.dtype) == (500, 0.1, np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: q.audio(np.ones((2, 5))),
        lambda: q.depth(np.empty((0, 0))),
        lambda: q.imu(np.full((6, 3), np.nan)),
    ],
)
def test_arrays_of_the_wrong_shape_are_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match="expected"):
        wrong()  # type: ignore[operator]


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match=f"expected {DIM}"):
        embedded(q.vector(np.ones(3), Modality.TEXT))


def test_a_recording_is_the_mean_direction_of_its_windows(tmp_path: Path) -> None:
    time_s = np.arange(20 * 16_000) / 16_000
    wave = np.where(time_s < 10, np.sin(2 * np.pi * 100 * time_s), np.sin(2 * np.pi * 1000 * time_s))
    soundfile.write(tmp_path / "a.wav", 0.5 * wave, 16_000)
    found = vector(q.audio(tmp_path / "a.wav"))
    assert found[0] == pytest.approx(found[1], abs=0.02)  # as much low as middle
    assert found[2] == pytest.approx(0, abs=0.02)


def test_parse_takes_files_by_their_kind_and_all_else_as_text(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("green")
    picture, words, typed = (
        q.parse(x) for x in (str(tmp_path / "a.png"), tmp_path / "b.txt", "a.png of a dog")
    )
    assert [query.parts[0].modality for query in (picture, words, typed)] == ["image", "text", "text"]
    close(words, q.text("green"))
    assert typed.parts[0].source == "a.png of a dog"
    assert q.parse(typed) is typed


@pytest.mark.parametrize("text", ["x" * 10_000, "nul\0byte", "..."])
def test_parse_takes_what_cannot_be_a_file_as_text(text: str) -> None:
    assert q.parse(text).parts[0].source == text


@untimed
@given(st.text("ab .:/\\~\n", max_size=8))
def test_parse_takes_as_text_what_does_not_look_like_a_path(name: str) -> None:
    is_path = not name.strip() or media.is_url(name) or Path(name).exists() or media.looks_like_path(name)
    try:
        (part,) = q.parse(name).parts
    except UsageError:
        assert is_path
    else:
        assert (part.source == name) is not is_path


def test_parse_refuses_a_path_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Bird.jpg").touch()
    with pytest.raises(UsageError, match=r"^no such file: brid\.jpg; did you mean Bird\.jpg\?; to search"):
        q.parse("brid.jpg")
    with pytest.raises(UsageError, match=r"^no such file: a dog$"):
        embedded(q.parse(Path("a dog")))
    with pytest.raises(UsageError, match=r"^\. is a folder, not a file; .*--text"):
        q.parse(".")
    with pytest.raises(UsageError, match="~ is not expanded"):
        q.parse("~/bird.jpg")
    assert q.parse(q.text("brid.jpg")).parts[0].source == "brid.jpg"
    for nothing in ("", " \n"):
        with pytest.raises(EmptyQuery):
            q.parse(nothing)


def test_parse_says_when_a_file_is_no_media(tmp_path: Path) -> None:
    (tmp_path / "a.exe").write_bytes(b"MZ\x00\x01")
    with pytest.raises(UsageError, match=r"a\.exe: of no known kind; say --image, .*--imu FILE, or --text"):
        q.parse(str(tmp_path / "a.exe"))


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        embedded(q.image(tmp_path / "no.png"))
    with pytest.raises(UsageError, match="is a folder"):
        embedded(q.image(tmp_path))


def test_a_damaged_file_is_reported_without_the_advice_for_an_ingest(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY and then nothing" * 9)
    with pytest.raises(Unreadable, match="damaged, or an unsupported variant; convert it") as caught:
        embedded(q.depth(tmp_path / "a.npy"))
    assert "--as" not in str(caught.value)


def test_a_sound_of_another_rate_is_resampled() -> None:
    wave = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    (sample,) = q.read(q.audio(wave, rate_hz=44_100).parts[0])
    assert (sample.rate_hz, len(sample.data), sample.data.dtype) == (16_000, 16_000, np.float32)
    assert np.abs(np.fft.rfft(sample.data)).argmax() == 440  # one second: bins of 1 Hz
    with pytest.raises(UsageError, match="rate_hz"):
        q.audio(wave, rate_hz=0)


# ---------------------------------------------------------------- texts of many words, and of unknown ones

LONG = "red " * 50 + "\n\n" + "blue " * 30  # of two windows


@pytest.fixture
def learned() -> FakeBackend:
    return FakeBackend(vocabulary=Vocabulary(["red", "blue", "the"]))


def test_a_long_text_is_the_mean_of_its_windows(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(LONG)
    red, blue = (vector(q.text(word)) for word in ("red", "blue"))
    short, literal, file = embed([q.text("red"), q.text(LONG), q.parse(tmp_path / "long.txt")], BACKEND)
    assert (short.windows, literal.windows, file.windows) == ((1,), (2,), (2,))
    mean = (red + blue) / np.linalg.norm(red + blue)
    np.testing.assert_allclose(literal.vector, mean, rtol=1e-6)
    np.testing.assert_array_equal(literal.vector, file.vector)


def test_words_that_the_model_has_not_learned_are_named(learned: FakeBackend) -> None:
    query = q.text("the red quasar, a quasar and a blue ship") - q.text("red")
    query += q.image(np.zeros((4, 4, 3), np.uint8))
    (found,) = embed([query], learned)
    assert found.left_out == ("quasar", "ship")
    assert found.windows == (1, 1, 1)
    (found,) = embed([query], BACKEND)  # of an open vocabulary
    assert found.left_out == ()


@pytest.mark.parametrize(
    ("text", "words", "near"),
    [
        ("my grandmother's cake", ("grandmother", "cake"), ()),
        ("the bluue", ("bluue",), ("blue",)),
        ("123", (), ()),
    ],
)
def test_a_text_of_unknown_words_is_refused_unless_anyway(
    learned: FakeBackend, text: str, words: tuple[str, ...], near: tuple[str, ...]
) -> None:
    query = q.text("red") + q.text(text)
    with pytest.raises(UnknownWords, match="--anyway") as caught:
        embed([query], learned)
    assert (caught.value.text, caught.value.words, caught.value.near) == (text, words, near)
    (found,) = embed([query], learned, anyway=True)
    assert found.left_out == ()
    np.testing.assert_allclose(found.parts[1], learned.embed(q.read(query.parts[1]))[0], rtol=1e-6)
    embed([query], BACKEND)  # of an open vocabulary


def test_windows_of_unknown_words_do_not_blur_a_long_query(learned: FakeBackend) -> None:
    (found,) = embed([q.text("red " * 50 + "\n\n" + "quasar " * 50)], learned)
    np.testing.assert_allclose(found.vector, vector(q.text("red")), rtol=1e-6)
    assert (found.windows, found.left_out) == ((1,), ("quasar",))
