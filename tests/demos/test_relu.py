import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from demos import relu as demo


def _stack(depth=4, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return demo.draw_inputs(3, width, generator), demo.draw_weights(depth, width, 2.0, generator)


def test_relu_is_exact_and_lets_nan_through():
    z = torch.tensor([-math.inf, -1.0, -0.0, 0.0, 2.5, math.inf, math.nan])
    assert demo.relu(z).tolist()[:-1] == [0, 0, 0, 0, 2.5, math.inf]
    assert demo.relu(z)[-1].isnan()


@pytest.mark.parametrize("name", demo.ACTIVATIONS)
def test_every_slope_is_that_of_a_central_difference(name):
    f, slope = demo.ACTIVATIONS[name]
    z = torch.linspace(-4.05, 4.05, 82, dtype=torch.float64)  # does not touch the kink at 0
    torch.testing.assert_close(slope(z), (f(z + 1e-6) - f(z - 1e-6)) / 2e-6, rtol=0, atol=1e-8)


def test_the_stack_agrees_with_a_loop_over_samples_and_units():
    x, weights = _stack()
    before = demo.forward(x, weights, 0.3, demo.relu)
    for sample in range(3):
        h = x[sample].tolist()
        for layer, w in enumerate(weights.tolist()):
            z = [sum(row[i] * h[i] for i in range(5)) + 0.3 for row in w]
            assert before[layer, sample].tolist() == pytest.approx(z)
            h = [max(value, 0.0) for value in z]


def test_the_gradient_agrees_with_finite_differences():
    x, weights = _stack()
    towards = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(at):
        return float((torch.tanh(demo.forward(at, weights, 0.3, torch.tanh)[-1]) * towards).sum())

    slopes = demo.tanh_slope(demo.forward(x, weights, 0.3, torch.tanh))
    gradient = demo.backward(towards, weights, slopes)[0]
    for sample, unit in ((0, 0), (1, 3), (2, 4)):
        step = torch.zeros_like(x)
        step[sample, unit] = 1e-6
        assert gradient[sample, unit].item() == pytest.approx((loss(x + step) - loss(x - step)) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("variance", [0.5, 1.0, 2.0, 8.0])
def test_wide_relu_layers_change_the_gradient_by_the_root_of_half_the_variance(variance):
    predicted = demo.wide_gradient(10, variance, 0.0, demo.relu, demo.relu_slope)
    expected = (variance / 2) ** (torch.arange(10, -1, -1, dtype=torch.float64) / 2)
    torch.testing.assert_close(predicted, expected, rtol=1e-9, atol=0)


def test_the_mean_over_a_normal_number_agrees_with_gauss_hermite_quadrature():
    nodes, weights = (torch.from_numpy(a) for a in hermegauss(60))
    expected = 1.5 * (weights @ demo.tanh_slope(math.sqrt(1.5) * nodes + 0.4).square()) / weights.sum()
    predicted = demo.wide_gradient(1, 1.5, 0.4, torch.tanh, demo.tanh_slope)
    assert predicted[0].item() ** 2 == pytest.approx(expected.item(), rel=1e-6)


def test_a_strong_negative_bias_leaves_every_unit_dead_and_no_gradient():
    result = demo.run(demo.Params(bias=-3.0))
    assert result.silent[0, -1] == 1 and result.gradient[0, 0] == 0


def test_a_law_notices_every_mistake(laws_notice):
    backward = demo.backward
    laws_notice(
        {
            "a gradient through weights not transposed": (
                {"backward": lambda g, weights, slopes: backward(g, weights.mT, slopes)},
                ["gradient_is_the_product"],
            ),
            "a leaky ReLU": (
                {"relu": lambda z: torch.where(z > 0, z, 0.3 * z)},
                ["relu_halves_the_mean_square"],
            ),
            "a slope without its factor shrinks too little to be a sigmoids": (
                {"sigmoid_slope": torch.sigmoid},
                ["sigmoid_shrinks"],
            ),
            "a threshold off zero": ({"relu_slope": lambda z: (z > 0.1).double()}, ["share_of_inactive_units"]),
            "a slope of one everywhere": (
                {"ACTIVATIONS": {**demo.ACTIVATIONS, "ReLU": (demo.relu, torch.ones_like)}},
                ["functions_are_torchs", "gradient_is_the_product"],
            ),
        }
    )
