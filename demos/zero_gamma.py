r"""Zero gamma: start every residual block as the identity, and let it grow in.

Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, Sec. 5.1; He et al., "Bag of Tricks for Image
Classification", CVPR 2019, arXiv:1812.01187, Sec. 3.1.

    y = \mathrm{ReLU}\bigl(x + \gamma\,\hat f(x) + \beta\bigr)
    \qquad \hat f = \mathrm{BN}\bigl(W_2 * \mathrm{ReLU}(\mathrm{BN}(W_1 * x))\bigr)

    \frac{\partial\mathcal L}{\partial\gamma} = \sum g\,\hat f
    \qquad \frac{\partial\mathcal L}{\partial\hat f} = \gamma\,g

Symbols: $x$ and $y$ what goes in and out of a block, 8 channels; $W_1$ and $W_2$ its two 3 × 3 convolutions; BN
normalization over batch and positions; $\gamma$ and $\beta$ the scale and shift of the last normalization, one for each
channel, $\beta = 0$ at the start; $\mathcal L$ the loss and $g$ its gradient at the sum inside the ReLU. The network
here reads digits: the normalized image and 7 filtered copies go in, a linear classifier of channel means comes last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import Evidence, Knobs, Range, Seed, at_most, equal, finding, law, less_than, more_than, report, style
from demos.kit.data import digits, digits_split
from demos.kit.pictures import pictures
from demos.kit.training import Descent, batches, one_thread

TOPIC = "training"
CHANNELS, EPS = 8, 1e-5
USUAL, CHOSEN = 0, 1
KINDS = ("first conv", "last conv", "γ", "β")


@dataclass(frozen=True)
class Params(Knobs):
    gamma: Annotated[float, Range(0, 2, shown=(0, 1), step=0.05, doc="scale γ that ends every block")] = 0.0
    blocks: Annotated[int, Range(1, 40, doc="residual blocks L")] = 16
    samples: Annotated[int, Range(4, 32, doc="digits N in the batch")] = 16
    seed: Seed = 0


PRESETS = {
    "γ = 0": Params(),
    "γ = 0.2: a quiet start": Params(gamma=0.2),
    "40 blocks": Params(blocks=40),
    "40 blocks, γ = 0.5": Params(gamma=0.5, blocks=40),
}

LOOK_FOR = (
    "At γ = 0 the digit leaves the last block as it entered the first; at γ = 1 it is soon lost in random features.",
    "Each block of γ = 1 adds variance. At γ = 0 the network is as shallow as its classifier.",
    "In the first step only γ and β get a gradient; as soon as γ has left 0, the convolutions do too.",
)


@dataclass(frozen=True)
class Result:
    maps: Tensor  # (2, L + 1, 8, 8) what 0..L blocks make of the first digit's image channel; γ = 1, then as chosen
    variance: Tensor  # (2, L + 1) of all activations after 0..L blocks
    gradient: Tensor  # (2, L + 1) length of the loss's gradient there
    by_kind: Tensor  # (2, 4) root mean square over the blocks of the gradient's length in each of KINDS
    after_step: Tensor  # (4,) the same as chosen, after one step of gradient descent at rate 0.1


@dataclass(frozen=True)
class Weights:
    """All that is learned; L blocks of C channels."""

    first: Tensor  # (L, C, C, 3, 3)
    last: Tensor  # (L, C, C, 3, 3)
    gamma: Tensor  # (L, C)
    beta: Tensor  # (L, C)
    classifier: Tensor  # (10, C)

    def tensors(self) -> list[Tensor]:
        return [self.first, self.last, self.gamma, self.beta, self.classifier]


def normalize(x: Tensor) -> Tensor:
    """Batch normalization of (N, C, H, W) without scale and shift: each channel with mean 0 and variance near 1."""
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    return (x - mean) * (variance + EPS).rsqrt()


def branch(x: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The normalized output (N, C, H, W) of a block's two convolutions (C, C, 3, 3)."""
    hidden = torch.relu(normalize(nn.functional.conv2d(x, first, padding=1)))
    return normalize(nn.functional.conv2d(hidden, last, padding=1))


def block(x: Tensor, first: Tensor, last: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """ReLU(x + gamma f(x) + beta), (N, C, H, W), with gamma and beta (C,)."""
    return torch.relu(x + gamma[:, None, None] * branch(x, first, last) + beta[:, None, None])


def forward(x: Tensor, weights: Weights) -> list[Tensor]:
    """What 0..L blocks make of inputs (N, C, H, W)."""
    handed = [x]
    for first, last, gamma, beta in zip(weights.first, weights.last, weights.gamma, weights.beta, strict=True):
        handed.append(block(handed[-1], first, last, gamma, beta))
    return handed


def loss(features: Tensor, weights: Weights, labels: Tensor) -> Tensor:
    """Cross-entropy, nats, of a linear classifier of the channels' means; features (N, C, H, W), labels (N,)."""
    return nn.functional.cross_entropy(features.mean((2, 3)) @ weights.classifier.T, labels)


def draw_weights(blocks: int, gamma: float, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Weights:
    """Convolutions as He et al. (2015) draw them, every last gamma as given, beta 0."""
    he = (2 / (9 * CHANNELS)) ** 0.5
    first, last = he * torch.randn(2, blocks, CHANNELS, CHANNELS, 3, 3, dtype=dtype, generator=generator)
    classifier = torch.randn(10, CHANNELS, dtype=dtype, generator=generator) / CHANNELS**0.5
    level = torch.full((blocks, CHANNELS), gamma, dtype=dtype)
    return Weights(first, last, level, torch.zeros_like(level), classifier)


def stem(images: Tensor, generator: torch.Generator) -> Tensor:
    """ReLU of the normalized image and 7 random filtered copies: (N, C, H, W) for images (N, 1, H, W)."""
    kernels = torch.randn(CHANNELS - 1, 1, 3, 3, dtype=images.dtype, generator=generator)
    return torch.relu(normalize(torch.cat([images, nn.functional.conv2d(images, kernels, padding=1)], 1)))


def run(p: Params) -> Result:
    x, labels, weights = _start(p)
    usual = replace(weights, gamma=torch.ones_like(weights.gamma))
    maps, variance, gradient, by_kind = [], [], [], []
    for start in (usual, weights):
        handed, of_handed, of_weights = gradients(x, start, labels)
        maps.append(torch.stack([h[0, 0] for h in handed]))
        variance.append(torch.stack([h.var() for h in handed]))
        gradient.append(torch.stack([g.norm() for g in of_handed]))
        by_kind.append(_lengths(of_weights))
    stepped = Weights(*(w - 0.1 * g for w, g in zip(weights.tensors(), of_weights, strict=True)))
    return Result(
        maps=torch.stack(maps),
        variance=torch.stack(variance),
        gradient=torch.stack(gradient),
        by_kind=torch.stack(by_kind),
        after_step=_lengths(gradients(x, stepped, labels)[2]),
    )


def gradients(x: Tensor, weights: Weights, labels: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """What 0..L blocks hand on, the loss's gradients there, and those in the weights (as `Weights.tensors`)."""
    learned = [weight.clone().requires_grad_() for weight in weights.tensors()]
    handed = forward(x.clone().requires_grad_(), Weights(*learned))
    found = torch.autograd.grad(loss(handed[-1], Weights(*learned), labels), [*handed, *learned])
    return [h.detach() for h in handed], list(found[: len(handed)]), list(found[len(handed) :])


def _start(p: Params) -> tuple[Tensor, Tensor, Weights]:
    """A batch of inputs (N, C, 8, 8) with labels (N,), and the weights at the start."""
    generator = torch.Generator().manual_seed(p.seed)
    images, labels = digits()
    chosen = torch.randint(len(images), (p.samples,), generator=generator)
    x = stem(images[chosen].double(), generator)
    return x, labels[chosen], draw_weights(p.blocks, p.gamma, generator)


def _lengths(of_weights: Sequence[Tensor]) -> Tensor:
    """Root mean square over the blocks of the gradient's length, (4,), in the order of KINDS."""
    return torch.stack([g.flatten(1).square().sum(-1).mean().sqrt() for g in of_weights[: len(KINDS)]])


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "Variance after the last block": float(r.variance[CHOSEN, -1]),
        "Variance there at γ = 1": float(r.variance[USUAL, -1]),
        "Gradient at the first block": float(r.gradient[CHOSEN, 0]),
        "Gradient there at γ = 1": float(r.gradient[USUAL, 0]),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        f"A digit on its way through the blocks, seen in one channel: γ = 1 above, γ = {p.gamma:g} below.": _maps(p, r),
        "The variance of the activations: each block of γ = 1 adds to it.": _variance(p, r),
        "The gradient on its way back, from right to left; at γ = 0 ReLU takes its part, once.": _gradient(p, r),
        f"Who gets a gradient at γ = {p.gamma:g}: before the first step and after it. No bar is 0.": _kinds(p, r),
    }


def _maps(p: Params, r: Result) -> go.Figure:
    after = sorted({round(i * p.blocks / 4) for i in range(5)})
    images = [r.maps[row, at] for row in (USUAL, CHOSEN) for at in after]
    names = ["" for _ in after] + [f"after {at}" for at in after]
    scaled = [(image / image.max().clamp(min=1e-12))[None] for image in images]
    return pictures(scaled, names=names, columns=len(after), height=280)


def _variance(p: Params, r: Result) -> go.Figure:
    return _by_block(p, r.variance, style.figure(x="after block", y="variance")).update_yaxes(rangemode="tozero")


def _gradient(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="after block", y="length of the gradient (log)", log_y=True)
    return style.decades(_by_block(p, r.gradient, fig), float(r.gradient.min()), float(r.gradient.max()))


def _by_block(p: Params, curves: Tensor, fig: go.Figure) -> go.Figure:
    for curve, name, color, dash in (
        (curves[USUAL], "γ = 1", style.ORANGE, "dash"),
        (curves[CHOSEN], f"chosen: γ = {p.gamma:g}", style.BLUE, "solid"),
    ):
        line = {"color": color, "dash": dash, "width": 2.5}
        fig.add_scatter(x=list(range(p.blocks + 1)), y=curve.numpy(), mode="lines", name=name, line=line)
    return fig


def _kinds(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="parameters", y="length of the gradient (log)", log_y=True)
    for name, lengths, color, shape in (
        ("at the start", r.by_kind[CHOSEN], style.BLUE, ""),
        ("after one step", r.after_step, style.GREEN, "/"),
    ):
        fig.add_bar(x=KINDS, y=lengths.numpy(), name=name, marker={"color": color, "pattern": {"shape": shape}})
    fig.update_xaxes(type="category")
    lengths = torch.cat([r.by_kind[CHOSEN], r.after_step])
    return style.decades(fig, float(lengths[lengths > 0].min()), float(lengths.max()))


@law("At γ = 0 every block is the identity, bit for bit.", source="Bag of Tricks, Sec. 3.1")
def zero_is_the_identity(p: Params) -> Evidence:
    x, _, weights = _start(p.but(gamma=0.0))
    return equal(
        max(float((after - x).abs().max()) for after in forward(x, weights)),
        0.0,
        0.0,
        why="adding 0 to a number that is not negative and taking ReLU rounds nothing",
        quantity="largest change over all blocks",
    )


@law("At γ = 0 the variance of the activations does not grow with depth.", source="Bag of Tricks, Sec. 3.1")
def variance_stays(p: Params) -> Evidence:
    x, _, weights = _start(p.but(gamma=0.0))
    return equal(
        forward(x, weights)[-1].var() / x.var(),
        1.0,
        0.0,
        why="the same numbers, summed in the same order",
        quantity="variance after the last block over that before the first",
    )


@law("A branch adds features of mean 0 and variance γ², whatever its weights.", source="definition of BN")
def a_branch_adds_gamma_squared(p: Params) -> Evidence:
    x, _, weights = _start(p)
    added = p.gamma * branch(x, weights.first[0], weights.last[0])
    worst = max(
        float(added.mean((0, 2, 3)).abs().max()), float((added.var((0, 2, 3), correction=0) - p.gamma**2).abs().max())
    )
    return at_most(
        worst,
        0.0,
        1e-3,
        why="ε takes a share 10⁻⁵/σ² of γ² ≤ 4, and the variance σ² before normalization is above 0.04 here",
        quantity="largest error of a channel's mean or variance",
    )


@law("The gradient of γ is the sum of g times the normalized branch.", source="chain rule")
def gradient_of_gamma(p: Params) -> Evidence:
    x, labels, weights = _start(p)
    handed, of_handed, of_weights = gradients(x, weights, labels)
    inside = torch.where(handed[-1] > 0, of_handed[-1], 0.0)
    expected = (inside * branch(handed[-2], weights.first[-1], weights.last[-1])).sum((0, 2, 3))
    return at_most(
        (of_weights[2][-1] - expected).norm() / expected.norm(),
        0.0,
        1e-10,
        why="float64 rounding of sums over batch and positions",
        quantity="relative difference to automatic differentiation, last block",
    )


@law("At γ = 0 no convolution gets a gradient, yet every γ does.", source="∂L/∂f = γ g")
def only_gamma_and_beta_move(p: Params) -> Evidence:
    x, labels, weights = _start(p.but(gamma=0.0))
    first, last, gamma, *_ = gradients(x, weights, labels)[2]
    moved = gamma.norm(dim=-1).min()
    return equal(
        max(first.abs().max(), last.abs().max()) if moved > 0 else float("nan"),
        0.0,
        0.0,
        why="a product with 0 is 0; were some block's γ without a gradient, this would be no number",
        quantity="largest gradient in a convolution",
    )


@law("Nothing stays stuck: after one step from γ = 0 every convolution gets a gradient.", source="∂L/∂f = γ g")
def nothing_stays_stuck(p: Params) -> Evidence:
    x, labels, weights = _start(p.but(gamma=0.0))
    of_weights = gradients(x, weights, labels)[2]
    stepped = Weights(*(w - 0.1 * g for w, g in zip(weights.tensors(), of_weights, strict=True)))
    first, last, *_ = gradients(x, stepped, labels)[2]
    return more_than(
        min(first.flatten(1).norm(dim=-1).min(), last.flatten(1).norm(dim=-1).min()),
        0.0,
        why="any gradient will do; it grows with γ",
        quantity="smallest length of a convolution's gradient after one step at rate 0.1",
    )


@finding(
    "At γ = 1 the variance grows with every few blocks, more than tenfold over 16.", source="Sec. 3.1 of Bag of Tricks"
)
def usual_variance_grows() -> Evidence:
    variances = torch.stack([run(Params(seed=seed)).variance[USUAL] for seed in range(5)])
    return more_than(
        (variances[:, -1] / variances[:, 0]).min(),
        10.0,
        why="defaults, seeds 0 to 4, each must show it; 16 branches of variance 1, of which ReLU leaves about 0.4",
        quantity="smallest ratio of the variance after 16 blocks to that before",
    )


@cache
def _trained(gamma: float, seed: int) -> Tensor:
    """Loss (40,), nats, of 6 blocks at each of 40 updates on 32 digits, rate 0.2, momentum 0.9."""
    images, labels, _, _ = digits_split()
    generator = torch.Generator().manual_seed(seed)
    x = stem(images, generator)
    weights = draw_weights(6, gamma, generator, torch.float32)
    descent, losses = Descent(weight.requires_grad_() for weight in weights.tensors()), []
    with one_thread():
        for batch in batches(len(x), 32, 40, generator):
            now = loss(forward(x[batch], weights)[-1], weights, labels[batch])
            descent.step(now, rate=0.2)
            losses.append(now.detach())
    return torch.stack(losses)


@finding("Training begins more gently: from γ = 0 the loss never peaks as high as from γ = 1.", source="Sec. 5.1")
def gentle_start() -> Evidence:
    peaks = torch.stack([torch.stack([_trained(gamma, seed).max() for gamma in (1.0, 0.0)]) for seed in range(3)])
    return more_than(
        (peaks[:, 0] - peaks[:, 1]).min(),
        0.3,
        why="6 blocks, 40 updates on digits, seeds 0 to 2, each must show it; guessing is at 2.3 nats",
        quantity="smallest gap of the highest loss, nats",
    )


@report(
    "After 40 updates the network that began at γ = 0 is ahead.", source="notes: easier to train in its first phase"
)
def ahead_early() -> Evidence:
    ends = torch.stack([torch.stack([_trained(gamma, seed)[-10:].mean() for gamma in (0.0, 1.0)]) for seed in range(3)])
    return less_than(
        ends[:, 0].mean(),
        ends[:, 1].mean(),
        why="mean loss of the last 10 of 40 updates over seeds 0 to 2; the reference is that from γ = 1. Six blocks of "
        "8 channels need no help, and begin with what their random features offer",
        quantity="training loss from γ = 0, nats",
    )
