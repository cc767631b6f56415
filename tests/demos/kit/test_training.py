import copy
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from demos.kit import training


def _net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 30))


def test_weights_come_from_the_given_generator_and_no_other():
    before = torch.get_rng_state()
    nets = [training.build(_net, torch.Generator().manual_seed(5)).state_dict() for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    other = training.build(_net, torch.Generator().manual_seed(6)).state_dict()
    assert not torch.equal(nets[0]["4.weight"], other["4.weight"])


def test_biases_start_at_zero_and_normalizations_as_the_identity():
    net = training.build(_net, torch.Generator().manual_seed(0))
    assert net[4].bias.abs().max() == 0
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net[1].eval()(x), x, rtol=1e-4, atol=1e-4)


def test_initial_weights_have_the_spread_of_he():
    net = training.build(lambda: nn.Linear(400, 400), torch.Generator().manual_seed(0))
    # Uniform(-b, b) with b = sqrt(6 / fan_in); 160,000 draws: five standard errors of the deviation are 0.8%.
    assert math.isclose(net.weight.std().item(), math.sqrt(2 / 400), rel_tol=0.008)


def test_batches_sweep_the_data_before_repeating():
    drawn = torch.cat(list(training.batches(10, 5, 4, torch.Generator().manual_seed(0))))
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()


def test_frames_include_the_start_and_the_end():
    assert training.frame_steps(100, 4) == {0, 25, 50, 75, 100}
    assert training.frame_steps(2, 10) == {0, 1, 2}


def test_momentum_steps_agree_with_torch_sgd():
    start = torch.randn(7, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone(), start.clone().requires_grad_()
    velocity = torch.zeros(7)
    optimizer = torch.optim.SGD([theirs], lr=0.1, momentum=0.8)
    for _ in range(5):
        training.momentum_step([ours], [velocity], [ours.cos()], 0.1, 0.8)
        optimizer.zero_grad()
        theirs.sin().sum().backward()
        optimizer.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_one_thread_gives_the_others_back_even_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), training.one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_trainings_that_overlap_leave_later_threads_all_of_torchs():
    a_is_in, b_is_in, a_is_out = threading.Event(), threading.Event(), threading.Event()

    def a():
        with training.one_thread():
            a_is_in.set()
            assert b_is_in.wait(5)
        a_is_out.set()

    def b():
        assert a_is_in.wait(5)
        for _ in range(2):
            with training.one_thread():
                assert torch.get_num_threads() == 1
                b_is_in.set()
                assert a_is_out.wait(5)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(2) as pool:
            for done in (pool.submit(a), pool.submit(b)):
                done.result()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_a_perceptron_has_the_asked_widths_and_no_relu_at_its_end():
    network = training.perceptron((3, 5, 4, 2), torch.Generator().manual_seed(0))
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    hidden = x
    for layer in (network[0], network[2]):
        hidden = (hidden @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(network(x), hidden @ network[4].weight.T + network[4].bias)
    assert [layer.out_features for layer in network[::2]] == [5, 4, 2]


def test_descent_agrees_with_torchs_optimizer_over_several_steps():
    ours = training.perceptron((3, 5, 1), torch.Generator().manual_seed(0)).double()
    theirs = copy.deepcopy(ours)
    descent, optimizer = (
        training.Descent(ours.parameters(), 0.8),
        torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.8),
    )
    x = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for _ in range(4):
        descent.step(ours(x).square().mean(), 0.1)
        optimizer.zero_grad()
        theirs(x).square().mean().backward()
        optimizer.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference)


def test_twins_start_alike_and_share_nothing():
    one, two, three = training.twins(training.perceptron((3, 4), torch.Generator().manual_seed(0)), 3)
    assert torch.equal(one[0].weight, two[0].weight) and torch.equal(one[0].weight, three[0].weight)
    one[0].weight.data.zero_()
    assert two[0].weight.abs().min() > 0 and two[0].weight.data_ptr() != three[0].weight.data_ptr()


def test_accuracy_counts_the_highest_logits_of_every_network():
    logits = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    assert training.accuracy(logits, torch.tensor([1, 0])).tolist() == [1.0, 0.5]


def test_a_history_keeps_every_frame_along_the_axis_asked_for():
    history = training.History()
    for frame in range(3):
        history.add(update=frame, loss=torch.tensor([1.0, 2.0]) * frame)
    assert history.stacked()["loss"].tolist() == [[0, 0], [1, 2], [2, 4]]
    assert history.stacked(1)["loss"].tolist() == history.stacked(-1)["loss"].tolist() == [[0, 1, 2], [0, 2, 4]]
    assert history.stacked(1)["update"].tolist() == [0, 1, 2]


def test_a_training_looks_before_between_and_after_its_steps_on_one_thread():
    done, before = [], torch.get_num_threads()

    def look(update):
        assert torch.get_num_threads() == 1 and len(done) == update
        return update

    torch.set_num_threads(2)
    try:
        for _ in training.train(10, 5, done.append, look):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert done == list(range(10))
    assert list(training.train(10, 5, lambda update: None, lambda update: update)) == [0, 2, 4, 6, 8, 10]


def test_means_between_frames_cover_the_updates_from_one_to_the_next():
    values = torch.arange(6.0)[:, None] * torch.tensor([1.0, 10.0])
    assert training.mean_between(values, [0, 2, 6]).tolist() == [[0.5, 3.5], [5.0, 35.0]]
    assert training.mean_between(values, [0]).shape == (2, 0)
