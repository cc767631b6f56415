import math

import pytest
import torch

from demos import skip_connection as demo

BRANCHES = {"plain": {"skip": False}, "skip": {"skip": True, "branch": 0.7}}


def _start(depth=3, points=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return demo.circle(points, generator), demo.draw_weights(depth, 2.0, generator)


def test_every_unit_has_mean_zero_and_variance_one_around_the_circle():
    x, _ = _start(points=12)
    torch.testing.assert_close(x.mean(0), torch.zeros(demo.WIDTH, dtype=x.dtype))
    torch.testing.assert_close(x.var(0, correction=0), torch.ones(demo.WIDTH, dtype=x.dtype))


def test_the_normalized_relu_is_that_of_torch():
    x, _ = _start()
    active, gain = demo.activate(3 * x + 1, "batch")
    torch.testing.assert_close(active, torch.nn.functional.batch_norm(3 * x + 1, None, None, training=True).relu())
    assert torch.equal(gain > 0, active > 0)


@pytest.mark.parametrize("kind", BRANCHES)
def test_a_forward_pass_agrees_with_a_loop_over_inputs_and_units(kind):
    x, weights = _start(depth=2)
    handed = demo.forward(x, weights, "none", **BRANCHES[kind]).handed
    for point in range(3):
        h = x[point].tolist()
        for layer, w in enumerate(weights.tolist()):
            branch = [sum(row[i] * max(h[i], 0.0) for i in range(demo.WIDTH)) for row in w]
            h = [a + 0.7 * b for a, b in zip(h, branch, strict=True)] if kind == "skip" else branch
            assert handed[layer + 1, point].tolist() == pytest.approx(h)


@pytest.mark.parametrize("kind", BRANCHES)
def test_gradients_agree_with_finite_differences(kind):
    x, weights = _start()
    passed = demo.forward(x, weights, "none", **BRANCHES[kind])
    g = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    gradient = demo.backward(g, weights, passed.gains, **BRANCHES[kind])[0]
    for point, unit in ((0, 0), (2, 17), (5, 63)):
        step = torch.zeros_like(x)
        step[point, unit] = 1e-6
        ahead, behind = (demo.forward(at, weights, "none", **BRANCHES[kind]).handed[-1] for at in (x + step, x - step))
        assert gradient[point, unit].item() == pytest.approx(float(((ahead - behind) * g).sum()) / 2e-6, abs=1e-7)


def test_agreement_is_the_cosine_and_nothing_agrees_with_zero():
    a, b = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), torch.tensor([[-2.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert demo.cosine(a, b).tolist() == pytest.approx([-1, math.sqrt(0.5), 0])


def test_both_networks_start_the_way_back_from_the_same_gradient():
    result = demo.run(demo.Params())
    assert torch.equal(result.field[0, -1], result.field[1, -1])
    assert result.agreement[:, -1].tolist() == pytest.approx([1, 1])
    assert result.length[:, -1].tolist() == [1, 1]


def test_a_law_notices_every_mistake(laws_notice):
    backward = demo.backward
    activate = demo.activate

    def unscaled(h, norm):
        active, gain = activate(h, norm)
        return active, (gain > 0).double()

    forward = demo.forward
    laws_notice(
        {
            "a way back without the skip": (
                {"backward": lambda g, weights, gains, **_: backward(g, weights, gains, skip=False)},
                ["skip_passes_unchanged", "gradient_is_a_sum_of_paths", "growth_of_a_layer"],
            ),
            "a gain without the standard deviation": (
                {"activate": unscaled},
                ["gradients_are_autograds"],
            ),
            "a branch that is added unscaled": (
                {"forward": lambda *given, skip, branch: forward(*given, skip=skip, branch=1.0)},
                ["branches_add_up"],
                {"branch": 0.5},
            ),
        }
    )
