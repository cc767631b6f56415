r"""Dropout: switch units off at random in training, so that none can rely on a partner.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks from
Overfitting", JMLR 15, 2014, Sec. 4 and 9.1; whole channels: Tompson et al., "Efficient Object Localization Using
Convolutional Networks", CVPR 2015, arXiv:1411.4280, Sec. 3.2 (SpatialDropout); the geometric mean: Hinton et al.,
"Improving Neural Networks by Preventing Co-adaptation of Feature Detectors", 2012, arXiv:1207.0580.

    \tilde y_i = \frac{m_i}{1-q}\,y_i \qquad m_i \sim \mathrm{Bernoulli}(1-q)
    \qquad \mathbb E[\tilde y_i] = y_i
    \qquad \frac{\mathrm{std}\bigl[\tfrac1n \sum_{i=1}^n \tilde y_i\bigr]}{y} = \sqrt{\frac{q}{(1-q)\,n}}

Symbols: $y$ the output of a layer, $q$ the probability of dropping a unit; $m$ the mask, one draw a unit, or one a
channel. Dividing by $1 - q$ ("inverted" dropout) leaves nothing to do at test time. The last formula is for $n$ equal
units with a draw each: the noise that the mean of a window leaves. Here $y$ are four edge maps of a photograph.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated

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
    at_most,
    equal,
    finding,
    law,
    more_than,
    report,
    style,
)
from demos.kit.data import digits_split, edge_maps
from demos.kit.pictures import mosaic, pictures
from demos.kit.training import Descent, accuracy, batches, one_thread, perceptron

TOPIC = "training"
UNIT, CHANNEL = "unit", "channel"
SIZE, TRIALS = 48, 2_000
WINDOWS = (1, 3, 5, 7, 9)
LABELED, BATCH, UPDATES, RATE = 300, 50, 600, 0.05


@dataclass(frozen=True)
class Params(Knobs):
    rate: Annotated[float, Range(0, 0.95, step=0.05, doc="drop probability q")] = 0.5
    drops: Annotated[str, Choice(UNIT, CHANNEL, doc="what one draw drops")] = UNIT
    training: Annotated[bool, Toggle(doc="training; off at test time")] = True
    window: Annotated[int, Range(1, 9, doc="side of the window that the next layer averages", unit="pixels")] = 3
    inputs: Annotated[int, Range(2, 12, doc="inputs of the softmax unit whose thinned nets are counted")] = 10
    photograph: Annotated[str, Choice("flower", "china", doc="photograph")] = "flower"
    seed: Seed = 0


PRESETS = {
    "SpatialDropout: whole channels": Params(drops=CHANNEL),
    "A large window washes it out": Params(window=9),
    "Hardly anything left": Params(rate=0.9),
    "Test time: the identity": Params(training=False),
}

LOOK_FOR = (
    "Dropped pixels are back after one average over their neighbors; a dropped channel stays dark.",
    "The noise of single units falls with the square root of how many are summed; that of channels stays.",
    "The thinned nets disagree, and yet one full net speaks for their geometric mean, exactly.",
)


@dataclass(frozen=True)
class Result:
    features: Tensor  # (4, 48, 48) what goes in
    factors: Tensor  # (4, 48, 48) what each is multiplied by: 0 where dropped
    dropped: Tensor  # (4, 48, 48) what comes out
    averaged: Tensor  # (2, 4, 48, 48) means over the window, of what goes in and of what comes out
    noise: Tensor  # (2, 5) measured noise of the mean of equal units over WINDOWS, relative to it; units, channels
    stated: Tensor  # (2, 81) the same by the formula, for n = 1 to 81
    thinned: Tensor  # (2^n,) probability of class 1 from each thinned net
    weights: Tensor  # (2^n,) probability of drawing it
    full: float  # probability of class 1 from the full net


def dropout_factors(
    shape: torch.Size, rate: float, generator: torch.Generator, *, drops: str = UNIT, training: bool = True
) -> Tensor:
    """What features (..., C, H, W) are multiplied by: 0 or 1 / (1 - rate), one draw a unit or a channel.

    Outside training, 1.
    """
    if not training:
        return torch.ones(shape)
    draws = torch.rand(shape if drops == UNIT else (*shape[:-2], 1, 1), generator=generator)
    return ((draws >= rate) / (1 - rate)).expand(shape)


def averaged_noise(rate: float, count: int, drops: str = UNIT) -> float:
    """Standard deviation, relative to the mean, of the mean of `count` equal units of one channel."""
    return math.sqrt(rate / (1 - rate) / (count if drops == UNIT else 1))


def measured_noise(rate: float, side: int, drops: str, generator: torch.Generator) -> Tensor:
    """The same, measured on windows of ones, each in a channel of its own."""
    shape = torch.Size((TRIALS, side, side))
    means = dropout_factors(shape, rate, generator, drops=drops).mean((-2, -1))
    return (means - 1).square().mean().sqrt()


def window_mean(y: Tensor, side: int) -> Tensor:
    """Means (C, H, W) of features (C, H, W) over a window around each pixel; at the border, over what there is."""
    padded = nn.functional.pad(y[None], ((side - 1) // 2, side // 2) * 2)
    inside = nn.functional.pad(torch.ones_like(y[None]), ((side - 1) // 2, side // 2) * 2)
    return (nn.functional.avg_pool2d(padded, side, 1) / nn.functional.avg_pool2d(inside, side, 1))[0]


def all_masks(count: int) -> Tensor:
    """Every mask over `count` units: (2^count, count), float64."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)), dtype=torch.float64)


def mask_weights(masks: Tensor, rate: float) -> Tensor:
    """The probability (M,) of drawing each of the masks (M, n)."""
    kept = masks.sum(-1)
    return (1 - rate) ** kept * rate ** (masks.shape[-1] - kept)


def thinned_logits(x: Tensor, weight: Tensor, rate: float, masks: Tensor) -> Tensor:
    """Logits (M, K) of a softmax layer (n, K) for one input (n,), thinned by each of the masks (M, n)."""
    return (x * masks / (1 - rate)) @ weight


def geometric_mean(log_probabilities: Tensor, weights: Tensor) -> Tensor:
    """Normalized geometric mean (K,) of distributions (M, K) with weights (M,) that sum to 1."""
    return torch.softmax(weights @ log_probabilities, -1)


def ridge_objective(x: Tensor, y: Tensor, weight: Tensor, rate: float) -> Tensor:
    """Expected squared error of linear regression under dropout of the inputs (N, n), in closed form (Sec. 9.1)."""
    penalty = rate / (1 - rate) * (x.square().sum(0) * weight.square()).sum()
    return (y - x @ weight).square().sum() + penalty


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    features = edge_maps(p.photograph, SIZE)
    factors = dropout_factors(features.shape, p.rate, generator, drops=p.drops, training=p.training)
    noise = [[measured_noise(p.rate, side, drops, generator) for side in WINDOWS] for drops in (UNIT, CHANNEL)]
    counts = range(1, WINDOWS[-1] ** 2 + 1)
    stated = [[averaged_noise(p.rate, count, drops) for count in counts] for drops in (UNIT, CHANNEL)]
    x, weight = _softmax_unit(p)
    masks = all_masks(p.inputs)
    return Result(
        features=features,
        factors=factors,
        dropped=features * factors,
        averaged=torch.stack([window_mean(maps, p.window) for maps in (features, features * factors)]),
        noise=torch.tensor(noise),
        stated=torch.tensor(stated),
        thinned=torch.softmax(thinned_logits(x, weight, p.rate, masks), -1)[:, 1],
        weights=mask_weights(masks, p.rate),
        full=float(torch.softmax(x @ weight, -1)[1]),
    )


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "Kept share": float((r.factors > 0).float().mean()),
        "Mean going in": float(r.features.mean()),
        "Mean coming out": float(r.dropped.mean()),
        f"Noise of a {p.window} × {p.window} mean": averaged_noise(p.rate, p.window**2, p.drops) if p.training else 0.0,
        "Thinned nets": len(r.thinned),
        "Full net, p(class 1)": r.full,
    }


def _softmax_unit(p: Params) -> tuple[Tensor, Tensor]:
    """An input (n,) and the weights (n, 2) of a softmax unit, float64."""
    generator = torch.Generator().manual_seed(p.seed)
    x = torch.rand(p.inputs, dtype=torch.float64, generator=generator)
    return x, torch.randn(p.inputs, 2, dtype=torch.float64, generator=generator)


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    tiles = [mosaic(r.features), mosaic(r.dropped, r.factors > 0), *(mosaic(maps) for maps in r.averaged)]
    means = f"mean of {p.window} × {p.window}"
    names = ("four edge maps", "after dropout", means, f"{means} after it")
    return {
        "Left as they are, right after dropout (dropped is orange); below, what the next layer averages.": pictures(
            tiles, names=names, columns=2, height=520
        ),
        "Noise left when n equal units are averaged: lines by the formula, marks measured.": _noise(p, r),
        f"All {len(r.thinned):,} thinned nets, by how often drawn; one full net is their geometric mean.": _ensemble(r),
    }


def _noise(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="units averaged n (log)", y="noise / mean", log_x=True)
    for place, drops in enumerate((UNIT, CHANNEL)):
        color, name = style.SEQUENCE[place], f"one draw a {drops}"
        line = {"color": color, "dash": style.DASHES[place]}
        counts = range(1, WINDOWS[-1] ** 2 + 1)
        fig.add_scatter(x=list(counts), y=r.stated[place].numpy(), mode="lines", line=line, showlegend=False)
        marker = {"color": color, "symbol": style.SYMBOLS[place], "size": 9}
        measured = r.noise[place].numpy()
        fig.add_scatter(x=[side**2 for side in WINDOWS], y=measured, mode="markers", name=name, marker=marker)
    style.here(fig, p.window**2, f"{p.window} × {p.window}")
    fig.update_xaxes(tickvals=[side**2 for side in WINDOWS], range=[-0.08, 2.1])
    fig.update_yaxes(range=[0, 1.1 * float(r.stated.max()) or 1])
    return fig


def _ensemble(r: Result) -> go.Figure:
    fig = style.figure(x="probability of class 1", y="share of the draws")
    heights, edges = torch.histogram(r.thinned, 30, range=(0, 1), weight=r.weights)
    middles = (edges[1:] + edges[:-1]) / 2
    fig.add_bar(x=middles.numpy(), y=heights.numpy(), name="thinned nets", marker={"color": style.BLUE})
    top = float(heights.max())
    for name, at, color, dash in (
        ("full net = geometric mean", r.full, style.RED, "solid"),
        ("plain mean", float(r.weights @ r.thinned), style.ORANGE, "dash"),
    ):
        line = {"color": color, "dash": dash, "width": 2.5}
        fig.add_scatter(x=[at, at], y=[0, 1.1 * top], mode="lines", name=f"{name} {at:.3f}", line=line)
    fig.update_xaxes(range=[0, 1])
    fig.update_layout(bargap=0.05)
    return fig


DRAWS = torch.Size((100_000, 1, 1))


def _countable(rate: float) -> float:
    """The rate, or one high enough for its drops among the draws of a law to be many."""
    return max(rate, 0.05)


@law("Dropout keeps the mean of every unit.", source="Sec. 10, inverted dropout")
def keeps_the_mean(p: Params) -> Evidence:
    rate = _countable(p.rate)
    factors = dropout_factors(DRAWS, rate, torch.Generator().manual_seed(p.seed), drops=p.drops)
    return equal(
        factors.double().mean(),
        1.0,
        5 * averaged_noise(rate, len(factors)),
        why="five standard errors of 100,000 draws at q, or at 0.05 where q is less: right code fails at about one "
        "seed in a million",
        quantity="mean factor",
    )


@law("A unit's variance is q / (1 − q) times its square.", source="Bernoulli distribution")
def variance_as_stated(p: Params) -> Evidence:
    rate = _countable(p.rate)
    factors = dropout_factors(DRAWS, rate, torch.Generator().manual_seed(p.seed), drops=p.drops)
    odds = rate / (1 - rate)
    # The squared distance from 1 is odds^2 for the kept and 1 for the dropped.
    spread = math.sqrt(rate * (1 - rate)) * abs(odds**2 - 1)
    return equal(
        (factors.double() - 1).square().mean(),
        odds,
        5 * spread / math.sqrt(len(factors)) + 1e-5 * odds,
        why="five standard errors of 100,000 draws at q, or at 0.05 where q is less: right code fails at about one "
        "seed in a million; float32 factors",
        quantity="mean squared distance of the factor from 1",
    )


@law("At test time dropout is the identity.", source="Sec. 10, inverted dropout")
def identity_at_test_time(p: Params) -> Evidence:
    features = edge_maps(p.photograph, SIZE)
    generator = torch.Generator().manual_seed(p.seed)
    factors = dropout_factors(features.shape, p.rate, generator, drops=p.drops, training=False)
    return equal((features * factors - features).abs().max(), 0.0, 0.0, why="exact", quantity="largest change")


@law("A channel is dropped or kept as a whole.", source="Tompson et al. 2015, Sec. 3.2")
def channels_are_whole(p: Params) -> Evidence:
    shape, generator = torch.Size((64, 7, 7)), torch.Generator().manual_seed(p.seed)
    factors = dropout_factors(shape, max(p.rate, 0.05), generator, drops=CHANNEL)
    return equal(
        (factors.amax((-2, -1)) - factors.amin((-2, -1))).max(),
        0.0,
        0.0,
        why="exact",
        quantity="largest difference of the factor within one of 64 channels",
    )


@law(
    "Averaging n units divides the noise of unit dropout by √n, and that of channels not at all.",
    source="variance of a mean",
)
def averaging_leaves_channel_noise(p: Params) -> Evidence:
    generator, count, worst = torch.Generator().manual_seed(p.seed), p.window**2, 0.0
    rate = _countable(p.rate)
    for drops in (UNIT, CHANNEL):
        stated = averaged_noise(rate, count, drops) ** 2
        measured = float(measured_noise(rate, p.window, drops, generator)) ** 2
        excess = (1 / (rate * (1 - rate)) - 6) / (count if drops == UNIT else 1)
        error = stated * (math.sqrt(max(2 + excess, 0.0) / TRIALS) + 1e-5)
        worst = max(worst, abs(measured - stated) / error)
    return at_most(
        worst,
        6.0,
        why=f"six standard errors, from the kurtosis, of a variance over {TRIALS:,} windows at q, or 0.05 where q is "
        "less: right code fails at fewer than one seed in a million; 1e-5 for float32",
        quantity="larger departure of the variance, units and channels, in standard errors",
    )


@law("The full softmax layer is the geometric mean of all its thinned nets.", source="Hinton et al. 2012")
def full_net_is_the_geometric_mean(p: Params) -> Evidence:
    x, weight = _softmax_unit(p)
    masks = all_masks(p.inputs)
    log_probabilities = torch.log_softmax(thinned_logits(x, weight, p.rate, masks), -1)
    return at_most(
        (geometric_mean(log_probabilities, mask_weights(masks, p.rate)) - torch.softmax(x @ weight, -1)).abs().max(),
        0.0,
        1e-12,
        why="float64 rounding of a sum over up to 4,096 nets with logits of up to a hundred",
        quantity="largest difference of a probability",
    )


@law("Linear regression under dropout is ridge regression, on average.", source="Sec. 9.1")
def linear_regression_becomes_ridge(p: Params) -> Evidence:
    generator, masks = torch.Generator().manual_seed(p.seed), all_masks(6)
    x = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    weight, y = (torch.randn(n, dtype=torch.float64, generator=generator) for n in (6, 20))
    errors = (y - (masks[:, None] * x / (1 - p.rate)) @ weight).square().sum(-1)
    expected = ridge_objective(x, y, weight, p.rate)
    return at_most(
        ((mask_weights(masks, p.rate) @ errors) / expected - 1).abs(),
        0.0,
        1e-12,
        why="float64 rounding of a sum over all 64 masks",
        quantity="relative difference of the expected squared error",
    )


@cache
def _trained(seed: int, rate: float) -> tuple[float, float]:
    """Accuracy, and loss in nats, on 1,497 new digits of a network trained on 300 with its hidden units dropped."""
    x, y, new_x, new_y = digits_split(1797 - LABELED)
    generator = torch.Generator().manual_seed(seed)
    network = perceptron((64, 128, 128, 10), generator)

    def logits(images: Tensor, training: bool) -> Tensor:
        out = images.flatten(1)
        for layer in network:
            out = layer(out)
            if isinstance(layer, nn.ReLU):
                out = out * dropout_factors(out.shape, rate, generator, training=training)
        return out

    descent = Descent(network.parameters())
    with one_thread():
        for batch in batches(LABELED, BATCH, UPDATES, generator):
            descent.step(nn.functional.cross_entropy(logits(x[batch], True), y[batch]), RATE)
        with torch.no_grad():
            guesses = logits(new_x, False)
    return float(accuracy(guesses, new_y)), float(nn.functional.cross_entropy(guesses, new_y))


SEEDS = range(3)


def _mean(rate: float) -> Tensor:
    """Accuracy and loss (2,), mean over the seeds."""
    return torch.tensor([_trained(seed, rate) for seed in SEEDS]).mean(0)


@finding("Trained on few digits, a network with dropout is more accurate on new ones.", source="Sec. 6 and 7.4")
def more_accurate_on_few_data() -> Evidence:
    return more_than(
        _mean(0.5)[0],
        _mean(0.0)[0],
        why="300 digits, 600 updates, hidden units at q = 0.5; mean over seeds 0 to 2 against q = 0, 1,497 new digits",
        quantity="accuracy with dropout",
    )


@report("Dropout also lowers the loss on new digits.", source="Sec. 6")
def lower_loss_on_few_data() -> Evidence:
    return at_most(
        _mean(0.5)[1],
        _mean(0.0)[1],
        why="the same six networks; mean over seeds 0 to 2, nats",
        quantity="loss with dropout, against without",
    )
