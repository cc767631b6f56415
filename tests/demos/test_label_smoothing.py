import math

import pytest
import torch
from scipy import optimize
from torch.nn import functional

from demos import kit
from demos import label_smoothing as demo

SMOOTH = demo.smooth_labels
FORMS = (demo.ALL, demo.WRONG)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_labels_agree_with_the_definitions_written_class_by_class():
    over_all = demo.smooth_labels(torch.tensor([2, 0]), 4, 0.2, demo.ALL)
    over_wrong = demo.smooth_labels(torch.tensor([2, 0]), 4, 0.2, demo.WRONG)
    for row, y in enumerate((2, 0)):
        for k in range(4):
            assert over_all[row, k].item() == pytest.approx(0.8 * (k == y) + 0.05)
            assert over_wrong[row, k].item() == pytest.approx(0.8 if k == y else 0.2 / 3)


def test_the_loss_agrees_with_torchs_for_soft_labels():
    logits = torch.randn(6, 5, dtype=torch.float64, generator=_generator())
    labels = demo.smooth_labels(torch.arange(6) % 5, 5, 0.3, demo.WRONG)
    expected = functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(demo.cross_entropy(logits, labels), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("count", "smoothing"), [(2, 0.1), (10, 0.1), (10, 0.5), (1000, 0.1)])
def test_the_best_lead_is_where_scipy_finds_the_smallest_loss(count, smoothing, form):
    label = demo.smooth_labels(torch.tensor(0), count, smoothing, form)

    def loss(lead):
        return float(demo.cross_entropy(demo.with_lead(torch.tensor(lead, dtype=torch.float64), count), label))

    found = optimize.minimize_scalar(loss, bounds=(-5, 20), method="bounded", options={"xatol": 1e-8}).x
    # A minimum is found to about the square root of float64's precision.
    assert demo.best_lead(count, smoothing, form) == pytest.approx(found, abs=1e-6)


def test_the_best_leads_are_those_that_the_card_prints():
    assert [round(demo.best_lead(10, 0.1, form), 2) for form in FORMS] == [4.51, 4.39]
    assert [round(demo.best_lead(1000, 0.1, form), 3) for form in FORMS] == [9.105, 9.104]
    assert demo.best_lead(10, 0.0) == math.inf


def test_the_mean_lead_agrees_with_a_loop():
    logits = torch.randn(4, 3, generator=_generator())
    classes = torch.tensor([0, 2, 1, 1])
    for row, y, lead in zip(logits.tolist(), classes.tolist(), demo.mean_lead(logits, classes).tolist(), strict=True):
        assert lead == pytest.approx(row[y] - sum(z for k, z in enumerate(row) if k != y) / 2, abs=1e-6)


def test_the_calibration_error_agrees_with_a_loop_over_the_bins():
    probabilities = torch.softmax(2 * torch.randn(300, 4, generator=_generator()), -1)
    classes = torch.randint(4, (300,), generator=_generator(1))
    expected = 0.0
    for low in range(10):
        inside = [
            (max(row), row.index(max(row)) == y)
            for row, y in zip(probabilities.tolist(), classes.tolist(), strict=True)
            if low / 10 <= max(row) < (low + 1) / 10
        ]
        expected += abs(sum(sure for sure, _ in inside) - sum(right for _, right in inside)) / 300
    assert float(demo.calibration_error(probabilities, classes)) == pytest.approx(expected, abs=1e-5)


def test_the_scatter_ratio_of_points_at_known_places_is_known():
    features = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [9.0, 0.0], [11.0, 0.0]])
    # Variance 1 within each class; the means, 0 and 10, lie 5 from their own mean.
    assert float(demo.scatter_ratio(features, torch.tensor([0, 0, 1, 1]))) == pytest.approx(1 / 25)


def test_the_plane_keeps_the_distances_between_its_templates():
    templates = torch.randn(3, 7, dtype=torch.float64, generator=_generator())
    placed = demo.onto_templates(templates, templates)
    torch.testing.assert_close(torch.cdist(placed, placed), torch.cdist(templates, templates))


def test_an_untrained_network_has_no_lead_and_both_networks_are_the_same():
    first = next(demo.run(demo.Params()))
    assert first.updates.tolist() == [0]
    assert torch.equal(first.features[0], first.features[1])
    assert first.lead.abs().max() < 1


def test_without_smoothing_both_networks_stay_the_same():
    *_, last = demo.run(demo.Params(smoothing=0.0, updates=50))
    assert torch.equal(last.features[0], last.features[1])


def test_view_knobs_do_not_train_again_and_show_what_they_say():
    p = demo.Params()
    assert p.but(classes=50).run_key() == p.but(trio="4, 7, 9").run_key() == p.run_key()
    untrained = next(demo.run(p))
    view = demo.examine(p.but(classes=50, trio="4, 7, 9"), untrained)
    assert view.labels.shape == (3, 50) and set(view.digits.tolist()) == {4, 7, 9}


@pytest.mark.parametrize("smoothing", [0.0, 0.9])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [2, 1000])
def test_every_kind_of_view_is_drawn(classes, form, smoothing):
    p = demo.Params(smoothing=smoothing, form=form, classes=classes, updates=50)
    figures = kit.load("label_smoothing").figures(p, next(demo.run(p)))
    assert len(figures) == 5 and all(figure.to_json() for figure in figures.values())


def test_training_on_hard_labels_alone_breaks_the_findings(monkeypatch):
    def hard(classes, count, smoothing, form=demo.ALL):
        return SMOOTH(classes, count, 0.0, form)

    monkeypatch.setattr(demo, "smooth_labels", hard)
    monkeypatch.setattr(demo, "SEEDS", range(1))
    demo._trained.cache_clear()
    assert not demo.lowers_confidence.run(None).holds
    assert not demo.training_reaches_the_best_lead.run(None).holds
    assert not demo.clusters_are_tighter.run(None).holds
    demo._trained.cache_clear()


def test_a_law_notices_every_mistake(laws_notice):
    def swapped(classes, count, smoothing, form=demo.ALL):
        return SMOOTH(classes, count, smoothing, demo.WRONG if form == demo.ALL else demo.ALL)

    def added(classes, count, smoothing, form=demo.ALL):
        return functional.one_hot(classes, count).double() + smoothing / count

    laws_notice(
        {
            "forms that are mixed up": (
                {"smooth_labels": swapped},
                ["forms_differ_as_stated", "forms_convert", "agrees_with_torch", "best_lead_is_optimal"],
            ),
            "a true class that gives nothing up": (
                {"smooth_labels": added},
                ["labels_are_probabilities"],
            ),
            "a best lead that forgets the number of classes": (
                {"best_lead": lambda count, smoothing, form=demo.ALL: math.log((1 - 0.1) / 0.1)},
                ["best_lead_is_optimal"],
            ),
            "logits that are not normalized": (
                {"cross_entropy": lambda logits, labels: -(labels * logits).sum(-1)},
                ["entropy_is_the_floor", "agrees_with_torch"],
            ),
        }
    )
