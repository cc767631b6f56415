import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from demos import channel_gating as demo
from demos import kit


def _layer(parts=4, grouped=True, threshold=0.0):
    generator = torch.Generator().manual_seed(0)
    base = demo.base_channels(parts, grouped)
    layer = demo.build(lambda: demo.GatedConvolution(base, threshold), generator).double()
    return layer, torch.randn(2, demo.CHANNELS, 8, 8, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("grouped", [True, False])
def test_an_output_agrees_with_sums_made_channel_by_channel(grouped):
    layer, x = _layer(grouped=grouped)
    with torch.no_grad():
        output, decision = layer(x)
        weight = layer.convolution.weight
        for channel in range(demo.CHANNELS):
            first = channel // 4 * 4 if grouped else 0
            terms = [
                functional.conv2d(x[:, i : i + 1], weight[channel : channel + 1, i : i + 1], padding=1)[:, 0]
                for i in range(demo.CHANNELS)
            ]
            partial = sum(terms[first : first + 4])
            score = (partial - partial.mean()) / (partial.var(unbiased=False) + 1e-5).sqrt()
            expected = torch.where(score > 0, sum(terms), partial)
            torch.testing.assert_close(output[:, channel], expected, rtol=0, atol=1e-12)
            assert torch.equal(decision[:, channel] > 0, score > 0)


def test_a_decision_takes_the_slope_of_a_sigmoid():
    score = torch.linspace(-3, 3, 11, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(demo.Step.apply(score).sum(), score)
    (expected,) = torch.autograd.grad(torch.sigmoid(2 * score).sum(), score)
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-14)


def test_shuffling_agrees_with_torch_and_brings_every_group_together():
    x = torch.rand(2, demo.CHANNELS, 3, 3)
    assert torch.equal(demo.channel_shuffle(x, 4), nn.ChannelShuffle(4)(x))
    groups = (torch.arange(demo.CHANNELS) // 4).float().reshape(1, -1, 1, 1)
    dealt = demo.channel_shuffle(groups, 4).flatten().reshape(4, 4)
    assert all(set(group.tolist()) == {0, 1, 2, 3} for group in dealt)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_grouped_every_input_is_base_for_as_many_outputs_as_any_other(parts):
    assert demo.base_channels(parts, True).sum((0, 2, 3)).unique().tolist() == [demo.CHANNELS / parts]
    fixed = demo.base_channels(parts, False).sum((0, 2, 3))
    assert (fixed > 0).sum() == demo.CHANNELS // parts


def test_the_twin_finishes_every_sum_and_its_thresholds_stay_at_their_target():
    p = demo.Params(updates=20)
    net = demo.build(lambda: demo.Network(p), torch.Generator().manual_seed(0))
    images, labels = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    loss = functional.cross_entropy(net(images, demo.OPEN)[0], labels) + demo.penalty(net, p.target)
    gradients = torch.autograd.grad(loss, [layer.threshold for layer in net.gated])
    assert all((gradient == 0).all() for gradient in gradients)
    assert demo.judge(net, images, labels, [demo.OPEN])[1] == 1


def test_the_view_recounts_what_the_run_measured_and_needs_no_new_run():
    p = demo.Params(updates=20)
    *_, result = demo.run(p)
    view = demo.examine(p, result)
    assert view.accuracy == result.accuracy[demo.GATED, -1].item()
    assert view.cost == pytest.approx(0.25 + 0.75 * result.opened[-1].item())
    for change in ({"shift": 1.0}, {"digit": 9}, {"layer": 2}):
        moved = p.but(**change)
        assert moved.run_key() == p.run_key()
        assert all(figure.to_json() for figure in kit.load("channel_gating").figures(moved, result).values())
    assert demo.examine(p.but(shift=3.0), result).cost < view.cost


def test_correlation_agrees_with_torch():
    a, b = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = [torch.corrcoef(torch.stack([a[:, c].flatten(), b[:, c].flatten()]))[0, 1] for c in range(3)]
    torch.testing.assert_close(demo.channel_correlation(a, b), torch.stack(expected))


def test_closed_gates_leave_only_the_base_to_pay_for():
    assert demo.cost_share(4, torch.tensor(0.3)).item() == pytest.approx(0.475)
    layer, x = _layer()
    assert not layer(x, math.inf)[1].any()


def test_a_law_notices_every_mistake(laws_notice):
    def leaking(self, x, shift=0.0):
        partial, full = self.sums(x)
        decision = self.decide(partial, shift)
        return full + (1 - decision) * 0.9 * (partial - full), decision

    sums = demo.GatedConvolution.sums

    def forgetful(self, x):
        partial, full = sums(self, x)
        return partial, full - partial

    def upside_down(self, partial, shift=0.0):
        return demo.Step.apply(self.threshold + shift - self.norm(partial))

    laws_notice(
        {
            "skipped outputs that leak the full sum": (
                {"GatedConvolution.forward": leaking},
                ["skipped_outputs_are_partial_sums", "closed_gates_are_a_grouped_convolution"],
            ),
            "a finished sum that forgets its base": (
                {"GatedConvolution.sums": forgetful},
                ["open_gates_are_a_convolution"],
            ),
            "a gate of the opposite sign opens as the threshold rises": (
                {"GatedConvolution.decide": upside_down},
                ["thresholds_only_close"],
            ),
            "the base paid for twice": ({"cost_share": lambda p, a: 1 / p + a}, ["cost_counts_multiplications"]),
            "the base not paid for": ({"cost_share": lambda p, a: a}, ["cost_counts_multiplications"]),
            "closed gates paid for": (
                {"cost_share": lambda p, a: 1 / p + (1 - 1 / p) * (1 - a)},
                ["cost_counts_multiplications"],
            ),
        }
    )
