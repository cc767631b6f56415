r"""Transposed convolution: every input stamps the kernel onto a larger map, and uneven overlaps make a checkerboard.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, Ch. 4; the checkerboard:
Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016. The name "deconvolution" is from
Zeiler and Fergus, ECCV 2014, arXiv:1311.2901.

    \hat x_{is+t-p} \mathrel{+}= y_i\,w_t \quad (0 \le t < k)
    \qquad \hat x = C^{\top} y
    \qquad n' = (n-1)\,s - 2p + k + a

Symbols: $y$ the input with $n$ elements a side, $\hat x$ the output with $n'$; $w$ a kernel of $k$ weights a side, $s$
the stride, $p$ the padding, $a < s$ the output padding; $C$ the matrix of the convolution with the same kernel, stride
and padding. In two dimensions the kernel here is the product of $w$ along rows and along columns, with a sum of $s^2$,
so that the brightness stays the same on average.
"""

from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional as F

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_most, equal, finding, law, style
from demos.kit.data import photograph
from demos.kit.pictures import pictures

TOPIC = "architecture"
LINE, FIELD = 8, 8  # elements a side of the inputs drawn as a line and as a field
PICTURE = 40  # pixels across of the photograph to enlarge


@dataclass(frozen=True)
class Params(Knobs):
    kernel: Annotated[int, Range(1, 7, doc="kernel size k")] = 3
    stride: Annotated[int, Range(1, 4, doc="stride s")] = 2
    padding: Annotated[int, Range(0, 3, doc="padding p, cropped from each side")] = 1
    output_padding: Annotated[
        int, Range(0, 3, when=("stride", (2, 3, 4)), doc="output padding a at the end; s − 1 at most")
    ] = 1
    weights: Annotated[str, Choice("even", "tent", "random", doc="weights w of the kernel")] = "even"
    seed: Seed = 0


PRESETS = {
    "3 over 2: checkerboard": Params(),
    "4 over 2: even": Params(kernel=4, output_padding=0),
    "Even counts, uneven weights": Params(kernel=4, output_padding=0, weights="random"),
    "A tent evens out 3 over 2": Params(weights="tent"),
}

LOOK_FOR = (
    "A row is what one input writes, a column what one output adds up; the columns need not be equally full.",
    "Where s divides k all are equally full. In two dimensions the counts multiply: 1, 2 and 4 for k = 3, s = 2.",
    "Uneven weights make a pattern of period s too. Enlarging first and then convolving never does.",
)


@dataclass(frozen=True)
class Result:
    stamps: Tensor  # (n, L) weight with which each input of a line reaches each output; 0 where it does not
    places: Tensor  # (L,) index of the output; below 0 and from n' on it is cropped
    size: int  # n'
    counts: Tensor  # (L,) how many inputs reach each output
    gain: Tensor  # (L,) their weights added up: the output for an input of ones
    field: Tensor  # (n', n') how many inputs of a square field reach each output
    transposed: Tensor  # (3, H, W) in [0, 1] the photograph enlarged by the transposed convolution
    resized: Tensor  # (3, H, W) in [0, 1] resized, then convolved with the same kernel


def output_size(n: int, k: int, s: int, p: int, a: int = 0) -> int:
    """Elements a side of the output, (n - 1) s - 2 p + k + a (relationships 13 and 14 of the guide)."""
    return (n - 1) * s - 2 * p + k + a


def transposed_convolution(y: Tensor, w: Tensor, s: int, p: int, a: int = 0) -> Tensor:
    """Stamps each element of y (N, C, h, w), times the kernel w (C, D, k, k), onto an output (N, D, h', w')."""
    (batch, _, h, width), (_, channels, k, _) = y.shape, w.shape
    canvas = y.new_zeros(batch, channels, (h - 1) * s + k + a, (width - 1) * s + k + a)
    for row in range(k):
        for column in range(k):
            under = canvas[..., row : row + (h - 1) * s + 1 : s, column : column + (width - 1) * s + 1 : s]
            under += torch.einsum("nchw,cd->ndhw", y, w[..., row, column])
    return canvas[..., p : canvas.shape[-2] - p, p : canvas.shape[-1] - p]


def convolution_over_zeros(y: Tensor, w: Tensor, s: int, p: int, a: int = 0) -> Tensor:
    """The same as a convolution: s - 1 zeros between the elements of y, k - 1 - p around, the kernel flipped."""
    k, (h, width) = w.shape[-1], y.shape[-2:]
    spread = y.new_zeros(*y.shape[:2], (h - 1) * s + 1, (width - 1) * s + 1)
    spread[..., ::s, ::s] = y
    before, after = k - 1 - p, k - 1 - p + a
    return F.conv2d(F.pad(spread, (before, after, before, after)), w.transpose(0, 1).flip(-2, -1))


def reaches(n: int, k: int, s: int, p: int, a: int = 0) -> Tensor:
    """Whether input i of n reaches output j along a line, (n, n') bool."""
    tap = _taps(n, k, s, p, a)
    return (tap >= 0) & (tap < k)


def matrix(w: Tensor, n: int, s: int, p: int, a: int = 0) -> Tensor:
    """C (n, n'): the convolution of a line of n' elements with the kernel w (k,); its transpose is the method."""
    k = len(w)
    return torch.where(reaches(n, k, s, p, a), w[_taps(n, k, s, p, a).clamp(0, k - 1)], 0.0)


def _taps(n: int, k: int, s: int, p: int, a: int) -> Tensor:
    """Which weight of the kernel joins input i to output j, (n, n'); none where it is not 0 to k - 1."""
    return torch.arange(output_size(n, k, s, p, a)) + p - s * torch.arange(n)[:, None]


def interior(n: int, k: int, s: int) -> slice:
    """The places of an uncropped line that no further input would reach, had it more of them at either end."""
    return slice(max(0, k - s), n * s)


def resize_then_convolve(y: Tensor, w: Tensor, s: int) -> Tensor:
    """Each element of y (N, C, h, w) repeated s times a side, then convolved with w (D, C, k, k): (N, D, s h, s w)."""
    k = w.shape[-1]
    large = y.repeat_interleave(s, -2).repeat_interleave(s, -1)
    before, after = (k - 1) // 2, k // 2
    return F.conv2d(F.pad(large, (before, after, before, after), mode="replicate"), w)


def line_kernel(kind: str, k: int, s: int, generator: torch.Generator) -> Tensor:
    """Weights (k,), float64, not negative, with a sum of s: all alike, falling linearly to the ends, or random."""
    if kind == "random":
        w = torch.rand(k, dtype=torch.float64, generator=generator)
    elif kind == "tent":
        w = 1 - (torch.arange(k, dtype=torch.float64) - (k - 1) / 2).abs() / ((k + 1) / 2)
    else:
        w = torch.ones(k, dtype=torch.float64)
    return w * (s / w.sum())


def run(p: Params) -> Result:
    k, s, pad, a = _arithmetic(p)
    w = line_kernel(p.weights, k, s, _seeded(p.seed))
    # Uncropped, so that the figure can show what padding takes away.
    written, stamps = reaches(LINE, k, s, 0, a), matrix(w, LINE, s, 0, a)
    along = reaches(FIELD, k, s, pad, a).sum(0)

    picture = photograph("flower", PICTURE)[:, None].double()
    square = torch.outer(w, w)[None, None]
    large = transposed_convolution(picture, square, s, pad, a)
    resized = resize_then_convolve(picture, square / s**2, s)
    height, width = (min(sizes) for sizes in zip(large.shape[-2:], resized.shape[-2:], strict=True))
    brightest = max(1.0, float(stamps.sum(0).max()) ** 2)
    return Result(
        stamps=stamps,
        places=torch.arange(stamps.shape[1]) - pad,
        size=output_size(LINE, k, s, pad, a),
        counts=written.sum(0),
        gain=stamps.sum(0),
        field=torch.outer(along, along),
        transposed=(_middle(large, height, width)[:, 0] / brightest).clamp(0, 1),
        resized=(_middle(resized, height, width)[:, 0] / brightest).clamp(0, 1),
    )


def _arithmetic(p: Params) -> tuple[int, int, int, int]:
    """k, s, p and a; an output padding of s or more would belong to a larger input."""
    return p.kernel, p.stride, p.padding, min(p.output_padding, p.stride - 1)


def _middle(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def readings(p: Params, r: Result) -> dict[str, str | float]:
    k, s, pad, a = _arithmetic(p)
    inside = interior(LINE, k, s)
    counts, gain = r.counts[inside], r.gain[inside]
    return {
        "Output size": f"({LINE} − 1)·{s} − 2·{pad} + {k} + {a} = {r.size}",
        "s divides k": "yes" if k % s == 0 else "no",
        "Stamps per output": _span(counts),
        "Brightness of a flat input": _span(gain),
    }


def _span(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if high - low < 1e-9 else f"{low:.3g} to {high:.3g}"


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    dimmed = float(r.gain.max()) > 1
    return {
        f"Each of {LINE} inputs stamps its kernel; added up below. Shaded ends are cropped by the padding.": _line(r),
        "In two dimensions: how many inputs reach each output.": _field(r),
        "A photograph enlarged by the two ways" + (", both dimmed alike." if dimmed else "."): pictures(
            [r.transposed, r.resized], names=["transposed convolution", "resized, then convolved"], height=260
        ),
    }


def _line(r: Result) -> go.Figure:
    fig = style.figure(x="output", y="input", height=420)
    # Two panels over one x axis; plotly's own make_subplots takes ten times as long.
    below = {"domain": [0, 0.34], "title": {"text": "at this output"}, "rangemode": "tozero", "anchor": "x"}
    left, right = float(r.places[0]) - 0.5, float(r.places[-1]) + 0.5
    fig.update_layout(
        yaxis={"domain": [0.4, 1], "autorange": "reversed"},
        yaxis2=below,
        xaxis={"anchor": "y2", "range": [left, right]},
        bargap=0.15,
    )
    places = r.places.numpy()
    fig.add_heatmap(
        x=places,
        y=list(range(1, LINE + 1)),
        z=r.stamps.where(r.stamps > 0, torch.nan).numpy(),  # empty, not dark, where nothing is written
        zmin=0,
        zmax=float(r.stamps.max()),
        colorscale=style.SEQUENTIAL,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "weight"}, "thickness": 10, "len": 0.6, "y": 0.7},
        hovertemplate="input %{y} → output %{x}: %{z:.3g}<extra></extra>",
    )
    fig.add_bar(x=places, y=r.counts.numpy(), name="stamps", marker={"color": style.BLUE}, showlegend=True, yaxis="y2")
    fig.add_scatter(
        x=places,
        y=r.gain.numpy(),
        name="their sum, for inputs of 1",
        mode="lines+markers",
        line={"color": style.ORANGE, "dash": "dot"},
        marker={"symbol": "diamond", "size": 7},
        yaxis="y2",
    )
    for start, end in ((left, -0.5), (r.size - 0.5, right)):
        if start < end:
            shade = {"type": "rect", "x0": start, "x1": end, "y0": 0, "y1": 1, "yref": "paper", "line": {"width": 0}}
            fig.add_shape(shade, fillcolor=style.GRAY, opacity=0.3)
    return fig


def _field(r: Result) -> go.Figure:
    fig = style.figure(height=340)
    most = int(r.field.max())
    fig.add_heatmap(
        z=r.field.numpy(),
        zmin=0,
        zmax=most,
        colorscale=style.SEQUENTIAL,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "stamps"}, "thickness": 10, "dtick": max(1, most // 4)},
        hovertemplate="row %{y}, column %{x}: %{z} stamps<extra></extra>",
    )
    return style.image_panel(fig)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _problem(p: Params) -> tuple[Tensor, Tensor]:
    """An input (2, 3, 4, 5) and a kernel (3, 2, k, k), random, float64."""
    generator = _seeded(p.seed)
    y = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=generator)
    return y, torch.randn(3, 2, p.kernel, p.kernel, dtype=torch.float64, generator=generator)


@law("It is the adjoint of the convolution: ⟨Cx, y⟩ = ⟨x, Cᵀy⟩ for all x and y.", source="Sec. 4.2 of the guide")
def adjoint_of_the_convolution(p: Params) -> Evidence:
    _, s, pad, a = _arithmetic(p)
    y, w = _problem(p)
    back = transposed_convolution(y, w, s, pad, a)
    x = torch.randn(back.shape, dtype=torch.float64, generator=_seeded(p.seed + 1))
    # To conv2d the first axis of a kernel is what comes out, to its transpose what goes in.
    forward = F.conv2d(x, w, stride=s, padding=pad)
    return at_most(
        ((forward * y).sum() - (x * back).sum()).abs() / (x.norm() * back.norm()),
        0.0,
        1e-13,
        why="float64 rounding of sums of at most 4,000 products",
        quantity="|⟨Cx, y⟩ − ⟨x, Cᵀy⟩| over the norms, torch's convolution against the stamps",
    )


@law(
    "Stamping, the transposed matrix and a convolution over inserted zeros are one.",
    source="Secs. 4.1 to 4.6 of the guide",
)
def three_forms_agree(p: Params) -> Evidence:
    _, s, pad, a = _arithmetic(p)
    y, w = _problem(p)
    stamped = transposed_convolution(y, w, s, pad, a)
    over_zeros = convolution_over_zeros(y, w, s, pad, a)
    down, across = (torch.randn(p.kernel, dtype=torch.float64, generator=_seeded(p.seed + i)) for i in (1, 2))
    by_matrix = matrix(down, 4, s, pad, a).T @ y[0, 0] @ matrix(across, 5, s, pad, a)
    product = transposed_convolution(y[:1, :1], torch.outer(down, across)[None, None], s, pad, a)[0, 0]
    return at_most(
        max((stamped - over_zeros).abs().max(), (by_matrix - product).abs().max()),
        0.0,
        1e-12,
        why="float64 rounding of sums of at most 150 products of standard normal numbers",
        quantity="largest difference of an output",
    )


@law("The output has (n − 1)s − 2p + k + a elements a side.", source="relationships 13 and 14 of the guide")
def size_formula(p: Params) -> Evidence:
    k, s, pad, a = _arithmetic(p)
    sizes = range(7, 17)
    w = torch.ones(1, 1, k, k)
    made = [F.conv_transpose2d(torch.ones(1, 1, n, n), w, None, s, pad, a).shape[-1] for n in sizes]
    return at_most(
        max(abs(output_size(n, k, s, pad, a) - size) for n, size in zip(sizes, made, strict=True)),
        0,
        why="exact: whole numbers",
        quantity="largest difference to the size of torch's output, n = 7 to 16",
    )


@law("The overlap is uniform exactly where the stride divides the kernel.", source="Odena et al. 2016")
def overlap_is_uniform_if_the_stride_divides_the_kernel(p: Params) -> Evidence:
    k, s, _, _ = _arithmetic(p)
    n = 16
    canvas = transposed_convolution(torch.ones(1, 1, n, n), torch.ones(1, 1, k, k), s, 0, s - 1)[0, 0]
    inside = interior(n, k, s)
    along = canvas[inside, inside]
    few, many = k // s, -(-k // s)
    return equal(
        along.max() - along.min(),
        many**2 - few**2,
        0,
        why="exact: counts; the reference is 0 exactly where s divides k",
        quantity="most less fewest stamps of an output inside a 16 × 16 field, against ⌈k/s⌉² − ⌊k/s⌋²",
    )


@law("Resizing and then convolving leaves a flat input flat: no checkerboard.", source="Odena et al. 2016")
def resized_is_flat(p: Params) -> Evidence:
    w = line_kernel(p.weights, p.kernel, p.stride, _seeded(p.seed))
    flat = resize_then_convolve(torch.ones(1, 1, 6, 6).double(), torch.outer(w, w)[None, None], p.stride)
    return at_most(
        flat.max() / flat.min() - 1,
        0.0,
        1e-12,
        why="float64 rounding of a sum of 49 weights",
        quantity="brightest over darkest output, less 1",
    )


@finding("It restores the size, not the values: of 36 dimensions 27 are lost.", source="definition")
def not_an_inverse() -> Evidence:
    ranks = []
    for seed in range(5):
        w = torch.randn(1, 1, 3, 3, dtype=torch.float64, generator=_seeded(seed))
        basis = torch.eye(36, dtype=torch.float64).reshape(36, 1, 6, 6)
        there_and_back = transposed_convolution(F.conv2d(basis, w, stride=2, padding=1), w, 2, 1, 1)
        ranks.append(int(torch.linalg.matrix_rank(there_and_back.reshape(36, 36))))
    return equal(
        max(ranks),
        9,
        0,
        why="exact: the convolution of a 6 × 6 map has 9 outputs; random kernels, seeds 0 to 4",
        quantity="largest rank of CᵀC for 6 × 6 maps, k = 3, s = 2, p = 1",
    )
