"""From queries to files: settings, metadata, and the faces that draw."""

import json
import os

import numpy as np
import pytest
from PIL import Image

import xsearch
from tests.fakes import FakeBackend
from tests.small_decoder import with_crossings
from xsearch.errors import ModelError, UnknownWords, UsageError
from xsearch.generate import BUNDLED, Crossing, TrainedDecoder, candidate_seeds, load_decoder
from xsearch.types import Modality

RED = np.full((8, 8, 3), [255, 0, 0], np.uint8)
GREEN = np.full((8, 8, 3), [0, 255, 0], np.uint8)


@pytest.fixture
def model() -> xsearch.Model:
    return xsearch.Model(FakeBackend())


@pytest.fixture
def collection(tmp_path) -> xsearch.Collection:
    """Two pictures: item 0 is red, item 1 is green."""
    folder = tmp_path / "media"
    folder.mkdir()
    Image.fromarray(GREEN).save(folder / "b.png")
    Image.fromarray(RED).save(folder / "a.png")
    collection = xsearch.Collection.create(tmp_path / "collection", backend=FakeBackend())
    collection.ingest(folder)
    return collection


def pixels(drawn) -> list[np.ndarray]:
    return [np.asarray(each.picture) for each in drawn]


def test_the_next_picture_has_the_next_seed(model, decoder):
    drawn = model.generate("red", decoder=decoder, count=3, seed=5)
    assert [each.seed for each in drawn] == [5, 6, 7]
    (again,) = model.generate("red", decoder=decoder, seed=6)
    np.testing.assert_array_equal(pixels(drawn)[1], np.asarray(again.picture))
    (other,) = model.generate("blue", decoder=decoder, seed=6)
    assert (np.asarray(other.picture) != pixels(drawn)[1]).any()


def test_progress_counts_the_steps_of_all_pictures(model, decoder):
    seen = []
    model.generate("red", decoder=decoder, count=2, steps=3, progress=lambda *at: seen.append(at))
    assert seen == [(n, 6) for n in range(1, 7)]


def test_a_picture_is_handed_over_before_the_next_is_drawn(model, decoder):
    handed = []

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate("red", decoder=decoder, count=3, seed=1, steps=2, each=handed.append, progress=stop)
    assert [each.seed for each in handed] == [1, 2]


def test_the_candidate_is_kept_whose_embedding_is_nearest(model, decoder):
    ticks = []
    settings = {"decoder": decoder, "count": 2, "seed": 5, "steps": 3}
    kept = model.generate("red", candidates=4, progress=lambda *at: ticks.append(at), **settings)
    for number, each in enumerate(kept):
        seeds = candidate_seeds(5 + number, 4)
        alone = [model.generate("red", decoder=decoder, seed=seed, steps=3)[0] for seed in seeds]
        cosines = model.embed([xsearch.image(one.picture) for one in alone]) @ each.query.vector
        close = np.asarray(alone[cosines.argmax()].picture).astype(int)
        assert np.abs(close - np.asarray(each.picture)).max() <= 1  # sums in another order
        assert (each.seed, each.about["candidates"]) == (5 + number, 4)
        assert len({one.picture.tobytes() for one in alone}) == 4
    assert candidate_seeds(5, 4)[0] == 5
    assert ticks[-1] == (24, 24)


def test_a_filtered_candidate_is_kept_only_if_all_are(model, decoder):
    class Filtering(TrainedDecoder):
        filtered = (True, False, True)

        def draw(self, *args, **options):
            sketches = super().draw(*args, **options)
            return [(one, is_so) for (one, _), is_so in zip(sketches, self.filtered, strict=True)]

    filtering = Filtering(decoder.network, "filtering")
    (drawn,) = model.generate("red", decoder=filtering, candidates=3)
    assert not drawn.is_filtered
    filtering.filtered = (True, True, True)
    (drawn,) = model.generate("red", decoder=filtering, candidates=3)
    assert drawn.is_filtered


def test_a_size_is_that_of_the_picture(model, decoder):
    (drawn,) = model.generate("red", decoder=decoder, size=40, candidates=3)
    assert drawn.picture.size == (40, 40)
    assert drawn.about["size"] == 40
    (unsized,) = model.generate("red", decoder=decoder, candidates=3)  # the same candidate is the best
    assert drawn.picture.tobytes() == unsized.picture.resize((40, 40), Image.Resampling.LANCZOS).tobytes()


def test_a_file_states_what_was_drawn(model, decoder, tmp_path):
    query = xsearch.image(RED) - 0.5 * xsearch.text("blue")
    (drawn,) = model.generate(query, decoder=decoder, seed=3, guidance=1.5)
    drawn.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as file:
        assert file.info["Description"] == "image(...) - 0.5*text('blue')"
        about = json.loads(file.info["xsearch"])
        np.testing.assert_array_equal(np.asarray(file), pixels([drawn])[0])
    assert about == {
        "query": "image(...) - 0.5*text('blue')",
        "parts": [
            {"modality": "image", "source": "<image>", "weight": 1.0},
            {"modality": "text", "source": "blue", "weight": -0.5},
        ],
        "seed": 3,
        "steps": 4,
        "guidance": 1.5,
        "candidates": 1,
        "size": 16,
        "near_collection": False,
        "decoder": "random",
        "model": "fake",
        "model_digest": "fake-0.5",
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"count": 0},
        {"candidates": 0},
        {"seed": -1},
        {"steps": 0},
        {"guidance": -1.0},
        {"guidance": float("nan")},
        {"size": 1},
    ],
)
def test_a_setting_out_of_range_is_named(model, decoder, settings):
    with pytest.raises(UsageError, match=f"{next(iter(settings))}: expected"):
        model.generate("red", decoder=decoder, **settings)


def test_any_name_of_a_file_can_be_stated(model, decoder, tmp_path):
    path = tmp_path / os.fsdecode("海 ".encode() + b"\x80.png")  # no UTF-8
    Image.fromarray(RED).save(path, "PNG")
    (drawn,) = model.generate(path, decoder=decoder)
    drawn.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as file:
        assert json.loads(file.info["xsearch"])["parts"][0]["source"] == str(path)
        assert "海" in file.info["Description"]


def test_words_that_the_model_does_not_know_are_not_drawn(tiny_vocabulary, decoder):
    model = xsearch.Model(FakeBackend(vocabulary=tiny_vocabulary))
    with pytest.raises(UnknownWords):
        model.generate("zebra", decoder=decoder)
    assert model.generate("zebra", decoder=decoder, anyway=True)


@pytest.fixture
def tiny_vocabulary(tmp_path):
    from xsearch.models.vocabulary import Vocabulary, save_words

    save_words(["red", "green"], tmp_path)
    return Vocabulary.load(tmp_path)


def test_an_item_is_drawn_as_its_file_is(collection, decoder, tmp_path):
    (item,) = collection.generate(xsearch.item(0), decoder=decoder)
    path = collection.items(columns=["path"])["path"].to_pylist()[0]
    (file,) = collection.generate(path, decoder=decoder)
    np.testing.assert_array_equal(*pixels([item, file]))


def test_the_nearest_pictures_of_a_collection_are_the_prior(collection, decoder):
    with_crossings(decoder, {Modality.TEXT: Crossing(prior=1.0)})
    (blended,) = collection.generate("red", decoder=decoder)
    near = collection.search("red", 4, modality="image", rank="cosine")
    mean = collection.snapshot().vectors(np.array([hit.id for hit in near])).mean(axis=0)
    (drawn,) = collection.generate(xsearch.vector(mean, "image"), decoder=decoder)
    np.testing.assert_array_equal(*pixels([blended, drawn]))
    (alone,) = xsearch.Model(FakeBackend()).generate("red", decoder=decoder)
    assert (pixels([alone])[0] != pixels([drawn])[0]).any()


def test_a_collection_without_pictures_is_no_prior(decoder, model, tmp_path):
    with_crossings(decoder, {Modality.TEXT: Crossing(prior=1.0)})
    (tmp_path / "red.txt").write_text("red")
    collection = xsearch.Collection.create(tmp_path / "texts", backend=FakeBackend())
    collection.ingest(tmp_path / "red.txt")
    drawn = [each.generate("blue", decoder=decoder)[0] for each in (collection, model)]
    np.testing.assert_array_equal(*pixels(drawn))


def test_a_decoder_is_loaded_by_its_folder(decoder, model, tmp_path):
    decoder.save(tmp_path)
    (drawn,) = model.generate("red", decoder=tmp_path)
    assert drawn.about["decoder"] == str(tmp_path)
    with pytest.raises(UsageError, match="for diffusers pipelines"):
        load_decoder(tmp_path, norm="official")


def test_what_is_no_decoder_is_named(tmp_path):
    with pytest.raises(ModelError, match="neither a decoder nor a diffusers pipeline"):
        load_decoder(tmp_path)
    with pytest.raises(ModelError, match=r"no decoder 'some/where': .* hf download some/where"):
        load_decoder("some/where")
    if not (BUNDLED / "config.json").exists():
        with pytest.raises(ModelError, match="no bundled decoder"):
            load_decoder()
