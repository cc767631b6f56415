r"""Softmax temperature: one number between arg max and a coin toss.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 workshop, arXiv:1503.02531, Sec. 2.

    p_i = \frac{e^{v_i/T}}{\sum_j e^{v_j/T}}
    \qquad \frac{\partial C}{\partial z_i} = \frac{q_i - p_i}{T} \approx \frac{z_i - v_i}{K\,T^2}

Symbols: $v$ the logits of a teacher, $p$ its probabilities at temperature $T$; $z$ and $q$ those of a student, here one
that knows nothing yet ($z = 0$); $K$ the number of classes; $C$ the cross-entropy of $q$ against $p$, in nats.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import Evidence, Knobs, Numbers, Range, at_most, equal, law, rising, style

TOPIC = "sampling"
COLDEST, HOTTEST = 0.05, 50.0


@dataclass(frozen=True)
class Params(Knobs):
    temperature: Annotated[float, Range(COLDEST, HOTTEST, log=True, doc="temperature T")] = 4.0
    logits: Annotated[tuple[float, ...], Numbers(-20, 20, fewest=2, most=12, doc="logits v")] = (
        5.0,
        3.5,
        1.0,
        0.0,
        -2.0,
    )


PRESETS = {
    "T → 0: arg max": Params(temperature=0.05),
    "T = 1: plain softmax": Params(temperature=1.0),
    "Large T: all alike": Params(temperature=50.0),
    "A sure teacher, softened": Params(temperature=20.0, logits=(18, 9, 7, 1, -3, -5, -6, -8, -9, -12)),
}

LOOK_FOR = (
    "Heat levels the bars: their order stays, their distances shrink.",
    "Near T = 0 only the largest logit is left; far out the entropy reaches log K.",
    "The gradient dies like 1/T², which is why the distillation loss is multiplied by T².",
)


@dataclass(frozen=True)
class Result:
    plain: Tensor  # (K,) probabilities at T = 1
    softened: Tensor  # (K,) probabilities at the chosen T
    temperatures: Tensor  # (G,) a log grid
    entropy: Tensor  # (G,) nats
    largest: Tensor  # (G,) largest probability
    gradient: Tensor  # (G,) L2 norm of the gradient at the student's logits
    limit: Tensor  # (G,) L2 norm of its high-temperature limit


def softmax(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Probabilities (..., K) of logits (..., K) at a temperature that broadcasts against them."""
    scaled = logits / temperature
    powers = (scaled - scaled.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy (...) in nats of probabilities (..., K); 0 log 0 counts as 0."""
    return -torch.xlogy(p, p).sum(-1)


def soft_gradient(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """(q - p) / T: gradient (..., K) of the soft cross-entropy in the student's logits (eq. 2)."""
    return (softmax(student, temperature) - softmax(teacher, temperature)) / temperature


def gradient_limit(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """(z - v) / (K T^2) for centered logits: what the gradient tends to as T grows (eq. 4)."""
    centered = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    return centered / (student.shape[-1] * temperature**2)


def run(p: Params) -> Result:
    v = torch.tensor(p.logits, dtype=torch.float64)
    grid = torch.logspace(math.log10(COLDEST), math.log10(HOTTEST), 121, dtype=torch.float64)
    over_grid = softmax(v, grid[:, None])
    unlearned = torch.zeros_like(v)
    return Result(
        plain=softmax(v, 1.0),
        softened=softmax(v, p.temperature),
        temperatures=grid,
        entropy=entropy(over_grid),
        largest=over_grid.amax(-1),
        gradient=soft_gradient(unlearned, v, grid[:, None]).norm(dim=-1),
        limit=gradient_limit(unlearned, v, grid[:, None]).norm(dim=-1),
    )


def readings(p: Params, r: Result) -> dict[str, str | float]:
    at = soft_gradient(torch.zeros_like(r.softened), torch.tensor(p.logits, dtype=torch.float64), p.temperature)
    return {
        "Largest probability": float(r.softened.max()),
        "Entropy, nats": float(entropy(r.softened)),
        "Most it can be, log K": math.log(len(p.logits)),
        "Gradient norm": float(at.norm()),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    classes = [f"v = {v:g}" for v in p.logits]
    positions = list(range(len(classes)))
    bars = style.figure(x="class, by its logit", y="probability")
    bars.add_bar(x=positions, y=r.plain.numpy(), name="T = 1", marker={"color": style.GRAY, "pattern": {"shape": "/"}})
    bars.add_bar(x=positions, y=r.softened.numpy(), name=f"T = {p.temperature:.3g}", marker={"color": style.BLUE})
    bars.update_xaxes(tickvals=positions, ticktext=classes)
    bars.update_yaxes(range=[0, 1.02])

    spread = style.figure(x="temperature T (log)", y="share of its most", log_x=True)
    spread.add_scatter(
        x=r.temperatures.numpy(),
        y=r.entropy.numpy() / math.log(len(p.logits)),
        name="entropy / log K",
        line={"color": style.BLUE},
    )
    spread.add_scatter(
        x=r.temperatures.numpy(),
        y=r.largest.numpy(),
        name="largest probability",
        line={"color": style.ORANGE, "dash": "dash"},
    )
    spread.update_yaxes(range=[0, 1.05])

    pull = style.figure(x="temperature T (log)", y="L2 norm of the gradient (log)", log_x=True, log_y=True)
    pull.add_scatter(x=r.temperatures.numpy(), y=r.gradient.numpy(), name="(q − p) / T", line={"color": style.BLUE})
    pull.add_scatter(
        x=r.temperatures.numpy(),
        y=r.limit.numpy(),
        name="limit (z − v) / (K T²)",
        line={"color": style.GRAY, "dash": "dot"},
    )
    for curve in (spread, pull):
        style.here(curve, p.temperature, "T")
    return {
        "The probabilities at T against those at T = 1.": bars,
        "From one sure answer on the left to all alike on the right.": spread,
        "Beyond the largest logit the gradient follows its 1/T² limit.": pull,
    }


def _students(p: Params) -> list[tuple[Tensor, Tensor]]:
    """Pairs of student and teacher logits: one student that knows nothing, one that has it backwards."""
    v = torch.tensor(p.logits, dtype=torch.float64)
    return [(torch.zeros_like(v), v), (v.flip(0), v)]


@law("Entropy never falls as the temperature rises.", source="Sec. 2")
def entropy_rises(p: Params) -> Evidence:
    return rising(
        run(p).entropy,
        1e-12,
        why="float64 rounding of a sum of at most 12 terms",
        quantity="smallest step over 121 temperatures, nats",
    )


@law("At a high temperature the entropy reaches log K: all classes are alike.", source="Sec. 2")
def entropy_tends_to_log_k(p: Params) -> Evidence:
    v = torch.tensor(p.logits, dtype=torch.float64)
    measured = entropy(softmax(v, 1e4))
    return equal(
        measured,
        math.log(len(v)),
        4e-6,
        why="the gap is var(v) / (2 T²), at most 20² / (2 · 10⁸) = 2e-6",
        quantity="entropy at T = 10⁴, nats",
    )


@law("As T → 0 all probability goes to the largest logit (shared where several are largest).", source="Sec. 2")
def cold_is_arg_max(p: Params) -> Evidence:
    v = torch.tensor(p.logits, dtype=torch.float64)
    winners = (v == v.max()).double()
    gap = float((v.max() - v[winners == 0]).min()) if (winners == 0).any() else 1.0
    difference = (softmax(v, gap / 50) - winners / winners.sum()).abs().max()
    return at_most(
        difference,
        0.0,
        1e-15,
        why="the runner-up keeps e⁻⁵⁰ ≈ 2e-22 of the winner's share; the rest is rounding",
        quantity="largest distance from one-hot at T = gap / 50",
    )


@law(
    "The gradient of the soft cross-entropy in the student's logits is (q − p) / T.",
    source="Sec. 2.1, eq. (2)",
)
def gradient_is_q_minus_p_over_t(p: Params) -> Evidence:
    worst = 0.0
    for student, teacher in _students(p):
        z = student.clone().requires_grad_()
        loss = -(torch.softmax(teacher / p.temperature, -1) * torch.log_softmax(z / p.temperature, -1)).sum()
        (autograd,) = torch.autograd.grad(loss, z)
        worst = max(
            worst,
            float((autograd - soft_gradient(student, teacher, p.temperature)).abs().max()) * p.temperature,
        )
    return at_most(
        worst,
        0.0,
        1e-14,
        why="float64 rounding; both sides times T are differences of probabilities",
        quantity="largest |autograd − formula| · T",
    )


@law(
    "For large T the gradient is (z − v) / (K T²) with centered logits; the relative error falls like 1/T.",
    source="Sec. 2.1, eq. (4)",
)
def hot_gradient_limit(p: Params) -> Evidence:
    worst = 0.0
    for student, teacher in _students(p):
        hot = 200 * float(teacher.abs().max().clamp(min=0.1))
        errors = []
        for temperature in (hot, 2 * hot):
            limit = gradient_limit(student, teacher, temperature)
            gradient = soft_gradient(student, teacher, temperature)
            errors.append(float((gradient - limit).norm() / limit.norm()) if limit.norm() > 1e-12 * hot**-2 else 0.0)
        if errors[0] > 1e-9:
            worst = max(worst, errors[1] / errors[0])
    return at_most(
        worst,
        0.5,
        0.01,
        why="doubling T halves a 1/T error; the next order is at most 1/200 of it",
        quantity="relative error at 2T over that at T",
    )
