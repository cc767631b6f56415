import pytest
import torch
from scipy import integrate

from demos import cutmix as demo

CUTMIX, HALF_SIDES = demo.cutmix, demo.half_sides


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


def test_a_law_notices_every_mistake(laws_notice):
    def unclipped(x, y, partner, box):
        weight = 1 - (box.right - box.left) * (box.bottom - box.top) / x[0, 0].numel()
        return CUTMIX(x, y, partner, box)[0], weight * y + (1 - weight) * y[partner]

    def swapped(x, y, partner, box):
        mixed, label = CUTMIX(x, y, partner, box)
        return mixed, label[partner]

    laws_notice(
        {
            "a label by the box as drawn": (
                {"cutmix": unclipped},
                ["label_is_the_pixel_share", "a_quarter_always_fits"],
            ),
            "swapped labels": ({"cutmix": swapped}, ["label_is_the_pixel_share", "weight_is_never_below_lambda"]),
            "sides without the square root": (
                {"half_sides": lambda size, lam: HALF_SIDES(size, 1 - (1 - torch.as_tensor(lam)) ** 2)},
                ["inside_the_weight_is_lambda"],
            ),
            "boxes that are too large": (
                {"half_sides": lambda size, lam: tuple(half + 9 for half in HALF_SIDES(size, lam))},
                ["weight_is_never_below_lambda"],
            ),
            "a weight that forgets to clip": (
                {"overlap": lambda center, half, pixels: 2 * half + 0 * center},
                ["mean_over_all_centers", "half_is_a_third"],
            ),
        }
    )
