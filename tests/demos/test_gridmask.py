import math

import pytest
import torch

from demos import gridmask as demo

BAND, MASK, COUNT = demo.band, demo.grid_mask, demo.kept_by_offset


@pytest.mark.parametrize(("unit", "kept", "offset"), [(5, 3, (0, 0)), (4, 1, (2, 3)), (7, 6, (9, 40)), (6, 2, (5, 0))])
def test_the_mask_agrees_with_a_loop_over_every_pixel(unit, kept, offset):
    mask = demo.grid_mask(*demo.places((11, 13), 0.0), (unit, unit), (kept, kept), offset)
    for i in range(11):
        for j in range(13):
            expected = (i - offset[0]) % unit < kept or (j - offset[1]) % unit < kept
            assert mask[i, j].item() is expected


@pytest.mark.parametrize("angle", [0.0, 17.0, 45.0])
@pytest.mark.parametrize(("unit", "kept"), [((5, 5), (3, 3)), ((4, 6), (1, 4)), ((9, 2), (8, 1))])
def test_the_count_at_every_offset_is_that_of_the_mask(unit, kept, angle):
    rows, columns = demo.places((12, 17), angle)
    counted = demo.kept_by_offset(rows, columns, unit, kept)
    assert counted.shape == unit
    for down in range(unit[0]):
        for across in range(unit[1]):
            mask = demo.grid_mask(rows, columns, unit, kept, (down, across))
            assert counted[down, across].item() == pytest.approx(mask.double().mean().item())


def test_one_hole_is_a_rectangle_of_its_share_that_wraps_around():
    size, kept = (16, 24), (10, 15)
    mask = demo.grid_mask(*demo.places(size, 0.0), size, kept, (0, 0))
    expected = torch.ones(size, dtype=torch.bool)
    expected[10:, 15:] = False
    assert torch.equal(mask, expected)
    moved = demo.grid_mask(*demo.places(size, 0.0), size, kept, (3, 5))
    assert torch.equal(moved, expected.roll((3, 5), (0, 1)))


def test_turning_keeps_distances_to_within_the_rounding():
    rows, columns = demo.places((21, 31), 30.0)
    for i, j, k, m in ((0, 0, 20, 30), (3, 7, 15, 2), (10, 15, 10, 30)):
        turned = math.hypot(rows[i, j] - rows[k, m], columns[i, j] - columns[k, m])
        # Each of the two places is rounded by at most half a pixel in each direction.
        assert turned == pytest.approx(math.hypot(i - k, j - m), abs=math.sqrt(2))
    straight = demo.places((21, 31), 0.0)
    assert straight[0][:, 0].tolist() == list(range(21)) and straight[1][0].tolist() == list(range(31))


def test_a_quarter_turn_swaps_rows_and_columns():
    rows, columns = demo.places((9, 9), 90.0)
    assert rows[0].tolist() == list(range(8, -1, -1)) and columns[:, 0].tolist() == list(range(9))


def test_the_pictures_show_the_mask_in_the_mean_color():
    result = demo.run(demo.Params(unit=48, ratio=0.5, right=3, down=7))
    image = demo.photograph("flower")
    mask = demo.grid_mask(*demo.places((160, 240), 0.0), (48, 48), (24, 24), (7, 3))
    assert torch.equal(result.masked[0][:, mask], image[:, mask])
    torch.testing.assert_close(result.masked[0][:, ~mask].mean(1), image.mean((1, 2)))
    assert result.share == pytest.approx(mask.double().mean().item())


@pytest.mark.parametrize("picture", demo.OBJECTS)
@pytest.mark.parametrize("side", [10, 91, 150])
def test_the_object_lies_in_the_picture(picture, side):
    left, top, right, bottom = demo.run(demo.Params(picture=picture, object_side=side)).frame
    assert min(left, top) >= 0 and right <= 240 and bottom <= 160
    assert right - left == bottom - top == side


def test_a_law_notices_every_mistake(laws_notice):
    def complement(rows, columns, unit, kept, offset):
        return ~MASK(rows, columns, unit, kept, offset)

    def against(rows, columns, unit, kept, offset):
        return MASK(rows, columns, unit, kept, (-offset[0], -offset[1]))

    def short(rows, columns, unit, kept):
        return COUNT(rows, columns, unit, (kept[0] + 1, kept[1]))

    laws_notice(
        {
            "keeping the squares instead of the bands": (
                {"grid_mask": complement},
                ["a_square_of_each_unit_is_deleted", "the_count_is_of_the_mask"],
            ),
            "an offset of the wrong sign": (
                {"grid_mask": against},
                ["a_square_of_each_unit_is_deleted"],
                {"unit": 40, "right": 13, "down": 5},
            ),
            "swapping kept and deleted widths": (
                {"band": lambda unit, ratio: BAND(unit, 1 - ratio)},
                ["share_of_the_ratio"],
            ),
            "counting a window one pixel short": (
                {"kept_by_offset": short},
                ["mean_kept_share", "the_count_is_of_the_mask"],
            ),
        }
    )
