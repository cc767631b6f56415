r"""Circle loss: push each similarity by how far it is from where it should be.

Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, arXiv:2002.10857, Sec. 3;
beside it the triplet loss (Schroff et al., "FaceNet", CVPR 2015) and the softmax loss with an additive margin (Wang et
al., "Additive Margin Softmax", 2018), which push both similarities alike.

    \mathcal L=\log\Bigl[1+\sum_j e^{\gamma\alpha_n^j(s_n^j-m)}\sum_i e^{-\gamma\alpha_p^i(s_p^i-1+m)}\Bigr]
    \qquad \alpha_n=[s_n+m]_+,\ \ \alpha_p=[1+m-s_p]_+

    \mathcal L_{uni}=\log\Bigl[1+\sum_j e^{\gamma(s_n^j+m)}\sum_i e^{-\gamma s_p^i}\Bigr]
    \qquad \mathcal L_{triplet}=\bigl[\max_j s_n^j-\min_i s_p^i+m\bigr]_+

Symbols: $s_n$ an anchor's cosine with something of another class, best low; $s_p$ one with its own class, best high;
$m$ the margin; $\gamma$ the scale, an inverse temperature; $\alpha$ the weights, constants to the gradient unless it is
let through. $\mathcal L_{uni}$ with one positive is the softmax loss with margin. Losses are shown over $\gamma$.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
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
    less_than,
    style,
)
from demos.kit.surface import plane

TOPIC = "losses"
NEGATIVES, POSITIVES = 8, 4
OTHERS = ("softmax with margin", "triplet")
STEPS, RATE = 120, 0.05  # of the path that similarities take on their own
S_N, S_P = torch.linspace(-0.4, 1, 57, dtype=torch.float64), torch.linspace(0, 1, 41, dtype=torch.float64)

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Params(Knobs):
    margin: Annotated[float, Range(0, 0.5, step=0.01, doc="margin m")] = 0.25
    scale: Annotated[float, Range(1, 512, log=True, doc="scale γ")] = 64.0
    negative: Annotated[float, Range(-1, 1, shown=(-0.4, 1), step=0.01, doc="similarity s_n of a negative")] = 0.8
    positive: Annotated[float, Range(-1, 1, shown=(0, 1), step=0.01, doc="similarity s_p of a positive")] = 0.8
    through: Annotated[bool, Toggle(doc="let the gradient through the weights α, too")] = False
    other: Annotated[str, Choice(*OTHERS, doc="loss beside circle loss")] = "softmax with margin"
    seed: Seed = 0


PRESETS = {
    "Both at 0.8: a poor negative": Params(),
    "Both at 0.2: a poor positive": Params(negative=0.2, positive=0.2),
    "A small scale: soft borders": Params(scale=8.0),
    "Beside the triplet loss": Params(other="triplet", margin=0.4),
}

LOOK_FOR = (
    "Circle loss pulls every point towards one optimum, the star; the other loss moves all in parallel.",
    "The border of circle loss is an arc around (0, 1), the other's a line with no best place on it.",
    "Of several pairs, a large γ moves the hardest only; circle loss eases off those that are nearly right.",
)


@dataclass(frozen=True)
class Result:
    surface: Tensor  # (2, 41, 57) loss over gamma on the grid of S_P and S_N; circle loss, then the other, as below
    starts: Tensor  # (A, 2) where arrows stand, (s_n, s_p)
    arrows: Tensor  # (2, A, 2) -gradient over gamma there
    paths: Tensor  # (2, 121, 2) of the chosen point when it follows that arrow
    pull: Tensor  # (2, 2) size of the gradient in s_n and in s_p at the chosen point, over gamma
    border: Tensor  # (B, 2) points where circle loss of one pair is log 2
    optimum: Tensor  # (2,) that circle loss pulls to
    similarities: Tensor  # (12,) of one anchor: negatives, then positives
    shares: Tensor  # (2, 12) size of the gradient of each, over gamma


def unified_loss(s_n: Tensor, s_p: Tensor, *, scale: float, margin: float) -> Tensor:
    """Softmax loss with margin (...) of negative (..., L) and positive (..., K) similarities, nats (eq. 1)."""
    return log_1p_exp((scale * (s_n + margin)).logsumexp(-1) + (-scale * s_p).logsumexp(-1))


def triplet_loss(s_n: Tensor, s_p: Tensor, *, margin: float) -> Tensor:
    """Hinge (...) on the hardest of negative (..., L) and positive (..., K) similarities (eq. 5)."""
    return (s_n.amax(-1) - s_p.amin(-1) + margin).clamp(min=0)


def circle_loss(s_n: Tensor, s_p: Tensor, *, scale: float, margin: float, through: bool = False) -> Tensor:
    """Circle loss (...) of negative (..., L) and positive (..., K) similarities, nats (eq. 6, 8).

    Weights grow with the distance from the optima -m and 1 + m; `through` lets the gradient into them.
    """
    a_n, a_p = (s_n + margin).clamp(min=0), (1 + margin - s_p).clamp(min=0)
    if not through:
        a_n, a_p = a_n.detach(), a_p.detach()
    negatives = scale * a_n * (s_n - margin)
    positives = -scale * a_p * (s_p - (1 - margin))
    return log_1p_exp(negatives.logsumexp(-1) + positives.logsumexp(-1))


def log_1p_exp(x: Tensor) -> Tensor:
    """log(1 + e^x), any shape; torch's softplus drops the rest of order 1e-9 from x = 20 on."""
    return torch.logaddexp(x, torch.zeros_like(x))


def slopes(loss: Loss, s_n: Tensor, s_p: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (..., L) and (..., K) of a loss in its negative and positive similarities."""
    s_n, s_p = s_n.detach().requires_grad_(), s_p.detach().requires_grad_()
    return torch.autograd.grad(loss(s_n, s_p).sum(), (s_n, s_p))


def pair_gradient(s_n: Tensor, s_p: Tensor, *, scale: float, margin: float, through: bool = False) -> Tensor:
    """Gradient (..., 2) of circle loss in the one negative (...) and positive (...) of a pair, by formula (Sec. 3.3).

    It is Z gamma times the distance from the optimum, Z = 1 - exp(-loss); where a weight is 0, so is its gradient.
    """
    loss = circle_loss(s_n[..., None], s_p[..., None], scale=scale, margin=margin)
    a_n, a_p = (s_n + margin).clamp(min=0), (1 + margin - s_p).clamp(min=0)
    by_n, by_p = (2 * s_n * (a_n > 0), 2 * (1 - s_p) * (a_p > 0)) if through else (a_n, a_p)
    return (-(-loss).expm1() * scale)[..., None] * torch.stack([by_n, -by_p], -1)


def border(margin: float, count: int = 91) -> Tensor:
    """Points (count, 2), as (s_n, s_p), of radius sqrt(2) m around (0, 1), where no weight is clamped to 0."""
    angle = torch.linspace(-math.pi / 4, 3 * math.pi / 4, count, dtype=torch.float64)
    # From (m, 1 + m) by way of (m, 1 - m) to (-m, 1 - m).
    return math.sqrt(2) * margin * torch.stack([angle.cos(), -angle.sin()], -1) + torch.tensor([0.0, 1.0]).double()


def follow(loss: Loss, start: Tensor, rate: float, steps: int) -> Tensor:
    """The path (steps + 1, 2) of a pair (2,) of similarities that gradient descent moves, within -1 and 1."""
    path = [start]
    for _ in range(steps):
        gradient = torch.cat(slopes(loss, path[-1][:1], path[-1][1:]))
        path.append((path[-1] - rate * gradient).clamp(-1, 1))
    return torch.stack(path)


def run(p: Params) -> Result:
    losses = (_circle(p), _other(p))
    grid = plane(S_N, S_P)
    starts = grid[2::5, 3::5].flatten(0, 1)
    point = torch.tensor([p.negative, p.positive], dtype=torch.float64)
    similarities = _similarities(p.seed)
    s_n, s_p = similarities.split([NEGATIVES, POSITIVES])
    return Result(
        surface=torch.stack([loss(grid[..., :1], grid[..., 1:]) for loss in losses]),
        starts=starts,
        arrows=-torch.stack([torch.cat(slopes(loss, starts[:, :1], starts[:, 1:]), -1) for loss in losses]),
        paths=torch.stack([follow(loss, point, RATE, STEPS) for loss in losses]),
        pull=torch.stack([torch.cat(slopes(loss, point[:1], point[1:])).abs() for loss in losses]),
        border=border(p.margin),
        optimum=torch.tensor([0.0, 1.0] if p.through else [-p.margin, 1 + p.margin], dtype=torch.float64),
        similarities=similarities,
        shares=torch.stack([torch.cat(slopes(loss, s_n, s_p)).abs() for loss in losses]),
    )


def _circle(p: Params) -> Loss:
    """Circle loss over gamma."""
    return lambda s_n, s_p: circle_loss(s_n, s_p, scale=p.scale, margin=p.margin, through=p.through) / p.scale


def _other(p: Params) -> Loss:
    """The loss beside it, over gamma."""
    if p.other == "triplet":
        return lambda s_n, s_p: triplet_loss(s_n, s_p, margin=p.margin)
    return lambda s_n, s_p: unified_loss(s_n, s_p, scale=p.scale, margin=p.margin) / p.scale


def _similarities(seed: int) -> Tensor:
    """Cosines (12,) of one anchor, the negatives lower than the positives on the whole."""
    drawn = torch.rand(NEGATIVES + POSITIVES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.cat([0.7 * drawn[:NEGATIVES], 0.4 + 0.5 * drawn[NEGATIVES:]])


def readings(p: Params, r: Result) -> dict[str, str | float]:
    circle, other = r.pull.tolist()
    loss = _circle(p)(torch.tensor([p.negative]).double(), torch.tensor([p.positive]).double()) * p.scale
    return {
        "Circle loss at the point, nats": float(loss),
        "Push on s_n / push on s_p, circle": circle[0] / circle[1] if circle[1] else "s_p is not pushed",
        f"The same, {p.other}": other[0] / other[1] if other[1] else "neither is pushed",
        "Radius of the border, √2 m": math.sqrt(2) * p.margin,
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    circle, other = _plane(p, r, 0, top=1.08 + p.margin), _plane(p, r, 1, top=1.02)
    _line(circle, r.border, "border: loss = log 2", {"color": style.BLUE, "width": 3})
    ends = torch.tensor([[-1.0, -1 + p.margin], [1 - p.margin, 1.0]])
    _line(other, ends, "border: s_p − s_n = m", {"color": style.BLUE, "width": 3})
    circle.add_scatter(
        x=r.optimum[:1].numpy(),
        y=r.optimum[1:].numpy(),
        mode="markers",
        name="optimum",
        marker={"symbol": "star", "size": 14, "color": style.GREEN, "line": {"color": style.INK, "width": 1}},
    )
    return {
        "Circle loss: every arrow points at the star, and is the longer the farther. Orange: a high loss.": circle,
        f"{p.other.capitalize()}: all arrows are parallel, so where a path ends depends on where it began.": other,
        "At the chosen point: who is pushed how hard.": _pull(p, r),
        f"One anchor, {NEGATIVES} negatives and {POSITIVES} positives: how hard each is pushed.": _shares(p, r),
    }


def _plane(p: Params, r: Result, which: int, *, top: float) -> go.Figure:
    # A height by which both planes have one scale.
    fig = style.figure(x="s_n: similarity to another class", y="s_p: to its own class", height=round(130 + 260 * top))
    fig.add_heatmap(
        x=S_N.numpy(),
        y=S_P.numpy(),
        z=r.surface[which].numpy(),
        zmin=0,
        zsmooth="best",
        colorscale=[[0.0, style.PAPER], [1.0, style.ORANGE]],
        showscale=False,
        hovertemplate="s_n %{x:.2f}, s_p %{y:.2f}: loss / γ = %{z:.3f}<extra></extra>",
    )
    long_enough = r.arrows[which].norm(dim=-1) > 0.1
    starts = r.starts[long_enough]
    tips = starts + 0.08 * r.arrows[which, long_enough]
    gap = torch.full_like(tips, math.nan)
    x, y = torch.stack([starts, tips, gap], 1).flatten(0, 1).T.numpy()
    fig.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": style.INK, "width": 1.5},
        marker={
            "symbol": "arrow",
            "angleref": "previous",
            "size": [0, 8, 0] * len(tips),
            "color": style.INK,
            "opacity": 1,
            "line": {"width": 0},
        },
        hoverinfo="skip",
        showlegend=False,
    )
    _line(fig, r.paths[which], "path of the point", {"color": style.PURPLE, "width": 3, "dash": "dot"})
    marker = {"color": style.PURPLE, "size": 11, "line": {"color": style.PAPER, "width": 2}}
    fig.add_scatter(
        x=[p.negative], y=[p.positive], mode="markers", name="point", marker=marker, showlegend=False, hoverinfo="skip"
    )
    return style.equal_aspect(fig, (-0.52, 1.02), (-0.02, top), tickvals=[0, 0.5, 1], showgrid=False)


def _line(fig: go.Figure, points: Tensor, name: str, line: dict[str, object]) -> None:
    x, y = points.T.numpy()
    fig.add_scatter(x=x, y=y, mode="lines", name=name, line=line, hoverinfo="skip")


def _pull(p: Params, r: Result) -> go.Figure:
    fig = style.figure(y="size of the gradient / γ")
    looks = ({"color": style.BLUE}, {"color": style.GRAY, "pattern": {"shape": "/"}})
    for name, pull, marker in zip(("circle loss", p.other), r.pull, looks, strict=True):
        texts = [f"{size:.2f}" for size in pull.tolist()]
        fig.add_bar(
            x=["s_n, pushed down", "s_p, pushed up"],
            y=pull.numpy(),
            name=name,
            marker=marker,
            text=texts,
            textposition="outside",
            cliponaxis=False,
        )
    fig.update_xaxes(type="category")
    return fig


def _shares(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="similarity", y="size of the gradient / γ")
    for name, sizes, color in zip(("circle", p.other), r.shares, (style.BLUE, style.GRAY), strict=True):
        for kind, chosen, symbol in (
            ("negatives", slice(None, NEGATIVES), "circle"),
            ("positives", slice(NEGATIVES, None), "triangle-up"),
        ):
            marker = {"color": color, "symbol": symbol if name == "circle" else f"{symbol}-open", "size": 10}
            fig.add_scatter(
                x=r.similarities[chosen].numpy(),
                y=sizes[chosen].numpy(),
                mode="markers",
                name=f"{kind}, {name}",
                marker=marker,
            )
    fig.update_xaxes(range=[-0.03, 1.0])
    fig.update_yaxes(rangemode="tozero")
    return fig


def _pairs(p: Params) -> tuple[Tensor, Tensor]:
    """The chosen pair and 200 random ones, as (N,) similarities s_n and s_p, all of them cosines."""
    drawn = 2 * torch.rand(2, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(p.seed)) - 1
    return torch.cat([drawn, torch.tensor([[p.negative], [p.positive]], dtype=torch.float64)], 1).unbind()


@law(
    "The border of one pair is the circle s_n² + (s_p − 1)² = 2m²: there the loss is log 2.",
    source="Sec. 3.3, eq. (10)",
)
def border_is_a_circle(p: Params) -> Evidence:
    at = border(p.margin)
    on_circle = (at - torch.tensor([0.0, 1.0])).square().sum(-1) - 2 * p.margin**2
    loss = circle_loss(at[:, :1], at[:, 1:], scale=p.scale, margin=p.margin)
    return at_most(
        max(float((loss - math.log(2)).abs().max()), float(on_circle.abs().max())),
        0.0,
        1e-12,
        why="float64 rounding of two terms that cancel, times a scale of up to 512",
        quantity="largest |loss − log 2| on the arc where both weights are positive, and of the circle's equation",
    )


@law("The point s_n = m, s_p = 1 − m, the definite target, is on that border.", source="Sec. 3.3")
def target_is_on_the_border(p: Params) -> Evidence:
    at = torch.tensor([p.margin, 1 - p.margin], dtype=torch.float64)
    return equal(
        circle_loss(at[:1], at[1:], scale=p.scale, margin=p.margin),
        math.log(2),
        1e-12,
        why="float64 rounding, times a scale of up to 512",
        quantity="circle loss at (m, 1 − m), nats",
    )


@law("The softmax loss with margin and the triplet loss push s_n and s_p equally hard.", source="Sec. 3.1")
def symmetric_losses_push_alike(p: Params) -> Evidence:
    worst = 0.0
    for other in OTHERS:
        by_n, by_p = slopes(_other(p.but(other=other)), *(side[:, None] for side in _pairs(p)))
        worst = max(worst, float((by_n + by_p).abs().max()))
    return at_most(
        worst,
        0.0,
        1e-14,
        why="float64 rounding",
        quantity="largest sum of both gradients, over γ; the two have opposite signs",
    )


@law(
    "Circle loss pushes each by its distance from the optimum: the ratio is (s_n + m) / (1 + m − s_p).",
    source="Sec. 3.3",
)
def gradient_follows_the_distance(p: Params) -> Evidence:
    s_n, s_p = _pairs(p)
    loss = _circle(p)
    formula = pair_gradient(s_n, s_p, scale=p.scale, margin=p.margin, through=p.through) / p.scale
    autograd = torch.cat(slopes(loss, s_n[:, None], s_p[:, None]), -1)
    return at_most(
        (autograd - formula).abs().max(),
        0.0,
        1e-12,
        why="float64 rounding of a loss of up to some thousand nats, of which Z is one minus the exponential",
        quantity="largest difference from Z (s_n + m), −Z (1 + m − s_p); through the weights 2Z s_n, −2Z (1 − s_p)",
    )


@law("The loss is that of a double loop over all pairs of a negative and a positive.", source="Sec. 3.2, eq. (6)")
def agrees_with_a_double_loop(p: Params) -> Evidence:
    similarities = _similarities(p.seed)
    s_n, s_p = similarities.split([NEGATIVES, POSITIVES])
    exponents = [0.0]
    for n in s_n.tolist():
        for s in s_p.tolist():
            a_n, a_p = max(n + p.margin, 0.0), max(1 + p.margin - s, 0.0)
            exponents.append(p.scale * (a_n * (n - p.margin) - a_p * (s - (1 - p.margin))))
    largest = max(exponents)
    looped = largest + math.log(math.fsum(math.exp(exponent - largest) for exponent in exponents))
    return equal(
        circle_loss(s_n, s_p, scale=p.scale, margin=p.margin),
        looped,
        1e-11,
        why="float64 rounding of a loss of up to 1,000 nats",
        quantity=f"circle loss of {NEGATIVES} negatives and {POSITIVES} positives, nats",
    )


@law(
    "With one positive the unified loss is the cross-entropy of a softmax with an additive margin.",
    source="Sec. 3.1, eq. (4)",
)
def one_positive_is_softmax(p: Params) -> Evidence:
    s_n, s_p = _similarities(p.seed).split([NEGATIVES, POSITIVES])
    worst = 0.0
    for positive in s_p:
        logits = p.scale * torch.cat([(positive - p.margin)[None], s_n])
        expected = nn.functional.cross_entropy(logits, torch.tensor(0))
        ours = unified_loss(s_n, positive[None], scale=p.scale, margin=p.margin)
        worst = max(worst, float((ours - expected).abs()))
    return at_most(
        worst,
        0.0,
        1e-11,
        why="float64 rounding of a loss of up to 1,000 nats",
        quantity="largest difference from torch's",
    )


@law("As γ grows, the unified loss over γ becomes the triplet loss of the hardest pair.", source="Sec. 3.1, eq. (5)")
def large_scale_is_triplet(p: Params) -> Evidence:
    s_n, s_p = _similarities(p.seed).split([NEGATIVES, POSITIVES])
    gap = unified_loss(s_n, s_p, scale=p.scale, margin=p.margin) / p.scale - triplet_loss(s_n, s_p, margin=p.margin)
    bound = math.log(1 + NEGATIVES * POSITIVES) / p.scale
    # Written as a distance from the middle of what is allowed, as the gap may be neither negative nor above the bound.
    return at_most(
        abs(float(gap) - bound / 2),
        bound / 2,
        1e-14,
        why="a sum of 33 exponentials lies between its largest term and 33 times that: 0 ≤ gap ≤ log 33 / γ",
        quantity="distance of the gap from half its bound log 33 / γ, which may be no more than that half",
    )


def _ratio(*, through: bool) -> Tensor:
    pair = torch.tensor([0.8], dtype=torch.float64)
    by_n, by_p = slopes(_circle(Params(through=through)), pair, pair)
    return (by_n / -by_p).squeeze()


@finding(
    "At s_n = s_p = 0.8 and m = 0.25 the negative is pushed 2.3 times as hard as the positive.",
    source="Sec. 3.3, derived",
)
def poor_negative_is_pushed_harder() -> Evidence:
    return equal(
        _ratio(through=False),
        1.05 / 0.45,
        1e-9,
        why="float64 rounding",
        quantity="push on s_n over push on s_p, γ = 64",
    )


@finding("Let through the weights as well, the gradient pushes it 4 times as hard.", source="derived")
def through_the_weights_harder_still() -> Evidence:
    return equal(_ratio(through=True), 4, 1e-9, why="float64 rounding", quantity="push on s_n over push on s_p, γ = 64")


@finding(
    "Where similarities come to rest depends less on their start than under the symmetric loss.",
    source="Sec. 3.3, Fig. 1",
)
def ends_lie_closer_together() -> Evidence:
    p = Params()
    starts = [torch.tensor([n, s]).double() for n in (0.4, 0.6, 0.8, 1.0) for s in (0.0, 0.2, 0.4, 0.6)]
    spread = []
    for loss in (_circle(p), _other(p)):
        ends = torch.stack([follow(loss, start, RATE, STEPS)[-1] for start in starts])
        spread.append((ends - ends.mean(0)).square().sum(-1).mean().sqrt())
    return less_than(
        spread[0] / spread[1],
        1.0,
        why="none needed: no randomness",
        quantity=f"root mean square distance of 16 ends after {STEPS} steps from their mean, circle over symmetric",
    )
