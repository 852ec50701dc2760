"""ImageBindBackend: order, laziness, agreement with the towers, threads."""

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import xsearch
from tests.fakes import FakeBackend
from xsearch.backend import Backend
from xsearch.backend.imagebind import ImageBindBackend, batch_size, in_parts
from xsearch.collection import Collection
from xsearch.errors import ModelError, ModelMismatch, UsageError
from xsearch.ingest.work import MIN_FAILURES
from xsearch.models import HUGE, SMALL, ImageBind, Preprocess, load_config, load_tower
from xsearch.models.vocabulary import save_words
from xsearch.types import Modality, Sample


def test_a_collection_remembers_the_folder_of_its_model(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_model.parent)
    Collection.create(tmp_path / "c", model=tiny_model.name)
    monkeypatch.chdir("/")
    collection = xsearch.open(tmp_path / "c")
    assert collection.backend.fingerprint == collection.snapshot().fingerprint
    with pytest.raises(ModelMismatch, match=f"--model {tiny_model}"):
        Collection(collection.store, backend=FakeBackend())


def test_it_is_pickled_as_what_loads_it(tiny_model, monkeypatch):
    monkeypatch.chdir(tiny_model.parent)
    backend = ImageBindBackend.load(f"./{tiny_model.name}", device="cpu", dtype="bf16")
    backend.warm([Modality.TEXT])
    pickled = pickle.dumps(backend)
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    assert len(pickled) < 1000
    assert again.fingerprint == backend.fingerprint
    assert again.capabilities() == backend.capabilities()
    np.testing.assert_array_equal(
        *(each.embed([Sample(Modality.TEXT, "a dog")]) for each in (backend, again))
    )


def draw(modality: Modality, seed: int) -> Sample:
    """A random sample, of a size that depends on the seed too."""
    rng = np.random.default_rng(seed)
    side = 100 + 10 * seed
    if modality is Modality.TEXT:
        return Sample(modality, " ".join(["dog"] * (seed + 1)))
    if modality is Modality.AUDIO:
        return Sample(modality, rng.normal(0, 0.1, 16_000 * (seed + 1)).astype(np.float32), rate_hz=16_000)
    if modality is Modality.IMU:
        return Sample(modality, rng.normal(0, 5, (6, side)).astype(np.float32), rate_hz=50.0)
    if modality is Modality.IMAGE:
        return Sample(modality, Image.fromarray(rng.integers(0, 256, (side, 120, 3), dtype=np.uint8)))
    if modality is Modality.VIDEO:
        return Sample(modality, rng.integers(0, 256, (3 + seed, 60, side, 3), dtype=np.uint8))
    return Sample(modality, rng.uniform(0, 1, (side, 120)).astype(np.float32))


def test_a_mixed_batch_is_its_samples_one_by_one(tiny_model):
    samples = [draw(modality, seed) for seed in range(3) for modality in Modality]
    backend = ImageBindBackend(tiny_model, device="cpu")
    together = backend.embed(samples)
    assert together.dtype == np.float32
    assert together.shape == (21, 24)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    apart = np.concatenate([backend.embed([sample]) for sample in samples])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert len(np.unique(together.round(5), axis=0)) == 21


def test_more_samples_than_a_batch(tiny_model):
    samples = [draw(Modality.IMU, seed % 7) for seed in range(70)]
    vectors = ImageBindBackend(tiny_model).embed(samples)
    np.testing.assert_allclose(vectors[:7], vectors[63:], atol=1e-6)


def test_only_the_towers_that_are_asked_for_are_read(tiny_model, tmp_path):
    for name in ("config.json", "tokenizer.json", "text.safetensors"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    backend = ImageBindBackend(tmp_path)
    assert backend.embed([draw(Modality.TEXT, 0)]).shape == (1, 24)
    with pytest.raises(ModelError, match="vision tower"):
        backend.embed([draw(Modality.IMAGE, 0)])


@pytest.mark.parametrize("words", [None, ["dog", "beach"]])
def test_a_window_of_a_text_is_read_whole(words, tiny_model, tmp_path):
    for name in ("config.json", "tokenizer.json", "text.safetensors"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    if words:
        save_words(words, tmp_path)
    backend = ImageBindBackend(tmp_path)
    text = "The dogs ran along the beach until nightfall, and nobody called them back. " * 5
    first, *_, last = windows = list(backend.windows(text))
    assert len(windows) > 1
    assert (len(first.split()) > 13) == bool(words)  # words that it has not learned take no room
    changed = [f"{window.rsplit(' ', 1)[0]} dog beach" for window in (first, last)]
    samples = [Sample(Modality.TEXT, each) for each in (first, changed[0], last, changed[1])]
    a, changed_a, b, changed_b = backend.embed(samples)
    assert np.abs(a - changed_a).max() > 1e-4  # its end counts
    assert np.abs(b - changed_b).max() > 1e-4
    assert list(backend.windows("A red\ndog.")) == ["A red dog."]


def test_vectors_are_the_models_own(tiny_model):
    config, digest = load_config(tiny_model)
    torch.manual_seed(0)
    model = ImageBind(config).eval()  # as in the fixture, but not rounded to float16
    sample = draw(Modality.THERMAL, 1)
    expected = model.towers["thermal"](Preprocess(config)([sample])).detach()
    backend: Backend = ImageBindBackend.load(str(tiny_model), device="cpu")
    np.testing.assert_allclose(backend.embed([sample]), expected, atol=5e-3)
    assert backend.fingerprint.name == "tiny"
    assert backend.fingerprint.digest == digest
    assert backend.fingerprint.preprocessing == config.preprocessing.stamp
    assert backend.fingerprint.dim == 24


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("int8", torch.float32)])
@pytest.mark.parametrize("modality", Modality)
def test_fewer_bits_keep_the_directions(modality, name, dtype, tiny_model, monkeypatch):
    monkeypatch.setattr("xsearch.models.precision.NARROW", 16)
    exact, coarse = (ImageBindBackend(tiny_model, device="cpu", dtype=each) for each in ("fp32", name))
    assert coarse.capabilities().dtype == name
    assert {p.dtype for p in coarse.tower("text").parameters() if p.ndim} == {dtype}
    sample = draw(modality, 1)
    a, b = exact.embed([sample]), coarse.embed([sample])
    assert b.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1.0, atol=1e-6)
    assert 0.99 < (a * b).sum() < 1


def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits():
    tried = []

    def tower(x):
        tried.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError
        return x * 2

    x = torch.arange(10)
    assert torch.equal(in_parts(tower, x), x * 2)
    assert tried == [10, 5, 3, 2, 5, 3, 2]
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(lambda x: tower(torch.zeros(4)), x[:1])


def test_nothing_becomes_no_rows(tiny_model):
    assert ImageBindBackend(tiny_model).embed([]).shape == (0, 24)


def test_an_unknown_device_is_refused(tiny_model):
    with pytest.raises(UsageError, match="nonsense"):
        ImageBindBackend(tiny_model, device="nonsense")


THREADS = 8


def in_threads(work: Callable[[int], object]) -> list:
    """What `work` returns in each of THREADS threads, which start at the same moment."""
    start = threading.Barrier(THREADS)

    def run(thread: int) -> object:
        start.wait(timeout=30)
        return work(thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_threads_that_share_a_backend_load_each_tower_once(monkeypatch):
    kinds = (Modality.TEXT, Modality.IMAGE, Modality.AUDIO)
    samples = [[draw(kind, seed) for kind in kinds] for seed in range(THREADS)]
    alone = ImageBindBackend.load("bundled", device="cpu", dtype="fp32")
    expected = [np.concatenate([alone.embed([sample]) for sample in some]) for some in samples]

    loaded = []

    def slow(folder, name, config, **options):
        loaded.append(name)
        time.sleep(0.05)  # in which others ask for it too
        return load_tower(folder, name, config, **options)

    monkeypatch.setattr("xsearch.backend.imagebind.load_tower", slow)
    shared = ImageBindBackend.load("bundled", device="cpu", dtype="fp32")

    def work(thread: int) -> np.ndarray:
        order = np.random.default_rng(thread).permutation(len(kinds))  # no thread has the same tower first
        vectors = np.empty_like(expected[thread])
        for row in order:
            vectors[row] = shared.embed([samples[thread][row]])
        np.testing.assert_allclose(shared.embed(samples[thread]), vectors, atol=1e-5)
        return vectors

    np.testing.assert_allclose(in_threads(work), expected, atol=1e-5)
    assert sorted(loaded) == ["audio", "text", "vision"]
    shared.warm(kinds)
    assert len(loaded) == 3


def test_a_loaded_tower_is_had_while_it_embeds(tiny_model):
    backend = ImageBindBackend(tiny_model)
    tower = backend.tower("imu")
    with ThreadPoolExecutor(1) as pool, backend._locks["imu"]:  # as during a batch
        assert pool.submit(backend.tower, "imu").result(timeout=10) is tower


def settings() -> tuple[int, int, bool]:
    return torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled()


def test_embedding_leaves_the_settings_for_threads_alone(tiny_model):
    backend, before = ImageBindBackend(tiny_model, device="cpu"), settings()

    def work(thread: int) -> list[tuple]:
        states = []
        for modality in Modality:
            backend.embed([draw(modality, thread)])
            states.append(settings())
        return states

    assert {state for states in in_threads(work) for state in states} == {before}
    assert settings() == before


def test_dense_features_leave_embeddings_as_they_are(tiny_model):
    pictures = [draw(Modality.IMAGE, seed) for seed in range(3)]
    untouched = ImageBindBackend(tiny_model, device="cpu").embed(pictures)
    backend = ImageBindBackend(tiny_model, device="cpu")
    dense = backend.dense(pictures)
    side = backend.config.vision.image_size // backend.config.vision.patch
    assert dense.shape == (3, side, side, 24)
    assert dense.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(dense, axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(backend.embed(pictures), untouched)


@pytest.mark.parametrize(
    ("device", "config", "expected"),
    [("cpu", SMALL, 32), ("cpu", HUGE, 8), ("cuda:1", HUGE, 256), ("mps", HUGE, 32)],
)
def test_batches_suit_the_device(device, config, expected):
    assert batch_size(torch.device(device), config) == expected
    assert expected >= MIN_FAILURES  # or an ingest would not notice that a model always fails
