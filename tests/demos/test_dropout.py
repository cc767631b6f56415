import itertools
import math

import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional

from demos import dropout as demo

FACTORS = demo.dropout_factors


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("drops", [demo.UNIT, demo.CHANNEL])
def test_dropout_has_the_values_and_the_shares_of_torchs(drops):
    shape = torch.Size((4_000, 5, 5))
    ours = demo.dropout_factors(shape, 0.3, _generator(), drops=drops)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = (functional.dropout if drops == demo.UNIT else functional.dropout2d)(torch.ones(4_000, 1, 5, 5), 0.3)
    torch.testing.assert_close(ours.unique(), theirs.unique())
    # Nearly seven standard errors of the difference, where 4,000 channels are drawn; 0.3 for 0.7 would be forty away.
    kept = [float((factors > 0).float().mean()) for factors in (ours, theirs)]
    assert kept[0] == pytest.approx(kept[1], abs=0.07)
    whole = [bool((f.reshape(4_000, 25).amax(1) == f.reshape(4_000, 25).amin(1)).all()) for f in (ours, theirs)]
    assert whole == [drops == demo.CHANNEL] * 2


def test_the_window_mean_agrees_with_a_loop_over_what_is_inside():
    y = torch.rand(1, 5, 6, generator=_generator())
    for side in (1, 2, 3, 4):
        means = demo.window_mean(y, side)
        for row, column in itertools.product(range(5), range(6)):
            top, left = row - (side - 1) // 2, column - (side - 1) // 2
            inside = y[0, max(top, 0) : top + side, max(left, 0) : left + side]
            assert means[0, row, column].item() == pytest.approx(inside.mean().item(), rel=1e-5)


def test_the_noise_is_that_of_the_card():
    assert demo.averaged_noise(0.5, 9) == pytest.approx(1 / 3)
    assert demo.averaged_noise(0.5, 100) == pytest.approx(0.1)
    assert demo.averaged_noise(0.5, 9, demo.CHANNEL) == 1


def test_every_mask_is_there_once_and_their_probabilities_sum_to_one():
    masks = demo.all_masks(5)
    assert len({tuple(mask) for mask in masks.tolist()}) == 32
    assert demo.mask_weights(masks, 0.2).sum().item() == pytest.approx(1)
    assert demo.mask_weights(torch.tensor([[1.0, 0.0, 1.0]]), 0.2).item() == pytest.approx(0.8 * 0.2 * 0.8)


def test_the_geometric_mean_agrees_with_a_product_of_roots():
    p = torch.softmax(torch.randn(3, 4, dtype=torch.float64, generator=_generator()), -1)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    product = [math.prod(p[m, k].item() ** shares[m].item() for m in range(3)) for k in range(4)]
    expected = [value / sum(product) for value in product]
    assert demo.geometric_mean(p.log(), shares).tolist() == pytest.approx(expected)


def test_the_ridge_objective_is_smallest_where_scikit_learns_ridge_is():
    x = torch.randn(30, 4, dtype=torch.float64, generator=_generator())
    y = torch.randn(30, dtype=torch.float64, generator=_generator(1))
    # With columns of one length the penalty is the same for every weight, as in scikit-learn.
    x = x / x.norm(dim=0)
    theirs = torch.from_numpy(Ridge(alpha=0.4 / 0.6, fit_intercept=False).fit(x.numpy(), y.numpy()).coef_)
    weight = theirs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(demo.ridge_objective(x, y, weight, 0.4), weight)
    assert slope.abs().max() < 1e-12


def test_at_test_time_the_picture_is_the_same_before_and_after():
    result = demo.run(demo.Params(training=False, window=1))
    assert torch.equal(result.dropped, result.features)
    assert torch.equal(result.averaged[0], result.averaged[1])


def test_the_full_net_is_drawn_where_the_geometric_mean_lies():
    result = demo.run(demo.Params(inputs=3, seed=4))
    logs = torch.stack([result.thinned, 1 - result.thinned], -1).log()
    assert demo.geometric_mean(logs, result.weights)[0].item() == pytest.approx(result.full)


def test_a_law_notices_every_mistake(laws_notice):
    def unscaled(shape, rate, generator, **how):
        return FACTORS(shape, rate, generator, **how) * (1 - rate)

    def always(shape, rate, generator, drops=demo.UNIT, training=True):
        return FACTORS(shape, rate, generator, drops=drops)

    def swapped(shape, rate, generator, **how):
        return FACTORS(shape, 1 - rate, generator, **how)

    def single(shape, rate, generator, drops=demo.UNIT, training=True):
        return FACTORS(shape, rate, generator, training=training)

    def plain(x, y, weight, rate):
        return (y - x @ weight).square().sum() + rate / (1 - rate) * weight.square().sum()

    laws_notice(
        {
            "forgetting the scale": (
                {"dropout_factors": unscaled},
                ["keeps_the_mean", "variance_as_stated", "averaging_leaves_channel_noise", "identity_at_test_time"],
            ),
            "dropping at test time": ({"dropout_factors": always}, ["identity_at_test_time"]),
            "taking the rate for the share kept": ({"dropout_factors": swapped}, ["variance_as_stated"], {"rate": 0.3}),
            "single units dropped for channels": (
                {"dropout_factors": single},
                ["channels_are_whole", "averaging_leaves_channel_noise"],
            ),
            "a plain mean for the geometric one": (
                {"geometric_mean": lambda logs, weights: weights @ logs.exp()},
                ["full_net_is_the_geometric_mean"],
            ),
            "a penalty without the length of the inputs": (
                {"ridge_objective": plain},
                ["linear_regression_becomes_ridge"],
            ),
            "thinned nets without the scale": (
                {"thinned_logits": lambda x, weight, rate, masks: (x * masks) @ weight},
                ["full_net_is_the_geometric_mean"],
            ),
            "thinned nets with equal weights": (
                {"mask_weights": lambda masks, rate: torch.full((len(masks),), 1 / len(masks)).double()},
                ["full_net_is_the_geometric_mean"],
                {"rate": 0.3},
            ),
        }
    )
