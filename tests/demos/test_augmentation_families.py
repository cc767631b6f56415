import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from demos import augmentation_families as demo

MOVE, WARP, RECOLOR, MASK, DROP = demo.move, demo.warp, demo.recolor, demo.mask, demo.drop


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _image(height=12, width=18):
    return torch.rand(3, height, width, generator=_generator())


@pytest.mark.parametrize(
    "matrix", [demo.rotation(20), demo.rotation(-135), 0.6 * torch.eye(2), torch.tensor([[1.0, 0.4], [0.0, 0.8]])]
)
def test_warping_agrees_with_scipy(matrix):
    image = _image()
    height, width = image.shape[-2:]
    middle = torch.tensor([(height - 1) / 2, (width - 1) / 2]).double()
    # scipy counts rows first: x and y change places.
    turned = matrix.double().flip(0, 1)
    offset = middle - turned @ middle
    for ours, channel in zip(demo.warp(image, matrix), image, strict=True):
        theirs = ndimage.affine_transform(
            channel.double().numpy(), turned.numpy(), offset.numpy(), order=1, mode="reflect"
        )
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


def test_a_half_turn_flips_both_ways_and_a_turn_shows_the_picture_clockwise():
    image = _image(8, 8)
    torch.testing.assert_close(demo.warp(image, demo.rotation(180)), image.flip(-1, -2))
    torch.testing.assert_close(demo.warp(image, demo.rotation(90)), image.rot90(1, (-2, -1)))


@pytest.mark.parametrize("matrix", [demo.rotation(0), demo.rotation(33), demo.rotation(90), 0.5 * torch.eye(2)])
def test_the_share_in_view_agrees_with_a_loop(matrix):
    height, width, seen = 9, 15, 0
    inverse = torch.linalg.inv(matrix).tolist()
    for row in range(height):
        for column in range(width):
            x, y = column - 7, row - 4
            to_x, to_y = (line[0] * x + line[1] * y for line in inverse)
            seen += abs(to_x) <= width / 2 and abs(to_y) <= height / 2
    assert demo.in_view((height, width), matrix) == pytest.approx(seen / (height * width))


def test_a_crop_shows_the_square_of_its_side():
    _, shown = demo.move(demo.photograph("china"), demo.Params(spatial="crop", side=0.5))
    assert shown == pytest.approx(0.25)


@pytest.mark.parametrize("degrees", [0.0, 40.0, -170.0])
def test_a_turn_of_hue_keeps_the_brightness_and_the_grays(degrees):
    image = 0.4 + 0.2 * _image()  # so far from the ends that nothing is clipped
    turned = demo.recolor(image, "hue", 1.0, degrees)
    torch.testing.assert_close(demo.luma(turned), demo.luma(image))
    gray = image[:1].expand(3, -1, -1)
    torch.testing.assert_close(demo.recolor(gray, "hue", 1.0, degrees), gray, atol=1e-5, rtol=0)
    torch.testing.assert_close(demo.recolor(turned, "hue", 1.0, -degrees), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("transform", ["brightness", "contrast", "saturation"])
def test_a_factor_of_one_changes_no_color(transform):
    torch.testing.assert_close(demo.recolor(_image(), transform, 1.0, 0.0), _image())


def test_without_saturation_all_channels_are_the_luma_and_without_brightness_all_is_black():
    image = _image()
    torch.testing.assert_close(demo.recolor(image, "saturation", 0.0, 0.0), demo.luma(image).expand(3, -1, -1))
    assert not demo.recolor(image, "brightness", 0.0, 0.0).any()


def test_random_patches_are_dropped_whole():
    kept = demo.mask((160, 240), "patches", 0.35, _generator())
    patches = kept.reshape(8, 20, 12, 20).transpose(1, 2).flatten(2).double().mean(-1)
    assert set(patches.flatten().tolist()) == {0.0, 1.0}
    assert (patches == 0).sum() == round(0.35 * 96)


def test_the_histogram_and_its_overlap_agree_with_numpy():
    one, other = _image(), _image().square()
    shares = [[np.histogram(c.numpy(), 32, (0, 1))[0] / c.numel() for c in picture] for picture in (one, other)]
    np.testing.assert_allclose(demo.histogram(one[0]).numpy(), shares[0][0], atol=1e-7)
    overlaps = [np.minimum(a, b).sum() for a, b in zip(*shares, strict=True)]
    assert demo.color_overlap(one, other) == pytest.approx(np.mean(overlaps), abs=1e-6)


def test_the_edges_agree_with_numpys_correlation_and_a_flat_picture_has_none():
    one, other = _image(), _image().flip(-1)
    expected = np.corrcoef(demo.steepness(one).numpy().ravel(), demo.steepness(other).numpy().ravel())[0, 1]
    assert demo.edge_agreement(one, other) == pytest.approx(expected, abs=1e-5)
    assert demo.edge_agreement(one, one) == pytest.approx(1)
    assert demo.edge_agreement(one, torch.zeros_like(one)) == 0


def test_a_slope_is_as_steep_as_it_is():
    slope = (0.03 * torch.arange(5)[:, None] + 0.04 * torch.arange(7)).expand(3, 5, 7)
    torch.testing.assert_close(demo.steepness(slope), torch.full((4, 6), 0.05))


def test_a_law_notices_every_mistake(laws_notice):
    def padded(image, p):
        moved, shown = MOVE(image, p)
        moved[..., : math.ceil(p.by * image.shape[-1])] = 0
        return moved, shown

    def vignette(image, *settings):
        return RECOLOR(image, *settings) * torch.linspace(0.5, 1, image.shape[-1])

    laws_notice(
        {
            "a shift that does not wrap": ({"move": padded}, ["reordering_keeps_every_color"]),
            "an interpolation that overshoots": (
                {"warp": lambda image, matrix: 1.05 * WARP(image, matrix) - 0.02},
                ["interpolation_stays_in_range"],
            ),
            "dropping that touches the rest": (
                {"drop": lambda image, kept: DROP(image, kept) / 0.65},
                ["dropping_leaves_the_rest"],
            ),
            **{
                f"a {color} that looks at the place": (
                    {"recolor": vignette},
                    ["recoloring_moves_nothing"],
                    {"color": color},
                )
                for color in ("brightness", "contrast", "saturation", "hue")
            },
            **{
                f"a mask of {dropping} the wrong way round": (
                    {"mask": lambda *settings: ~MASK(*settings)},
                    ["dropping_leaves_the_rest"],
                    {"dropping": dropping},
                )
                for dropping in ("box", "grid", "patches")
            },
        }
    )
