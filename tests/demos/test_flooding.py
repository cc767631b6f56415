import pytest
import torch

from demos import flooding as demo
from demos import kit


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_flooded_loss_is_the_loss_above_the_level_and_its_mirror_image_below():
    for loss, flooded in ((0.5, 0.5), (0.2, 0.2), (0.05, 0.35), (0.0, 0.4)):
        assert float(demo.flood(torch.tensor(loss), 0.2)) == pytest.approx(flooded)


def test_labels_are_flipped_in_the_share_asked_for():
    labels = torch.arange(100_000) % 2
    flipped = (demo.flip(labels, 0.3, _generator()) != labels).float().mean()
    # Five standard errors: right draws are refused at about one seed in a million.
    assert float(flipped) == pytest.approx(0.3, abs=5 * (0.21 / 100_000) ** 0.5)
    assert torch.equal(demo.flip(labels, 0.0, _generator()), labels)


def test_without_a_level_both_networks_stay_the_same():
    *_, last = demo.run(demo.Params(level=0.0, updates=50))
    assert torch.equal(last.surface[0], last.surface[1]) and last.uphill == 0


def test_a_level_above_ln_2_keeps_the_network_from_learning():
    *_, last = demo.run(demo.Params(level=1.5, updates=100))
    assert last.train[demo.WITH, -10:].mean() > 0.69 and last.uphill > 0.2


def test_new_points_are_flipped_as_often_and_their_clean_labels_kept_apart():
    first = next(demo.run(demo.Params(flipped=0.0)))
    assert torch.equal(first.test, first.clean) and not first.wrong.any()
    flipped = next(demo.run(demo.Params(flipped=0.4)))
    assert not torch.equal(flipped.test, flipped.clean) and 20 < flipped.wrong.sum() < 60


def test_the_picture_is_drawn_with_clean_labels_and_at_every_end_of_the_level():
    for p in (demo.Params(flipped=0.0), demo.Params(level=0.0), demo.Params(level=1.5)):
        figures = kit.load("flooding").figures(p, next(demo.run(p)))
        assert len(figures) == 4 and all(figure.to_json() for figure in figures.values())


def test_the_share_of_updates_uphill_is_that_of_batches_below_the_level():
    p = demo.Params(level=0.5, updates=demo.RECENT * 2)
    frames = list(demo.run(p))
    assert frames[0].batches.shape == (2, 0) and frames[0].uphill == 0
    middle, last = (next(f for f in frames if f.updates[-1] == n) for n in (demo.RECENT, demo.RECENT * 2))
    met = torch.cat([middle.batches[demo.WITH], last.batches[demo.WITH]])
    assert last.uphill == pytest.approx(float((met < p.level).float().mean())) and last.uphill > 0


def test_of_small_training_sets_the_batches_average_to_the_training_loss():
    first, second = list(demo.run(demo.Params(points=demo.BATCH, updates=demo.BATCH)))[:2]
    # A batch of all the points meets the loss that the frame before has measured.
    torch.testing.assert_close(second.batches[:, 0], first.train[:, 0])


WRONG_FLOODS = {
    "not lifted back": (lambda loss, level: (loss - level).abs(), ["never_below_the_level"]),
    "clipped at the level": (
        lambda loss, level: loss.clamp(min=level),
        ["never_below_the_level", "gradient_turns_below_the_level", "down_and_up_descends_the_gradient_norm"],
    ),
    "not flooded at all": (
        lambda loss, level: loss,
        ["never_below_the_level", "gradient_turns_below_the_level", "down_and_up_descends_the_gradient_norm"],
    ),
    "upside down": (
        lambda loss, level: level - (loss - level).abs(),
        ["batches_bound_the_whole", "level_zero_is_ordinary_training"],
    ),
    "a squared distance to the level": (
        lambda loss, level: (loss - level).square() + level,
        ["level_zero_is_ordinary_training", "gradient_turns_below_the_level"],
    ),
}


def test_a_law_notices_every_mistake(laws_notice):
    laws_notice({mistake: ({"flood": wrong}, laws) for mistake, (wrong, laws) in WRONG_FLOODS.items()})


def test_training_that_is_not_flooded_breaks_the_findings(monkeypatch):
    monkeypatch.setattr(demo, "flood", lambda loss, level: loss)
    monkeypatch.setattr(demo, "SEEDS", range(1))
    demo._trained.cache_clear()
    assert not demo.floats_around_the_level.run(None).holds
    assert not demo.lowers_the_test_loss.run(None).holds
    demo._trained.cache_clear()
