import math

import pytest
import torch
from torch.nn import functional

from demos import focal_loss as demo


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_loss_agrees_with_its_formula_written_out_for_each_example(gamma):
    logits, labels = torch.tensor([-2.0, -0.3, 0.0, 1.5, 4.0]).double(), torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    ours = demo.class_weight(labels, 0.3) * demo.focal_loss(demo.true_logit(logits, labels), gamma)
    for logit, label, loss in zip(logits.tolist(), labels.tolist(), ours.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        correct, weight = (p, 0.3) if label else (1 - p, 0.7)
        assert loss == pytest.approx(-weight * (1 - correct) ** gamma * math.log(correct))


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_the_loss_and_its_gradient_stay_finite_at_any_logit(gamma):
    z = torch.tensor([-1e4, -800.0, 0.0, 800.0, 1e4], dtype=torch.float64, requires_grad=True)
    loss = demo.focal_loss(z, gamma)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert loss.isfinite().all() and gradient.isfinite().all()
    assert loss[0].item() == pytest.approx(1e4) and loss[-1].item() == 0.0


def test_the_published_bias_is_that_of_a_prior_of_one_in_a_hundred():
    assert demo.prior_bias(0.01) == pytest.approx(-4.59512, abs=1e-5)


def test_the_share_of_the_hardest_agrees_with_sorting_by_hand():
    loss = torch.tensor([1.0, 5.0, 0.0, 4.0])
    held = demo.held_by_hardest(loss, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert held.tolist() == pytest.approx([0.0, 0.5, 0.9, 1.0, 1.0])


def test_average_precision_agrees_with_a_loop_over_the_ranking():
    scores, labels = torch.randn(50, generator=_generator()), (torch.rand(50, generator=_generator(1)) < 0.3).float()
    ranked = sorted(zip(scores.tolist(), labels.tolist(), strict=True), reverse=True)
    precisions = [
        sum(label for _, label in ranked[: place + 1]) / (place + 1) for place in range(50) if ranked[place][1]
    ]
    assert demo.average_precision(scores, labels).item() == pytest.approx(sum(precisions) / len(precisions))


@pytest.mark.parametrize(("imbalance", "positives"), [(1, 1_500), (100, 30), (300, 10)])
def test_the_points_have_the_asked_imbalance_and_the_negatives_lie_in_the_ring(imbalance, positives):
    x, labels = demo.draw_points(3_000, imbalance, _generator())
    assert x.shape == (3_000, 2) and int(labels.sum()) == positives
    radius = x[labels == 0].norm(dim=1)
    assert radius.min() >= demo.INNER - 1e-6 and radius.max() <= demo.OUTER + 1e-6


def test_an_untrained_detector_answers_the_prior_everywhere():
    logits = demo.detector(0.01, _generator())(10 * torch.randn(20, 2, generator=_generator(1)))
    assert torch.sigmoid(logits).flatten().tolist() == pytest.approx([0.01] * 20)


def test_both_networks_start_alike_and_cross_entropy_does_not_know_gamma():
    first, *_, last = list(demo.run(demo.Params(updates=50)))
    assert torch.equal(first.surface[0], first.surface[1])
    *_, other = demo.run(demo.Params(updates=50, gamma=5.0))
    assert torch.equal(last.surface[0], other.surface[0]) and not torch.equal(last.surface[1], other.surface[1])


def test_the_easy_share_of_a_frame_agrees_with_torch():
    params = demo.Params(updates=50)
    _, labels = demo.draw_points(demo.COUNT, params.imbalance, _generator(params.seed))
    first = next(demo.run(params))
    loss = functional.binary_cross_entropy(torch.full_like(labels, params.prior), labels, reduction="none")
    expected = loss[labels == 0].sum() / loss.sum()  # before training exactly the negatives have p_t = 0.99
    assert float(first.easy[0, 0]) == pytest.approx(float(expected), rel=1e-5)


def test_a_law_notices_every_mistake(laws_notice):
    laws_notice(
        {
            "the power on p_t instead of 1 − p_t": (
                {"focal_loss": lambda z, gamma: -(torch.sigmoid(z) ** gamma) * functional.logsigmoid(z)},
                ["modulating_factor", "gradient_formula", "focusing_concentrates_the_loss"],
            ),
            "a factor that stays at γ = 0": (
                {"focal_loss": lambda z, gamma: -(torch.sigmoid(-z) ** (gamma + 1)) * functional.logsigmoid(z)},
                ["gamma_zero_is_cross_entropy", "modulating_factor"],
            ),
            "negatives read as positives": (
                {"true_logit": lambda logits, labels: logits},
                ["gamma_zero_is_cross_entropy", "gradient_formula", "prior_sets_the_first_loss"],
            ),
            "both classes weighed alike": (
                {"class_weight": lambda labels, alpha: torch.full_like(labels, alpha)},
                ["gamma_zero_is_cross_entropy"],
            ),
            "a gradient without the change of the factor": (
                {"focal_slope": lambda z, gamma: torch.sigmoid(-z) ** gamma * (torch.sigmoid(z) - 1)},
                ["gradient_formula"],
            ),
            "a bias of the wrong sign": (
                {"prior_bias": lambda prior: math.log((1 - prior) / prior)},
                ["prior_sets_the_first_loss"],
            ),
            "the easiest first": (
                {"held_by_hardest": lambda loss, shares, right=demo.held_by_hardest: 1 - right(loss, 1 - shares)},
                ["focusing_concentrates_the_loss"],
            ),
        }
    )
