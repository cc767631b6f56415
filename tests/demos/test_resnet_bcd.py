import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from demos import resnet_bcd as demo
from demos.kit.training import build

PARAMS = demo.Params(outputs=8, resolution=64)


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


def test_findings_hold():
    assert demo.parameters_as_published.run(None).holds
    assert demo.deep_stem_adds.run(None).holds


def test_a_stride_in_the_3x3_breaks_the_law_of_the_original(monkeypatch):
    original = demo.main_path
    assert demo.stride_in_a_1x1_ignores_three_quarters.run(PARAMS).holds
    monkeypatch.setattr(demo, "main_path", lambda variant, *rest: original("B", *rest))
    assert not demo.stride_in_a_1x1_ignores_three_quarters.run(PARAMS).holds


@pytest.mark.parametrize("path", ["main_path", "shortcut"])
def test_a_stride_left_in_a_1x1_breaks_the_law_of_b_and_d(monkeypatch, path):
    original = getattr(demo, path)
    assert demo.b_and_d_read_every_pixel.run(PARAMS).holds
    monkeypatch.setattr(demo, path, lambda variant, *rest: original("original", *rest))
    assert not demo.b_and_d_read_every_pixel.run(PARAMS).holds


def test_influence_of_a_single_output_breaks_the_law_of_the_share_read(monkeypatch):
    original = demo.influence
    assert demo.share_read_is_kernel_over_stride.run(PARAMS).holds
    monkeypatch.setattr(demo, "influence", lambda *of, **how: original(*of, one=True))
    assert not demo.share_read_is_kernel_over_stride.run(PARAMS).holds


def test_two_3x3_convolutions_in_the_stem_break_the_laws_of_the_stem(monkeypatch):
    original = demo.stem
    laws = (demo.three_small_kernels_see_a_large_field, demo.stem_of_c_costs_three_times)
    assert all(law.run(PARAMS).holds for law in laws)

    def shallow(variant):
        layers = original(variant)
        return layers if len(layers) == 2 else nn.Sequential(*layers[:2], demo.convolution(32, 64, 3), nn.ReLU())

    monkeypatch.setattr(demo, "stem", shallow)
    for cached in ("counts", "_blueprint"):
        monkeypatch.setattr(demo, cached, getattr(demo, cached).__wrapped__)
    assert not any(law.run(PARAMS).holds for law in laws)


def test_a_count_without_the_kernel_breaks_the_law_of_the_7x7(monkeypatch):
    assert demo.seven_by_seven_at_equal_channels.run(PARAMS).holds
    monkeypatch.setattr(demo, "multiply_adds", lambda module, side: (module[0].weight.shape[0] * side**2, side))
    assert not demo.seven_by_seven_at_equal_channels.run(PARAMS).holds
