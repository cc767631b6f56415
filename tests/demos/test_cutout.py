import pytest
import torch

from demos import cutout as demo

KEPT, SPAN = demo.kept, demo.span
PARAMS = demo.Params()


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("row", "column", "side"), [(0, 0, 4), (3, 5, 3), (6, 6, 2), (2, 6, 7), (3, 3, 1)])
def test_the_mask_agrees_with_a_loop_over_every_pixel(row, column, side):
    mask = demo.kept(7, row, column, side)
    for i in range(7):
        for j in range(7):
            inside = 0 <= i - (row - side // 2) < side and 0 <= j - (column - side // 2) < side
            assert mask[i, j].item() is not inside


@pytest.mark.parametrize(("size", "side"), [(8, 4), (9, 4), (8, 5), (9, 9), (6, 1), (7, 6)])
def test_the_share_by_center_is_that_of_the_mask_and_its_mean_the_closed_form(size, side):
    shares = demo.removed_by_center(size, side)
    for row in range(size):
        for column in range(size):
            assert shares[row, column].item() == pytest.approx(1 - demo.kept(size, row, column, side).double().mean())
    assert demo.mean_removed(size, side) == pytest.approx(shares.mean().item())


def test_what_is_cut_takes_the_mean_color_of_each_channel():
    image = torch.rand(3, 8, 8, generator=_generator())
    keep = demo.kept(8, 4, 4, 4)
    cut = demo.blank(image, keep)
    for channel in range(3):
        torch.testing.assert_close(cut[channel][~keep], image[channel].mean().expand(16))


def test_a_plain_picture_is_guessed_without_error():
    image = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 20, 20)
    for keep in (demo.kept(20, 10, 10, 12), demo.kept(20, 0, 19, 9), demo.scattered(20, 300, _generator())):
        torch.testing.assert_close(demo.guess(image, keep), image)


def test_a_guess_keeps_what_is_kept_and_stays_within_its_range():
    image = 0.3 + 0.4 * torch.rand(3, 17, 17, generator=_generator())
    keep = demo.kept(17, 8, 3, 10)
    guessed = demo.guess(image, keep)
    assert torch.equal(guessed[:, keep], image[:, keep])
    assert image[:, keep].min() <= guessed.min() and guessed.max() <= image[:, keep].max()


def test_where_nothing_is_kept_the_guess_is_finite():
    nothing = torch.zeros(9, 9, dtype=torch.bool)
    assert torch.equal(demo.guess(torch.rand(3, 9, 9, generator=_generator()), nothing), torch.zeros(3, 9, 9))


@pytest.mark.parametrize("count", [0, 1, 40, 64])
def test_single_pixels_are_dropped_at_an_exact_count(count):
    assert (~demo.scattered(8, count, _generator())).sum() == count


def test_both_pictures_lose_equally_many_pixels():
    result = demo.run(PARAMS)
    image = demo.square_photograph("flower", 96)
    lost = [(picture != image).any(0).sum() for picture in (result.cut, result.dropped)]
    assert lost[0] == lost[1] == round(result.removed * 96**2)


def test_a_law_notices_every_mistake(laws_notice):
    def moved(center, side, pixels):
        first = (torch.as_tensor(center) - side // 2).clamp(0, pixels - side)
        return first, first + side

    def one_border(center, side, pixels):
        first, _ = SPAN(center, side, pixels)
        return first, center - side // 2 + side

    laws_notice(
        {
            "a square one pixel too wide": (
                {"kept": lambda size, row, column, side: KEPT(size, row, column, side + 1)},
                ["inside_the_whole_square_is_cut", "the_rest_is_untouched"],
            ),
            "moving the square inside instead of clipping": (
                {"span": moved},
                ["a_corner_cuts_a_quarter", "mean_over_all_centers"],
            ),
            "forgetting one border": ({"span": one_border}, ["mean_over_all_centers"]),
            "blanking the whole picture": (
                {"blank": lambda image, keep: torch.zeros_like(image)},
                ["the_rest_is_untouched"],
            ),
        }
    )
