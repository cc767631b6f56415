import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from demos import mixed_precision_training as demo

P = demo.Params
FP16, BF16 = demo.FORMATS["FP16"], demo.FORMATS["BF16"]


def _every_fp16():
    return torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16).float()


def test_rounding_keeps_every_number_that_fp16_has():
    numbers = _every_fp16()
    numbers = numbers[numbers.isfinite()]
    assert torch.equal(demo.round_to(numbers, FP16).float(), numbers)


def test_rounding_agrees_with_numpy_halfway_between_neighbors_and_at_the_ends():
    numbers = _every_fp16()
    numbers = numbers[(numbers >= 0) & numbers.isfinite()].sort().values
    halfway = (numbers[1:] + numbers[:-1]) / 2
    at = torch.cat([halfway, -halfway, torch.tensor([65519.9, 65520.0, 1e-8, 2.0**-25])])
    with np.errstate(over="ignore"):
        expected = at.numpy().astype(np.float16).astype(np.float64)
    assert (demo.round_to(at, FP16).numpy() == expected).all()


@pytest.mark.parametrize(("kind", "dtype"), [(FP16, torch.float16), (BF16, torch.bfloat16)])
def test_the_ends_of_a_format_agree_with_torchs_table(kind, dtype):
    table = torch.finfo(dtype)
    assert (kind.smallest_normal, kind.largest) == (table.smallest_normal, table.max)
    assert kind.smallest == table.smallest_normal * table.eps
    below = torch.tensor(kind.overflow, dtype=torch.float64) * (1 - 1e-9)
    assert demo.round_to(below, kind) == kind.largest and demo.round_to(torch.tensor(kind.overflow), kind).isinf()


def test_a_gradient_of_1e_8_is_saved_by_a_scale_of_1024():
    assert torch.tensor(1e-8).half() == 0
    assert demo.round_to(torch.tensor(1024e-8), FP16) == pytest.approx(1.0e-5, rel=0.03)


def test_the_gradients_agree_with_the_formulas_of_a_network_of_one_layer():
    generator = torch.Generator().manual_seed(0)
    layers = torch.nn.ModuleList([torch.nn.Linear(64, 10)])
    x, y = torch.rand(5, 64, generator=generator), torch.arange(5)
    activations, weights, loss = demo.gradients(layers, x, y, scale=8.0)
    logits = layers[0](x).detach()
    expected = 8 * (logits.softmax(-1) - functional.one_hot(y, 10)) / 5
    torch.testing.assert_close(activations.reshape(5, 10), expected)
    torch.testing.assert_close(weights, torch.cat([(expected.T @ x).flatten(), expected.sum(0)]))
    assert loss == pytest.approx(functional.cross_entropy(logits, y).item())


def test_every_gradient_has_one_fate_and_those_agree_with_a_cast():
    p = P(scale=22)
    r = demo.run(p)
    view, cast = demo.examine(p, r), (r.activations * 2.0**22).half()
    assert view.counts.sum() == len(r.activations)
    assert view.counts[0].sum() == (cast == 0).sum() and view.counts[3].sum() == cast.isinf().sum() > 0


def test_the_largest_safe_scale_is_the_last_before_an_overflow():
    r = demo.run(P())
    safe = demo.examine(P(), r).safe
    assert not (r.activations * 2.0**safe).half().isinf().any()
    assert (r.activations * 2.0 ** (safe + 1)).half().isinf().any()


def _scaled_but_for_the_last(layers, images, labels, scale=1.0):
    activations, weights, loss = GRADIENTS(layers, images, labels)
    return scale * activations, weights, loss


GRADIENTS = demo.gradients


def test_a_law_notices_every_mistake(laws_notice):
    scale, result = {"scale": 3}, demo.run(P())
    laws_notice(
        {
            "a mantissa of eleven bits": ({"FORMATS": {"FP16": demo.Format(5, 11), "BF16": BF16}}, ["ends_of_fp16"]),
            "one step for all numbers": (
                {"round_to": lambda x, kind: (x.double() / kind.smallest).round() * kind.smallest},
                ["rounding_agrees_with_torch"],
                scale,
            ),
            "only activations scaled": (
                {"gradients": _scaled_but_for_the_last},
                ["scaled_loss_scales_the_gradients"],
                scale,
            ),
            "powers of two alone": (
                {"round_to": lambda x, kind: x.sign() * 2.0 ** x.abs().log2().floor()},
                ["normal_gradients_stay_accurate"],
                scale,
            ),
            "a scale that divides, below": (
                {"share_flushed": lambda x, kind, s: (x.abs() / s[:, None] < kind.smallest).double().mean(1)},
                ["flushed_share_falls"],
            ),
            "a scale that divides, above": (
                {"share_infinite": lambda x, kind, s: (x.abs() / s[:, None] > 1e-3).double().mean(1)},
                ["infinite_share_rises"],
            ),
            "additions that are not rounded": (
                {"accumulate": lambda u, n, dtype: 1 + u * torch.arange(n + 1)},
                ["small_updates_are_lost"],
            ),
            "additions of growing updates": (
                {"accumulate": lambda u, n, dtype: 1 + u * torch.arange(n + 1).half().cumsum(0)},
                ["master_weights_add_up"],
            ),
            "a gradient that overflows on the way": (
                {"run": lambda p: dataclasses.replace(result, activations=torch.tensor([1e38]))},
                ["unscaling_is_exact"],
                {"scale": 10},
            ),
        }
    )
