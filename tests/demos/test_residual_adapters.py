import pytest
import torch
from torch import nn
from torch.nn import functional as F

from demos import residual_adapters as demo
from demos.kit.training import build

QUICK = demo.Params(width=4, samples=100, first=20, updates=20)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_an_adapter_adds_to_every_channel_a_mix_of_all_at_the_same_pixel():
    x, alpha = _random(2, 3, 4, 5), _random(3, 3, 1, 1, seed=1)
    adapted = demo.residual_adapter(x, alpha)
    for row in range(4):
        for column in range(5):
            at = x[..., row, column]
            torch.testing.assert_close(adapted[..., row, column], at + at @ alpha[..., 0, 0].T)


def test_remixed_filters_are_summed_channel_by_channel():
    w, alpha = _random(3, 2, 3, 3), _random(3, 3, 1, 1, seed=1)
    remixed = demo.remix(w, alpha)
    for o in range(3):
        expected = w[o] + sum(alpha[o, p, 0, 0] * w[p] for p in range(3))
        torch.testing.assert_close(remixed[o], expected)


def test_the_module_is_the_adapter_between_two_normalizations():
    adapter = build(lambda: demo.Adapter(3), torch.Generator().manual_seed(0)).double().eval()
    y = _random(2, 3, 4, 4)
    before, after, mix = adapter.before, adapter.after, adapter.remix
    inner = y + F.conv2d(before(y), mix.weight, mix.bias)
    torch.testing.assert_close(adapter(y), after(inner))


def test_a_new_domain_with_adapters_starts_from_the_shared_filters_as_they_are():
    domain = demo.new_domain(4, torch.Generator().manual_seed(0))
    y = torch.rand(8, 4, 4, 4)
    torch.testing.assert_close(domain.block[0](y), nn.BatchNorm2d(4)(y))


def test_all_ways_start_a_domain_from_the_same_classifier():
    domains = [demo.new_domain(4, torch.Generator().manual_seed(0), adapters) for adapters in (True, False)]
    assert torch.equal(domains[0].classifier.weight, domains[1].classifier.weight)


def test_rotating_inverting_and_noise_keep_shape_and_range():
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in demo.DOMAINS:
        seen = demo.in_domain(name, x, 0.5, torch.Generator().manual_seed(1))
        assert seen.shape == x.shape and seen.min() >= 0 and seen.max() <= 1
    corner = demo.in_domain("rotated", x, 0.0, torch.Generator())[:, 0, 0, 0]
    assert torch.equal(corner, x[:, 0, 0, 7])


@pytest.fixture(scope="module")
def quick():
    *_, last = demo.run(QUICK)
    return last


def test_parameters_counted_are_those_of_the_learners(quick):
    filters, domain = build(lambda: demo.Filters(4), torch.Generator()), demo.new_domain(4, torch.Generator())
    assert quick.shared == sum(w.numel() for w in filters.parameters())
    assert quick.own[demo.ADAPTERS] == sum(w.numel() for w in domain.parameters())


def test_until_the_ways_part_they_are_one_and_with_frozen_filters_the_digits_stay(quick):
    first = quick.steps <= QUICK.first
    assert (quick.accuracy[first] == quick.accuracy[first][:, :1]).all()
    later = quick.accuracy[~first]
    for way in (demo.ADAPTERS, demo.FROZEN):
        assert (later[:, way, 0] == quick.fresh[way, 0]).all()


def test_the_printed_count_of_shared_parameters_is_off_by_its_biases():
    evidence = demo.shared_parameters_as_printed.measure()
    assert evidence.reference - evidence.measured == 2 * (3 - 1) * 64


def test_a_law_notices_every_mistake(laws_notice):
    remix = demo.remix

    class WithoutBias(demo.Adapter):
        def __init__(self, width):
            super().__init__(width)
            self.remix = nn.Conv2d(width, width, 1, bias=False)

    trained = demo.Learner.trained
    laws_notice(
        {
            "an adapter without its shortcut": (
                {"residual_adapter": lambda x, alpha: F.conv2d(x, alpha)},
                ["zero_adapter_is_the_identity", "adapter_remixes_the_filters"],
                {"width": 6},
            ),
            "mixing the wrong axis": (
                {"remix": lambda w, alpha: remix(w, alpha.transpose(0, 1))},
                ["adapter_remixes_the_filters"],
                {"width": 6},
            ),
            "an adapter without bias": ({"Adapter": WithoutBias}, ["parameters_of_a_domain"], {"width": 6}),
            "training the filters along with the adapters": (
                {"Learner.trained": lambda self: [*trained(self), *self.filters.parameters()]},
                ["adapters_forget_nothing"],
                {"width": 6},
            ),
            "freezing the filters": (
                {"Learner.trained": lambda self: list(self.domains[-1].parameters())},
                ["fine_tuning_moves_the_first_domain"],
                {"width": 6},
            ),
        }
    )
