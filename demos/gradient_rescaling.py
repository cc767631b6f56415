r"""Gradient rescaling: keep the direction of each sample's gradient, and choose its length by its probability.

Wang, Hua, Kodirov and Robertson, "IMAE for Noise-Robust Learning", arXiv:1903.12141, and "Emphasis Regularisation by
Gradient Rescaling for Training Deep Neural Networks with Noisy Labels", arXiv:1905.11233 (later "Derivative
Manipulation"); the weight w as in the authors' released code.

    \left\lVert\frac{\partial L}{\partial z}\right\rVert_1 = 2(1-p) \text{ (CE)}, \quad 4p(1-p) \text{ (MAE)}
    \qquad g = \frac{w(p)}{2(1-p)}\,(q - y), \quad w(p) = e^{\beta p^{\lambda}(1-p)}

Symbols: $z$ the logits of a sample, $q$ its probabilities, $y$ its one-hot label, $p$ the probability of the label; CE
the cross-entropy, MAE the mean absolute error $\sum_k |q_k - y_k|$; $g$ the gradient used instead, over the sum of $w$
in the batch; $\lambda$ places the emphasis, at $p = \lambda/(\lambda+1)$, and $\beta$ sets how strong it is. IMAE is
$\lambda = 1$ with $T = \beta$. Here three linear classifiers learn the same digits, some with wrong labels.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional as F

from demos.kit import (
    Evidence,
    Knobs,
    Range,
    Seed,
    at_most,
    equal,
    finding,
    law,
    less_than,
    more_than,
    report,
    rising,
    style,
)
from demos.kit.data import digits_split
from demos.kit.pictures import pictures
from demos.kit.training import frame_steps, momentum_step, one_thread

TOPIC = "training"
CE, MAE, RESCALED = 0, 1, 2
NAMES = ("cross-entropy", "MAE", "rescaled")
LOOKS = (
    {"color": style.GRAY, "dash": "dash"},
    {"color": style.ORANGE, "dash": "dot"},
    {"color": style.BLUE, "dash": "solid"},
)
RATE, MOMENTUM, FRAMES = 0.5, 0.9, 20
HEAVIEST = 6  # digits shown of each rule
BINS = 20
UNIFORM = (torch.arange(2_000, dtype=torch.float64) + 0.5) / 2_000  # p spread evenly over (0, 1)


@dataclass(frozen=True)
class Params(Knobs):
    lam: Annotated[float, Range(0, 4, step=0.05, doc="λ, where the emphasis is")] = 1.0
    beta: Annotated[float, Range(0, 20, step=0.1, doc="β, how strong it is")] = 8.0
    noise: Annotated[float, Range(0, 0.8, step=0.05, doc="share of wrong labels")] = 0.4
    moment: Annotated[int, Range(0, 100, view=True, unit="%", doc="share of the training after which to look")] = 30
    samples: Annotated[int, Range(100, 600, doc="training digits")] = 300
    updates: Annotated[int, Range(50, 400, doc="updates, each of all digits")] = 200
    seed: Seed = 0


PRESETS = {
    "IMAE: λ = 1, T = 8": Params(),
    "Hardest first: λ = 0": Params(lam=0.0),
    "Easier first: λ = 2": Params(lam=2.0, beta=16.0),
    "Clean labels": Params(noise=0.0),
}

LOOK_FOR = (
    "Soon the wrong labels are the ones with low p, and cross-entropy gives just these its largest gradients.",
    "MAE ignores low p altogether: it resists wrong labels, but starts slowly and underfits even clean ones.",
    "The rescaled rule keeps a floor at low p and a peak where you put it: it fits, and learns less of what is wrong.",
)


@dataclass(frozen=True)
class Result:
    """What was seen at S moments of training by the three rules; the first W of n digits are labeled wrongly."""

    images: Tensor  # (n, 1, 8, 8) in [0, 1]
    truth: Tensor  # (n,) int64
    given: Tensor  # (n,) the labels to learn, int64
    wrong: int  # W
    steps: Tensor  # (S,) updates done
    probabilities: Tensor  # (S, n, 3) of the given label
    wrong_share: Tensor  # (S, 3) share of all gradient lengths that wrong labels have
    accuracy: Tensor  # (S, 3) share of 500 test digits
    fitted: Tensor  # (2, 3) share of the given labels that the last network repeats: right ones, wrong ones
    grid: Tensor  # (G,) p
    curves: Tensor  # (3, G) gradient length of each rule, over its mean for p uniform in [0, 1]


@dataclass(frozen=True)
class View:
    """The result at one moment."""

    trained: Result
    step: int
    density: Tensor  # (2, BINS) share of the right and of the wrong labels with p in each bin, rescaled rule
    heaviest: dict[str, Tensor]  # rule -> (HEAVIEST,) digits with the longest gradients, longest first


def ce_length(p: Tensor) -> Tensor:
    """L1 norm (...) of the gradient of the cross-entropy in the logits: 2 (1 - p)."""
    return 2 * (1 - p)


def mae_length(p: Tensor) -> Tensor:
    """L1 norm (...) of the gradient of the mean absolute error in the logits: 4 p (1 - p)."""
    return 4 * p * (1 - p)


def emphasis(p: Tensor, lam: float, beta: float) -> Tensor:
    """The length (...) chosen instead, exp(beta p^lambda (1 - p))."""
    return (beta * p**lam * (1 - p)).exp()


def rescale(gradient: Tensor, p: Tensor, length: Tensor) -> Tensor:
    """Gradients q - y (..., K) of samples with probability p (...) brought to the given L1 norms (...)."""
    return gradient * (length / ce_length(p).clamp(min=1e-6))[..., None]


def mislabel(labels: Tensor, count: int, classes: int, generator: torch.Generator) -> Tensor:
    """Labels (n,) with the first `count` replaced by another class, each of the others equally likely."""
    shift = torch.randint(1, classes, (len(labels),), generator=generator)
    return torch.where(torch.arange(len(labels)) < count, (labels + shift) % classes, labels)


def lengths(p: Tensor, lam: float, beta: float) -> Tensor:
    """Gradient length (..., 3) of each rule at its own probability p (..., 3)."""
    return torch.stack([ce_length(p[..., CE]), mae_length(p[..., MAE]), emphasis(p[..., RESCALED], lam, beta)], -1)


def with_bias(images: Tensor) -> Tensor:
    """Pixels (n, 64) of digits (n, 1, 8, 8), and a 1 behind them: (n, 65)."""
    return F.pad(images.flatten(1), (0, 1), value=1.0)


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    images, truth, test_images, test_truth = digits_split(seed=p.seed)
    images, truth, wrong = images[: p.samples], truth[: p.samples], round(p.noise * p.samples)
    given = mislabel(truth, wrong, 10, generator)
    x, test_x, y = with_bias(images), with_bias(test_images), F.one_hot(given, 10).float()[:, None]
    weights, velocity = torch.zeros(65, 30), torch.zeros(65, 30)  # three classifiers side by side
    shown, seen = frame_steps(p.updates, FRAMES), []
    count = torch.full((2,), float(p.samples))
    with one_thread():
        for update in range(p.updates + 1):
            q = torch.softmax((x @ weights).unflatten(1, (3, 10)), -1)
            of_given = (q * y).sum(-1)
            length = lengths(of_given, p.lam, p.beta)
            if update in shown:
                guess = (test_x @ weights).unflatten(1, (3, 10)).argmax(-1)
                share = length[:wrong].sum(0) / length.sum(0)
                seen.append((of_given, share, (guess == test_truth[:, None]).float().mean(0)))
            # The two losses are means over the digits; the lengths of the rescaled rule add up to 1.
            over = torch.cat([count, length[:, RESCALED:].sum(0)])
            gradient = rescale(q - y, of_given, length / over)
            momentum_step([weights], [velocity], [x.T @ gradient.flatten(1)], RATE, MOMENTUM)
    repeats = (q.argmax(-1) == given[:, None]).float()
    probabilities, wrong_share, accuracy = (torch.stack(each) for each in zip(*seen, strict=True))
    grid = torch.linspace(0, 1, 201, dtype=torch.float64)
    curves = lengths(grid[:, None].expand(-1, 3), p.lam, p.beta).T
    return Result(
        images=images,
        truth=truth,
        given=given,
        wrong=wrong,
        steps=torch.tensor(sorted(shown)),
        probabilities=probabilities,
        wrong_share=wrong_share,
        accuracy=accuracy,
        fitted=torch.stack([repeats[wrong:].mean(0), repeats[:wrong].sum(0) / max(wrong, 1)]),
        grid=grid,
        curves=curves / curves.mean(1, keepdim=True),
    )


def examine(p: Params, r: Result) -> View:
    at = round(p.moment / 100 * (len(r.steps) - 1))
    now = r.probabilities[at]
    length = lengths(now, p.lam, p.beta)
    groups = (now[r.wrong :, RESCALED], now[: r.wrong, RESCALED])
    return View(
        trained=r,
        step=int(r.steps[at]),
        density=torch.stack([torch.histc(group, BINS, 0, 1) / max(len(group), 1) for group in groups]),
        heaviest={NAMES[rule]: length[:, rule].argsort(descending=True)[:HEAVIEST] for rule in (CE, RESCALED)},
    )


def readings(p: Params, r: View) -> dict[str, str | float]:
    last = r.trained.accuracy[-1].tolist()
    learned = r.trained.fitted[1].tolist()
    return {
        **{f"Test accuracy, {name}": f"{share:.1%}" for name, share in zip(NAMES, last, strict=True)},
        "Wrong labels learned, in this order": ", ".join(f"{share:.0%}" for share in learned)
        if p.noise
        else "none are",
    }


def figure(p: Params, r: View) -> dict[str, go.Figure]:
    return {
        f"Above, what a label of probability p weighs; below, where the labels are after {r.step} updates.": _curves(r),
        "The digits with the longest gradients by cross-entropy; ✗: a wrong label.": _heaviest(r, NAMES[CE]),
        "Those with the longest gradients by the rescaled rule.": _heaviest(r, NAMES[RESCALED]),
        "Wrong labels' share of the gradient; dotted, their share of the labels.": _over_updates(
            p, r, r.trained.wrong_share, "share of the gradient", level=p.noise
        ),
        "What it comes to on new digits with right labels.": _over_updates(
            p, r, r.trained.accuracy, "test accuracy", level=None
        ),
    }


def _curves(r: View) -> go.Figure:
    fig = style.figure(x="p, probability of the given label", y="length / its mean", height=430)
    fig.update_layout(
        yaxis={"domain": [0.45, 1], "rangemode": "tozero"},
        yaxis2={"domain": [0, 0.36], "title": {"text": "share of labels"}, "anchor": "x", "rangemode": "tozero"},
        xaxis={"anchor": "y2", "range": [-0.01, 1.01]},
        bargap=0.1,
    )
    for name, curve, line in zip(NAMES, r.trained.curves, LOOKS, strict=True):
        fig.add_scatter(x=r.trained.grid.numpy(), y=curve.numpy(), mode="lines", name=name, line=line)
    middles = (torch.arange(BINS) + 0.5) / BINS
    looks = ({"color": style.GREEN}, {"color": style.RED, "pattern": {"shape": "x"}})
    for name, heights, marker in zip(("right labels", "wrong labels"), r.density, looks, strict=True):
        fig.add_bar(x=middles.numpy(), y=heights.numpy(), name=name, marker=marker, yaxis="y2")
    return fig


def _heaviest(r: View, rule: str) -> go.Figure:
    chosen = r.heaviest[rule]
    labels = zip(r.trained.truth[chosen].tolist(), r.trained.given[chosen].tolist(), strict=True)
    names = [f"{truth}" if truth == given else f"✗ {truth} as {given}" for truth, given in labels]
    return pictures(list(1 - r.trained.images[chosen]), names=names, height=150)


def _over_updates(p: Params, r: View, values: Tensor, y: str, *, level: float | None) -> go.Figure:
    fig = style.figure(x="updates", y=y)
    steps = r.trained.steps.numpy()
    for name, curve, line in zip(NAMES, values.T, LOOKS, strict=True):
        fig.add_scatter(x=steps, y=curve.numpy(), mode="lines", name=name, line=line)
    if level is not None:
        fig.add_hline(y=level, line={"color": style.RED, "width": 1, "dash": "dot"})
    style.here(fig, r.step, "now")
    fig.update_xaxes(range=[0, p.updates])
    fig.update_yaxes(range=[0, 1.02])
    return fig


def _logits(p: Params) -> tuple[Tensor, Tensor]:
    """Logits (60, 10), float64, of samples from undecided to nearly certain, and their labels (60,)."""
    generator = torch.Generator().manual_seed(p.seed)
    z = torch.randn(60, 10, dtype=torch.float64, generator=generator) * torch.linspace(0.1, 4, 60)[:, None]
    return z.requires_grad_(), torch.randint(0, 10, (60,), generator=generator)


def _probability(z: Tensor, label: Tensor) -> Tensor:
    return torch.softmax(z.detach(), -1).gather(-1, label[:, None])[:, 0]


@law("The gradient of the cross-entropy in the logits has an L1 norm of 2(1 − p).", source="IMAE, Sec. 3")
def length_of_cross_entropy(p: Params) -> Evidence:
    z, label = _logits(p)
    (gradient,) = torch.autograd.grad(F.cross_entropy(z, label, reduction="sum"), z)
    return at_most(
        (gradient.abs().sum(-1) - ce_length(_probability(z, label))).abs().max(),
        0.0,
        1e-13,
        why="float64 rounding of a softmax over 10 classes",
        quantity="largest |autograd − formula| of 60 samples",
    )


@law("The gradient of the mean absolute error in the logits has an L1 norm of 4p(1 − p).", source="IMAE, Sec. 3")
def length_of_mae(p: Params) -> Evidence:
    z, label = _logits(p)
    error = (torch.softmax(z, -1) - F.one_hot(label, 10)).abs().sum()
    (gradient,) = torch.autograd.grad(error, z)
    return at_most(
        (gradient.abs().sum(-1) - mae_length(_probability(z, label))).abs().max(),
        0.0,
        1e-13,
        why="float64 rounding of a softmax over 10 classes",
        quantity="largest |autograd − formula| of 60 samples",
    )


@law("Rescaling keeps the direction and sets the L1 norm to w(p).", source="Gradient Rescaling, Sec. 3")
def direction_is_kept(p: Params) -> Evidence:
    z, label = _logits(p)
    (gradient,) = torch.autograd.grad(F.cross_entropy(z, label, reduction="sum"), z)
    of_label = _probability(z, label)
    wanted = emphasis(of_label, p.lam, p.beta)
    rescaled = rescale(gradient, of_label, wanted)
    turned = (1 - F.cosine_similarity(gradient, rescaled, dim=-1)).abs().max()
    longer = (rescaled.abs().sum(-1) / wanted - 1).abs().max()
    return at_most(
        max(turned, longer),
        0.0,
        1e-8,
        why="float64 rounding of q − y, relative to 1 − p: at most 2e-16 over 1e-6, and ten terms of it",
        quantity="largest of 1 − cosine and of the relative difference of the norms, 60 samples",
    )


@law("The emphasis is largest at p = λ/(λ + 1).", source="Gradient Rescaling, Sec. 3")
def mode_of_the_emphasis(p: Params) -> Evidence:
    mode = torch.tensor(p.lam / (p.lam + 1), dtype=torch.float64)
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    return at_most(
        emphasis(grid, p.lam, p.beta).max() / emphasis(mode, p.lam, p.beta) - 1,
        0.0,
        1e-12,
        why="float64 rounding of an exponential of at most 20",
        quantity="how far any of 1,001 values of p exceeds w at λ/(λ + 1), relative",
    )


@law("The larger β, the more the weights differ: their variance over their squared mean rises.", source="IMAE, Sec. 4")
def spread_rises_with_beta(p: Params) -> Evidence:
    return rising(
        [_relative_variance(emphasis(UNIFORM, p.lam, beta)) for beta in range(0, 21, 2)],
        1e-12,
        why="float64 rounding of a mean of 2,000 weights",
        quantity="smallest step from β = 0 to 20, p uniform",
    )


def _relative_variance(values: Tensor) -> Tensor:
    return values.var(correction=0) / values.mean() ** 2


@finding(
    "MAE's weights differ little; those of IMAE with T = 16 have three times their variance over squared mean.",
    source="IMAE, Sec. 4",
)
def spread_of_mae_and_imae() -> Evidence:
    mae = _relative_variance(mae_length(UNIFORM))
    imae = _relative_variance(emphasis(UNIFORM, 1.0, 16.0))
    return equal(
        imae / mae,
        3.05,
        0.05,
        why="the card's figures, 0.61 and 0.20, are rounded to 0.01",
        quantity="ratio of IMAE's to MAE's",
    )


@cache
def _trained(**changed: float) -> list[Result]:
    """The results of seeds 0 to 4 at the defaults but for what is named."""
    return [run(Params(seed=seed).but(**changed)) for seed in range(5)]


@finding(
    "Of 40 % wrong labels cross-entropy learns more than the rescaled rule does.", source="IMAE; Gradient Rescaling"
)
def cross_entropy_learns_more_wrong_labels() -> Evidence:
    learned = torch.stack([r.fitted[1] for r in _trained()])
    return more_than(
        (learned[:, CE] - learned[:, RESCALED]).min(),
        0.0,
        why="defaults (λ = 1, β = 8), 120 wrong labels, seeds 0 to 4, each must show it",
        quantity="smallest difference of the shares of wrong labels learned, over 5 seeds",
    )


@finding(
    "With 40 % wrong labels the rescaled rule does better on new digits than cross-entropy.", source="IMAE, Sec. 5"
)
def rescaled_generalizes_better() -> Evidence:
    last = torch.stack([r.accuracy[-1] for r in _trained()])
    return more_than(
        (last[:, RESCALED] - last[:, CE]).min(),
        0.0,
        0.04,
        why="defaults, seeds 0 to 4, each must show it by 4 points: two standard errors of an accuracy of 500 digits",
        quantity="smallest gain of test accuracy over 5 seeds",
    )


@finding("MAE underfits even clean labels: in as many updates it fits fewer of them.", source="IMAE, Sec. 3")
def mae_underfits_clean_labels() -> Evidence:
    fitted = torch.stack([r.fitted[0] for r in _trained(noise=0.0)])
    return more_than(
        (fitted[:, CE] - fitted[:, MAE]).min(),
        0.0,
        why="defaults without noise, 300 digits, seeds 0 to 4, each must show it",
        quantity="smallest difference of the shares of labels fitted, over 5 seeds",
    )


@report(
    "Emphasis below p = 1/2 (λ = 1/2) too learns fewer wrong labels than cross-entropy.", source="Gradient Rescaling"
)
def lower_emphasis_learns_fewer() -> Evidence:
    learned = torch.stack([r.fitted[1] for r in _trained(lam=0.5)]).mean(0)
    return less_than(
        learned[RESCALED],
        learned[CE],
        why="λ = 1/2, β = 8, otherwise the defaults; means over seeds 0 to 4; the reference is cross-entropy's",
        quantity="share of wrong labels learned",
    )
