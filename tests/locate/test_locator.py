"""Coloured squares on grey, located by words, with a model that sees colours."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xsearch
from tests.fakes import GAP, DenseFake, FakeBackend
from xsearch.backend import DenseBackend
from xsearch.collection import Collection
from xsearch.errors import UsageError
from xsearch.locate import Located, Locator, Thresholds, calibrate
from xsearch.locate.generic import NOISES, SLOPES, Generic, noises
from xsearch.locate.thresholds import BUNDLED, SHARES
from xsearch.types import FALSE_ALARMS, Box, Modality, Sample

OTHERS = ("green", "blue", "dark", "bright", "green blue", "green dark", "blue bright", "dark bright")


class Colours(Generic):
    """Of every kind, sounds too; noise is green."""

    def noises(self) -> np.ndarray:
        return self.vectors(Modality.AUDIO)[:1]

    def vectors(self, kind: Modality) -> np.ndarray:
        vectors = self._backend.embed([Sample(Modality.TEXT, words) for words in OTHERS])
        text, own = (GAP + list(Modality).index(each) for each in (Modality.TEXT, kind))
        vectors[:, [text, own]] = vectors[:, [own, text]]
        return vectors


def thresholds(score: float) -> Thresholds:
    return Thresholds("fake-0.5", "1", 100, {str(kind): [score] * len(SHARES) for kind in Modality})


@pytest.fixture
def backend() -> DenseBackend:
    return DenseFake()


@pytest.fixture
def locator(backend: DenseBackend) -> Locator:
    return Locator(backend, generic=Colours(backend), thresholds=thresholds(1.0))


def picture(*squares: tuple[str, tuple[int, int, int, int]]) -> Image.Image:
    image = Image.new("RGB", (240, 160), (90, 90, 90))
    for colour, box in squares:
        image.paste(colour, box)
    return image


def overlap(box: Box, pixels: Sequence[int]) -> float:
    left, top, right, bottom = np.array(pixels) / (240, 160, 240, 160)
    width = min(box.right, right) - max(box.left, left)
    height = min(box.bottom, bottom) - max(box.top, top)
    shared = max(width, 0) * max(height, 0)
    areas = (box.right - box.left) * (box.bottom - box.top) + (right - left) * (bottom - top)
    return float(shared / (areas - shared))


def test_what_is_said_is_located(locator: Locator):
    squares = {"red": (20, 40, 90, 110), "blue": (150, 60, 220, 130)}
    image = picture(*squares.items())
    for colour, place in squares.items():
        located = locator.locate(image, xsearch.text(colour))
        assert located.size == (240, 160)
        assert overlap(located.boxes[0], place) > 0.5
        y, x = np.unravel_index(located.heat.argmax(), located.heat.shape)
        assert place[0] <= 240 * (x + 0.5) / located.heat.shape[1] <= place[2]
        assert place[1] <= 160 * (y + 0.5) / located.heat.shape[0] <= place[3]


def test_two_of_it_have_two_boxes(locator: Locator):
    places = [(10, 20, 70, 80), (160, 70, 220, 130)]
    located = locator.locate(picture(*(("red", place) for place in places)), "red")
    assert all(max(overlap(box, place) for box in located.boxes[:2]) > 0.4 for place in places)


def test_what_is_not_there_has_no_box(locator: Locator):
    located = locator.locate(picture(("green", (60, 40, 150, 120))), "red")
    assert located.boxes == ()
    assert located.score < located.threshold == 1.0
    assert located.false_alarms == FALSE_ALARMS


def test_a_sum_is_located_as_a_whole(locator: Locator):
    places = (20, 40, 90, 110), (150, 60, 220, 130)
    image = picture(("red", places[0]), ("magenta", places[1]))
    both = locator.locate(image, xsearch.text("red") + xsearch.text("blue"))
    assert all(max(overlap(box, place) for box in both.boxes) > 0.5 for place in places)
    without = locator.locate(image, xsearch.text("red") - 0.8 * xsearch.text("blue"))
    assert overlap(without.boxes[0], places[0]) > 0.5
    assert max(overlap(box, places[1]) for box in without.boxes) < 0.1


def test_noise_is_nowhere(locator: Locator):
    """A tone below 500 Hz is red to this model, one above is green, as noise is."""
    image = picture(("red", (20, 40, 90, 110)), ("green", (150, 60, 220, 130)))
    times_s = np.arange(16_000, dtype=np.float32) / 16_000
    low, middle = (np.sin(2 * np.pi * hz * times_s) for hz in (200, 1000))
    assert overlap(locator.locate(image, xsearch.audio(low)).boxes[0], (20, 40, 90, 110)) > 0.5
    located = locator.locate(image, xsearch.audio(middle))
    assert located.boxes == ()
    assert located.score <= 0
    assert locator.locate(image, xsearch.audio(middle) + xsearch.text("red")).boxes == ()
    assert locator.locate(image, xsearch.text("green")).score > 0


def test_a_picture_of_any_shape_is_read(locator: Locator):
    for size in ((1, 1), (900, 3), (3, 900), (17, 40)):
        located = locator.locate(Image.new("RGB", size, "red"), "red")
        assert located.size == size


def test_a_marked_copy_has_boxes_and_heat(locator: Locator):
    image = picture(("red", (20, 40, 90, 110)))
    located = locator.locate(image, "red")
    before = image.tobytes()
    marked, plain = located.draw(image), located.draw(image, heat=False)
    assert image.tobytes() == before
    assert marked.size == plain.size == image.size
    changed = np.any(np.asarray(plain) != np.asarray(image), axis=2)
    assert 0 < changed.mean() < 0.5
    assert np.any(np.asarray(marked) != np.asarray(plain))


def test_a_model_without_dense_features_is_refused():
    with pytest.raises(UsageError, match="not where"):
        Locator(FakeBackend())


def test_hits_are_located(backend: DenseBackend, locator: Locator, tmp_path: Path):
    folder = tmp_path / "media"
    folder.mkdir()
    picture(("red", (20, 40, 90, 110))).save(folder / "red.png")
    (folder / "note.txt").write_text("red")
    collection = Collection.create(tmp_path / "c", backend=backend)
    collection.ingest(folder)
    collection._locator = locator
    hits = collection.search(xsearch.text("red"), rank="cosine", match="meaning")
    assert all(hit.boxes is None for hit in hits)
    assert "boxes" not in hits.to_dicts()[0]
    located = {hit.modality: hit for hit in collection.locate(hits)}
    assert located[Modality.TEXT].boxes is None
    boxes = located[Modality.IMAGE].boxes
    assert boxes is not None
    assert overlap(boxes[0], (20, 40, 90, 110)) > 0.5
    row = next(row for row in collection.locate(hits).to_dicts() if row["modality"] == "image")
    assert row["boxes"][0]["left"] == boxes[0].left
    from xsearch import preview

    hit = located[Modality.IMAGE]
    assert preview.thumbnail(hit).data != preview.thumbnail(replace(hit, boxes=())).data


def test_thresholds_are_kept_by_model(backend: DenseBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path))
    scores = {kind: np.linspace(0, 1, 101) for kind in Modality}
    measured = Thresholds.measured(backend.fingerprint, scores)
    assert measured.at(Modality.TEXT, 0.05) == pytest.approx(0.95)
    assert measured.at(Modality.VIDEO, 0.01) > measured.at(Modality.VIDEO, 0.03) > 0.9
    assert not Thresholds.of(backend.fingerprint).is_of(backend.fingerprint)  # the bundled model's
    measured.save()
    assert Thresholds.of(backend.fingerprint) == measured
    with pytest.raises(UsageError, match="false alarms"):
        measured.at(Modality.TEXT, 0.5)


def test_an_unmeasured_model_does_not_state_false_alarms(backend: DenseBackend, tmp_path, monkeypatch):
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path))
    located = Locator(backend, generic=Colours(backend)).locate(picture(), "red")
    assert isinstance(located, Located)
    assert located.false_alarms is None


def test_a_calibration_measures_every_kind(backend: DenseBackend):
    steps = []
    table = calibrate(backend, pictures=3, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 6) for n in range(1, 7)]
    assert table.is_of(backend.fingerprint)
    assert set(table.scores) == {str(kind) for kind in Modality} - {"video"}
    assert all(sorted(of, reverse=True) == list(of) for of in table.scores.values())


def test_the_package_has_thresholds_of_the_bundled_model():
    assert BUNDLED.exists()
    assert Locator.load("bundled").thresholds.pictures >= 100


def test_noises_are_silence_and_noise():
    silence, *others = (sample.data for sample in noises())
    assert not silence.any()
    assert len(others) == NOISES - 1
    assert all(0.05 < wave.std() < 0.15 and np.abs(wave).max() <= 1 for wave in others)
    spectra = [np.abs(np.fft.rfft(wave)) for wave in others[: len(SLOPES)]]
    highs = [spectrum[len(spectrum) // 2 :].sum() / spectrum.sum() for spectrum in spectra]
    assert highs == sorted(highs, reverse=True)
