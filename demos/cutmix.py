r"""CutMix: paste a box of one picture into another, and mix their labels by the pixels that count.

Yun, Han, Oh, Chun, Choe and Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", ICCV 2019, arXiv:1905.04899, Sec. 3.1; the weight after clipping as in the authors' code,
clovaai/CutMix-PyTorch.

    \tilde x = M \odot x_A + (1 - M) \odot x_B
    \qquad \tilde y = \lambda' y_A + (1 - \lambda')\,y_B
    \qquad \lambda' = 1 - \frac{\text{pixels of the clipped box}}{W H}

Symbols: $x_A$ the picture underneath, $x_B$ the one pasted, $y$ their one-hot labels; $M$ the mask, 0 inside the box
and 1 outside; $W$ and $H$ width and height; $\lambda$, uniform in $[0, 1]$ as throughout the paper ($\alpha = 1$),
sizes the box: its sides are $\sqrt{1-\lambda}$ of the picture's. Its center is uniform over the pixels, so it may hang
over the border; $\lambda'$ is what is left to $x_A$ after clipping.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_least, at_most, equal, finding, law, style
from demos.kit.data import photograph
from demos.kit.pictures import outline, pictures

TOPIC = "augmentation"
NAMES = ("china", "flower")
DRAWS, TILES = 400, 6


@dataclass(frozen=True)
class Params(Knobs):
    under: Annotated[str, Choice(*NAMES, doc="picture underneath; the other is pasted")] = "china"
    box: Annotated[str, Choice("typed", "drawn", doc="the box")] = "typed"
    lam: Annotated[float, Range(0, 1, step=0.01, when=("box", ("typed",)), doc="λ, the share to keep")] = 0.5
    x: Annotated[float, Range(0, 1, step=0.01, when=("box", ("typed",)), doc="center, from left to right")] = 0.8
    y: Annotated[float, Range(0, 1, step=0.01, when=("box", ("typed",)), doc="center, from top to bottom")] = 0.35
    draw: Annotated[int, Range(1, DRAWS, when=("box", ("drawn",)), doc="which draw of λ and center")] = 1
    seed: Seed = 0


PRESETS = {
    "Inside: λ is the label": Params(x=0.5, y=0.5),
    "In a corner: a quarter is left": Params(x=0.0, y=0.0),
    "λ = 0, yet most is kept": Params(lam=0.0, x=0.95, y=0.9),
    "As drawn in training": Params(box="drawn"),
}

LOOK_FOR = (
    "The dashed box is the one drawn; only the solid part fits, and only it may count in the label.",
    "The label's weight is the share of pixels, so a box that hangs over the border gives some back.",
    "No draw falls below the diagonal: the weight λ itself would always favor the pasted picture.",
)


class Box(NamedTuple):
    """Pixels from `left` to just before `right`, and from `top` to just before `bottom`."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Result:
    mixed: Tensor  # (3, H, W) in [0, 1]
    lam: float  # as drawn
    label: Tensor  # (2,) weights of the picture underneath and of the one pasted
    whole: Box  # as drawn, which may hang over the border
    clipped: Box
    draws: Tensor  # (N,) lambda of random boxes
    weights: Tensor  # (N,) lambda' of the same boxes
    tiles: Tensor  # (6, 3, h, w) mixes by the first boxes drawn
    tile_weights: Tensor  # (6,) their lambda'


def half_sides(size: tuple[int, int], lam: Tensor | float) -> tuple[Tensor, Tensor]:
    """Half the height and half the width (...) in whole pixels, rounded down, of a box for lambda (...) (Sec. 3.1)."""
    side = (1 - torch.as_tensor(lam, dtype=torch.float64)).sqrt()
    return tuple((pixels * side).long() // 2 for pixels in size)


def box_around(size: tuple[int, int], lam: float, row: int, column: int) -> Box:
    """The box for lambda around a pixel of a picture of size (H, W), before clipping."""
    tall, wide = (int(half) for half in half_sides(size, lam))
    return Box(column - wide, row - tall, column + wide, row + tall)


def clip(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box that lies in a picture of size (H, W)."""
    height, width = size
    return Box(max(0, box.left), max(0, box.top), min(width, box.right), min(height, box.bottom))


def cutmix(x: Tensor, y: Tensor, partner: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Pictures (N, C, H, W), each with the box of its partner (N,) pasted in, and labels (N, K) mixed by pixels."""
    height, width = x.shape[-2:]
    left, top, right, bottom = clip(box, (height, width))
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = x[partner][..., top:bottom, left:right]
    weight = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, weight * y + (1 - weight) * y[partner]


def overlap(center: Tensor, half: Tensor, pixels: int) -> Tensor:
    """How many of a row of pixels lie in [center - half, center + half), all of one shape or broadcast."""
    return (center + half).clamp(max=pixels) - (center - half).clamp(min=0)


def label_weight(size: tuple[int, int], lam: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """lambda' (...) of the boxes for lambda (...) around pixels (...) of a picture of size (H, W)."""
    height, width = size
    tall, wide = half_sides(size, lam)
    return 1 - (overlap(row, tall, height) * overlap(column, wide, width)).double() / (height * width)


def mean_label_weight(size: tuple[int, int], lam: Tensor | float) -> Tensor:
    """Mean of lambda' (...) over all centers: 1 - (r - r^2 / 4)^2 for sides of r, but for whole pixels."""
    tall, wide = (2 * half.double() / pixels for half, pixels in zip(half_sides(size, lam), size, strict=True))
    return 1 - (tall - tall**2 / 4) * (wide - wide**2 / 4)


def draw_boxes(size: tuple[int, int], count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draws of lambda, of the center's row and of its column, (count,) each: all uniform."""
    lam = torch.rand(count, dtype=torch.float64, generator=generator)
    row, column = (torch.randint(pixels, (count,), generator=generator) for pixels in size)
    return lam, row, column


def run(p: Params) -> Result:
    names = NAMES if p.under == NAMES[0] else NAMES[::-1]
    x, y, partner = torch.stack([photograph(name) for name in names]), torch.eye(2).double(), torch.tensor([1, 0])
    size = tuple(x.shape[-2:])
    lam, row, column = draw_boxes(size, DRAWS, torch.Generator().manual_seed(p.seed))
    if p.box == "typed":
        chosen = p.lam, round(p.y * (size[0] - 1)), round(p.x * (size[1] - 1))
    else:
        chosen = float(lam[p.draw - 1]), int(row[p.draw - 1]), int(column[p.draw - 1])
    whole = box_around(size, *chosen)
    mixed, label = cutmix(x, y, partner, whole)
    drawn = [box_around(size, *box) for box in zip(lam.tolist(), row.tolist(), column.tolist(), strict=True)]
    weights = label_weight(size, lam, row, column)
    return Result(
        mixed=mixed[0],
        lam=chosen[0],
        label=label[0],
        whole=whole,
        clipped=clip(whole, size),
        draws=lam,
        weights=weights,
        tiles=torch.stack([cutmix(x, y, partner, box)[0][0] for box in drawn[:TILES]])[..., ::2, ::2],
        tile_weights=weights[:TILES],
    )


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "λ, as drawn": r.lam,
        "λ′, by pixels": float(r.label[0]),
        "Wrongly credited by λ": float(r.label[0]) - r.lam,
        "Mean λ′ over all centers": float(mean_label_weight(r.mixed.shape[-2:], r.lam)),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "The box as drawn, dashed, and the part of it that fits, solid.": _picture(p, r),
        "The label by pixels against the label by λ; they agree where nothing is clipped.": _label(p, r),
        f"The first {TILES} of the random boxes, each with λ′, the label's weight of {p.under}.": _tiles(r),
        f"{DRAWS} random boxes: what is clipped lifts the weight above λ, the diagonal.": _clipped(r),
    }


def _picture(p: Params, r: Result) -> go.Figure:
    height, width = r.mixed.shape[-2:]
    fig = pictures([r.mixed], height=360)
    outline(fig, *r.whole, name="box as drawn", color=style.ORANGE, dash="dash")
    outline(fig, *r.clipped, name="pasted", color=style.RED)
    # A margin that does not follow the box: the picture stays in place as the box moves.
    fig.update_xaxes(range=[-0.2 * width, 1.2 * width])
    fig.update_yaxes(range=[1.2 * height, -0.2 * height], autorange=False)
    return fig


def _label(p: Params, r: Result) -> go.Figure:
    fig = style.figure(y="weight in the label")
    pasted = NAMES[1 - NAMES.index(p.under)]
    rows = (
        ("by λ", [r.lam, 1 - r.lam], style.GRAY, "/"),
        ("by pixels, λ′", r.label.tolist(), style.BLUE, ""),
    )
    for name, weights, color, pattern in rows:
        fig.add_bar(
            x=[f"{p.under},<br>underneath", f"{pasted},<br>pasted"],
            y=weights,
            name=name,
            text=[f"{weight:.2f}" for weight in weights],
            textposition="outside",
            marker={"color": color, "pattern": {"shape": pattern}},
        )
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[0, 1.12], tickvals=[0, 0.25, 0.5, 0.75, 1])
    return fig


def _tiles(r: Result) -> go.Figure:
    names = [f"λ′ = {weight:.2f}" for weight in r.tile_weights.tolist()]
    return pictures(list(r.tiles), names=names, columns=3, height=320)


def _clipped(r: Result) -> go.Figure:
    fig = style.figure(x="λ, as drawn", y="λ′, by pixels")
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="λ itself", line={"color": style.RED, "dash": "dot"})
    fig.add_scatter(
        x=r.draws.numpy(),
        y=r.weights.numpy(),
        mode="markers",
        name="random boxes",
        marker={"color": style.BLUE, "size": 5, "opacity": 0.6},
    )
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    fig.add_scatter(
        x=grid.numpy(),
        y=mean_label_weight(r.mixed.shape[-2:], grid).numpy(),
        mode="lines",
        name="mean over centers",
        line={"color": style.GREEN, "width": 3},
    )
    fig.add_scatter(
        x=[r.lam],
        y=[float(r.label[0])],
        mode="markers",
        name="the box above",
        marker={"color": style.RED, "symbol": "x", "size": 12},
    )
    fig.update_xaxes(range=[-0.02, 1.02])
    fig.update_yaxes(range=[-0.02, 1.04])
    return fig


def _probes(p: Params) -> list[tuple[float, int, int]]:
    """Boxes to try a law at, as lambda, row and column: the typed one, corners, the middle, and random ones."""
    size = height, width = photograph(p.under).shape[-2:]
    lam, row, column = draw_boxes(size, 16, torch.Generator().manual_seed(p.seed))
    places = [(0, 0), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 2)]
    places.append((round(p.y * (height - 1)), round(p.x * (width - 1))))
    drawn = zip(lam.tolist(), row.tolist(), column.tolist(), strict=True)
    return [(0.5, 0, 0), *((p.lam, *place) for place in places), *drawn]


def _size(p: Params) -> tuple[int, int]:
    height, width = photograph(p.under).shape[-2:]
    return height, width


@law("The label gives each picture the share of the pixels that it has in the mix.", source="Sec. 3.1, eq. (1)")
def label_is_the_pixel_share(p: Params) -> Evidence:
    # The one underneath is 0 everywhere and the one pasted is 1, so that the mean counts the pasted pixels.
    x = torch.stack([torch.zeros(1, *_size(p)), torch.ones(1, *_size(p))]).double()
    worst = 0.0
    for probe in _probes(p):
        mixed, label = cutmix(x, torch.eye(2).double(), torch.tensor([1, 0]), box_around(_size(p), *probe))
        worst = max(worst, abs(float(label[0, 1] - mixed[0].mean())), abs(float(label[0].sum()) - 1))
    return at_most(
        worst,
        0.0,
        1e-12,
        why="float64 rounding of a count over a count",
        quantity="largest difference of the pasted picture's label and its share of pixels, over 22 boxes",
    )


@law("Clipping only gives back: the weight λ′ of the picture underneath is never below λ.", source="Sec. 3.1")
def weight_is_never_below_lambda(p: Params) -> Evidence:
    size = _size(p)
    gains = []
    for probe in _probes(p):
        gains.append(float(_mixed_label(size, box_around(size, *probe))[0]) - probe[0])
    return at_least(
        min(gains),
        0.0,
        1e-12,
        why="float64 rounding; whole pixels round the box down, so that they too only give back",
        quantity="smallest λ′ − λ over 22 boxes",
    )


def _mixed_label(size: tuple[int, int], box: Box) -> Tensor:
    x = torch.zeros(2, 1, *size)
    return cutmix(x, torch.eye(2).double(), torch.tensor([1, 0]), box)[1][0]


@law("A box that does not reach the border leaves the weight at λ, but for whole pixels.", source="Sec. 3.1")
def inside_the_weight_is_lambda(p: Params) -> Evidence:
    size = height, width = _size(p)
    worst = 0.0
    for lam, _, _ in _probes(p):
        box = box_around(size, lam, height // 2, width // 2)
        worst = max(worst, abs(float(_mixed_label(size, box)[0]) - lam))
    return at_most(
        worst,
        0.0,
        2 / height + 2 / width,
        why="each side is rounded down to an even number of pixels: less than 2 of them are lost",
        quantity="largest |λ′ − λ| over 22 boxes in the middle of the picture",
    )


@law("At least a quarter of the box as drawn is pasted, and in a corner just a quarter.", source="definition")
def a_quarter_always_fits(p: Params) -> Evidence:
    size = height, width = _size(p)
    shares = []
    for probe in _probes(p):
        box = box_around(size, *probe)
        area = (box.right - box.left) * (box.bottom - box.top)
        if area:
            shares.append(float(_mixed_label(size, box)[1]) * height * width / area)
    return equal(
        min(shares),
        0.25,
        1e-9,
        why="float64 rounding; the corner at the top left, where exactly half of each side fits, is among the boxes",
        quantity="smallest share of its box that is pasted, over 22 boxes",
    )


@law(
    "Over all centers the pasted share averages (r − r²/4)² for a box with sides of r.",
    source="definition, summed over the pixels",
)
def mean_over_all_centers(p: Params) -> Evidence:
    size = height, width = _size(p)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    worst = 0.0
    for lam, _, _ in _probes(p):
        everywhere = label_weight(size, torch.tensor(lam), rows, columns).mean()
        worst = max(worst, abs(float(everywhere - mean_label_weight(size, lam))))
    return at_most(
        worst,
        0.0,
        1e-12,
        why="the sum over whole pixels is exact, the rest is float64 rounding",
        quantity="largest difference of the mean λ′ over 38,400 centers from 1 − (r − r²/4)²",
    )


@finding(
    "With λ uniform the box should take half of the picture and takes 77/240 ≈ 0.32: λ itself as the label credits the "
    "pasted picture with 0.18 too much.",
    source="definition: the integral of (r − r²/4)² over λ = 1 − r²",
)
def half_is_a_third() -> Evidence:
    size = (1600, 2400)  # so fine that whole pixels do not matter
    count = 200_000
    draws = [draw_boxes(size, count, torch.Generator().manual_seed(seed)) for seed in range(5)]
    pasted = torch.stack([1 - label_weight(size, *boxes).mean() for boxes in draws])
    farthest = pasted[(pasted - 77 / 240).abs().argmax()]
    return equal(
        farthest,
        77 / 240,
        0.0025,
        why="seeds 0 to 4, each must agree; five standard errors of a mean over 200,000 boxes are 5 · 0.19 / √200,000 "
        "≈ 0.0021, whole pixels take 0.0003: right code fails at one seed in a million",
        quantity="mean pasted share of 200,000 random boxes, the farthest of 5 seeds",
    )
