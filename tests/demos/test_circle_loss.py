import decimal
import math

import pytest
import torch
from torch.nn import functional

from demos import circle_loss as demo


def _numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def _by_pairs(s_n, s_p, exponent):
    """log(1 + sum over all pairs of exp(exponent)), in 60 digits, so that nothing overflows."""
    with decimal.localcontext(prec=60):
        total = sum(decimal.Decimal(exponent(n, p)).exp() for n in s_n.tolist() for p in s_p.tolist())
        return float((1 + total).ln())


@pytest.mark.parametrize("scale", [1.0, 80.0, 512.0])
def test_circle_loss_agrees_with_a_sum_over_pairs_in_sixty_digits(scale):
    s_n, s_p, m = _numbers(0.9, 0.1, -0.6), _numbers(0.2, 1.0), 0.25

    def exponent(n, p):
        return scale * (max(n + m, 0) * (n - m) - max(1 + m - p, 0) * (p - 1 + m))

    ours = demo.circle_loss(s_n, s_p, scale=scale, margin=m)
    assert float(ours) == pytest.approx(_by_pairs(s_n, s_p, exponent), rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 512.0])
def test_the_unified_loss_agrees_with_a_sum_over_pairs_in_sixty_digits(scale):
    s_n, s_p = _numbers(0.9, 0.1, -0.6), _numbers(0.2, 1.0)
    ours = demo.unified_loss(s_n, s_p, scale=scale, margin=0.3)
    assert float(ours) == pytest.approx(_by_pairs(s_n, s_p, lambda n, p: scale * (n - p + 0.3)), rel=1e-12)


def test_the_triplet_loss_of_unit_vectors_is_half_that_of_their_squared_distances():
    generator = torch.Generator().manual_seed(0)
    anchor, own, other = functional.normalize(torch.randn(3, 20, 5, generator=generator).double(), dim=-1)
    distances = [(anchor - them).square().sum(-1) for them in (own, other)]
    expected = (distances[0] - distances[1] + 0.4).clamp(min=0) / 2
    s_n, s_p = ((anchor * them).sum(-1, keepdim=True) for them in (other, own))
    torch.testing.assert_close(demo.triplet_loss(s_n, s_p, margin=0.2), expected)


def test_the_triplet_loss_takes_the_hardest_of_each():
    assert float(demo.triplet_loss(_numbers(0.1, 0.7), _numbers(0.9, 0.5), margin=0.2)) == pytest.approx(0.4)


def test_log_1p_exp_keeps_what_a_softplus_with_a_threshold_drops():
    assert float(demo.log_1p_exp(_numbers(25.0)[0])) - 25.0 == pytest.approx(math.exp(-25), rel=1e-3)
    assert float(demo.log_1p_exp(_numbers(3_000.0)[0])) == 3_000.0


def test_the_slopes_agree_with_finite_differences_when_let_through_the_weights():
    s_n, s_p, step = _numbers(0.4, 0.1), _numbers(0.6), 1e-6

    def loss(n, p):
        return demo.circle_loss(n, p, scale=5.0, margin=0.25, through=True)

    by_n, by_p = demo.slopes(loss, s_n, s_p)
    for j in range(2):
        nudge = step * functional.one_hot(torch.tensor(j), 2)
        assert float(by_n[j]) == pytest.approx(
            float(loss(s_n + nudge, s_p) - loss(s_n - nudge, s_p)) / (2 * step), rel=1e-6
        )
    assert float(by_p) == pytest.approx(float(loss(s_n, s_p + step) - loss(s_n, s_p - step)) / (2 * step), rel=1e-6)


def test_the_published_radius_is_that_of_a_quarter_margin():
    radius = (demo.border(0.25) - _numbers(0.0, 1.0)).norm(dim=-1)
    assert radius.tolist() == pytest.approx([0.3535534] * len(radius))


@pytest.mark.parametrize(("through", "optimum"), [(False, (-0.25, 1.25)), (True, (0.0, 1.0))])
def test_every_arrow_of_circle_loss_points_at_the_optimum(through, optimum):
    result = demo.run(demo.Params(through=through))
    assert result.optimum.tolist() == list(optimum)
    inside = result.starts[:, 0] > -0.25  # left of it the negative's weight is 0
    to = result.optimum - result.starts[inside]
    arrows = result.arrows[0, inside]
    across = arrows[:, 0] * to[:, 1] - arrows[:, 1] * to[:, 0]
    assert across.abs().max() < 1e-12 and (arrows * to).sum(-1).min() >= 0


def test_a_path_begins_at_the_point_and_stays_among_cosines():
    params = demo.Params(negative=1.0, positive=-1.0)
    paths = demo.run(params).paths
    assert paths[:, 0].tolist() == [[1.0, -1.0]] * 2
    assert paths.abs().max() <= 1


def test_a_point_that_nothing_pushes_is_said_to_be_so():
    params = demo.Params(negative=-1.0, positive=1.0, margin=0.0, other="triplet")
    readings = demo.readings(params, demo.run(params))
    assert "not pushed" in str(readings["Push on s_n / push on s_p, circle"])
    assert "neither" in str(readings["The same, triplet"])


def _circle(wrong_n=0.0, wrong_p=0.0, *, weights=True, loss=demo.log_1p_exp):
    """Circle loss with its margins moved, or without its weights."""

    def broken(s_n, s_p, *, scale, margin, through=False):
        a_n, a_p = (s_n + margin).clamp(min=0), (1 + margin - s_p).clamp(min=0)
        if not through:
            a_n, a_p = a_n.detach(), a_p.detach()
        if not weights:
            a_n, a_p = torch.ones_like(a_n), torch.ones_like(a_p)
        negatives = scale * a_n * (s_n - margin - wrong_n)
        positives = -scale * a_p * (s_p - 1 + margin + wrong_p)
        return loss(negatives.logsumexp(-1) + positives.logsumexp(-1))

    return broken


def test_a_law_notices_every_mistake(laws_notice):
    laws_notice(
        {
            "the negative's margin forgotten": (
                {"circle_loss": _circle(wrong_n=-0.25)},
                ["border_is_a_circle", "target_is_on_the_border", "agrees_with_a_double_loop"],
            ),
            "the positive's margin forgotten": (
                {"circle_loss": _circle(wrong_p=-0.25)},
                ["border_is_a_circle", "target_is_on_the_border", "agrees_with_a_double_loop"],
            ),
            "no weights": (
                {"circle_loss": _circle(weights=False)},
                ["border_is_a_circle", "gradient_follows_the_distance", "agrees_with_a_double_loop"],
            ),
            "a gradient that goes through weights it should not": (
                {"circle_loss": lambda *s, right=demo.circle_loss, **given: right(*s, **{**given, "through": True})},
                ["gradient_follows_the_distance"],
            ),
            "the 1 of the logarithm forgotten": (
                {"log_1p_exp": lambda x: x},
                [
                    "border_is_a_circle",
                    "target_is_on_the_border",
                    "one_positive_is_softmax",
                    "gradient_follows_the_distance",
                ],
            ),
            "a unified loss with its margin subtracted": (
                {
                    "unified_loss": lambda s_n, s_p, *, scale, margin, right=demo.unified_loss: right(
                        s_n, s_p, scale=scale, margin=-margin
                    )
                },
                ["one_positive_is_softmax", "large_scale_is_triplet"],
            ),
            "a unified loss that lets positives go": (
                {
                    "unified_loss": lambda s_n, s_p, *, scale, margin, right=demo.unified_loss: right(
                        s_n, 0.5 * s_p, scale=scale, margin=margin
                    )
                },
                ["symmetric_losses_push_alike", "one_positive_is_softmax"],
            ),
            "a triplet loss of the easiest pair": (
                {"triplet_loss": lambda s_n, s_p, *, margin: (s_n.amin(-1) - s_p.amax(-1) + margin).clamp(min=0)},
                ["large_scale_is_triplet"],
            ),
            "a border of radius m": (
                {
                    "border": lambda margin, right=demo.border: (
                        (right(margin) - _numbers(0, 1)) / math.sqrt(2) + _numbers(0, 1)
                    )
                },
                ["border_is_a_circle"],
            ),
        }
    )
