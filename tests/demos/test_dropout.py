import itertools
import math

import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional

from demos import dropout as demo
from demos import kit

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


def test_forgetting_the_scale_breaks_mean_variance_and_noise(monkeypatch):
    def unscaled(shape, rate, generator, **how):
        return FACTORS(shape, rate, generator, **how) * (1 - rate)

    monkeypatch.setattr(demo, "dropout_factors", unscaled)
    assert not demo.keeps_the_mean.run(demo.Params()).holds
    assert not demo.variance_as_stated.run(demo.Params()).holds
    assert not demo.averaging_leaves_channel_noise.run(demo.Params()).holds
    assert not demo.identity_at_test_time.run(demo.Params()).holds


def test_dropping_at_test_time_is_no_identity(monkeypatch):
    def always(shape, rate, generator, drops=demo.UNIT, training=True):
        return FACTORS(shape, rate, generator, drops=drops)

    monkeypatch.setattr(demo, "dropout_factors", always)
    assert not demo.identity_at_test_time.run(demo.Params()).holds


def test_taking_the_rate_for_the_share_kept_breaks_the_variance(monkeypatch):
    def swapped(shape, rate, generator, **how):
        return FACTORS(shape, 1 - rate, generator, **how)

    monkeypatch.setattr(demo, "dropout_factors", swapped)
    assert not demo.variance_as_stated.run(demo.Params(rate=0.3)).holds


def test_single_units_dropped_for_channels_break_their_laws(monkeypatch):
    def single(shape, rate, generator, drops=demo.UNIT, training=True):
        return FACTORS(shape, rate, generator, training=training)

    monkeypatch.setattr(demo, "dropout_factors", single)
    assert not demo.channels_are_whole.run(demo.Params()).holds
    assert not demo.averaging_leaves_channel_noise.run(demo.Params()).holds


def test_thinned_nets_without_the_scale_or_with_equal_weights_do_not_average_to_the_full_one(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(demo, "thinned_logits", lambda x, weight, rate, masks: (x * masks) @ weight)
        assert not demo.full_net_is_the_geometric_mean.run(demo.Params()).holds
    monkeypatch.setattr(demo, "mask_weights", lambda masks, rate: torch.full((len(masks),), 1 / len(masks)).double())
    assert not demo.full_net_is_the_geometric_mean.run(demo.Params(rate=0.3)).holds


def test_a_plain_mean_is_not_the_full_net(monkeypatch):
    monkeypatch.setattr(demo, "geometric_mean", lambda logs, weights: weights @ logs.exp())
    assert not demo.full_net_is_the_geometric_mean.run(demo.Params()).holds


def test_a_penalty_without_the_length_of_the_inputs_is_not_what_dropout_adds(monkeypatch):
    def plain(x, y, weight, rate):
        return (y - x @ weight).square().sum() + rate / (1 - rate) * weight.square().sum()

    monkeypatch.setattr(demo, "ridge_objective", plain)
    assert not demo.linear_regression_becomes_ridge.run(demo.Params()).holds


def test_the_finding_holds():
    assert kit.load("dropout").checks["more_accurate_on_few_data"].run(None).holds
