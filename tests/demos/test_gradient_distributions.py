import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial import distance
from torch import nn

from demos import gradient_distributions as demo
from demos.kit import data

SHORT = demo.Params(updates=20)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def heavy_tailed(count=50_000):
    return torch.randn(count, dtype=torch.float64, generator=seeded()) ** 3


@pytest.fixture(scope="module")
def frames():
    return list(demo.run(SHORT))


@pytest.mark.parametrize(
    "x", [heavy_tailed(), torch.rand(40, 3, 3, generator=seeded(1)), torch.tensor([0.0, 0.0, 1.0])]
)
def test_kurtosis_agrees_with_scipy(x):
    expected = stats.kurtosis(x.double().numpy(), axis=None, fisher=False)
    assert demo.kurtosis(x).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_nearest_rounding_agrees_with_torch_fake_quantization(bits):
    x, top = heavy_tailed().float(), 2 ** (bits - 1) - 1
    expected = torch.fake_quantize_per_tensor_affine(x, 3.0 / top, 0, -top, top)
    torch.testing.assert_close(demo.quantize(x, 3.0, bits), expected)


def test_stochastic_rounding_goes_to_one_of_the_two_levels_around_the_value():
    x = torch.linspace(-1.5, 1.5, 301)
    levels = torch.linspace(-1, 1, 15)
    for value, rounded in zip(x.clamp(-1, 1), demo.quantize(x, 1.0, 4, seeded()), strict=True):
        around = levels[(levels - value).abs() < 1 / 7 + 1e-6]
        assert (around - rounded).abs().min() < 1e-6


def test_stochastic_rounding_never_leaves_the_grid_in_single_precision():
    # 127 + u rounds up to 128 in float32 for u close to 1.
    x = torch.ones(2_000_000)
    assert demo.quantize(x, 1.0, 8, seeded()).max() == 1


def test_cosine_distance_agrees_with_scipy():
    x, y = heavy_tailed().reshape(2, -1)
    assert demo.cosine_distance(x, y).item() == pytest.approx(distance.cosine(x.numpy(), y.numpy()), rel=1e-12)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_expected_errors_agree_with_a_loop_over_entries_and_outcomes(bits):
    x, top = heavy_tailed(200).tolist(), 2 ** (bits - 1) - 1
    clip = max(map(abs, x)) / 3
    error = length = product = 0.0
    for value in x:
        kept = min(max(value, -clip), clip)
        down = math.floor(kept * top / clip)
        up_probability = kept * top / clip - down
        for level, probability in ((down, 1 - up_probability), (down + 1, up_probability)):
            rounded = level * clip / top
            error += probability * (rounded - value) ** 2
            length += probability * rounded**2
            product += probability * rounded * value
    energy = sum(value**2 for value in x)
    squared, cosine = demo.expected_errors(torch.tensor(x).double().abs(), torch.tensor([clip]).double(), bits)
    assert squared.item() == pytest.approx(error / energy, rel=1e-5)
    assert cosine.item() == pytest.approx(1 - product / math.sqrt(energy * length), rel=1e-5)


def test_counts_stand_for_repeated_entries():
    x = heavy_tailed(300).abs()
    clips = torch.tensor([1.0, 4.0], dtype=torch.float64)
    repeated = demo.expected_errors(x.repeat(3), clips, 5)
    counted = demo.expected_errors(x, clips, 5, torch.full_like(x, 3))
    torch.testing.assert_close(repeated, counted)


@pytest.mark.parametrize("count", [640, 50_000])
def test_groups_of_like_magnitude_keep_number_energy_and_the_largest(count):
    x = heavy_tailed(count)
    magnitudes, counts = demo.by_magnitude(x, 1024)
    assert counts.sum() == count
    assert magnitudes.max().item() == pytest.approx(x.abs().max().item())
    assert (counts * magnitudes.square()).sum().item() == pytest.approx(x.square().sum().item(), rel=1e-12)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_groups_of_like_magnitude_have_the_errors_of_the_whole_tensor(bits):
    x = heavy_tailed()
    magnitudes, counts = demo.by_magnitude(x, demo.GROUPS)
    clips = torch.tensor([0.1, 0.3, 1.0], dtype=torch.float64) * x.abs().max()
    whole = torch.stack(demo.expected_errors(x.abs(), clips, bits))
    grouped = torch.stack(demo.expected_errors(magnitudes, clips, bits, counts))
    # A group spans about 1 % in rank; the fractional parts within it are averaged by many groups.
    assert ((grouped - whole).abs() / whole).max() < 0.01


def test_the_density_agrees_with_numpy():
    x = heavy_tailed().float() / 2
    counts, _ = np.histogram(x.numpy(), bins=demo.BINS, range=(-demo.REACH, demo.REACH))
    width = 2 * demo.REACH / demo.BINS
    np.testing.assert_allclose(demo.density(x).numpy(), counts / (len(x) * width), atol=2 / (len(x) * width))


def test_standardized_values_keep_zero_and_have_unit_deviation():
    x = demo.standardized(torch.tensor([0.0, 3.0, 9.0]))
    assert x[0] == 0
    assert x.numpy().std(ddof=1) == pytest.approx(1, rel=1e-6)


def test_layer_tensors_are_those_that_autograd_keeps():
    net, (images, labels, *_) = demo.small_net(seeded()), data.digits_split()
    layers = [module for module in net if isinstance(module, nn.Conv2d | nn.Linear)]
    seen = {}

    def keep(module, inputs, output):
        output.retain_grad()
        seen[module] = inputs[0], output

    for layer in layers:
        layer.register_forward_hook(keep)
    nn.functional.cross_entropy(net(images[:32]), labels[:32]).backward()
    kept = dict(seen)
    found = demo.layer_tensors(net, images[:32], labels[:32])
    assert len(found) == len(demo.LAYERS)
    for layer, (weight, activation, gradient) in zip(layers, found, strict=True):
        assert torch.equal(weight, layer.weight)
        torch.testing.assert_close(activation, kept[layer][0])
        torch.testing.assert_close(gradient, kept[layer][1].grad)


def test_the_depthwise_layer_has_one_filter_a_channel():
    net = demo.small_net(seeded())
    layers = [module for module in net if isinstance(module, nn.Conv2d | nn.Linear)]
    depthwise = layers[demo.LAYERS.index("depthwise")]
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels > 1
    assert isinstance(layers[demo.LAYERS.index("linear")], nn.Linear)


def test_frames_grow_and_keep_what_was_shown(frames):
    assert len(frames) == 21
    assert frames[-1].updates.tolist() == list(range(21))
    for before, after in itertools.pairwise(frames):
        for name, field in vars(before).items():
            assert torch.equal(field, vars(after)[name][:-1]), name


def test_a_result_stays_small():
    last = list(demo.run(demo.Params(updates=25)))[-1]
    assert sum(field.numel() * field.element_size() for field in vars(last).values()) < 4e6


def test_looking_at_the_net_does_not_change_it():
    net = demo.small_net(seeded())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    demo._seen(net, *data.digits_split())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_to_look_at_never_trains_again():
    turned = demo.Params(layer="stem", moment=30, bits=3, clip="max")
    assert turned.run_key() == demo.Params().run_key()
    assert demo.Params(updates=60).run_key() != demo.Params().run_key()


@pytest.mark.parametrize(("moment", "shown"), [(0, 0), (49, 9), (50, 10), (100, 20)])
def test_the_moment_shown_is_the_last_one_not_after_the_asked(frames, moment, shown):
    assert demo.examine(SHORT.but(moment=moment), frames[-1]).shown == shown


def test_while_training_the_latest_moment_is_shown(frames):
    assert demo.examine(SHORT, frames[3]).shown == 3


def test_each_rule_is_best_at_what_it_asks_for(frames):
    for layer, bits in itertools.product(demo.LAYERS, (2, 4, 8)):
        view = demo.examine(SHORT.but(layer=layer, bits=bits), frames[-1])
        squared, cosine = ({rule: errors[i] for rule, errors in view.errors.items()} for i in (0, 1))
        assert squared["MSE"] == min(squared.values()) == pytest.approx(view.squared.min().item())
        assert cosine["cosine"] == min(cosine.values()) == pytest.approx(view.cosine.min().item())


def test_the_shares_clipped_and_rounded_to_zero_are_those_of_a_drawn_rounding(frames):
    # At update 0 the gradient can be had again in full.
    net, (images, labels, *_) = demo.small_net(seeded(SHORT.seed)), data.digits_split()
    layer = demo.LAYERS.index("stem")
    gradient = demo.layer_tensors(net, images[: demo.PROBE], labels[: demo.PROBE])[layer][2]
    x = demo.standardized(gradient)
    view = demo.examine(SHORT.but(layer="stem", bits=4, moment=0, clip="MSE"), frames[0])
    clip = view.best["MSE"]
    # 131,072 entries: five standard errors of a share are below 0.007.
    assert view.clipped == pytest.approx((x.abs() > clip).float().mean().item(), abs=0.001)
    zeros = (demo.quantize(x, clip, 4, seeded()) == 0).float().mean().item()
    assert view.zeroed == pytest.approx(zeros, abs=0.007)


def _one_level_more(x, clip, bits, generator=None):
    top = 2 ** (bits - 1)
    noise = 0.5 if generator is None else torch.rand(x.shape, dtype=x.dtype, generator=generator)
    return (x.clamp(-clip, clip) * top / clip + noise).floor().clamp(-top, top) * clip / top


def _without_noise(magnitudes, clips, bits, counts=1.0):
    kept = magnitudes.minimum(clips[:, None])
    squared = (magnitudes - kept).square().sum(-1) / magnitudes.square().sum()
    return squared, 1 - (magnitudes * kept).sum(-1) / (magnitudes.norm() * kept.norm(dim=-1))


def test_a_law_notices_every_mistake(laws_notice, quantize=demo.quantize):
    four_bits = {"bits": 4}
    laws_notice(
        {
            "a grid with one level more": (
                {"quantize": _one_level_more},
                ["levels_are_uniform_and_symmetric", "drawn_errors_match_the_formula"],
                four_bits,
            ),
            "rounding down": (
                {
                    "quantize": lambda x, clip, bits, generator=None: (
                        (x.clamp(-clip, clip) * (2 ** (bits - 1) - 1) / clip).floor() * clip / (2 ** (bits - 1) - 1)
                    )
                },
                ["error_is_bounded_by_the_step"],
                four_bits,
            ),
            "always to the nearest": (
                {"quantize": lambda x, clip, bits, generator=None: quantize(x, clip, bits)},
                ["stochastic_rounding_is_unbiased", "drawn_errors_match_the_formula"],
                four_bits,
            ),
            "the noise of rounding forgotten": (
                {"expected_errors": _without_noise},
                ["drawn_errors_match_the_formula", "cosine_clip_is_the_best_of_a_search"],
                four_bits,
            ),
            "a cosine without the length of the second": (
                {"cosine_distance": lambda x, y: 1 - (x * y).sum() / x.norm() ** 2},
                ["cosine_forgives_scale"],
                four_bits,
            ),
        }
    )
