r"""ResNet-B, C and D: let the strided layers read every pixel, and look closely at the stem.

He, Zhang, Zhang, Zhang, Xie and Li, "Bag of Tricks for Image Classification with Convolutional Neural Networks",
CVPR 2019, arXiv:1812.01187, Sec. 4.

    \text{share read} = \min\!\left(\frac{k}{s},\, 1\right)^{2}
    \qquad \text{cost} = k^2\, C_{in}\, C_{out}\, H' W'
    \qquad R_l = R_{l-1} + (k_l - 1) \prod_{i<l} s_i

Symbols: $k$ the kernel size of a convolution, $s$ its stride, $C$ its channels, $H'$ and $W'$ the size of its output;
its cost counts multiply-adds; $R_l$ the receptive field after $l$ layers, $R_0 = 1$. The influence of a pixel is the
gradient of the outputs' sum in it, here with all weights of a layer alike and positive: nothing cancels and no ReLU
shuts, so that zero means that no weight ever reads the pixel. As the names are used, C includes B, and D includes C.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import Choice, Evidence, Knobs, Range, at_most, equal, finding, law, style
from demos.kit.data import photograph
from demos.kit.pictures import outline, pictures
from demos.kit.training import build

TOPIC = "architecture"
VARIANTS = ("original", "B", "C", "D")
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # of ResNet-50: width, blocks, stride of the first
CORNER, WINDOW = 8, 15  # pixels a side of what is drawn large


@dataclass(frozen=True)
class Params(Knobs):
    variant: Annotated[str, Choice(*VARIANTS, doc="variant of the network")] = "original"
    outputs: Annotated[
        int, Range(8, 40, unit="pixels", doc="side of the block's output; its input has twice as many")
    ] = 28
    resolution: Annotated[int, Range(32, 512, unit="pixels", doc="side of the image, for the cost")] = 224


PRESETS = {
    "Original: three quarters unread": Params(),
    "B: the main path reads all": Params(variant="B"),
    "D: the shortcut too": Params(variant="D"),
}

LOOK_FOR = (
    "The original's two paths read the same quarter of the pixels; the other features were computed in vain.",
    "B mends the main path, D the shortcut. A 3 × 3 kernel of stride 2 still reads pixels 1, 2 or 4 times.",
    "The stem of C costs three times the 7 × 7 that it replaces, and sees more than it: 11 × 11 pixels.",
)


@dataclass(frozen=True)
class Result:
    seen: Tensor  # (2, 3, H, H) in [0, 1] a photograph without the pixels that main path and shortcut do not read
    read: Tensor  # (2,) share of pixels that each reads
    block_read: float  # share that the block reads
    influence: Tensor  # (2, CORNER, CORNER) of the pixels of a corner, over the mean away from the border
    window: Tensor  # (3, WINDOW, WINDOW) in [0, 1] the photograph, small
    fields: Tensor  # (3, WINDOW, WINDOW) influence on one output of each of `STEMS`, over its largest
    stems: tuple[tuple[tuple[int, int, int], ...], ...]  # (k, C_in, C_out) of each convolution of the two stems
    stem_cost: Tensor  # (V,) multiply-adds of the stem, by variant
    cost: Tensor  # (V,) of all convolutions and the classifier
    parameters: Tensor  # (V,) int64


def convolution(c_in: int, c_out: int, k: int, s: int = 1) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, and batch normalization."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, k, s, k // 2, bias=False), nn.BatchNorm2d(c_out))


def main_path(variant: str, c_in: int, width: int, c_out: int, s: int = 2) -> nn.Sequential:
    """1 × 1, 3 × 3 and 1 × 1 of a bottleneck block; the stride is in the first, from B on in the second."""
    first, second = (s, 1) if variant == "original" else (1, s)
    return nn.Sequential(
        *(convolution(c_in, width, 1, first), nn.ReLU()),
        *(convolution(width, width, 3, second), nn.ReLU()),
        convolution(width, c_out, 1),
    )


def shortcut(variant: str, c_in: int, c_out: int, s: int = 2) -> nn.Sequential:
    """1 × 1 with the stride; in D a 2 × 2 average takes the stride, and the 1 × 1 after it none."""
    if variant == "D" and s == 2:
        average = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(average, convolution(c_in, c_out, 1))
    return convolution(c_in, c_out, 1, s)


def stem(variant: str) -> nn.Sequential:
    """The first convolution, from 3 channels to 64 at half the size: 7 × 7, from C on three of 3 × 3."""
    if variant in ("original", "B"):
        return nn.Sequential(convolution(3, 64, 7, 2), nn.ReLU())
    return nn.Sequential(
        *(convolution(3, 32, 3, 2), nn.ReLU()),
        *(convolution(32, 32, 3), nn.ReLU()),
        *(convolution(32, 64, 3), nn.ReLU()),
    )


class Block(nn.Module):
    """A bottleneck block: main path and shortcut added up; the shortcut is the identity where nothing changes."""

    def __init__(self, variant: str, c_in: int, width: int, s: int) -> None:
        super().__init__()
        self.main = main_path(variant, c_in, width, 4 * width, s)
        self.shortcut = nn.Identity() if (c_in, s) == (4 * width, 1) else shortcut(variant, c_in, 4 * width, s)

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.shortcut(x)).relu()


def resnet50(variant: str) -> nn.Sequential:
    """ResNet-50 for 1,000 classes; the first of its modules is the stem."""
    layers, channels = [stem(variant), nn.MaxPool2d(3, 2, 1)], 64
    for width, blocks, s in STAGES:
        for number in range(blocks):
            layers.append(Block(variant, channels, width, s if number == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1_000))


def on_meta(make: Callable[[], nn.Sequential]) -> nn.Sequential:
    """A module without values, for counting."""
    with torch.device("meta"):
        return make()


def multiply_adds(module: nn.Module, side: int) -> tuple[int, int]:
    """Multiply-adds of convolutions and linear layers for an input of that many pixels a side; the output's side."""
    total = 0
    match module:
        case nn.Sequential():
            for layer in module:
                cost, side = multiply_adds(layer, side)
                total += cost
        case Block():
            total = multiply_adds(module.shortcut, side)[0]
            cost, side = multiply_adds(module.main, side)
            total += cost
        case nn.Conv2d():
            side = (side + 2 * module.padding[0] - module.kernel_size[0]) // module.stride[0] + 1
            total = module.weight.numel() * side**2
        case nn.MaxPool2d() | nn.AvgPool2d():
            side = (side + 1) // 2
        case nn.Linear():
            total = module.weight.numel()
    return total, side


def influence(module: nn.Module, height: int, width: int, channels: int = 1, *, one: bool = False) -> Tensor:
    """Gradient (H, W) of the sum of the outputs, or of the middle `one`, in each pixel; channels added up."""
    x = torch.ones(1, channels, height, width, requires_grad=True)
    y = module.eval()(x).sum(1)
    outputs = y[0, y.shape[-2] // 2, y.shape[-1] // 2] if one else y.sum()
    return torch.autograd.grad(outputs, x)[0].sum((0, 1))


def alike(make: Callable[[], nn.Module]) -> nn.Module:
    """A module whose convolutions average: every weight is positive, all of a layer are the same."""
    module = build(make, torch.Generator())
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    return module


STEMS: dict[str, Callable[[], nn.Sequential]] = {
    "7 × 7, stride 2": lambda: stem("original"),
    "three 3 × 3,<br>stride 2 first": lambda: stem("C"),
    "three 3 × 3,<br>stride 1": lambda: nn.Sequential(*(convolution(3, 3, 3) for _ in range(3))),
}


def shapes(module: nn.Module) -> tuple[tuple[int, int, int], ...]:
    """(k, C_in, C_out) of each convolution."""
    found = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return tuple((layer.kernel_size[0], layer.in_channels, layer.out_channels) for layer in found)


def fade(picture: Tensor, shares: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) of one (3, H, W): a share (N, H, W) in [0, 1] of each pixel is left, the rest is white."""
    return 1 - shares[:, None] * (1 - picture)


def run(p: Params) -> Result:
    side = 2 * p.outputs
    whole = photograph("flower", 3 * p.outputs + 3)
    picture = whole[:, :side, (whole.shape[-1] - side) // 2 :][..., :side]
    small = photograph("flower", 2 * WINDOW)
    paths = (lambda: main_path(p.variant, 1, 1, 1), lambda: shortcut(p.variant, 1, 1))
    maps = torch.stack([influence(alike(make), side, side) for make in paths])
    stem_cost, cost, parameters = torch.tensor([counts(variant, p.resolution) for variant in VARIANTS]).T
    return Result(
        seen=fade(picture, (maps > 0).float()),
        read=(maps > 0).double().mean((-2, -1)),
        block_read=float((maps.sum(0) > 0).double().mean()),
        influence=(maps / maps[:, 2:-2, 2:-2].mean((-2, -1), keepdim=True))[:, :CORNER, :CORNER],
        window=small[:, -WINDOW:, (small.shape[-1] - WINDOW) // 2 :][..., :WINDOW],
        fields=_fields(),
        stems=tuple(shapes(on_meta(lambda variant=variant: stem(variant))) for variant in ("original", "C")),
        stem_cost=stem_cost,
        cost=cost,
        parameters=parameters,
    )


@cache
def counts(variant: str, resolution: int) -> tuple[int, int, int]:
    """Multiply-adds of the stem and of all of ResNet-50 for an image of that many pixels a side, and its parameters."""
    network = _blueprint(variant)
    parameters = sum(weight.numel() for weight in network.parameters())
    return multiply_adds(network[0], resolution)[0], multiply_adds(network, resolution)[0], parameters


@cache
def _blueprint(variant: str) -> nn.Sequential:
    return on_meta(lambda: resnet50(variant))


@cache
def _fields() -> Tensor:
    """Influence on one output of each of the `STEMS`, over its largest, cut to a window around it."""
    fields = []
    for make in STEMS.values():
        field = influence(alike(make), 48, 48, 3, one=True)
        rows, columns = field.nonzero().T
        top, left = ((int(at.min()) + int(at.max()) - WINDOW + 1) // 2 for at in (rows, columns))
        fields.append(field[top : top + WINDOW, left : left + WINDOW] / field.max())
    return torch.stack(fields)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    mine = VARIANTS.index(p.variant)
    return {
        "Pixels read by the block": f"{r.block_read:.0%}",
        "Multiply-adds of the stem": f"{float(r.stem_cost[mine]) / 1e9:.3f} G",
        "Multiply-adds of ResNet-50": f"{float(r.cost[mine]) / 1e9:.2f} G",
        "Parameters of ResNet-50": f"{int(r.parameters[mine]):,}",
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    paths = ("main path", "shortcut")
    names = [f"{path}: {share:.0%} read" for path, share in zip(paths, r.read.tolist(), strict=True)]
    photograph = pictures(list(r.seen), names=names, height=440)
    for left in (0, 1.05 * r.seen.shape[-1]):
        outline(photograph, left, 0, left + CORNER, CORNER, color=style.ORANGE)
    stems = [f"{name}:<br>{_side(field)} × {_side(field)} pixels" for name, field in zip(STEMS, r.fields, strict=True)]
    drawn = pictures([r.window, *fade(r.window, r.fields.sqrt())], names=["photograph", *stems], columns=2, height=460)
    drawn.update_layout(margin={"b": 64})
    name = "the original" if p.variant == "original" else f"ResNet-{p.variant}"
    total = float(r.cost[0]) / 1e9
    return {
        f"What a downsampling block of {name} reads of its input; pixels left blank have no influence.": photograph,
        "The framed corner: influence of each pixel, over the mean away from the border.": _corner(r, paths),
        f"Added to the original's {total:.2f} G: B pays in its blocks, C in its stem, D no more.": _added(p, r),
        "What one output of a stem sees: the less a pixel counts, the paler it is.": drawn,
        "The stems as built. Areas are multiply-adds, a slice is an input channel: 7 × 7 reads but three.": _stems(
            p, r
        ),
    }


def _side(field: Tensor) -> int:
    """Pixels a side of what is not zero."""
    return int((field > 0).any(0).sum())


def _corner(r: Result, names: Sequence[str]) -> go.Figure:
    fig = style.figure(height=280)
    for number, (values, name) in enumerate(zip(r.influence, names, strict=True)):
        left = number * (CORNER + 0.6)
        fig.add_heatmap(
            x0=left,
            z=values.where(values > 0, torch.nan).numpy(),
            zmin=0,
            zmax=4,
            colorscale=style.SEQUENTIAL,
            xgap=1,
            ygap=1,
            showscale=False,
            texttemplate="%{z:.2~g}",
            textfont={"size": 9},
            hovertemplate="%{z:.3g}<extra></extra>",
        )
        outline = {"x0": left - 0.5, "x1": left + CORNER - 0.5, "y0": -0.5, "y1": CORNER - 0.5}
        fig.add_shape(type="rect", **outline, line={"color": style.ORANGE, "width": 2.5})
        middle = left + (CORNER - 1) / 2
        fig.add_annotation(x=middle, y=CORNER - 0.3, yanchor="top", text=name, showarrow=False)
    return style.image_panel(fig, below=28)


def _added(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="variant", y="multiply-adds added, G", height=280)
    later = VARIANTS[1:]
    faded = [1.0 if p.variant in ("original", variant) else 0.45 for variant in later]
    parts = (("stem", r.stem_cost, style.ORANGE, "/"), ("blocks", r.cost - r.stem_cost, style.BLUE, ""))
    for name, cost, color, shape in parts:
        added = ((cost[1:] - cost[0]).double() / 1e9).tolist()
        look = {"color": color, "opacity": faded, "pattern": {"shape": shape, "fillmode": "overlay"}}
        fig.add_bar(x=later, y=added, name=name, marker=look, hovertemplate="%{y:.3f} G<extra>%{fullData.name}</extra>")
    fig.update_xaxes(type="category")
    return fig.update_layout(barmode="stack")


def _stems(p: Params, r: Result) -> go.Figure:
    """Each convolution as the matrix by which it multiplies what it reads for one output pixel."""
    fig = style.figure(x="numbers read for an output pixel, k² C_in", y="output channels", height=440)
    cuts: list[tuple[float | None, float | None]] = []
    apart = 110
    for row, (stem, name) in enumerate(zip(r.stems, ("7 × 7", "three 3 × 3"), strict=True)):
        bottom, left, cost = -row * apart, 0, 0
        for k, c_in, c_out in stem:
            fig.add_bar(
                x=[left + k * k * c_in / 2],
                y=[c_out],
                base=[bottom],
                width=[k * k * c_in],
                name=name,
                marker={"color": style.ORANGE, "opacity": 1.0 if (p.variant in ("C", "D")) == bool(row) else 0.45},
                hovertemplate=f"{k} · {k} · {c_in} × {c_out} = {k * k * c_in * c_out:,}<extra>{name}</extra>",
                showlegend=False,
            )
            for channel in range(1, c_in):
                at = left + k * k * channel
                cuts += [(at, bottom), (at, bottom + c_out), (None, None)]
            left, cost = left + k * k * c_in + 12, cost + k * k * c_in * c_out
        title = f"<b>{name}</b>: {cost:,} multiply-adds a pixel"
        fig.add_annotation(x=0, y=bottom + 68, xanchor="left", yanchor="bottom", text=title, showarrow=False)
    fig.add_scatter(
        x=[x for x, _ in cuts],
        y=[y for _, y in cuts],
        mode="lines",
        line={"color": style.PAPER, "width": 0.8},
        hoverinfo="skip",
        showlegend=False,
    )
    fig.update_layout(barmode="overlay")
    fig.update_xaxes(range=[-8, 640], showgrid=False)
    ticks = (0, 32, 64)
    below = [tick - apart for tick in ticks]
    return fig.update_yaxes(
        tickvals=[*below, *ticks], ticktext=[*ticks, *ticks], range=[-apart - 4, 90], showgrid=False
    )


def _unread(make: Callable[[], nn.Module], side: int) -> float:
    """Share of the pixels without influence."""
    return float((influence(alike(make), side, side) == 0).double().mean())


@law("A 1 × 1 convolution of stride 2 ignores exactly three quarters of the pixels, on both paths.", source="Sec. 4.2")
def stride_in_a_1x1_ignores_three_quarters(p: Params) -> Evidence:
    side = 2 * p.outputs
    paths = (lambda: main_path("original", 1, 1, 1), lambda: shortcut("original", 1, 1))
    main, short = (influence(alike(make), side, side) for make in paths)
    ignored = ((main == 0) & (short == 0)).double().mean()
    return equal(
        ignored,
        0.75,
        0,
        why="exact: a count over a count, and the same pixels on both paths",
        quantity=f"share of the pixels that the original block never reads, {side} × {side}",
    )


@law("With the stride in the 3 × 3 (B) and an average before the shortcut (D) no pixel is ignored.", source="Sec. 4.2")
def b_and_d_read_every_pixel(p: Params) -> Evidence:
    paths = (lambda: main_path("B", 1, 1, 1), lambda: main_path("D", 1, 1, 1), lambda: shortcut("D", 1, 1))
    return equal(
        max(_unread(make, 2 * p.outputs) for make in paths),
        0,
        0,
        why="exact: a count",
        quantity="largest share of unread pixels of B's main path, D's main path and D's shortcut",
    )


@law("A strided convolution reads the share min(k/s, 1)² of its pixels.", source="definition")
def share_read_is_kernel_over_stride(p: Params) -> Evidence:
    worst = 0.0
    for s in (1, 2, 3, 4):
        for k in (1, 3, 5):
            reach = max(0, (k - s + 1) // 2)  # as little padding as lets the kernel reach the border
            unread = _unread(lambda k=k, s=s, reach=reach: nn.Conv2d(1, 1, k, s, reach), s * p.outputs)
            worst = max(worst, abs(unread - (1 - min(k / s, 1) ** 2)))
    return at_most(
        worst,
        0,
        1e-12,
        why="float64 rounding of a count over a count",
        quantity="largest difference of the unread share, k = 1, 3, 5 and s = 1 to 4",
    )


@law("Three 3 × 3 convolutions see 7 × 7 pixels; with a stride of 2 in the first, as in C, 11 × 11.", source="Sec. 4.2")
def three_small_kernels_see_a_large_field(p: Params) -> Evidence:
    side = 32 + p.outputs
    seen = [_side(influence(alike(make), side, side, 3, one=True)) for make in STEMS.values()]
    return at_most(
        max(abs(side - right) for side, right in zip(seen, (7, 11, 7), strict=True)),
        0,
        why="exact: pixels counted by gradient, against R = 1 + Σ (k − 1) Π s",
        quantity="largest difference to 7, 11 and 7 pixels a side",
    )


@law("At equal channels a 7 × 7 convolution costs 49/9 times a 3 × 3.", source="Sec. 4.2")
def seven_by_seven_at_equal_channels(p: Params) -> Evidence:
    large, small = (multiply_adds(on_meta(lambda k=k: convolution(64, 64, k)), p.outputs)[0] for k in (7, 3))
    return equal(
        large / small, 49 / 9, 1e-12, why="float64 rounding of one division", quantity="ratio of multiply-adds"
    )


@law("Yet the stem of C costs 3.03 times the 7 × 7 stem: the saving is not there.", source="Sec. 4.2, counted here")
def stem_of_c_costs_three_times(p: Params) -> Evidence:
    old, new = (counts(variant, p.resolution)[0] for variant in ("original", "C"))
    return equal(
        new / old,
        28_512 / 9_408,
        1e-12,
        why="float64 rounding of one division; the reference is worked out by hand, 3·3·(3·32 + 32·32 + 32·64) "
        "multiply-adds for each output pixel against 7·7·3·64",
        quantity="multiply-adds of the modules, C over original",
    )


@finding("The modules have ResNet-50's published 25,557,032 parameters, in the original as in B.", source="torchvision")
def parameters_as_published() -> Evidence:
    worst = max(abs(counts(variant, 224)[2] - 25_557_032) for variant in ("original", "B"))
    return equal(worst, 0, 0, why="exact: a count", quantity="largest difference")


@finding("C and D add 0.24 G multiply-adds to ResNet-50 at 224 pixels.", source="mmpretrain: 4.36 G against 4.12 G")
def deep_stem_adds() -> Evidence:
    base, *deep = (counts(variant, 224)[1] for variant in ("B", "C", "D"))
    return equal(
        max(abs(cost - base) for cost in deep) / 1e9,
        0.24,
        0.01,
        why="both published figures are rounded to 0.01 G",
        quantity="larger of C's and D's cost, less B's, G multiply-adds",
    )
