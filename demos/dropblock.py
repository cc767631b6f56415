r"""DropBlock: drop whole squares of a feature map, so that no neighbor can fill the hole.

Ghiasi, Lin and Le, "DropBlock: A regularization method for convolutional networks", NeurIPS 2018, arXiv:1810.12890,
Sec. 3 (Algorithm 1, Eq. (1)).

    \gamma = \frac{1-\kappa}{b^2}\,\frac{F^2}{(F-b+1)^2}
    \qquad \tilde A = A \odot M \cdot \frac{|M|}{\sum M}
    \qquad P(M_{ij} = 1) = (1-\gamma)^{m_{ij}}

Symbols: $A$ a feature map of $F \times F$ units, one mask $M$ for each channel; $b$ the side of a block, $\kappa$ the
share of units to keep; $\gamma$ the probability of a seed at each place where a block fits, which zeroes the block;
$m_{ij}$ the number of such blocks that cover a unit. Eq. (1) counts overlaps twice; the last formula is exact. Here $A$
are four edge maps of a photograph.
"""

from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional

from demos.kit import Choice, Evidence, Knobs, Range, Seed, Toggle, at_least, at_most, equal, finding, law, style
from demos.kit.data import edge_maps
from demos.kit.pictures import mosaic, pictures

TOPIC = "training"
MAPS = 50  # drawn at each block size for the measured share


@dataclass(frozen=True)
class Params(Knobs):
    keep: Annotated[float, Range(0.05, 1, step=0.05, doc="share to keep κ")] = 0.75
    block: Annotated[
        int, Range(1, 56, shown=(1, 28), doc="side of a block b; at most that of the map", unit="units")
    ] = 7
    size: Annotated[int, Range(7, 56, doc="side of the feature map F", unit="units")] = 28
    training: Annotated[bool, Toggle(doc="training; off at test time")] = True
    photograph: Annotated[str, Choice("flower", "china", doc="photograph")] = "flower"
    seed: Seed = 0


PRESETS = {
    "The paper's: κ = 0.9, b = 7": Params(keep=0.9),
    "b = 1 is dropout": Params(block=1),
    "b = F is SpatialDropout": Params(block=28),
    "A 14 × 14 map: the middle suffers": Params(keep=0.9, size=14),
}

LOOK_FOR = (
    "One rule, three patterns: only the side of the block goes from dropout over DropBlock to SpatialDropout.",
    "Blocks must fit inside the map: the middle is covered by many, a corner by one, and so survives.",
    "Blocks overlap, so that a little more is kept than asked; the border effect is far larger.",
)


@dataclass(frozen=True)
class Result:
    features: Tensor  # (4, F, F) what goes in
    kept: Tensor  # (3, 4, F, F) masks with blocks of side 1, b and F
    dropped: Tensor  # (3, 4, F, F) what comes out
    lonely: Tensor  # (3,) share of the dropped units without a kept neighbor
    gamma: float  # probability of a seed
    survival: Tensor  # (F, F) exact probability of each unit to be kept
    blocks: Tensor  # (F,) block sides 1 to F
    expected: Tensor  # (3, F) exact share kept with each: mean of the map, middle, corner
    measured_at: Tensor  # (B,) some block sides
    measured: Tensor  # (B,) share kept, mean of MAPS maps
    error: Tensor  # (B,) its standard error


def seed_probability(size: int, block: int, keep: float) -> float:
    """gamma, Eq. (1): seeds of this probability drop the share 1 - keep of an F x F map, overlaps counted twice."""
    return (1 - keep) / block**2 * size**2 / (size - block + 1) ** 2


def draw_mask(channels: int, size: int, block: int, keep: float, generator: torch.Generator) -> Tensor:
    """Masks (C, F, F), True where kept: a square of `block` units is zeroed at every seed (Algorithm 1)."""
    fits = size - block + 1
    draws = torch.rand(channels, fits, fits, generator=generator)
    return ~spread(draws < seed_probability(size, block, keep), block)


def spread(seeds: Tensor, block: int) -> Tensor:
    """Units (C, F, F) that lie in the block at any of the seeds (C, F - b + 1, F - b + 1), its upper left corner."""
    # The maximum over a square is that over rows of the maxima over columns.
    hit = functional.pad(seeds.float()[None], (block - 1,) * 4)
    hit = functional.max_pool2d(functional.max_pool2d(hit, (block, 1), 1), (1, block), 1)
    return hit[0] > 0


def dropblock(features: Tensor, kept: Tensor, *, training: bool = True) -> Tensor:
    """Features (C, F, F) with those not kept at 0 and the others scaled up; outside training unchanged."""
    if not training:
        return features
    return features * kept * (kept.numel() / kept.sum().clamp(min=1))


def survival(size: int, block: int, keep: float) -> Tensor:
    """Exact probability (F, F), float64, of each unit to be kept: no seed at any place whose block covers it."""
    place = torch.arange(size)
    first, last = (place - block + 1).clamp(min=0), place.clamp(max=size - block)
    along = (last - first + 1).double()
    return (1 - seed_probability(size, block, keep)) ** (along[:, None] * along)


def lonely_share(kept: Tensor) -> Tensor:
    """Share of the dropped units of masks (C, F, F) without a kept one among their eight neighbors; 0 if none is."""
    near = functional.max_pool2d(kept.float()[None], 3, 1, padding=1)[0] > 0
    return (~near).sum() / (~kept).sum().clamp(min=1)


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    features, block = edge_maps(p.photograph, p.size), side(p)
    masks = [draw_mask(4, p.size, b, p.keep, generator) for b in (1, block, p.size)]
    kept = torch.stack(masks) if p.training else torch.ones(3, *features.shape, dtype=torch.bool)
    maps = [survival(p.size, b, p.keep) for b in range(1, p.size + 1)]
    middle = p.size // 2
    some = torch.linspace(1, p.size, 8).round().int().unique_consecutive()
    masks = [draw_mask(MAPS, p.size, b, p.keep, generator) for b in some.tolist()]
    shares = torch.stack([mask.float().mean((1, 2)) for mask in masks])
    return Result(
        features=features,
        kept=kept,
        dropped=torch.stack([dropblock(features, mask, training=p.training) for mask in kept]),
        lonely=torch.stack([lonely_share(mask) for mask in kept]),
        gamma=seed_probability(p.size, block, p.keep),
        survival=maps[block - 1],
        blocks=torch.arange(1, p.size + 1),
        expected=torch.stack([torch.stack([m.mean(), m[middle, middle], m[0, 0]]) for m in maps], -1),
        measured_at=some,
        measured=shares.mean(-1),
        error=shares.std(-1) / MAPS**0.5,
    )


def side(p: Params) -> int:
    """The side of a block that fits into the map."""
    return min(p.block, p.size)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "Seed probability γ": r.gamma,
        "Share to keep": p.keep,
        "Share kept, exact mean": float(r.survival.mean()),
        "Share kept in this draw": float(r.kept[1].float().mean()),
        "Dropped without a kept neighbor": float(r.lonely[1]),
        "The same in dropout": float(r.lonely[0]),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    block = side(p)
    names = ("dropout (b = 1)", f"DropBlock (b = {block})", f"SpatialDropout (b = {p.size})")
    shares = [float(mask.float().mean()) for mask in r.kept]
    tiles = [mosaic(r.features), *(mosaic(maps, mask) for maps, mask in zip(r.dropped, r.kept, strict=True))]
    titles = [f"{name}<br>{share:.0%} kept" for name, share in zip(names, shares, strict=True)]
    shown = pictures(tiles, names=("four edge maps", *titles), columns=2, height=560)
    shown.update_layout(margin={"b": 44})
    middle, corner = float(r.survival[p.size // 2, p.size // 2]), float(r.survival[0, 0])
    return {
        "Four channels and one draw of each kind; dropped units are orange.": shown,
        f"Probability of each unit to be kept: {middle:.0%} in the middle, {corner:.0%} in a corner.": _survival(r),
        "Share kept with each block size: the middle loses most; bars are two standard errors.": _shares(p, r),
    }


def _survival(r: Result) -> go.Figure:
    fig = style.figure(height=320)
    fig.add_heatmap(
        z=r.survival.numpy(),
        colorscale=style.SEQUENTIAL,
        zmin=min(float(r.survival.min()), 0.99),
        zmax=1,
        colorbar={"title": {"text": "kept"}, "thickness": 12, "tickformat": ".0%"},
        hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra></extra>",
    )
    return style.image_panel(fig)


def _shares(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="side of a block b (units)", y="share kept")
    x = r.blocks.numpy()
    line = {"color": style.GRAY, "dash": "dot"}
    fig.add_scatter(x=x[[0, -1]], y=[p.keep] * 2, mode="lines", name="asked κ", line=line)
    looks = (("whole map", style.BLUE, "solid"), ("middle", style.ORANGE, "dash"), ("corner", style.GREEN, "dashdot"))
    for curve, (name, color, dash) in zip(r.expected, looks, strict=True):
        fig.add_scatter(x=x, y=curve.numpy(), mode="lines", name=name, line={"color": color, "dash": dash})
    marker = {"color": style.BLUE, "size": 8}
    fig.add_scatter(
        x=r.measured_at.numpy(),
        y=r.measured.numpy(),
        error_y={"array": (2 * r.error).numpy(), "thickness": 1},
        mode="markers",
        name=f"{MAPS} maps drawn",
        marker=marker,
    )
    style.here(fig, side(p), "b")
    fig.update_yaxes(range=[max(0.0, float(r.expected.min()) - 0.1), 1.03])
    return fig


def _drawn(p: Params, block: int, channels: int) -> tuple[Tensor, Tensor]:
    """Masks (C, F, F) and the uniform numbers (C, F - b + 1, F - b + 1) that they were drawn from."""
    fits = p.size - block + 1
    kept = draw_mask(channels, p.size, block, p.keep, torch.Generator().manual_seed(p.seed))
    return kept, torch.rand(channels, fits, fits, generator=torch.Generator().manual_seed(p.seed))


@law("Blocks of one unit are dropout.", source="Sec. 3")
def block_of_one_is_dropout(p: Params) -> Evidence:
    kept, draws = _drawn(p, 1, 64)
    return equal(
        (kept != (draws >= 1 - p.keep)).sum(),
        0,
        0.0,
        why="exact: dropout by the same draws keeps what is not below 1 − κ",
        quantity="units of 64 maps in which they differ",
    )


@law("Blocks as large as the map are SpatialDropout.", source="Sec. 3")
def block_of_all_is_spatial_dropout(p: Params) -> Evidence:
    kept, draws = _drawn(p, p.size, 64)
    return equal(
        (kept != (draws >= 1 - p.keep).expand_as(kept)).sum(),
        0,
        0.0,
        why="exact: one draw a channel keeps or drops all of it",
        quantity="units of 64 maps in which they differ",
    )


@law("At test time DropBlock is the identity.", source="Algorithm 1")
def identity_at_test_time(p: Params) -> Evidence:
    features, (kept, _) = edge_maps(p.photograph, p.size), _drawn(p, side(p), 4)
    changed = (dropblock(features, kept, training=False) - features).abs().max()
    return equal(changed, 0.0, 0.0, why="exact", quantity="largest change")


@law("The rescaling keeps the mean of the mask at 1, unless everything is dropped.", source="Algorithm 1")
def rescaling_keeps_the_mean(p: Params) -> Evidence:
    kept, _ = _drawn(p, side(p), 4)
    ones = torch.ones(kept.shape, dtype=torch.float64)
    return equal(
        dropblock(ones, kept).mean(),
        1.0 if kept.any() else 0.0,
        1e-6,
        why="the scale is a float32",
        quantity="mean of four channels of ones",
    )


@law("Eq. (1) drops the share 1 − κ where overlaps count twice.", source="Sec. 3, Eq. (1)")
def formula_counts_overlaps_twice(p: Params) -> Evidence:
    block = side(p)
    fits = p.size - block + 1
    cover = functional.conv_transpose2d(
        torch.ones(1, 1, fits, fits, dtype=torch.float64), torch.ones(1, 1, block, block, dtype=torch.float64)
    )
    return equal(
        cover.mean() * seed_probability(p.size, block, p.keep),
        1 - p.keep,
        1e-12,
        why="float64 rounding of sums over up to 3,136 units",
        quantity="mean number of drops of a unit, blocks laid out one by one",
    )


@law("The share kept is the mean of (1 − γ)^m, and the draws agree.", source="independent seeds")
def exact_share_agrees_with_draws(p: Params) -> Evidence:
    keep, block, count = min(p.keep, 0.9), side(p), 400
    shares = draw_mask(count, p.size, block, keep, torch.Generator().manual_seed(p.seed)).double().mean((1, 2))
    return equal(
        shares.mean(),
        survival(p.size, block, keep).mean(),
        6 * float(shares.std()) / count**0.5,
        why="six standard errors of 400 maps, at κ, or 0.9 where κ is more and drops are few: right code fails at "
        "fewer than one seed in 100,000",
        quantity="mean share kept of 400 maps",
    )


@law("On average no less is kept than asked.", source="union bound")
def keeps_no_less_than_asked(p: Params) -> Evidence:
    return at_least(
        survival(p.size, side(p), p.keep).mean(),
        p.keep,
        1e-12,
        why="float64 rounding; overlaps can only spare units",
        quantity="exact mean share kept",
    )


@law("A corner is kept at least as often as any other unit.", source="blocks must fit inside the map")
def corners_are_spared(p: Params) -> Evidence:
    kept = survival(p.size, side(p), p.keep)
    return at_least(kept[0, 0], kept.max(), why="exact: one block covers it", quantity="probability of a corner")


PAPER = ((28, 7), (14, 7), (7, 7))


@finding("At the paper's settings the share kept is within one point of the share asked.", source="Sec. 3, Eq. (1)")
def approximation_is_close() -> Evidence:
    errors = [abs(float(survival(size, block, 0.9).mean()) - 0.9) for size, block in PAPER]
    return at_most(
        max(errors),
        0.01,
        why="κ = 0.9, b = 7, maps of 28, 14 and 7; exact probabilities, no draws",
        quantity="largest error of the three",
    )


@finding("Most units that DropBlock drops have no kept neighbor; in dropout none is so alone.", source="Sec. 1, Fig. 1")
def dropped_units_are_alone() -> Evidence:
    lonely = {}
    for block in (1, 7):
        masks = [draw_mask(200, 28, block, 0.9, torch.Generator().manual_seed(seed)) for seed in range(3)]
        lonely[block] = float(lonely_share(torch.cat(masks)))
    return at_least(
        lonely[7] - lonely[1],
        0.5,
        why="κ = 0.9, F = 28, 200 maps at each of seeds 0 to 2; b = 7 against b = 1",
        quantity="share of the dropped units without a kept neighbor, less that in dropout",
    )
