import pytest
import torch
from torch.nn import functional as F

from demos import gradient_rescaling as demo

SHORT = demo.Params(updates=50, samples=100)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("lam", "beta"), [(0.0, 3.0), (0.5, 8.0), (1.0, 8.0), (2.0, 16.0)])
def test_rescaling_is_a_factor_on_each_samples_cross_entropy(lam, beta):
    z, label = _random(7, 5).requires_grad_(), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    q = torch.softmax(z, -1).detach()
    p = q[torch.arange(7), label]
    factor = torch.exp(beta * p**lam * (1 - p)) / (2 * (1 - p))
    (expected,) = torch.autograd.grad((factor * F.cross_entropy(z, label, reduction="none")).sum(), z)
    rescaled = demo.rescale(q - F.one_hot(label, 5), p, demo.emphasis(p, lam, beta))
    torch.testing.assert_close(rescaled, expected)


def test_mislabeling_changes_just_the_first_and_reaches_every_other_class_alike():
    truth = torch.full((10_000,), 3)
    given = demo.mislabel(truth, 9_000, 10, torch.Generator().manual_seed(0))
    assert (given[:9_000] != 3).all() and (given[9_000:] == 3).all()
    counts = torch.bincount(given[:9_000], minlength=10).double()
    # Each class is hit 1,000 times, with a standard deviation of 30: six of them fail once in 50 million.
    assert (counts - 1_000).abs()[[0, 1, 2, 4, 5, 6, 7, 8, 9]].max() < 180


def test_training_by_cross_entropy_is_that_of_torch():
    r = demo.run(SHORT)
    x, classifier = demo.with_bias(r.images), torch.nn.Linear(65, 10, bias=False)
    torch.nn.init.zeros_(classifier.weight)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=demo.RATE, momentum=demo.MOMENTUM)
    for _ in range(SHORT.updates):
        optimizer.zero_grad()
        F.cross_entropy(classifier(x), r.given).backward()
        optimizer.step()
    expected = torch.softmax(classifier(x), -1).gather(-1, r.given[:, None])[:, 0].detach()
    torch.testing.assert_close(r.probabilities[-1, :, demo.CE], expected, atol=1e-4, rtol=1e-3)


def test_training_by_mae_is_that_of_autograd():
    r = demo.run(SHORT)
    x, y = demo.with_bias(r.images), F.one_hot(r.given, 10)
    weight, velocity = torch.zeros(65, 10, requires_grad=True), torch.zeros(65, 10)
    for _ in range(SHORT.updates):
        loss = (torch.softmax(x @ weight, -1) - y).abs().sum() / len(x)
        (gradient,) = torch.autograd.grad(loss, weight)
        velocity = demo.MOMENTUM * velocity + gradient
        weight = (weight.detach() - demo.RATE * velocity).requires_grad_()
    expected = torch.softmax(x @ weight, -1).gather(-1, r.given[:, None])[:, 0].detach()
    torch.testing.assert_close(r.probabilities[-1, :, demo.MAE], expected, atol=1e-4, rtol=1e-3)


def test_the_wrong_labels_share_of_the_gradient_begins_as_their_share_of_the_labels():
    assert demo.run(SHORT).wrong_share[0].tolist() == pytest.approx([0.4] * 3, abs=1e-6)


def test_the_heaviest_digits_of_cross_entropy_are_the_least_probable():
    r = demo.run(SHORT)
    heaviest = demo.examine(SHORT, r).heaviest["cross-entropy"]
    at = round(SHORT.moment / 100 * (len(r.steps) - 1))
    probability = r.probabilities[at, :, demo.CE]
    assert probability[heaviest].max() <= probability.sort().values[demo.HEAVIEST - 1]


def test_a_law_notices_every_mistake(laws_notice):
    emphasis = demo.emphasis
    laws_notice(
        {
            "a formula without its factor": (
                {"ce_length": lambda p: 1 - p, "mae_length": lambda p: 2 * p * (1 - p)},
                ["length_of_cross_entropy", "length_of_mae"],
            ),
            "a strength that divides": (
                {"emphasis": lambda p, lam, beta: emphasis(p, lam, 1 / (1 + beta))},
                ["spread_rises_with_beta"],
            ),
            "a rescaling that goes uphill": (
                {"rescale": lambda g, p, length: -g * (length / (2 * (1 - p)))[:, None]},
                ["direction_is_kept"],
            ),
            "a length that is not divided out": (
                {"rescale": lambda g, p, length: g * length[:, None]},
                ["direction_is_kept"],
            ),
            "an emphasis with p and its rest exchanged": (
                {"emphasis": lambda p, lam, beta: emphasis(1 - p, lam, beta)},
                ["mode_of_the_emphasis"],
                {"lam": 2.0},
            ),
        }
    )
