r"""Attention: every word looks up the others by dot product and takes a weighted mean of what they offer.

Vaswani et al., "Attention Is All You Need", NIPS 2017, arXiv:1706.03762, Sec. 3.2; the note on the variance of a dot
product is its footnote 4.

    \mathrm{Attention}(Q,K,V)=\mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right)V
    \qquad \mathrm{head}_i=\mathrm{Attention}(XW_i^Q,\,XW_i^K,\,XW_i^V)

Symbols: $X$ the embeddings of $n$ words, one a row, drawn at random but equal for equal words; $Q$, $K$, $V$ the
queries, keys and values of one head, $d_k$ wide; $h$ heads side by side make the width $h\,d_k$, and $W^O$ mixes them.
Nothing is trained: $W^K=\rho\,W^Q+\sqrt{1-\rho^2}\,W'$ with $W'$ random, so that for $\rho>0$ a word looks for words
like itself and for $\rho=0$ for nothing in particular. There are no positions: words are known by what they are alone.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated, NamedTuple

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor, nn

from demos.kit import (
    Evidence,
    Knobs,
    Range,
    Seed,
    Text,
    Toggle,
    at_most,
    equal,
    falling,
    finding,
    law,
    less_than,
    more_than,
    style,
)

TOPIC = "architecture"
WORDS, PAD = 12, "[pad]"
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # the d_k of the curves
KEYS = 10  # that a random query of the curves meets


def words(text: str) -> tuple[str, ...]:
    """The words of a text, 2 to 12 of at most 12 letters; ValueError otherwise."""
    found = tuple(text.split())
    if not 2 <= len(found) <= WORDS:
        raise ValueError(f"it has {len(found)} words, not 2 to {WORDS}")
    if max(map(len, found)) > 12:
        raise ValueError("a word has more than 12 letters")
    return found


@dataclass(frozen=True)
class Params(Knobs):
    text: Annotated[
        str,
        Text(
            kind=f"2 to {WORDS} words of at most 12 letters, with spaces between, a text",
            parse=words,
            legal=("cat dog", "a rose is a rose is a rose", "one two three four five six seven eight nine ten 11 12"),
            wrong=("alone", "a b c d e f g h i j k l m", "incomprehensibilities abound"),
            doc="words to attend over",
        ),
    ] = "the cat saw the dog and the dog ran"
    heads: Annotated[int, Range(1, 8, doc="heads h")] = 4
    width: Annotated[int, Range(1, 128, log=True, doc="width of a head d_k")] = 64
    scaled: Annotated[bool, Toggle(doc="divide the scores by √d_k")] = True
    match: Annotated[float, Range(0, 1, step=0.05, doc="ρ: how far keys are projected as queries are")] = 0.4
    causal: Annotated[bool, Toggle(doc="causal mask: no word sees a later one")] = False
    padding: Annotated[int, Range(0, 4, doc="padding in front, which no word sees")] = 0
    head: Annotated[int, Range(1, 8, view=True, doc="head of the bars (at most h)")] = 1
    query: Annotated[int, Range(1, WORDS + 4, view=True, doc="word that asks, by its place (at most n)")] = 3
    seed: Seed = 0


PRESETS = {
    "No scaling: all or nothing": Params(scaled=False),
    "Causal: no look ahead": Params(causal=True, query=8),
    "Padding: zeros, not NaN": Params(causal=True, padding=2, query=1),
    "ρ = 0: nothing learned yet": Params(match=0.0),
}

LOOK_FOR = (
    "Each row shares out one unit of weight; with ρ > 0 a word finds its repeats, wherever they stand.",
    "Turn √d_k off: the same scores become all or nothing, and a softmax that is sure has no gradient left.",
    "A mask blanks cells; a row with nothing left to see, as padding under a causal mask, returns zeros.",
)


@dataclass(frozen=True)
class Result:
    tokens: tuple[str, ...]  # (n,)
    mask: Tensor  # (n, n) bool, True where query (row) sees key (column)
    weights: Tensor  # (h, n, n) attention weights as asked for
    with_scaling: Tensor  # (h, n, n) the same with the division by sqrt(d_k)
    without_scaling: Tensor  # (h, n, n) and without
    output: Tensor  # (n, h d_k)
    entropy: Tensor  # (h, n) of each row of weights, nats
    curve_entropy: Tensor  # (2, 10) mean entropy of random weights over WIDTHS, nats; with scaling, then without
    curve_slope: Tensor  # (2, 10) mean Frobenius norm of the softmax's Jacobian there


class Projections(NamedTuple):
    """The matrices (d, d) of multi-head attention, rows in, columns out; a head owns d_k columns of the first three."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor


def attention_weights(q: Tensor, k: Tensor, mask: Tensor, *, scaled: bool = True) -> Tensor:
    """Weights (..., n, m) of queries (..., n, d_k) on keys (..., m, d_k), eq. (1).

    A query sees the keys where the mask (n, m) is True; one that sees none gets zeros.
    """
    scores = q @ k.mT
    if scaled:
        scores = scores / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~mask, -math.inf)
    # A row of -inf alone would be NaN: -inf - -inf, then 0 / 0.
    highest = scores.amax(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).min)
    powers = (scores - highest).exp()
    return powers / powers.sum(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(n, h d_k) -> (h, n, d_k)."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def multi_head(x: Tensor, w: Projections, heads: int, mask: Tensor, *, scaled: bool = True) -> tuple[Tensor, Tensor]:
    """Self-attention of x (n, d): the output (n, d) and each head's weights (h, n, n) (Sec. 3.2.2)."""
    q, k, v = (split_heads(x @ matrix, heads) for matrix in (w.q, w.k, w.v))
    weights = attention_weights(q, k, mask, scaled=scaled)
    joined = (weights @ v).transpose(0, 1).flatten(1)
    return joined @ w.o, weights


def visible(n: int, *, causal: bool, padding: int) -> Tensor:
    """Mask (n, n), True where row sees column: not the first `padding` columns and, if causal, none after its own."""
    mask = torch.ones(n, n, dtype=torch.bool)
    mask[:, :padding] = False
    return mask.tril() if causal else mask


def entropy(weights: Tensor) -> Tensor:
    """Entropy (...) in nats of weights (..., m)."""
    return -torch.xlogy(weights, weights).sum(-1)


def softmax_slope(weights: Tensor) -> Tensor:
    """How much gradient a softmax lets by: Frobenius norm (...) of its Jacobian diag(w) - w w^T at weights (..., m)."""
    square, cube = weights.square().sum(-1), weights.pow(3).sum(-1)
    return (square - 2 * cube + square.square()).clamp(min=0).sqrt()


def random_scores(widths: tuple[int, ...], count: int, keys: int, generator: torch.Generator) -> Tensor:
    """Dot products (widths, count, keys) of `count` queries with `keys` keys each, all components standard normal.

    The first d components of the same vectors serve each width d.
    """
    q = torch.randn(count, 1, max(widths), generator=generator)
    k = torch.randn(count, keys, max(widths), generator=generator)
    return (q * k).cumsum(-1)[..., torch.tensor(widths) - 1].movedim(-1, 0).double()


def run(p: Params) -> Result:
    tokens, x, w, mask = _inputs(p)
    output, weights = multi_head(x, w, p.heads, mask, scaled=p.scaled)
    _, other = multi_head(x, w, p.heads, mask, scaled=not p.scaled)
    scores = random_scores(WIDTHS, 300, KEYS, torch.Generator().manual_seed(p.seed))
    roots = torch.tensor(WIDTHS).sqrt()[:, None, None]
    random = torch.stack([torch.softmax(scores / roots, -1), torch.softmax(scores, -1)])
    return Result(
        tokens=tokens,
        mask=mask,
        weights=weights,
        with_scaling=weights if p.scaled else other,
        without_scaling=other if p.scaled else weights,
        output=output,
        entropy=entropy(weights),
        curve_entropy=entropy(random).mean(-1),
        curve_slope=softmax_slope(random).mean(-1),
    )


def _inputs(p: Params) -> tuple[tuple[str, ...], Tensor, Projections, Tensor]:
    """Tokens (n,), their embeddings (n, d), the projections and the mask (n, n)."""
    generator = torch.Generator().manual_seed(p.seed)
    d = p.heads * p.width
    q, other, v, o = torch.randn(4, d, d, generator=generator).double() / math.sqrt(d)
    w = Projections(q, p.match * q + math.sqrt(1 - p.match**2) * other, v, o)
    tokens = (PAD,) * p.padding + words(p.text)
    # Drawn last and once for each different word, padding after all: more words or padding change nothing else.
    order = {token: place for place, token in enumerate(dict.fromkeys((*words(p.text), PAD)))}
    table = torch.randn(len(order), d, generator=generator).double()
    x = table[[order[token] for token in tokens]]
    return tokens, x, w, visible(len(tokens), causal=p.causal, padding=p.padding)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    sees = r.mask.any(-1)
    return {
        "Mean entropy of a row, nats": float(r.entropy[:, sees].mean()),
        "Most it can be": float(r.mask.sum(-1)[sees].double().log().mean()),
        "Mean largest weight": float(r.weights[:, sees].amax(-1).mean()),
        "Softmax slope, with √d_k": float(softmax_slope(r.with_scaling[:, sees]).mean()),
        "Softmax slope, without": float(softmax_slope(r.without_scaling[:, sees]).mean()),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    head, query = min(p.head, p.heads), min(p.query, len(r.tokens))
    entropies = _over_width(p, r.curve_entropy, y="mean entropy, nats")
    entropies.add_hline(
        y=math.log(KEYS),
        line={"color": style.GRAY, "dash": "dot"},
        annotation_text="log 10: all alike",
        annotation_position="bottom left",
    )
    entropies.update_yaxes(range=[0, 1.12 * math.log(KEYS)])
    slopes = _over_width(p, r.curve_slope, y="slope of the softmax")
    slopes.update_yaxes(range=[0, 0.45])
    return {
        "A row is a word that asks, a column one that answers. Bright: a weight near 1; blank: masked.": _maps(p, r),
        f"What “{r.tokens[query - 1]}” (place {query}) attends to in head {head}, with √d_k and without.": (
            _row(r, head, query)
        ),
        f"Random queries on {KEYS} random keys: unscaled attention grows sure of itself as d_k grows.": entropies,
        "A softmax that is sure passes no gradient on: without √d_k it fades as d_k grows.": slopes,
    }


def _maps(p: Params, r: Result) -> go.Figure:
    n, columns = len(r.tokens), min(p.heads, 2)
    rows = -(-p.heads // columns)
    sees = r.mask.any(-1)
    titles = [f"head {h + 1}: {float(r.entropy[h, sees].mean()):.2f} nats" for h in range(p.heads)]
    fig = make_subplots(
        rows,
        columns,
        subplot_titles=titles,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.16 / rows,
    )
    for h in range(p.heads):
        fig.add_heatmap(
            z=r.weights[h].masked_fill(~r.mask, math.nan).numpy(),
            zmin=0,
            zmax=1,
            colorscale=style.SEQUENTIAL,
            showscale=False,
            xgap=1,
            ygap=1,
            customdata=[[f"{asks} → {answers}" for answers in r.tokens] for asks in r.tokens],
            hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
            row=h // columns + 1,
            col=h % columns + 1,
        )
    places = list(range(n))
    ticks = {"tickvals": places, "ticktext": r.tokens, "showgrid": False, "zeroline": False}
    fig.update_xaxes(tickangle=-90, range=[-0.5, n - 0.5], **ticks)
    fig.update_yaxes(range=[n - 0.5, -0.5], **ticks)
    fig.update_annotations(font={"size": 12})
    fig.update_layout(height=110 + 230 * rows, margin={"l": 56, "r": 16, "t": 36, "b": 56})
    return fig


def _row(r: Result, head: int, query: int) -> go.Figure:
    fig = style.figure(x="word that answers", y="weight")
    places = list(range(len(r.tokens)))
    for name, weights, marker in (
        ("with √d_k", r.with_scaling, {"color": style.BLUE}),
        ("without", r.without_scaling, {"color": style.GRAY, "pattern": {"shape": "/"}}),
    ):
        fig.add_bar(x=places, y=weights[head - 1, query - 1].numpy(), name=name, marker=marker)
    fig.update_xaxes(tickvals=places, ticktext=r.tokens, tickangle=-90)
    fig.update_yaxes(range=[0, 1.02])
    return fig


def _over_width(p: Params, curves: Tensor, *, y: str) -> go.Figure:
    fig = style.figure(x="width of a head d_k (log)", y=y, log_x=True)
    looks = (("with √d_k", style.BLUE, "solid"), ("without", style.GRAY, "dash"))
    for (name, color, dash), curve in zip(looks, curves, strict=True):
        fig.add_scatter(x=WIDTHS, y=curve.numpy(), name=name, line={"color": color, "dash": dash})
    fig.update_xaxes(tickvals=[1, 4, 16, 64, 256])
    return style.here(fig, p.width, "d_k")


def _heads(p: Params) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values (h, n, d_k) of the words, and the mask (n, n)."""
    _, x, w, mask = _inputs(p)
    q, k, v = (split_heads(x @ matrix, p.heads) for matrix in (w.q, w.k, w.v))
    return q, k, v, mask


@law("Weights and values give what torch's scaled_dot_product_attention gives.", source="Sec. 3.2.1, eq. (1)")
def agrees_with_torch(p: Params) -> Evidence:
    q, k, v, mask = _heads(p)
    worst = 0.0
    for scaled in (True, False):
        ours = attention_weights(q, k, mask, scaled=scaled) @ v
        scale = 1 / math.sqrt(p.width) if scaled else 1.0
        theirs = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        worst = max(worst, float((ours - theirs).abs().max()))
    return at_most(
        worst,
        0.0,
        1e-11,
        why="float64 rounding of scores of some hundreds, which an exponential turns into a relative error",
        quantity="largest difference of an output, with scaling and without",
    )


@law("All heads together give what torch's MultiheadAttention gives with the same weights.", source="Sec. 3.2.2")
def agrees_with_torch_multihead(p: Params) -> Evidence:
    _, x, w, mask = _inputs(p)
    theirs = nn.utils.skip_init(nn.MultiheadAttention, x.shape[-1], p.heads, bias=False, dtype=x.dtype)
    with torch.no_grad():
        # torch keeps its matrices transposed, and the first three in one.
        theirs.in_proj_weight.copy_(torch.cat([w.q, w.k, w.v], 1).T)
        theirs.out_proj.weight.copy_(w.o.T)
        expected, expected_weights = theirs(x, x, x, attn_mask=~mask, average_attn_weights=False)
    output, weights = multi_head(x, w, p.heads, mask)
    sees = mask.any(-1)  # torch returns NaN for a row that sees nothing
    worst = max((output - expected)[sees].abs().max(), (weights - expected_weights)[:, sees].abs().max())
    return at_most(
        worst,
        0.0,
        1e-12,
        why="float64 rounding of sums of at most 1,024 terms",
        quantity="largest difference of an output or a weight, in rows that see a key",
    )


@law("The dot product of a random query and key has variance d_k; divided by √d_k, 1.", source="footnote 4")
def scaling_restores_unit_variance(p: Params) -> Evidence:
    scores = random_scores((p.width,), 10_000, 1, torch.Generator().manual_seed(p.seed))
    # The square of a sum of d products of two normals has variance d^2 (2 + 6 / d).
    error = math.sqrt((2 + 6 / p.width) / scores.numel())
    return equal(
        (scores / math.sqrt(p.width)).square().mean(),
        1.0,
        5 * error,
        why="5 standard errors of 10,000 draws; the squares are skew: two right seeds in a million are refused",
        quantity="mean square of q · k / √d_k, whose mean is 0",
    )


@law(
    "Under a causal mask no row looks ahead: a changed last word leaves all others exactly as they were.",
    source="Sec. 3.2.3",
)
def causal_rows_never_look_ahead(p: Params) -> Evidence:
    _, x, w, _ = _inputs(p)
    mask = visible(len(x), causal=True, padding=p.padding)
    changed = x.clone()
    changed[-1] = -changed[-1]
    before, after = (multi_head(each, w, p.heads, mask, scaled=p.scaled)[0] for each in (x, changed))
    return at_most(
        (before - after)[:-1].abs().max(),
        0.0,
        why="exact: a masked key has a weight of 0, not a small one",
        quantity="largest change of an earlier word's output",
    )


@law("A word that sees nothing returns zeros, not NaN, and all other rows of weights sum to 1.", source="definition")
def rows_sum_to_one_or_are_zero(p: Params) -> Evidence:
    q, k, _, mask = _heads(p)
    mask = mask.clone()
    mask[0] = False
    sums = attention_weights(q, k, mask, scaled=p.scaled).sum(-1)
    return at_most(
        (sums - mask.any(-1).double()).abs().max(),
        0.0,
        1e-14,
        why="float64 rounding of a sum of at most 16 weights; a NaN fails",
        quantity="largest distance of a row's sum from 1, or from 0 where all is masked (the first row is, here)",
    )


@law("Attention knows no order: reordered words give the same outputs, reordered alike.", source="Sec. 3.5")
def order_is_not_known(p: Params) -> Evidence:
    _, x, w, mask = _inputs(p)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(p.seed))
    output, _ = multi_head(x, w, p.heads, mask, scaled=p.scaled)
    reordered, _ = multi_head(x[order], w, p.heads, mask[order][:, order], scaled=p.scaled)
    return at_most(
        (output[order] - reordered).abs().max(),
        0.0,
        1e-10,
        why="float64 rounding: sums in another order, of scores up to some hundreds before the exponential",
        quantity="largest difference of an output, the mask reordered too",
    )


@cache
def _scores_by_width() -> dict[int, Tensor]:
    """Scores (3, 1000, 10) of random queries on 10 random keys, by d_k, at seeds 0, 1 and 2."""
    widths = (8, 32, 128, 512)
    scores = [random_scores(widths, 1_000, KEYS, torch.Generator().manual_seed(seed)) for seed in range(3)]
    return dict(zip(widths, torch.stack(scores, 1), strict=True))


def _random_weights(width: int, *, scaled: bool) -> Tensor:
    """The softmax (3, 1000, 10) of those scores."""
    return torch.softmax(_scores_by_width()[width] / (math.sqrt(width) if scaled else 1), -1)


@finding("Without scaling, a softmax over vectors of width 512 picks one key and drops the rest.", source="Sec. 3.2.1")
def unscaled_softmax_saturates() -> Evidence:
    largest = _random_weights(512, scaled=False).amax(-1).median(-1).values
    return more_than(
        largest.min(),
        0.99,
        why="the paper names no figure; beyond 0.99 the other nine keys share less than a hundredth",
        quantity="median largest weight on 10 keys over 1,000 queries, least of seeds 0 to 2",
    )


@finding("With scaling the largest weight stays moderate at the same width.", source="Sec. 3.2.1")
def scaled_softmax_does_not() -> Evidence:
    largest = _random_weights(512, scaled=True).amax(-1).median(-1).values
    return less_than(
        largest.max(),
        0.5,
        why="one half is where a single key outweighs all others",
        quantity="median largest weight on 10 keys over 1,000 queries, most of seeds 0 to 2",
    )


@finding("Without scaling the gradient through the softmax shrinks as d_k grows.", source="Sec. 3.2.1")
def unscaled_gradient_shrinks() -> Evidence:
    return falling(
        [softmax_slope(_random_weights(width, scaled=False)).mean() for width in (8, 32, 128, 512)],
        why="none needed: each step is over ten standard errors of 3,000 queries",
        quantity="largest step of the mean slope of the softmax over d_k = 8, 32, 128, 512, seeds 0 to 2",
    )


@finding("With scaling that gradient is the same at any width.", source="Sec. 3.2.1")
def scaled_gradient_stays() -> Evidence:
    narrow, wide = (softmax_slope(_random_weights(width, scaled=True)).mean() for width in (32, 512))
    return equal(
        wide / narrow,
        1.0,
        0.02,
        why="the scores have variance 1 at both; a sum of few products is not yet normal, an effect of order 1/d_k",
        quantity="mean slope of the softmax at d_k = 512 over that at 32, seeds 0 to 2",
    )
