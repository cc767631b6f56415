r"""Gumbel-Softmax: draw a class by adding noise, and soften the draw until gradients pass.

Jang, Gu and Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017, arXiv:1611.01144, Sec. 2; at the
same time Maddison, Mnih and Teh, "The Concrete Distribution", ICLR 2017, arXiv:1611.00712.

    g_k = -\log(-\log u_k)
    \qquad y_k = \frac{e^{(\log\pi_k + g_k)/\tau}}{\sum_j e^{(\log\pi_j + g_j)/\tau}}
    \qquad z = \mathrm{onehot}(\arg\max_k y_k)

Symbols: $\pi$ the probabilities of $K$ classes; $u$ uniform on (0, 1), so that $g$ carries no parameter; $\tau$ the
temperature; $y$ the soft sample, $z$ the hard one. The gradients are those of $\mathbb{E}[f(z)]$ in $\log\pi$ for the
toy loss $f(z) = c + (a \cdot z - 0.45)^4$, $a$ evenly spaced from 0 to 1; the exact one is a sum over the classes.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import (
    Evidence,
    Knobs,
    Numbers,
    Range,
    Seed,
    Toggle,
    at_most,
    equal,
    falling,
    finding,
    law,
    more_than,
    not_rejected,
    rejected,
    style,
)
from demos.kit.statistics import chi_square_p, kolmogorov_smirnov

TOPIC = "sampling"
COLDEST, HOTTEST = 0.1, 10.0
TARGET = 0.45
SHOWN = 900  # as many points as a figure draws without stutter
ESTIMATORS = ("Gumbel-Softmax", "straight-through", "REINFORCE")


@dataclass(frozen=True)
class Params(Knobs):
    temperature: Annotated[float, Range(COLDEST, HOTTEST, log=True, doc="temperature τ")] = 0.5
    probabilities: Annotated[
        tuple[float, ...], Numbers(0.01, 1, fewest=2, most=10, doc="class probabilities π, scaled to sum to 1")
    ] = (0.5, 0.3, 0.2)
    hard: Annotated[bool, Toggle(doc="straight-through: hard sample forward, soft gradient backward")] = False
    samples: Annotated[int, Range(500, 50_000, log=True, doc="number of samples N")] = 10_000
    offset: Annotated[float, Range(0, 10, doc="constant c added to the loss")] = 0.0
    seed: Seed = 0


PRESETS = {
    "Cold: nearly one-hot": Params(temperature=0.1),
    "Hot: all alike": Params(temperature=10.0),
    "Straight-through": Params(hard=True),
    "A constant in the loss": Params(offset=1.0),
}

LOOK_FOR = (
    "Each class keeps its share of the samples at any τ: softmax never changes which entry is largest.",
    "Cooling sends the samples to the corners and their mean to π; heating draws both to the center.",
    "Cold gradients are right on average but noisy, hot ones calm but wrong; straight-through stays wrong even cold.",
)


@dataclass(frozen=True)
class Result:
    probabilities: Tensor  # (K,)
    soft: Tensor  # (N, K) samples y
    winners: Tensor  # (N,) class of the largest entry, int64
    shares: Tensor  # (K,) share of the samples that each class wins
    mean: Tensor  # (K,) mean of what goes forward: y, or z where straight-through
    edges: Tensor  # (B + 1,) bins of the largest entry
    largest: Tensor  # (B,) share of the samples in each bin
    temperatures: Tensor  # (G,) a log grid
    bias: Tensor  # (E, G) of each of the ESTIMATORS, over the length of the exact gradient
    error: Tensor  # (E, G) its standard error, in the same unit
    spread: Tensor  # (E, G) standard deviation of one sample's gradient, in the same unit
    chosen: Tensor  # (3,) bias, error and spread of the chosen estimator at the chosen temperature


def gumbel(*shape: int, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise -log(-log u), float64 of the given shape."""
    u = torch.rand(*shape, dtype=torch.float64, generator=generator)
    return -(-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float, *, hard: bool = False) -> Tensor:
    """Samples (N, K) from logits (K,) or (N, K) and Gumbel noise (N, K), eq. (2).

    Soft ones lie inside the simplex. Hard ones are one-hot, and have the gradient of the soft (straight-through).
    """
    soft = torch.softmax((logits + noise) / temperature, -1)
    if not hard:
        return soft
    return one_hot(soft.argmax(-1), soft.shape[-1]) + (soft - soft.detach())


def one_hot(classes: Tensor, count: int) -> Tensor:
    """Corners (..., K) of the simplex for class indices (...)."""
    return torch.nn.functional.one_hot(classes, count).double()


def loss(z: Tensor, offset: float = 0.0) -> Tensor:
    """c + (a . z - 0.45)^4, (...), of points (..., K) of the simplex; a is `positions`."""
    return offset + (z @ positions(z) - TARGET) ** 4


def slope(z: Tensor) -> Tensor:
    """Gradient (..., K) of the loss in z (..., K)."""
    return 4 * (z @ positions(z) - TARGET)[..., None] ** 3 * positions(z)


def positions(z: Tensor) -> Tensor:
    """The number (K,) that the loss reads each class as, evenly spaced from 0 to 1."""
    return torch.linspace(0, 1, z.shape[-1], dtype=z.dtype)


def exact_gradient(logits: Tensor) -> Tensor:
    """Gradient (K,) of E[f(z)] in the logits (K,) by summing over the classes: pi_k (f(e_k) - E[f])."""
    pi, f = torch.softmax(logits, -1), loss(torch.eye(len(logits), dtype=logits.dtype))
    return pi * (f - pi @ f)


def relaxed_gradients(y: Tensor, forward: Tensor, temperature: float) -> Tensor:
    """Each sample's gradient (N, K) in the logits, through the softmax: y_j (f'_j - y . f') / tau.

    The slope f' of the loss is taken at the sample that went forward: the soft y (N, K) itself, or, straight-through,
    the hard one (N, K) in its place (Sec. 2.2).
    """
    at = slope(forward)
    return y * (at - (y * at).sum(-1, keepdim=True)) / temperature


def reinforce_gradients(logits: Tensor, z: Tensor, offset: float = 0.0) -> Tensor:
    """Each sample's score-function gradient f(z) (z - pi), (N, K), for one-hot z (N, K) (Williams 1992)."""
    return loss(z, offset)[:, None] * (z - torch.softmax(logits, -1))


def bias_error_spread(gradients: Tensor, exact: Tensor) -> Tensor:
    """Bias, its standard error, and the standard deviation of one gradient (N, K): (3,), over the exact one's length.

    The bias is the distance of the mean from the exact gradient (K,), less what noise alone adds to its square.
    """
    count, mean = len(gradients), gradients.mean(0)
    variance = (gradients - mean).square().sum() / (count - 1)
    bias = ((mean - exact).square().sum() - variance / count).clamp(min=0).sqrt()
    return torch.stack([bias, (variance / count).sqrt(), variance.sqrt()]) / exact.norm()


def on_triangle(y: Tensor) -> Tensor:
    """Points (..., 2) of a triangle with sides of length 1 for points (..., 3) of the simplex; class 1 is on top."""
    return y @ torch.tensor([[0.5, math.sqrt(0.75)], [0.0, 0.0], [1.0, 0.0]], dtype=y.dtype)


def run(p: Params) -> Result:
    logits = _logits(p)
    noise = gumbel(p.samples, len(logits), generator=_seeded(p.seed))
    soft = gumbel_softmax(logits, noise, p.temperature)
    winners = soft.argmax(-1)
    shares = torch.bincount(winners, minlength=len(logits)).double() / p.samples
    largest, edges = torch.histogram(soft.amax(-1), 40, range=(0, 1))
    z, exact = one_hot(winners, len(logits)), exact_gradient(logits)
    forward = z if p.hard else soft
    reinforce = bias_error_spread(reinforce_gradients(logits, z, p.offset), exact)
    grid = torch.logspace(math.log10(COLDEST), math.log10(HOTTEST), 21, dtype=torch.float64)
    statistics = []
    for temperature in grid.tolist():
        y = gumbel_softmax(logits, noise, temperature)
        relaxed = (bias_error_spread(relaxed_gradients(y, at, temperature), exact) for at in (y, z))
        statistics.append(torch.stack([*relaxed, reinforce]))
    bias, error, spread = torch.stack(statistics).permute(2, 1, 0)
    return Result(
        probabilities=torch.softmax(logits, -1),
        soft=soft,
        winners=winners,
        shares=shares,
        mean=forward.mean(0),
        edges=edges,
        largest=largest / p.samples,
        temperatures=grid,
        bias=bias,
        error=error,
        spread=spread,
        chosen=bias_error_spread(relaxed_gradients(soft, forward, p.temperature), exact),
    )


def _logits(p: Params) -> Tensor:
    """Log probabilities (K,)."""
    return torch.log_softmax(torch.tensor(p.probabilities, dtype=torch.float64).log(), -1)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    bias, _, spread = r.chosen.tolist()
    return {
        "Mean of the largest entry of y": float(r.soft.amax(-1).mean()),
        "Largest |share − π|": float((r.shares - r.probabilities).abs().max()),
        "Bias / |exact gradient|": bias,
        "Std. dev. / |exact gradient|": spread,
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    largest = style.figure(x="largest entry of a soft sample", y="share of the samples")
    middles = (r.edges[1:] + r.edges[:-1]) / 2
    largest.add_bar(x=middles.numpy(), y=r.largest.numpy(), name=f"τ = {p.temperature:.3g}", showlegend=True)
    largest.add_vline(x=1 / len(r.shares), line={"color": style.GRAY, "dash": "dot"}, annotation_text="1/K: all alike")
    largest.update_xaxes(range=[0, 1.01])
    largest.update_layout(bargap=0.05)
    samples = (
        {"Each region keeps its share π of the samples; τ only slides them along.": _triangle(p, r)}
        if len(r.shares) == 3
        else {"Each class wins its share π at any τ; the mean of the samples drifts.": _bars(p, r)}
    )
    bias = _over_temperature(p, r, r.bias, float(r.chosen[0]), y="bias / |exact gradient|")
    _add_bands(bias, r)
    spread = _over_temperature(p, r, r.spread, float(r.chosen[2]), y="std. dev. / |exact gradient|", log_y=True)
    spread.update_yaxes(dtick=1)
    return {
        **samples,
        "Cold samples are nearly one-hot, hot ones nearly all alike.": largest,
        "Cooling takes away the bias of Gumbel-Softmax, not of straight-through; bands: two standard errors.": bias,
        "Cooling makes the gradient of one sample noisy; REINFORCE knows no τ.": spread,
    }


def _triangle(p: Params, r: Result) -> go.Figure:
    fig = style.figure(height=400)
    fig.update_layout(margin={"l": 8, "r": 8, "b": 8})
    corners = on_triangle(torch.eye(3, dtype=torch.float64))
    middles = (corners + corners.roll(-1, 0)) / 2
    spokes = torch.stack([middles, corners.mean(0).expand(3, 2), torch.full((3, 2), math.nan)], 1).reshape(9, 2)
    for path, dash in ((corners[[0, 1, 2, 0]], "solid"), (spokes, "dot")):
        x, y = path.T.numpy()
        line = {"color": style.GRAY, "width": 1, "dash": dash}
        fig.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    points, winners = on_triangle(r.soft[:SHOWN]), r.winners[:SHOWN]
    for k, (share, pi) in enumerate(zip(r.shares.tolist(), r.probabilities.tolist(), strict=True)):
        look = {"color": style.SEQUENCE[k], "symbol": style.SYMBOLS[k]}
        x, y = points[winners == k].T.numpy()
        marker = {**look, "size": 5, "opacity": 0.15 if p.hard else 0.5}
        fig.add_scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip", showlegend=False)
        x, y = corners[k].tolist()
        if p.hard:
            marker = {**look, "size": 44 * math.sqrt(share)}
            fig.add_scatter(x=[x], y=[y], mode="markers", marker=marker, hoverinfo="skip", showlegend=False)
        text = f"class {k + 1}: {share:.1%}<br>π = {pi:.1%}"
        fig.add_annotation(x=x, y=y, text=text, showarrow=False, yshift=38 if k == 0 else -38)
    for name, point, symbol in (("mean of the samples", r.mean, "x"), ("π", r.probabilities, "diamond-open")):
        x, y = on_triangle(point).tolist()
        marker = {"color": style.RED, "symbol": symbol, "size": 11, "line": {"width": 2, "color": style.RED}}
        fig.add_scatter(x=[x], y=[y], mode="markers", name=name, marker=marker)
    return style.equal_aspect(fig, (-0.2, 1.2), (-0.25, 1.1), visible=False)


def _bars(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="class", y="probability, or share of the samples")
    classes = list(range(1, len(r.shares) + 1))
    for name, heights, marker in (
        ("π", r.probabilities, {"color": style.GRAY, "pattern": {"shape": "/"}}),
        ("wins", r.shares, {"color": style.BLUE}),
        ("mean sample", r.mean, {"color": style.ORANGE, "pattern": {"shape": "."}}),
    ):
        fig.add_bar(x=classes, y=heights.numpy(), name=name, marker=marker)
    fig.update_xaxes(tickvals=classes)
    return fig


def _over_temperature(p: Params, r: Result, curves: Tensor, chosen: float, *, y: str, log_y: bool = False) -> go.Figure:
    fig = style.figure(x="temperature τ (log)", y=y, log_x=True, log_y=log_y)
    style.lines(fig, r.temperatures.numpy(), ESTIMATORS, curves)
    marker = {"color": style.RED, "size": 10}
    fig.add_scatter(x=[p.temperature], y=[chosen], mode="markers", name=f"τ = {p.temperature:.3g}", marker=marker)
    fig.add_vline(x=p.temperature, line={"color": style.RED, "width": 1})
    fig.update_xaxes(tickvals=[0.1, 0.3, 1, 3, 10], range=[-1.03, 1.03])
    return fig


def _add_bands(fig: go.Figure, r: Result) -> None:
    """Two standard errors around each curve; the view keeps to the relaxed ones, as REINFORCE may be far above."""
    low, high = (r.bias - 2 * r.error).clamp(min=0), r.bias + 2 * r.error
    for below, above, color in zip(low, high, style.SEQUENCE, strict=False):
        style.band(fig, r.temperatures, below, above, color=color)
    fig.update_yaxes(range=[0, 1.05 * float(high[:2].max())])


def _chi_square_p(winners: Tensor, probabilities: Tensor) -> Tensor:
    """p-value of Pearson's test that classes (N,) were drawn with the given probabilities (K,)."""
    expected = len(winners) * probabilities
    counts = torch.bincount(winners, minlength=len(expected))
    return chi_square_p(((counts - expected).square() / expected).sum(), len(expected) - 1)


@law("The Gumbel noise has Euler's constant 0.5772 as its mean.", source="Gumbel distribution")
def noise_mean(p: Params) -> Evidence:
    noise = gumbel(200_000, generator=_seeded(p.seed))
    return equal(
        noise.mean(),
        0.5772156649,
        5 * math.pi / math.sqrt(6 * len(noise)),
        why="5 standard errors of 200,000 draws; right noise fails at 6 seeds in ten million",
        quantity="mean of the noise",
    )


@law("The Gumbel noise has the variance π²/6.", source="Gumbel distribution")
def noise_variance(p: Params) -> Evidence:
    noise = gumbel(200_000, generator=_seeded(p.seed))
    truth = math.pi**2 / 6
    return equal(
        noise.var(),
        truth,
        5 * truth * math.sqrt(4.4 / len(noise)),
        why="5 standard errors of 200,000 draws (kurtosis 5.4); right noise fails at about 1 seed in a million",
        quantity="variance of the noise",
    )


@law(
    "The largest entry of a sample falls on class k with probability π_k, at any temperature.", source="Sec. 2, eq. (1)"
)
def largest_entry_follows_pi(p: Params) -> Evidence:
    logits = _logits(p)
    noise = gumbel(50_000, len(logits), generator=_seeded(p.seed))
    winners = gumbel_softmax(logits, noise, p.temperature, hard=p.hard).argmax(-1)
    return not_rejected(
        _chi_square_p(winners, logits.exp()),
        1e-3,
        why="right code fails at 1 seed in a thousand; every class expects at least 55 of the 50,000 draws",
        quantity="p-value of the chi-square test",
    )


@finding("With Gaussian noise of the same variance arg max does not follow π.", source="Sec. 2, eq. (1)")
def gaussian_noise_is_rejected() -> Evidence:
    logits, p_values = _logits(Params()), []
    for seed in range(3):
        noise = math.pi / math.sqrt(6) * torch.randn(1_000_000, 3, dtype=torch.float64, generator=_seeded(seed))
        p_values.append(_chi_square_p((logits + noise).argmax(-1), logits.exp()))
    return rejected(
        max(p_values),
        1e-3,
        why="the level at which Gumbel noise passes; the shares are off by half a percentage point only, so a million "
        "draws each, at π = (0.5, 0.3, 0.2), seeds 0 to 2",
        quantity="largest p-value of the chi-square tests",
    )


@law(
    "As τ → 0 samples become one-hot: 1 − (largest entry) is τ · log 2 · (1 − Σ π²) on average.",
    source="Sec. 2; the rate derived here",
)
def one_hot_limit(p: Params) -> Evidence:
    logits, cold = _logits(p), 0.01
    noise = gumbel(100_000, len(logits), generator=_seeded(p.seed))
    distance = (1 - gumbel_softmax(logits, noise, cold).amax(-1)) / cold
    limit = math.log(2) * float(1 - logits.exp().square().sum())
    return equal(
        distance.mean(),
        limit,
        5 * float(distance.std()) / math.sqrt(len(distance)) + 5 * cold * limit,
        why="the two largest differ by less than d with probability d (1 − Σ π²) to first order, the next is at most "
        "5 τ of that; and 5 standard errors of 100,000 draws: right code fails at about 1 seed in a million",
        quantity="mean of (1 − largest entry) / τ at τ = 0.01",
    )


@law("As τ → ∞ samples become uniform: every entry tends to 1/K.", source="Sec. 2, Fig. 1")
def uniform_limit(p: Params) -> Evidence:
    logits, hot = _logits(p), 1e4
    noise = gumbel(10_000, len(logits), generator=_seeded(p.seed))
    distance = (gumbel_softmax(logits, noise, hot) - 1 / len(logits)).abs().max()
    return at_most(
        distance,
        0.0,
        float((logits + noise).amax(-1).sub((logits + noise).amin(-1)).max()) / hot,
        why="softmax moves by no more than the widest gap between two of its arguments",
        quantity="largest |y − 1/K| at τ = 10⁴",
    )


@law("Samples agree with those of torch.nn.functional.gumbel_softmax in distribution.", source="Sec. 2, eq. (2)")
def agrees_with_torch(p: Params) -> Evidence:
    logits, count = _logits(p), 10_000
    noise = gumbel(count, len(logits), generator=_seeded(p.seed))
    ours = gumbel_softmax(logits, noise, p.temperature, hard=p.hard)
    with torch.random.fork_rng(devices=[]):  # torch's function draws from the global generator and takes no other
        torch.default_generator.manual_seed(p.seed + 1)
        theirs = torch.nn.functional.gumbel_softmax(logits.expand(count, -1), p.temperature, hard=p.hard)
    # torch's hard samples are one-hot up to the last digit only, which would tell them from exact ones
    entries = zip(ours.round(decimals=12).T, theirs.round(decimals=12).T, strict=True)
    return at_most(
        max(kolmogorov_smirnov(a, b) for a, b in entries),
        math.sqrt(math.log(2 * len(logits) / 1e-3) / count),
        why="two-sample Kolmogorov-Smirnov test of each of the K entries at 0.001 / K: right code fails at 1 seed in "
        "a thousand at most",
        quantity="largest gap between the distribution functions of an entry",
    )


@law(
    "The gradient through a sample is ∂y_k/∂log π_j = y_k (δ_kj − y_j) / τ, straight-through or not.",
    source="Sec. 2.1 and 2.2",
)
def gradient_formula(p: Params) -> Evidence:
    logits = _logits(p)
    noise = gumbel(1_000, len(logits), generator=_seeded(p.seed))
    each = logits.expand_as(noise).clone().requires_grad_()
    forward = gumbel_softmax(each, noise, p.temperature, hard=p.hard)
    (autograd,) = torch.autograd.grad(loss(forward, p.offset).sum(), each)
    formula = relaxed_gradients(gumbel_softmax(logits, noise, p.temperature), forward.detach(), p.temperature)
    return at_most(
        (autograd - formula).abs().max(),
        0.0,
        1e-14,
        why="float64 rounding of terms of at most 1",
        quantity="largest |autograd − formula| over 1,000 samples",
    )


@law("REINFORCE is unbiased, whatever constant is added to the loss.", source="Sec. 3.2, eq. (5)")
def reinforce_is_unbiased(p: Params) -> Evidence:
    logits = _logits(p)
    every_class = torch.eye(len(logits), dtype=torch.float64)
    expected = logits.exp() @ reinforce_gradients(logits, every_class, p.offset)
    return at_most(
        (expected - exact_gradient(logits)).abs().max(),
        0.0,
        1e-14,
        why="float64 rounding of losses of at most about 10; the expectation is a sum over the classes",
        quantity="largest |expected − exact gradient|",
    )


@law("The variance of the gradient grows as τ falls.", source="Sec. 2.1")
def variance_grows_as_tau_falls(p: Params) -> Evidence:
    logits, exact = _logits(p), exact_gradient(_logits(p))
    noise = gumbel(50_000, len(logits), generator=_seeded(p.seed))
    spreads = []
    for temperature in (10.0, 1.0, 0.1):
        y = gumbel_softmax(logits, noise, temperature)
        forward = gumbel_softmax(logits, noise, temperature, hard=p.hard)
        spreads.append(float(bias_error_spread(relaxed_gradients(y, forward, temperature), exact)[2]))
    return more_than(
        min(colder / hotter for hotter, colder in itertools.pairwise(spreads)) ** 2,
        1.0,
        why="above 1 is growth; 50,000 draws of the same noise at each τ blur the ratio by a quarter at most, and it "
        "is above 10 wherever it was tried",
        quantity="smallest ratio of the variances at τ = 10, 1, 0.1, colder over hotter",
    )


def _cooled(temperature: float, *, hard: bool = False) -> Tensor:
    """Bias, error and spread (3,) at the default probabilities, for seeds 0 to 2: (3, 3), of 200,000 draws each."""
    logits, rows = _logits(Params()), []
    for seed in range(3):
        noise = gumbel(200_000, len(logits), generator=_seeded(seed))
        y = gumbel_softmax(logits, noise, temperature)
        forward = gumbel_softmax(logits, noise, temperature, hard=hard)
        rows.append(bias_error_spread(relaxed_gradients(y, forward, temperature), exact_gradient(logits)))
    return torch.stack(rows)


@finding(
    "In the cold the variance is proportional to 1/τ: rare near-ties have gradients like 1/τ.", source="derived here"
)
def cold_variance_is_proportional_to_one_over_tau() -> Evidence:
    variance, colder = (_cooled(temperature)[:, 2].square() for temperature in (0.02, 0.01))
    return equal(
        (colder / variance).log2().mean(),
        1.0,
        0.2,
        why="near-ties have probability ∝ τ; five standard errors of 3 · 200,000 draws are 0.15, the next order in τ "
        "is below 0.05",
        quantity="mean doublings of the variance from τ = 0.02 to 0.01, seeds 0 to 2",
    )


@finding("The bias of the Gumbel-Softmax gradient shrinks as τ falls.", source="Sec. 2.1, Fig. 1")
def bias_shrinks_as_tau_falls() -> Evidence:
    return falling(
        [_cooled(temperature)[:, 0].mean() for temperature in (3.0, 1.0, 0.3, 0.1, 0.03)],
        why="none needed: each step is over five standard errors of 3 · 200,000 draws",
        quantity="largest step of the bias / |exact gradient| over τ = 3, 1, 0.3, 0.1, 0.03, seeds 0 to 2",
    )


@finding(
    "Straight-through keeps a bias as τ → 0: it knows the slope of the loss at the corners only, not in between.",
    source="Sec. 2.2; the limit derived here",
)
def straight_through_stays_biased() -> Evidence:
    logits = _logits(Params())
    exact = exact_gradient(logits)
    bias, error, _ = _cooled(0.01, hard=True).mean(0)
    return equal(
        bias,
        (_straight_through_limit(logits) - exact).norm() / exact.norm(),
        5 * float(error) / math.sqrt(3),
        why="5 standard errors of 3 · 200,000 draws; no bias at all would be 0",
        quantity="bias / |exact gradient| at τ = 0.01, seeds 0 to 2",
    )


def _straight_through_limit(logits: Tensor) -> Tensor:
    """Mean straight-through gradient (K,) as tau tends to 0: the exact one by the trapezoid rule.

    Only ties of two classes i and j count, pi_i pi_j of them. There y runs from e_i to e_j; soft samples take the
    slope all along and add up to f(e_j) - f(e_i), hard ones take half the slope at either end.
    """
    pi, corners = logits.exp(), torch.eye(len(logits), dtype=torch.float64)
    at = slope(corners)
    steps = ((at[:, None] + at) / 2 * (corners[:, None] - corners)).sum(-1)
    return pi * (steps @ pi)
