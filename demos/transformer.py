r"""Transformer block: attention passes word between positions, all else works on each alone.

Vaswani et al., "Attention Is All You Need", NIPS 2017, arXiv:1706.03762, Sec. 3; the order of norm and residual after
Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020, arXiv:2002.04745.

    \mathrm{post:}\ \ y=\mathrm{LN}(x+\mathrm{Att}(x)),\ \ z=\mathrm{LN}(y+\mathrm{FFN}(y))
    \qquad \mathrm{pre:}\ \ y=x+\mathrm{Att}(\mathrm{LN}(x)),\ \ z=y+\mathrm{FFN}(\mathrm{LN}(y))

    \mathrm{FFN}(x)=\max(0,\,xW_1+b_1)\,W_2+b_2
    \qquad P_{t,2i}=\sin(\omega_i t),\ \ P_{t,2i+1}=\cos(\omega_i t),\ \ \omega_i=10000^{-2i/d}

Symbols: $x$ a sequence of $n$ vectors, $d$ wide; Att multi-head attention; LN layer normalization of each vector by
itself; $d_{ff}$ the hidden width of FFN; $P_t$ the encoding of position $t$, added to the words before the first block.
Words and weights are random: nothing is trained, and what is shown holds of any weights.
"""

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import (
    Choice,
    Evidence,
    Knobs,
    Range,
    Seed,
    Toggle,
    at_least,
    at_most,
    equal,
    finding,
    law,
    more_than,
    style,
)

TOPIC = "architecture"
PARTS = ("residual", "layer norm", "feed-forward", "attention", "whole block")
ORDERS = ("post", "pre")
FAINT = -3.0  # log10 of the smallest change that the picture tells from a smaller one
DIALS = 4


@dataclass(frozen=True)
class Params(Knobs):
    length: Annotated[int, Range(4, 64, doc="words n")] = 24
    width: Annotated[str, Choice("16", "32", "64", "128", doc="width d")] = "64"
    heads: Annotated[str, Choice("1", "2", "4", "8", doc="heads of the attention")] = "4"
    expansion: Annotated[int, Range(1, 8, doc="hidden width of the feed-forward net, d_ff / d")] = 4
    norm: Annotated[str, Choice(*ORDERS, doc="layer norm: after the sum (post) or inside the branch (pre)")] = "post"
    positions: Annotated[bool, Toggle(doc="add the sinusoidal positions")] = True
    replaced: Annotated[int, Range(1, 64, doc="word that is replaced, by its place t (at most n)")] = 8
    shift: Annotated[int, Range(0, 64, doc="shift k from t to t + k")] = 4
    layers: Annotated[int, Range(1, 24, doc="blocks stacked")] = 12
    seed: Seed = 0


PRESETS = {
    "No positions: a bag of words": Params(positions=False),
    "Pre-norm: the stream grows": Params(norm="pre", layers=24),
    "A long shift, seen on four clocks": Params(length=64, replaced=20, shift=40),
}

LOOK_FOR = (
    "Replace one word: norm, residual and feed-forward net change that place alone; attention tells all others.",
    "Move t: on each clock both hands turn together, the angle between them depends on the shift k only.",
    "Without positions, shuffled words give the same outputs, shuffled: the last reading falls to rounding.",
)


@dataclass(frozen=True)
class Result:
    spread: Tensor  # (5, n) of each of the PARTS: length of the change at each place over that of the replaced word
    place: int  # of the replaced word, from 0
    shuffled: float  # largest difference of an output when the words are shuffled and the outputs put back
    hands: Tensor  # (4, 2, 2) of some of the faster pairs of the encoding: at t and at t + k, as (sin, cos)
    frequencies: Tensor  # (4,) of those pairs, radians a step
    similarity: Tensor  # (n, n) dot product of two positions' encodings, over d / 2
    stream: Tensor  # (2, layers + 1) root mean square after each block; post, then pre


class Block(NamedTuple):
    """Weights of one block, rows in and columns out: attention, feed-forward net, gain and shift of both norms."""

    w_qkv: Tensor  # (d, 3 d)
    b_qkv: Tensor  # (3 d,)
    w_o: Tensor  # (d, d)
    b_o: Tensor  # (d,)
    w_1: Tensor  # (d, d_ff)
    b_1: Tensor  # (d_ff,)
    w_2: Tensor  # (d_ff, d)
    b_2: Tensor  # (d,)
    gain_1: Tensor  # (d,)
    shift_1: Tensor  # (d,)
    gain_2: Tensor  # (d,)
    shift_2: Tensor  # (d,)


def draw_block(d: int, d_ff: int, generator: torch.Generator) -> Block:
    """A block of random weights that keep the variance; biases of 0.1, gains around 1, so that none goes unnoticed."""

    def normal(*shape: int, size: float) -> Tensor:
        return size * torch.randn(*shape, dtype=torch.float64, generator=generator)

    matrices = [(d, 3 * d), (d, d), (d, d_ff), (d_ff, d)]
    affine = [
        part
        for rows, columns in matrices
        for part in (normal(rows, columns, size=rows**-0.5), normal(columns, size=0.1))
    ]
    norms = [part for _ in range(2) for part in (1 + normal(d, size=0.1), normal(d, size=0.1))]
    return Block(*affine, *norms)


def layer_norm(x: Tensor, gain: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """Each vector of x (..., d) brought to mean 0 and variance 1 over its d entries, then scaled and shifted (d,)."""
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt() * gain + shift


def feed_forward(x: Tensor, w: Block) -> Tensor:
    """max(0, x W_1 + b_1) W_2 + b_2 of vectors (..., d) (eq. 2)."""
    return (x @ w.w_1 + w.b_1).clamp(min=0) @ w.w_2 + w.b_2


def self_attention(x: Tensor, w: Block, heads: int) -> Tensor:
    """Multi-head self-attention of x (n, d), every position on every one (Sec. 3.2)."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in (x @ w.w_qkv + w.b_qkv).chunk(3, -1))
    mixed = nn.functional.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(0, 1).flatten(1) @ w.w_o + w.b_o


def block(x: Tensor, w: Block, heads: int, norm: str = "post") -> Tensor:
    """One encoder block of x (n, d): norm "post" as in Sec. 3.1, "pre" as in Xiong et al."""
    if norm == "post":
        y = layer_norm(x + self_attention(x, w, heads), w.gain_1, w.shift_1)
        return layer_norm(y + feed_forward(y, w), w.gain_2, w.shift_2)
    y = x + self_attention(layer_norm(x, w.gain_1, w.shift_1), w, heads)
    return y + feed_forward(layer_norm(y, w.gain_2, w.shift_2), w)


def frequencies(d: int) -> Tensor:
    """10000^(-2i/d), (d / 2,): radians that pair i turns from one position to the next."""
    return 10_000 ** -(torch.arange(0, d, 2, dtype=torch.float64) / d)


def positions(n: int, d: int, *, start: int = 0) -> Tensor:
    """Encodings (n, d) of positions start, start + 1, ...: sine and cosine by turns (Sec. 3.5)."""
    angle = torch.arange(start, start + n, dtype=torch.float64)[:, None] * frequencies(d)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def shift_matrix(shift: int, d: int) -> Tensor:
    """The matrix M (d, d) that moves every encoding on, P[t + shift] = P[t] M: a rotation of each pair."""
    sine, cosine = (shift * frequencies(d)).sin(), (shift * frequencies(d)).cos()
    turns = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    return torch.block_diag(*turns)


def parameter_count(d: int, d_ff: int) -> int:
    """Parameters of one block: attention 4 d^2 + 4 d, feed-forward net 2 d d_ff + d_ff + d, two norms 4 d."""
    return (4 * d * d + 4 * d) + (2 * d * d_ff + d_ff + d) + 4 * d


def run(p: Params) -> Result:
    d, heads = int(p.width), int(p.heads)
    x, new, blocks, order = _inputs(p, p.layers)
    first, place = blocks[0], min(p.replaced, p.length) - 1
    changed = x.clone()
    changed[place] += new
    parts = {
        "residual": lambda x: x,
        "layer norm": lambda x: layer_norm(x, first.gain_1, first.shift_1),
        "feed-forward": lambda x: feed_forward(x, first),
        "attention": lambda x: self_attention(x, first, heads),
        "whole block": lambda x: block(x, first, heads, p.norm),
    }
    spread = [(parts[name](changed) - parts[name](x)).norm(dim=-1) / new.norm() for name in PARTS]
    stream = torch.empty(2, p.layers + 1, dtype=x.dtype)
    for row, norm in enumerate(ORDERS):
        y = x
        for depth in range(p.layers + 1):
            stream[row, depth] = y.square().mean().sqrt()
            if depth < p.layers:
                y = block(y, blocks[depth], heads, norm)
    encoding = positions(p.length, d)
    pairs = torch.arange(DIALS) * (d // 16)
    hands = torch.cat([positions(1, d, start=place + 1 + k) for k in (0, p.shift)]).unflatten(1, (d // 2, 2))
    return Result(
        spread=torch.stack(spread),
        place=place,
        shuffled=_difference_when_shuffled(p, x, first, order),
        hands=hands[:, pairs].transpose(0, 1),
        frequencies=frequencies(d)[pairs],
        similarity=encoding @ encoding.T / (d / 2),
        stream=stream,
    )


def _inputs(p: Params, layers: int = 1) -> tuple[Tensor, Tensor, list[Block], Tensor]:
    """Words with their positions if asked for (n, d), what replacing one adds (d,), blocks, and an order (n,)."""
    generator = torch.Generator().manual_seed(p.seed)
    d = int(p.width)
    order = torch.randperm(p.length, generator=generator)
    new, *words = torch.randn(1 + p.length, d, dtype=torch.float64, generator=generator)
    x = torch.stack(words)
    blocks = [draw_block(d, p.expansion * d, generator) for _ in range(layers)]
    return (x + positions(p.length, d) if p.positions else x), new, blocks, order


def _difference_when_shuffled(p: Params, x: Tensor, w: Block, order: Tensor) -> float:
    """Largest difference between the outputs of shuffled words and the shuffled outputs; positions stay in place."""
    fixed = positions(p.length, int(p.width)) if p.positions else torch.zeros_like(x)
    shuffled = (x - fixed)[order] + fixed
    before, after = (block(each, w, int(p.heads), p.norm) for each in (x, shuffled))
    return float((before[order] - after).abs().max())


def readings(p: Params, r: Result) -> dict[str, str | float]:
    d = int(p.width)
    others = torch.arange(p.length) != r.place
    return {
        "Parameters of a block": parameter_count(d, p.expansion * d),
        "Largest change elsewhere, feed-forward": float(r.spread[PARTS.index("feed-forward"), others].max()),
        "Largest change elsewhere, attention": float(r.spread[PARTS.index("attention"), others].max()),
        "RMS after the last block": float(r.stream[ORDERS.index(p.norm), -1]),
        "Change of an output when words are shuffled": r.shuffled,
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "One word is replaced. Bright: changed a lot, dark: a little, blank: not at all. Only attention spreads it.": (
            _spread(r)
        ),
        f"{DIALS} of the {int(p.width) // 2} hands that tell a position: from any t, a shift by k turns each by ω k.": (
            _clocks(p, r)
        ),
        "How alike two positions are: it depends on their distance only, hence the stripes along the diagonal.": (
            _similarity(r)
        ),
        f"Through {p.layers} blocks: post-norm resets the stream each time, pre-norm lets it grow.": _stream(p, r),
    }


def _spread(r: Result) -> go.Figure:
    fig = style.figure(x="place of the word", height=260)
    fig.add_heatmap(
        x0=1,
        z=r.spread.log10().masked_fill(r.spread == 0, math.nan).numpy(),
        y=PARTS,
        zmin=FAINT,
        zmax=0.0,
        colorscale=style.SEQUENTIAL,
        showscale=False,
        xgap=1,
        ygap=3,
        customdata=r.spread.numpy(),
        hovertemplate="%{y}, place %{x}: %{customdata:.2g} of the change<extra></extra>",
    )
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False)
    fig.update_xaxes(showgrid=False)
    fig.update_layout(margin={"l": 92})
    return fig


def _clocks(p: Params, r: Result) -> go.Figure:
    fig = style.figure(height=300)
    looks = ((f"t = {r.place + 1}", style.BLUE, "solid"), (f"t + k = {r.place + 1 + p.shift}", style.ORANGE, "dot"))
    for dial, frequency in enumerate(r.frequencies.tolist()):
        across, down = 2.5 * (dial % 2), -2.9 * (dial // 2)
        circle = {"type": "circle", "line": {"color": style.GRAY, "width": 1}}
        fig.add_shape(x0=across - 1, x1=across + 1, y0=down - 1, y1=down + 1, **circle)
        fig.add_annotation(x=across, y=down - 1, text=f"ω = {frequency:.2g}", showarrow=False, yanchor="top")
        for (name, color, dash), (sine, cosine) in zip(looks, r.hands[dial].tolist(), strict=True):
            fig.add_scatter(
                x=[across, across + sine],
                y=[down, down + cosine],
                mode="lines+markers",
                name=name,
                showlegend=dial == 0,
                line={"color": color, "dash": dash, "width": 3},
                marker={"color": color, "size": [0, 8]},
                hovertemplate="sin %{customdata[0]:.3f}, cos %{customdata[1]:.3f}<extra></extra>",
                customdata=[[sine, cosine]] * 2,
            )
    fig.update_xaxes(visible=False, range=[-1.3, 3.8])
    fig.update_yaxes(visible=False, range=[-4.5, 1.2], scaleanchor="x")
    fig.update_layout(margin={"l": 8, "r": 8, "b": 8}, height=400)
    return fig


def _similarity(r: Result) -> go.Figure:
    fig = style.figure(x="position", y="position", height=380)
    fig.add_heatmap(
        x0=1,
        y0=1,
        z=r.similarity.numpy(),
        zmin=-1,
        zmax=1,
        colorscale=style.DIVERGING,
        colorbar={"thickness": 10, "tickvals": [-1, 0, 1]},
        hovertemplate="positions %{y} and %{x}: %{z:.2f}<extra></extra>",
    )
    fig.update_xaxes(constrain="domain", showgrid=False)
    fig.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain", showgrid=False)
    return fig


def _stream(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="blocks passed", y="root mean square")
    for norm, color, dash, values in zip(ORDERS, (style.BLUE, style.ORANGE), ("solid", "dash"), r.stream, strict=True):
        line = {"color": color, "dash": dash, "width": 4 if norm == p.norm else 2}
        fig.add_scatter(x0=0, y=values.numpy(), mode="lines+markers", name=f"{norm}-norm", line=line)
    fig.update_yaxes(rangemode="tozero")
    return fig


@law("The feed-forward net acts on each position alone: the others' outputs do not change at all.", source="Sec. 3.3")
def feed_forward_acts_alone(p: Params) -> Evidence:
    x, new, (w,), _ = _inputs(p)
    place = min(p.replaced, p.length) - 1
    changed = x.clone()
    changed[place] += new
    difference = (feed_forward(changed, w) - feed_forward(x, w)).abs().amax(-1)
    others = torch.arange(p.length) != place
    alone = (feed_forward(x[place], w) - feed_forward(x, w)[place]).abs().max()
    return at_most(
        max(float(difference[others].max()), float(alone)),
        0.0,
        1e-12,
        why="float64 rounding: alone, a vector's products may be summed in another order",
        quantity="largest change of another position, and of one position fed alone",
    )


@law(
    "Without positions the block does not know the order: shuffled words give the outputs shuffled.", source="Sec. 3.5"
)
def equivariant_without_positions(p: Params) -> Evidence:
    bare = p.but(positions=False)
    x, _, (w,), order = _inputs(bare)
    return at_most(
        _difference_when_shuffled(bare, x, w, order),
        0.0,
        1e-11,
        why="float64 rounding: the sums over positions run in another order",
        quantity="largest difference of an output",
    )


@law("Moving on by k is one rotation, the same for every position: P(t + k) = P(t) M.", source="Sec. 3.5")
def shift_is_a_rotation(p: Params) -> Evidence:
    d = int(p.width)
    matrix = shift_matrix(p.shift, d)
    moved = (positions(p.length, d) @ matrix - positions(p.length, d, start=p.shift)).abs().max()
    orthogonal = (matrix @ matrix.T - torch.eye(d, dtype=matrix.dtype)).abs().max()
    return at_most(
        max(float(moved), float(orthogonal)),
        0.0,
        1e-13,
        why="float64 rounding of sines of angles up to 128",
        quantity="largest |P(t) M − P(t + k)| over all t, and of |M Mᵀ − I|",
    )


@law("The likeness of two positions is Σ cos(ω (s − t)): it depends on their distance only.", source="derived")
def likeness_depends_on_distance(p: Params) -> Evidence:
    at = torch.arange(p.length, dtype=torch.float64)
    distance = at[:, None] - at
    expected = (distance[..., None] * frequencies(int(p.width))).cos().mean(-1)
    return at_most(
        (run(p.but(layers=1)).similarity - expected).abs().max(),
        0.0,
        1e-13,
        why="float64 rounding of sums of at most 128 terms",
        quantity="largest difference of a dot product of encodings, over d / 2, from the mean of the cosines",
    )


@law("The block gives what torch's TransformerEncoderLayer gives with the same weights.", source="Sec. 3.1")
def agrees_with_torch(p: Params) -> Evidence:
    x, _, (w,), _ = _inputs(p)
    theirs = _torch_layer(p, w)
    with torch.no_grad():
        expected = theirs(x[None])[0]
    return at_most(
        (block(x, w, int(p.heads), p.norm) - expected).abs().max(),
        0.0,
        1e-11,
        why="float64 rounding of sums of at most 1,024 terms",
        quantity="largest difference of an output, norm and heads as chosen",
    )


def _torch_layer(p: Params, w: Block) -> nn.TransformerEncoderLayer:
    d = int(p.width)
    layer = nn.utils.skip_init(
        nn.TransformerEncoderLayer,
        d,
        int(p.heads),
        p.expansion * d,
        dropout=0.0,
        norm_first=p.norm == "pre",
        batch_first=True,
        dtype=torch.float64,
    )
    # Both list attention, feed-forward net and norms in this order; torch keeps its matrices transposed.
    with torch.no_grad():
        for theirs, ours in zip(layer.parameters(), w, strict=True):
            theirs.copy_(ours.T if ours.dim() == 2 else ours)
    return layer


@law("A block has 4d² + 4d + 2 d d_ff + d_ff + d + 4d parameters.", source="Sec. 3; counted on torch's module")
def parameters_follow_the_formula(p: Params) -> Evidence:
    d = int(p.width)
    layer = nn.TransformerEncoderLayer(d, int(p.heads), p.expansion * d, device="meta")
    return equal(
        parameter_count(d, p.expansion * d),
        sum(weight.numel() for weight in layer.parameters()),
        0.0,
        why="exact: a count",
        quantity="parameters by the formula, against those of torch's layer",
    )


@finding("In the base model the feed-forward net holds two thirds of a block's parameters.", source="Tab. 3, base")
def feed_forward_holds_two_thirds() -> Evidence:
    layer = nn.TransformerEncoderLayer(512, 8, 2048, device="meta")
    inner = sum(weight.numel() for part in (layer.linear1, layer.linear2) for weight in part.parameters())
    return equal(
        inner / sum(weight.numel() for weight in layer.parameters()),
        2 / 3,
        0.001,
        why="without biases and norms it is 8 d² of 12 d²; those are a thousandth of the block",
        quantity="2,099,712 of 3,152,384 parameters, counted on torch's layer",
    )


@finding("With positions the order counts: shuffled words change the outputs.", source="Sec. 3.5")
def positions_make_the_order_count() -> Evidence:
    shuffled = [run(Params(seed=seed, layers=1)).shuffled for seed in range(3)]
    return more_than(
        min(shuffled),
        0.1,
        why="outputs are of size 1; without positions the same number is rounding, below 1e-11",
        quantity="largest change of an output, least of seeds 0 to 2",
    )


@finding(
    "Pre-norm lets the stream grow with depth; post-norm brings it back to 1 in every block.",
    source="Xiong et al. 2020, Sec. 3",
)
def pre_norm_grows() -> Evidence:
    streams = torch.stack([run(Params(seed=seed, layers=24)).stream for seed in range(3)])
    post, pre = streams[:, :, -1].unbind(1)
    return at_least(
        (pre / post).min(),
        math.sqrt(24) / 2,
        why="each block adds about one to the variance, so that √24 is expected; half leaves room for gains and biases",
        quantity="root mean square after 24 blocks, pre- over post-norm, least of seeds 0 to 2",
    )
