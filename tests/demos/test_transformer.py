import math

import pytest
import torch
from torch.nn import functional

from demos import transformer as demo


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _words(n=5, d=16, seed=1):
    return torch.randn(n, d, dtype=torch.float64, generator=_generator(seed))


W = demo.draw_block(16, 40, _generator())


def test_layer_norm_agrees_with_torch():
    x = 3 + 5 * _words()
    theirs = functional.layer_norm(x, (16,), W.gain_1, W.shift_1)
    torch.testing.assert_close(demo.layer_norm(x, W.gain_1, W.shift_1), theirs)


def test_layer_norm_of_a_constant_vector_is_its_shift():
    assert torch.equal(demo.layer_norm(torch.full((16,), 7.0).double(), W.gain_1, W.shift_1), W.shift_1)


def test_the_feed_forward_net_is_two_convolutions_of_width_one():
    x = _words()
    hidden = functional.conv1d(x.T[None], W.w_1.T[..., None], W.b_1).relu()
    expected = functional.conv1d(hidden, W.w_2.T[..., None], W.b_2)[0].T
    torch.testing.assert_close(demo.feed_forward(x, W), expected)


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_agrees_with_a_loop_over_heads_and_queries(heads):
    x = _words()
    q, k, v = (x @ W.w_qkv[:, 16 * i : 16 * (i + 1)] + W.b_qkv[16 * i : 16 * (i + 1)] for i in range(3))
    joined = torch.zeros(5, 16, dtype=torch.float64)
    width = 16 // heads
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        for query in range(5):
            weights = torch.softmax(k[:, own] @ q[query, own] / math.sqrt(width), 0)
            joined[query, own] = sum(weight * value for weight, value in zip(weights, v[:, own], strict=True))
    torch.testing.assert_close(demo.self_attention(x, W, heads), joined @ W.w_o + W.b_o)


def test_the_encoding_agrees_with_its_definition_entry_by_entry():
    encoding = demo.positions(6, 8, start=3)
    for t in range(6):
        for i in range(4):
            angle = (t + 3) / 10_000 ** (2 * i / 8)
            assert encoding[t, 2 * i : 2 * i + 2].tolist() == pytest.approx([math.sin(angle), math.cos(angle)])


def test_the_base_model_has_the_published_counts():
    attention, feed_forward, norms = 1_050_624, 2_099_712, 2_048
    assert demo.parameter_count(512, 2048) == attention + feed_forward + norms


def test_only_attention_and_the_block_change_other_places():
    params = demo.Params(replaced=3)
    result = demo.run(params)
    others = torch.arange(params.length) != 2
    changed = dict(zip(demo.PARTS, (result.spread[:, others] > 0).all(-1).tolist(), strict=True))
    unchanged = dict(zip(demo.PARTS, (result.spread[:, others] == 0).all(-1).tolist(), strict=True))
    assert [name for name in demo.PARTS if changed[name]] == ["attention", "whole block"]
    assert [name for name in demo.PARTS if unchanged[name]] == ["residual", "layer norm", "feed-forward"]
    assert float(result.spread[0, 2]) == pytest.approx(1.0)


def test_a_place_beyond_the_last_word_means_the_last_word():
    assert demo.run(demo.Params(length=5, replaced=60)).place == 4


def test_the_stream_follows_the_blocks_one_after_the_other():
    params = demo.Params(layers=3, norm="pre", heads="2")
    x, _, blocks, _ = demo._inputs(params, 3)
    for w in blocks:
        x = demo.block(x, w, 2, "pre")
    assert float(demo.run(params).stream[1, -1]) == pytest.approx(float(x.square().mean().sqrt()))


def test_the_hands_stand_where_the_encoding_does():
    params = demo.Params(replaced=8, shift=4)
    hands = demo.run(params).hands
    for dial, frequency in enumerate(demo.run(params).frequencies.tolist()):
        for hand, at in enumerate((8, 12)):
            expected = [math.sin(frequency * at), math.cos(frequency * at)]
            assert hands[dial, hand].tolist() == pytest.approx(expected)


def _mixing_net(x, w, right=demo.feed_forward):
    return right(x, w) + 1e-6 * x.mean(0, keepdim=True)


def _causal(x, w, heads):
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in (x @ w.w_qkv + w.b_qkv).chunk(3, -1))
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return mixed.transpose(0, 1).flatten(1) @ w.w_o + w.b_o


def test_a_law_notices_every_mistake(laws_notice):
    laws_notice(
        {
            "a net that looks at the other positions": ({"feed_forward": _mixing_net}, ["feed_forward_acts_alone"]),
            "a net without its last bias": (
                {"feed_forward": lambda x, w: (x @ w.w_1 + w.b_1).clamp(min=0) @ w.w_2},
                ["agrees_with_torch"],
            ),
            "norm over the positions": (
                {
                    "layer_norm": lambda x, gain, shift: (
                        (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() * gain + shift
                    )
                },
                ["agrees_with_torch"],
            ),
            "attention that knows the order": (
                {"self_attention": _causal},
                ["equivariant_without_positions", "agrees_with_torch"],
            ),
            "a rotation the wrong way": (
                {"shift_matrix": lambda shift, d, right=demo.shift_matrix: right(shift, d).T},
                ["shift_is_a_rotation"],
            ),
            "cosines in place of the sines": (
                {
                    "positions": lambda n, d, *, start=0: (
                        (torch.arange(start, start + n, dtype=torch.float64)[:, None] * demo.frequencies(d))
                        .cos()
                        .repeat(1, 2)
                    )
                },
                ["shift_is_a_rotation", "likeness_depends_on_distance"],
            ),
            "biases left out of the count": (
                {"parameter_count": lambda d, d_ff: 4 * d * d + 2 * d * d_ff},
                ["parameters_follow_the_formula"],
            ),
        }
    )
