import math

import pytest
import torch
from scipy import special, stats
from torch.nn import functional

from demos import attention as demo

FULL = torch.ones(5, 7, dtype=torch.bool)


def _vectors(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scaled", [True, False])
def test_weights_agree_with_a_loop_over_every_query_and_key(scaled):
    q, k = _vectors(5, 4), _vectors(7, 4, seed=1)
    mask = torch.rand(5, 7, generator=torch.Generator().manual_seed(2)) < 0.7
    weights = demo.attention_weights(q, k, mask, scaled=scaled)
    for i in range(5):
        powers = [
            math.exp(sum(float(a * b) for a, b in zip(q[i], k[j], strict=True)) / (2 if scaled else 1))
            * bool(mask[i, j])
            for j in range(7)
        ]
        assert weights[i].tolist() == pytest.approx([power / sum(powers) for power in powers])


def test_scores_that_overflow_an_exponential_leave_finite_weights():
    weights = demo.attention_weights(1e6 * torch.ones(1, 1), torch.tensor([[1.0], [2.0]]), torch.ones(1, 2).bool())
    assert weights.tolist() == [[0.0, 1.0]]


def test_a_row_that_sees_nothing_is_zero_with_torch_too():
    q, k, mask = _vectors(5, 4), _vectors(7, 4, seed=1), FULL.clone()
    mask[2] = False
    ours = demo.attention_weights(q, k, mask) @ k
    torch.testing.assert_close(ours, functional.scaled_dot_product_attention(q, k, k, attn_mask=mask))
    assert ours[2].tolist() == [0.0] * 4


def test_a_head_takes_its_own_columns():
    x = torch.arange(6.0).reshape(1, 6)
    assert demo.split_heads(x, 3).tolist() == [[[0, 1]], [[2, 3]], [[4, 5]]]


@pytest.mark.parametrize(("causal", "padding"), [(False, 0), (True, 0), (False, 2), (True, 2)])
def test_the_mask_agrees_with_its_definition(causal, padding):
    mask = demo.visible(5, causal=causal, padding=padding)
    for asks in range(5):
        for answers in range(5):
            assert bool(mask[asks, answers]) == (answers >= padding and (not causal or answers <= asks))


def test_entropy_agrees_with_scipy():
    weights = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    assert demo.entropy(weights).tolist() == pytest.approx(stats.entropy(weights.numpy(), axis=1))


def test_the_slope_is_the_norm_of_the_jacobian_that_autograd_finds():
    scores = _vectors(6)
    jacobian = torch.autograd.functional.jacobian(lambda s: torch.softmax(s, -1), scores)
    torch.testing.assert_close(demo.softmax_slope(torch.softmax(scores, -1)), jacobian.norm())


def test_random_scores_follow_the_distribution_of_a_product_of_normals_at_width_one():
    """The product of two normals has density K0(|x|) / pi; right draws fail at one seed in a thousand."""
    scores = demo.random_scores((1,), 2_000, 1, torch.Generator().manual_seed(0)).flatten().numpy()
    # The Struve functions give the integral of K0 from 0 to x.
    upper = abs(scores)
    half = (
        upper / 2 * (special.k0(upper) * special.modstruve(-1, upper) + special.k1(upper) * special.modstruve(0, upper))
    )
    shares = 0.5 + half * (2 * (scores > 0) - 1)
    assert stats.kstest(shares, "uniform").pvalue > 1e-3


def test_a_word_has_one_embedding_wherever_it_stands_and_whatever_follows():
    tokens, x, _, _ = demo._inputs(demo.Params(text="a rose is a rose", padding=1))
    assert tokens == ("[pad]", "a", "rose", "is", "a", "rose")
    assert torch.equal(x[1], x[4]) and torch.equal(x[2], x[5]) and not torch.equal(x[0], x[1])
    _, shorter, _, _ = demo._inputs(demo.Params(text="a rose"))
    assert torch.equal(shorter, x[1:3])


def test_a_word_finds_its_repeats_when_keys_are_projected_as_queries_are():
    result = demo.run(demo.Params(match=1.0))
    dogs = [place for place, token in enumerate(result.tokens) if token == "dog"]
    assert (result.weights[:, dogs[0], dogs].sum(-1) > 0.9).all()


def test_both_settings_of_the_scaling_are_kept_whichever_is_asked_for():
    on, off = demo.run(demo.Params()), demo.run(demo.Params(scaled=False))
    assert torch.equal(on.with_scaling, off.with_scaling) and torch.equal(on.without_scaling, off.without_scaling)
    assert torch.equal(on.weights, on.with_scaling) and torch.equal(off.weights, off.without_scaling)


def test_masked_cells_are_blank_in_the_picture_and_the_padded_row_with_them():
    params = demo.Params(causal=True, padding=1)
    result = demo.run(params)
    first = next(iter(demo.figure(params, result).values())).data[0]
    assert len(first.z) == len(result.tokens)
    assert all(math.isnan(cell) for cell in first.z[0])
    assert not math.isnan(first.z[1][1]) and math.isnan(first.z[1][2])


def _weights(q, k, mask, *, scaled=True, axis=-1, root=True):
    scores = q @ k.mT / (math.sqrt(q.shape[-1]) if scaled and root else 1)
    return torch.softmax(scores.masked_fill(~mask, -math.inf), axis).nan_to_num(0)


def test_a_law_notices_every_mistake(laws_notice):
    laws_notice(
        {
            "scaling forgotten": (
                {"attention_weights": lambda q, k, mask, *, scaled=True: _weights(q, k, mask, root=False)},
                ["agrees_with_torch", "agrees_with_torch_multihead"],
            ),
            "softmax over the queries": (
                {"attention_weights": lambda q, k, mask, *, scaled=True: _weights(q, k, mask, scaled=scaled, axis=-2)},
                ["agrees_with_torch", "agrees_with_torch_multihead", "rows_sum_to_one_or_are_zero"],
            ),
            "masked rows left NaN": (
                {
                    "attention_weights": lambda q, k, mask, *, scaled=True: torch.softmax(
                        (q @ k.mT).masked_fill(~mask, -math.inf), -1
                    )
                },
                ["rows_sum_to_one_or_are_zero"],
            ),
            "masked after the softmax": (
                {
                    "attention_weights": lambda q, k, mask, *, scaled=True: (
                        _weights(q, k, torch.ones_like(mask), scaled=scaled) * mask
                    )
                },
                ["causal_rows_never_look_ahead"],
            ),
            "a mask that is small instead of none": (
                {
                    "attention_weights": lambda q, k, mask, *, scaled=True: torch.softmax(
                        q @ k.mT / math.sqrt(q.shape[-1]) - 5.0 * ~mask, -1
                    )
                },
                ["causal_rows_never_look_ahead"],
            ),
            "the heads joined without turning them back": (
                {"split_heads": lambda x, heads: x.reshape(heads, x.shape[0], -1)},
                ["agrees_with_torch_multihead", "order_is_not_known", "causal_rows_never_look_ahead"],
            ),
            "a mask one too wide": (
                {"visible": lambda n, *, causal, padding: torch.ones(n, n, dtype=torch.bool).tril(1)},
                ["causal_rows_never_look_ahead"],
            ),
            "scores averaged over the width": (
                {"random_scores": lambda *given, right=demo.random_scores: right(*given) / math.sqrt(given[0][0])},
                ["scaling_restores_unit_variance"],
            ),
        }
    )
