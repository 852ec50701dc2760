"""The flow of a Gaussian, which is known exactly: noise e goes to mean + std * e."""

import itertools

import torch

from xsearch.generate.flow import draw_times, flow_loss, heun, noisy_vectors

MEAN, STD = 0.3, 0.5


def predicted(z, t):
    """E[x | z] where x is normal: what a perfect network predicts."""
    variance = t**2 * STD**2 + (1 - t) ** 2
    return MEAN + t * STD**2 / variance * (z - t * MEAN)


def velocity(z, t):
    return (predicted(z, t) - z) / (1 - t)


def test_the_sampler_draws_the_gaussian_with_an_error_of_second_order():
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)
    errors = [
        (heun(velocity, noise, steps) - (MEAN + STD * noise)).abs().max().item() for steps in (8, 16, 32, 64)
    ]
    ratios = [before / after for before, after in itertools.pairwise(errors)]
    assert errors[-1] < 1e-3
    assert all(3.3 < ratio < 5 for ratio in ratios), ratios  # 4 in the limit


def test_the_sampler_reports_every_step():
    ticks = []
    heun(lambda z, t: z, torch.zeros(1), 3, ticks.append)
    assert ticks == [1, 2, 3]


def test_the_loss_is_the_error_of_the_velocity():
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 5, 3, generator=generator)
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 0.99])
    assert flow_loss(lambda z, t: x, x, noise, t) == 0
    z = t[:, None] * x + (1 - t[:, None]) * noise
    rest = torch.tensor([1.0, 0.8, 0.5, 0.1, 0.05])[:, None]  # not below 0.05
    expected = (z.square() / rest).square().mean()
    torch.testing.assert_close(flow_loss(lambda z, t: x + z.square(), x, noise, t), expected)


def test_no_prediction_beats_the_expected_value():
    generator = torch.Generator().manual_seed(0)
    noise, x = torch.randn(2, 20_000, 1, generator=generator)
    x, t = MEAN + STD * x, draw_times(20_000, generator)

    def loss(change):
        return flow_loss(lambda z, t: predicted(z, t[:, None]) + change(z), x, noise, t)

    best = loss(torch.zeros_like)
    assert all(loss(lambda z, c=c: c * torch.ones_like(z)) > best for c in (-0.1, 0.1))
    assert all(loss(lambda z, c=c: c * z) > best for c in (-0.1, 0.1))


def test_times_are_logit_normal():
    t = draw_times(20_000, torch.Generator().manual_seed(0))
    logits = torch.logit(t)
    torch.testing.assert_close(logits.mean(), torch.tensor(-0.8), atol=0.02, rtol=0)
    torch.testing.assert_close(logits.std(), torch.tensor(0.8), atol=0.02, rtol=0)


def test_noise_of_a_level_turns_vectors_by_its_angle():
    generator = torch.Generator().manual_seed(0)
    clean = torch.nn.functional.normalize(torch.randn(500, 256, generator=generator), dim=1)
    levels = torch.linspace(0, 1.5, 500)
    noisy = noisy_vectors(clean, levels, torch.randn(500, 256, generator=generator))
    torch.testing.assert_close(noisy.norm(dim=1), torch.ones(500))
    torch.testing.assert_close(noisy[0], clean[0])
    cosines = (noisy * clean).sum(dim=1)
    torch.testing.assert_close(cosines, 1 / (1 + levels**2).sqrt(), atol=0.15, rtol=0)
