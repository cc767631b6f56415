r"""mixup: train on blends of two samples, with their labels blended alike.

Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412, Sec. 2;
that it tames confidence: Thulasidasan et al., "On Mixup Training", NeurIPS 2019, arXiv:1905.11001.

    \tilde x = \lambda\,x_i + (1-\lambda)\,x_j
    \qquad \tilde y = \lambda\,y_i + (1-\lambda)\,y_j
    \qquad \lambda \sim \mathrm{Beta}(\alpha, \alpha)

Symbols: $x$ an input, $y$ its one-hot label; $i$ and $j$ two samples of a batch; $\lambda$ the share of the first, one
draw for a whole batch as in the authors' code; $\alpha$ how evenly samples mix: $\alpha \to 0$ hardly mixes,
$\alpha = 1$ makes every $\lambda$ equally likely. The two networks trained here are the same but for mixup: they
share initial weights, batches and learning rate.
"""

import math
from collections.abc import Iterator
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
    at_least,
    at_most,
    equal,
    finding,
    law,
    less_than,
    more_than,
    report,
    style,
)
from demos.kit.data import digits, photograph, two_moons
from demos.kit.pictures import pictures
from demos.kit.surface import border, plane, scatter, surface
from demos.kit.training import Descent, History, batches, perceptron, train, twins

TOPIC = "augmentation"
BATCH, HIDDEN, RATE = 50, 64, 0.1
DRAWS = 1_000
# The ends of the line between the classes: the top of the upper moon (class 0) and the bottom of the lower (class 1).
UPPER, LOWER = (0.0, 1.0), (1.0, -0.5)
ACROSS, UP = torch.linspace(-2.5, 3.5, 61), torch.linspace(-2.25, 2.75, 51)
ALONG = torch.linspace(-0.25, 1.25, 61)
# A point is off the data where no training point is nearer than this: over three standard deviations of the noise.
OFF = 0.5
WITHOUT, WITH = 0, 1
NAMES, COLORS, DASHES = ("without mixup", "with mixup"), (style.GRAY, style.GREEN), ("dash", "solid")


@dataclass(frozen=True)
class Params(Knobs):
    alpha: Annotated[float, Range(0.001, 100, shown=(0.01, 10), log=True, doc="α of Beta(α, α)")] = 1.0
    pair: Annotated[str, Choice("photographs", "digits", view=True, doc="what to mix in the picture")] = "photographs"
    first: Annotated[int, Range(0, 1796, view=True, when=("pair", ("digits",)), doc="first digit's number")] = 0
    second: Annotated[int, Range(0, 1796, view=True, when=("pair", ("digits",)), doc="second digit's number")] = 7
    lam: Annotated[str, Choice("drawn", "typed", view=True, doc="λ, the first's share")] = "drawn"
    draw: Annotated[int, Range(1, DRAWS, view=True, when=("lam", ("drawn",)), doc="which draw of λ")] = 1
    typed: Annotated[float, Range(0, 1, step=0.01, view=True, when=("lam", ("typed",)), doc="λ typed")] = 0.5
    points: Annotated[int, Range(BATCH, 1_000, doc="training points on the two moons")] = 200
    noise: Annotated[float, Range(0, 0.5, step=0.01, doc="noise of the moons, standard deviation")] = 0.15
    updates: Annotated[int, Range(50, 3_000, doc="updates of each network")] = 1_000
    seed: Seed = 0


PRESETS = {
    "ImageNet's α = 0.2: mostly one": Params(alpha=0.2),
    "α = 8: nearly half and half": Params(alpha=8.0),
    "α → 0: ordinary training": Params(alpha=0.001),
    "A zero and a seven, 40 to 60": Params(pair="digits", lam="typed", typed=0.4),
}

LOOK_FOR = (
    "Picture and label carry the same λ; a small α makes most mixes look like one of the two.",
    "Without mixup the moons are cut apart by a cliff; with it a slope climbs from one class to the other.",
    "Off the data the mixup network is a little less sure, at some cost in accuracy on this toy.",
)


@dataclass(frozen=True)
class Result:
    points: Tensor  # (n, 2) training points
    labels: Tensor  # (n,) their classes, int64
    updates: Tensor  # (F,) updates made by each frame so far
    confidence: Tensor  # (2, F) mean largest probability off the data; first without mixup, then with, as below
    accuracy: Tensor  # (2,) share of 2,000 new points put into the right class
    surface: Tensor  # (2, 51, 61) probability of class 1 over the plane
    line: Tensor  # (2, 61) probability of class 1 along the line from class 0 to class 1


@dataclass(frozen=True)
class View:
    trained: Result
    share: float  # lambda
    pair: Tensor  # (2, C, H, W) the two samples, values in [0, 1]
    mixed: Tensor  # (C, H, W)
    targets: Tensor  # (2, K) their one-hot labels
    target: Tensor  # (K,) the soft label
    classes: tuple[str, ...]  # (K,) names
    edges: Tensor  # (B + 1,) bins of lambda
    drawn: Tensor  # (B,) density of the draws from Beta(alpha, alpha) in each bin
    grid: Tensor  # (G,) lambda
    density: Tensor  # (G,) density of Beta(alpha, alpha) there


def mixup(x: Tensor, y: Tensor, share: float | Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (N, ...) and labels (N, K), each blended with that of its partner (N,) in the batch (Sec. 2)."""
    return share * x + (1 - share) * x[partner], share * y + (1 - share) * y[partner]


def draw_shares(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Draws (count,), float64, from Beta(alpha, alpha).

    A Student t of 2 alpha degrees of freedom by the polar method (Bailey 1994), brought into (0, 1):
    lambda = (1 + t / sqrt(2 alpha + t^2)) / 2. The same uniforms serve every alpha, so that draws glide as it turns.
    """
    u, v = torch.rand(2, count, dtype=torch.float64, generator=generator)
    cosine = torch.cos(2 * math.pi * v)
    squared = torch.expm1(-u.log() / alpha) * cosine**2  # t^2 / (2 alpha)
    return (1 + cosine.sign() / (1 + 1 / squared).sqrt()) / 2


def beta_density(x: Tensor, alpha: float) -> Tensor:
    """Density of Beta(alpha, alpha) at x in (0, 1), any shape."""
    log_beta = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)
    return ((alpha - 1) * (x * (1 - x)).log() - log_beta).exp()


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean over the batch, in nats, of the cross-entropy of logits (N, K) against soft labels y (N, K)."""
    return -(y * torch.log_softmax(logits, -1)).sum(-1).mean()


def classifier(generator: torch.Generator) -> nn.Sequential:
    """A network from points (N, 2) to logits (N, 2), with two hidden layers; untrained, it is undecided everywhere."""
    network = perceptron((2, HIDDEN, HIDDEN, 2), generator)
    nn.init.zeros_(network[-1].weight)
    return network


@torch.no_grad()
def class_1(network: nn.Module, at: Tensor) -> Tensor:
    """The network's probability of class 1 at points (..., 2)."""
    return torch.softmax(network(at), -1)[..., 1]


def between(share: Tensor) -> Tensor:
    """Points (..., 2) of the line between the classes, that share (...) of the way to the lower moon."""
    upper, lower = torch.tensor(UPPER), torch.tensor(LOWER)
    return share[..., None] * lower + (1 - share[..., None]) * upper


def run(p: Params) -> Iterator[Result]:
    generator = torch.Generator().manual_seed(p.seed)
    x, labels = two_moons(p.points, noise=p.noise, generator=generator)
    new_x, new_labels = two_moons(2_000, noise=p.noise, generator=generator)
    y = nn.functional.one_hot(labels, 2).float()
    networks = twins(classifier(generator))
    descents = [Descent(network.parameters()) for network in networks]
    shares = draw_shares(p.alpha, p.updates, generator).float()
    order, history = batches(p.points, BATCH, p.updates, generator), History()
    everywhere = plane(ACROSS, UP)
    off = torch.cdist(everywhere.flatten(0, 1), x).amin(-1).reshape(everywhere.shape[:2]) > OFF

    def step(update: int) -> None:
        batch, partner = next(order), torch.randperm(BATCH, generator=generator)
        fed = ((x[batch], y[batch]), mixup(x[batch], y[batch], shares[update], partner))
        for network, descent, (inputs, targets) in zip(networks, descents, fed, strict=True):
            descent.step(cross_entropy(network(inputs), targets), RATE)

    def look(update: int) -> Result:
        probability = torch.stack([class_1(network, everywhere) for network in networks])
        history.add(updates=update, confidence=torch.maximum(probability, 1 - probability)[:, off].mean(-1))
        guesses = torch.stack([class_1(network, new_x) > 0.5 for network in networks])
        return Result(
            points=x,
            labels=labels,
            **history.stacked(-1),
            accuracy=(guesses == new_labels.bool()).float().mean(-1),
            surface=probability,
            line=torch.stack([class_1(network, between(ALONG)) for network in networks]),
        )

    yield from train(p.updates, 40, step, look)


def examine(p: Params, r: Result) -> View:
    draws = draw_shares(p.alpha, DRAWS, torch.Generator().manual_seed(p.seed))
    share = p.typed if p.lam == "typed" else float(draws[p.draw - 1])
    if p.pair == "digits":
        images, labels = digits()
        chosen = torch.tensor([p.first, p.second])
        x, y, classes = images[chosen], nn.functional.one_hot(labels[chosen], 10).float(), tuple("0123456789")
    else:
        classes = ("china", "flower")
        x, y = torch.stack([photograph(name) for name in classes]), torch.eye(2)
    mixed, target = mixup(x, y, share, torch.tensor([1, 0]))
    drawn, edges = torch.histogram(draws, 20, range=(0, 1), density=True)
    grid = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    return View(
        trained=r,
        share=share,
        pair=x,
        mixed=mixed[0],
        targets=y,
        target=target[0],
        classes=classes,
        edges=edges,
        drawn=drawn,
        grid=grid,
        density=beta_density(grid, p.alpha),
    )


def readings(p: Params, r: View) -> dict[str, str | float]:
    trained = r.trained
    return {
        "λ": r.share,
        "Updates": int(trained.updates[-1]),
        "Confidence off the data, without": float(trained.confidence[WITHOUT, -1]),
        "Confidence off the data, with": float(trained.confidence[WITH, -1]),
        "Accuracy on new points, without": float(trained.accuracy[WITHOUT]),
        "Accuracy on new points, with": float(trained.accuracy[WITH]),
    }


def figure(p: Params, r: View) -> dict[str, go.Figure]:
    return {
        "The mix between its two samples: every pixel is blended by the same λ.": _pictures(r),
        "The label is blended by that λ too.": _label(r),
        f"λ is drawn from Beta(α, α): bars are {DRAWS:,} draws, the curve its density.": _density(p, r),
        "Without mixup. Pale is undecided; the lines are at p = 0.1, 0.5 and 0.9.": _surface(r, WITHOUT),
        f"With mixup at α = {p.alpha:.3g}: the wider the pale band, the gentler the slope.": _surface(r, WITH),
        "Along the line through the moons: a mix there is labeled λ, the dotted diagonal.": _line(r),
        "How sure each is off the data, on average; 0.5 would be undecided.": _confidence(p, r),
    }


def _pictures(r: View) -> go.Figure:
    first, second = (r.classes[int(target.argmax())] for target in r.targets)
    names = (f"first: {first}<br>λ = {r.share:.2f}", "mix", f"second: {second}<br>1 − λ = {1 - r.share:.2f}")
    fig = pictures((r.pair[0], r.mixed, r.pair[1]), names=names, height=240)
    return fig.update_layout(margin={"b": 44})


def _label(r: View) -> go.Figure:
    fig = style.figure(x="class", y="weight in the label")
    second = (r.targets[1] > 0).tolist()
    fig.add_bar(
        x=r.classes,
        y=r.target.numpy(),
        text=[f"{weight:.2f}" if weight else "" for weight in r.target.tolist()],
        textposition="outside",
        marker={
            "color": [style.ORANGE if theirs else style.BLUE for theirs in second],
            "pattern": {"shape": ["/" if theirs else "" for theirs in second]},
        },
    )
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[0, 1.12], tickvals=[0, 0.25, 0.5, 0.75, 1])
    return fig


def _density(p: Params, r: View) -> go.Figure:
    fig = style.figure(x="λ, the first sample's share", y="density")
    middles = (r.edges[1:] + r.edges[:-1]) / 2
    fig.add_bar(
        x=middles.numpy(),
        y=r.drawn.numpy(),
        name="drawn",
        marker={"color": style.GRAY, "pattern": {"shape": "/"}},
    )
    fig.add_scatter(
        x=r.grid.numpy(),
        y=r.density.numpy(),
        name=f"Beta({p.alpha:.3g}, {p.alpha:.3g})",
        line={"color": style.BLUE},
    )
    _mark(fig, r)
    fig.update_layout(bargap=0.05)
    fig.update_xaxes(range=[-0.02, 1.02])
    fig.update_yaxes(range=[0, max(2.0, 1.15 * float(r.drawn.max()))])
    return fig


def _mark(fig: go.Figure, r: View) -> None:
    fig.add_vline(
        x=r.share,
        line={"color": style.RED, "width": 1.5},
        annotation_text=f"λ = {r.share:.2f}",
        annotation_position="top left" if r.share > 0.5 else "top right",
    )


def _surface(r: View, which: int) -> go.Figure:
    probability = r.trained.surface[which]
    shown = {"hoverinfo": "z", "hovertemplate": "p(class 1) = %{z:.3f}<extra></extra>"}
    fig = surface(ACROSS, UP, probability, height=style.HEIGHT, **shown)
    border(fig, ACROSS, UP, probability, at=(0.1, 0.5, 0.9))
    for number, (color, symbol) in enumerate(((style.BLUE, "circle"), (style.ORANGE, "square"))):
        mine = r.trained.points[r.trained.labels == number][:150]
        scatter(fig, mine, name=f"class {number}", color=color, symbol=symbol)
    x, y = between(ALONG).T.numpy()
    line = {"color": style.INK, "width": 1.5, "dash": "dot"}
    fig.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    scatter(fig, between(torch.tensor([r.share])), name="λ on the line", color=style.RED, symbol="x", size=11)
    return fig.update_xaxes(tickvals=[-2, 0, 2]).update_yaxes(tickvals=[-2, 0, 2])


def _line(r: View) -> go.Figure:
    fig = style.figure(x="λ: from class 0's moon (0) to class 1's (1)", y="probability of class 1")
    diagonal = {"color": style.RED, "width": 1.5, "dash": "dot"}
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="λ itself", line=diagonal)
    style.lines(fig, ALONG.numpy(), NAMES, r.trained.line, colors=COLORS, dashes=DASHES)
    _mark(fig, r)
    fig.update_yaxes(range=[-0.03, 1.03])
    return fig


def _confidence(p: Params, r: View) -> go.Figure:
    fig = style.figure(x="updates", y="mean largest probability")
    style.lines(fig, r.trained.updates.numpy(), NAMES, r.trained.confidence, colors=COLORS, dashes=DASHES)
    return fig.update_xaxes(range=[0, p.updates]).update_yaxes(range=[0.5, 1.01])


def _shares(p: Params) -> list[float]:
    """Some shares to try a law at: the typed one, the ends, and draws from Beta(alpha, alpha)."""
    return [p.typed, 0.0, 1.0, *draw_shares(p.alpha, 12, torch.Generator().manual_seed(p.seed)).tolist()]


def _digit_batch(p: Params) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (64, 1, 8, 8), float64, one-hot labels (64, 10) and partners (64,), of digits in a random order."""
    images, labels = digits()
    generator = torch.Generator().manual_seed(p.seed)
    chosen = torch.randperm(len(images), generator=generator)[:64]
    y = nn.functional.one_hot(labels[chosen], 10).double()
    return images[chosen].double(), y, torch.randperm(64, generator=generator)


def _recovered(mixed: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The share of the first that explains the mix best, by least squares."""
    return ((mixed - second) * (first - second)).sum() / (first - second).square().sum()


@law("Inputs and labels are mixed with the same λ.", source="Sec. 2")
def same_share_for_input_and_label(p: Params) -> Evidence:
    x, y, partner = _digit_batch(p)
    worst = 0.0
    for share in _shares(p):
        mixed_x, mixed_y = mixup(x, y, share, partner)
        of_x, of_y = _recovered(mixed_x, x, x[partner]), _recovered(mixed_y, y, y[partner])
        worst = max(worst, abs(float(of_x - share)), abs(float(of_y - share)), abs(float(of_x - of_y)))
    return at_most(
        worst,
        0.0,
        1e-12,
        why="float64 rounding of least squares over 4,096 pixels",
        quantity="largest difference of λ as found again from the pixels, from the labels, and as drawn",
    )


@law("A mixed label is a probability: nothing negative, and it sums to 1.", source="Sec. 2")
def mixed_label_is_a_probability(p: Params) -> Evidence:
    x, y, partner = _digit_batch(p)
    worst = 0.0
    for share in _shares(p):
        _, mixed = mixup(x, y, share, partner)
        worst = max(worst, float((mixed.sum(-1) - 1).abs().max()), float(-mixed.min()))
    return at_most(worst, 0.0, 1e-15, why="float64 rounding of one sum", quantity="largest |sum − 1| or negative part")


@law("The mean of λ is 1/2.", source="Beta distribution")
def mean_share_is_half(p: Params) -> Evidence:
    shares = draw_shares(p.alpha, 100_000, torch.Generator().manual_seed(p.seed))
    return equal(
        shares.mean(),
        0.5,
        5 * math.sqrt(_variance(p.alpha) / len(shares)),
        why="five standard errors: right draws are refused at about one seed in a million",
        quantity="mean of 100,000 draws",
    )


@law("The variance of λ is 1 / (4 (2α + 1)).", source="Beta distribution")
def variance_of_the_share(p: Params) -> Evidence:
    squares = (draw_shares(p.alpha, 100_000, torch.Generator().manual_seed(p.seed)) - 0.5).square()
    # A Beta(a, a) has kurtosis 3 (2a + 1) / (2a + 3).
    spread = _variance(p.alpha) * math.sqrt(3 * (2 * p.alpha + 1) / (2 * p.alpha + 3) - 1)
    return equal(
        squares.mean(),
        _variance(p.alpha),
        5 * spread / math.sqrt(len(squares)),
        why="five standard errors: right draws are refused at about one seed in a million",
        quantity="mean squared distance from 1/2 of 100,000 draws",
    )


def _variance(alpha: float) -> float:
    return 1 / (4 * (2 * alpha + 1))


@law(
    "The loss of mixed labels is the sum of both labels' losses, weighted by λ and 1 − λ.",
    source="the authors' code; cross-entropy is linear in the label",
)
def loss_of_the_mix_is_the_mix_of_losses(p: Params) -> Evidence:
    x, y, partner = _digit_batch(p)
    generator = torch.Generator().manual_seed(p.seed)
    pixels_to_logits = torch.randn(64, 10, dtype=x.dtype, generator=generator)
    labels, worst = y.argmax(-1), 0.0
    for share in _shares(p):
        mixed_x, mixed_y = mixup(x, y, share, partner)
        logits = mixed_x.flatten(1) @ pixels_to_logits
        first, second = (nn.functional.cross_entropy(logits, of) for of in (labels, labels[partner]))
        expected = share * first + (1 - share) * second
        worst = max(worst, float((cross_entropy(logits, mixed_y) - expected).abs() / expected))
    return at_most(
        worst, 0.0, 1e-13, why="float64 rounding of 64 losses", quantity="largest relative difference to torch's losses"
    )


@law("α → 0 recovers ordinary training: the weights come out the same.", source="Sec. 2")
def vanishing_alpha_is_ordinary_training(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    x, labels = two_moons(p.points, noise=p.noise, generator=generator)
    x, y = x.double(), nn.functional.one_hot(labels, 2).double()
    mixing, ordinary = networks = twins(classifier(generator).double())
    descents = [Descent(network.parameters()) for network in networks]
    for batch, share in zip(batches(p.points, BATCH, 25, generator), draw_shares(1e-9, 25, generator), strict=True):
        partner = torch.randperm(BATCH, generator=generator)
        mixed_x, mixed_y = mixup(x[batch], y[batch], share, partner)
        descents[0].step(cross_entropy(mixing(mixed_x), mixed_y), RATE)
        descents[1].step(nn.functional.cross_entropy(ordinary(x[batch]), labels[batch]), RATE)
    pairs = zip(mixing.parameters(), ordinary.parameters(), strict=True)
    return at_most(
        max(float((mixed - plain).detach().abs().max()) for mixed, plain in pairs),
        0.0,
        1e-10,
        why="λ is 0 or 1, so a mixed batch is the batch in another order: float64 sums differ by rounding, grown by "
        "25 updates; one seed in a million draws another λ",
        quantity="largest difference of a weight after 25 updates at α = 10⁻⁹, against torch's loss of hard labels",
    )


@cache
def _trained(seed: int) -> Result:
    return list(run(Params(seed=seed)))[-1]


@finding(
    "Off the data the network trained with mixup is less sure: lower mean largest probability.",
    source="Sec. 2; Thulasidasan et al. 2019",
)
def less_sure_off_the_data() -> Evidence:
    last = torch.stack([_trained(seed).confidence[:, -1] for seed in range(5)])
    return more_than(
        (last[:, WITHOUT] - last[:, WITH]).min(),
        0.0,
        0.01,
        why="defaults, seeds 0 to 4, each must show it; off the data is farther than 0.5 from every training point, "
        "where both are nearly certain, so that a hundredth is a share of the doubt that counts",
        quantity="smallest fall of the mean largest probability over 5 seeds",
    )


@finding("Between the classes the network trained with mixup is closer to linear.", source="Sec. 2")
def closer_to_linear_between_the_classes() -> Evidence:
    inside = (ALONG >= 0) & (ALONG <= 1)
    lines = torch.stack([_trained(seed).line[:, inside] for seed in range(5)])
    distance = (lines - ALONG[inside]).abs().mean(-1)
    return less_than(
        (distance[:, WITH] / distance[:, WITHOUT]).max(),
        0.5,
        why="defaults, seeds 0 to 4, each must show it by half",
        quantity="largest ratio, with to without, of the mean |p(class 1) − λ| along the line, over 5 seeds",
    )


@report("On two moons mixup does not cost accuracy.", source="Sec. 3, where it gains on ImageNet and CIFAR")
def accuracy_on_new_points() -> Evidence:
    accuracy = torch.stack([_trained(seed).accuracy for seed in range(5)]).mean(0)
    return at_least(
        accuracy[WITH],
        accuracy[WITHOUT],
        why="defaults, mean over seeds 0 to 4, 2,000 new points each; the reference is the accuracy without mixup",
        quantity="accuracy with mixup",
    )
