import itertools

import pytest
import torch

from demos import normalization_axes as demo


def _block(samples=3, seed=0):
    return torch.randn(samples, 6, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 1


SAME_SET = {
    "batch": lambda a, b: a[1] == b[1],
    "layer": lambda a, b: a[0] == b[0],
    "instance": lambda a, b: a == b,
    "group": lambda a, b: a[0] == b[0] and a[1] // 2 == b[1] // 2,
}


@pytest.mark.parametrize("method", demo.METHODS)
def test_a_double_loop_over_every_set_gives_the_same_output(method):
    x = _block()
    after = demo.normalize(x, method, 3)
    tiles = list(itertools.product(range(3), range(6)))
    for tile in tiles:
        peers = torch.cat([x[other].flatten() for other in tiles if SAME_SET[method](tile, other)])
        mean = sum(peers.tolist()) / len(peers)
        variance = sum((value - mean) ** 2 for value in peers.tolist()) / len(peers)
        torch.testing.assert_close(after[tile], (x[tile] - mean) / (variance + demo.EPS) ** 0.5)


@pytest.mark.parametrize("method", demo.METHODS)
def test_tiles_have_the_same_number_exactly_where_they_share_a_mean(method):
    numbers = demo.set_numbers(_block(), method, 3)
    for one, other in itertools.product(itertools.product(range(3), range(6)), repeat=2):
        assert (numbers[one] == numbers[other]) == SAME_SET[method](one, other)


def test_for_a_single_sample_batch_norm_is_instance_norm():
    x = _block(samples=1)
    torch.testing.assert_close(demo.normalize(x, "batch"), demo.normalize(x, "instance"))


def test_the_filters_are_those_of_a_correlation_by_hand():
    image = torch.nn.functional.pad(demo.digits()[0][7, 0].double(), (1, 1, 1, 1))
    for channel, kernel in enumerate(demo.FILTERS.values()):
        by_hand = sum(kernel[i][j] * image[2 + i, 3 + j] for i in range(3) for j in range(3))
        assert demo.filtered_digits()[7, channel, 2, 3] == pytest.approx(float(by_hand))


def test_even_light_leaves_the_digits_as_they_are():
    drawn = demo.draw_block(4, 0.0, torch.Generator().manual_seed(0))
    chosen = torch.randint(1797, (4,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, demo.filtered_digits()[chosen])


def _statistics_with(change):
    right = demo.statistics
    return lambda x, groups, *, across_batch: change(*right(x, groups, across_batch=across_batch))


def test_batch_norm_alone_wavers_with_its_companions_and_less_in_a_large_batch():
    wavering = demo.run(demo.Params()).wavering
    assert (wavering[1:] < 1e-12).all()
    assert wavering[0, 0] > 3 * wavering[0, -1] > 0


def test_a_law_notices_every_mistake(laws_notice):
    layout = demo.layout
    statistics = demo.statistics
    laws_notice(
        {
            "a mean square in place of the variance": (
                {"statistics": _statistics_with(lambda mean, variance: (mean, variance + mean.square()))},
                [
                    "equals_torch",
                    "sets_come_out_standardized",
                    "one_group_is_layer_norm",
                    "a_group_per_channel_is_instance_norm",
                ],
            ),
            "frozen statistics": (
                {"statistics": _statistics_with(lambda mean, variance: (0 * mean, 0 * variance + 1))},
                ["batch_norm_depends_on_companions"],
            ),
            "layer norm across the batch": (
                {"layout": lambda method, *counts: (layout(method, *counts)[0], True)},
                ["the_others_do_not"],
            ),
            "a mean over the first sample alone": (
                {"statistics": lambda x, groups, *, across_batch: statistics(x[:1], groups, across_batch=True)},
                ["noise_of_the_mean"],
            ),
        }
    )
