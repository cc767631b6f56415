import math

import pytest
import torch
from torch.nn import functional

from demos import snapshot_ensembles as demo

P = demo.Params


def _models(count=4, samples=50, classes=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, samples, classes, dtype=torch.float64, generator=generator)
    return logits, logits.softmax(-1), torch.randint(classes, (samples,), generator=generator)


def test_the_loss_and_the_accuracy_agree_with_torch_and_a_loop():
    logits, models, classes = _models()
    for i in range(len(models)):
        assert demo.cross_entropy(models, classes)[i].item() == pytest.approx(
            functional.cross_entropy(logits[i], classes).item()
        )
        right = sum(int(models[i, n].argmax()) == int(classes[n]) for n in range(50))
        assert demo.accuracy(models, classes)[i].item() == pytest.approx(right / 50)


def test_the_squared_error_agrees_with_a_loop():
    _, models, classes = _models()
    by_hand = sum((models[0, n, k].item() - (k == int(classes[n]))) ** 2 for n in range(50) for k in range(3))
    assert demo.squared_error(models, classes)[0].item() == pytest.approx(by_hand / 50)


def test_disagreement_is_symmetric_and_zero_with_oneself():
    _, models, _ = _models()
    table = demo.disagreement(models)
    assert torch.equal(table, table.T) and not table.diag().any()
    expected = (models[1].argmax(-1) != models[2].argmax(-1)).double().mean()
    assert table[1, 2] == expected > 0


def test_five_cycles_of_two_hundred_epochs_have_the_papers_rates():
    rates = [demo.snapshot_rate(t, 200, 5, 0.2) for t in range(1, 201)]
    assert [t for t, rate in enumerate(rates, 1) if rate == 0.2] == [1, 41, 81, 121, 161]
    assert rates[20] == pytest.approx(0.1) and rates[39] == pytest.approx(0.2 * math.sin(math.pi / 80) ** 2)


@pytest.mark.parametrize(("cycles", "updates", "saved"), [(4, 100, [25, 50, 75, 100]), (3, 100, [34, 68, 100])])
def test_a_snapshot_is_saved_at_the_end_of_every_cycle(cycles, updates, saved):
    frames = list(demo.run(P(cycles=cycles, updates=updates)))
    assert frames[-1].saved.tolist() == saved
    assert len(frames[0].snapshots) == 1 and frames[0].saved.tolist() == [0]


def test_one_cycle_trains_both_networks_alike():
    p = P(cycles=1, updates=100)
    last = list(demo.run(p))[-1]
    assert torch.equal(last.snapshots[0], last.single) and torch.equal(last.losses[0], last.losses[1])


def test_the_ensemble_averages_the_last_members_only():
    p = P(cycles=4, updates=100, members=2)
    last = list(demo.run(p))[-1]
    view = demo.examine(p, last)
    expected = (last.snapshots[2] + last.snapshots[3]) / 2
    assert view.ensemble[0] == pytest.approx(float(demo.cross_entropy(expected, last.truth)))
    assert view.mean[1] == pytest.approx(float(demo.accuracy(last.snapshots, last.truth)[2:].mean()))


def test_a_law_notices_every_mistake(laws_notice):
    laws_notice(
        {
            "members multiplied": (
                {"ensemble": lambda models: models.prod(0)},
                ["loss_is_at_most_the_members_mean"],
            ),
            "members added up": ({"ensemble": lambda models: models.sum(0)}, ["copies_gain_nothing"]),
            "an error that does not know the class": (
                {"squared_error": lambda models, classes: models.square().sum(-1).mean(-1) / 2},
                ["gain_is_disagreement"],
            ),
            "one cycle for all": (
                {"snapshot_rate": lambda t, T, M, a: a / 2 * (1 + math.cos(math.pi * (t - 1) / T))},
                ["rates_agree_with_torch"],
            ),
            "a straight line for the cosine": (
                {"snapshot_rate": lambda t, T, M, a: a * (1 - (t % (T // M)) * M / T)},
                ["snapshots_are_taken_at_the_lowest_rate"],
            ),
        }
    )
