import math

import torch
from torch import nn

from demos.kit import training


def test_weights_come_from_the_given_generator_and_no_other():
    before = torch.get_rng_state()
    nets = [training.initialize(nn.Linear(20, 30), torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(nets[0].weight, nets[1].weight)
    assert nets[0].bias.abs().max() == 0
    # nn.Linear itself draws from the global generator as it is made; initialize must not.
    torch.set_rng_state(before)
    training.initialize(nets[0], torch.Generator().manual_seed(1))
    assert torch.equal(before, torch.get_rng_state())


def test_initial_weights_have_the_spread_of_he():
    net = training.initialize(nn.Linear(400, 400), torch.Generator().manual_seed(0))
    # Uniform(-b, b) with b = sqrt(6 / fan_in); 160,000 draws: five standard errors of the deviation are 0.8%.
    assert math.isclose(net.weight.std().item(), math.sqrt(2 / 400), rel_tol=0.008)


def test_batches_sweep_the_data_before_repeating():
    drawn = torch.cat(list(training.batches(10, 5, 4, torch.Generator().manual_seed(0))))
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()


def test_frames_include_the_start_and_the_end():
    assert training.frame_steps(100, 4) == {0, 25, 50, 75, 100}
    assert training.frame_steps(2, 10) == {0, 1, 2}
