from dataclasses import replace

import pytest
import torch
from torch import nn

from demos import zero_gamma as demo


def _start(blocks=2, gamma=0.7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = demo.stem(torch.rand(3, 1, 8, 8, dtype=torch.float64, generator=generator), generator)
    weights = demo.draw_weights(blocks, gamma, generator)
    shifted = 0.1 * torch.randn(weights.beta.shape, dtype=x.dtype, generator=generator)
    return x, replace(weights, beta=shifted)


def _torch_block(first, last, gamma, beta):
    convolutions = [nn.Conv2d(8, 8, 3, padding=1, bias=False, dtype=torch.float64) for _ in range(2)]
    norms = [nn.BatchNorm2d(8, eps=demo.EPS, dtype=torch.float64) for _ in range(2)]
    for module, value in ((convolutions[0], first), (convolutions[1], last), (norms[1], gamma)):
        module.weight = nn.Parameter(value)
    norms[1].bias = nn.Parameter(beta)
    return nn.Sequential(convolutions[0], norms[0], nn.ReLU(), convolutions[1], norms[1])


def test_a_block_is_that_of_torchs_modules():
    x, weights = _start()
    for block in range(2):
        of_block = [weight[block] for weight in weights.tensors()[:4]]
        torch.testing.assert_close(demo.block(x, *of_block), torch.relu(x + _torch_block(*of_block)(x)))


def test_what_the_stem_hands_on_is_not_negative_and_shows_the_image():
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = demo.stem(images, torch.Generator().manual_seed(1))
    assert x.shape == (5, 8, 8, 8) and x.min() == 0
    bright = images[:, 0] > images.mean()
    assert torch.equal(x[:, 0] > 0, bright)


def test_a_loop_over_samples_gives_the_same_loss():
    x, weights = _start()
    expected = 0.0
    for sample, label in zip(x, (4, 0, 9), strict=True):
        logits = [sum(w * channel.mean() for w, channel in zip(row, sample, strict=True)) for row in weights.classifier]
        expected += float(torch.stack(logits).logsumexp(0) - logits[label]) / 3
    assert demo.loss(x, weights, torch.tensor([4, 0, 9])).item() == pytest.approx(expected)


def test_a_gradient_agrees_with_a_finite_difference():
    x, weights = _start()
    labels = torch.tensor([4, 0, 9])
    found = demo.gradients(x, weights, labels)[2]
    for which, index in ((0, (0, 2, 3, 1, 1)), (2, (1, 5)), (3, (0, 6))):
        losses = []
        for sign in (1, -1):
            moved = [weight.clone() for weight in weights.tensors()]
            moved[which][index] += sign * 1e-6
            moved = demo.Weights(*moved)
            losses.append(demo.loss(demo.forward(x, moved)[-1], moved, labels).item())
        assert found[which][index].item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_the_digit_leaves_as_it_came_at_gamma_zero_and_not_at_one():
    maps = demo.run(demo.Params()).maps
    assert torch.equal(maps[demo.CHOSEN], maps[demo.CHOSEN, :1].expand_as(maps[demo.CHOSEN]))
    assert not torch.equal(maps[demo.USUAL, 0], maps[demo.USUAL, 1])


def test_a_law_notices_every_mistake(laws_notice):
    def misplaced(x, first, last, gamma, beta):
        hidden = torch.relu(gamma[:, None, None] * demo.normalize(nn.functional.conv2d(x, first, padding=1)))
        return torch.relu(x + demo.normalize(nn.functional.conv2d(hidden + 0.1 * x, last, padding=1)))

    def bare(x, first, last):
        hidden = torch.relu(demo.normalize(nn.functional.conv2d(x, first, padding=1)))
        return nn.functional.conv2d(hidden, last, padding=1)

    def scaled(x, first, last, gamma, beta):
        return torch.relu(gamma[:, None, None] * (x + demo.branch(x, first, last)) + beta[:, None, None])

    block = demo.block

    def plain(x, first, last, gamma, beta):
        return torch.relu(gamma[:, None, None] * demo.branch(x, first, last) + beta[:, None, None])

    laws_notice(
        {
            "a scale inside the branch instead of at its end": (
                {"block": misplaced},
                ["zero_is_the_identity", "variance_stays"],
                {"gamma": 0.5},
            ),
            "a branch without its last normalization": (
                {"branch": bare},
                ["a_branch_adds_gamma_squared"],
                {"gamma": 0.5},
            ),
            "a scale of the whole sum": ({"block": scaled}, ["gradient_of_gamma"], {"gamma": 0.5}),
            "blocks that ignore gamma": (
                {"block": lambda x, first, last, gamma, beta: block(x, first, last, gamma + 1, beta)},
                ["only_gamma_and_beta_move"],
                {"gamma": 0.5},
            ),
            "a network without skips": ({"block": plain}, ["nothing_stays_stuck"], {"gamma": 0.5}),
        }
    )
