"""Batches and the loop, on random numbers and towers of sixteen dimensions."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from xsearch.models.config import SMALL
from xsearch.models.imagebind import ImageBind
from xsearch.train import Recipe, ScenePairs, train
from xsearch.train.pairs import CAPTIONS, GRID, ROUND

TINY = replace(
    SMALL,
    embed_dim=8,
    **{
        name: replace(getattr(SMALL, name), width=16, depth=1, heads=2, stem=())
        for name in ("vision", "text", "audio", "depth", "thermal", "imu")
    },
)


@pytest.fixture(scope="module")
def pairs() -> ScenePairs:
    rng = np.random.default_rng(0)
    n, c = 2 * ROUND, TINY
    shapes = {
        "vision": (n, 3, c.vision.image_size, c.vision.image_size),
        "audio": (n, c.audio.clips, 1, c.audio.mels, c.audio.frames),
        "depth": (n, 1, c.depth.image_size, c.depth.image_size),
        "thermal": (n, 1, c.thermal.image_size, c.thermal.image_size),
        "imu": (n, 6, c.imu.samples),
    }
    arrays = {
        name: rng.standard_normal(shape, np.float32).astype(np.float16) for name, shape in shapes.items()
    }
    arrays["text"] = rng.integers(1, c.text.vocab - 1, (n, CAPTIONS, c.text.context)).astype(np.int16)
    arrays["text"][..., 5] = c.text.vocab - 1
    return ScenePairs(arrays, rng.permutation(np.repeat(np.arange(ROUND), 2)))


def test_a_batch_holds_every_kind_once_and_an_epoch_every_scene(pairs):
    numbered = replace(pairs, arrays={"imu": np.arange(2 * ROUND)})
    rows = [numbered.batch(step, 3, ["imu"])["imu"].long().numpy() for step in range(2)]
    assert all(sorted(pairs.kinds[r]) == list(range(ROUND)) for r in rows)
    assert sorted(np.concatenate(rows)) == list(range(2 * ROUND))


def test_the_sound_of_an_empty_place_comes_with_any_picture_of_it(pairs):
    numbered = replace(pairs, arrays={"vision": np.arange(2 * ROUND), "audio": np.arange(2 * ROUND)[:, None]})
    seen = set()
    for step in range(20):
        batch = {
            name: x.long().ravel()
            for name, x in numbered.batch(step, 3, ["vision", "audio"], silent=True).items()
        }
        kinds = {name: pairs.kinds[rows].reshape(GRID) for name, rows in batch.items()}
        assert (kinds["vision"][1:] == kinds["audio"][1:]).all()
        assert (kinds["vision"][0] % GRID[1] == kinds["audio"][0]).all()  # the same places
        seen |= set(kinds["vision"][0] // GRID[1])
    assert seen == set(range(GRID[0]))


@dataclass(frozen=True)
class PowerFails(ScenePairs):
    """The same pairs, until the power fails in the second step of this modality."""

    during: str = ""

    def batch(self, step, seed, names, **how):
        if step == 1 and self.during in names:
            raise KeyboardInterrupt
        return super().batch(step, seed, names, **how)


@pytest.mark.parametrize("during", ["text", "depth"])
def test_an_interrupted_run_ends_where_another_would_have(pairs, tmp_path, during):
    recipe = Recipe(steps=(("text", 2), ("depth", 2)), warmup=1)
    whole = train(pairs, TINY, recipe, tmp_path / "whole")
    failing = PowerFails(pairs.arrays, pairs.kinds, during)
    with pytest.raises(KeyboardInterrupt):
        train(failing, TINY, recipe, tmp_path / "cut", checkpoint_s=0)
    resumed = train(pairs, TINY, recipe, tmp_path / "cut")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_only_pairs_with_pictures_are_compared_and_pictures_rest_after_texts(pairs, tmp_path):
    """Sound does not change when the texts do, and pictures do not change when the sounds do."""
    start = (("text", 0), ("audio", 1), ("imu", 1))
    other = replace(pairs, arrays=pairs.arrays | {"text": pairs.arrays["text"][::-1].copy()})
    a, b = (train(p, TINY, Recipe(steps=start), tmp_path / n) for p, n in ((pairs, "a"), (other, "b")))
    torch.testing.assert_close(a.towers["audio"].state_dict(), b.towers["audio"].state_dict())
    torch.manual_seed(0)
    untouched = ImageBind(TINY)
    torch.testing.assert_close(a.towers["vision"].state_dict(), untouched.towers["vision"].state_dict())
    assert (a.towers["audio"].head.proj.weight != untouched.towers["audio"].head.proj.weight).any()


def test_the_learning_rate_warms_up_and_fades():
    recipe = Recipe(warmup=10, lr=1.0)
    rates = [recipe.lr_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] < 0.01
