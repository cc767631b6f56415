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


def test_a_law_notices_every_mistake(laws_notice):
    gradient_limit = demo.gradient_limit
    laws_notice(
        {
            "a broken gradient": (
                {"soft_gradient": lambda z, v, t: demo.softmax(z, t) - demo.softmax(v, t)},
                ["gradient_is_q_minus_p_over_t"],
            ),
            "a limit without the class count": (
                {"gradient_limit": lambda z, v, t: gradient_limit(z, v, t) * len(z)},
                ["hot_gradient_limit"],
            ),
            "multiplying by the temperature": (
                {"softmax": lambda z, t: torch.softmax(z * t, -1)},
                ["entropy_rises", "entropy_tends_to_log_k", "cold_is_arg_max"],
            ),
        }
    )
