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

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import Choice, Evidence, Knobs, Range, at_most, equal, finding, law, style
from demos.kit.data import photograph
from demos.kit.pictures import pictures
from demos.kit.training import build

TOPIC = "architecture"
VARIANTS = ("original", "B", "C", "D")
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # of ResNet-50: width, blocks, stride of the first
CORNER, WINDOW = 12, 15  # pixels a side of the maps drawn


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
    seen: Tensor  # (2, 3, H, H) in [0, 1] a photograph, its pixels unread by main path and shortcut in black
    read: Tensor  # (2,) share of pixels that each reads
    block_read: float  # share that the block reads
    influence: Tensor  # (2, CORNER, CORNER) of the pixels of a corner, over the mean of all
    fields: Tensor  # (3, WINDOW, WINDOW) influence on one output of each of `STEMS`, over its largest
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


def run(p: Params) -> Result:
    side = 2 * p.outputs
    whole = photograph("china", 3 * p.outputs + 3)
    picture = whole[:, :side, (whole.shape[-1] - side) // 2 :][..., :side]
    paths = (lambda: main_path(p.variant, 1, 1, 1), lambda: shortcut(p.variant, 1, 1))
    maps = torch.stack([influence(alike(make), side, side) for make in paths])
    stem_cost, cost, parameters = torch.tensor([counts(variant, p.resolution) for variant in VARIANTS]).T
    return Result(
        seen=picture * (maps > 0)[:, None],
        read=(maps > 0).double().mean((-2, -1)),
        block_read=float((maps.sum(0) > 0).double().mean()),
        influence=(maps / maps.mean((-2, -1), keepdim=True))[:, :CORNER, :CORNER],
        fields=_fields(),
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
    names = [
        f"{path}: {share:.0%} read" for path, share in zip(("main path", "shortcut"), r.read.tolist(), strict=True)
    ]
    sides = [_side(field) for field in r.fields]
    stems = [f"{name}:<br>sees {side} × {side}" for name, side in zip(STEMS, sides, strict=True)]
    name = "the original" if p.variant == "original" else f"ResNet-{p.variant}"
    return {
        f"What a downsampling block of {name} reads of its input; black pixels have no influence.": pictures(
            list(r.seen), names=names, height=330
        ),
        "A corner of the input: influence of each pixel, over the mean; what is empty has none.": _maps(
            r.influence, ["main path", "shortcut"], "influence", 330
        ),
        "What one output of a stem sees, and how much each pixel counts.": _maps(r.fields, stems, "share", 300),
        f"The cost of ResNet-50 at {p.resolution} pixels: B pays in its blocks, C and D in the stem.": _costs(p, r),
    }


def _side(field: Tensor) -> int:
    """Pixels a side of what is not zero."""
    return int((field > 0).any(0).sum())


def _maps(maps: Tensor, names: list[str], unit: str, height: int) -> go.Figure:
    """Square maps side by side, zeros left empty, each with its name below."""
    side = maps.shape[-1]
    fig = style.figure(height=height)
    for number, (values, name) in enumerate(zip(maps, names, strict=True)):
        left = number * (side + 1)
        fig.add_heatmap(
            x0=left,
            z=values.where(values > 0, torch.nan).numpy(),
            zmin=0,
            zmax=float(maps.max()),
            colorscale=style.SEQUENTIAL,
            xgap=1,
            ygap=1,
            showscale=number == 0,
            colorbar={"title": {"text": unit}, "thickness": 10},
            hovertemplate="%{z:.3g}<extra></extra>",
        )
        outline = {"x0": left - 0.5, "x1": left + side - 0.5, "y0": -0.5, "y1": side - 0.5}
        fig.add_shape(type="rect", **outline, line={"color": style.GRAY, "width": 1})
        fig.add_annotation(x=left + (side - 1) / 2, y=side - 0.3, yanchor="top", text=name, showarrow=False)
    style.image_panel(fig)
    fig.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 56})
    return fig


def _costs(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="variant", y="multiply-adds, G", height=300)
    rest = (r.cost - r.stem_cost).double() / 1e9
    stems = r.stem_cost.double() / 1e9
    faded = [1.0 if variant == p.variant else 0.55 for variant in VARIANTS]
    fig.add_bar(x=VARIANTS, y=stems.numpy(), name="stem", marker={"color": style.ORANGE, "opacity": faded})
    pattern = {"shape": "/"}
    text = [f"{total:.2f}" for total in (r.cost.double() / 1e9).tolist()]
    fig.add_bar(
        x=VARIANTS,
        y=rest.numpy(),
        name="all else",
        text=text,
        textposition="outside",
        marker={"color": style.BLUE, "pattern": pattern, "opacity": faded},
    )
    fig.update_layout(barmode="stack")
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[0, 1.15 * float(r.cost.max()) / 1e9])
    return fig


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
