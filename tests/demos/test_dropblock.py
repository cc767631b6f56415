import itertools

import pytest
import torch
from torch.nn import functional

from demos import dropblock as demo
from demos import kit

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


def _holds(name, **change):
    return kit.load("dropblock").checks[name].run(demo.Params(**change)).holds


def test_a_spread_that_is_a_unit_short_breaks_the_draws_and_spatial_dropout(monkeypatch):
    def short(seeds, block):
        return functional.pad(SPREAD(seeds, block - 1), (0, 1, 0, 1)) if block > 1 else seeds

    monkeypatch.setattr(demo, "spread", short)
    assert not _holds("block_of_all_is_spatial_dropout")
    assert not _holds("exact_share_agrees_with_draws")


def test_keeping_what_should_be_dropped_breaks_both_ends(monkeypatch):
    monkeypatch.setattr(demo, "draw_mask", lambda *how: ~DRAW(*how))
    assert not _holds("block_of_one_is_dropout")
    assert not _holds("block_of_all_is_spatial_dropout")


def test_a_formula_without_the_border_factor_breaks_its_law(monkeypatch):
    monkeypatch.setattr(demo, "seed_probability", lambda size, block, keep: (1 - keep) / block**2)
    assert not _holds("formula_counts_overlaps_twice")
    assert not _holds("block_of_all_is_spatial_dropout")


def test_twice_the_seeds_keep_less_than_asked(monkeypatch):
    monkeypatch.setattr(demo, "seed_probability", lambda *how: 2 * GAMMA(*how))
    assert not _holds("keeps_no_less_than_asked")
    assert not _holds("formula_counts_overlaps_twice")


def test_survival_that_ignores_overlaps_is_not_what_is_drawn(monkeypatch):
    monkeypatch.setattr(demo, "survival", lambda size, block, keep: torch.full((size, size), keep))
    assert not _holds("exact_share_agrees_with_draws", keep=0.5)


def test_blocks_that_wrap_around_do_not_spare_the_corners(monkeypatch):
    monkeypatch.setattr(demo, "survival", lambda *how: SURVIVAL(*how).roll((3, 3), (0, 1)))
    assert not _holds("corners_are_spared")


def test_forgetting_the_scale_or_the_test_time_breaks_its_law(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(demo, "dropblock", lambda features, kept, training=True: features * kept)
        assert not _holds("rescaling_keeps_the_mean")
    monkeypatch.setattr(demo, "dropblock", lambda features, kept, training=True: DROP(features, kept))
    assert not _holds("identity_at_test_time")


@pytest.mark.parametrize("name", ["approximation_is_close", "dropped_units_are_alone"])
def test_the_findings_hold(name):
    assert kit.load("dropblock").checks[name].run(None).holds
