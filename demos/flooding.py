r"""Flooding: hold the training loss at a level instead of driving it to zero.

Ishida, Yamane, Sakai, Niu and Sugiyama, "Do We Need Zero Training Loss After Achieving Zero Training Error?", ICML
2020, arXiv:2002.08709, Sec. 3.

    \tilde J(\theta) = |J(\theta) - b| + b
    \qquad \nabla \tilde J = \mathrm{sign}(J - b)\,\nabla J
    \qquad \Delta\theta \approx -\frac{\eta^2}{2}\,\nabla \lVert \nabla J \rVert^2

Symbols: $J$ the training loss of a batch in nats, $b$ the flood level, $\theta$ the weights, $\eta$ the learning rate.
The last formula is what a step down and a step up again leave: a drift to where the gradient is small. The two networks
trained here on two moons, a share of the labels flipped, are the same but for flooding: they share initial weights,
batches and learning rate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import (
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
    report,
    style,
)
from demos.kit.data import two_moons
from demos.kit.surface import border, plane, scatter, surface
from demos.kit.training import Descent, History, accuracy, batches, perceptron, train, twins

TOPIC = "training"
BATCH, RATE, NOISE, FRAMES, RECENT = 50, 0.1, 0.2, 40, 25
WIDTHS = (2, 64, 64, 2)
ACROSS, UP = torch.linspace(-2, 3, 51), torch.linspace(-1.5, 2, 41)
ASIDE = 5.3  # from a point of the first surface to the same point of the second
WITHOUT, WITH = 0, 1
NAMES, COLORS, DASHES = ("without flooding", "with flooding"), (style.GRAY, style.BLUE), ("dash", "solid")


@dataclass(frozen=True)
class Params(Knobs):
    level: Annotated[float, Range(0, 1.5, step=0.01, shown=(0, 1), doc="flood level b", unit="nats")] = 0.2
    flipped: Annotated[float, Range(0, 0.4, step=0.05, doc="share of the training labels flipped")] = 0.1
    points: Annotated[int, Range(BATCH, 500, doc="training points on the two moons")] = 100
    updates: Annotated[int, Range(50, 3_000, doc="updates of each network")] = 1_000
    seed: Seed = 0


PRESETS = {
    "A higher flood": Params(level=0.4),
    "Too high: nothing is learned": Params(level=1.0),
    "b = 0: ordinary training": Params(level=0.0),
    "Clean labels": Params(flipped=0.0, level=0.1),
}

LOOK_FOR = (
    "The training loss falls to the level and stays: below it, each update goes uphill.",
    "Without flooding the network cuts out islands around flipped labels, and is very sure of them.",
    "On new points the loss climbs far less with flooding; a level above ln 2 = 0.69 forbids learning.",
)


@dataclass(frozen=True)
class Result:
    points: Tensor  # (n, 2) training points
    labels: Tensor  # (n,) their labels, int64
    wrong: Tensor  # (n,) True where the label was flipped
    updates: Tensor  # (F,) updates made by each frame so far
    train: Tensor  # (2, F) loss on the training points, nats; first without flooding, then with, as below
    test: Tensor  # (2, F) loss on 1,000 new points, as many of their labels flipped, nats
    clean: Tensor  # (2, F) the same with none of their labels flipped
    accuracy: Tensor  # (2, F) share of the new points put into the right class, none flipped
    batches: Tensor  # (2, R) losses of the last batches before their updates, `RECENT` at most, nats
    uphill: float  # share of the updates so far that went uphill
    surface: Tensor  # (2, 41, 51) probability of class 1 over the plane
    flood: Tensor  # (2, 151) loss J from 0 to 1.5 nats, and the flooded loss


def flood(loss: Tensor, level: float) -> Tensor:
    """|J - b| + b, elementwise, of losses of any shape (Sec. 3)."""
    return (loss - level).abs() + level


def flip(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Labels (N,) in {0, 1}, each flipped with a probability of `share`."""
    return torch.where(torch.rand(len(labels), generator=generator) < share, 1 - labels, labels)


def mean_losses(networks: list[nn.Sequential], x: Tensor, y: Tensor) -> Tensor:
    """Mean loss, nats, of each of the networks on points (N, 2) with labels (N,)."""
    return torch.stack([nn.functional.cross_entropy(network(x), y) for network in networks])


def run(p: Params) -> Iterator[Result]:
    generator = torch.Generator().manual_seed(p.seed)
    x, labels = two_moons(p.points, noise=NOISE, generator=generator)
    y = flip(labels, p.flipped, generator)
    new_x, right = two_moons(1_000, noise=NOISE, generator=generator)
    new_y = flip(right, p.flipped, generator)
    networks = twins(perceptron(WIDTHS, generator))
    descents = [Descent(network.parameters()) for network in networks]
    order = batches(len(x), BATCH, p.updates, generator)
    possible = torch.linspace(0, 1.5, 151)
    history, met = History(), torch.empty(2, p.updates)

    def step(update: int) -> None:
        batch = next(order)
        ordinary, mine = (nn.functional.cross_entropy(network(x[batch]), y[batch]) for network in networks)
        descents[WITHOUT].step(ordinary, RATE)
        descents[WITH].step(flood(mine, p.level), RATE)
        met[:, update] = torch.stack([ordinary, mine]).detach()

    @torch.no_grad()
    def look(update: int) -> Result:
        history.add(
            updates=update,
            train=mean_losses(networks, x, y),
            test=mean_losses(networks, new_x, new_y),
            clean=mean_losses(networks, new_x, right),
            accuracy=torch.stack([accuracy(network(new_x), right) for network in networks]),
        )
        return Result(
            points=x,
            labels=y,
            wrong=y != labels,
            **history.stacked(-1),
            batches=met[:, max(0, update - RECENT) : update].clone(),
            uphill=int((met[WITH, :update] < p.level).sum()) / max(update, 1),
            surface=torch.stack([network(plane(ACROSS, UP)).softmax(-1)[..., 1] for network in networks]),
            flood=torch.stack([possible, flood(possible, p.level)]),
        )

    yield from train(p.updates, FRAMES, step, look)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "Training loss, without": float(r.train[WITHOUT, -1]),
        "Training loss, with": float(r.train[WITH, -1]),
        "Loss on new points, without": float(r.test[WITHOUT, -1]),
        "Loss on new points, with": float(r.test[WITH, -1]),
        "Accuracy, true labels, without": float(r.accuracy[WITHOUT, -1]),
        "Accuracy, true labels, with": float(r.accuracy[WITH, -1]),
        "Updates uphill": f"{r.uphill:.0%}",
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    train = _over_updates(p, r, r.train, "training loss (nats)")
    # The first losses would press the rest to the ground.
    train.update_yaxes(range=[0, max(0.75, 1.5 * p.level)])
    line = {"color": style.RED, "dash": "dot", "width": 1.5}
    train.add_scatter(x=[0, p.updates], y=[p.level] * 2, mode="lines", name=f"level b = {p.level:.2g}", line=line)
    return {
        "Pale is undecided, the line is at p = 0.5; crosses are flipped labels: only sure islands fit them.": (
            _surfaces(r)
        ),
        "The latest batches: below the level, descending the flooded loss is climbing the loss.": _flooded(p, r),
        "The training loss goes to the level and floats there.": train,
        "New points, labels flipped as often: being sure where a label may be wrong costs much.": _over_updates(
            p, r, r.test, "loss on new points (nats)"
        ),
    }


def _surfaces(r: Result) -> go.Figure:
    """Both decision surfaces on the same plane, the second moved aside."""
    fig = surface(ACROSS, UP, r.surface[WITHOUT], height=340)
    fig.add_traces(surface(ACROSS + ASIDE, UP, r.surface[WITH]).data)
    for which, name in enumerate(NAMES):
        aside = torch.tensor([which * ASIDE, 0.0])
        border(fig, ACROSS + aside[0], UP, r.surface[which])
        for label, (color, symbol) in enumerate(((style.BLUE, "circle"), (style.ORANGE, "square"))):
            labeled, named = r.labels == label, f"labeled {label}" if which == WITHOUT else ""
            scatter(fig, r.points[labeled & ~r.wrong] + aside, name=named, color=color, symbol=symbol)
            flipped = {"name": named and f"{named}, flipped", "edge": style.INK, "symbol": "x", "size": 9}
            scatter(fig, r.points[labeled & r.wrong] + aside, color=color, **flipped)
        middle = float(ACROSS.mean() + aside[0])
        fig.add_annotation(x=middle, y=float(UP[0]), yanchor="top", text=f"<b>{name}</b>", showarrow=False)
    style.equal_aspect(fig, (float(ACROSS[0]), float(ACROSS[-1]) + ASIDE), UP.tolist(), visible=False)
    return fig.update_layout(margin={"l": 8, "r": 8, "b": 28})


def _flooded(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="loss J of a batch (nats)", y="what is descended (nats)")
    x, y = r.flood.numpy()
    fig.add_scatter(x=x, y=x, mode="lines", name="J itself", line={"color": style.GRAY, "dash": "dash"})
    fig.add_scatter(x=x, y=y, mode="lines", name="|J − b| + b", line={"color": style.BLUE})
    heights = (r.batches[WITHOUT], flood(r.batches[WITH], p.level))
    for which, (losses, height) in enumerate(zip(r.batches, heights, strict=True)):
        ball = {"color": COLORS[which], "symbol": style.SYMBOLS[1 - which], "size": 10, "opacity": 0.75}
        edged = {**ball, "line": {"color": style.PAPER, "width": 1}}
        name = f"batches {NAMES[which]}"
        fig.add_scatter(x=losses.numpy(), y=height.numpy(), mode="markers", name=name, marker=edged)
    style.here(fig, p.level, "b")
    top = max(0.75, 1.5 * p.level)
    return fig.update_xaxes(range=[-0.02 * top, top]).update_yaxes(range=[-0.02 * top, max(top, 2.1 * p.level)])


def _over_updates(p: Params, r: Result, curves: Tensor, y: str) -> go.Figure:
    fig = style.figure(x="updates", y=y)
    style.lines(fig, r.updates.numpy(), NAMES, curves, colors=COLORS, dashes=DASHES)
    return fig.update_xaxes(range=[0, p.updates]).update_yaxes(rangemode="tozero")


@law("The flooded loss is never below the level, and touches it only there.", source="Sec. 3, definition")
def never_below_the_level(p: Params) -> Evidence:
    losses = torch.linspace(0, 3, 3_001, dtype=torch.float64)
    above = flood(losses, p.level) - p.level - (losses - p.level).abs()
    return at_most(
        torch.maximum(above.abs().max(), p.level - flood(losses, p.level).min()),
        0.0,
        1e-15,
        why="float64 rounding of adding b back",
        quantity="how far below the level, or off its distance |J − b|, over losses from 0 to 3",
    )


@law("Below the level the gradient has the same size and the opposite sign.", source="Sec. 3")
def gradient_turns_below_the_level(p: Params) -> Evidence:
    weights = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(p.seed))
    worst = 0.0
    # A loss of half the squared weights has the weights as its gradient. At b = 0 there is no below.
    for share in (0.25, 0.9, 1.1, 4.0) if p.level else (4.0,):
        at = weights * (2 * share * (p.level or 1.0)) ** 0.5 / weights.norm()
        leaf = at.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(flood(leaf.square().sum() / 2, p.level), leaf)
        worst = max(worst, float((gradient - (at if share > 1 else -at)).abs().max()))
    return at_most(worst, 0.0, 1e-12, why="float64 rounding", quantity="largest difference to ± the gradient")


@law("At level 0 it is ordinary training: the weights come out the same.", source="Sec. 3")
def level_zero_is_ordinary_training(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    x, y = two_moons(p.points, noise=NOISE, generator=generator)
    flooded, ordinary = twins(perceptron(WIDTHS, generator))
    descents = Descent(flooded.parameters()), Descent(ordinary.parameters())
    for batch in batches(p.points, BATCH, 20, generator):
        descents[0].step(flood(nn.functional.cross_entropy(flooded(x[batch]), y[batch]), 0.0), RATE)
        descents[1].step(nn.functional.cross_entropy(ordinary(x[batch]), y[batch]), RATE)
    pairs = zip(flooded.parameters(), ordinary.parameters(), strict=True)
    return equal(
        max(float((mine - theirs).detach().abs().max()) for mine, theirs in pairs),
        0.0,
        0.0,
        why="exact: a cross-entropy is not negative, so that |J| is J",
        quantity="largest difference of a weight after 20 updates",
    )


@law("Flooding each batch bounds flooding the whole from above.", source="Sec. 3, Jensen's inequality")
def batches_bound_the_whole(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    losses = (p.level or 1.0) * 2 * torch.rand(1_000, 8, dtype=torch.float64, generator=generator)
    by_batch, whole = flood(losses, p.level).mean(-1), flood(losses.mean(-1), p.level)
    return at_least(
        (by_batch - whole).min(),
        0.0,
        1e-12,
        why="float64 rounding; 1,000 sets of 8 batches with losses around the level",
        quantity="smallest difference, batches less whole",
    )


@law("A step down and a step up leave a descent of the squared gradient norm.", source="expansion to second order in η")
def down_and_up_descends_the_gradient_norm(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    root = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    start = torch.randn(6, dtype=torch.float64, generator=generator)
    rate = 0.1 / float(torch.linalg.matrix_norm(root, 2)) ** 2

    def loss(at: Tensor) -> Tensor:
        return (root @ at).square().sum() / 2

    def step(at: Tensor, level: float) -> Tensor:
        at = at.clone().requires_grad_()
        return (at - rate * torch.autograd.grad(flood(loss(at), level), at)[0]).detach()

    level = float(loss(start) + loss(step(start, 0.0))) / 2
    moved = step(step(start, level), level) - start
    at = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at, create_graph=True)
    (slope,) = torch.autograd.grad(gradient.square().sum(), at)
    expected = -(rate**2) / 2 * slope
    return at_most(
        (moved - expected).norm() / expected.norm(),
        0.0,
        1e-9,
        why="exact for a quadratic loss, as here; float64 rounding of two steps that nearly cancel",
        quantity="relative distance of what is left from −η²/2 ∇‖∇J‖²",
    )


SEEDS = range(3)


@cache
def _trained(seed: int) -> Result:
    return list(run(Params(seed=seed)))[-1]


def _last_quarter(curve: Tensor) -> Tensor:
    """Mean (...) over the last quarter of the frames of curves (..., F)."""
    return curve[..., -FRAMES // 4 :].mean(-1)


@finding("The training loss floats around the level.", source="Sec. 3, Fig. 1")
def floats_around_the_level() -> Evidence:
    return equal(
        torch.stack([_last_quarter(_trained(seed).train[WITH]) for seed in SEEDS]).mean(),
        Params().level,
        0.05,
        why="defaults, mean over seeds 0 to 2 and the last quarter of the updates; a quarter of the level; "
        "a seed may lie 0.08 above, as it is batches that are flooded",
        quantity="training loss, nats",
    )


@finding("On new points, labeled no better, flooding lowers the loss.", source="Sec. 4")
def lowers_the_test_loss() -> Evidence:
    losses = torch.stack([_last_quarter(_trained(seed).test) for seed in SEEDS])
    return less_than(
        (losses[:, WITH] / losses[:, WITHOUT]).max(),
        1.0,
        0.1,
        why="defaults, seeds 0 to 2, last quarter of the updates; each must fall by more than a tenth",
        quantity="largest ratio of the losses on new points, with to without",
    )


@report("Where the labels of new points are right, flooding lowers the loss too.", source="Sec. 4")
def lowers_the_clean_test_loss() -> Evidence:
    losses = torch.stack([_last_quarter(_trained(seed).clean) for seed in SEEDS])
    return less_than(
        (losses[:, WITH] / losses[:, WITHOUT]).max(),
        1.0,
        why="defaults, seeds 0 to 2, last quarter of the updates; not enforced: the gain is smaller, "
        "and other draws of the points have lost it",
        quantity="largest ratio of the losses on new points with no label flipped, with to without",
    )


@report("Flooding does not cost accuracy on new points.", source="Sec. 4, where it gains")
def accuracy_on_new_points() -> Evidence:
    right = torch.stack([_last_quarter(_trained(seed).accuracy) for seed in SEEDS]).mean(0)
    return at_least(
        right[WITH],
        right[WITHOUT],
        why="defaults, mean over seeds 0 to 2 and the last quarter of the updates; the reference is without flooding",
        quantity="accuracy with flooding",
    )


@report("With flooding the test loss falls a second time.", source="Fig. 1, on CIFAR-10")
def test_loss_falls_again() -> Evidence:
    losses = torch.stack([_trained(seed).test[WITH] for seed in SEEDS]).mean(0)
    return less_than(
        _last_quarter(losses),
        losses[FRAMES // 4 : FRAMES // 2].mean(),
        why="defaults, mean over seeds 0 to 2; the last quarter of the updates against the second",
        quantity="loss on new points, nats",
    )
