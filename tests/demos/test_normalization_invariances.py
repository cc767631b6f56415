import pytest
import torch
from torch import nn

from demos import normalization_invariances as demo

CHANGES = list(demo.CHANGES)


def _setting(**changes):
    p = demo.Params(**changes)
    return p, demo.setting(p)


def _weight_norm(x, weight):
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(*weight.T.shape, bias=False, dtype=weight.dtype))
    linear.parametrizations.weight.original0.data = torch.ones(len(weight), 1, dtype=weight.dtype)
    linear.parametrizations.weight.original1.data = weight
    return linear(x)


TORCH = {
    "none": lambda x, w: nn.functional.linear(x, w),
    "batch": lambda x, w: nn.functional.batch_norm(x @ w.T, None, None, training=True, eps=1e-14),
    "layer": lambda x, w: nn.functional.layer_norm(x @ w.T, (demo.UNITS,), eps=1e-14),
    "group": lambda x, w: nn.functional.group_norm(x @ w.T, demo.GROUPS, eps=1e-14),
    "weight": _weight_norm,
    "cosine": lambda x, w: nn.functional.cosine_similarity(x[:, None], w, dim=-1),
}


@pytest.mark.parametrize("method", TORCH)
def test_a_method_agrees_with_torch(method):
    with torch.random.fork_rng(devices=[]):
        p, s = _setting()
        torch.testing.assert_close(demo.layer(p, s, method)(s.x, s.weight), TORCH[method](s.x, s.weight))


def test_batch_norm_at_inference_takes_the_constants_of_earlier_data():
    p, s = _setting()
    expected = nn.functional.batch_norm(s.x @ s.weight.T, s.history[0], s.history[1].square(), eps=0.0)
    torch.testing.assert_close(demo.layer(p, s, "batch, inference")(s.x, s.weight), expected)


@pytest.mark.parametrize(("share", "same"), [(0.0, "batch"), (1.0, "batch, inference")])
def test_streaming_runs_from_batch_norm_to_inference(share, same):
    p, s = _setting(history=share)
    streamed, expected = (demo.layer(p, s, method)(s.x, s.weight) for method in ("streaming", same))
    torch.testing.assert_close(streamed, expected)


def test_the_changes_are_what_their_names_say():
    _, s = _setting(scale=4.0, shift=1.5)
    ratios = {
        "all weights × a": s.changed["all weights × a"][1] / s.weight,
        "each weight vector × its own": s.changed["each weight vector × its own"][1] / s.weight,
        "all data × a": s.changed["all data × a"][0] / s.x,
        "each sample × its own": s.changed["each sample × its own"][0] / s.x,
    }
    for name, ratio in ratios.items():
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
        assert ((ratio > 0.25 - 1e-9) & (ratio < 4 + 1e-9)).all()
        assert (ratio.std() < 1e-12) == name.startswith("all")
    for moved in (s.changed["weights re-centered"][1] - s.weight, s.changed["all data shifted"][0] - s.x):
        torch.testing.assert_close(moved, moved[:1].expand_as(moved))
        assert moved[0].norm() == pytest.approx(1.5)
    peers = s.changed["other companions"][0]
    assert torch.equal(peers[0], s.x[0]) and not (peers[1:] == s.x[1:]).any()
    assert torch.equal(s.changed["a batch of one"][0], s.x[:1])


def test_the_table_is_that_of_the_layer_normalization_paper():
    """Ba et al. 2016, Table 1, column by column."""
    published = {
        "batch": (True, False, True, True, True, False),
        "weight": (True, False, True, False, False, False),
        "layer": (True, True, False, True, False, True),
    }
    columns = [
        CHANGES.index(name)
        for name in (
            "all weights × a",
            "weights re-centered",
            "each weight vector × its own",
            "all data × a",
            "all data shifted",
            "each sample × its own",
        )
    ]
    table = demo.run(demo.Params()).table
    for method, row in published.items():
        assert tuple((table[demo.METHODS.index(method), columns] < demo.UNSEEN).tolist()) == row


def test_the_loss_is_the_same_along_a_ray_and_descent_drifts_outward_under_batch_norm():
    p, s = _setting()
    _, loss, path = demo.descent(s, demo.layer(p, s, "batch"), 0.2)
    torch.testing.assert_close(loss[16, 16], loss[31, 31])
    assert (path.norm(dim=-1).diff() > 0).all()


def test_the_gradient_is_that_of_a_finite_difference():
    p, s = _setting(batch=8)
    of, step = demo.layer(p, s, "streaming"), 1e-6
    nudge = torch.zeros_like(s.weight)
    nudge[3, 4] = step
    above, below = (((s.target * of(s.x, w)).sum(-1).mean()) for w in (s.weight + nudge, s.weight - nudge))
    assert demo.gradient(s, of, s.weight)[3, 4] == pytest.approx(float((above - below) / (2 * step)), rel=1e-6)


def _statistics_over(axis):
    right = demo.statistics
    return lambda z, _: right(z, axis)


def test_a_law_notices_every_mistake(laws_notice):
    call = demo.Layer.__call__
    statistics = demo.statistics
    Layer = demo.Layer
    laws_notice(
        {
            "dividing by a variance and keeping the mean": (
                {"standardize": lambda z, mean, deviation: z / deviation.square()},
                ["batch_norm_does_not_see", "layer_norm_does_not_see", "batch_of_one_is_zero"],
            ),
            "dividing by the square root of a norm": (
                {"directions": lambda v: v / v.norm(dim=-1, keepdim=True).sqrt()},
                [
                    "weight_norm_does_not_see",
                    "cosine_norm_does_not_see",
                    "gradient_is_orthogonal_to_each_vector",
                    "gradient_falls_with_the_scale",
                    "steps_lengthen_the_weights",
                ],
            ),
            "directions of the samples too in weight norm": (
                {"Layer.__call__": lambda self, x, w: call(self, demo.directions(x), w)},
                ["weight_norm_sees_the_scale_of_data", "the_rest_is_seen"],
            ),
            "batch statistics in layer norm": (
                {"statistics": _statistics_over(0)},
                ["companions_do_not_matter"],
            ),
            "frozen layer statistics": (
                {"statistics": lambda z, axis: tuple(part.detach() for part in statistics(z, axis))},
                ["gradient_is_orthogonal_to_the_matrix"],
            ),
            "batch statistics at inference": (
                {"Layer": lambda method, *rest: Layer(method.removesuffix(", inference"), *rest)},
                ["inference_sees_everything"],
            ),
            "a blend that favors the wrong end": (
                {"Layer": lambda method, history, share: Layer(method, history, 1 - share)},
                ["streaming_spans_both"],
            ),
        }
    )
