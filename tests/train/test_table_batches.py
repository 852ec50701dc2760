"""Batches: which rows a step has, which of them are alike, and what varies in a pair."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from xsearch.errors import Unreadable, UsageError
from xsearch.models.config import SMALL
from xsearch.models.tokenizer import Tokenizer, train_tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.train import Bind
from xsearch.train.augment import augment
from xsearch.train.labels import codes_of, same, vocabulary
from xsearch.train.mixing import mixed
from xsearch.train.motions import varied_motion
from xsearch.train.pictures import Pictures
from xsearch.train.sounds import mask_mels, varied_sound
from xsearch.train.table_batches import TableBatches
from xsearch.types import Modality, Sample

BIND = Bind(temperature=0.1, batch=4)


@pytest.fixture
def pairs(tmp_path):
    """Ten thermal pictures: six of a, three of b and c, one without a label."""
    lines = ["image,other,modality,label,weight"]
    for number in range(10):
        pixels = np.full((8, 8), 20 * number, np.uint8)
        Image.fromarray(pixels).convert("RGB").save(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(tmp_path / f"{number}_ir.png")
        label = "a" if number < 6 else "b|c" if number < 9 else ""
        lines.append(f"{number}.png,{number}_ir.png,thermal,{label},{1 + 9 * (number == 2)}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return Pairs(path)


def of(pairs: Pairs, seed: int = 0, **changes) -> TableBatches:
    return TableBatches(pairs, replace(BIND, **changes), Preprocess(SMALL), seed=[seed, 1])


def unweighted(pairs: Pairs) -> Pairs:
    equal = Pairs(pairs.path)
    equal.weights = np.ones(len(equal))
    return equal


def test_without_weights_all_rows_come_equally_often(pairs):
    table = of(unweighted(pairs))
    assert table.steps == 2
    counts = Counter(row for step in range(5) for row in table.rows(step).tolist())
    assert counts == dict.fromkeys(range(10), 2)
    np.testing.assert_array_equal(table.rows(3), of(unweighted(pairs)).rows(3))
    assert any((table.rows(step) != of(unweighted(pairs), seed=1).rows(step)).any() for step in range(5))
    assert of(unweighted(pairs), replicate=50.0).steps == 125


def test_rows_come_by_their_weights(pairs):
    counts = Counter(row for step in range(500) for row in of(pairs).rows(step).tolist())
    assert counts[2] / 2000 == pytest.approx(10 / 19, abs=0.04)
    assert set(counts) == set(range(10))


def test_balanced_labels_come_equally_often(pairs):
    table = of(pairs, balanced=True)
    labels = Counter(pairs.labels[row] for step in range(300) for row in table.rows(step))
    assert labels["a"] == pytest.approx(400, abs=60)
    assert labels["b|c"] == pytest.approx(400, abs=60)
    assert labels[None] == pytest.approx(400, abs=60)


def test_a_small_table_gives_all_it_has_and_processes_share_alike(pairs):
    assert of(pairs, batch=64).batch == 10
    assert TableBatches(pairs, replace(BIND, batch=9), Preprocess(SMALL), seed=[0], processes=2).batch == 8
    with pytest.raises(UsageError, match="too few for 11"):
        TableBatches(pairs, BIND, Preprocess(SMALL), seed=[0], processes=11)


def test_labels_to_balance_are_asked_for(tmp_path, pairs):
    text = pairs.path.read_text().replace(",a,", ",,").replace(",b|c,", ",,")
    (tmp_path / "bare.csv").write_text(text)
    with pytest.raises(UsageError, match="no labels"):
        of(Pairs(tmp_path / "bare.csv"), balanced=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_process_gets_its_part_of_the_same_batches(pairs, workers):
    whole = list(of(pairs).batches(2, 4, part=slice(0, 4)))
    half = list(of(pairs).batches(2, 4, part=slice(2, 4), workers=workers))
    for one, other in zip(whole, half, strict=True):
        torch.testing.assert_close(one.partners[2:], other.partners)
        torch.testing.assert_close(one.pictures[2:], other.pictures)
        torch.testing.assert_close(one.labels[2:], other.labels)


def test_embeddings_stand_in_for_pictures(pairs):
    vectors = np.arange(20, dtype=np.float32).reshape(10, 2)
    table = TableBatches(pairs, BIND, Preprocess(SMALL), seed=[0], pictures=vectors)
    (batch,) = table.batches(0, 1, part=slice(0, 4))
    np.testing.assert_array_equal(batch.pictures.numpy(), vectors[table.rows(0)])


def test_pictures_are_decoded_once(pairs, tmp_path):
    (pairs.path.parent / "3.png").write_text("no picture")
    Image.new("RGB", (300, 200), "red").save(pairs.path.parent / "4.png")
    path = tmp_path / "cache" / "pictures.u8"
    decoded = Pictures.decode(pairs, path, short=100, workers=1)
    assert decoded[4].size == (150, 100)
    np.testing.assert_array_equal(decoded[7], pairs[7].picture().data)
    with pytest.raises(Unreadable, match="row 4"):
        decoded[3]
    (pairs.path.parent / "7.png").unlink()
    again = pickle.loads(pickle.dumps(Pictures.decode(pairs, path, short=100, workers=1)))
    np.testing.assert_array_equal(again[7], decoded[7])
    batches = TableBatches(pairs, replace(BIND, image="none"), Preprocess(SMALL), seed=[0], pictures=again)
    (batch,) = batches.batches(0, 1, part=slice(0, 4))
    assert batch.pictures.shape == (4, 3, SMALL.vision.image_size, SMALL.vision.image_size)


TEXTS = [["a dog", "a poodle"], ["a dog", "a hound"], ["a cat"], ["a cat", "two cats play"]]
WORDED = [text for some in TEXTS for text in some]


@pytest.fixture
def named(tmp_path):
    """Four pictures with texts, of which two are right for two pictures."""
    rows = []
    for number, texts in enumerate(TEXTS):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "other": texts, "modality": "text", "label": None})
    path = tmp_path / "named.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return Pairs(path)


def worded(pairs: Pairs, **changes) -> tuple[TableBatches, Tokenizer]:
    tokenizer = train_tokenizer(WORDED, 400, context=SMALL.text.context)
    bind = replace(BIND, **changes)
    return TableBatches(pairs, bind, Preprocess(SMALL, tokenizer), seed=[0]), tokenizer


def test_all_texts_of_a_row_come_and_each_is_right_where_it_is_listed(named):
    table, tokenizer = worded(named, texts=3)
    drawn = set()
    for step, batch in enumerate(table.batches(0, 20, part=slice(0, 4))):
        ids = {tuple(tokenizer.encode([text])[0].tolist()): text for text in WORDED}
        texts = [ids[tuple(row.tolist())] for row in batch.partners]
        rows = table.rows(step)
        expected = [[text in TEXTS[row] for text in texts] for row in rows]
        assert (batch.target(lambda x: x) > 0).tolist() == expected
        assert all(texts[at] in TEXTS[row] for at, row in enumerate(rows))
        assert set(texts[4:]) <= {"a dog", "a cat"}
        drawn |= set(texts)
    assert drawn == set(WORDED)


def test_what_is_right_for_a_mixture_is_right_in_shares(named):
    table, _ = worded(named, mix=1.0)
    kept = []
    for step, batch in enumerate(table.batches(0, 8, part=slice(0, 4))):
        right = same(batch.labels, batch.names).float()
        right /= right.sum(dim=1, keepdim=True)
        share = batch.kept[:, None]
        expected = share * right + (1 - share) * right[[1, 0, 3, 2]]
        torch.testing.assert_close(batch.target(lambda x: x), expected, msg=f"step {step}")
        kept += batch.kept.tolist()
    assert 0 < min(kept) < max(kept) < 1
    parts = [
        next(table.batches(3, 4, part=part)).pictures for part in (slice(0, 4), slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(parts[0], torch.cat(parts[1:]))


def test_mixtures_are_blends_rectangles_and_the_one_within_the_other():
    x = torch.stack([torch.full((3, 20, 20), float(value)) for value in range(5)])
    draws = np.array([[0.1, 0.1, 0.7, 0.5, 0.5], [0.9, 0.5, 0.7, 0.5, 0.5]])
    blend, kept = mixed(x, draws, 0.5)
    assert blend[:2].flatten(1).unique(dim=1).flatten().tolist() == pytest.approx([0.3, 0.7])
    assert kept.tolist() == pytest.approx([0.7, 0.7, 1, 1, 1])
    torch.testing.assert_close(blend[2:], x[2:])  # the second two by chance, the last has no neighbour
    draws[:, 1] = 0.5, 0.9
    rectangle, kept = mixed(x, draws, 1.0)
    for one, other in ((0, 1), (1, 0)):
        values, counts = rectangle[one, 0].unique(return_counts=True)
        assert values.tolist() == [0, 1]
        assert counts[one] / 400 == pytest.approx(float(kept[one]))
        assert float(kept[one]) == pytest.approx(0.7, abs=0.06)
        within = (rectangle[2 + one, 0] - (2 + other)).abs() < 1e-4
        assert within.sum() == round(20 * 0.61) ** 2
        assert kept[2 + one] == 0.5


def test_what_cannot_be_decoded_is_told_and_stood_in_for(pairs, capsys):
    (pairs.path.parent / "3.png").write_text("no picture")
    table = of(unweighted(pairs))
    list(table.batches(0, 5, part=slice(0, 4)))
    assert "3.png" in capsys.readouterr().err


def test_rows_that_share_a_label_are_the_same():
    labels = ["dog", "dog|bark", None, "cat", "bark", None, "cat"]
    codes = torch.from_numpy(codes_of(labels, vocabulary(labels)))
    wanted = [
        [i == j or bool(a and b and set(a.split("|")) & set(b.split("|"))) for j, b in enumerate(labels)]
        for i, a in enumerate(labels)
    ]
    assert same(codes, codes).tolist() == wanted


# ---------------------------------------------------------------- what varies


@pytest.mark.parametrize("modality", [Modality.DEPTH, Modality.THERMAL])
@pytest.mark.parametrize("seed", range(5))
def test_depth_and_heat_show_what_their_picture_shows(modality, seed):
    """A picture whose grey is the depth: they stay equal, whatever part is taken and however it is turned."""
    plane = np.arange(40 * 30, dtype=np.float32).reshape(30, 40) % 251
    picture = Sample(Modality.IMAGE, Image.fromarray(plane.astype(np.uint8)).convert("RGB"))
    bind = Bind(temperature=0.1, image="weak", other=False)
    shown, partner = augment(picture, Sample(modality, plane), bind, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.asarray(shown.data)[..., 0], partner.data)
    assert partner.data.shape[0] == partner.data.shape[1]


def test_strong_variation_changes_colours_and_none_changes_nothing():
    image = Image.new("RGB", (20, 20), (200, 100, 50))
    picture, text = Sample(Modality.IMAGE, image), Sample(Modality.TEXT, "words")
    strong, said = augment(picture, text, Bind(temperature=1.0, image="strong"), np.random.default_rng(0))
    assert np.asarray(strong.data).mean(axis=(0, 1)).tolist() != [200, 100, 50]
    assert said is text
    assert augment(picture, text, Bind(temperature=1.0, image="none"), np.random.default_rng(0))[0] is picture


def test_sounds_and_motions_keep_their_shape_and_what_is_random_is_seeded():
    rng = np.random.default_rng(0)
    for sample in (
        Sample(Modality.AUDIO, rng.standard_normal(1600).astype(np.float32) * 0.1, rate_hz=16_000),
        Sample(Modality.IMU, rng.standard_normal((6, 250)).astype(np.float32), rate_hz=50),
    ):
        first, again, other = (
            augment(None, sample, Bind(temperature=1.0), np.random.default_rng(seed))[1].data
            for seed in (1, 1, 2)
        )
        assert first.shape == sample.data.shape
        assert first.dtype == np.float32
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_a_motion_is_turned_as_a_whole():
    """Gravity and rotation keep their lengths, up to one common factor."""
    data = np.tile(np.array([[0, 0, 9.81, 0, 1, 0]], np.float32).T, (1, 100))
    _, turned = augment(
        None, Sample(Modality.IMU, data, rate_hz=50), Bind(temperature=1.0), np.random.default_rng(3)
    )
    lengths = np.linalg.norm(turned.data[:3], axis=0) / 9.81, np.linalg.norm(turned.data[3:], axis=0)
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-4)
    assert 0.9 <= lengths[0].mean() <= 1.1


@pytest.mark.parametrize("seed", range(5))
def test_a_varied_tone_is_a_tone(seed):
    """Within three semitones, and 6 dB and the frequency response (6 standard deviations of 3 dB)."""
    hz, rate_hz = 1000, 16_000
    tone = 0.1 * np.sin(2 * np.pi * hz * np.arange(rate_hz) / rate_hz).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(varied_sound(tone, np.random.default_rng(seed))))
    assert abs(12 * np.log2(spectrum.argmax() / hz)) <= 3.1
    assert abs(20 * np.log10(spectrum.max() / np.abs(np.fft.rfft(tone)).max())) < 6 + 6 * 3
    assert len(varied_sound(tone[:0], np.random.default_rng(seed))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_varied_motion_keeps_its_tempo_and_loses_what_only_fast_sensors_record(seed):
    t = np.arange(500) / 50
    data = np.tile(np.sin(2 * np.pi * 2 * t) + np.sin(2 * np.pi * 20 * t), (6, 1)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(varied_motion(data, 50, np.random.default_rng(seed)))).max(axis=0)
    hz = np.fft.rfftfreq(500, 1 / 50)
    assert 2 * 0.85 - 0.1 <= hz[spectrum.argmax()] <= 2 * 1.15 + 0.1
    assert spectrum[hz > 15].max() < 1e-3 * spectrum.max()


def test_masks_are_bands():
    x = torch.ones(2, 1, 64, 204)
    masked = mask_mels(x.clone(), np.random.default_rng(4))
    for clip in masked[:, 0]:
        rows, columns = (clip == 0).all(dim=1), (clip == 0).all(dim=0)
        assert ((clip == 0) == (rows[:, None] | columns[None])).all()
        assert rows.sum() <= 6
        assert columns.sum() <= 41
