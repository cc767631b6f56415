r"""GridMask: delete a grid of squares, so that an object is rarely lost and rarely spared.

Chen, Liu, Zhao, Wang and Jia, "GridMask Data Augmentation", arXiv:2001.04086, Sec. 3; whole-pixel bands and rotation as
in the authors' code, dvlab-research/GridMask.

    M_{ij} = 1 \iff (i - \delta_y) \bmod d < l \;\text{ or }\; (j - \delta_x) \bmod d < l
    \qquad l = r\,d
    \qquad k = 1 - (1 - r)^2

Symbols: $M$ the mask, 1 where the picture is kept; $i$ and $j$ row and column of a pixel, or of its place on the turned
grid; $d$ the unit and $l$ the width of the bands that are kept, both in whole pixels; $r$ the ratio of the two;
$\delta$ the offset, uniform over the unit; $k$ the share kept, on average over all offsets. One single hole of the same
size is the grid whose unit is the whole picture. Nothing here is drawn at random: all offsets are counted.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import Choice, Evidence, Knobs, Range, at_most, equal, finding, law, less_than, style
from demos.kit.data import photograph
from demos.kit.pictures import outline, pictures

TOPIC = "augmentation"
# Row and column of what each photograph shows.
OBJECTS = {"flower": (78, 115), "china": (80, 77)}
LARGEST = 224
UNITS = (4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224)


@dataclass(frozen=True)
class Params(Knobs):
    picture: Annotated[str, Choice("flower", "china", doc="photograph")] = "flower"
    unit: Annotated[int, Range(4, LARGEST, doc="unit d", unit="pixels")] = 56
    ratio: Annotated[float, Range(0.1, 0.9, step=0.05, doc="ratio r of the kept bands to the unit")] = 0.6
    right: Annotated[int, Range(0, LARGEST - 1, doc="offset δx", unit="pixels")] = 186
    down: Annotated[int, Range(0, LARGEST - 1, doc="offset δy", unit="pixels")] = 114
    angle: Annotated[float, Range(0, 90, step=1, doc="rotation of the grid", unit="degrees")] = 0.0
    object_side: Annotated[int, Range(10, 150, doc="side of the object", unit="pixels")] = 90


PRESETS = {
    "ImageNet's scale: a large unit": Params(unit=160),
    "Turned by 30 degrees": Params(unit=48, angle=30.0),
    "A fine grid: every offset alike": Params(unit=16),
    "r = 0.3: half is gone": Params(ratio=0.3),
}

LOOK_FOR = (
    "Whatever the unit and the rotation, the offsets keep 1 − (1 − r)² on average.",
    "One hole of the same size often spares the object and sometimes takes half; the grid takes its share evenly.",
    "The evenness is a matter of scale: a unit as large as the picture is one hole again.",
)


@dataclass(frozen=True)
class Result:
    masked: Tensor  # (2, 3, H, W) in [0, 1]: the picture behind the grid, and with one hole at the same offset
    frame: tuple[int, int, int, int]  # the object: left, top, right, bottom
    band: int  # l, pixels
    share: float  # of the picture, kept
    visible: tuple[float, float]  # share of the object: grid, one hole
    ratios: Tensor  # (R,) r
    kept: Tensor  # (3, R) least, mean and largest share kept over all offsets
    grid_visible: Tensor  # (d * d,) visible share of the object at each offset of the grid
    hole_visible: Tensor  # (H * W,) the same for one hole at each place
    spread: Tensor  # (18,) standard deviation of the visible share over the offsets, by unit
    hole_spread: float  # the same for one hole


Pair = tuple[int, int]  # down, across


def places(size: Pair, angle: float) -> tuple[Tensor, Tensor]:
    """Row and column, (H, W) each, of every pixel on a grid turned about the picture's middle, in whole pixels."""
    (height, width), turn = size, math.radians(angle)
    rows = torch.arange(height)[:, None] - (height - 1) / 2
    columns = torch.arange(width)[None] - (width - 1) / 2
    down = math.cos(turn) * rows - math.sin(turn) * columns + (height - 1) / 2
    across = math.sin(turn) * rows + math.cos(turn) * columns + (width - 1) / 2
    return down.round().long(), across.round().long()


def band(unit: int, ratio: float) -> int:
    """Width l of the kept bands in whole pixels: neither none nor the whole unit."""
    return min(max(int(unit * ratio + 0.5), 1), unit - 1)


def grid_mask(rows: Tensor, columns: Tensor, unit: Pair, kept: Pair, offset: Pair) -> Tensor:
    """True (...) for pixels that lie in a kept band, of their rows and columns on the grid (...) (Sec. 3.1)."""
    down, across = ((at - by) % d < width for at, by, d, width in zip((rows, columns), offset, unit, kept, strict=True))
    return down | across


def kept_by_offset(rows: Tensor, columns: Tensor, unit: Pair, kept: Pair) -> Tensor:
    """Share of the given pixels that is kept at each offset, (d, d), float64.

    Pixels are counted by their place in the unit; at each offset a window of the hole's size, which wraps around the
    unit, is summed over those counts.
    """
    counts = torch.bincount((rows % unit[0] * unit[1] + columns % unit[1]).flatten(), minlength=unit[0] * unit[1])
    deleted = counts.reshape(unit).double()
    for axis in (0, 1):
        deleted = _window(deleted.movedim(axis, 0), kept[axis]).movedim(0, axis)
    return 1 - deleted / rows.numel()


def _window(counts: Tensor, start: int) -> Tensor:
    """Sums over axis 0 of entries `start` to the last, counted from each entry, around the end (same shape)."""
    total = torch.cat([torch.zeros_like(counts[:1]), torch.cat([counts, counts]).cumsum(0)])
    return total[len(counts) : 2 * len(counts)] - total[start : start + len(counts)]


def run(p: Params) -> Result:
    image = photograph(p.picture)
    size = height, width = int(image.shape[-2]), int(image.shape[-1])
    rows, columns = places(size, p.angle)
    unit, kept = (p.unit, p.unit), (band(p.unit, p.ratio),) * 2
    hole = band(height, p.ratio), band(width, p.ratio)
    grid = grid_mask(rows, columns, unit, kept, (p.down, p.right))
    straight = places(size, 0.0)
    masks = torch.stack([grid, grid_mask(*straight, size, hole, (p.down, p.right))])
    left, top, right, bottom = frame = _object(p, size)
    of_object, hole_of_object = (
        (down[top:bottom, left:right], across[top:bottom, left:right]) for down, across in ((rows, columns), straight)
    )
    hole_visible = kept_by_offset(*hole_of_object, size, hole).flatten()
    ratios = torch.linspace(0.1, 0.9, 17, dtype=torch.float64)
    shares = [kept_by_offset(rows, columns, unit, (band(p.unit, r),) * 2) for r in ratios.tolist()]
    return Result(
        masked=torch.where(masks[:, None], image, image.mean((-2, -1), keepdim=True)),
        frame=frame,
        band=kept[0],
        share=float(grid.double().mean()),
        visible=tuple(masks[:, top:bottom, left:right].double().mean((-2, -1)).tolist()),
        ratios=ratios,
        kept=torch.stack([torch.stack([share.min(), share.mean(), share.max()]) for share in shares], -1),
        grid_visible=kept_by_offset(*of_object, unit, kept).flatten(),
        hole_visible=hole_visible,
        spread=torch.stack(
            [kept_by_offset(*of_object, (d, d), (band(d, p.ratio),) * 2).std(correction=0) for d in UNITS]
        ),
        hole_spread=float(hole_visible.std(correction=0)),
    )


def _object(p: Params, size: Pair) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the object's square, moved as far as it must to lie in the picture."""
    top, left = (
        min(max(at - p.object_side // 2, 0), pixels - p.object_side)
        for at, pixels in zip(OBJECTS[p.picture], size, strict=True)
    )
    return left, top, left + p.object_side, top + p.object_side


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "Kept of the picture": r.share,
        "Mean over offsets, 1 − (1 − l/d)²": 1 - (1 - r.band / p.unit) ** 2,
        "Visible of the object, grid": r.visible[0],
        "Visible of the object, one hole": r.visible[1],
        "Its spread over offsets, grid": float(r.grid_visible.std(correction=0)),
        "Its spread over places, one hole": r.hole_spread,
        "Bands l, pixels": r.band,
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "The grid and one hole of the same size, at the same offset; the frame stands for the object.": _picture(r),
        "How much of the object is visible over all offsets: one hole often takes nothing, sometimes much.": _visible(
            r
        ),
        "A finer unit is steadier; without rotation the curve dips where the object holds whole units.": _spread(p, r),
        "The kept share: its mean follows 1 − (1 − r)²; the band is its range over all offsets.": _kept(p, r),
    }


def _picture(r: Result) -> go.Figure:
    names = [f"grid, {r.visible[0]:.0%} visible", f"one hole, {r.visible[1]:.0%} visible"]
    fig = pictures(list(r.masked), names=names, height=300)
    left, top, right, bottom = r.frame
    outline(fig, left, top, right, bottom, name="object", color=style.RED)
    beside = fig.data[1].x0
    return outline(fig, left + beside, top, right + beside, bottom, color=style.RED)


def _visible(r: Result) -> go.Figure:
    fig = style.figure(x="visible share of the object", y="share of all offsets")
    rows = (("grid", r.grid_visible, style.BLUE, ""), ("one hole", r.hole_visible, style.GRAY, "/"))
    for name, shares, color, pattern in rows:
        counts, edges = torch.histogram(shares, 20, range=(0, 1 + 1e-9))
        fig.add_bar(
            x=((edges[1:] + edges[:-1]) / 2).numpy(),
            y=(counts / counts.sum()).numpy(),
            name=f"{name}: {shares.mean():.2f} ± {shares.std(correction=0):.2f}",
            marker={"color": color, "pattern": {"shape": pattern}},
        )
    fig.update_layout(bargap=0.1)
    fig.update_xaxes(range=[-0.01, 1.01])
    return fig


def _spread(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="unit d, pixels", y="standard deviation of the visible share")
    fig.add_scatter(x=UNITS, y=r.spread.numpy(), mode="lines+markers", name="grid", line={"color": style.BLUE})
    fig.add_scatter(
        x=[UNITS[0], UNITS[-1]],
        y=[r.hole_spread] * 2,
        mode="lines",
        name="one hole",
        line={"color": style.GRAY, "dash": "dash"},
    )
    fig.update_yaxes(rangemode="tozero")
    return style.here(fig, p.unit, "d")


def _kept(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="ratio r", y="share kept")
    least, mean, largest = r.kept
    ratios = r.ratios.numpy()
    style.band(fig, r.ratios, least, largest, color=style.BLUE, name="range over offsets")
    fig.add_scatter(
        x=ratios, y=1 - (1 - ratios) ** 2, mode="lines", name="1 − (1 − r)²", line={"color": style.GRAY, "dash": "dash"}
    )
    fig.add_scatter(
        x=ratios, y=mean.numpy(), mode="markers", name="mean over offsets", marker={"color": style.BLUE, "size": 7}
    )
    fig.add_scatter(
        x=[p.ratio],
        y=[r.share],
        mode="markers",
        name="the grid above",
        marker={"color": style.RED, "symbol": "x", "size": 11},
    )
    fig.update_yaxes(range=[0, 1.03])
    return fig


@law(
    "Over all offsets the share kept averages 1 − (1 − l/d)², at any unit, ratio and rotation.",
    source="Sec. 3.1: k = 1 − (1 − r)²",
)
def mean_kept_share(p: Params) -> Evidence:
    height, width = photograph(p.picture).shape[-2:]
    kept = band(p.unit, p.ratio)
    shares = kept_by_offset(*places((height, width), p.angle), (p.unit, p.unit), (kept, kept))
    return equal(
        shares.mean(),
        1 - (1 - kept / p.unit) ** 2,
        1e-12,
        why="every pixel falls into each place of the unit at just one offset; float64 rounding",
        quantity=f"mean share kept over {p.unit**2:,} offsets",
    )


@law("Of every unit d × d a square of d − l is deleted, and the rest is kept.", source="Sec. 3.1, Fig. 3")
def a_square_of_each_unit_is_deleted(p: Params) -> Evidence:
    kept, d = band(p.unit, p.ratio), p.unit
    rows, columns = places((2 * d, 2 * d), 0.0)
    deleted = ~grid_mask(rows, columns, (d, d), (kept, kept), (p.down, p.right))
    # Rolled so that the hole, which the offset may have cut in two, lies whole in each unit's lower right.
    units = deleted.roll((-p.down, -p.right), (0, 1)).reshape(2, d, 2, d).transpose(1, 2)
    square = torch.zeros(d, d, dtype=torch.bool)
    square[kept:, kept:] = True
    return at_most(
        (units != square).double().mean(),
        0.0,
        why="exact: a comparison of masks",
        quantity="share of the pixels of four units that differ from a square of d − l",
    )


@law("The share counted for an offset is that of the mask made with it.", source="definition")
def the_count_is_of_the_mask(p: Params) -> Evidence:
    height, width = photograph(p.picture).shape[-2:]
    rows, columns = places((height, width), p.angle)
    unit, kept = (p.unit,) * 2, (band(p.unit, p.ratio),) * 2
    counted = kept_by_offset(rows, columns, unit, kept)[p.down % p.unit, p.right % p.unit]
    mask = grid_mask(rows, columns, unit, kept, (p.down, p.right))
    return equal(
        counted, mask.double().mean(), 1e-12, why="counts over counts; float64 rounding", quantity="share kept"
    )


@law("The ratio sets the share kept: 1 − (1 − r)², but for whole pixels.", source="Sec. 3.1")
def share_of_the_ratio(p: Params) -> Evidence:
    return equal(
        1 - (1 - band(p.unit, p.ratio) / p.unit) ** 2,
        1 - (1 - p.ratio) ** 2,
        2 / p.unit,
        why="l is r·d in whole pixels, off by at most one; the share changes at most twice as fast as l/d",
        quantity="share kept with bands of whole pixels",
    )


@finding(
    "With a unit of at most two thirds of the object's side, its visible share varies less than half as much with the "
    "grid as with one hole, for objects of up to half the picture's width.",
    source="Sec. 1, the argument against deleting one region",
)
def steadier_than_one_hole() -> Evidence:
    ratios = []
    for side in (30, 60, 90, 120):
        result = run(Params(object_side=side))
        fine = 3 * torch.tensor(UNITS) <= 2 * side
        ratios.append(float(result.spread[fine].max()) / result.hole_spread)
    return less_than(
        max(ratios),
        0.5,
        why="r = 0.6, objects of 30 to 120 pixels and 18 units; all offsets are counted, nothing is left to chance",
        quantity="largest ratio of the standard deviations, grid to one hole",
    )


@finding(
    "At the ImageNet settings, r = 0.6 and d from 96 to 223 on 224 pixels, 84 % is kept, give or take 4 % from mask to "
    "mask.",
    source="authors' code, imagenet_grid: d1 = 96, d2 = 224, ratio 0.6; counted here without rotation",
)
def kept_at_imagenet_settings() -> Evidence:
    mean, spread = _imagenet_spread(224)
    off = max(abs(mean - 0.84), abs(spread - 0.04))
    return at_most(
        off,
        0.0,
        0.005,
        why="both figures are given in whole percents; all units and offsets are counted",
        quantity="larger difference of mean and standard deviation from 0.84 and 0.04",
    )


@finding(
    "At those settings too the grid is steadier than one hole of the same size, but by less: its units are large.",
    source="Sec. 1, at the settings of the authors' code",
)
def steadier_at_imagenet_settings() -> Evidence:
    ratios = []
    for side in (56, 112):
        at = torch.arange((224 - side) // 2, (224 + side) // 2)
        rows, columns = torch.meshgrid(at, at, indexing="ij")
        hole = kept_by_offset(rows, columns, (224, 224), (band(224, 0.6),) * 2)
        ratios.append(_imagenet_spread(side)[1] / float(hole.std(correction=0)))
    return less_than(
        max(ratios),
        1.0,
        why="objects of a quarter and of half of the picture's side, in its middle; all units and offsets are counted",
        quantity="larger ratio of the standard deviations, grid to one hole",
    )


def _imagenet_spread(side: int) -> tuple[float, float]:
    """Mean and standard deviation of the share kept of the middle of 224 pixels, over d from 96 to 223 and offsets."""
    at = torch.arange((224 - side) // 2, (224 + side) // 2)
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    shares = [kept_by_offset(rows, columns, (d, d), (band(d, 0.6),) * 2) for d in range(96, 224)]
    mean = torch.stack([share.mean() for share in shares]).mean()
    square = torch.stack([share.square().mean() for share in shares]).mean()
    return float(mean), float((square - mean**2).sqrt())
