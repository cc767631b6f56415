import pytest
import torch
from torch.nn import functional as F

from demos import web_data_memory_module as demo


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_slot_is_that_of_a_loop_over_cosines():
    features, keys = _random(30, 5), _random(7, 5, seed=1)
    expected = [max(range(7), key=lambda k: F.cosine_similarity(f, keys[k], dim=0)) for f in features]
    assert demo.lookup(features, keys).tolist() == expected


def test_the_scores_are_those_counted_by_hand():
    slot, found = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([2, 2, 5, 2, 5])
    discriminative, representative = demo.count_scores(slot, found, 3)
    assert discriminative[:, 2].tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    assert representative[:, 2].tolist() == pytest.approx([1, 1 / 2, 0])
    assert representative[:, 5].tolist() == pytest.approx([1, 1, 0])
    weights = demo.weigh(torch.stack([discriminative, representative]), slot, found)
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 4, 1 / 2])


def test_a_bag_is_the_weighted_average_of_a_loop():
    features, weights = _random(4, 3, 5), _random(4, 3, seed=1).abs()
    expected = [
        sum(w * f for w, f in zip(ws, fs, strict=True)) / sum(ws) for ws, fs in zip(weights, features, strict=True)
    ]
    torch.testing.assert_close(demo.bag_features(features, weights), torch.stack(expected))


def test_one_feature_moves_every_center_by_the_rule_of_kohonen():
    feature, keys, near = _random(1, 5), _random(9, 5, seed=1), demo.neighborhood(3, 0.7)
    winner = int(demo.lookup(feature, keys))
    goal = feature[0] / feature[0].norm()
    expected = torch.stack([k + 0.2 * near[winner, i] * (goal - k) for i, k in enumerate(keys)])
    torch.testing.assert_close(demo.organize(keys, feature, near, 0.2), expected)


def test_a_search_finds_as_many_wrong_digits_and_backgrounds_as_asked():
    images, truth, *_ = demo.digits_split()
    params = demo.Params(wrong=0.6, shows="the next digit", background=3)
    found = demo.search(params, images[:100], truth[:100], torch.Generator().manual_seed(0))
    assert torch.bincount(found.kind).tolist() == [40, 60, 300]
    wrong = found.found[::4][:60]
    assert torch.equal((wrong + 1) % 10, truth[:60]) and torch.equal(found.found[::4][60:], truth[60:100])


def test_both_networks_are_one_until_the_weights_are_used():
    *_, last = demo.run(demo.Params(updates=40))
    before = last.steps <= last.start
    assert torch.equal(last.accuracy[before, 0], last.accuracy[before, 1])
    assert not torch.equal(last.accuracy[:, 0], last.accuracy[:, 1])


@pytest.mark.parametrize("params", [demo.Params(updates=40, side=2, background=0), demo.Params(updates=40, wrong=0.0)])
def test_the_ends_of_the_ranges_train_and_draw(params):
    *_, last = demo.run(params)
    view = demo.examine(params, last)
    assert demo.figure(params, view) and "there is none" in demo.readings(params, view).values()


def test_a_law_notices_every_mistake(laws_notice):
    count_scores = demo.count_scores
    laws_notice(
        {
            "scores exchanged": ({"count_scores": lambda *given: count_scores(*given).flip(0)}, ["scores_are_shares"]),
            "a sum for the mean": (
                {"bag_features": lambda f, w: (w[..., None] * f).sum(-2)},
                ["equal_weights_give_the_mean"],
            ),
            "dot products for cosines": ({"lookup": lambda f, k: (f @ k.T).argmax(1)}, ["lookup_ignores_length"]),
            "neighbors that move the more the farther they are": (
                {
                    "organize": lambda keys, f, near, step: (
                        keys + step * (1 - near[demo.lookup(f, keys)].T) * (F.normalize(f) - keys)
                    )
                },
                ["neighbors_move_less"],
            ),
        }
    )
