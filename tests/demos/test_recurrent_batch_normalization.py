import pytest
import torch
from torch import nn

from demos import recurrent_batch_normalization as demo


def _in_torch_order(tensor):
    forget, write, read, candidate = tensor.chunk(4)
    return torch.cat([write, forget, candidate, read])


def test_without_normalization_it_is_the_lstm_of_torch():
    s = demo.setting(demo.Params(forget=0.7))
    with torch.random.fork_rng(devices=[]):
        plain = nn.LSTM(demo.INPUTS, demo.UNITS, batch_first=True, dtype=torch.float64)
    plain.weight_ih_l0.data = _in_torch_order(s.weights.inputs)
    plain.weight_hh_l0.data = _in_torch_order(s.weights.recurrent)
    plain.bias_ih_l0.data, plain.bias_hh_l0.data = _in_torch_order(s.weights.bias), torch.zeros(4 * demo.UNITS).double()
    expected, (_, cell) = plain(s.x)
    ours = demo.unroll(s.x, s.weights, "none", 1.0)
    torch.testing.assert_close(torch.stack(ours.states, 1), expected.detach())
    torch.testing.assert_close(ours.cells[-1], cell[0].detach())


def test_layer_norm_is_that_of_torch_in_every_term():
    s = demo.setting(demo.Params())
    w, state, cell = s.weights, torch.zeros(len(s.x), demo.UNITS).double(), torch.zeros(len(s.x), demo.UNITS).double()
    ours = demo.unroll(s.x, w, "layer", 0.4)

    def normalized(z):
        return 0.4 * nn.functional.layer_norm(z, z.shape[1:], eps=demo.EPS)

    for t in range(4):
        f, i, o, g = (normalized(state @ w.recurrent.T) + normalized(s.x[:, t] @ w.inputs.T) + w.bias).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        state = o.sigmoid() * normalized(cell).tanh()
        torch.testing.assert_close(ours.states[t], state)


def test_the_first_recurrent_term_has_no_variance_because_the_state_starts_at_zero():
    s = demo.setting(demo.Params())
    first, second = demo.unroll(s.x, s.weights, "per step", 0.1).moments[:2]
    assert not first["recurrent"].any() and (second["recurrent"][1] > 0).all()


def test_a_memory_is_not_touched_by_the_sequences_it_serves():
    s = demo.setting(demo.Params())
    memory = demo.unroll(s.x[:, :3], s.weights, "per step", 0.1).moments
    alone = demo.unroll(s.new[:1], s.weights, "per step", 0.1, memory).states[-1]
    together = demo.unroll(s.new, s.weights, "per step", 0.1, memory).states[-1]
    torch.testing.assert_close(alone, together[:1])


def test_the_gradient_is_that_of_a_finite_difference():
    s, step = demo.setting(demo.Params(batch=4)), 1e-6
    lengths = demo.gradient_over_time(s.x, s.weights, "per step", 0.5, s.readout)
    unrolled = demo.unroll(s.x, s.weights, "per step", 0.5)

    def normalized(z):
        return 0.5 * (z - z.mean(0)) / (z.var(0, correction=0) + demo.EPS).sqrt()

    def loss(state):
        gates = normalized(state @ s.weights.recurrent.T) + normalized(s.x[:, -1] @ s.weights.inputs.T)
        f, i, o, g = (gates + s.weights.bias).chunk(4, 1)
        cell = f.sigmoid() * unrolled.cells[-2] + i.sigmoid() * g.tanh()
        return float((o.sigmoid() * normalized(cell).tanh() * s.readout).sum())

    state = unrolled.states[-2]
    nudges = step * torch.eye(state.numel(), dtype=state.dtype).view(-1, *state.shape)
    slope = [(loss(state + nudge) - loss(state - nudge)) / (2 * step) for nudge in nudges]
    assert float(torch.tensor(slope).norm()) == pytest.approx(float(lengths[-2]), rel=1e-5)
    assert float(s.readout.norm()) == pytest.approx(float(lengths[-1]))


def test_a_law_notices_every_mistake(laws_notice):
    moments = demo.moments
    unroll = demo.unroll

    def mean_of_moments(memory):
        return [{term: torch.stack([step[term] for step in memory]).mean(0) for term in demo.TERMS}]

    laws_notice(
        {
            "an unbiased variance": (
                {"moments": lambda z, axis: moments(z, axis) * torch.tensor([1.0, 64 / 63])[:, None, None]},
                ["each_step_by_its_own_batch"],
            ),
            "one pooled set": (
                {"unroll": lambda *given: unroll(*given[:4], demo.pooled(given[4]) if len(given) > 4 else None)},
                ["the_last_set_serves_longer_sequences"],
            ),
            "moments over the batch": ({"moments": lambda z, axis: moments(z, 0)}, ["layer_norm_needs_no_statistics"]),
            "a recurrence that is normalized": (
                {"NORMALIZED": {**demo.NORMALIZED, "input only": ("input", "recurrent")}},
                ["input_only_is_a_plain_lstm_on_normalized_inputs"],
            ),
            "a mean of variances for that of all values": (
                {"pooled": mean_of_moments},
                ["pooled_set_is_that_of_all_values"],
            ),
        }
    )
