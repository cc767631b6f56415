import math

import pytest
import torch
from scipy import integrate, stats

from demos import generative_divergences as demo

P = demo.Params
CASES = [
    P(),
    P(data="uniform", model="normal", distance=0.7),
    P(data="two bumps", model="normal", data_scale=1.4, model_scale=2.0, distance=1.0),
    P(data="uniform", model="uniform", data_scale=0.6, model_scale=2.0, distance=0.5),
]


def _scipy(shape, scale, center):
    """The density and the distribution function, by scipy."""
    if shape == "two bumps":
        parts = [stats.norm(center + side * scale, scale / 3) for side in (-1, 1)]
        return lambda x: sum(part.pdf(x) for part in parts) / 2, lambda x: sum(part.cdf(x) for part in parts) / 2
    law = stats.norm(center, scale) if shape == "normal" else stats.uniform(center - scale, 2 * scale)
    return law.pdf, law.cdf


def _both(p):
    return _scipy(p.data, p.data_scale, 0.0), _scipy(p.model, p.model_scale, p.distance)


def _quad(function, p):
    jumps = [-p.data_scale, p.data_scale, p.distance - p.model_scale, p.distance + p.model_scale]
    return integrate.quad(function, -16, 16, points=jumps, limit=500)[0]


@pytest.mark.parametrize("p", CASES, ids=str)
def test_densities_agree_with_scipy(p):
    x = torch.linspace(-4, 5, 181, dtype=torch.float64)
    for ours, (density, below) in zip(demo.pair(p, p.distance), _both(p), strict=True):
        inside = (
            torch.ones_like(x).bool()
            if ours.shape != "uniform"
            else ((x - ours.center).abs() / ours.scale - 1).abs() > 1e-9
        )
        torch.testing.assert_close(ours.log(x).exp()[inside], torch.from_numpy(density(x.numpy()))[inside])
        torch.testing.assert_close(ours.below(x), torch.from_numpy(below(x.numpy())))


@pytest.mark.parametrize("p", CASES, ids=str)
def test_the_four_measures_agree_with_adaptive_quadrature(p):
    (f, below_f), (g, below_g) = _both(p)

    def log_ratio(x, top, bottom):
        return top(x) * math.log(top(x) / bottom(x)) if top(x) > 0 and bottom(x) > 0 else 0.0

    def middle(x):
        return (f(x) + g(x)) / 2

    forward, backward, js, w1 = demo.measure(p, torch.tensor([p.distance], dtype=torch.float64))[:, 0].tolist()
    if math.isfinite(forward):
        assert forward == pytest.approx(_quad(lambda x: log_ratio(x, f, g), p), abs=1e-6)
    if math.isfinite(backward):
        assert backward == pytest.approx(_quad(lambda x: log_ratio(x, g, f), p), abs=1e-6)
    halves = _quad(lambda x: log_ratio(x, f, middle), p) + _quad(lambda x: log_ratio(x, g, middle), p)
    assert js == pytest.approx(halves / 2, abs=1e-6)
    assert w1 == pytest.approx(_quad(lambda x: abs(below_f(x) - below_g(x)), p), abs=1e-3)


def test_kl_is_infinite_where_the_model_cannot_reach_the_data():
    forward, backward, js, _ = demo.measure(P(data="normal", model="uniform"), torch.tensor([1.0]))[:, 0].tolist()
    assert forward == math.inf and math.isfinite(backward) and js < math.log(2)


def test_w1_of_samples_agrees_with_scipy():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 300, dtype=torch.float64, generator=generator)
    assert demo.w1_of_samples(x, 2 * y + 1).item() == pytest.approx(stats.wasserstein_distance(x, 2 * y + 1))


@pytest.mark.parametrize("shape", demo.SHAPES)
def test_samples_follow_their_density(shape):
    density = demo.Density(shape, 1.5, torch.zeros((), dtype=torch.float64))
    drawn = density.draw(5_000, torch.Generator().manual_seed(0))
    test = stats.kstest(drawn.numpy(), lambda x: density.below(torch.from_numpy(x)).numpy())
    assert test.pvalue > 1e-4  # right draws fail at one seed in 10,000


def test_an_example_of_three_outcomes_agrees_with_scipy():
    """JS of (0.5, 0.3, 0.2) and (0.2, 0.3, 0.5) is 0.0664: sums in place of integrals."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    expected = stats.entropy(p, (p + q) / 2) / 2 + stats.entropy(q, (p + q) / 2) / 2
    x = torch.arange(3)[:, None]
    logs = [each.log()[:, None] for each in (p, q)]
    middle = torch.logaddexp(*logs) - math.log(2)
    ours = sum(demo.integral(each, each - middle, torch.ones_like(x)) for each in logs) / 2
    assert ours.item() == pytest.approx(expected) == pytest.approx(0.0664, abs=5e-5)


KL, JS, W1 = demo.kl, demo.js, demo.w1


def test_a_law_notices_every_mistake(laws_notice):
    apart = {"model_scale": 0.5, "data_scale": 2.0, "distance": 1.0}
    laws_notice(
        {
            "twice the JS": ({"js": lambda p, q: 2 * JS(p, q)}, ["js_is_at_most_log_2"], apart),
            "JS in bits": ({"js": lambda p, q: JS(p, q) / math.log(2)}, ["js_is_stuck_when_disjoint"], apart),
            "a squared distance": ({"w1": lambda p, q: W1(p, q).square()}, ["w1_grows_linearly"], apart),
            "JS for W1": ({"w1": JS}, ["w1_of_a_shift_is_the_shift"], apart),
            "KL the other way round": ({"kl": lambda p, q: KL(q, p)}, ["kl_of_normals"], apart),
            "KL for JS": ({"js": KL}, ["js_and_w1_are_symmetric"], apart),
            "a discriminator that is too sure": (
                {"discriminator": lambda p, q, x: 2 * (p.log(x) - q.log(x))},
                ["gan_value_is_js"],
                apart,
            ),
            "samples compared unsorted": (
                {"w1_of_samples": lambda x, y: (x - y).abs().mean()},
                ["sorting_agrees_with_the_area"],
                apart,
            ),
            "only one sample sorted": (
                {"w1_of_samples": lambda x, y: (x.sort().values - y).abs().mean()},
                ["samples_agree_with_the_densities"],
                apart,
            ),
        }
    )
