"""The rotation that the spectrum asks for is the one that the codes of FAISS are best with."""

from __future__ import annotations

import re

import numpy as np
import pytest

from xsearch.errors import UsageError
from xsearch.index import make_plan
from xsearch.index.plan import EASY, EASY_REFINE, GROWTH, REFINE
from xsearch.index.spectrum import GOOD, Code, Spectrum, best_code, codes

D = 64


def sample(intrinsic: int, n: int = 4_000) -> np.ndarray:
    """float32 [n, D], unit rows: a ball of `intrinsic` dimensions with an offset and a little noise."""
    rng = np.random.default_rng(intrinsic)
    basis, _ = np.linalg.qr(rng.standard_normal((D, intrinsic)))
    x = rng.standard_normal((n, intrinsic)) @ basis.T + 2 * rng.standard_normal(D) / 8
    x += 0.05 * rng.standard_normal((n, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_the_shares_are_those_of_the_singular_values():
    x = sample(8)
    spectrum = Spectrum.of(x)
    squares = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    for kept in (1, 8, 32, D):
        assert spectrum.share(kept) == pytest.approx(squares[:kept].sum() / squares.sum(), abs=1e-4)
    distances = np.sort(
        ((x[:, None, :8] - x[None, :, :8]) ** 2).sum(axis=2), axis=1
    )  # a slow, obvious oracle
    eight = Spectrum.of(np.ascontiguousarray(x[:, :8] / np.linalg.norm(x[:, :8], axis=1, keepdims=True)))
    assert 0 < eight.near < np.median(distances[:, -1])


def test_few_dimensions_are_kept_where_few_are_used():
    choices = codes(D, 4, (4, 8, 16, 32, 64))
    kept = [best_code(choices, Spectrum.of(sample(d)), 8).kept for d in (4, 48)]
    assert kept[0] < kept[1]


def test_a_code_is_as_short_as_it_can_be_and_fits():
    choices = codes(D, 4, (4, 8, 16, 32, 64))
    easy, hard = Spectrum.of(sample(4)), Spectrum.of(sample(48))
    assert easy.error(best_code(choices, easy, 64)) < hard.error(best_code(choices, hard, 64))
    assert best_code(choices, hard, 8).bytes <= 8
    assert best_code(choices, hard, 0) == min(
        (code for code in choices if code.bytes == 2), key=hard.error
    )  # there is none so short: the shortest
    assert Code(64, 32, 4).bytes == 16
    assert all(code.kept <= D for code in choices)


def test_good_codes_have_fewer_candidates_compared():
    for spread, memory in ((4, None), (48, None), (48, 20 * 100_000)):
        x = sample(spread)
        plan = make_plan(100_000, D, device="cpu", sample=x, memory_bytes=memory)
        kept, sub = map(int, re.match(r"PCAR(\d+),IVF\d+,PQ(\d+)", plan.recipe).groups())
        is_good = Spectrum.of(x).error(Code(kept, sub, 4)) <= GOOD
        assert (plan.refine, plan.growth) == ((EASY_REFINE, EASY) if is_good else (REFINE, GROWTH))
        assert is_good == (memory is None)


def test_vectors_that_are_all_the_same_have_a_plan():
    assert make_plan(100_000, D, device="cpu", sample=np.tile(sample(4, 1), (20, 1))).recipe


@pytest.mark.parametrize("intrinsic", [4, 16, 48])
def test_the_plan_says_what_it_saw(intrinsic):
    x = sample(intrinsic)
    plan = make_plan(100_000, D, device="cpu", sample=x)
    kept = int(plan.recipe.split(",")[0].removeprefix("PCAR"))
    assert f"{D} dimensions rotated to {kept}" in plan.why
    assert f"{Spectrum.of(x).share(kept):.1%} of the variance" in plan.why
    small = make_plan(100_000, D, device="cpu", sample=x, memory_bytes=100_000 * (8 + 4))
    assert "4 bytes an item" in small.why or "2 bytes an item" in small.why


def test_a_recipe_that_is_given_stays():
    plan = make_plan(100_000, D, recipe="IVF16,SQ8", sample=sample(4))
    assert (plan.recipe, plan.lists, plan.given) == ("IVF16,SQ8", 16, True)
    with pytest.raises(UsageError, match="does not know"):
        make_plan(100_000, D, recipe="IVF16,What", sample=sample(4))
