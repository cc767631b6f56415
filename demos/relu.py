r"""ReLU: a slope of 1 or 0, and what that does to a gradient on its way through many layers.

Nair and Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010; the weight scale: Glorot and
Bengio, AISTATS 2010, and He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852, Sec. 2.2; the dotted
prediction: Schoenholz et al., "Deep Information Propagation", ICLR 2017, arXiv:1611.01232, eq. (3) and (7).

    z_l = W_l h_{l-1} + b \qquad h_l = f(z_l) \qquad g_{l-1} = W_l^\top \bigl(f'(z_l) \odot g_l\bigr)

    q_{l+1} = v\,\mathbb{E}\bigl[f(\sqrt{q_l}\,\xi + b)^2\bigr]
    \qquad \chi_l = v\,\mathbb{E}\bigl[f'(\sqrt{q_l}\,\xi + b)^2\bigr]

Symbols: $f$ the activation; $h$ what the layers of $n$ units hand on, $z$ what comes before the activation; $W$
Gaussian weights of variance $v/n$ ($v = 2$ is He's choice for ReLU, $v = 1$ is Xavier's); $b$ a bias that all units
share; $g$ the gradient, drawn at random behind the last layer; $q$ the variance of $W h$ and $\chi$ the factor by which
the squared gradient changes in a layer, both for very wide layers; $\xi$ a standard normal number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_most, equal, finding, law, more_than, report, style

TOPIC = "architecture"
SAMPLES = 64
UNITS_SHOWN = 40
SILENT = 0.01  # a unit that passes less than this share of every sample's gradient is called silent


@dataclass(frozen=True)
class Params(Knobs):
    activation: Annotated[str, Choice("ReLU", "sigmoid", "tanh", "GELU", "SiLU", doc="activation f")] = "ReLU"
    variance: Annotated[float, Range(0.25, 8, log=True, doc="weight variance times n, v (He: 2, Xavier: 1)")] = 2.0
    depth: Annotated[int, Range(2, 60, doc="layers L")] = 30
    bias: Annotated[float, Range(-3, 3, step=0.1, doc="bias b of every unit")] = 0.0
    width: Annotated[int, Range(50, 200, doc="units in a layer, n")] = 100
    seed: Seed = 0


PRESETS = {
    "ReLU as He scales it": Params(),
    "ReLU as Xavier scales it": Params(variance=1.0),
    "Sigmoid: vanishing": Params(activation="sigmoid", variance=1.0),
    "Dying ReLU": Params(bias=-0.4),
}

LOOK_FOR = (
    "ReLU's slope is 1 or 0. At v = 2 the gradient keeps its size; at v = 1 it halves every two layers.",
    "The sigmoid's slope is at most 1/4: thirty layers leave less than a billionth of the gradient.",
    "Deep in the map of units only light and dark are left: a ReLU is on for all samples, or dead for all.",
)


@dataclass(frozen=True)
class Result:
    grid: Tensor  # (G,) input z
    value: Tensor  # (G,) f(z)
    slope: Tensor  # (G,) f'(z)
    edges: Tensor  # (B + 1,) bins of z
    last: Tensor  # (B,) share of the last layer's z in each bin
    signal: Tensor  # (A, L) root mean square of z by activation (in the order of ACTIVATIONS) and layer
    gradient: Tensor  # (A, L + 1) length of the gradient after 0..L layers, over that behind the last layer
    predicted: Tensor  # (L + 1,) the same of the chosen activation, for very wide layers
    passed: Tensor  # (L, U) mean slope over the samples, of the first units of each layer
    silent: Tensor  # (A, L) share of silent units


def relu(z: Tensor) -> Tensor:
    """max(z, 0), elementwise; NaN stays NaN."""
    return z.clamp(min=0)


def relu_slope(z: Tensor) -> Tensor:
    """1 where z > 0, else 0."""
    return (z > 0).to(z.dtype)


def sigmoid_slope(z: Tensor) -> Tensor:
    """s (1 - s), at most 1/4, with s the sigmoid of z."""
    return torch.sigmoid(z) * torch.sigmoid(-z)


def tanh_slope(z: Tensor) -> Tensor:
    """1 - tanh(z)^2, at most 1."""
    return 1 - torch.tanh(z).square()


def gelu(z: Tensor) -> Tensor:
    """z times the share of a standard normal below z (Hendrycks and Gimpel 2016)."""
    return z * torch.special.ndtr(z)


def gelu_slope(z: Tensor) -> Tensor:
    """Normal distribution function plus z times the density, between -0.13 and 1.13."""
    return torch.special.ndtr(z) + z * (-z.square() / 2).exp() / math.sqrt(2 * math.pi)


def silu(z: Tensor) -> Tensor:
    """z times its sigmoid, also called swish (Elfwing et al. 2017)."""
    return z * torch.sigmoid(z)


def silu_slope(z: Tensor) -> Tensor:
    """s (1 + z (1 - s)), between -0.10 and 1.10, with s the sigmoid of z."""
    return torch.sigmoid(z) * (1 + z * torch.sigmoid(-z))


Function = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "ReLU": (relu, relu_slope),
    "sigmoid": (torch.sigmoid, sigmoid_slope),
    "tanh": (torch.tanh, tanh_slope),
    "GELU": (gelu, gelu_slope),
    "SiLU": (silu, silu_slope),
}


def draw_weights(layers: int, width: int, variance: float, generator: torch.Generator) -> Tensor:
    """Gaussian weights (L, n, n), float64, of variance v / n."""
    normal = torch.randn(layers, width, width, dtype=torch.float64, generator=generator)
    return normal * math.sqrt(variance / width)


def draw_inputs(samples: int, width: int, generator: torch.Generator) -> Tensor:
    """Random inputs (N, n), float64, each of mean square 1."""
    x = torch.randn(samples, width, dtype=torch.float64, generator=generator)
    return x / x.square().mean(-1, keepdim=True).sqrt()


def forward(x: Tensor, weights: Tensor, bias: float, f: Function) -> Tensor:
    """What comes before each layer's activation, (L, N, n), for inputs (N, n) and weights (L, n, n)."""
    before = []
    for w in weights:
        before.append(x @ w.T + bias)
        x = f(before[-1])
    return torch.stack(before)


def backward(g: Tensor, weights: Tensor, slopes: Tensor) -> Tensor:
    """Gradients (L + 1, N, n) after 0..L layers, from the one behind the last layer, (N, n), and slopes (L, N, n)."""
    gradients = [g]
    for w, slope in zip(weights.flip(0), slopes.flip(0), strict=True):
        gradients.append((slope * gradients[-1]) @ w)
    return torch.stack(gradients[::-1])


def wide_gradient(depth: int, variance: float, bias: float, f: Function, slope: Function) -> Tensor:
    """Length (L + 1,) of the gradient after 0..L layers over that behind the last, for very wide layers."""
    xi = torch.linspace(-8, 8, 800, dtype=torch.float64)
    normal = torch.softmax(-xi.square() / 2, 0)
    q, factors = torch.tensor(variance, dtype=torch.float64), []
    for _ in range(depth):
        z = q.sqrt() * xi + bias
        factors.append(variance * (normal @ slope(z).square()))
        q = variance * (normal @ f(z).square())
    after = torch.stack([*factors, torch.ones_like(q)])
    return after.flip(0).cumprod(0).flip(0).sqrt()


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    x = draw_inputs(SAMPLES, p.width, generator)
    g = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    weights = draw_weights(p.depth, p.width, p.variance, generator)
    signal, gradient, silent = [], [], []
    for name, (f, slope_of) in ACTIVATIONS.items():
        before = forward(x, weights, p.bias, f)
        slopes = slope_of(before)
        signal.append(before.square().mean((1, 2)).sqrt())
        gradient.append(backward(g, weights, slopes).norm(dim=(1, 2)) / g.norm())
        silent.append((slopes.abs().amax(1) < SILENT).double().mean(-1))
        if name == p.activation:
            last, edges = torch.histogram(before[-1], 50, range=(-5, 5))
            passed = slopes[:, :, :UNITS_SHOWN].mean(1)
    f, slope_of = ACTIVATIONS[p.activation]
    grid = torch.linspace(-5, 5, 201, dtype=torch.float64)
    return Result(
        grid=grid,
        value=f(grid),
        slope=slope_of(grid),
        edges=edges,
        last=last / (SAMPLES * p.width),
        signal=torch.stack(signal),
        gradient=torch.stack(gradient),
        predicted=wide_gradient(p.depth, p.variance, p.bias, f, slope_of),
        passed=passed,
        silent=torch.stack(silent),
    )


def readings(p: Params, r: Result) -> dict[str, str | float]:
    chosen = list(ACTIVATIONS).index(p.activation)
    left = float(r.gradient[chosen, 0])
    return {
        "Gradient left at the input": left,
        "Factor a layer, on average": left ** (1 / p.depth),
        "… for very wide layers": float(r.predicted[0]) ** (1 / p.depth),
        "Silent units in the last layer": float(r.silent[chosen, -1]),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "The activation, its slope, and where the last layer's inputs z fall.": _function(p, r),
        "The gradient on its way back, from right to left; dotted: very wide layers.": _gradients(p, r),
        "One cell a unit: the share of the gradient that it passes, from none (dark) to all (light).": _units(p, r),
        "The signal on its way forward: weights too small or too large compound.": _signal(p, r),
    }


def _function(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="z, before the activation", y="value, or slope")
    middles = (r.edges[1:] + r.edges[:-1]) / 2
    tallest = float(r.last.max())
    heights = r.last / tallest if tallest else r.last
    marker = {"color": style.GRAY, "opacity": 0.35}
    fig.add_bar(x=middles.numpy(), y=heights.numpy(), name="z in layer L", marker=marker, hoverinfo="skip")
    fig.add_scatter(x=r.grid.numpy(), y=r.value.numpy(), name=p.activation, line={"color": style.BLUE, "width": 3})
    line = {"color": style.ORANGE, "width": 3, "dash": "dash"}
    fig.add_scatter(x=r.grid.numpy(), y=r.slope.numpy(), name="slope", line=line)
    fig.update_layout(bargap=0)
    fig.update_xaxes(range=[-5, 5])
    fig.update_yaxes(range=[-1.1, 2.1])
    return fig


def _gradients(p: Params, r: Result) -> go.Figure:
    fig = _by_layer(p, r.gradient, first=0, x="after layer", y="length of the gradient (log)")
    layers = list(range(p.depth + 1))
    line = {"color": style.RED, "dash": "dot", "width": 2}
    fig.add_scatter(x=layers, y=r.predicted.numpy(), mode="lines", name="predicted", line=line)
    return fig


def _signal(p: Params, r: Result) -> go.Figure:
    return _by_layer(p, r.signal, first=1, x="layer", y="root mean square of z (log)")


def _by_layer(p: Params, curves: Tensor, *, first: int, x: str, y: str) -> go.Figure:
    fig = style.figure(x=x, y=y, log_y=True)
    layers = list(range(first, p.depth + 1))
    style.lines(fig, layers, ACTIVATIONS, curves, widths=[4 if name == p.activation else 1.5 for name in ACTIVATIONS])
    seen = curves[curves > 0]
    return style.decades(fig, float(seen.min()), float(seen.max()))


def _units(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="layer", y="unit")
    fig.add_heatmap(
        x=list(range(1, p.depth + 1)),
        y=list(range(1, r.passed.shape[1] + 1)),
        z=r.passed.T.numpy(),
        zmin=0,
        zmax=1,
        colorscale=style.SEQUENTIAL,
        colorbar={"title": {"text": "mean slope", "side": "right"}, "thickness": 12},
        hovertemplate="layer %{x}, unit %{y}: %{z:.2f}<extra></extra>",
    )
    fig.update_yaxes(showgrid=False)
    fig.update_xaxes(showgrid=False)
    return fig


def _stack(p: Params, depth: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (8, n), the gradient behind the last layer (8, n), and the weights (L, n, n) of a few layers."""
    generator = torch.Generator().manual_seed(p.seed)
    x = draw_inputs(8, p.width, generator)
    g = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    return x, g, draw_weights(min(depth, p.depth), p.width, p.variance, generator)


@law("Each function and its slope are those of torch.", source="definitions; slopes by automatic differentiation")
def functions_are_torchs(p: Params) -> Evidence:
    theirs = (nn.functional.relu, torch.sigmoid, torch.tanh, nn.functional.gelu, nn.functional.silu)
    x, _, weights = _stack(p)
    z = torch.cat([torch.linspace(-9, 9, 200, dtype=torch.float64), (x @ weights[0].T + p.bias).flatten()])
    worst = 0.0
    for (f, slope), reference in zip(ACTIVATIONS.values(), theirs, strict=True):
        leaf = z.clone().requires_grad_()
        (expected,) = torch.autograd.grad(reference(leaf).sum(), leaf)
        worst = max(worst, float((f(z) - reference(z)).abs().max()), float((slope(z) - expected).abs().max()))
    return at_most(
        worst, 0.0, 1e-14, why="float64 rounding of values below 40", quantity="largest difference in value or slope"
    )


@law(
    "The gradient at the input is the product of weights and slopes on the way, as automatic differentiation finds it.",
    source="chain rule",
)
def gradient_is_the_product(p: Params) -> Evidence:
    x, g, weights = _stack(p)
    x.requires_grad_()
    f, slope = ACTIVATIONS[p.activation]
    before = forward(x, weights, p.bias, f)
    (expected,) = torch.autograd.grad((f(before[-1]) * g).sum(), x)
    ours = backward(g, weights, slope(before.detach()))[0]
    return at_most(
        (ours - expected).norm(),
        0.0,
        1e-12 * float(expected.norm()),
        why="float64 rounding of six layers, relative to the length",
        quantity="length of the difference",
    )


@law(
    "A layer of ReLU without bias multiplies the mean square by v/2, so that v = 2 keeps it.",
    source="He 2015, eq. (10)",
)
def relu_halves_the_mean_square(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    x = draw_inputs(1, p.width, generator)
    weights = draw_weights(20_000 // p.width, p.width, p.variance, generator).flatten(0, 1)
    after = relu(x @ weights.T)
    return equal(
        after.square().mean() / p.variance,
        0.5,
        5 * math.sqrt(5 / 4 / len(weights)),
        why="five standard errors of about 20,000 units, as relu(z)² has variance 5/4 · v²: right code fails at about "
        "one seed in a million",
        quantity="mean square of the output over v, at an input of mean square 1",
    )


@law("A layer of sigmoids shrinks every gradient to at most 1/4 of what its weights alone would.", source="slope ≤ 1/4")
def sigmoid_shrinks(p: Params) -> Evidence:
    x, g, weights = _stack(p, depth=3)
    before = forward(x, weights, p.bias, torch.sigmoid)
    lengths = backward(g, weights, sigmoid_slope(before)).norm(dim=-1)
    stretch = torch.linalg.matrix_norm(weights, 2)[:, None]
    return at_most(
        (lengths[:-1] / (stretch * lengths[1:])).max(),
        0.25,
        1e-12,
        why="float64 rounding",
        quantity="largest ratio of lengths in a layer, over the largest singular value of its weights",
    )


@law("A ReLU that gets N(b, v) is inactive on a share Φ(−b / √v) of inputs.", source="normal distribution")
def share_of_inactive_units(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    x = draw_inputs(1, p.width, generator)
    weights = draw_weights(20_000 // p.width, p.width, p.variance, generator).flatten(0, 1)
    inactive = 1 - relu_slope(x @ weights.T + p.bias)
    expected = 0.5 * math.erfc(p.bias / math.sqrt(2 * p.variance))
    return equal(
        inactive.mean(),
        expected,
        5 * math.sqrt(expected * (1 - expected) / len(weights)) + 5 / len(weights),
        why="five standard errors of about 20,000 units, and five units for tails too thin for a normal law: right "
        "code fails at about one seed in a million",
        quantity="share of inactive units in the first layer",
    )


@finding(
    "The gradient shrinks layer by layer at the rate that very wide layers would have.", source="Schoenholz 2017, (7)"
)
def decays_at_the_predicted_rate() -> Evidence:
    worst = 0.0
    for row, name in enumerate(ACTIVATIONS):
        results = [run(Params(activation=name, variance=1.0, seed=seed)) for seed in range(5)]
        measured = torch.stack([r.gradient[row, 0] for r in results]).log().mean() / 30
        worst = max(worst, float((measured - results[0].predicted[0].log() / 30).expm1().abs()))
    return at_most(
        worst,
        0.02,
        why="v = 1, other knobs at their defaults, mean over seeds 0 to 4; at 100 units a layer's factor is off by a "
        "few percent at random, its mean over 150 layers by less than one",
        quantity="largest relative error of the factor a layer, over the five activations",
    )


@report("GELU follows that rate at v = 2 as well.", source="Schoenholz 2017, (7)")
def gelu_at_he_scale() -> Evidence:
    results = [run(Params(activation="GELU", seed=seed)) for seed in range(5)]
    row = list(ACTIVATIONS).index("GELU")
    return equal(
        torch.stack([r.gradient[row, 0] for r in results]).log().mean().div(30).exp(),
        results[0].predicted[0].log().div(30).exp(),
        0.02,
        why="as for v = 1; here the scale of the signal is unstable, and 100 units leave it before wide layers would",
        quantity="factor a layer, mean over seeds 0 to 4",
    )


@finding(
    "ReLU with He's weights keeps a gradient through 30 layers of which sigmoids leave nothing.",
    source="Sec. 1 of He 2015",
)
def relu_keeps_what_sigmoid_loses() -> Evidence:
    left = torch.stack([run(Params(seed=seed)).gradient[:, 0] for seed in range(5)])
    names = list(ACTIVATIONS)
    return more_than(
        (left[:, names.index("ReLU")] / left[:, names.index("sigmoid")]).min(),
        1e10,
        why="defaults, seeds 0 to 4, each must show it; Xavier's or He's weights times a slope of 1/4 at most leave "
        "about 10⁻¹⁵ of it",
        quantity="smallest ratio of the gradients left at the input, ReLU to sigmoid",
    )


@finding("Deep in an untrained ReLU network many units are dead: inactive on every sample.", source="measured here")
def deep_units_are_dead() -> Evidence:
    silent = torch.stack([run(Params(seed=seed)).silent[0, [0, -1]] for seed in range(5)])
    return more_than(
        (silent[:, 1] - silent[:, 0]).min(),
        0.2,
        why="defaults, 64 samples, seeds 0 to 4, each must show it; in the first layer a unit misses all samples with "
        "a probability of 2⁻⁶⁴, deep ones see samples that have become alike",
        quantity="smallest rise of the share of dead units from layer 1 to layer 30",
    )
