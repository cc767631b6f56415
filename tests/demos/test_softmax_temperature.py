import pytest
import torch
from scipy import stats

from demos import softmax_temperature as demo

LOGITS = torch.tensor([2.0, 1.0, 0.5, -3.0], dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
def test_softmax_agrees_with_torch(temperature):
    torch.testing.assert_close(demo.softmax(LOGITS, temperature), torch.softmax(LOGITS / temperature, -1))


def test_softmax_survives_logits_that_overflow_an_exponential():
    assert demo.softmax(torch.tensor([1000.0, 0.0]), 0.5).tolist() == [1.0, 0.0]


def test_entropy_agrees_with_scipy_and_counts_zero_probability_as_zero():
    p = torch.tensor([0.5, 0.25, 0.25, 0.0])
    assert demo.entropy(p).item() == pytest.approx(stats.entropy(p.numpy()))


def test_a_broken_gradient_breaks_its_law(monkeypatch):
    law = demo.gradient_is_q_minus_p_over_t
    assert law.run(demo.Params()).holds
    monkeypatch.setattr(demo, "soft_gradient", lambda z, v, t: demo.softmax(z, t) - demo.softmax(v, t))
    assert not law.run(demo.Params()).holds


def test_a_limit_without_the_class_count_breaks_its_law(monkeypatch):
    limit = demo.gradient_limit
    monkeypatch.setattr(demo, "gradient_limit", lambda z, v, t: limit(z, v, t) * len(z))
    assert not demo.hot_gradient_limit.run(demo.Params()).holds


@pytest.mark.parametrize("law", ["entropy_rises", "entropy_tends_to_log_k", "cold_is_arg_max"])
def test_multiplying_by_the_temperature_breaks_every_law_of_heat(monkeypatch, law):
    monkeypatch.setattr(demo, "softmax", lambda z, t: torch.softmax(z * t, -1))
    assert not getattr(demo, law).run(demo.Params()).holds
