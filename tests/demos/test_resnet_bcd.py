import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from demos import resnet_bcd as demo
from demos.kit.training import build


@pytest.mark.parametrize("variant", demo.VARIANTS)
@pytest.mark.parametrize("side", [32, 37])
def test_multiply_adds_are_those_that_a_real_forward_pass_makes(variant, side):
    made = 0

    def count(layer, _, output):
        nonlocal made
        made += output.numel() * layer.weight[0].numel()

    network = build(lambda: nn.Sequential(demo.stem(variant), demo.Block(variant, 64, 16, 2)), torch.Generator())
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    output = network.eval()(torch.zeros(1, 3, side, side))
    assert demo.multiply_adds(network, side) == (made, output.shape[-1])


def test_the_whole_network_costs_what_torch_counts():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        demo.resnet50("D").eval()(torch.empty(1, 3, 64, 64))
    assert 2 * demo.multiply_adds(demo.on_meta(lambda: demo.resnet50("D")), 64)[0] == counter.get_total_flops()


@pytest.mark.parametrize("variant", demo.VARIANTS)
def test_what_is_read_is_the_same_with_random_weights_and_many_channels(variant):
    alike = demo.alike(lambda: demo.main_path(variant, 1, 1, 1))
    many = build(lambda: demo.main_path(variant, 4, 16, 8), torch.Generator().manual_seed(0))
    for layer in many.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.abs_()
    assert torch.equal(demo.influence(alike, 16, 16) > 0, demo.influence(many, 16, 16, 4) > 0)


def test_influence_counts_the_outputs_that_a_loop_finds_to_change():
    module = demo.alike(lambda: demo.shortcut("original", 1, 1))
    with torch.no_grad():
        x = torch.ones(1, 1, 6, 6)
        before = module.eval()(x)
        for row in range(6):
            for column in range(6):
                changed = x.clone()
                changed[0, 0, row, column] += 1
                moves = not torch.equal(module(changed), before)
                assert moves == (row % 2 == 0 and column % 2 == 0)


def test_the_areas_drawn_of_a_stem_are_its_multiply_adds_for_each_pixel():
    result = demo.run(demo.Params(resolution=224))
    for variant, stem in zip(("original", "C"), result.stems, strict=True):
        drawn = sum(k * k * c_in * c_out for k, c_in, c_out in stem)
        assert 112**2 * drawn == int(result.stem_cost[demo.VARIANTS.index(variant)])


def test_of_a_faded_pixel_its_share_is_left():
    picture = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([[[0.0, 1.0], [0.5, 0.25]]])
    (faded,) = demo.fade(picture, shares)
    assert faded[:, 0, 0].tolist() == [1.0] * 3
    torch.testing.assert_close(faded[:, 0, 1], picture[:, 0, 1])
    torch.testing.assert_close(faded[:, 1, 0], (picture[:, 1, 0] + 1) / 2)
    torch.testing.assert_close(faded[:, 1, 1], (picture[:, 1, 1] + 3) / 4)


@pytest.mark.parametrize(
    ("variant", "main", "short"), [("original", {0, 4}, {0, 4}), ("D", {4 / 9, 8 / 9, 16 / 9}, {1})]
)
def test_away_from_the_border_influence_takes_the_values_that_strides_foretell(variant, main, short):
    for values, expected in zip(demo.run(demo.Params(variant=variant)).influence, (main, short), strict=True):
        assert sorted(values[2:, 2:].unique().tolist()) == pytest.approx(sorted(expected))


@pytest.mark.parametrize("variant", demo.VARIANTS)
def test_every_variant_halves_the_map_and_classifies(variant):
    network = build(lambda: demo.Block(variant, 8, 4, 2), torch.Generator())
    assert network(torch.rand(2, 8, 9, 9)).shape == (2, 16, 5, 5)
    with torch.device("meta"):
        assert demo.resnet50(variant)(torch.empty(1, 3, 64, 64)).shape == (1, 1000)


def test_a_law_notices_every_mistake(laws_notice):
    main_path, shortcut, stem, influence = demo.main_path, demo.shortcut, demo.stem, demo.influence
    small = {"outputs": 8, "resolution": 64}

    def shallow(variant):
        layers = stem(variant)
        return layers if len(layers) == 2 else nn.Sequential(*layers[:2], demo.convolution(32, 64, 3), nn.ReLU())

    laws_notice(
        {
            "a stride in the 3x3": (
                {"main_path": lambda variant, *rest: main_path("B", *rest)},
                ["stride_in_a_1x1_ignores_three_quarters"],
                small,
            ),
            "influence of a single output": (
                {"influence": lambda *of, **how: influence(*of, one=True)},
                ["share_read_is_kernel_over_stride"],
                small,
            ),
            "a count without the kernel": (
                {"multiply_adds": lambda module, side: (module[0].weight.shape[0] * side**2, side)},
                ["seven_by_seven_at_equal_channels"],
                small,
            ),
            "a stride left in the main path's first layer": (
                {"main_path": lambda variant, *rest: main_path("original", *rest)},
                ["b_and_d_read_every_pixel"],
                small,
            ),
            "a stride left in the shortcut's 1 × 1": (
                {"shortcut": lambda variant, *rest: shortcut("original", *rest)},
                ["b_and_d_read_every_pixel"],
                small,
            ),
            "two 3 × 3 convolutions in the stem": (
                {
                    "stem": shallow,
                    # Uncached, so that they count the broken stem and no one else's count is kept.
                    "counts": demo.counts.__wrapped__,
                    "_blueprint": demo._blueprint.__wrapped__,
                },
                ["three_small_kernels_see_a_large_field", "stem_of_c_costs_three_times"],
                small,
            ),
        }
    )
