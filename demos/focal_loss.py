r"""Focal loss: let the many easy examples go quiet, so that the few hard ones are heard.

Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002, Sec. 3.

    \mathrm{FL} = -\alpha_t\,(1-p_t)^{\gamma}\log p_t
    \qquad \frac{\partial\,\mathrm{FL}}{\partial z} = \alpha_t\,(1-p_t)^\gamma\,(\gamma\,p_t\log p_t + p_t - 1)
    \qquad b = -\log\frac{1-\pi}{\pi}

Symbols: $p_t$ the probability of an example's true class, $\sigma(z)$ with $z$ its logit, sign turned for a negative;
$\gamma$ how much easy examples are quieted, 0 being cross-entropy; $\alpha_t$ a weight, $\alpha$ for positives and
$1-\alpha$ for negatives; $b$ the bias that has everything start as a positive with probability $\pi$. Two networks are
trained here from the same start on the same points, a few positives in the middle of a ring of negatives: one with
cross-entropy, one with focal loss. Both losses are summed and divided by the number of positives, as in the paper.
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
    rising,
    style,
)
from demos.kit.surface import border, plane, scatter, surface
from demos.kit.training import Descent, History, build, train, twins

TOPIC = "losses"
COUNT, NEW, HIDDEN, RATE = 3_000, 10_000, 32, 0.03
SPREAD, INNER, OUTER = 0.25, 0.4, 3.0  # of the positives; radii of the ring of negatives
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)  # the paper's
EASY = 0.9  # an example is easy from this p_t on
CROSS_ENTROPY, FOCAL = 0, 1
SEEDS = range(3)
NAMES, COLORS, DASHES = ("cross-entropy", "focal"), (style.GRAY, style.BLUE), ("dash", "solid")
ACROSS = torch.linspace(-OUTER, OUTER, 41)
HARDEST = torch.logspace(-3, 0, 61)  # shares of the negatives


@dataclass(frozen=True)
class Params(Knobs):
    gamma: Annotated[float, Range(0, 8, shown=(0, 5), step=0.1, doc="focusing γ")] = 2.0
    alpha: Annotated[float, Range(0.01, 0.99, step=0.01, doc="weight α of the positives, 1 − α of the negatives")] = (
        0.25
    )
    imbalance: Annotated[int, Range(1, 300, log=True, doc="negatives for each positive")] = 100
    prior: Annotated[float, Range(0.001, 0.5, log=True, doc="π: probability of a positive before training")] = 0.01
    updates: Annotated[int, Range(50, 1_000, doc="updates of each network")] = 300
    seed: Seed = 0


PRESETS = {
    "γ = 0: cross-entropy": Params(gamma=0.0, alpha=0.5),
    "γ = 5: only the hardest": Params(gamma=5.0),
    "300 negatives for each positive": Params(imbalance=300),
    "No prior: a start at one half": Params(prior=0.5),
}

LOOK_FOR = (
    "At p_t = 0.9 focal loss with γ = 2 is a hundredth of cross-entropy; at p_t = 0.1 it is four fifths.",
    "Cross-entropy goes on making right answers surer; focal loss stops pushing once they are right.",
    "Raise γ: ever fewer of the negatives hold nearly all of what the negatives weigh.",
)


@dataclass(frozen=True)
class Result:
    updates: Tensor  # (F,) updates made by each frame so far
    easy: Tensor  # (2, F) share of the loss that easy examples hold; cross-entropy's network, then focal loss's
    precision: Tensor  # (2,) average precision on 10,000 new points, of both, as below
    surface: Tensor  # (2, 41, 41) logit of a positive over the plane
    certainty: Tensor  # (2,) median p_t of the negatives
    positives: Tensor  # (P, 2) points
    cumulative: Tensor  # (6, 61) share of the loss of focal loss's negatives that the HARDEST hold: GAMMAS, chosen
    correctness: Tensor  # (99,) p_t
    loss: Tensor  # (6, 99) focal loss without alpha, nats: GAMMAS, chosen
    slope: Tensor  # (6, 99) size of its derivative in z


def true_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit (...) of the true class, so that p_t is its sigmoid: that of a negative with its sign turned."""
    return torch.where(labels > 0, logits, -logits)


def focal_loss(z: Tensor, gamma: float) -> Tensor:
    """(1 - p_t)^gamma (-log p_t), nats, of true logits z (...) (eq. 4); log-sigmoids, as no logit overflows them."""
    return -(gamma * nn.functional.logsigmoid(-z)).exp() * nn.functional.logsigmoid(z)


def focal_slope(z: Tensor, gamma: float) -> Tensor:
    """Derivative (...) of the focal loss in the true logit z (...) (Appendix B)."""
    p = torch.sigmoid(z)
    return (gamma * nn.functional.logsigmoid(-z)).exp() * (gamma * p * nn.functional.logsigmoid(z) + p - 1)


def class_weight(labels: Tensor, alpha: float) -> Tensor:
    """alpha_t (...): alpha for positives, 1 - alpha for negatives."""
    return torch.where(labels > 0, alpha, 1 - alpha)


def prior_bias(prior: float) -> float:
    """The last bias at which a network answers `prior` before it has learned anything (Sec. 3.3)."""
    return -math.log((1 - prior) / prior)


def held_by_hardest(loss: Tensor, shares: Tensor) -> Tensor:
    """The part (...) of all loss (N,) that the given shares (...) of the examples hold, the hardest first (Fig. 4)."""
    held = torch.cat([loss.new_zeros(1), loss.sort(descending=True).values.cumsum(0)])
    return held[(shares * len(loss)).round().long()] / held[-1]


def draw_points(count: int, imbalance: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points (count, 2) and labels (count,): one positive in the middle for each `imbalance` negatives around it."""
    positives = max(1, round(count / (1 + imbalance)))
    angle = 2 * math.pi * torch.rand(count - positives, generator=generator)
    radius = INNER + (OUTER - INNER) * torch.rand(count - positives, generator=generator)
    middle = SPREAD * torch.randn(positives, 2, generator=generator)
    ring = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return torch.cat([middle, ring]), (torch.arange(count) < positives).float()


def detector(prior: float, generator: torch.Generator) -> nn.Sequential:
    """A network from points (N, 2) to one logit (N, 1), which answers `prior` everywhere before training."""
    network = build(lambda: nn.Sequential(nn.Linear(2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)), generator)
    nn.init.zeros_(network[-1].weight)
    nn.init.constant_(network[-1].bias, prior_bias(prior))
    return network


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over the positives of the precision (N,) down to each, by falling score."""
    found = labels[scores.argsort(descending=True, stable=True)]
    precision = found.cumsum(0) / torch.arange(1, len(found) + 1)
    return (precision * found).sum() / found.sum()


def run(p: Params) -> Iterator[Result]:
    generator = torch.Generator().manual_seed(p.seed)
    x, labels = draw_points(COUNT, p.imbalance, generator)
    new_x, new_labels = draw_points(NEW, p.imbalance, generator)
    networks = twins(detector(p.prior, generator))
    descents = [Descent(network.parameters()) for network in networks]
    gammas, weights = (0.0, p.gamma), (torch.ones_like(labels), class_weight(labels, p.alpha))
    correctness = torch.arange(1, 100, dtype=torch.float64) / 100
    curves, negative, history = torch.logit(correctness), labels == 0, History()

    def judged(which: int) -> tuple[Tensor, Tensor]:
        """True logits of a network, and the losses by which it is trained, (N,) both."""
        z = true_logit(networks[which](x)[:, 0], labels)
        return z, weights[which] * focal_loss(z, gammas[which]) / labels.sum()

    def step(update: int) -> None:
        for which, descent in enumerate(descents):
            descent.step(judged(which)[1].sum(), RATE)

    @torch.no_grad()
    def look(update: int) -> Result:
        logits, losses = zip(*(judged(which) for which in (CROSS_ENTROPY, FOCAL)), strict=True)
        easy = [loss[torch.sigmoid(z) > EASY].sum() / loss.sum() for z, loss in zip(logits, losses, strict=True)]
        history.add(updates=update, easy=torch.stack(easy))
        by_gamma = [focal_loss(logits[FOCAL][negative], gamma) for gamma in (*GAMMAS, p.gamma)]
        return Result(
            **history.stacked(-1),
            precision=torch.stack([average_precision(network(new_x)[:, 0], new_labels) for network in networks]),
            surface=torch.stack([network(plane(ACROSS, ACROSS))[..., 0] for network in networks]),
            certainty=torch.stack([torch.sigmoid(z[negative]).median() for z in logits]),
            positives=x[~negative],
            cumulative=torch.stack([held_by_hardest(loss, HARDEST) for loss in by_gamma]),
            correctness=correctness,
            loss=torch.stack([focal_loss(curves, gamma) for gamma in (*GAMMAS, p.gamma)]),
            slope=torch.stack([focal_slope(curves, gamma).abs() for gamma in (*GAMMAS, p.gamma)]),
        )

    yield from train(p.updates, 30, step, look)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    nine_tenths = torch.logit(torch.tensor(0.9, dtype=torch.float64))
    return {
        "Cross-entropy over focal loss at p_t = 0.9": float(
            focal_loss(nine_tenths, 0) / focal_loss(nine_tenths, p.gamma)
        ),
        "Easy examples' share, cross-entropy": float(r.easy[CROSS_ENTROPY, -1]),
        "Easy examples' share, focal": float(r.easy[FOCAL, -1]),
        "Average precision, cross-entropy": float(r.precision[CROSS_ENTROPY]),
        "Average precision, focal": float(r.precision[FOCAL]),
        "A negative's median p_t, cross-entropy": float(r.certainty[CROSS_ENTROPY]),
        "A negative's median p_t, focal": float(r.certainty[FOCAL]),
        "Updates": int(r.updates[-1]),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    loss = _by_gamma(p, r.correctness, r.loss, x="probability of the true class p_t", y="loss, nats (log)", log_y=True)
    powers = (1e-4, 1e-3, 0.01, 0.1, 1, 10)
    loss.update_yaxes(range=[-4, 1], tickvals=powers, ticktext=[f"{power:g}" for power in powers])
    loss.add_vline(x=EASY, line={"color": style.GRAY, "width": 1, "dash": "dot"}, annotation_text="easy")
    slope = _by_gamma(p, r.correctness, r.slope, x="probability of the true class p_t", y="size of the gradient in z")
    held = _by_gamma(
        p, HARDEST, r.cumulative, x="share of the negatives, hardest first (log)", y="share of their loss", log_x=True
    )
    held.update_yaxes(range=[0, 1.05])
    easy = style.figure(x="updates", y="easy examples' share of the loss")
    style.lines(easy, r.updates.numpy(), NAMES, r.easy, colors=COLORS, dashes=DASHES)
    easy.update_xaxes(range=[0, p.updates])
    easy.update_yaxes(rangemode="tozero")
    return {
        "The larger γ, the faster the loss falls as an example gets easy.": loss,
        "The gradient: cross-entropy keeps pushing at easy examples; γ pushes the middle and lets go of them.": slope,
        "Cross-entropy digs on where it is right: the darker, the surer; crosses: positives; line: p = 0.5.": (
            _plane(r, CROSS_ENTROPY)
        ),
        f"Focal loss, γ = {p.gamma:g}: the larger γ, the sooner it is content and the paler the negatives.": _plane(
            r, FOCAL
        ),
        "The focal network's negatives, weighed with each γ: how few hold how much.": held,
        f"How much of each network's loss lies on examples with p_t over {EASY:g}.": easy,
    }


def _by_gamma(
    p: Params, at: Tensor, curves: Tensor, *, x: str, y: str, log_x: bool = False, log_y: bool = False
) -> go.Figure:
    fig = style.figure(x=x, y=y, log_x=log_x, log_y=log_y)
    for number, (gamma, curve) in enumerate(zip((*GAMMAS, p.gamma), curves, strict=True)):
        chosen = number == len(GAMMAS)
        fig.add_scatter(
            x=at.numpy(),
            y=curve.numpy(),
            mode="lines",
            name=f"chosen: γ = {gamma:g}" if chosen else f"{gamma:g}" if number else "γ = 0",
            line={"color": style.BLUE, "width": 4}
            if chosen
            else {"color": style.GRAY, "width": 1.5, "dash": style.DASHES[number]},
        )
    return fig


def _plane(r: Result, which: int) -> go.Figure:
    logits, ticks = r.surface[which], {"tickvals": [-2, 0, 2], "showgrid": False}
    fig = surface(
        ACROSS,
        ACROSS,
        logits,
        span=(-12, 12),
        showscale=True,
        colorbar={"title": {"text": "logit", "side": "top"}, "thickness": 10, "tickvals": [-10, -5, 0, 5, 10]},
        hoverinfo="z",
        hovertemplate="logit %{z:.1f}<extra></extra>",
    )
    border(fig, ACROSS, ACROSS, logits, at=(0,), width=2)
    scatter(fig, r.positives[:150], edge=style.INK, color=style.ORANGE, symbol="x", size=7)
    return fig.update_xaxes(**ticks).update_yaxes(**ticks)


def _logits(p: Params) -> tuple[Tensor, Tensor]:
    """Logits (1000,) from certain to certain and random labels (1000,)."""
    generator = torch.Generator().manual_seed(p.seed)
    return torch.linspace(-30, 30, 1_000, dtype=torch.float64), (torch.rand(1_000, generator=generator) < 0.5).double()


@law("With γ = 0 focal loss is the cross-entropy.", source="Sec. 3.2")
def gamma_zero_is_cross_entropy(p: Params) -> Evidence:
    logits, labels = _logits(p)
    ours = class_weight(labels, p.alpha) * focal_loss(true_logit(logits, labels), 0.0)
    theirs = torch.where(labels > 0, p.alpha, 1 - p.alpha) * nn.functional.binary_cross_entropy_with_logits(
        logits, labels, reduction="none"
    )
    return at_most(
        (ours - theirs).abs().max(),
        0.0,
        1e-13,
        why="float64 rounding of losses up to 30 nats",
        quantity="largest difference from torch's binary cross-entropy, α_t on both",
    )


@law("The gradient is α_t (1 − p_t)^γ (γ p_t log p_t + p_t − 1).", source="Appendix B")
def gradient_formula(p: Params) -> Evidence:
    logits, labels = _logits(p)
    logits.requires_grad_()
    weight = class_weight(labels, p.alpha)
    (autograd,) = torch.autograd.grad((weight * focal_loss(true_logit(logits, labels), p.gamma)).sum(), logits)
    sign = torch.where(labels > 0, 1.0, -1.0)
    formula = sign * weight * focal_slope(true_logit(logits.detach(), labels), p.gamma)
    return at_most(
        (autograd - formula).abs().max(),
        0.0,
        1e-13,
        why="float64 rounding of terms up to γ · 30",
        quantity="largest difference from autograd over logits from −30 to 30",
    )


@law("Focal loss is (1 − p_t)^γ times the cross-entropy.", source="Sec. 3.2, eq. (4)")
def modulating_factor(p: Params) -> Evidence:
    correct = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    expected = (1 - correct) ** p.gamma * -correct.log()
    return at_most(
        (focal_loss(torch.logit(correct), p.gamma) / expected - 1).abs().max(),
        0.0,
        1e-11,
        why="float64 rounding; near p_t = 1 a logit knows 1 − p_t to 1e-13, and γ multiplies the error by up to 8",
        quantity="largest relative difference over p_t = 0.001 to 0.999",
    )


@law("The larger γ, the more of the loss the hardest tenth holds.", source="Sec. 4.1, Fig. 4")
def focusing_concentrates_the_loss(p: Params) -> Evidence:
    z = 2 * torch.randn(5_000, dtype=torch.float64, generator=torch.Generator().manual_seed(p.seed)) + 2
    tenth = torch.tensor(0.1)
    return rising(
        [held_by_hardest(focal_loss(z, gamma), tenth) for gamma in sorted({*GAMMAS, p.gamma})],
        1e-12,
        why="float64 rounding; (1 − p_t)^γ favors the harder of any two, so that their order and this are certain",
        quantity="smallest step of the hardest tenth's share over the γ of the curves and the chosen one",
    )


@law("The prior's bias has every negative start with a loss of −log(1 − π).", source="Sec. 3.3")
def prior_sets_the_first_loss(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    x, labels = draw_points(COUNT, p.imbalance, generator)
    with torch.no_grad():
        losses = focal_loss(true_logit(detector(p.prior, generator)(x)[:, 0], labels), 0.0)[labels == 0]
    return at_most(
        (losses + math.log1p(-p.prior)).abs().max(),
        0.0,
        1e-6,
        why="float32 rounding of a loss of at most 0.7",
        quantity="largest difference of a negative's cross-entropy before training, nats",
    )


@finding("At γ = 2 an example with p_t = 0.9 has a hundredth of its cross-entropy.", source="Sec. 3.2")
def hundredth_at_nine_tenths() -> Evidence:
    return equal(
        _quieted(0.9), 100, 1e-9, why="float64 rounding; 1 / (1 − 0.9)² = 100", quantity="cross-entropy over focal loss"
    )


@finding("At p_t ≈ 0.968 it has about a thousandth.", source="Sec. 3.2")
def thousandth_at_0968() -> Evidence:
    return equal(
        _quieted(0.968),
        1000,
        50,
        why="the paper rounds p_t to three digits, and 0.001 of it is 6 % of the ratio",
        quantity="cross-entropy over focal loss",
    )


def _quieted(correct: float) -> Tensor:
    z = torch.logit(torch.tensor(correct, dtype=torch.float64))
    return focal_loss(z, 0.0) / focal_loss(z, 2.0)


@finding(
    "At γ = 2 the gradient exceeds that of cross-entropy below p_t = 0.298 and falls short of it above.",
    source="derived",
)
def gradients_cross() -> Evidence:
    correct = torch.linspace(0.01, 0.99, 98_001, dtype=torch.float64)
    z = torch.logit(correct)
    stronger = focal_slope(z, 2.0).abs() > focal_slope(z, 0.0).abs()
    last = int(stronger.nonzero().max())
    return equal(
        correct[last] if stronger[: last + 1].all() else math.nan,
        0.298,
        0.0005,
        why="the figure has three digits; more than one crossing would be no number",
        quantity="largest p_t at which focal loss has the larger gradient",
    )


@cache
def _trained(seed: int) -> Result:
    return list(run(Params(seed=seed)))[-1]


@finding(
    "Trained with focal loss, easy examples hold a small part of what they hold under cross-entropy.", source="Sec. 3.1"
)
def easy_examples_go_quiet() -> Evidence:
    last = torch.stack([_trained(seed).easy[:, -1] for seed in SEEDS])
    return less_than(
        (last[:, FOCAL] / last[:, CROSS_ENTROPY]).max(),
        0.5,
        why="defaults, seeds 0 to 2, each must show it by half",
        quantity=f"largest ratio of the loss shares with p_t over {EASY:g}, focal to cross-entropy, over the seeds",
    )


@finding(
    "Focal loss leaves easy negatives less certain than cross-entropy does.",
    source="Mukhoti et al. 2020, arXiv:2002.09437",
)
def less_certain() -> Evidence:
    doubt = 1 - torch.stack([_trained(seed).certainty for seed in SEEDS])
    return more_than(
        (doubt[:, FOCAL] / doubt[:, CROSS_ENTROPY].clamp(min=1e-7)).min(),
        10,
        why="defaults, seeds 0 to 2, each must show ten times the doubt; float32 knows no doubt below 1e-7",
        quantity="smallest ratio of a negative's median 1 − p_t, focal to cross-entropy, over the seeds",
    )


@finding("With γ = 2 the hardest tenth of the negatives holds most of their loss.", source="Sec. 4.1, Fig. 4")
def few_negatives_hold_the_loss() -> Evidence:
    tenth = int((HARDEST - 0.1).abs().argmin())
    held = [_trained(seed).cumulative[GAMMAS.index(2.0), tenth] for seed in SEEDS]
    return at_least(
        min(held),
        0.5,
        why="most is more than half; loss spread evenly would give a tenth",
        quantity="share of the negatives' loss, least of seeds 0 to 2; the network trained at the defaults",
    )


@report("Focal loss gives a better average precision than cross-entropy.", source="Tab. 1b, on COCO")
def average_precision_on_new_points() -> Evidence:
    precision = torch.stack([_trained(seed).precision for seed in SEEDS]).mean(0)
    return at_least(
        precision[FOCAL],
        precision[CROSS_ENTROPY],
        why="defaults, mean of seeds 0 to 2, 10,000 new points each; the reference is cross-entropy's",
        quantity="average precision with focal loss",
    )
