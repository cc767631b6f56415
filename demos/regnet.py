r"""RegNet: judge spaces of networks by their error distributions, and let widths follow a quantized line.

Radosavovic, Kosaraju, Girshick, He and Dollár, "Designing Network Design Spaces", CVPR 2020, arXiv:2003.13678;
widths: Sec. 3.3, Eq. 2 to 4; error distribution: Sec. 3.1, Eq. 1; rounding as in the authors' code, pycls.

    u_j = w_0 + w_a\,j
    \qquad s_j = \log_{w_m}\frac{u_j}{w_0}
    \qquad w_j = w_0\,w_m^{\lfloor s_j\rceil}
    \qquad F(e) = \frac1n\sum_{i=1}^n \mathbf 1[e_i < e]

Symbols: $j = 0, \dots, d - 1$ a block of a network of depth $d$; $w_0$ its first width and $w_a$ the slope of the line
$u$; $w_m$ the factor between stages; $w_j$ the width, rounded to a multiple of 8, then of the group width $g$; $e_i$
the error of the $i$-th of $n$ networks of a space. The spaces compared here hold perceptrons of 4,000 to 12,000
parameters on digits, where the paper has convolutional networks of 400 MFLOPs: widths and depths are all they share.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_least, at_most, equal, finding, law, report, style
from demos.kit.data import digits_split
from demos.kit.training import Descent, batches, frame_steps, one_thread, perceptron

TOPIC = "architecture"
BATCH, RATE, STEP, WIDEST = 50, 0.05, 8, 128
FEWEST, MOST = 4_000, 12_000
FREE, REGULAR = 0, 1
NAMES, COLORS = ("free widths", "quantized line"), (style.ORANGE, style.BLUE)
LEAST = 0.02  # error where the axes begin
EDGES = LEAST ** (1 - torch.arange(10) / 9)  # of the intervals in which networks of about the same error are drawn


@dataclass(frozen=True)
class Params(Knobs):
    depth: Annotated[int, Range(1, 63, view=True, doc="depth d, blocks")] = 25
    first: Annotated[float, Range(8, 255, step=8, view=True, doc="first width w₀")] = 88.0
    slope: Annotated[float, Range(0, 255, shown=(0, 80), view=True, doc="slope wₐ")] = 26.31
    factor: Annotated[float, Range(1.5, 3, step=0.01, view=True, doc="factor between stages wₘ")] = 2.25
    group: Annotated[str, Choice("1", "8", "16", "24", "48", "120", view=True, doc="group width g")] = "48"
    models: Annotated[int, Range(5, 50, doc="networks sampled from each space")] = 40
    updates: Annotated[int, Range(10, 200, doc="updates of each network")] = 60
    seed: Seed = 0


PRESETS = {
    "RegNetX-3.2GF": Params(),
    "RegNetX-400MF": Params(depth=22, first=24, slope=24.48, factor=2.54, group="16"),
    "RegNetX-8.0GF": Params(depth=23, first=80, slope=49.56, factor=2.88, group="120"),
}

LOOK_FOR = (
    "Six numbers make a whole network: every block takes the rung nearest to the line, each wₘ times the one below.",
    "One lucky network says little of a space; all of them do, and show their shape: the long and thin ones fail.",
    "The higher curve is the better space: more of its networks stay below any given error.",
)


@dataclass(frozen=True)
class Result:
    errors: Tensor  # (2, n) error on 500 held-out digits of the networks trained so far; free space, then regular
    networks: tuple[tuple[tuple[int, ...], ...], ...]  # widths of each of these networks, by space


@dataclass(frozen=True)
class View:
    sampled: Result
    line: Tensor  # (d,) u
    rungs: Tensor  # (R,) the powers of the factor, times the first width, up to the highest that a block takes
    stages: tuple[tuple[int, int], ...]  # (width, number of blocks) of each stage
    sides: tuple[int, ...]  # side of the map in each stage, pixels
    at: Tensor  # (E,) errors
    curves: Tensor  # (2, E) share of each space's networks with a smaller error
    interval: Tensor  # (2, n) int64, between which two of `EDGES` each error lies
    ranked: tuple[tuple[tuple[float, tuple[int, ...]], ...], ...]  # (error, widths) in each space, the best first


def line(depth: int, first: float, slope: float) -> Tensor:
    """The widths (depth,) that a straight line would give, float64 (Eq. 2)."""
    return first + slope * torch.arange(depth, dtype=torch.float64)


def quantize(u: Tensor, factor: float) -> Tensor:
    """Widths (d,) brought to the nearest power of `factor` times the first, in the logarithm (Eq. 3 and 4)."""
    exponent = (u / u[0]).log() / math.log(factor)
    return u[0] * factor ** exponent.round()


def round_to(widths: Tensor, multiple: int) -> Tensor:
    """The nearest multiples; a width below `multiple` stays, as it makes a group of its own."""
    groups = widths.clamp(max=multiple)
    return groups * (widths / groups).round()


def regular_widths(depth: int, first: float, slope: float, factor: float) -> Tensor:
    """Widths (depth,) of the blocks of a RegNet, int64 multiples of 8, before its groups are heeded."""
    return round_to(quantize(line(depth, first, slope), factor), STEP).long()


def stages(widths: Tensor, group: int) -> tuple[tuple[int, int], ...]:
    """(width, number of blocks) of each run of equal widths, the width made to hold whole groups."""
    width, blocks = widths.unique_consecutive(return_counts=True)
    return tuple(zip(round_to(width, group).long().tolist(), blocks.tolist(), strict=True))


def map_sides(count: int, image: int = 224) -> tuple[int, ...]:
    """Side of the map in each of the stages, pixels: the stem halves the image, and so does every stage."""
    return tuple(-(-image // 2 ** (stage + 2)) for stage in range(count))


def distribution(errors: Tensor, at: Tensor) -> Tensor:
    """Share (E,) of the errors (n,) that are smaller than each of `at` (E,) (Eq. 1)."""
    return (errors < at[:, None]).double().mean(-1)


def draw_free(generator: torch.Generator) -> list[int]:
    """Widths of a perceptron of one to four stages, each of any width and of one to three layers."""
    count = int(torch.randint(1, 5, (), generator=generator))
    widths = STEP * torch.randint(1, 17, (count,), generator=generator)
    return widths.repeat_interleave(torch.randint(1, 4, (count,), generator=generator)).tolist()


def draw_regular(generator: torch.Generator) -> list[int]:
    """Widths of a perceptron of one to twelve layers on a quantized line."""
    depth = int(torch.randint(1, 13, (), generator=generator))
    first, slope, factor = torch.rand(3, generator=generator).tolist()
    return regular_widths(depth, STEP * (1 + 15 * first), 32 * slope, 1.5 + 1.5 * factor).tolist()


def parameters(widths: list[int]) -> int:
    """How many numbers a perceptron of these widths learns."""
    return sum((before + 1) * after for before, after in pairwise(widths))


def sample(draw: Callable[[torch.Generator], list[int]], generator: torch.Generator) -> list[int]:
    """The first draw, as a perceptron from 64 pixels to 10 classes, whose number of parameters is in the budget."""
    while True:
        widths = [64, *draw(generator), 10]
        if FEWEST <= parameters(widths) <= MOST:
            return widths


def train(widths: list[int], updates: int, generator: torch.Generator) -> float:
    """Error on 500 held-out digits of a perceptron trained for so many updates."""
    images, labels, other_images, other_labels = digits_split()
    network = perceptron(widths, generator)
    descent = Descent(network.parameters())
    for batch in batches(len(images), BATCH, updates, generator):
        descent.step(functional.cross_entropy(network(images[batch].flatten(1)), labels[batch]), RATE)
    with torch.no_grad():
        return float((network(other_images.flatten(1)).argmax(-1) != other_labels).float().mean())


def run(p: Params) -> Iterator[Result]:
    generator = torch.Generator().manual_seed(p.seed)
    found: tuple[list[tuple[float, tuple[int, ...]]], ...] = ([], [])
    shown = frame_steps(p.models, 10)
    for count in range(p.models + 1):
        if count in shown:
            yield Result(
                errors=torch.tensor([[error for error, _ in space] for space in found], dtype=torch.float64),
                networks=tuple(tuple(widths for _, widths in space) for space in found),
            )
        if count < p.models:
            with one_thread():
                for space, draw in zip(found, (draw_free, draw_regular), strict=True):
                    widths = sample(draw, generator)
                    space.append((train(widths, p.updates, generator), tuple(widths[1:-1])))


def examine(p: Params, r: Result) -> View:
    at = LEAST ** (1 - torch.linspace(0, 1, 201, dtype=torch.float64))
    u = line(p.depth, p.first, p.slope)
    highest = math.log(float(quantize(u, p.factor)[-1]) / p.first, p.factor)
    found = stages(regular_widths(p.depth, p.first, p.slope, p.factor), int(p.group))
    return View(
        sampled=r,
        line=u,
        rungs=p.first * p.factor ** torch.arange(round(highest) + 1, dtype=torch.float64),
        stages=found,
        sides=map_sides(len(found)),
        at=at,
        curves=torch.stack([distribution(errors, at) for errors in r.errors]),
        interval=torch.bucketize(r.errors, EDGES[1:-1]),
        ranked=tuple(
            tuple(sorted(zip(errors.tolist(), networks, strict=True)))
            for errors, networks in zip(r.errors, r.networks, strict=True)
        ),
    )


def readings(p: Params, r: View) -> dict[str, str | float]:
    numbers: dict[str, str | float] = {
        "Widths of the stages": ", ".join(str(width) for width, _ in r.stages),
        "Blocks in each": ", ".join(str(blocks) for _, blocks in r.stages),
        "Networks trained in each space": r.sampled.errors.shape[1],
    }
    if r.sampled.errors.numel():
        for name, errors in zip(NAMES, r.sampled.errors, strict=True):
            numbers[f"Median error, {name}"] = float(errors.median())
    return numbers


def figure(p: Params, r: View) -> dict[str, go.Figure]:
    return {
        "A bar is a block, cut into its groups, on the rung nearest to the line. Squares: the map's side, pixels.": (
            _network(p, r)
        ),
        "Every network drawn at its error: the long and thin ones learn least.": _population(r),
        "Share of each space's networks with an error below e: the higher curve is the better space.": _curves(r),
        "The best network of each space, from 64 pixels to 10 classes.": _drawn(r, 0),
        "The worst, on the same scale.": _drawn(r, -1),
    }


def _network(p: Params, r: View) -> go.Figure:
    fig = style.figure(x="block j", y="width, channels", height=440)
    blocks = [(number, width) for number, (width, count) in enumerate(r.stages) for _ in range(count)]
    widths, top = [width for _, width in blocks], max(r.stages[-1][0], float(r.line[-1]))
    groups = [min(int(p.group), width) for width in widths]
    fig.add_bar(
        y=widths,
        width=0.86,
        name="block, width w",
        marker={"color": style.BLUE, "opacity": [0.4 + 0.6 * (stage + 1) / len(r.stages) for stage, _ in blocks]},
        customdata=[
            (width // group, group, r.sides[stage]) for (stage, width), group in zip(blocks, groups, strict=True)
        ],
        hovertemplate="block %{x}: %{y} channels<br>%{customdata[0]} groups of %{customdata[1]}<br>"
        "map of %{customdata[2]} × %{customdata[2]}<extra></extra>",
    )
    # Closer cuts would hide the bar.
    if int(p.group) > top / 60:
        cuts = [(block, cut) for block in range(p.depth) for cut in range(groups[block], widths[block], groups[block])]
        _strokes(
            fig,
            [(block - 0.43, block + 0.43) for block, _ in cuts],
            [(cut, cut) for _, cut in cuts],
            line={"color": style.PAPER, "width": 1},
            showlegend=False,
        )
    _strokes(
        fig,
        [(-0.7, p.depth - 0.3)] * len(r.rungs),
        [(rung, rung) for rung in r.rungs.tolist()],
        line={"color": style.GRAY, "dash": "dot", "width": 1.5},
        name="rungs w₀ wₘᵏ",
    )
    look = {"line": {"color": style.ORANGE, "width": 3}, "marker": {"size": 7}}
    fig.add_scatter(y=r.line.numpy(), mode="lines+markers", name="line u", **look)
    _sides(fig, r)
    fig.update_xaxes(range=[-1, p.depth], dtick=1 if p.depth < 10 else 5, showgrid=False)
    return fig.update_yaxes(range=[0, 1.3 * top], showgrid=False)


def _strokes(fig: go.Figure, x: Iterable[tuple[float, ...]], y: Iterable[tuple[float, ...]], **look: object) -> None:
    """Many strokes in one trace, with gaps between them: a trace each would be slow to draw."""
    x, y = ([at for stroke in strokes for at in (*stroke, None)] for strokes in (x, y))
    fig.add_scatter(x=x, y=y, mode="lines", hoverinfo="skip", **look)


def _sides(fig: go.Figure, r: View) -> None:
    """The map of each stage as a square on top, its side in proportion; named where there is room."""
    start, named, scale = 0, -math.inf, 0.4
    for (_, count), side in zip(r.stages, r.sides, strict=True):
        middle, start = start + (count - 1) / 2, start + count
        fig.add_shape(
            type="rect",
            xref="x",
            xsizemode="pixel",
            xanchor=middle,
            x0=-scale * side / 2,
            x1=scale * side / 2,
            yref="paper",
            ysizemode="pixel",
            yanchor=1,
            y0=0,
            y1=-scale * side,
            line={"width": 0},
            fillcolor=style.BLUE,
        )
        if middle - named > 0.08 * len(r.line):
            fig.add_annotation(x=middle, y=1, yref="paper", yshift=-24, yanchor="top", text=side, showarrow=False)
            named = middle


def _population(r: View) -> go.Figure:
    fig = style.figure(x="error e on held-out digits (log)", y="networks", height=460)
    highest = [1, 1]
    for which, (name, sign) in enumerate(zip(NAMES, (1, -1), strict=True)):
        outlines, middles, stacked = [], [], [0] * (len(EDGES) - 1)
        for interval, widths in zip(r.interval[which].tolist(), r.sampled.networks[which], strict=True):
            middle = sign * (stacked[interval] + 0.5)
            stacked[interval] += 1
            outlines.append(_silhouette(widths, interval + 0.06, 0.88, middle, 0.92 / WIDEST))
            middles.append((interval + 0.5, middle))
        fill = {"fill": "toself", "fillcolor": COLORS[which], "line": {"color": COLORS[which], "width": 0.5}}
        _strokes(fig, [x for x, _ in outlines], [y for _, y in outlines], **fill, showlegend=False)
        fig.add_scatter(
            x=[x for x, _ in middles],
            y=[y for _, y in middles],
            mode="markers",
            marker={"opacity": 0, "size": 10},
            text=[
                f"{', '.join(map(str, widths))}<br>error {error:.3f}"
                for widths, error in zip(r.sampled.networks[which], r.sampled.errors[which].tolist(), strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
        where = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "paper", "y": (1 + sign) / 2}
        fig.add_annotation(**where, yanchor=("top", "bottom")[which], text=f"<b>{name}</b>", showarrow=False)
        highest[which] = max(1, *stacked)
    ticks = list(range(0, len(EDGES), 2))
    fig.update_xaxes(range=[0, len(EDGES) - 1], tickvals=ticks, ticktext=[f"{EDGES[i]:.2g}" for i in ticks])
    counts = range(0, max(highest) + 1, 5)
    fig.update_yaxes(tickvals=[*(-n for n in counts), *counts], ticktext=[*counts, *counts])
    return fig.update_yaxes(range=[-highest[REGULAR] - 1.5, highest[FREE] + 1.5], zeroline=True)


def _silhouette(
    widths: Sequence[int], left: float, breadth: float, middle: float, scale: float
) -> tuple[list[float], list[float]]:
    """Outline of a network, a step a layer, symmetric about its middle."""
    ends = [left + breadth * layer / len(widths) for layer in range(len(widths) + 1)]
    x = [at for step in pairwise(ends) for at in step]
    up = [scale * width / 2 for width in widths for _ in range(2)]
    return [*x, *x[::-1], x[0]], [middle + h for h in up] + [middle - h for h in up[::-1]] + [middle + up[0]]


def _curves(r: View) -> go.Figure:
    fig = style.figure(x="error e on held-out digits (log)", y="share of networks below e", height=460, log_x=True)
    for which, name in enumerate(NAMES):
        step = {"color": COLORS[which], "dash": style.DASHES[1 - which], "shape": "hv", "width": 2.5}
        fig.add_scatter(x=r.at.numpy(), y=r.curves[which].numpy(), name=name, mode="lines", line=step)
    fig.update_xaxes(range=[math.log10(LEAST), 0], tickvals=[0.02, 0.05, 0.1, 0.2, 0.5, 1])
    return fig.update_yaxes(range=[0, 1.04])


def _drawn(r: View, rank: int) -> go.Figure:
    """The network of that rank in each space, a bar a layer, the pixels before and the classes after it in gray."""
    fig = style.figure(x="layer", height=360)
    apart = 1.4 * WIDEST
    for which, networks in enumerate(r.ranked):
        error, hidden = networks[rank] if networks else (math.nan, ())
        widths, colors = (64, *hidden, 10), [style.GRAY, *[COLORS[which]] * len(hidden), style.GRAY]
        fig.add_bar(
            x=list(range(len(widths))),
            y=widths,
            base=[-which * apart - width / 2 for width in widths],
            width=0.8,
            text=widths,
            textposition="outside",
            marker={"color": colors},
            hovertemplate="layer %{x}: %{text} units<extra></extra>",
            showlegend=False,
        )
        name = f"<b>{NAMES[which]}</b>: error {error:.3f}" if networks else f"<b>{NAMES[which]}</b>"
        fig.add_annotation(x=0, xref="paper", y=(0.58 - which) * apart, text=name, showarrow=False, xanchor="left")
    fig.update_layout(barmode="overlay")
    fig.update_xaxes(range=[-0.7, 13.7], dtick=2, showgrid=False)
    return fig.update_yaxes(visible=False, range=[-1.45 * apart, 0.68 * apart])


@law("Every width is at most a factor √wₘ away from the line.", source="Eq. 3 and 4")
def widths_stay_near_the_line(p: Params) -> Evidence:
    u = line(p.depth, p.first, p.slope)
    return at_most(
        (quantize(u, p.factor) / u).log().abs().max() / math.log(p.factor),
        0.5,
        1e-9,
        why="float64 rounding of a logarithm; before rounding to multiples of 8",
        quantity="largest distance from the line, in powers of wₘ",
    )


@law("Neighboring stages differ by whole powers of wₘ.", source="Eq. 4")
def stages_are_powers_apart(p: Params) -> Evidence:
    widths = quantize(line(p.depth, p.first, p.slope), p.factor)
    power = (widths / p.first).log() / math.log(p.factor)
    return at_most(
        (power - power.round()).abs().max(), 0.0, 1e-9, why="float64 rounding", quantity="largest distance from a power"
    )


@law("Widths never shrink with depth, hold whole groups, and the stages hold every block.", source="Sec. 3.3; pycls")
def stages_are_legal(p: Params) -> Evidence:
    found = stages(regular_widths(p.depth, p.first, p.slope, p.factor), int(p.group))
    shrinking = sum(after < before for (before, _), (after, _) in pairwise(found))
    split = sum(width % min(int(p.group), width) for width, _ in found)
    missing = abs(p.depth - sum(blocks for _, blocks in found))
    return equal(shrinking + split + missing, 0, 0.0, why="counts", quantity="shrinking, split groups, blocks missing")


@law("The error distribution is the share of networks with a smaller error.", source="Eq. 1")
def distribution_counts_smaller_errors(p: Params) -> Evidence:
    # Ties on purpose: errors on 500 digits often agree.
    errors = torch.randint(0, 20, (p.models,), generator=torch.Generator().manual_seed(p.seed)).double() / 20
    at = torch.arange(21, dtype=torch.float64) / 20
    counted = torch.searchsorted(errors.sort().values, at, side="left").double() / p.models
    return at_most(
        (distribution(errors, at) - counted).abs().max(),
        0.0,
        1e-12,
        why="float64 rounding of one division",
        quantity="largest difference to the place in the sorted errors",
    )


PUBLISHED = {
    "RegNetX-400MF": ((32, 1), (64, 2), (160, 7), (384, 12)),
    "RegNetX-3.2GF": ((96, 2), (192, 6), (432, 15), (1008, 2)),
    "RegNetX-8.0GF": ((80, 2), (240, 5), (720, 15), (1920, 1)),
}


@finding("The rule gives the published widths and depths of RegNetX-400MF, 3.2GF and 8.0GF.", source="pycls configs")
def published_networks() -> Evidence:
    wrong = 0
    for name, expected in PUBLISHED.items():
        p = PRESETS[name]
        wrong += stages(regular_widths(p.depth, p.first, p.slope, p.factor), int(p.group)) != expected
    return equal(wrong, 0, 0.0, why="a count of networks", quantity="networks of three that come out otherwise")


@cache
def _errors(seed: int) -> Tensor:
    return list(run(Params(seed=seed)))[-1].errors


@report("Networks on a quantized line err less, in the median, than those of free widths.", source="Sec. 3.3")
def quantized_lines_err_less() -> Evidence:
    lead = torch.stack([_errors(seed).median(-1).values for seed in range(3)])
    return at_least(
        (lead[:, FREE] - lead[:, REGULAR]).mean(),
        0.0,
        why="defaults, mean over seeds 0 to 2; perceptrons on digits are far from the paper's setting, and the "
        "quantized space draws networks of one layer more often, so not the order of widths alone is compared",
        quantity="median error of free widths minus that of quantized lines",
    )
