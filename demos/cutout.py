r"""Cutout: blank one square of every picture, so that no network can lean on a single part.

DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552, Sec. 3;
sides of the square as in the authors' code, uoguelph-mlrg/Cutout.

    \tilde x = M \odot x
    \qquad \mathbb E[\text{share cut}] = \Bigl(\frac{L}{n} - \frac{L^2}{4 n^2}\Bigr)^2

Symbols: $x$ a picture of $n \times n$ pixels, normalized, so that 0 is its mean color; $M$ the mask, 0 inside a square
with a side of $L$ pixels and 1 outside. The center is uniform over all pixels, and what hangs over the border is not
cut: the expectation, exact for even $L$, is over those centers. The label stays.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_most, equal, finding, law, less_than, style
from demos.kit.data import photograph
from demos.kit.pictures import outline, pictures

TOPIC = "augmentation"
DRAWS, TILES = 200, 6


@dataclass(frozen=True)
class Params(Knobs):
    picture: Annotated[str, Choice("flower", "china", doc="photograph")] = "flower"
    size: Annotated[int, Range(16, 160, doc="side of the picture n", unit="pixels")] = 96
    share: Annotated[float, Range(0.05, 1, step=0.05, doc="side of the square, L / n")] = 0.5
    center: Annotated[str, Choice("typed", "drawn", doc="center of the square")] = "typed"
    x: Annotated[float, Range(0, 1, step=0.01, when=("center", ("typed",)), doc="from left to right")] = 0.7
    y: Annotated[float, Range(0, 1, step=0.01, when=("center", ("typed",)), doc="from top to bottom")] = 0.85
    draw: Annotated[int, Range(1, DRAWS, when=("center", ("drawn",)), doc="which draw of the center")] = 1
    seed: Seed = 0


PRESETS = {
    "CIFAR-10: n = 32, L = 16": Params(size=32, share=0.5, center="drawn"),
    "CIFAR-100: n = 32, L = 8": Params(size=32, share=0.25, center="drawn"),
    "Inside: all of the square": Params(x=0.5, y=0.5),
    "In a corner: a quarter of it": Params(x=0.0, y=0.0),
}

LOOK_FOR = (
    "Near the border less is cut; most centers lie there, so some pictures stay almost whole.",
    "On the map only the plateau in the middle loses the full square; a corner loses a quarter of it.",
    "As many single pixels, dropped at random, are guessed from their neighbors; the square is not.",
)


@dataclass(frozen=True)
class Result:
    side: int  # L, pixels
    row: int  # center
    column: int
    cut: Tensor  # (3, n, n) in [0, 1]
    removed: float  # share of the pixels
    removed_by_center: Tensor  # (n, n) share of the pixels that a square around each pixel would cut
    tiles: Tensor  # (6, 3, n, n) the picture cut at the first centers drawn
    tiles_removed: Tensor  # (6,) shares cut
    dropped: Tensor  # (3, n, n) as many single pixels blanked as the square cuts
    square_guessed: Tensor  # (3, n, n) the square filled in from what surrounds it
    dropped_guessed: Tensor  # (3, n, n) the single pixels filled in from theirs
    square_error: float  # root mean square over what was cut, in units of the color range
    dropped_error: float


def span(center: Tensor | int, side: int, pixels: int) -> tuple[Tensor, Tensor]:
    """First pixel, and the one after the last, (...) of the part of the square that fits in a row of pixels."""
    first = torch.as_tensor(center) - side // 2
    return first.clamp(min=0), (first + side).clamp(max=pixels)


def kept(size: int, row: int, column: int, side: int) -> Tensor:
    """The mask (n, n) of a square around a pixel: True where the picture is kept (Sec. 3.2)."""
    (top, bottom), (left, right) = span(row, side, size), span(column, side, size)
    mask = torch.ones(size, size, dtype=torch.bool)
    mask[top:bottom, left:right] = False
    return mask


def blank(image: Tensor, keep: Tensor) -> Tensor:
    """The picture (C, n, n) in its mean color wherever `keep` (n, n) is False: 0, were it normalized."""
    return torch.where(keep, image, image.mean((-2, -1), keepdim=True))


def removed_by_center(size: int, side: int) -> Tensor:
    """Share of the pixels, (n, n), float64, that a square around each pixel cuts."""
    first, end = span(torch.arange(size), side, size)
    fits = (end - first).double()
    return fits[:, None] * fits / size**2


def mean_removed(size: int, side: int) -> float:
    """The mean of that share over all centers: what hangs over on either side, 1 + 2 + ... pixels, is not cut."""
    before, after = side // 2, side - side // 2
    over = before * (before + 1) / 2 + after * (after - 1) / 2
    return ((side - over / size) / size) ** 2


def guess(image: Tensor, keep: Tensor) -> Tensor:
    """The picture (C, n, n) with pixels that are not kept guessed from the nearest kept ones.

    Halve the picture by averages of kept pixels until no hole is left, and fill each hole from the next coarser one
    (push and pull, Gortler et al. 1996). Where nothing is kept, the guess is 0.
    """
    if keep.all() or keep.numel() == 1:
        return torch.where(keep, image, 0.0)
    weight = functional.avg_pool2d(keep[None, None].float(), 2, ceil_mode=True)
    total = functional.avg_pool2d(torch.where(keep, image, 0.0)[None], 2, ceil_mode=True)
    coarse = guess((total / weight.clamp(min=1e-6))[0], weight[0, 0] > 0)
    filled = functional.interpolate(coarse[None], size=keep.shape, mode="bilinear", align_corners=False)[0]
    return torch.where(keep, image, filled)


def scattered(size: int, count: int, generator: torch.Generator) -> Tensor:
    """A mask (n, n) that drops `count` single pixels at random: dropout on the input, at an exact count."""
    mask = torch.ones(size * size, dtype=torch.bool)
    mask[torch.randperm(size * size, generator=generator)[:count]] = False
    return mask.reshape(size, size)


def error(guessed: Tensor, image: Tensor, keep: Tensor) -> float:
    """Root mean square of the difference over what is not kept; 0 where all is."""
    return float((guessed - image)[:, ~keep].square().mean().sqrt()) if not keep.all() else 0.0


@cache
def square_photograph(name: str, size: int) -> Tensor:
    """The middle of a sample photograph, (3, n, n) in [0, 1]."""
    whole = photograph(name)
    side, left = whole.shape[1], (whole.shape[2] - whole.shape[1]) // 2
    return functional.adaptive_avg_pool2d(whole[None, :, :, left : left + side], size)[0]


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    image, side = square_photograph(p.picture, p.size), side_of(p)
    centers = torch.randint(p.size, (DRAWS, 2), generator=generator).tolist()
    typed = round(p.y * (p.size - 1)), round(p.x * (p.size - 1))
    row, column = typed if p.center == "typed" else centers[p.draw - 1]
    square = kept(p.size, row, column, side)
    single = scattered(p.size, int((~square).sum()), generator)
    tiles = [kept(p.size, *center, side) for center in centers[:TILES]]
    square_guessed, dropped_guessed = guess(image, square), guess(image, single)
    return Result(
        side=side,
        row=row,
        column=column,
        cut=blank(image, square),
        removed=1 - float(square.double().mean()),
        removed_by_center=removed_by_center(p.size, side),
        tiles=torch.stack([blank(image, tile) for tile in tiles]),
        tiles_removed=torch.stack([1 - tile.double().mean() for tile in tiles]),
        dropped=blank(image, single),
        square_guessed=square_guessed,
        dropped_guessed=dropped_guessed,
        square_error=error(square_guessed, image, square),
        dropped_error=error(dropped_guessed, image, single),
    )


def side_of(p: Params) -> int:
    """Side L of the square in whole pixels, at least one."""
    return max(1, round(p.share * p.size))


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "Side L, pixels": r.side,
        "Share cut": r.removed,
        "Share of the whole square, L² / n²": r.side**2 / p.size**2,
        "Mean over all centers": mean_removed(p.size, r.side),
        "Error of the guess, square": r.square_error,
        "Error of the guess, single pixels": r.dropped_error,
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "The square as drawn, dashed, and the part of it that is cut, in the mean color.": _picture(p, r),
        f"The first {TILES} of the random centers: how much a picture loses is a matter of luck.": _tiles(r),
        "The share cut by a square around each pixel; the cross is the center above.": _map(p, r),
        "The same number of pixels, in a square or one by one, and what their neighbors say of them.": _guesses(r),
    }


def _picture(p: Params, r: Result) -> go.Figure:
    fig = pictures([r.cut], height=380)
    left, top = r.column - r.side // 2, r.row - r.side // 2
    outline(fig, left, top, left + r.side, top + r.side, name="square", color=style.ORANGE, dash="dash")
    (top, bottom), (left, right) = span(r.row, r.side, p.size), span(r.column, r.side, p.size)
    outline(fig, int(left), int(top), int(right), int(bottom), name="cut", color=style.RED)
    # A margin that does not follow the square: the picture stays in place as the square moves.
    fig.update_xaxes(range=[-0.25 * p.size, 1.25 * p.size])
    fig.update_yaxes(range=[1.25 * p.size, -0.25 * p.size], autorange=False)
    return fig


def _tiles(r: Result) -> go.Figure:
    names = [f"{share:.0%} cut" for share in r.tiles_removed.tolist()]
    return pictures(list(r.tiles), names=names, columns=3, height=400)


def _map(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="column of the center, pixels", y="row of the center, pixels", height=380)
    # Every second pixel or so of a large picture: the map is smooth.
    step = math.ceil(p.size / 80)
    at = torch.arange(0, p.size, step)
    fig.add_heatmap(
        x=at.numpy(),
        y=at.numpy(),
        z=r.removed_by_center[::step, ::step].numpy(),
        zmin=0,
        zmax=r.side**2 / p.size**2,
        colorscale=style.SEQUENTIAL,
        colorbar={"title": "share<br>cut", "tickformat": ".0%", "thickness": 12},
        hovertemplate="column %{x}, row %{y}: %{z:.1%}<extra></extra>",
    )
    fig.add_scatter(
        x=[r.column],
        y=[r.row],
        mode="markers",
        marker={"color": style.RED, "symbol": "x", "size": 13, "line": {"color": style.PAPER, "width": 1.5}},
        hoverinfo="skip",
        showlegend=False,
    )
    fig.update_xaxes(range=[-0.5, p.size - 0.5], constrain="domain")
    fig.update_yaxes(range=[p.size - 0.5, -0.5], scaleanchor="x", constrain="domain")
    return fig


def _guesses(r: Result) -> go.Figure:
    names = [
        "a square",
        f"guessed, error {r.square_error:.3f}",
        "single pixels",
        f"guessed, error {r.dropped_error:.3f}",
    ]
    images = [r.cut, r.square_guessed, r.dropped, r.dropped_guessed]
    return pictures(images, names=names, columns=2, height=520)


@law("A square that fits removes L² / n² of the picture, wherever it lies.", source="Sec. 3")
def inside_the_whole_square_is_cut(p: Params) -> Evidence:
    side = side_of(p)
    nearest, farthest = side // 2, p.size - (side - side // 2)
    centers = [(row, column) for row in {nearest, farthest} for column in {nearest, farthest}]
    shares = [_share_cut(p.size, row, column, side) for row, column in centers]
    expected = side**2 / p.size**2
    return equal(
        max(shares, key=lambda share: abs(share - expected)),
        expected,
        1e-12,
        why="a count of pixels over a count; float64 rounding",
        quantity="share cut, the farthest off of the outermost squares that still fit",
    )


def _share_cut(size: int, row: int, column: int, side: int) -> float:
    """Share of the pixels that are blanked in a picture that nowhere has its mean color."""
    image = torch.tensor([-1.0, 1.0]).repeat(1, size, (size + 1) // 2)[..., :size]
    return float((blank(image, kept(size, row, column, side)) != image).double().mean())


@law("Around a corner only a quarter of the square is cut, the least of all centers.", source="definition")
def a_corner_cuts_a_quarter(p: Params) -> Evidence:
    side = side_of(p)
    least = min(float(removed_by_center(p.size, side).min()), _share_cut(p.size, 0, 0, side))
    return equal(
        least,
        math.ceil(side / 2) ** 2 / p.size**2,
        1e-12,
        why="exact: half of each side fits, the larger half where L is odd",
        quantity="smallest share cut over all centers",
    )


@law(
    "Over all centers the share cut averages (L/n − L²/4n²)²: less than that of the whole square.", source="definition"
)
def mean_over_all_centers(p: Params) -> Evidence:
    side = side_of(p)
    odd = 1 / (4 * p.size**2) if side % 2 else 0.0
    return equal(
        removed_by_center(p.size, side).mean(),
        (side / p.size - side**2 / (4 * p.size**2) + odd) ** 2,
        1e-12,
        why="the sum over whole pixels is exact; an odd L adds 1/4n² inside the square",
        quantity="mean share cut over all centers",
    )


@law("What is not cut stays as it was, pixel by pixel.", source="Sec. 3")
def the_rest_is_untouched(p: Params) -> Evidence:
    result, image = run(p), square_photograph(p.picture, p.size)
    pixel, half = torch.arange(p.size), result.side // 2
    rows, columns = (
        (pixel >= center - half) & (pixel < center - half + result.side) for center in (result.row, result.column)
    )
    outside = ~(rows[:, None] & columns)
    difference = (result.cut - image).abs().amax(0)
    return at_most(
        difference[outside].max() if outside.any() else 0.0,
        0.0,
        why="exact: the pixels are copied",
        quantity="largest change of a pixel outside the square",
    )


@finding(
    "At CIFAR-10's n = 32 and L = 16 only 28 % of the squares lie wholly inside; all others are clipped.",
    source="Sec. 4 for the side; counted here over all 1,024 centers",
)
def most_squares_hang_over() -> Evidence:
    shares = removed_by_center(32, 16)
    inside = float((shares == 0.25).double().mean())
    return equal(
        inside,
        17**2 / 32**2,
        0.0,
        why="exact: 17 of 32 rows and of 32 columns leave room for the whole square",
        quantity="share of centers whose square lies wholly inside",
    )


@finding(
    "As many pixels dropped one by one are guessed from their neighbors with less than half the error of the square's, "
    "on average.",
    source="Sec. 1 and 3, why Dropout does little at the input",
)
def single_pixels_are_guessed() -> Evidence:
    settings = [Params(picture=name, center="drawn", seed=seed) for name in ("flower", "china") for seed in range(20)]
    results = [run(setting) for setting in settings]
    return less_than(
        sum(result.dropped_error for result in results) / sum(result.square_error for result in results),
        0.5,
        why="both photographs at the defaults with drawn centers, seeds 0 to 19; now and then a square lies in plain "
        "sky and is guessed as well, so that the claim is about the average",
        quantity="ratio of the mean errors, single pixels to square",
    )
