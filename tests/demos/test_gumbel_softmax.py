import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from demos import gumbel_softmax as demo

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()
PAIR = torch.tensor([0.3, 0.7], dtype=torch.float64).log()


def _noise(count=2_000, classes=4, seed=0):
    return demo.gumbel(count, classes, generator=torch.Generator().manual_seed(seed))


def _over_logistic_noise(of, temperature):
    """Mean over the difference of two Gumbel variables, which is logistic; the tie at its kink is a break point."""
    tie = float(PAIR[1] - PAIR[0])
    width = 30 * temperature
    return sum(
        integrate.quad(lambda x: of(x) * stats.logistic.pdf(x), low, high, limit=400)[0]
        for low, high in ((-40, tie - width), (tie - width, tie), (tie, tie + width), (tie + width, 40))
    )


def _pair_gradient(x, temperature, *, hard):
    """Gradient in the first of two logits of one sample whose noises differ by x, written out by hand."""
    y = 1 / (1 + math.exp(min(700.0, -(float(PAIR[0] - PAIR[1]) + x) / temperature)))
    second = float(y < 0.5) if hard else 1 - y
    return y * (1 - y) / temperature * (0 - 4 * (second - 0.45) ** 3)


def test_the_noise_has_the_distribution_function_of_scipy():
    """Right noise fails at one seed in a thousand."""
    assert stats.kstest(_noise(100_000, 1).flatten().numpy(), stats.gumbel_r.cdf).pvalue > 1e-3


def test_the_noise_is_finite_even_where_the_uniform_number_is_zero(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, dtype, generator: torch.zeros(*shape, dtype=dtype))
    assert demo.gumbel(3, generator=torch.Generator()).isfinite().all()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_equal_noise_gives_the_samples_of_torch(temperature, hard):
    logits = LOGITS.expand(500, -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = torch.nn.functional.gumbel_softmax(logits, temperature, hard=hard)
        torch.manual_seed(1)
        noise = -torch.empty_like(logits, memory_format=torch.legacy_contiguous_format).exponential_().log()
    torch.testing.assert_close(demo.gumbel_softmax(LOGITS, noise, temperature, hard=hard), theirs)


def test_a_hard_sample_is_exactly_one_hot():
    z = demo.gumbel_softmax(LOGITS, _noise(), 0.7, hard=True)
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert z.sum(-1).tolist() == [1.0] * len(z)


def test_the_slope_is_the_gradient_of_the_loss():
    z = demo.gumbel_softmax(LOGITS, _noise(50), 1.0).requires_grad_()
    (autograd,) = torch.autograd.grad(demo.loss(z, 3.0).sum(), z)
    torch.testing.assert_close(demo.slope(z), autograd)


def test_the_exact_gradient_is_that_of_the_enumerated_mean_loss():
    logits = LOGITS.clone().requires_grad_()
    mean = sum(torch.softmax(logits, -1)[k] * (7.0 + (k / 3 - 0.45) ** 4) for k in range(4))
    (autograd,) = torch.autograd.grad(mean, logits)
    torch.testing.assert_close(demo.exact_gradient(LOGITS), autograd)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_mean_and_spread_of_the_gradient_agree_with_quadrature(temperature, hard):
    """Two classes: the integral is one-dimensional. Five standard errors: fails at about one seed in a million."""
    mean = _over_logistic_noise(lambda x: _pair_gradient(x, temperature, hard=hard), temperature)
    square = _over_logistic_noise(lambda x: _pair_gradient(x, temperature, hard=hard) ** 2, temperature)
    spread = math.sqrt(square - mean**2)
    noise = _noise(200_000, 2)
    y = demo.gumbel_softmax(PAIR, noise, temperature)
    forward = demo.gumbel_softmax(PAIR, noise, temperature, hard=hard)
    gradients = demo.relaxed_gradients(y, forward, temperature)
    assert float(gradients[:, 0].mean()) == pytest.approx(mean, abs=5 * spread / math.sqrt(len(noise)))
    assert float(gradients[:, 0].std()) == pytest.approx(spread, rel=0.03)


def test_the_cold_limit_of_straight_through_agrees_with_quadrature():
    mean = _over_logistic_noise(lambda x: _pair_gradient(x, 1e-3, hard=True), 1e-3)
    assert float(demo._straight_through_limit(PAIR)[0]) == pytest.approx(mean, rel=2e-3)


def test_the_rate_towards_one_hot_agrees_with_quadrature():
    def distance(x):
        return 1 / (1 + math.exp(min(700.0, abs(float(PAIR[0] - PAIR[1]) + x) / 1e-3)))

    rate = _over_logistic_noise(distance, 1e-3) / 1e-3
    assert rate == pytest.approx(math.log(2) * (1 - 0.3**2 - 0.7**2), rel=2e-3)


def test_bias_error_and_spread_agree_with_their_definitions():
    gradients, exact = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double(), torch.ones(3).double()
    rows = gradients.numpy()
    variance = rows.var(0, ddof=1).sum()
    off = np.linalg.norm(rows.mean(0) - 1) ** 2 - variance / 40
    expected = np.sqrt([off, variance / 40, variance]) / math.sqrt(3)
    np.testing.assert_allclose(demo.bias_error_spread(gradients, exact), expected)


def test_the_chi_square_test_agrees_with_scipy():
    winners = (LOGITS + _noise(5_000)).argmax(-1)
    counts = np.bincount(winners, minlength=4)
    uniform = torch.full((4,), 0.25, dtype=torch.float64)
    for probabilities in (LOGITS.exp(), torch.tensor([0.49, 0.31, 0.15, 0.05], dtype=torch.float64), uniform):
        expected = stats.chisquare(counts, 5_000 * probabilities.numpy()).pvalue
        assert float(demo._chi_square_p(winners, probabilities)) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_the_triangle_has_sides_of_length_one_and_its_center_for_the_uniform_point():
    corners = demo.on_triangle(torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(torch.pdist(corners), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(demo.on_triangle(torch.full((3,), 1 / 3, dtype=torch.float64)), corners.mean(0))


def test_the_temperature_moves_the_samples_but_not_the_winners():
    cold, hot = demo.run(demo.Params(temperature=0.1)), demo.run(demo.Params(temperature=10.0))
    assert torch.equal(cold.winners, hot.winners) and torch.equal(cold.bias, hot.bias)
    assert cold.soft.amax(-1).mean() > 0.9 > 0.5 > hot.soft.amax(-1).mean()


@pytest.mark.parametrize(
    "params", [demo.Params(temperature=0.1), demo.Params(temperature=10.0), demo.Params(hard=True)]
)
def test_the_histogram_counts_every_sample(params):
    assert float(demo.run(params).largest.sum()) == pytest.approx(1.0)


def test_the_mean_of_hard_samples_is_the_share_of_wins():
    result = demo.run(demo.Params(hard=True))
    torch.testing.assert_close(result.mean, result.shares)


@pytest.mark.parametrize("probabilities", [(0.5, 0.3, 0.2), (0.5, 0.5), (0.4, 0.3, 0.2, 0.1)])
def test_three_classes_are_drawn_on_a_triangle_and_others_as_bars(probabilities):
    params = demo.Params(probabilities=probabilities)
    samples = next(iter(demo.figure(params, demo.run(params)).values()))
    assert {trace.type for trace in samples.data} == ({"scatter"} if len(probabilities) == 3 else {"bar"})


def test_a_constant_in_the_loss_hurts_reinforce_alone():
    without, with_constant = demo.run(demo.Params()), demo.run(demo.Params(offset=1.0))
    assert torch.equal(without.spread[:2], with_constant.spread[:2])
    assert with_constant.spread[2, 0] > 10 * without.spread[2, 0]


def test_a_law_notices_every_mistake(laws_notice):
    def past_the_softmax(logits, noise, temperature, *, hard=False):
        soft = torch.softmax((logits + noise) / temperature, -1)
        return demo.one_hot(soft.argmax(-1), 3) + (logits - logits.detach()) if hard else soft

    _cooled = demo._cooled
    laws_notice(
        {
            "noise without its second logarithm": (
                {
                    "gumbel": lambda *shape, generator: torch.rand(
                        *shape, dtype=torch.float64, generator=generator
                    ).log()
                },
                ["noise_mean", "noise_variance", "largest_entry_follows_pi", "agrees_with_torch", "one_hot_limit"],
            ),
            "noise with the wrong sign": (
                {"gumbel": lambda *shape, generator, right=demo.gumbel: -right(*shape, generator=generator)},
                ["noise_mean", "largest_entry_follows_pi", "agrees_with_torch"],
            ),
            "Gaussian noise": (
                {"gumbel": lambda *shape, generator: torch.randn(*shape, dtype=torch.float64, generator=generator)},
                ["noise_mean", "noise_variance", "largest_entry_follows_pi", "agrees_with_torch"],
            ),
            "the noise left out of the softmax": (
                {"gumbel_softmax": lambda z, g, t, hard=False: torch.softmax((z + 0 * g) / t, -1)},
                ["largest_entry_follows_pi", "one_hot_limit", "agrees_with_torch", "variance_grows_as_tau_falls"],
            ),
            "the temperature multiplied": (
                {"gumbel_softmax": lambda z, g, t, hard=False: torch.softmax((z + g) * t, -1)},
                ["one_hot_limit", "uniform_limit", "agrees_with_torch", "gradient_formula"],
            ),
            "the softmax over the samples": (
                {"gumbel_softmax": lambda z, g, t, hard=False: torch.softmax((z + g) / t, 0)},
                ["largest_entry_follows_pi", "one_hot_limit", "uniform_limit", "agrees_with_torch", "gradient_formula"],
            ),
            "a gradient without 1/τ": (
                {"relaxed_gradients": lambda y, at, t, right=demo.relaxed_gradients: right(y, at, t) * t},
                ["gradient_formula", "variance_grows_as_tau_falls"],
            ),
            "a gradient without the other classes": (
                {"relaxed_gradients": lambda y, at, t: y * demo.slope(at) / t},
                ["gradient_formula"],
            ),
            "a score without the mean": (
                {"reinforce_gradients": lambda logits, z, offset=0.0: demo.loss(z, offset)[:, None] * z},
                ["reinforce_is_unbiased"],
            ),
            "a straight through gradient that goes past the softmax": (
                {"gumbel_softmax": past_the_softmax},
                ["gradient_formula"],
                {"hard": True},
            ),
            "soft samples for straight-through ones": (
                {"_cooled": lambda temperature, hard: _cooled(temperature)},
                ["straight_through_stays_biased"],
            ),
        }
    )
