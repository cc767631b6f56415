r"""Normalization axes: batch, layer, instance and group norm are one formula over four choices of axes.

Ioffe and Szegedy, "Batch Normalization", ICML 2015, arXiv:1502.03167; Ba, Kiros and Hinton, "Layer Normalization",
2016, arXiv:1607.06450; Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016, arXiv:1607.08022; Wu and He,
"Group Normalization", ECCV 2018, arXiv:1803.08494, Sec. 3.1, which puts the four side by side.

    \hat x_i = \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}}
    \qquad \mu_i = \frac{1}{m}\sum_{k \in S_i} x_k
    \qquad \sigma_i^2 = \frac{1}{m}\sum_{k \in S_i} (x_k - \mu_i)^2

Symbols: $x$ a block of $N$ samples, $C$ channels and $H \times W$ positions; $S_i$ the set of $m$ values that share a
mean with $x_i$, the only thing in which the four differ; $\epsilon = 10^{-5}$. The learned scale and shift of each
channel, which follow in a network, are left out. The block here: handwritten digits under uneven light, seen
through six fixed filters of 3 × 3 pixels.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_most, equal, law, more_than, style
from demos.kit.data import digits

TOPIC = "normalization"
METHODS = ("batch", "layer", "instance", "group")
EPS = 1e-5
BATCHES = (2, 4, 8, 16, 32, 64)
REDRAWS = 40
GAP = 3  # pixels between tiles that do not share a mean
FILTERS = {
    "raw": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "blur": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
    "left": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "top": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    "rise": [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]],
    "spot": [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
}
CHANNELS = len(FILTERS)


@dataclass(frozen=True)
class Params(Knobs):
    method: Annotated[str, Choice(*METHODS, doc="which values share a mean")] = "batch"
    groups: Annotated[str, Choice("1", "2", "3", "6", when=("method", ("group",)), doc="number of groups G")] = "3"
    samples: Annotated[int, Range(1, 16, doc="samples N in the batch")] = 6
    light: Annotated[float, Range(0, 0.9, step=0.05, doc="how uneven the light on the samples is")] = 0.7
    seed: Seed = 0


PRESETS = {
    "Batch: a mean per channel": Params(method="batch"),
    "Layer: a mean per sample": Params(method="layer"),
    "Instance: a mean per tile": Params(method="instance"),
    "Group: a few channels together": Params(method="group"),
}

LOOK_FOR = (
    "Tiles that touch share one mean: rows for batch norm, columns for layer norm, single tiles for instance norm.",
    "What differs between sets is erased, what differs inside a set stays: batch norm keeps dark samples dark.",
    "Only batch norm lets the other samples speak: its answer for one sample wavers in small batches.",
)


@dataclass(frozen=True)
class Result:
    block: Tensor  # (N, C, H, W)
    sets: Tensor  # (N, C) number of the set that each tile belongs to, int64
    normalized: Tensor  # (N, C, H, W)
    wavering: Tensor  # (M, B) std. dev. of sample 1's output over redrawn companions, by METHODS and BATCHES


def statistics(x: Tensor, groups: int, *, across_batch: bool) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of a block (N, C, H, W), one for each set, eq. (1) to (3).

    Both are (N, G, 1, 1, 1): one for each sample and group of C / G neighboring channels; or (1, G, 1, 1, 1) where
    sets run across the batch.
    """
    n, c, h, w = x.shape
    grouped = x.reshape(n, groups, c // groups, h, w)
    axes = (0, 2, 3, 4) if across_batch else (2, 3, 4)
    mean = grouped.mean(axes, keepdim=True)
    return mean, (grouped - mean).square().mean(axes, keepdim=True)


def normalize(x: Tensor, method: str, groups: int = 1) -> Tensor:
    """The block (N, C, H, W) with mean 0 and variance near 1 in every set; `groups` is for group norm alone."""
    count, across_batch = layout(method, x.shape[1], groups)
    mean, variance = statistics(x, count, across_batch=across_batch)
    grouped = x.unflatten(1, (count, -1))
    return ((grouped - mean) / (variance + EPS).sqrt()).reshape(x.shape)


def layout(method: str, channels: int, groups: int = 1) -> tuple[int, bool]:
    """Number of groups of channels, and whether sets run across the batch: all that tells the four methods apart."""
    return {"batch": (channels, True), "layer": (1, False), "instance": (channels, False), "group": (groups, False)}[
        method
    ]


def set_numbers(x: Tensor, method: str, groups: int = 1) -> Tensor:
    """The number (N, C), int64, of the set whose mean each tile of a block (N, C, H, W) takes."""
    count, across_batch = layout(method, x.shape[1], groups)
    mean, _ = statistics(x, count, across_batch=across_batch)
    numbers = torch.arange(mean.numel()).reshape(mean.shape[:3])
    return numbers.expand(len(x), count, x.shape[1] // count).flatten(1)


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    block = draw_block(p.samples, p.light, generator)
    groups = int(p.groups)
    # One sample in front of many companions: smaller batches are the first few of them.
    companions = draw_block(REDRAWS * (BATCHES[-1] - 1), p.light, generator).unflatten(0, (REDRAWS, -1))
    wavering = [
        [
            torch.stack([normalize(torch.cat([block[:1], others[: n - 1]]), m, groups)[0] for others in companions])
            .var(0)
            .mean()
            .sqrt()
            for n in BATCHES
        ]
        for m in METHODS
    ]
    return Result(
        block=block,
        sets=set_numbers(block, p.method, groups),
        normalized=normalize(block, p.method, groups),
        wavering=torch.tensor(wavering, dtype=torch.float64),
    )


def draw_block(count: int, light: float, generator: torch.Generator) -> Tensor:
    """Filtered digits (N, C, 8, 8), float64, each under a light drawn between 1 - `light` and 1."""
    maps = filtered_digits()
    chosen = torch.randint(len(maps), (count,), generator=generator)
    lights = 1 - light * torch.rand(count, dtype=torch.float64, generator=generator)
    return lights[:, None, None, None] * maps[chosen]


@cache
def filtered_digits() -> Tensor:
    """Every digit through every filter: (1797, C, 8, 8), float64."""
    kernels = torch.tensor(list(FILTERS.values()), dtype=torch.float64)
    return nn.functional.conv2d(digits()[0].double(), kernels[:, None], padding=1)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    sets, means = int(r.sets.max()) + 1, r.normalized.mean((2, 3))
    return {
        "Sets, each with its mean and variance": sets,
        "Values in a set": r.block.numel() // sets,
        "Std. dev. of the samples' means, after": round(float(means.mean(1).std(unbiased=False)), 6),
        "Std. dev. of the channels' means, after": round(float(means.mean(0).std(unbiased=False)), 6),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "The block. Tiles that touch share one mean and variance; the six colors repeat.": _sets(r),
        "Before: light and filter make tiles weak or strong.": _values(r, r.block),
        "After: differences between sets are gone, those inside a set are left.": _values(r, r.normalized),
        "How the output of sample 1 wavers as its companions are redrawn.": _wavering(p, r),
    }


def _tiled(r: Result, tiles: Tensor) -> tuple[np.ndarray, list[float], list[float]]:
    """One picture of tiles (N, C, H, W, ...), samples across and channels down, and the middles of its tiles.

    Tiles of one set touch; elsewhere there is a gap, of NaN.
    """
    _, _, height, width = tiles.shape[:4]
    left = [n * width + GAP * int((r.sets[1 : n + 1, 0] != r.sets[:n, 0]).sum()) for n in range(len(tiles))]
    top = [c * height + GAP * int((r.sets[0, 1 : c + 1] != r.sets[0, :c]).sum()) for c in range(CHANNELS)]
    canvas = np.full((top[-1] + height, left[-1] + width, *tiles.shape[4:]), np.nan)
    for n, x in enumerate(left):
        for c, y in enumerate(top):
            canvas[y : y + height, x : x + width] = tiles[n, c].numpy()
    return canvas, [x + (width - 1) / 2 for x in left], [y + (height - 1) / 2 for y in top]


def _panel(r: Result, columns: list[float], rows: list[float]) -> go.Figure:
    fig = style.figure(x="sample", height=360)
    every = 1 if len(columns) <= 8 else 3
    fig.update_xaxes(
        tickvals=columns[::every], ticktext=list(range(1, len(columns) + 1))[::every], showgrid=False, ticks=""
    )
    fig.update_xaxes(constrain="domain", side="bottom")
    fig.update_yaxes(tickvals=rows, ticktext=list(FILTERS), showgrid=False, autorange="reversed", constrain="domain")
    fig.update_yaxes(scaleanchor="x")
    fig.update_layout(margin={"l": 48, "r": 8, "t": 8, "b": 48})
    return fig


def _sets(r: Result) -> go.Figure:
    low, high = r.block.amin((2, 3), keepdim=True), r.block.amax((2, 3), keepdim=True)
    ink = (0.25 + 0.75 * (r.block - low) / (high - low))[..., None]
    palette = torch.tensor([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in style.SEQUENCE])
    # Shifted by one each time around, so that neighbors differ in both directions.
    color = palette[(r.sets + r.sets // len(palette)) % len(palette)][:, :, None, None, :]
    opaque = torch.full((*r.block.shape, 1), 255.0)
    picture, columns, rows = _tiled(r, torch.cat([255 + ink * (color - 255), opaque], -1))
    fig = _panel(r, columns, rows)
    fig.add_image(z=np.nan_to_num(picture).astype(np.uint8), colormodel="rgba", hoverinfo="skip")
    return fig


def _values(r: Result, block: Tensor) -> go.Figure:
    picture, columns, rows = _tiled(r, block)
    fig = _panel(r, columns, rows)
    far = 3 * float(block.square().mean().sqrt())
    fig.add_heatmap(
        z=picture,
        colorscale=style.DIVERGING,
        zmin=-far,
        zmax=far,
        colorbar={"orientation": "h", "thickness": 10, "len": 0.6, "y": 1.02, "yanchor": "bottom"},
        hovertemplate="%{z:.2f}<extra></extra>",
    )
    fig.update_layout(height=430, margin={"t": 60})
    return fig


def _wavering(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="batch size N (log)", y="std. dev. of the output")
    for name, values, color, dash, symbol in zip(
        METHODS, r.wavering, style.SEQUENCE, style.DASHES, style.SYMBOLS, strict=False
    ):
        fig.add_scatter(
            x=BATCHES,
            y=values.numpy(),
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 3 if name == p.method else 1.5},
            marker={"symbol": symbol, "size": 9 if name == p.method else 6},
        )
    fig.update_xaxes(type="log", tickvals=BATCHES, dtick=None)
    fig.update_yaxes(rangemode="tozero")
    return fig


def _block(p: Params) -> Tensor:
    return draw_block(p.samples, p.light, torch.Generator().manual_seed(p.seed))


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max())


@law("Each of the four equals torch's own module.", source="Wu and He 2018, Sec. 3.1")
def equals_torch(p: Params) -> Evidence:
    x, groups = _block(p), int(p.groups)
    modules = {
        "batch": nn.BatchNorm2d(CHANNELS, EPS, affine=False, dtype=x.dtype),
        "layer": nn.LayerNorm(x.shape[1:], EPS, elementwise_affine=False),
        "instance": nn.InstanceNorm2d(CHANNELS, EPS),
        "group": nn.GroupNorm(groups, CHANNELS, EPS, affine=False),
    }
    return at_most(
        max(_largest(normalize(x, method, groups) - module(x)) for method, module in modules.items()),
        0.0,
        1e-11,
        why="float64 rounding of sums of up to 6,144 values, divided by deviations of 0.1 and more",
        quantity="largest difference to torch over the four",
    )


@law("In every set the output has mean 0 and variance σ² / (σ² + ε).", source="Wu and He 2018, eq. (1)")
def sets_come_out_standardized(p: Params) -> Evidence:
    x, worst = _block(p), 0.0
    for method in METHODS:
        numbers, after = set_numbers(x, method, int(p.groups)), normalize(x, method, int(p.groups))
        for number in numbers.unique():
            before, mine = x[numbers == number], after[numbers == number]
            variance = before.var(unbiased=False)
            worst = max(worst, _largest(mine.mean()), _largest(mine.var(unbiased=False) - variance / (variance + EPS)))
    return at_most(
        worst, 0.0, 1e-11, why="float64 rounding", quantity="largest error of a set's mean or variance, over the four"
    )


@law("Group norm with one group is layer norm over (C, H, W).", source="Wu and He 2018, Sec. 3.1")
def one_group_is_layer_norm(p: Params) -> Evidence:
    x = _block(p)
    expected = nn.functional.layer_norm(x, x.shape[1:], eps=EPS)
    return at_most(
        _largest(normalize(x, "group", 1) - expected),
        0.0,
        1e-11,
        why="float64 rounding",
        quantity="largest difference to torch's layer norm",
    )


@law("Group norm with as many groups as channels is instance norm.", source="Wu and He 2018, Sec. 3.1")
def a_group_per_channel_is_instance_norm(p: Params) -> Evidence:
    x = _block(p)
    expected = nn.functional.instance_norm(x, eps=EPS)
    return at_most(
        _largest(normalize(x, "group", CHANNELS) - expected),
        0.0,
        1e-11,
        why="float64 rounding",
        quantity="largest difference to torch's instance norm",
    )


def _moved(p: Params, method: str) -> float:
    """Largest change of the first sample's output when a brighter, inverted copy of it joins the batch."""
    x = _block(p)
    joined = torch.cat([x, 1 - 3 * x[:1]])
    return _largest(normalize(joined, method, int(p.groups))[0] - normalize(x, method, int(p.groups))[0])


@law("Batch norm's output for a sample changes with the other samples of the batch.", source="Wu and He 2018, Sec. 1")
def batch_norm_depends_on_companions(p: Params) -> Evidence:
    return more_than(
        _moved(p, "batch"),
        0.0,
        0.01,
        why="the newcomer changes the variance of every channel; 0.01 is far above rounding",
        quantity="largest change of the first sample's output as a sample joins",
    )


@law("Layer, instance and group norm do not: a sample is normalized alone.", source="Wu and He 2018, Sec. 3.1")
def the_others_do_not(p: Params) -> Evidence:
    return at_most(
        max(_moved(p, method) for method in METHODS if method != "batch"),
        0.0,
        1e-12,
        why="the same sums over the same values, in whatever order torch takes them",
        quantity="largest change of the first sample's output as a sample joins, over the three",
    )


@law("The variance of batch norm's mean falls like 1/N: small batches are noisy.", source="variance of a mean")
def noise_of_the_mean(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    # Only the mean of a tile matters here: tiles of one pixel will do.
    tiles = filtered_digits().mean((2, 3))[:, :1]
    batches, light = 4_000, p.light
    chosen = torch.randint(len(tiles), (batches * p.samples,), generator=generator)
    lights = 1 - light * torch.rand(len(chosen), 1, dtype=torch.float64, generator=generator)
    drawn = (lights * tiles[chosen]).reshape(batches, p.samples, 1, 1, 1)
    means = torch.stack([statistics(batch, 1, across_batch=True)[0].flatten() for batch in drawn]).flatten()
    mean_light, mean_square = 1 - light / 2, 1 - light + light**2 / 3
    single = mean_square * tiles.square().mean() - (mean_light * tiles.mean()).square()
    squares = (means - means.mean()).square() / single * p.samples
    return equal(
        squares.mean(),
        1.0,
        5 * float(squares.std()) / batches**0.5,
        why="five standard errors of 4,000 batches: right statistics fail at about one seed in a million",
        quantity="N · variance of the batch mean, over the variance of one sample's mean (raw channel)",
    )
