import pytest
import torch
from scipy import stats
from torch.nn import functional

from demos import kit
from demos import mixup as demo


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixing_agrees_with_a_loop_over_every_sample_and_pixel():
    x, y = torch.rand(3, 2, 4, generator=_generator()), torch.eye(3)
    partner = torch.tensor([2, 0, 1])
    mixed_x, mixed_y = demo.mixup(x, y, 0.3, partner)
    for i, j in enumerate(partner.tolist()):
        for c in range(2):
            for k in range(4):
                assert mixed_x[i, c, k].item() == pytest.approx(0.3 * x[i, c, k].item() + 0.7 * x[j, c, k].item())
        assert mixed_y[i].tolist() == pytest.approx([0.3 * (k == i) + 0.7 * (k == j) for k in range(3)])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_one_or_none_returns_the_samples_untouched(share):
    x, y, partner = torch.rand(4, 5, generator=_generator()), torch.eye(4), torch.tensor([1, 2, 3, 0])
    mixed_x, mixed_y = demo.mixup(x, y, share, partner)
    expected = slice(None) if share else partner
    assert torch.equal(mixed_x, x[expected]) and torch.equal(mixed_y, y[expected])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0, 100.0])
def test_drawn_shares_follow_the_beta_distribution(alpha):
    shares = demo.draw_shares(alpha, 20_000, _generator()).numpy()
    # Kolmogorov-Smirnov at a level of 1e-4: right draws fail at one seed in 10,000.
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    assert stats.kstest(shares, stats.beta(alpha, 1.3 * alpha).cdf).pvalue < 1e-4


@pytest.mark.parametrize("alpha", [0.001, 1e-9, 0.0])
def test_a_tiny_alpha_draws_finite_shares_near_either_end(alpha):
    shares = demo.draw_shares(alpha, 10_000, _generator())
    assert torch.isfinite(shares).all()
    ends = torch.minimum(shares, 1 - shares) < 1e-3
    # P(λ < ε) is about ε^α / 2, so at most 10,000 (1 - 0.001^0.001) ≈ 69 shares lie between, give or take 8.
    assert ends.sum() >= 10_000 - (69 + 5 * 8 if alpha == 0.001 else 0)
    assert 4_700 < (shares > 0.5).sum() < 5_300  # six standard deviations of a fair coin


@pytest.mark.parametrize("alpha", [0.001, 0.2, 1.0, 8.0, 100.0])
def test_the_density_agrees_with_scipy(alpha):
    x = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    expected = torch.from_numpy(stats.beta(alpha, alpha).pdf(x.numpy()))
    torch.testing.assert_close(demo.beta_density(x, alpha), expected, rtol=1e-9, atol=1e-30)


def test_the_loss_of_soft_labels_agrees_with_torch():
    logits = torch.randn(6, 4, generator=_generator())
    soft = torch.softmax(torch.randn(6, 4, generator=_generator(1)), -1)
    torch.testing.assert_close(demo.cross_entropy(logits, soft), functional.cross_entropy(logits, soft))


def test_an_untrained_network_is_undecided_everywhere():
    first = next(demo.run(demo.Params()))
    assert torch.equal(first.surface, torch.full_like(first.surface, 0.5))
    assert first.updates.tolist() == [0]


def test_confidence_off_the_data_agrees_with_a_loop_over_the_plane():
    *_, result = demo.run(demo.Params(points=50, updates=60))
    sure = [[], []]
    for row, y in enumerate(demo.UP.tolist()):
        for column, x in enumerate(demo.ACROSS.tolist()):
            if min((a - x) ** 2 + (b - y) ** 2 for a, b in result.points.tolist()) > demo.OFF**2:
                for network in (0, 1):
                    p = result.surface[network, row, column].item()
                    sure[network].append(max(p, 1 - p))
    assert result.confidence[:, -1].tolist() == pytest.approx([sum(s) / len(s) for s in sure], abs=1e-5)


def test_the_picture_needs_no_training_and_its_knobs_start_none():
    p = demo.Params()
    views = [{"pair": "digits"}, {"first": 5}, {"second": 9}, {"lam": "typed"}, {"typed": 0.1}, {"draw": 7}]
    assert {name for change in views for name in change} == {
        name for name, knob in kit.knobs(demo.Params).items() if knob.view
    }
    for change in views:
        assert p.but(**change).run_key() == p.run_key()
    assert p.but(alpha=0.5).run_key() != p.run_key()


def test_the_view_mixes_the_samples_asked_for_with_the_share_asked_for():
    untrained = next(demo.run(demo.Params()))
    images, labels = demo.digits()
    view = demo.examine(demo.Params(pair="digits", first=3, second=12, lam="typed", typed=0.25), untrained)
    torch.testing.assert_close(view.mixed, 0.25 * images[3] + 0.75 * images[12])
    assert view.target[labels[3]] == 0.25 and view.target[labels[12]] == 0.75
    drawn = demo.examine(demo.Params(alpha=0.4, draw=17, seed=5), untrained)
    assert drawn.share == demo.draw_shares(0.4, demo.DRAWS, _generator(5))[16].item()
    photographs = demo.examine(demo.Params(), untrained)
    assert photographs.mixed.shape[0] == 3 and photographs.classes == ("china", "flower")


def test_two_samples_of_one_class_keep_a_hard_label():
    untrained = next(demo.run(demo.Params()))
    view = demo.examine(demo.Params(pair="digits", first=0, second=10), untrained)
    assert view.target.max() == 1 and view.target.sum() == 1


@pytest.mark.parametrize("lam", ["drawn", "typed"])
@pytest.mark.parametrize("pair", ["digits", "photographs"])
@pytest.mark.parametrize("alpha", [0.001, 100.0])
def test_every_kind_of_view_is_drawn(alpha, pair, lam):
    p = demo.Params(alpha=alpha, pair=pair, lam=lam, updates=50)
    loaded = kit.load("mixup")
    figures = loaded.figures(p, next(demo.run(p)))
    assert len(figures) == 7 and all(figure.to_json() for figure in figures.values())


def _other_share(x, y, share, partner, right=demo.mixup):
    return right(x, y, share, partner)[0], right(x, y, 1 - share, partner)[1]


def _larger(*how, right=demo.draw_shares):
    return torch.maximum(right(*how), 1 - right(*how))


def test_a_law_notices_every_mistake(laws_notice, draw=demo.draw_shares):
    laws_notice(
        {
            "a label of the other share": (
                {"mixup": _other_share},
                [
                    "same_share_for_input_and_label",
                    "loss_of_the_mix_is_the_mix_of_losses",
                    "vanishing_alpha_is_ordinary_training",
                ],
            ),
            "labels added without shares": (
                {"mixup": lambda x, y, share, partner: (x, y + y[partner])},
                ["mixed_label_is_a_probability"],
            ),
            "twice the alpha": (
                {"draw_shares": lambda alpha, *how: draw(2 * alpha, *how)},
                ["variance_of_the_share"],
            ),
            "always the larger share": ({"draw_shares": _larger}, ["mean_share_is_half"]),
            "a loss that rounds the label": (
                {"cross_entropy": lambda z, y: functional.cross_entropy(z, y.argmax(-1))},
                ["loss_of_the_mix_is_the_mix_of_losses"],
            ),
            "shares that ignore alpha": (
                {"draw_shares": lambda alpha, *how: draw(1.0, *how)},
                ["vanishing_alpha_is_ordinary_training"],
            ),
        }
    )
