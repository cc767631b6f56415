import copy

import pytest
import torch
from torch import nn

from demos import kit
from demos import no_bias_decay as demo


def _network(seed=0):
    return demo.network(torch.Generator().manual_seed(seed)).double()


def _batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(20, 1, 8, 8, dtype=torch.float64, generator=generator), torch.arange(20) % 10


@pytest.mark.parametrize("least_axes", demo.RULES.values())
def test_updates_agree_with_torchs_own_optimizer_on_the_same_groups(least_axes):
    ours, theirs = _network(), _network()
    groups = demo.parameter_groups(ours.parameters(), 0.05, least_axes)
    optimizer = torch.optim.SGD(demo.parameter_groups(theirs.parameters(), 0.05, least_axes), lr=0.1)
    x, y = _batch()
    for _ in range(3):
        demo.update(ours, groups, x, y, 0.1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()
        optimizer.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-13)


def test_an_update_returns_the_gradients_of_the_kernels_and_spends_all():
    net, (x, y) = _network(), _batch()
    expected = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), demo.kernels(net))
    found = demo.update(net, demo.parameter_groups(net.parameters(), 0.1), x, y, 0.1)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_next_length_is_that_of_a_right_angled_triangle():
    w, g = torch.tensor([3.0, 4.0]), torch.tensor([-8.0, 6.0])  # orthogonal
    expected = ((1 - 0.1 * 0.5) * w - 0.1 * g).square().sum()
    assert demo.next_square(w.square().sum(), g, 0.1, 0.5).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("rule", "decaying"), [("weights only", 4), ("everything", 11), ("nothing", 0)])
def test_a_rule_decays_as_many_tensors_as_it_says(rule, decaying):
    first = next(demo.run(demo.Params(rule=rule)))
    assert int(first.decays.sum()) == decaying
    assert len(first.names) == len(first.sizes) == 11
    parameters = list(_network().parameters())
    assert first.sizes.tolist() == [parameter.numel() for parameter in parameters]
    assert [name.startswith(("kernel", "matrix")) for name in first.names] == [w.ndim >= 2 for w in parameters]


def test_a_kernel_that_is_scaled_has_not_turned_and_one_at_a_right_angle_has_by_a_quarter():
    net, pi = _network(), torch.pi
    started = [kernel.detach().clone() for kernel in demo.kernels(net)]
    for kernel, factor in zip(demo.kernels(net), (3.0, -1.0, 0.0), strict=True):
        # A swap of neighbors with one sign turned is at a right angle to any kernel.
        quarter = torch.stack([-kernel[1::2], kernel[::2]], 1).flatten(0, 1)
        kernel.data = factor * kernel.data if factor else quarter.data
    assert demo.angles(net, started).tolist() == pytest.approx([0.0, pi, pi / 2], abs=1e-6)


def test_the_picture_holds_every_kernel_as_it_is_beside_its_own_scales():
    p = demo.Params(updates=50)
    *_, last = demo.run(p)
    (heat,) = next(iter(demo.figure(p, last).values())).select_traces("heatmap")
    kernel, gamma = last.weights[demo.CHOSEN][3:5]  # the second convolution's
    largest = last.started[3].abs().max()
    for output, channel in ((0, 0), (5, 7), (11, 11)):
        left = 18 + 3 * channel  # after a kernel, γ and β of three columns each and the gaps
        cells = torch.tensor(heat.z[3 * output : 3 * output + 3])
        torch.testing.assert_close(cells[:, left : left + 3], kernel[output, channel] / largest)
        assert (cells[:, 56:59] == gamma[output]).all()


def test_with_the_same_rule_both_networks_stay_the_same():
    *_, last = demo.run(demo.Params(rule="everything", updates=50))
    for name in ("gamma", "kernel", "turned", "foretold", "accuracy"):
        both = getattr(last, name)
        assert torch.equal(both[demo.CHOSEN], both[demo.TWIN]), name


def test_without_decay_the_rule_does_not_matter():
    *_, last = demo.run(demo.Params(decay=0.0, updates=50))
    assert torch.equal(last.gamma[demo.CHOSEN], last.gamma[demo.TWIN])


def test_a_longer_kernel_before_a_normalization_gives_the_same_loss():
    net, (x, y) = _network(), _batch()
    longer = copy.deepcopy(net)
    for kernel in demo.kernels(longer):
        kernel.data.mul_(7)
    losses = [nn.functional.cross_entropy(each(x), y).item() for each in (net, longer)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # the ε inside the normalization


def test_the_layer_to_draw_starts_no_new_training():
    assert [name for name, knob in kit.knobs(demo.Params).items() if knob.view] == ["layer"]


def test_a_law_notices_every_mistake(laws_notice):
    parameter_groups = demo.parameter_groups

    def lossy(parameters, decay, least_axes=2):
        groups = parameter_groups(parameters, decay, least_axes)
        return [{**group, "params": [w for w in group["params"] if w.ndim != 2]} for group in groups]

    network = demo.network

    def bare(generator):
        layers = (layer for layer in network(generator) if not isinstance(layer, nn.BatchNorm2d))
        return nn.Sequential(*layers)

    next_square = demo.next_square
    laws_notice(
        {
            "groups that lose the matrices": ({"parameter_groups": lossy}, ["groups_partition"]),
            "a rule of four axes, which forgets the matrix of the linear layer": (
                {"parameter_groups": lambda parameters, decay, *_: parameter_groups(parameters, decay, 4)},
                ["axes_tell_the_kinds_apart"],
            ),
            "a decay that is not multiplied by the rate": (
                {
                    "parameter_groups": lambda parameters, decay, *axes: parameter_groups(
                        parameters, decay / demo.Params().rate, *axes
                    )
                },
                ["pure_decay_is_geometric"],
            ),
            "decay of everything": (
                {"parameter_groups": lambda parameters, decay, *_: parameter_groups(parameters, decay, 1)},
                ["the_rest_stays"],
            ),
            "no normalization": ({"network": bare}, ["gradient_is_orthogonal"]),
            "a length foretold without the decay": (
                {"next_square": lambda square, g, rate, decay: next_square(square, g, rate, 0.0)},
                ["length_is_foretold"],
            ),
        }
    )
