import copy
import math

import pytest
import torch
from torch.nn import functional

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


def test_an_update_agrees_with_torchs_gradient_descent():
    generator = torch.Generator().manual_seed(0)
    ours = demo.classifier(generator).double()
    theirs, velocity = copy.deepcopy(ours), [torch.zeros_like(weight) for weight in ours.parameters()]
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.0, momentum=demo.MOMENTUM)
    x, y = torch.rand(8, 1, 8, 8, dtype=torch.float64, generator=generator), torch.arange(8)
    for rate in (0.1, 0.3, 0.2):
        loss = functional.cross_entropy(theirs(x), y)
        assert demo.descend(ours, velocity, x, y, rate) == pytest.approx(loss.item())
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-13)


def test_all_three_networks_start_alike_and_see_the_same_batches():
    frames = list(kit.load("lr_schedules").frames(P(updates=50, batch=32, warmup=0, decay="none")))
    assert torch.equal(frames[-1].losses[0], frames[-1].losses[1])
    assert torch.equal(frames[0].accuracy[0], frames[0].accuracy[2])


def test_a_training_that_overflows_is_still_drawn():
    p = P(base=2.0, batch=1024, updates=50, warmup=0, decay="none")
    result = kit.load("lr_schedules").result(p)
    assert not result.losses.max() < 100
    assert all(figure.to_json() for figure in demo.figure(p, result).values())


BREAKS = [
    ("rate_is_proportional_to_the_batch", "scaled_rate", lambda base, batch: base * math.sqrt(batch / 256)),
    ("one_large_step_is_four_small_ones", "scaled_rate", lambda base, batch: base),
    ("warm_up_is_a_straight_line_to_the_peak", "warm_up", lambda i, length: (i - 1) / length),
    ("cosine_landmarks", "cosine", lambda t, length: math.cos(math.pi * t / length)),
    ("restarts_jump_to_the_peak", "warm_restarts", lambda t, cycle, growth: demo.cosine((t + 1) % cycle, cycle)),
    ("cosine_agrees_with_torch", "cosine", lambda t, length: 1 - t / length),
    ("restarts_agree_with_torch", "warm_restarts", lambda t, cycle, growth: demo.triangle(t, cycle)),
    ("triangle_agrees_with_torch", "triangle", lambda t, cycle: demo.cosine(t % cycle, cycle)),
]


@pytest.mark.parametrize(("law", "function", "broken"), BREAKS)
def test_a_broken_schedule_breaks_its_law(monkeypatch, law, function, broken):
    assert getattr(demo, law).run(P()).holds
    monkeypatch.setattr(demo, function, broken)
    outcome = getattr(demo, law).run(P())
    assert not outcome.holds and not outcome.error


def test_every_law_is_broken_once():
    laws = {name for name, check in kit.load("lr_schedules").checks.items() if check.kind == "law"}
    assert laws == {law for law, _, _ in BREAKS}


FINDINGS = [check for check in vars(demo).values() if getattr(check, "kind", "") == "finding"]


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda check: check.name)
def test_a_finding_holds_at_its_settings(finding):
    outcome = finding.run(None)
    assert outcome.holds, outcome
