r"""Generative divergences: four ways to say how far a model is from the data, and which of them can guide it there.

Goodfellow et al., "Generative Adversarial Nets", NIPS 2014, arXiv:1406.2661, Sec. 4.1; Arjovsky, Chintala and Bottou,
"Wasserstein GAN", ICML 2017, arXiv:1701.07875, Sec. 2.

    \mathrm{KL}(p\,\|\,q) = \int p \log\frac{p}{q}
    \qquad \mathrm{JS} = \tfrac12 \mathrm{KL}(p\,\|\,m) + \tfrac12 \mathrm{KL}(q\,\|\,m), \ \ m = \tfrac{p + q}{2}
    \qquad W_1 = \int |F - G|\,dx = \int_0^1 |F^{-1} - G^{-1}|\,du

Symbols: $p$ the density of the data, around 0, $F$ its distribution function; $q$ and $G$ those of the model, moved
away by the distance $d$. A density's scale $s$ is the standard deviation of the normal, half the width of the
uniform, and for two bumps half their distance, each of standard deviation $s/3$. Divergences are in nats.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_most, equal, finding, law, more_than, style

TOPIC = "generative"
SHAPES = ("normal", "uniform", "two bumps")
FARTHEST = 10.0
DRAWS = 2_000


@dataclass(frozen=True)
class Params(Knobs):
    distance: Annotated[float, Range(0, FARTHEST, step=0.1, doc="distance d of q from p")] = 3.0
    data: Annotated[str, Choice(*SHAPES, doc="shape of p, the data")] = "normal"
    data_scale: Annotated[float, Range(0.2, 3, log=True, doc="its scale")] = 1.0
    model: Annotated[str, Choice(*SHAPES, doc="shape of q, the model")] = "normal"
    model_scale: Annotated[float, Range(0.2, 3, log=True, doc="its scale")] = 1.0
    seed: Seed = 0


PRESETS = {
    "Disjoint: only W₁ knows where to go": Params(distance=5.0, data="uniform", model="uniform"),
    "Narrow model, wide data": Params(distance=1.0, data_scale=2.0, model_scale=0.5),
    "One bump for two": Params(distance=2.0, data="two bumps", data_scale=2.0, model_scale=0.7),
    "The same normals, far apart": Params(distance=8.0),
}

LOOK_FOR = (
    "Once p and q hardly overlap, JS lies flat at log 2: its slope is 0 and says nothing about the way back.",
    "W₁ is the area between the distribution functions; far out it grows by 1 for each 1 of distance.",
    "KL is not symmetric: a narrow model that misses data costs much one way round and little the other.",
)


@dataclass(frozen=True)
class Result:
    x: Tensor  # (G,) where densities are drawn
    densities: Tensor  # (2, G) of p and q
    distributions: Tensor  # (2, G) F and G
    discriminator: Tensor  # (G,) probability that the best discriminator gives to the data
    distances: Tensor  # (D,)
    curves: Tensor  # (4, D) KL(p || q), KL(q || p), JS and W1 at each distance, nats (W1: the unit of x)
    slopes: Tensor  # (4, D) their derivatives in the distance
    here: Tensor  # (4,) the four at the chosen distance
    sampled: float  # W1 of samples of both


@dataclass(frozen=True)
class Density:
    """One of the shapes, of scale s, around a center (...) of any shape."""

    shape: str
    scale: float
    center: Tensor

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Left and right end (...): of the support, or where less than 1e-18 is left outside."""
        reach = self.scale * {"normal": 9, "uniform": 1, "two bumps": 4}[self.shape]
        return self.center - reach, self.center + reach

    def log(self, x: Tensor) -> Tensor:
        """Log density (...) at x (...); minus infinity outside of the support."""
        at = (x - self.center) / self.scale
        if self.shape == "uniform":
            return torch.full_like(at, -math.log(2 * self.scale)).masked_fill(at.abs() > 1, -math.inf)
        if self.shape == "normal":
            return log_normal(at) - math.log(self.scale)
        bumps = torch.logaddexp(log_normal(3 * at - 3), log_normal(3 * at + 3))
        return bumps + math.log(1.5 / self.scale)

    def below(self, x: Tensor) -> Tensor:
        """Distribution function (...) at x (...)."""
        at = (x - self.center) / self.scale
        if self.shape == "uniform":
            return ((at + 1) / 2).clamp(0, 1)
        if self.shape == "normal":
            return torch.special.ndtr(at)
        return (torch.special.ndtr(3 * at - 3) + torch.special.ndtr(3 * at + 3)) / 2

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Samples (count,) around a single center."""
        noise = torch.randn(count, dtype=torch.float64, generator=generator)
        uniform = 2 * torch.rand(count, dtype=torch.float64, generator=generator) - 1
        at = {"normal": noise, "uniform": uniform, "two bumps": uniform.sign() + noise / 3}[self.shape]
        return self.center + self.scale * at


def log_normal(z: Tensor) -> Tensor:
    """Log density (...) of the standard normal."""
    return -z.square() / 2 - math.log(2 * math.pi) / 2


def nodes(p: Density, q: Density) -> tuple[Tensor, Tensor]:
    """Points and weights (N, D) of an integral over both, for D centers of either.

    Gauss-Legendre between the ends of both densities, where integrands have their jumps.
    """
    ends = torch.stack(torch.broadcast_tensors(*p.ends, *q.ends)).sort(0).values
    at, weights = (torch.from_numpy(part)[None, :, None] for part in np.polynomial.legendre.leggauss(160))
    middle, half = (ends[1:] + ends[:-1])[:, None] / 2, (ends[1:] - ends[:-1])[:, None] / 2
    return (middle + half * at).flatten(0, 1), (half * weights).flatten(0, 1)


def integral(log_density: Tensor, of: Tensor, weights: Tensor) -> Tensor:
    """Mean (D,) of a function (N, D) under a density (N, D); where the density is 0 the function does not count."""
    density = log_density.exp()
    return (torch.where(density > 0, density * of, 0) * weights).sum(0)


def kl(p: Density, q: Density) -> Tensor:
    """KL(p || q) (D,) in nats, for D centers of either; infinite where p reaches beyond the support of q."""
    x, weights = nodes(p, q)
    return integral(p.log(x), p.log(x) - q.log(x), weights)


def js(p: Density, q: Density) -> Tensor:
    """Jensen-Shannon divergence (D,) in nats: from 0 to log 2."""
    x, weights = nodes(p, q)
    middle = torch.logaddexp(p.log(x), q.log(x)) - math.log(2)
    return sum(integral(each.log(x), each.log(x) - middle, weights) for each in (p, q)) / 2


def w1(p: Density, q: Density) -> Tensor:
    """Wasserstein-1 distance (D,), in the unit of x: the area between the distribution functions."""
    x, weights = nodes(p, q)
    return ((p.below(x) - q.below(x)).abs() * weights).sum(0)


def w1_of_samples(x: Tensor, y: Tensor) -> Tensor:
    """W1 of two samples (N,) each: the mean distance of the smallest, of the next, and so on, in the unit of x."""
    return (x.sort().values - y.sort().values).abs().mean()


def discriminator(p: Density, q: Density, x: Tensor) -> Tensor:
    """Log odds (...) that x is data, of the best discriminator D* = p / (p + q) (Goodfellow et al., eq. 2)."""
    return p.log(x) - q.log(x)


def gan_value(p: Density, q: Density) -> Tensor:
    """V (D,) = E_p log D* + E_q log(1 - D*), what the generator is to lower (Goodfellow et al., eq. 1)."""
    x, weights = nodes(p, q)
    odds = discriminator(p, q, x)
    of_data, of_model = (torch.nn.functional.logsigmoid(each) for each in (odds, -odds))
    return integral(p.log(x), of_data, weights) + integral(q.log(x), of_model, weights)


def pair(p: Params, distance: Tensor | float) -> tuple[Density, Density]:
    """The data's density at 0, and the model's at the given distance (D,)."""
    distance = torch.as_tensor(distance, dtype=torch.float64)
    return Density(p.data, p.data_scale, torch.zeros((), dtype=torch.float64)), Density(
        p.model, p.model_scale, distance
    )


def measure(p: Params, distance: Tensor) -> Tensor:
    """KL(p || q), KL(q || p), JS and W1 (4, D) at distances (D,)."""
    data, model = pair(p, distance)
    return torch.stack([kl(data, model), kl(model, data), js(data, model), w1(data, model)])


def run(p: Params) -> Result:
    data, model = pair(p, p.distance)
    low, high = -3.2 * max(p.data_scale, 1), FARTHEST + 1
    x = torch.linspace(low, high, 401, dtype=torch.float64)
    distances = torch.linspace(0, FARTHEST, 101, dtype=torch.float64)
    curves = measure(p, distances)
    generator = torch.Generator().manual_seed(p.seed)
    return Result(
        x=x,
        densities=torch.stack([each.log(x).exp() for each in (data, model)]),
        distributions=torch.stack([each.below(x) for each in (data, model)]),
        discriminator=discriminator(data, model, x).sigmoid(),
        distances=distances,
        curves=curves,
        slopes=torch.stack(torch.gradient(curves, spacing=(distances,), dim=1)).squeeze(0),
        here=measure(p, torch.tensor([p.distance], dtype=torch.float64))[:, 0],
        sampled=float(w1_of_samples(data.draw(DRAWS, generator), model.draw(DRAWS, generator))),
    )


def readings(p: Params, r: Result) -> dict[str, str | float]:
    names = ("KL(p‖q), nats", "KL(q‖p), nats", "JS, nats", "W₁")
    numbers = {name: value if math.isfinite(value) else "∞" for name, value in zip(names, r.here.tolist(), strict=True)}
    return {**numbers, "Most JS can be, log 2": math.log(2), f"W₁ of {DRAWS:,} samples": r.sampled}


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "Data p and model q; dotted is what the best discriminator says: a cliff once they are apart.": _densities(r),
        "The shaded area between the distribution functions is W₁: how much has to move, times how far.": _transport(r),
        "JS levels off at log 2, W₁ grows on; a KL that is infinite is not drawn.": _divergences(p, r),
        "Their slopes, which is all that a gradient step sees: that of JS vanishes, that of W₁ stays.": _slopes(p, r),
    }


def _densities(r: Result) -> go.Figure:
    fig = style.figure(x="x", y="density")
    looks = (("p, data", style.BLUE, "solid"), ("q, model", style.ORANGE, "dash"))
    for (name, color, dash), density in zip(looks, r.densities, strict=True):
        line = {"color": color, "dash": dash}
        fig.add_scatter(x=r.x.numpy(), y=density.numpy(), mode="lines", name=name, line=line, fill="tozeroy")
    odds = r.discriminator * r.densities.max()
    line = {"color": style.GRAY, "dash": "dot"}
    fig.add_scatter(x=r.x.numpy(), y=odds.numpy(), mode="lines", name="D* (0 to 1)", line=line)
    return fig


def _transport(r: Result) -> go.Figure:
    fig = style.figure(x="x", y="share below x", height=280)
    looks = (("F, data", style.BLUE, "solid", None), ("G, model", style.ORANGE, "dash", "tonexty"))
    for (name, color, dash, fill), below in zip(looks, r.distributions, strict=True):
        line = {"color": color, "dash": dash}
        shade = {"fill": fill, "fillcolor": "rgba(47, 158, 132, 0.3)"} if fill else {}
        fig.add_scatter(x=r.x.numpy(), y=below.numpy(), mode="lines", name=name, line=line, **shade)
    return fig


def _over_distance(p: Params, r: Result, curves: Tensor) -> go.Figure:
    fig = style.figure(x="distance d", y="nats (W₁: unit of x)")
    names, colors = ("KL(p‖q)", "KL(q‖p)", "JS", "W₁"), (style.PURPLE, style.GRAY, style.BLUE, style.GREEN)
    finite, dashes = torch.where(curves.isfinite(), curves, math.nan), ("dot", "dash", "solid", "longdash")
    style.lines(fig, r.distances.numpy(), names, finite, colors=colors, dashes=dashes, widths=[2.5] * 4)
    return style.here(fig, p.distance, "d")


def _divergences(p: Params, r: Result) -> go.Figure:
    fig = _over_distance(p, r, r.curves)
    fig.add_hline(y=math.log(2), line={"color": style.GRAY, "width": 1}, annotation_text="log 2")
    highest = max(value for value in r.here.tolist() if math.isfinite(value))
    fig.update_yaxes(range=[0, min(max(4.0, 1.15 * highest), 12.0)])
    return fig


def _slopes(p: Params, r: Result) -> go.Figure:
    fig = _over_distance(p, r, r.slopes)
    fig.update_yaxes(title_text="slope in d", range=[-0.6, 1.6])
    return fig


def _apart(p: Params) -> Tensor:
    """Three distances (3,) at which uniform densities of these scales do not touch."""
    return p.data_scale + p.model_scale + torch.tensor([0.01, 1.0, 5.0], dtype=torch.float64)


@law("JS lies between 0 and log 2.", source="Goodfellow et al., Sec. 4.1")
def js_is_at_most_log_2(p: Params) -> Evidence:
    values = js(*pair(p, torch.linspace(0, FARTHEST, 41)))
    outside = torch.stack([-values.min(), values.max() - math.log(2)]).max()
    return at_most(
        outside,
        0.0,
        1e-11,
        why="rounding; the nodes are exact for what is smooth between the jumps",
        quantity="farthest outside of [0, log 2], over 41 distances",
    )


@law("Once the supports are disjoint JS stays at log 2 and its slope is 0.", source="Arjovsky et al., Example 1")
def js_is_stuck_when_disjoint(p: Params) -> Evidence:
    distance = _apart(p).requires_grad_()
    values = js(*pair(p.but(data="uniform", model="uniform"), distance))
    (slope,) = torch.autograd.grad(values.sum(), distance)
    return at_most(
        torch.cat([(values - math.log(2)).abs(), slope.abs()]).max().detach(),
        0.0,
        1e-9,
        why="float64 rounding; uniform densities 0.01, 1 and 5 apart, slope by autograd",
        quantity="largest |JS − log 2| or |slope|",
    )


@law(
    "Between disjoint uniforms W₁ grows by 1 for each 1 of distance, and is the distance.", source="Arjovsky, Example 1"
)
def w1_grows_linearly(p: Params) -> Evidence:
    distance = _apart(p).requires_grad_()
    values = w1(*pair(p.but(data="uniform", model="uniform"), distance))
    (slope,) = torch.autograd.grad(values.sum(), distance)
    return at_most(
        torch.cat([(values - distance).abs(), (slope - 1).abs()]).max().detach(),
        0.0,
        1e-9,
        why="float64 rounding; slope by autograd; both centers are means, so W₁ is their difference",
        quantity="largest |W₁ − d| or |slope − 1|",
    )


@law("Moving a density by d puts it at W₁ = d, whatever its shape.", source="definition, F⁻¹ and G⁻¹ differ by d")
def w1_of_a_shift_is_the_shift(p: Params) -> Evidence:
    distances = torch.linspace(0, FARTHEST, 21, dtype=torch.float64)
    values = w1(*pair(p.but(model=p.data, model_scale=p.data_scale), distances))
    return at_most(
        (values - distances).abs().max(),
        0.0,
        1e-11,
        why="rounding; the nodes are exact for what is smooth between the jumps",
        quantity="largest |W₁ − d| over 21 distances",
    )


@law("For normals KL equals log(σq/σp) + (σp² + d²) / 2σq² − ½.", source="closed form")
def kl_of_normals(p: Params) -> Evidence:
    distances = torch.linspace(0, FARTHEST, 21, dtype=torch.float64)
    a, b = p.data_scale, p.model_scale
    exact = math.log(b / a) + (a**2 + distances.square()) / (2 * b**2) - 0.5
    ours = kl(*pair(p.but(data="normal", model="normal"), distances))
    return at_most(
        ((ours - exact).abs() / (1 + exact)).max(),
        0.0,
        1e-11,
        why="rounding; less than 1e-18 of the mass lies beyond 9 σ",
        quantity="largest error, relative to 1 + KL, over 21 distances",
    )


@law("JS is symmetric, and so is W₁.", source="definition")
def js_and_w1_are_symmetric(p: Params) -> Evidence:
    data, model = pair(p, torch.linspace(0, FARTHEST, 21))
    gaps = [(of(data, model) - of(model, data)).abs().max() for of in (js, w1)]
    return at_most(max(gaps), 0.0, 1e-12, why="float64 rounding", quantity="largest difference over 21 distances")


@law("Against the best discriminator the GAN's value is 2 JS − log 4.", source="Goodfellow et al., eq. (6)")
def gan_value_is_js(p: Params) -> Evidence:
    both = pair(p, torch.linspace(0, FARTHEST, 21))
    return at_most(
        (gan_value(*both) - (2 * js(*both) - math.log(4))).abs().max(),
        0.0,
        1e-11,
        why="rounding; the nodes are exact for what is smooth between the jumps",
        quantity="largest difference over 21 distances, nats",
    )


@law("W₁ of samples, by sorting them, is the area between their own distribution functions.", source="quantile formula")
def sorting_agrees_with_the_area(p: Params) -> Evidence:
    x, y = _samples(p, 500)
    steps = torch.cat([x, y]).sort().values
    below = [torch.searchsorted(each.sort().values, steps[:-1], right=True).double() / len(each) for each in (x, y)]
    area = ((below[0] - below[1]).abs() * steps.diff()).sum()
    return at_most(
        (w1_of_samples(x, y) - area).abs(), 0.0, 1e-12, why="float64 rounding of 1,000 terms", quantity="difference"
    )


@law("W₁ of samples agrees with that of the densities.", source="quantile formula")
def samples_agree_with_the_densities(p: Params) -> Evidence:
    data, model = pair(p, torch.tensor([p.distance]))
    count, spread = 20_000, 0.0
    x, weights = nodes(data, model)
    for each in (data, model):
        below = each.below(x)
        spread += float(((below * (1 - below)).clamp(min=0).sqrt() * weights).sum())
    return equal(
        w1_of_samples(*_samples(p, count)),
        w1(data, model),
        5 * spread / math.sqrt(count),
        why="on average a sample of n lies within ∫√(F(1−F)) / √n of its density; five times that for both together: "
        "right code fails at fewer than one seed in ten thousand",
        quantity="W₁ of 20,000 samples each",
    )


def _samples(p: Params, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(p.seed)
    data, model = pair(p, p.distance)
    return data.draw(count, generator), model.draw(count, generator)


@finding("KL is not symmetric: a narrow model of wide data costs far more one way round.", source="definition")
def kl_is_not_symmetric() -> Evidence:
    forward, backward, _, _ = measure(PRESETS["Narrow model, wide data"], torch.tensor([1.0], dtype=torch.float64))
    return more_than(
        forward / backward,
        2.0,
        why="normals of σ = 2 (data) and 0.5 (model) at d = 1; symmetric would be 1",
        quantity="KL(p‖q) / KL(q‖p)",
    )


@finding("Two equal normals 8 σ apart leave JS almost no slope, W₁ all of it.", source="Arjovsky et al., Sec. 2")
def js_is_silent_where_w1_pulls() -> Evidence:
    distance = torch.tensor([8.0], dtype=torch.float64, requires_grad=True)
    both = pair(Params(), distance)
    of_js, of_w1 = (torch.autograd.grad(of(*both).sum(), distance)[0] for of in (js, w1))
    return at_most(
        of_js / of_w1,
        1e-3,
        why="a thousandth; the slope of W₁ is 1",
        quantity="slope of JS over slope of W₁",
    )


@finding(
    "Asked to cover two bumps with one, KL(p‖q) puts the model between them, KL(q‖p) on one of them.",
    source="the two directions average over p and over q",
)
def one_covers_the_other_seeks() -> Evidence:
    distances = torch.linspace(0, 4, 401, dtype=torch.float64)
    forward, backward, _, _ = measure(PRESETS["One bump for two"], distances)
    return at_most(
        distances[forward.argmin()] + (distances[backward.argmin()] - 2).abs(),
        0.0,
        0.1,
        why="the preset, bumps at ±2, places tried in steps of 0.01; the far bump moves a place by less than 0.1",
        quantity="distance of the best places from 0 and from 2, added",
    )
