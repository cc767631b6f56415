import itertools

import pytest
import torch
from torch.nn import functional

from demos import dropblock as demo

DRAW, DROP, GAMMA, SURVIVAL, SPREAD = (
    demo.draw_mask,
    demo.dropblock,
    demo.seed_probability,
    demo.survival,
    demo.spread,
)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("block", [1, 2, 3, 6, 7])
def test_blocks_spread_from_their_seeds_as_in_a_loop(block):
    fits = 7 - block + 1
    seeds = torch.rand(5, fits, fits, generator=_generator()) < 0.1
    expected = torch.zeros(5, 7, 7, dtype=torch.bool)
    for channel, row, column in seeds.nonzero().tolist():
        expected[channel, row : row + block, column : column + block] = True
    assert torch.equal(demo.spread(seeds, block), expected)


@pytest.mark.parametrize(("size", "gamma"), [(28, 0.0033), (14, 0.00625), (7, 0.1)])
def test_the_seed_probabilities_are_those_of_the_card(size, gamma):
    assert demo.seed_probability(size, 7, 0.9) == pytest.approx(gamma, rel=0.02)


@pytest.mark.parametrize(("size", "mean", "middle", "corner"), [(28, 0.906, 0.850, 0.997), (14, 0.907, 0.735, 0.994)])
def test_the_shares_kept_are_those_of_the_card(size, mean, middle, corner):
    kept = demo.survival(size, 7, 0.9)
    shown = [round(float(value), 3) for value in (kept.mean(), kept[size // 2, size // 2], kept[0, 0])]
    assert shown == [mean, middle, corner]


@pytest.mark.parametrize("block", [2, 3, 4])
def test_survival_agrees_with_every_way_to_place_the_seeds(block):
    size, fits = 4, 4 - block + 1
    gamma, expected = demo.seed_probability(size, block, 0.7), torch.zeros(4, 4, dtype=torch.float64)
    for bits in itertools.product((False, True), repeat=fits * fits):
        seeds = torch.tensor(bits).reshape(1, fits, fits)
        weight = gamma ** sum(bits) * (1 - gamma) ** (len(bits) - sum(bits))
        expected += weight * (~demo.spread(seeds, block)[0]).double()
    torch.testing.assert_close(demo.survival(size, block, 0.7), expected)


def test_the_lonely_share_agrees_with_a_loop_over_neighbors():
    kept = torch.rand(2, 6, 6, generator=_generator()) < 0.2
    dropped = alone = 0
    for channel, row, column in (~kept).nonzero().tolist():
        near = kept[channel, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        dropped, alone = dropped + 1, alone + (not near.any())
    assert float(demo.lonely_share(kept)) == pytest.approx(alone / dropped)


def test_dropped_units_are_zero_and_the_kept_are_scaled_by_one_number():
    features = torch.rand(3, 5, 5, generator=_generator())
    kept = torch.rand(3, 5, 5, generator=_generator(1)) < 0.6
    out = demo.dropblock(features, kept)
    assert (out[~kept] == 0).all()
    torch.testing.assert_close(out[kept], features[kept] * 75 / kept.sum())


def test_a_map_dropped_entirely_stays_finite():
    assert torch.equal(
        demo.dropblock(torch.ones(1, 3, 3), torch.zeros(1, 3, 3, dtype=torch.bool)), torch.zeros(1, 3, 3)
    )


def test_a_block_larger_than_the_map_is_as_large_as_the_map():
    large, whole = (demo.run(demo.Params(size=10, block=block)) for block in (56, 10))
    assert torch.equal(large.kept, whole.kept) and large.gamma == pytest.approx(0.25)


def test_at_test_time_every_picture_is_the_features():
    result = demo.run(demo.Params(training=False))
    assert all(torch.equal(maps, result.features) for maps in result.dropped)


def test_a_law_notices_every_mistake(laws_notice):
    def short(seeds, block):
        return functional.pad(SPREAD(seeds, block - 1), (0, 1, 0, 1)) if block > 1 else seeds

    laws_notice(
        {
            "a spread that is a unit short": (
                {"spread": short},
                ["block_of_all_is_spatial_dropout", "exact_share_agrees_with_draws"],
            ),
            "keeping what should be dropped": (
                {"draw_mask": lambda *how: ~DRAW(*how)},
                ["block_of_one_is_dropout", "block_of_all_is_spatial_dropout"],
            ),
            "a formula without the border factor": (
                {"seed_probability": lambda size, block, keep: (1 - keep) / block**2},
                ["formula_counts_overlaps_twice", "block_of_all_is_spatial_dropout"],
            ),
            "twice the seeds keep less than asked": (
                {"seed_probability": lambda *how: 2 * GAMMA(*how)},
                ["keeps_no_less_than_asked", "formula_counts_overlaps_twice"],
            ),
            "survival that ignores overlaps": (
                {"survival": lambda size, block, keep: torch.full((size, size), keep)},
                ["exact_share_agrees_with_draws"],
                {"keep": 0.5},
            ),
            "blocks that wrap around": (
                {"survival": lambda *how: SURVIVAL(*how).roll((3, 3), (0, 1))},
                ["corners_are_spared"],
            ),
            "a forgotten scale": (
                {"dropblock": lambda features, kept, training=True: features * kept},
                ["rescaling_keeps_the_mean"],
            ),
            "a forgotten test time": (
                {"dropblock": lambda features, kept, training=True: DROP(features, kept)},
                ["identity_at_test_time"],
            ),
        }
    )
