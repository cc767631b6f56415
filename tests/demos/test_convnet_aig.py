import pytest
import torch
from torch.nn import functional as F

from demos import convnet_aig as demo


def _network(blocks=3):
    return demo.AdaptiveGraph(blocks, torch.Generator().manual_seed(0)).double()


def _inputs(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_network_is_that_of_a_loop_over_images_and_blocks():
    network, x, noise = _network(), _inputs(6, 64), 4 * _inputs(6, 3) - 4
    logits, states = network(x, noise)
    for image in range(6):
        h = network.stem(x[image])
        for block, (branch, layer) in enumerate(zip(network.branches, network.gates, strict=True)):
            skip, go_on = layer(h)
            opened = bool(go_on - skip + noise[image, block] > 0)
            assert opened == bool(states[image, block])
            h = h + branch(h) if opened else h
        torch.testing.assert_close(network.head(h), logits[image])
    assert 0 < states.mean() < 1


def test_a_gate_has_the_value_and_the_gradient_of_torchs_straight_through_gumbel_softmax():
    logits, noise = _inputs(20, 2).requires_grad_(), 5 * _inputs(20, 2)
    soft = torch.softmax((logits + noise) / 0.7, 1)
    hard = F.one_hot(soft.argmax(1), 2) - soft.detach() + soft
    (expected,) = torch.autograd.grad(hard[:, 1].sum(), logits)
    z = demo.gate(logits[:, 1] - logits[:, 0], noise[:, 1] - noise[:, 0], 0.7)
    (gradient,) = torch.autograd.grad(z.sum(), logits)
    torch.testing.assert_close(z, hard[:, 1])
    torch.testing.assert_close(gradient, expected)


def test_the_difference_of_two_gumbel_variables_is_logistic():
    u = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    gumbel = -(-u.log()).log()
    differences = (gumbel[:, None] - gumbel).flatten()
    for quantile in (0.1, 0.3, 0.5, 0.9):
        # A grid of 400 by 400 quantiles knows a probability to about 1/400.
        share = (differences <= demo.gumbel_difference(torch.tensor(quantile, dtype=torch.float64))).double().mean()
        assert float(share) == pytest.approx(quantile, abs=0.005)


@torch.no_grad()
def test_gates_begin_open_with_probability_0_87_as_in_the_authors_code():
    network = _network()
    skip, go_on = network.gates[0](network.stem(_inputs(50, 64))).unbind(1)
    assert float((go_on - skip).sigmoid().mean()) == pytest.approx(0.87, abs=0.01)


def test_as_many_blocks_run_as_gates_are_open_and_both_ends_of_the_sweep_are_reached():
    *_, last = demo.run(demo.Params(updates=40))
    assert last.executed[0] == 0 and last.executed[-1] == 1
    assert torch.equal(last.swept[0, [0, -1]], last.swept[1, [0, -1]])
    assert (last.runs[:5] <= last.runs[5:].min()).all()


def test_a_law_notices_every_mistake(laws_notice):
    skipping = demo.AdaptiveGraph.skipping
    laws_notice(
        {
            "skipping the wrong images": (
                {"AdaptiveGraph.skipping": lambda self, x, states: skipping(self, x, 1 - states)},
                ["skipping_saves_without_change"],
            ),
            "noise of half the spread": (
                {"gumbel_difference": lambda u: torch.logit(u) / 2},
                ["gates_open_by_their_probability"],
            ),
            "gates that are never hard": (
                {"gate": lambda logit, noise, tau: ((logit + noise) / tau).sigmoid()},
                ["gate_is_straight_through"],
            ),
            "half the pull": (
                {"target_loss": lambda rates, t: (rates - t).square().sum() / 2},
                ["target_pulls_in_proportion"],
            ),
            "gates that are always open": (
                {"gate": lambda logit, noise, tau: torch.ones_like(logit)},
                ["shut_gates_leave_the_shortcuts"],
            ),
        }
    )
