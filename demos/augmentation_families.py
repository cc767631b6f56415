r"""Augmentation families: move the pixels, recolor them, or drop them: each spoils something else.

Chen et al., "GridMask Data Augmentation", arXiv:2001.04086, Sec. 1, sorts augmentations into these three families:
spatial transformation, color distortion and information dropping.

    \text{spatial: } \tilde x(q) = x(A q)
    \qquad \text{color: } \tilde x(q) = c\bigl(x(q)\bigr)
    \qquad \text{dropping: } \tilde x(q) = M(q)\,x(q) + \bigl(1 - M(q)\bigr)\,\bar x

Symbols: $x$ a picture, $q$ a place in it, seen from its middle; $A$ a matrix, or a reordering of the pixels; $c$ a map
of colors, the same everywhere; $M$ a mask, 1 where the picture is kept; $\bar x$ the mean color. Between pixels $x$ is
interpolated, and beyond the border it is mirrored.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_least, at_most, equal, finding, law, more_than, style
from demos.kit.data import photograph
from demos.kit.pictures import pictures

TOPIC = "augmentation"
FAMILIES = ("spatial", "color", "dropping")
COLORS, PATTERNS, DASHES = (style.BLUE, style.ORANGE, style.GREEN), ("", "/", "x"), ("dash", "dot", "dashdot")
MEASURES = ("colors kept", "edges in place", "pixels left")
LUMA = torch.tensor([0.299, 0.587, 0.114])
# I and Q of the NTSC color space: with the luma, all of a color; a turn in their plane changes the hue alone.
CHROMA = torch.tensor([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
UNIT, PATCH, BINS = 40, 20, 32
# Five of 255 levels: about the least that one sees.
VISIBLE = 0.02


@dataclass(frozen=True)
class Params(Knobs):
    picture: Annotated[str, Choice("flower", "china", doc="photograph")] = "flower"
    spatial: Annotated[str, Choice("flip", "shift", "rotate", "crop", doc="spatial transform")] = "rotate"
    by: Annotated[float, Range(0, 1, step=0.01, when=("spatial", ("shift",)), doc="shift, share of the width")] = 0.3
    angle: Annotated[float, Range(-180, 180, step=1, when=("spatial", ("rotate",)), doc="rotation", unit="degrees")] = (
        20.0
    )
    side: Annotated[float, Range(0.1, 1, step=0.01, when=("spatial", ("crop",)), doc="side of the crop, share")] = 0.7
    color: Annotated[str, Choice("brightness", "contrast", "saturation", "hue", doc="color transform")] = "hue"
    factor: Annotated[
        float,
        Range(0, 3, step=0.05, when=("color", ("brightness", "contrast", "saturation")), doc="factor of it"),
    ] = 0.5
    turn: Annotated[float, Range(-180, 180, step=1, when=("color", ("hue",)), doc="turn", unit="degrees")] = 90.0
    dropping: Annotated[str, Choice("box", "grid", "patches", doc="what is dropped")] = "patches"
    share: Annotated[float, Range(0.02, 0.9, step=0.01, doc="share dropped")] = 0.35
    seed: Seed = 0


PRESETS = {
    "Flip, dim, one hole": Params(picture="china", spatial="flip", color="brightness", dropping="box"),
    "A crop drops information too": Params(spatial="crop", side=0.5),
    "Gray, and a grid": Params(spatial="shift", color="saturation", factor=0.0, dropping="grid"),
    "So much contrast that edges clip": Params(picture="china", color="contrast", factor=3.0),
}

LOOK_FOR = (
    "A spatial transform keeps the colors and moves the edges.",
    "A color transform changes nearly every pixel and leaves the edges in their place.",
    "Dropping leaves most pixels exactly as they were, and takes the others away for good.",
)


@dataclass(frozen=True)
class Result:
    original: Tensor  # (3, H, W) in [0, 1]
    augmented: Tensor  # (3 families, 3, H, W) in [0, 1]
    change: Tensor  # (3 families, H / 2, W / 2) mean absolute change of the channels
    changed: Tensor  # (3 families,) share of the pixels that changed visibly
    measures: Tensor  # (3 families, 3 measures) in the order of MEASURES
    blue: Tensor  # (1 + 3 families, 32) how often each blue value occurs, blanked pixels left out: the original first


def warp(image: Tensor, matrix: Tensor) -> Tensor:
    """The picture (C, H, W) with each place q showing what was at A q.

    A (2, 2) maps (x, y) in pixels from the middle. Bilinear between pixels, mirrored beyond the border.
    """
    height, width = image.shape[-2:]
    half = torch.tensor([width / 2, height / 2])
    theta = torch.cat([matrix * half / half[:, None], torch.zeros(2, 1)], dim=1)
    grid = functional.affine_grid(theta[None], [1, 1, height, width], align_corners=False)
    return functional.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]


def rotation(degrees: float) -> Tensor:
    """The matrix (2, 2) of a turn; x runs right and y down."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[cosine, -sine], [sine, cosine]])


def in_view(size: tuple[int, int], matrix: Tensor) -> float:
    """Share of the pixels of a picture of size (H, W) that the warp by A (2, 2) still shows."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    shown = torch.linalg.solve(matrix, torch.stack([x.flatten(), y.flatten()])).abs()
    return float(((shown[0] <= width / 2) & (shown[1] <= height / 2)).double().mean())


def luma(image: Tensor) -> Tensor:
    """Brightness (H, W) of a picture (3, H, W), both in [0, 1] (ITU-R BT.601)."""
    return (LUMA[:, None, None] * image).sum(0)


def recolor(image: Tensor, transform: str, factor: float, degrees: float) -> Tensor:
    """The picture (3, H, W) with each color changed alone, whatever its place, clipped to [0, 1]."""
    gray = luma(image)
    if transform == "brightness":
        changed = factor * image
    elif transform == "contrast":
        changed = gray.mean() + factor * (image - gray.mean())
    elif transform == "saturation":
        changed = gray + factor * (image - gray)
    else:
        space = torch.cat([LUMA[None], CHROMA])
        turn = torch.block_diag(torch.ones(1, 1), rotation(degrees))
        changed = torch.einsum("ij,jhw->ihw", torch.linalg.inv(space) @ turn @ space, image)
    return changed.clamp(0, 1)


def mask(size: tuple[int, int], kind: str, share: float, generator: torch.Generator) -> Tensor:
    """A mask (H, W), True where the picture is kept, that drops about a share of it.

    "box" drops one of the picture's shape in its middle, "grid" a square in each 40 x 40 pixels (GridMask),
    "patches" random ones of 20 x 20 pixels (hide and seek).
    """
    height, width = size
    side = math.sqrt(share)
    if kind == "patches":
        rows, columns = height // PATCH, width // PATCH
        kept = torch.ones(rows * columns, dtype=torch.bool)
        kept[torch.randperm(len(kept), generator=generator)[: round(share * len(kept))]] = False
        return kept.reshape(rows, columns).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
    spans = []
    for pixels in size:
        unit = UNIT if kind == "grid" else pixels
        hole = round(side * unit)
        place = torch.arange(pixels) % unit - (unit - hole) // 2
        spans.append((place >= 0) & (place < hole))
    return ~(spans[0][:, None] & spans[1])


def drop(image: Tensor, kept: Tensor) -> Tensor:
    """The picture (3, H, W) in its mean color where it is not kept (H, W)."""
    return torch.where(kept, image, image.mean((-2, -1), keepdim=True))


def color_overlap(image: Tensor, other: Tensor) -> float:
    """Histogram intersection in 32 bins, mean over the channels: 1 where both hold the same colors equally often."""
    shared = [
        torch.minimum(histogram(one), histogram(another)).sum() for one, another in zip(image, other, strict=True)
    ]
    return float(torch.stack(shared).mean())


def histogram(values: Tensor) -> Tensor:
    """Shares (32,) of the values, any shape, in equal bins of [0, 1]."""
    return torch.histc(values, BINS, 0, 1) / values.numel()


def edge_agreement(image: Tensor, other: Tensor) -> float:
    """Correlation of how steep the brightness of two pictures (3, H, W) is, place by place; 0 where one is flat."""
    steep = torch.stack([steepness(image).flatten(), steepness(other).flatten()])
    steep -= steep.mean(-1, keepdim=True)
    spread = steep.norm(dim=-1).prod()
    return float(steep.prod(0).sum() / spread) if spread > 0 else 0.0


def steepness(image: Tensor) -> Tensor:
    """Length of the gradient of the brightness, (H - 1, W - 1), from differences of neighboring pixels."""
    gray = luma(image)
    down, across = gray[1:, :-1] - gray[:-1, :-1], gray[:-1, 1:] - gray[:-1, :-1]
    return torch.hypot(down, across)


def move(image: Tensor, p: Params) -> tuple[Tensor, float]:
    """The picture (3, H, W) under the chosen spatial transform, and the share of its pixels that it still shows."""
    if p.spatial == "flip":
        return image.flip(-1), 1.0
    if p.spatial == "shift":
        return image.roll(round(p.by * image.shape[-1]), -1), 1.0
    matrix = rotation(p.angle) if p.spatial == "rotate" else p.side * torch.eye(2)
    return warp(image, matrix), in_view((image.shape[-2], image.shape[-1]), matrix)


def run(p: Params) -> Result:
    image = photograph(p.picture)
    moved, shown = move(image, p)
    recolored = recolor(image, p.color, p.factor, p.turn)
    kept = mask((image.shape[-2], image.shape[-1]), p.dropping, p.share, torch.Generator().manual_seed(p.seed))
    augmented = torch.stack([moved, recolored, drop(image, kept)])
    change = (augmented - image).abs().mean(1)
    left = (shown, 1.0, float(kept.double().mean()))
    return Result(
        original=image,
        augmented=augmented,
        change=functional.avg_pool2d(change, 2),
        changed=(change > VISIBLE).double().mean((-2, -1)),
        measures=torch.tensor(
            [
                [color_overlap(image, other), edge_agreement(image, other), remains]
                for other, remains in zip(augmented, left, strict=True)
            ]
        ),
        blue=torch.stack(
            [histogram(values) for values in (image[2], moved[2], recolored[2])]
            + [histogram(image[2][kept]) * left[-1]]
        ),
    )


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        f"{measure[0].upper()}{measure[1:]}, {family}": float(value)
        for row, family in zip(r.measures, FAMILIES, strict=True)
        for value, measure in zip(row, MEASURES, strict=True)
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "The photograph, and one transform of each family.": _pictures(p, r),
        "What each changed, the brighter the more; below, the share of pixels that changed visibly.": _changes(r),
        "What each family spoils: 1 is as before.": _measures(r),
        "How often each blue value occurs: moving hardly alters it, recoloring shifts it, dropping thins it.": _blue(r),
    }


def _pictures(p: Params, r: Result) -> go.Figure:
    names = ["original", f"spatial: {p.spatial}", f"color: {p.color}", f"dropping: {p.dropping}"]
    return pictures([r.original, *r.augmented], names=names, columns=2, height=480)


def _changes(r: Result) -> go.Figure:
    names = [f"{family}: {share:.0%}" for family, share in zip(FAMILIES, r.changed.tolist(), strict=True)]
    brightest = r.change.amax((-2, -1), keepdim=True).clamp(min=1e-6)
    return pictures(list((r.change / brightest)[:, None]), names=names, height=220)


def _measures(r: Result) -> go.Figure:
    fig = style.figure(y="share or correlation")
    for family, values, color, pattern in zip(FAMILIES, r.measures.tolist(), COLORS, PATTERNS, strict=True):
        fig.add_bar(
            x=MEASURES,
            y=values,
            name=family,
            text=[f"{value:.2f}" for value in values],
            textposition="outside",
            marker={"color": color, "pattern": {"shape": pattern}},
        )
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[min(0.0, 1.2 * float(r.measures.min())), 1.12])
    return fig


def _blue(r: Result) -> go.Figure:
    fig = style.figure(x="value of the blue channel", y="share of the pixels")
    middles = (torch.arange(BINS) + 0.5) / BINS
    fig.add_bar(x=middles.numpy(), y=r.blue[0].numpy(), name="original", marker={"color": style.GRAY, "opacity": 0.5})
    for family, shares, color, dash in zip(FAMILIES, r.blue[1:], COLORS, DASHES, strict=True):
        fig.add_scatter(
            x=middles.numpy(),
            y=shares.numpy(),
            mode="lines",
            name=family,
            line={"color": color, "dash": dash, "shape": "hvh", "width": 2},
        )
    fig.update_layout(bargap=0)
    fig.update_xaxes(range=[0, 1])
    return fig


@law("A flip or a shift only reorders the pixels: the histogram stays exactly the same.", source="definition")
def reordering_keeps_every_color(p: Params) -> Evidence:
    image = photograph(p.picture)
    before = image.flatten(1).sort().values
    moved = [move(image, p.but(spatial=kind))[0] for kind in ("flip", "shift")]
    return at_most(
        max(float((other.flatten(1).sort().values - before).abs().max()) for other in moved),
        0.0,
        why="exact: the pixels are copied",
        quantity="largest difference between the sorted values before and after",
    )


@law("Interpolation makes no color that is brighter or darker than all it was made of.", source="definition")
def interpolation_stays_in_range(p: Params) -> Evidence:
    image = photograph(p.picture)
    beyond = []
    for kind in ("rotate", "crop"):
        moved, _ = move(image, p.but(spatial=kind))
        beyond += [moved.amax((1, 2)) - image.amax((1, 2)), image.amin((1, 2)) - moved.amin((1, 2))]
    return at_most(
        torch.stack(beyond).max(),
        0.0,
        1e-6,
        why="float32 rounding of weights that add up to one",
        quantity="how far a channel of the moved picture leaves its range before",
    )


@law("A color transform does not look at the place: to reorder and recolor is to recolor and reorder.", source="Sec. 1")
def recoloring_moves_nothing(p: Params) -> Evidence:
    image = photograph(p.picture)
    order = torch.randperm(image[0].numel(), generator=torch.Generator().manual_seed(p.seed))

    def reordered(picture: Tensor) -> Tensor:
        return picture.flatten(1)[:, order].reshape(picture.shape)

    difference = recolor(reordered(image), p.color, p.factor, p.turn) - reordered(
        recolor(image, p.color, p.factor, p.turn)
    )
    return at_most(
        difference.abs().max(),
        0.0,
        1e-5,
        why="float32 rounding of the mean brightness, which contrast is measured from, times a factor of at most 3",
        quantity="largest difference of the two pictures, pixels in random order",
    )


@law("Dropping lowers the share of pixels that are left to one minus the share dropped.", source="Sec. 1")
def dropping_leaves_the_rest(p: Params) -> Evidence:
    image = photograph(p.picture)
    kept = mask((image.shape[-2], image.shape[-1]), p.dropping, p.share, torch.Generator().manual_seed(p.seed))
    # Lifted off the mean color, so that every dropped pixel differs.
    lifted = image + 2 * torch.arange(image[0].numel()).reshape(image.shape[1:]) / image[0].numel()
    untouched = (drop(lifted, kept) == lifted).all(0).double().mean()
    return equal(
        untouched,
        1 - p.share,
        0.026,
        why="a grid's square has whole pixels, half a pixel of 40 on each side; boxes and patches are nearer",
        quantity="share of the pixels that are exactly as before",
    )


@finding(
    "Flip, shift and a rotation by 20° keep the histogram: more than nine tenths of it at least.",
    source="definition; measured as the intersection of histograms",
)
def spatial_keeps_the_colors() -> Evidence:
    overlaps = [
        run(Params(picture=picture, spatial=kind)).measures[0, 0]
        for picture in ("china", "flower")
        for kind in ("flip", "shift", "rotate")
    ]
    return at_least(
        min(overlaps),
        0.9,
        why="both photographs at the defaults, each must show it; a rotation loses corners and blurs a little",
        quantity="smallest overlap of the histograms",
    )


@finding(
    "The edges stay in place under every color transform, and under no spatial one.",
    source="Sec. 1; measured as the correlation of the steepness of the brightness",
)
def color_keeps_the_edges() -> Evidence:
    colors = [
        run(Params(picture=picture, color=kind, factor=factor)).measures[1, 1]
        for picture in ("china", "flower")
        for kind in ("brightness", "contrast", "saturation", "hue")
        for factor in (0.5, 1.5)
    ]
    spatial = [
        run(Params(picture=picture, spatial=kind)).measures[0, 1]
        for picture in ("china", "flower")
        for kind in ("flip", "shift", "rotate", "crop")
    ]
    return more_than(
        min(colors) - max(spatial),
        0.0,
        0.25,
        why="both photographs at the defaults, factors 0.5 and 1.5; the gap is to be a quarter of the whole scale",
        quantity="smallest correlation under a color transform less the largest under a spatial one",
    )
