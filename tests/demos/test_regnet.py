import math
from itertools import pairwise

import pytest
import torch

from demos import kit
from demos import regnet as demo


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("preset", demo.PRESETS.values())
def test_widths_agree_with_a_loop_over_blocks(preset):
    expected = []
    for block in range(preset.depth):
        exponent = round(math.log((preset.first + preset.slope * block) / preset.first, preset.factor))
        expected.append(8 * round(preset.first * preset.factor**exponent / 8))
    assert demo.regular_widths(preset.depth, preset.first, preset.slope, preset.factor).tolist() == expected


def test_the_parameters_of_the_published_3_2gf_network_are_counted():
    # Table 5 and the authors' model_complexity.json: 15,296,552 in all with a stem of 32 and 1,000 classes.
    p = demo.PRESETS["RegNetX-3.2GF"]
    total, before = 3 * 32 * 9 + 2 * 32, 32
    for width, blocks in demo.stages(demo.regular_widths(p.depth, p.first, p.slope, p.factor), int(p.group)):
        for block in range(blocks):
            total += before * width + width * int(p.group) * 9 + width * width + 3 * 2 * width
            total += before * width + 2 * width if block == 0 else 0
            before = width
    assert total + before * 1_000 + 1_000 == 15_296_552


def test_a_stage_narrower_than_a_group_stays_as_it_is():
    assert demo.stages(torch.tensor([80, 80, 232]), 120) == ((80, 2), (240, 1))


def test_the_distribution_agrees_with_a_double_loop_and_counts_no_ties():
    errors, at = torch.tensor([0.1, 0.1, 0.3, 0.5]), torch.tensor([0.1, 0.2, 0.5, 0.6])
    assert demo.distribution(errors, at).tolist() == [sum(e < limit for e in errors) / 4 for limit in at]
    assert demo.distribution(errors, at).tolist() == [0.0, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("draw", [demo.draw_free, demo.draw_regular])
def test_sampled_networks_keep_to_the_budget_and_are_counted_right(draw):
    generator = _generator()
    for _ in range(20):
        widths = demo.sample(draw, generator)
        network = demo.perceptron(widths, generator)
        assert demo.parameters(widths) == sum(weight.numel() for weight in network.parameters())
        assert demo.FEWEST <= demo.parameters(widths) <= demo.MOST
        assert all(width % 8 == 0 for width in widths[1:-1])


def test_only_the_regular_space_keeps_widths_from_shrinking():
    def shrinks(widths):
        return any(after < before for before, after in pairwise(widths))

    generator = _generator()
    assert not any(shrinks(demo.draw_regular(generator)) for _ in range(200))
    assert any(shrinks(demo.draw_free(generator)) for _ in range(200))


def test_training_brings_the_error_down():
    assert demo.train([64, 64, 10], 60, _generator()) < 0.3 < 0.7 < demo.train([64, 64, 10], 0, _generator())


def test_networks_are_ranked_by_their_error_and_stand_in_its_interval():
    p = demo.Params(models=5, updates=20)
    *_, result = demo.run(p)
    view = demo.examine(p, result)
    for space in range(2):
        errors, networks = result.errors[space].tolist(), result.networks[space]
        assert sorted(view.ranked[space]) == sorted(zip(errors, networks, strict=True))
        assert [error for error, _ in view.ranked[space]] == sorted(errors)
        for error, interval in zip(errors, view.interval[space].tolist(), strict=True):
            assert demo.EDGES[interval] < error <= demo.EDGES[interval + 1]


@pytest.mark.parametrize("preset", demo.PRESETS.values())
def test_every_block_takes_the_rung_nearest_to_the_line_in_the_logarithm(preset):
    nothing = demo.Result(torch.empty(2, 0, dtype=torch.float64), ((), ()))
    view = demo.examine(preset, nothing)
    nearest = [min(view.rungs.tolist(), key=lambda rung: abs(math.log(rung / u))) for u in view.line.tolist()]
    assert nearest == pytest.approx(demo.quantize(view.line, preset.factor).tolist())


def test_maps_shrink_as_strided_convolutions_shrink_them():
    shrink, sides = torch.nn.Conv2d(1, 1, 3, 2, 1), []
    x = shrink(torch.zeros(1, 1, 224, 224))
    for _ in range(9):
        x = shrink(x)
        sides.append(x.shape[-1])
    assert demo.map_sides(9) == tuple(sides)
    assert demo.map_sides(4) == (56, 28, 14, 7)


def test_the_line_is_drawn_without_a_new_run():
    p = demo.Params(models=5, updates=10)
    *_, result = demo.run(p)
    for change in ({"depth": 1}, {"first": 8.0}, {"slope": 0.0}, {"factor": 3.0}, {"group": "120"}):
        moved = p.but(**change)
        assert moved.run_key() == p.run_key()
        assert all(figure.to_json() for figure in kit.load("regnet").figures(moved, result).values())


def test_a_law_notices_every_mistake(laws_notice):
    regular_widths = demo.regular_widths
    laws_notice(
        {
            "widths left on the line": (
                {"quantize": lambda u, factor: u},
                ["stages_are_powers_apart"],
            ),
            "widths that ignore their groups": (
                {"round_to": lambda widths, multiple: 8 * (widths / 8).round()},
                ["stages_are_legal"],
            ),
            "a line that falls": (
                {"regular_widths": lambda *line: regular_widths(*line).flip(0)},
                ["stages_are_legal"],
            ),
            "counting ties": (
                {"distribution": lambda errors, at: (errors <= at[:, None]).double().mean(-1)},
                ["distribution_counts_smaller_errors"],
            ),
            **{
                f"rounding by {rounding.__name__} alone": (
                    {
                        "quantize": lambda u, factor, one_way=rounding: (
                            u[0] * factor ** one_way((u / u[0]).log() / math.log(factor))
                        )
                    },
                    ["widths_stay_near_the_line", "published_networks"],
                )
                for rounding in (torch.floor, torch.ceil)
            },
        }
    )
