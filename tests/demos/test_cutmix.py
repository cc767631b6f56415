import pytest
import torch
from scipy import integrate

from demos import cutmix as demo
from demos import kit

CUTMIX, HALF_SIDES, LABEL_WEIGHT = demo.cutmix, demo.half_sides, demo.label_weight
PARAMS = demo.Params()


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("box", [(1, 0, 4, 2), (-3, -1, 2, 3), (3, 2, 9, 8), (2, 2, 2, 2), (-5, -5, 20, 20)])
def test_mixing_agrees_with_a_loop_over_every_pixel(box):
    x = torch.rand(3, 2, 5, 6, generator=_generator())
    partner = torch.tensor([2, 0, 1])
    mixed, label = demo.cutmix(x, torch.eye(3), partner, demo.Box(*box))
    left, top, right, bottom = box
    for n in range(3):
        pasted = 0
        for row in range(5):
            for column in range(6):
                inside = left <= column < right and top <= row < bottom
                source = partner[n] if inside else n
                assert torch.equal(mixed[n, :, row, column], x[source, :, row, column])
                pasted += inside
        expected = [0.0, 0.0, 0.0]
        expected[n] = 1 - pasted / 30
        expected[partner[n]] = pasted / 30
        assert label[n].tolist() == pytest.approx(expected)


def test_the_originals_are_left_as_they_were():
    x = torch.rand(2, 3, 8, 8, generator=_generator())
    before = x.clone()
    demo.cutmix(x, torch.eye(2), torch.tensor([1, 0]), demo.Box(0, 0, 4, 4))
    assert torch.equal(x, before)


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_the_weight_in_one_formula_is_that_of_the_pasted_box_at_every_center(lam):
    size = (9, 13)
    x, partner = torch.zeros(2, 1, *size), torch.tensor([1, 0])
    for row in range(9):
        for column in range(13):
            _, label = demo.cutmix(x, torch.eye(2).double(), partner, demo.box_around(size, lam, row, column))
            weight = demo.label_weight(size, torch.tensor(lam), torch.tensor(row), torch.tensor(column))
            assert weight.item() == pytest.approx(label[0, 0].item())


def test_the_mean_pasted_share_over_all_boxes_is_the_integral():
    share, _ = integrate.quad(lambda r: (r - r**2 / 4) ** 2 * 2 * r, 0, 1)
    assert share == pytest.approx(77 / 240)
    lam = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    # Sides rounded down to even numbers of 20,000 pixels lose at most a ten-thousandth each.
    assert 1 - demo.mean_label_weight((20_000, 20_000), lam).mean().item() == pytest.approx(share, abs=2e-4)


def test_the_drawn_box_is_the_one_asked_for():
    result = demo.run(demo.Params(box="drawn", draw=5, seed=3))
    lam, row, column = (values[4].item() for values in demo.draw_boxes((160, 240), demo.DRAWS, _generator(3)))
    assert result.lam == lam and result.weights[4].item() == pytest.approx(result.label[0].item())
    assert result.whole == demo.box_around((160, 240), lam, row, column)


def test_the_other_picture_is_pasted():
    for under, pasted in (("china", "flower"), ("flower", "china")):
        left, top, right, bottom = demo.run(demo.Params(under=under)).clipped
        mixed = demo.run(demo.Params(under=under)).mixed
        assert torch.equal(mixed[:, top:bottom, left:right], demo.photograph(pasted)[:, top:bottom, left:right])
        assert torch.equal(mixed[:, bottom:], demo.photograph(under)[:, bottom:])


def test_the_finding_holds():
    assert demo.half_is_a_third.run(PARAMS).holds


def test_a_label_by_the_box_as_drawn_breaks_its_laws(monkeypatch):
    def unclipped(x, y, partner, box):
        weight = 1 - (box.right - box.left) * (box.bottom - box.top) / x[0, 0].numel()
        return CUTMIX(x, y, partner, box)[0], weight * y + (1 - weight) * y[partner]

    monkeypatch.setattr(demo, "cutmix", unclipped)
    assert not demo.label_is_the_pixel_share.run(PARAMS).holds
    assert not demo.a_quarter_always_fits.run(PARAMS).holds


def test_swapped_labels_break_their_laws(monkeypatch):
    def swapped(x, y, partner, box):
        mixed, label = CUTMIX(x, y, partner, box)
        return mixed, label[partner]

    monkeypatch.setattr(demo, "cutmix", swapped)
    assert not demo.label_is_the_pixel_share.run(PARAMS).holds
    assert not demo.weight_is_never_below_lambda.run(PARAMS).holds


def test_sides_without_the_square_root_break_their_law(monkeypatch):
    monkeypatch.setattr(demo, "half_sides", lambda size, lam: HALF_SIDES(size, 1 - (1 - torch.as_tensor(lam)) ** 2))
    assert not demo.inside_the_weight_is_lambda.run(PARAMS).holds


def test_boxes_that_are_too_large_break_the_bound(monkeypatch):
    monkeypatch.setattr(demo, "half_sides", lambda size, lam: tuple(half + 9 for half in HALF_SIDES(size, lam)))
    assert not demo.weight_is_never_below_lambda.run(PARAMS).holds


def test_a_weight_that_forgets_to_clip_breaks_the_mean(monkeypatch):
    monkeypatch.setattr(demo, "overlap", lambda center, half, pixels: 2 * half + 0 * center)
    assert not demo.mean_over_all_centers.run(PARAMS).holds
    assert not demo.half_is_a_third.run(PARAMS).holds


def test_every_preset_is_drawn():
    loaded = kit.load("cutmix")
    for params in loaded.presets.values():
        assert len(loaded.figures(params, loaded.result(params))) == 4
