r"""Learning-rate schedules: scale with the batch, warm up, then decay, with or without restarts.

Linear scaling and warm-up: Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, Sec. 2; cosine and warm
restarts: Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv:1608.03983, eq. (5); triangle: Smith, "Cyclical Learning
Rates", WACV 2017, arXiv:1506.01186, Sec. 3.1; all but the triangle as in He et al., "Bag of Tricks", arXiv:1812.01187.

    \eta = \eta_{256}\,\frac{b}{256}
    \qquad \eta_i = \frac{i}{m}\,\eta \ \ (i \le m)
    \qquad \eta_t = \eta_{\min} + \frac{\eta - \eta_{\min}}{2}\Bigl(1 + \cos\frac{\pi\,t}{T}\Bigr)

Symbols: $b$ the batch size, $\eta_{256}$ the base rate, the one for a batch of 256; $\eta$ the peak rate; $m$ the
warm-up updates, $i$ counts them from 1; $T$ the updates after the warm-up (with restarts: of the cycle), $t$ counts
them from 0. The networks trained here classify 8 × 8 digits by gradient descent with momentum 0.9; they differ in
nothing but the schedule. The landscape is their loss on one plane of all weights: through the start, the end of the
chosen run, and the point of any run that is farthest from the line between the two. Of the rest of the runs one sees
the projection.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from demos.kit import (
    Choice,
    Evidence,
    Knobs,
    Range,
    Seed,
    at_least,
    at_most,
    finding,
    law,
    less_than,
    more_than,
    report,
    style,
)
from demos.kit.data import digits_split
from demos.kit.surface import plane
from demos.kit.training import Descent, accuracy, batches, mean_between, one_thread, perceptron, train, twins

TOPIC = "training"
WIDTHS = (64, 64, 64, 10)
FRAMES, IMAGES, POINTS = 40, 60, (21, 17)  # images that the landscape is of, and its points across and up
CYCLIC = ("warm restarts", "triangle")
CHOSEN, NO_WARMUP, NO_DECAY = 0, 1, 2
NAMES = ("chosen", "without warm-up", "without decay")
COLORS, DASHES, THICKNESS = (style.BLUE, style.RED, style.GRAY), ("solid", "dash", "dot"), (2.5, 1.5, 1.5)
LEVELS = {False: (0.01, 0.1, 1, 10), True: (0.2, 0.5, 1, 2, 5)}  # nats, that name the landscape's colors


@dataclass(frozen=True)
class Params(Knobs):
    base: Annotated[float, Range(0.01, 2, log=True, doc="base rate η₂₅₆, for a batch of 256")] = 0.2
    batch: Annotated[int, Range(8, 1024, log=True, unit="images", doc="batch size b")] = 1024
    warmup: Annotated[int, Range(0, 500, shown=(0, 200), unit="updates", doc="warm-up m")] = 100
    updates: Annotated[int, Range(50, 1_000, unit="updates", doc="length of the training")] = 250
    decay: Annotated[str, Choice("cosine", "steps", *CYCLIC, "none", doc="after the warm-up")] = "cosine"
    cycle: Annotated[int, Range(2, 1_000, shown=(10, 250), unit="updates", when=("decay", CYCLIC), doc="cycle")] = 60
    growth: Annotated[int, Range(1, 3, when=("decay", CYCLIC[:1]), doc="each cycle's length over the last one's")] = 1
    lowest: Annotated[float, Range(0, 1, step=0.01, doc="minimum η_min, as a share of the peak")] = 0.0
    noise: Annotated[float, Range(0, 1, step=0.05, doc="noise on every training image, standard deviation")] = 0.0
    seed: Seed = 0


NOISY = Params(base=1.0, batch=64, warmup=20, updates=440, noise=0.3)
PRESETS = {
    "A batch of 64: no warm-up needed": Params(batch=64, warmup=0),
    "Noisy images, cosine decay": NOISY,
    "Restarts, each cycle twice as long": NOISY.but(warmup=0, updates=420, decay="warm restarts", growth=2),
    "Smith's triangle": NOISY.but(warmup=0, decay="triangle", cycle=110),
}

LOOK_FOR = (
    "A large rate met at once throws the weights out, many times as far as the whole way with a warm-up.",
    "On noisy images a constant rate travels on at a higher loss: slowing down is what settles it.",
    "Four times the batch has four times the rate; on clean images with a small batch no schedule matters much.",
)


@dataclass(frozen=True)
class Trained:
    seen: Tensor  # (F,) updates made at each frame so far
    losses: Tensor  # (S, F - 1) mean training loss of each network from one frame to the next, nats
    accuracy: Tensor  # (S, F) share of the 500 test digits put into the right class
    weights: Tensor  # (S, F, D) all weights of each network


@dataclass(frozen=True)
class Landscape:
    across: Tensor  # (A,) distance from the start towards the end of the chosen run
    up: Tensor  # (U,) distance at a right angle to it
    loss: Tensor  # (U, A) there, nats
    paths: Tensor  # (3, F, 2) the runs, projected; nan where weights overflow


@dataclass(frozen=True)
class Result:
    rates: Tensor  # (3, T) learning rate of every update: chosen, the same without warm-up, the same without decay
    seen: Tensor  # (F,) updates made at each frame so far
    losses: Tensor  # (3, F - 1) mean training loss from one frame to the next, nats
    accuracy: Tensor  # (3, F) share of the 500 test digits put into the right class
    landscape: Landscape


def scaled_rate(base: float, batch: int) -> float:
    """The peak rate for a batch: proportional to it, `base` at 256 (Goyal et al., Sec. 2.1)."""
    return base * batch / 256


def warm_up(i: int, length: int) -> float:
    """Share of the peak at update i = 1, ..., `length` of the warm-up (Bag of Tricks, Sec. 3.1)."""
    return i / length


def cosine(t: float, length: float) -> float:
    """Share of the way from the minimum to the peak at t in [0, length] (SGDR, eq. 5)."""
    return (1 + math.cos(math.pi * t / length)) / 2


def warm_restarts(t: int, cycle: int, growth: int) -> float:
    """The same with restarts: a first cycle of `cycle` updates, each further one `growth` times as long."""
    while t >= cycle:
        t, cycle = t - cycle, cycle * growth
    return cosine(t, cycle)


def steps(t: int, length: int) -> float:
    """The same in steps: a tenth after each third of the length (Bag of Tricks: each 30 of 90 epochs)."""
    return 0.1 ** (3 * t // length)


def triangle(t: int, cycle: int) -> float:
    """The same up and down a triangle, from the minimum (Smith, Sec. 3.1; his stepsize is half a cycle)."""
    return 1 - abs(2 * t / cycle % 2 - 1)


def schedule(p: Params) -> Tensor:
    """Learning rate (updates,) of every update, float64."""
    peak = scaled_rate(p.base, p.batch)
    minimum = p.lowest * peak
    ramp = [peak * warm_up(i, p.warmup) for i in range(1, p.warmup + 1)]
    length = p.updates - p.warmup
    shapes = {
        "cosine": lambda t: cosine(t, length),
        "steps": lambda t: steps(t, length),
        "warm restarts": lambda t: warm_restarts(t, p.cycle, p.growth),
        "triangle": lambda t: triangle(t, p.cycle),
        "none": lambda t: 1.0,
    }
    shape = shapes[p.decay]
    after = [minimum + (peak - minimum) * shape(t) for t in range(length)]
    return torch.tensor((ramp + after)[: p.updates], dtype=torch.float64)


def trainings(schedules: Tensor, batch: int, seed: int, *, noise: float, frames: int) -> Iterator[Trained]:
    """Trains one network on digits for each of the schedules (S, T): same initial weights, same noisy batches."""
    generator = torch.Generator().manual_seed(seed)
    images, labels, test_images, test_labels = digits_split()
    networks = twins(perceptron(WIDTHS, generator), len(schedules))
    descents = [Descent(network.parameters()) for network in networks]
    updates = schedules.shape[1]
    order = batches(len(images), batch, updates, generator)
    losses, seen, right, weights = torch.empty(updates, len(networks)), [], [], []

    def step(update: int) -> None:
        chosen = next(order)
        x = images[chosen]
        if noise:
            x = x + noise * torch.randn(x.shape, generator=generator)
        for which, (network, descent) in enumerate(zip(networks, descents, strict=True)):
            loss = nn.functional.cross_entropy(network(x.flatten(1)), labels[chosen])
            descent.step(loss, float(schedules[which, update]))
            losses[update, which] = loss.detach()

    @torch.no_grad()
    def look(update: int) -> Trained:
        seen.append(update)
        right.append(torch.stack([accuracy(network(test_images.flatten(1)), test_labels) for network in networks]))
        weights.append(torch.stack([parameters_to_vector(network.parameters()) for network in networks]))
        return Trained(torch.tensor(seen), mean_between(losses, seen), torch.stack(right, -1), torch.stack(weights, 1))

    yield from train(updates, frames, step, look)


def losses_at(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Loss (P,), nats, of each of P networks with the given weights (P, D) on images x (N, 64) of classes y (N,)."""
    parts = weights.split([size for before, after in pairwise(WIDTHS) for size in (before * after, after)], 1)
    h = x.expand(len(weights), -1, -1)
    for layer, (matrix, bias) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        # (P, N, before) times (P, before, after)
        h = torch.baddbmm(bias[:, None], h.relu() if layer else h, matrix.unflatten(1, (-1, WIDTHS[layer])).mT)
    return nn.functional.cross_entropy(h.transpose(1, 2), y.expand(len(weights), -1), reduction="none").mean(1)


def plane_of(moves: Tensor) -> Tensor:
    """Two orthonormal directions (2, D): to where the first of the runs (S, F, D) ends, and from there to the farthest.

    Moves are weights less those at the start. The second is towards the move farthest from the line along the first.
    """
    first, second = torch.eye(2, moves.shape[-1])  # while nothing has moved
    end = moves[0][moves[0].isfinite().all(-1)][-1]
    if end.norm() > 0:
        first = end / end.norm()
    finite = moves[moves.isfinite().all(-1)]
    aside = finite - (finite @ first)[:, None] * first
    farthest = aside[aside.norm(dim=-1).argmax()]
    if farthest.norm() > 0:
        second = farthest / farthest.norm()
    return torch.stack([first, second])


def survey(weights: Tensor, x: Tensor, y: Tensor) -> Landscape:
    """The loss on images x (N, 64) of classes y (N,) around runs of weights (S, F, D), on the plane of the runs."""
    start = weights[0, 0]
    axes = plane_of(weights - start)
    paths = (weights - start) @ axes.T
    paths = paths.where(weights.isfinite().all(-1, keepdim=True), torch.nan)
    reached = paths.flatten(0, 1)
    reached = reached[reached.isfinite().all(-1)]
    low, high = reached.amin(0), reached.amax(0)
    margin = 0.12 * (high - low) + 0.01
    ends = zip((low - margin).tolist(), (high + margin).tolist(), POINTS, strict=True)
    across, up = (torch.linspace(first, last, count) for first, last, count in ends)
    at = plane(across, up)
    return Landscape(across, up, losses_at(start + at.flatten(0, 1) @ axes, x, y).view(at.shape[:2]), paths)


def run(p: Params) -> Iterator[Result]:
    variants = (p, p.but(warmup=0), p.but(decay="none"))
    schedules = torch.stack([schedule(variant) for variant in variants])
    images, labels, *_ = digits_split()
    x, y = images[:IMAGES].flatten(1), labels[:IMAGES]
    x = x + p.noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(p.seed))
    for trained in trainings(schedules, p.batch, p.seed, noise=p.noise, frames=FRAMES):
        with one_thread():
            landscape = survey(trained.weights, x, y)
        yield Result(schedules, trained.seen, trained.losses, trained.accuracy, landscape)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    peak = scaled_rate(p.base, p.batch)
    trained = {f"Test accuracy, {name}": float(correct) for name, correct in zip(NAMES, r.accuracy[:, -1], strict=True)}
    return {"Peak rate η": peak, "Updates": int(r.seen[-1]), **trained}


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    rate = style.figure(x="update", y="learning rate")
    loss = style.figure(x="update", y="training loss, nats (log)", log_y=True)
    every = max(1, p.updates // 300)
    for which in _distinct(r):
        look = {
            "name": NAMES[which],
            "mode": "lines",
            "line": {"color": COLORS[which], "dash": DASHES[which], "width": THICKNESS[which]},
        }
        at = torch.arange(1, p.updates + 1)[::every].numpy()
        rate.add_scatter(x=at, y=r.rates[which, ::every].numpy(), **look)
        losses = r.losses[which].nan_to_num(math.inf).clamp(max=1e4)
        loss.add_scatter(x=r.seen[1:].numpy(), y=losses.numpy(), **look)
    made = int(r.seen[-1])
    if made < p.updates:
        style.here(rate, made, "now")
    guessing = {"x": [0, p.updates], "y": [math.log(10)] * 2, "mode": "lines+text", "text": ["", "guessing"]}
    loss.add_scatter(
        **guessing,
        textposition="top left",
        line={"color": style.GRAY, "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    loss.update_yaxes(range=[-1, 1] if p.noise else [-4, 2], exponentformat="power")
    for fig in (rate, loss):
        fig.update_xaxes(range=[0, p.updates])
        fig.update_layout(legend={"traceorder": "reversed"})
    return {
        "How the weights travel over the loss, from one start. The larger a dot, the larger the rate.": (
            _landscape(p, r)
        ),
        f"The learning rate of every update; its peak is {p.base:g} · {p.batch} / 256.": rate,
        "The loss under each: a leap at the start is a rate too large for a new network.": loss,
    }


def _distinct(r: Result) -> list[int]:
    """The runs to draw, the chosen last and on top; those with the same schedule as it are left out."""
    return [which for which in (NO_DECAY, NO_WARMUP) if not torch.equal(r.rates[which], r.rates[CHOSEN])] + [CHOSEN]


def _landscape(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="distance towards the end of the chosen run", y="distance across", height=460)
    levels = LEVELS[p.noise > 0]
    powers = [math.log10(level) for level in levels]
    fig.add_contour(
        x=r.landscape.across.numpy(),
        y=r.landscape.up.numpy(),
        z=r.landscape.loss.nan_to_num(math.inf).clamp(1e-4, 1e4).log10().numpy(),
        zmin=powers[0],
        zmax=powers[-1],
        contours={"start": -4, "end": 4, "size": 0.1 if p.noise else 0.25, "coloring": "heatmap"},
        line={"color": style.PAPER, "width": 0.6},
        colorscale=style.SEQUENTIAL,
        colorbar={
            "title": {"text": "loss,<br>nats"},
            "tickvals": powers,
            "ticktext": levels,
            "thickness": 10,
        },
        hovertemplate="10^%{z:.1f} nats<extra></extra>",
    )
    peak = scaled_rate(p.base, p.batch)
    for which in _distinct(r):
        path = {"x": r.landscape.paths[which, :, 0].numpy(), "y": r.landscape.paths[which, :, 1].numpy()}
        fig.add_scatter(
            **path, mode="lines", line={"color": style.PAPER, "width": 4}, hoverinfo="skip", showlegend=False
        )
        rates = r.rates[which][(r.seen - 1).clamp(min=0)]
        fig.add_scatter(
            **path,
            mode="lines+markers",
            name=NAMES[which],
            line={"color": COLORS[which], "dash": DASHES[which], "width": 2.5},
            marker={
                "size": (4 + 8 * rates / peak).numpy(),
                "symbol": style.SYMBOLS[which],
                "line": {"color": style.PAPER, "width": 1},
            },
            text=[f"update {update}" for update in r.seen.tolist()],
            hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        )
    here = {"bgcolor": style.PAPER, "font": {"color": style.INK}, "arrowcolor": style.PAPER, "ax": -8, "ay": 28}
    fig.add_annotation(x=0, y=0, text="start", **here)
    return fig.update_layout(legend={"traceorder": "reversed"})


def _relative(measured: Tensor, expected: Tensor, p: Params) -> float:
    """Largest difference of two courses of the rate, relative to the peak."""
    return float((measured - expected).abs().max()) / scaled_rate(p.base, p.batch)


@law(
    "k times the batch has k times the rate, at every update; a batch of 256 peaks at the base rate.",
    source="Goyal, Sec. 2.1",
)
def rate_is_proportional_to_the_batch(p: Params) -> Evidence:
    plain = p.but(batch=256, warmup=0, decay="none")
    gap = float((schedule(plain) - p.base).abs().max()) / p.base
    proportional = _relative(schedule(p), schedule(p.but(batch=256)) * p.batch / 256, p)
    return at_most(
        max(gap, proportional),
        0.0,
        1e-14,
        why="float64 rounding",
        quantity="largest difference, relative to the peak",
    )


@law(
    "While the gradients stay the same, one update with four batches at once equals four updates, one batch each.",
    source="Goyal et al., Sec. 2.1, eq. (3) and (4)",
)
def one_large_step_is_four_small_ones(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    gradients = torch.randn(4, p.batch, 8, dtype=torch.float64, generator=generator)
    four = -scaled_rate(p.base, p.batch) * gradients.mean(1).sum(0)
    one = -scaled_rate(p.base, 4 * p.batch) * gradients.flatten(0, 1).mean(0)
    return at_most(
        (four - one).abs().max() / four.abs().max(),
        0.0,
        1e-12,
        why="float64 rounding of sums of at most 4,096 terms",
        quantity="largest difference of the two updates, relative to the largest entry",
    )


@law("The warm-up adds the same amount at every update and ends exactly at the peak.", source="Bag of Tricks, Sec. 3.1")
def warm_up_is_a_straight_line_to_the_peak(p: Params) -> Evidence:
    peak, length = scaled_rate(p.base, p.batch), max(p.warmup, 1)
    ramp = schedule(p.but(warmup=length, updates=1_000))[:length]
    added = ramp.diff(prepend=torch.zeros(1, dtype=ramp.dtype))
    return at_most(
        max(float((added - peak / length).abs().max()), abs(float(ramp[-1]) - peak)) / peak,
        0.0,
        1e-14,
        why="float64 rounding",
        quantity="largest difference from peak / m, and of the last one from the peak, relative to the peak",
    )


@law(
    "Cosine decay begins at the peak, is halfway in the middle and ends at the minimum; its mean is halfway, too.",
    source="SGDR, eq. (5)",
)
def cosine_landmarks(p: Params) -> Evidence:
    length = p.updates
    course = torch.tensor([cosine(t, length) for t in range(length + 1)], dtype=torch.float64)
    mean = torch.trapezoid(course) / length
    landmarks = torch.tensor([course[0], cosine(length / 2, length), course[-1], mean], dtype=torch.float64)
    expected = torch.tensor([1, 0.5, 0, 0.5], dtype=torch.float64)
    return at_most(
        (landmarks - expected).abs().max(),
        0.0,
        1e-13,
        why="float64 rounding; the trapezoid rule is exact, as the curve is odd about its middle",
        quantity="largest difference from 1, ½, 0 and ½ of the way from minimum to peak",
    )


@law(
    "Every restart jumps back to the peak, exactly; the update before is a hair above the minimum.",
    source="SGDR, Sec. 3",
)
def restarts_jump_to_the_peak(p: Params) -> Evidence:
    peak = scaled_rate(p.base, p.batch)
    rates = schedule(p.but(decay="warm restarts", warmup=0, updates=1_000))
    worst, start, length = 0.0, 0, p.cycle
    while start + length <= len(rates):
        last = p.lowest + (1 - p.lowest) * math.sin(math.pi / (2 * length)) ** 2
        worst = max(worst, abs(float(rates[start]) / peak - 1), abs(float(rates[start + length - 1]) / peak - last))
        start, length = start + length, length * p.growth
    return at_most(
        worst,
        0.0,
        1e-14,
        why="float64 rounding; the last of n updates has sin²(π / 2n) of the way left to go",
        quantity="largest difference at the first and last updates of the cycles, relative to the peak",
    )


def _by_torch(p: Params, scheduler: str, **options: float) -> Tensor:
    """The rates (updates,) of one of torch's own schedulers, from the peak on."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=scaled_rate(p.base, p.batch))
    course = getattr(torch.optim.lr_scheduler, scheduler)(optimizer, **options)
    rates = []
    for _ in range(p.updates):
        rates.append(course.get_last_lr()[0])
        optimizer.step()
        course.step()
    return torch.tensor(rates, dtype=torch.float64)


@law("Cosine decay agrees with torch's CosineAnnealingLR.", source="SGDR, eq. (5)")
def cosine_agrees_with_torch(p: Params) -> Evidence:
    p = p.but(decay="cosine", warmup=0)
    minimum = p.lowest * scaled_rate(p.base, p.batch)
    return at_most(
        _relative(schedule(p), _by_torch(p, "CosineAnnealingLR", T_max=p.updates, eta_min=minimum), p),
        0.0,
        1e-12,
        why="float64 rounding; torch computes each rate from the one before, a thousand times at most",
        quantity="largest difference, relative to the peak",
    )


@law("The restarts agree with torch's CosineAnnealingWarmRestarts.", source="SGDR, eq. (5)")
def restarts_agree_with_torch(p: Params) -> Evidence:
    p = p.but(decay="warm restarts", warmup=0)
    options = {"T_0": p.cycle, "T_mult": p.growth, "eta_min": p.lowest * scaled_rate(p.base, p.batch)}
    return at_most(
        _relative(schedule(p), _by_torch(p, "CosineAnnealingWarmRestarts", **options), p),
        0.0,
        1e-13,
        why="float64 rounding",
        quantity="largest difference, relative to the peak",
    )


@law("The triangle agrees with torch's CyclicLR.", source="Smith, Sec. 3.1")
def triangle_agrees_with_torch(p: Params) -> Evidence:
    p = p.but(decay="triangle", warmup=0)
    peak = scaled_rate(p.base, p.batch)
    options = {"base_lr": p.lowest * peak, "max_lr": peak, "step_size_up": p.cycle / 2, "cycle_momentum": False}
    return at_most(
        _relative(schedule(p), _by_torch(p, "CyclicLR", **options), p),
        0.0,
        1e-12,
        why="float64 rounding of the place within one of up to 500 cycles",
        quantity="largest difference, relative to the peak",
    )


@cache
def _final_losses(p: Params, seeds: int) -> Tensor:
    """Mean training loss (seeds,) over the last tenth of the updates, nats, of networks with seeds 0, 1, ..."""
    runs = [list(trainings(schedule(p)[None], p.batch, seed, noise=p.noise, frames=10)) for seed in range(seeds)]
    return torch.stack([frames[-1].losses[0, -1] for frames in runs]).nan_to_num(math.inf)


@finding(
    "Without warm-up most runs with a large batch diverge.",
    source="found here; in Goyal et al., Tab. 1, the run without it ends worse",
)
def without_warm_up_it_diverges() -> Evidence:
    return at_least(
        (_final_losses(Params(warmup=0), 5) > 1).sum(),
        3,
        why="defaults but no warm-up; diverged is a loss that ends above 1 nat, where guessing has 2.3 and a trained "
        "network under 0.01; most of five is three",
        quantity="runs diverged, of seeds 0 to 4",
    )


@finding(
    "With warm-up none of the same runs does.", source="found here; in Goyal et al., Tab. 1, warm-up lowers the error"
)
def with_warm_up_it_trains() -> Evidence:
    return less_than(
        _final_losses(Params(), 5).max(),
        0.1,
        why="defaults; 0.1 nats is far from both, a trained network and one that diverged",
        quantity="largest final training loss at seeds 0 to 4, nats",
    )


@finding(
    "Four times the batch with four times the rate trains as far in the same epochs; with the same rate it lags.",
    source="Goyal et al., Sec. 2.1",
)
def scaling_keeps_the_pace() -> Evidence:
    batch_128 = Params(base=0.1, batch=128, warmup=40, updates=400)
    batch_512 = batch_128.but(batch=512, warmup=10, updates=100)
    small, scaled, unscaled = (_final_losses(p, 3).log() for p in (batch_128, batch_512, batch_512.but(base=0.025)))
    return less_than(
        ((scaled - small).abs() / (unscaled - small).abs()).max(),
        0.5,
        why="about 40 epochs each, seeds 0 to 2, each must show it by half",
        quantity="largest ratio of the distances of log loss to that with a batch of 128: rate scaled, over not scaled",
    )


def _gain_of_decay(p: Params) -> Tensor:
    """By what share (3,) the cosine lowers the final training loss, against a constant rate after the same warm-up."""
    return 1 - _final_losses(p, 3) / _final_losses(p.but(decay="none"), 3)


@finding("Where gradients stay noisy, decay ends lower than a constant rate.", source="SGDR, Sec. 1")
def decay_pays_on_noisy_images() -> Evidence:
    return more_than(
        _gain_of_decay(NOISY).min(),
        0.0,
        0.1,
        why="the preset with noisy images, seeds 0 to 2, each must show it; a mean of 44 batches is good to about 2 %",
        quantity="smallest share by which the final training loss is lower",
    )


@report(
    "With a larger batch on clean images, where gradients hardly differ, decay ends lower, too.", source="SGDR, Sec. 1"
)
def decay_where_gradients_agree() -> Evidence:
    return more_than(
        _gain_of_decay(NOISY.but(base=0.2, batch=256, noise=0.0)).mean(),
        0.0,
        why="a batch of 256 at a rate of 0.2, mean over seeds 0 to 2: the network soon fits every digit, gradients "
        "vanish by themselves, and the rate that stays large keeps fitting faster; below 0 decay ends higher",
        quantity="share by which the final training loss is lower",
    )
