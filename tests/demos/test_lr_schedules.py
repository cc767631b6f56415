import math

import pytest
import torch

from demos import kit
from demos import lr_schedules as demo

P = demo.Params


@pytest.mark.parametrize(("batch", "rate"), [(256, 0.1), (512, 0.2), (8192, 3.2)])
def test_a_tenth_per_256_images_scales_as_published(batch, rate):
    assert demo.scaled_rate(0.1, batch) == pytest.approx(rate)


def test_steps_agree_with_torch():
    p = P(decay="steps", warmup=0, updates=90, base=0.1, batch=256)
    torch.testing.assert_close(demo.schedule(p), demo._by_torch(p, "MultiStepLR", milestones=[30, 60], gamma=0.1))


def test_growing_cycles_restart_where_sgdr_says():
    p = P(decay="warm restarts", warmup=0, cycle=10, growth=2, updates=150)
    rates = demo.schedule(p)
    assert (rates == rates.max()).nonzero().flatten().tolist() == [0, 10, 30, 70]


def test_the_decay_begins_with_the_first_update_after_the_warm_up():
    rates = demo.schedule(P(warmup=20, updates=70, lowest=0.1))
    without = demo.schedule(P(warmup=0, updates=50, lowest=0.1))
    assert torch.equal(rates[20:], without) and rates[19] == rates[20] == rates.max()


def test_a_warm_up_longer_than_the_training_is_cut_off():
    rates = demo.schedule(P(warmup=500, updates=50))
    assert len(rates) == 50 and rates[-1] == pytest.approx(rates[0].item() * 50)


def test_all_three_networks_start_alike_and_see_the_same_batches():
    frames = list(kit.load("lr_schedules").frames(P(updates=50, batch=32, warmup=0, decay="none")))
    assert torch.equal(frames[-1].losses[0], frames[-1].losses[1])
    assert torch.equal(frames[0].accuracy[0], frames[0].accuracy[2])


def test_losses_at_given_weights_are_those_of_networks_that_have_them():
    generator = torch.Generator().manual_seed(0)
    networks = [demo.perceptron(demo.WIDTHS, generator) for _ in range(3)]
    # Negative pixels on purpose: noise makes some.
    x, y = torch.randn(7, 64, generator=generator), torch.arange(7)
    weights = torch.stack([demo.parameters_to_vector(network.parameters()) for network in networks])
    expected = torch.stack([torch.nn.functional.cross_entropy(network(x), y) for network in networks])
    torch.testing.assert_close(demo.losses_at(weights, x, y), expected)


def test_the_plane_holds_the_end_of_the_chosen_run_and_the_farthest_point_of_any():
    moves = torch.randn(3, 5, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moves[:, 0] = 0
    moves[1, 3] *= 10
    axes = demo.plane_of(moves.float()).double()
    torch.testing.assert_close(axes @ axes.T, torch.eye(2, dtype=torch.float64), atol=1e-6, rtol=0)
    seen, real = (moves @ axes.T).norm(dim=-1), moves.norm(dim=-1)
    torch.testing.assert_close(seen[0, -1], real[0, -1])
    torch.testing.assert_close(seen[1, 3], real[1, 3])
    assert (seen <= real + 1e-6).all() and seen[2, 2] < 0.9 * real[2, 2]


def test_a_point_of_the_landscape_has_the_loss_of_the_weights_that_it_stands_for():
    generator = torch.Generator().manual_seed(0)
    runs = 0.3 * torch.randn(3, 4, 65 * 64 + 65 * 64 + 65 * 10, generator=generator)
    runs[:, 0] = runs[0, 0]
    x, y = torch.rand(7, 64, generator=generator), torch.arange(7)
    land = demo.survey(runs, x, y)
    axes = demo.plane_of(runs - runs[0, 0])
    weights = runs[0, 0] + land.across[11] * axes[0] + land.up[3] * axes[1]
    torch.testing.assert_close(land.loss[3, 11], demo.losses_at(weights[None], x, y)[0])
    for edge, reached in zip((land.across, land.up), land.paths.flatten(0, 1).T, strict=True):
        assert edge[0] < reached.min() and reached.max() < edge[-1]


def test_weights_that_overflow_end_their_path_and_leave_the_plane_finite():
    moves = torch.zeros(3, 4, 65 * 64 + 65 * 64 + 65 * 10)
    moves[0, 1:, 0], moves[1, 1, 1], moves[1, 2:] = 1.0, 5.0, torch.inf
    land = demo.survey(moves, torch.rand(2, 64), torch.arange(2))
    assert land.paths[1, 2:].isnan().all() and land.paths[[0, 2]].isfinite().all()
    assert land.across.isfinite().all() and land.up[-1] > 5


def test_a_training_that_overflows_is_still_drawn():
    p = P(base=2.0, batch=1024, updates=50, warmup=0, decay="none")
    result = kit.load("lr_schedules").result(p)
    assert not result.losses.max() < 100
    assert all(figure.to_json() for figure in demo.figure(p, result).values())


def test_a_law_notices_every_mistake(laws_notice):
    laws_notice(
        {
            "the square root of the batch": (
                {"scaled_rate": lambda base, batch: base * math.sqrt(batch / 256)},
                ["rate_is_proportional_to_the_batch"],
            ),
            "the same rate for any batch": (
                {"scaled_rate": lambda base, batch: base},
                ["one_large_step_is_four_small_ones"],
            ),
            "a warm-up that starts at nothing": (
                {"warm_up": lambda i, length: (i - 1) / length},
                ["warm_up_is_a_straight_line_to_the_peak"],
            ),
            "a whole wave": ({"cosine": lambda t, length: math.cos(math.pi * t / length)}, ["cosine_landmarks"]),
            "a restart one update early": (
                {"warm_restarts": lambda t, cycle, growth: demo.cosine((t + 1) % cycle, cycle)},
                ["restarts_jump_to_the_peak"],
            ),
            "a straight line for the cosine": (
                {"cosine": lambda t, length: 1 - t / length},
                ["cosine_agrees_with_torch"],
            ),
            "a triangle for the restarts": (
                {"warm_restarts": lambda t, cycle, growth: demo.triangle(t, cycle)},
                ["restarts_agree_with_torch"],
            ),
            "a cosine for the triangle": (
                {"triangle": lambda t, cycle: demo.cosine(t % cycle, cycle)},
                ["triangle_agrees_with_torch"],
            ),
        }
    )
