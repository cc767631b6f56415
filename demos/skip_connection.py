r"""Skip connection: add a layer's input to its output, and the gradient finds a way past every layer.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, eq. (1); with the
activation ahead of the weights as in "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv:1603.05027; the
noise: Balduzzi et al., "The Shattered Gradients Problem", ICML 2017, arXiv:1702.08591; the paths: Veit, Wilber and
Belongie, NIPS 2016, arXiv:1605.06431.

    F_l(h) = W_l\,\mathrm{ReLU}(\mathrm{BN}(h))
    \qquad \text{plain: } h_l = F_l(h_{l-1})
    \qquad \text{skip: } h_l = h_{l-1} + s\,F_l(h_{l-1})

Symbols: $h_l$ what layer $l$ of $L$ hands on, 64 units; $W$ Gaussian weights of variance $v/64$; $s$ the scale of the
branch, 1 in the paper; BN batch normalization over the inputs shown, its statistics then held fixed. The inputs lie on
a circle, which each unit of $h_0$ sees from a side of its own; the output is $h_L$ along one random direction. Both
networks have the same weights.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_most, equal, finding, law, more_than, report, style
from demos.kit.data import digits_split
from demos.kit.training import Descent, batches, build, one_thread

TOPIC = "architecture"
WIDTH, POINTS, EPS = 64, 256, 1e-5
APART = 4  # steps around the circle between the inputs whose gradients are compared
DEGREES = 360 / POINTS
PLAIN, SKIP = 0, 1
NAMES, COLORS, DASHES = ("plain", "with skips"), (style.ORANGE, style.BLUE), ("dash", "solid")


@dataclass(frozen=True)
class Params(Knobs):
    depth: Annotated[int, Range(1, 100, doc="layers L")] = 50
    norm: Annotated[str, Choice("batch", "none", doc="normalization in each branch")] = "batch"
    branch: Annotated[float, Range(0, 2, step=0.05, doc="scale s of the branch beside a skip")] = 1.0
    variance: Annotated[float, Range(0.25, 8, log=True, doc="weight variance times n, v (He: 2)")] = 2.0
    seed: Seed = 0


PRESETS = {
    "50 layers": Params(),
    "2 layers: no difference yet": Params(depth=2),
    "No normalization: skips explode": Params(norm="none"),
    "… unless the branch is small": Params(norm="none", branch=0.2),
}

LOOK_FOR = (
    "On its way down the plain network's gradient turns to noise: what helps one input says nothing of the next.",
    "With skips broad stripes last to the bottom: neighboring inputs still agree after fifty layers.",
    "Skips alone do not keep the gradient's length: normalization tames it, a small branch keeps it.",
)


@dataclass(frozen=True)
class Result:
    field: Tensor  # (2, L + 1, P) unit 1's gradient after 0..L layers around the circle, plain and with skips, over rms
    length: Tensor  # (2, L + 1) root mean square length of the gradient after 0..L layers, over that after L
    agreement: Tensor  # (2, L + 1) mean cosine between the gradients of inputs APART steps from each other


@dataclass(frozen=True)
class Passed:
    """What a forward pass leaves behind for the way back."""

    handed: Tensor  # (L + 1, N, n) what 0..L layers hand on
    gains: Tensor  # (L, N, n) slope of the normalized ReLU: 1 / std. dev. of the unit where it is active, else 0


def draw_weights(depth: int, variance: float, generator: torch.Generator) -> Tensor:
    """Gaussian weights (L, n, n), float64, of variance v / n."""
    normal = torch.randn(depth, WIDTH, WIDTH, dtype=torch.float64, generator=generator)
    return normal * math.sqrt(variance / WIDTH)


def circle(points: int, generator: torch.Generator) -> Tensor:
    """Inputs (N, n) evenly around a circle, which each unit sees from a random side with mean 0 and variance 1."""
    phase = 2 * math.pi * torch.rand(WIDTH, dtype=torch.float64, generator=generator)
    angle = torch.arange(points, dtype=torch.float64)[:, None] * (2 * math.pi / points) - phase
    return math.sqrt(2) * angle.cos()


def activate(h: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """ReLU of the normalized h (N, n), and its slope with the statistics held fixed, both (N, n)."""
    if norm == "batch":
        variance, mean = torch.var_mean(h, 0, correction=0)
        scale = (variance + EPS).rsqrt()
    else:
        mean, scale = torch.zeros_like(h[0]), torch.ones_like(h[0])
    normalized = (h - mean) * scale
    return normalized.clamp(min=0), (normalized > 0) * scale


def forward(h: Tensor, weights: Tensor, norm: str, *, skip: bool, branch: float = 1.0) -> Passed:
    """Sends h (N, n) through layers of weights (L, n, n), plain or with skips."""
    handed, gains = [h], []
    for w in weights:
        active, gain = activate(h, norm)
        h = h + branch * (active @ w.T) if skip else active @ w.T
        handed.append(h)
        gains.append(gain)
    return Passed(torch.stack(handed), torch.stack(gains))


def backward(g: Tensor, weights: Tensor, gains: Tensor, *, skip: bool, branch: float = 1.0) -> Tensor:
    """Gradients (L + 1, N, n) after 0..L layers, from the one behind the last layer, (N, n)."""
    gradients = [g]
    for w, gain in zip(weights.flip(0), gains.flip(0), strict=True):
        through = (g @ w) * gain
        g = g + branch * through if skip else through
        gradients.append(g)
    return torch.stack(gradients[::-1])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine (...) of the angle between vectors (..., n); 0 where one of them is zero."""
    lengths = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(lengths > 0, (a * b).sum(-1) / lengths, 0.0)


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    x = circle(POINTS, generator)
    direction = torch.randn(WIDTH, dtype=torch.float64, generator=generator)
    weights = draw_weights(p.depth, p.variance, generator)
    field, length, agreement = [], [], []
    for skip in (False, True):
        passed = forward(x, weights, p.norm, skip=skip, branch=p.branch)
        gradients = backward(direction.expand_as(x), weights, passed.gains, skip=skip, branch=p.branch)
        field.append(gradients[:, :, 0] / gradients.square().mean((1, 2)).sqrt()[:, None])
        length.append(gradients.norm(dim=(1, 2)) / gradients[-1].norm())
        agreement.append(cosine(gradients, gradients.roll(APART, 1)).mean(-1))
    return Result(
        field=torch.stack(field),
        length=torch.stack(length),
        agreement=torch.stack(agreement),
    )


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        f"{what}, {name}": float(values[which, 0])
        for what, values in (("Gradient at the input", r.length), ("Agreement there", r.agreement))
        for which, name in enumerate(NAMES)
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    apart = f"Agreement of gradients at inputs {APART * DEGREES:.0f}° apart: noise does not agree with its neighbor."
    return {
        "Plain: one unit's gradient around the circle of inputs. Follow it down, layer by layer.": _field(r, PLAIN),
        "With skips and the same weights: how far down do the stripes last?": _field(r, SKIP),
        "The length of the gradient on its way back, from right to left.": _length(p, r),
        apart: _agreement(p, r),
    }


def _field(r: Result, which: int) -> go.Figure:
    fig = style.figure(x="input's angle, degrees", y="after layer", height=300)
    fig.add_heatmap(
        # Two decimals are all that a color shows, and every second input all that fits.
        z=r.field[which, :, ::2].numpy().round(2),
        x0=0,
        dx=2 * DEGREES,
        zmin=-2.5,
        zmax=2.5,
        colorscale=style.DIVERGING,
        colorbar={"title": {"text": "gradient / rms", "side": "right"}, "thickness": 12},
        hovertemplate="layer %{y}, %{x:.0f}°: %{z:.2f}<extra></extra>",
    )
    fig.update_xaxes(tickvals=[0, 90, 180, 270], showgrid=False)
    fig.update_yaxes(showgrid=False)
    fig.update_layout(margin={"t": 8})
    return fig


def _length(p: Params, r: Result) -> go.Figure:
    fig = _by_layer(p, r.length, y="length of the gradient (log)", log_y=True)
    return style.decades(fig, float(r.length.min()), float(r.length.max()))


def _agreement(p: Params, r: Result) -> go.Figure:
    fig = _by_layer(p, r.agreement, y="mean cosine")
    fig.update_yaxes(range=[-0.15, 1.05])
    return fig


def _by_layer(p: Params, curves: Tensor, *, y: str, log_y: bool = False) -> go.Figure:
    fig = style.figure(x="after layer", y=y, log_y=log_y)
    layers = list(range(p.depth + 1))
    return style.lines(fig, layers, NAMES, curves, colors=COLORS, dashes=DASHES, widths=(2.5, 2.5))


def _start(p: Params, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (32, n), gradients behind the last layer (32, n) and weights (L, n, n) of at most `depth` layers."""
    generator = torch.Generator().manual_seed(p.seed)
    x = circle(32, generator)
    g = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    return x, g, draw_weights(min(depth, p.depth), p.variance, generator)


@law("With skips, what comes out is what went in plus what every branch added.", source="He 2016b, eq. (4)")
def branches_add_up(p: Params) -> Evidence:
    x, _, weights = _start(p, depth=20)
    handed = forward(x, weights, p.norm, skip=True, branch=p.branch).handed
    added = sum(p.branch * activate(h, p.norm)[0] @ w.T for h, w in zip(handed, weights, strict=False))
    return at_most(
        (x + added - handed[-1]).norm() / handed[-1].norm(),
        0.0,
        1e-13,
        why="float64 rounding of 20 additions",
        quantity="relative difference of h at the end and the sum",
    )


@law("A skip passes the gradient unchanged: beside branches of scale 0, bit for bit.", source="He 2016b, eq. (5)")
def skip_passes_unchanged(p: Params) -> Evidence:
    x, g, weights = _start(p, depth=20)
    passed = forward(x, weights, p.norm, skip=True, branch=0.0)
    gradients = backward(g, weights, passed.gains, skip=True, branch=0.0)
    return equal((gradients - g).abs().max(), 0.0, 0.0, why="adding 0 rounds nothing", quantity="largest change")


@law("The gradients are those of automatic differentiation, plain and with skips.", source="chain rule")
def gradients_are_autograds(p: Params) -> Evidence:
    x, g, weights = _start(p, depth=8)
    worst = 0.0
    for skip in (False, True):
        passed = forward(x, weights, p.norm, skip=skip, branch=p.branch)
        h = leaf = x.clone().requires_grad_()
        for w, before in zip(weights, passed.handed, strict=False):
            mean, variance = (before.mean(0), before.var(0, correction=0)) if p.norm == "batch" else (0.0, 1.0 - EPS)
            branch = torch.relu((h - mean) / (variance + EPS) ** 0.5) @ w.T
            h = h + p.branch * branch if skip else branch
        (expected,) = torch.autograd.grad((h * g).sum(), leaf)
        ours = backward(g, weights, passed.gains, skip=skip, branch=p.branch)[0]
        worst = max(worst, float((ours - expected).norm() / expected.norm()))
    return at_most(worst, 0.0, 1e-11, why="float64 rounding of 8 layers", quantity="relative difference, the larger")


@law("Through L skips lead 2^L paths: the gradient is the sum over them.", source="Veit 2016, eq. (6)")
def gradient_is_a_sum_of_paths(p: Params) -> Evidence:
    x, g, weights = _start(p, depth=5)
    gains = forward(x, weights, p.norm, skip=True, branch=p.branch).gains
    total = torch.zeros_like(g)
    for path in itertools.product((False, True), repeat=len(weights)):
        along = g
        for w, gain, enters in zip(weights.flip(0), gains.flip(0), path, strict=True):
            along = p.branch * (along @ w) * gain if enters else along
        total += along
    ours = backward(g, weights, gains, skip=True, branch=p.branch)[0]
    return at_most(
        (ours - total).norm() / ours.norm(),
        0.0,
        1e-12,
        why="float64 rounding of at most 32 paths of 5 layers",
        quantity="relative difference of the gradient and the sum",
    )


@law(
    "A layer multiplies the squared gradient by v/2 when plain and by 1 + s²v/2 with a skip, normalization aside.",
    source="He 2015, eq. (14); mean over the weights",
)
def growth_of_a_layer(p: Params) -> Evidence:
    x, g, _ = _start(p, depth=1)
    # x and -x together, so that exactly half of the units are active.
    both, gains = torch.cat([x, -x]), activate(torch.cat([x, -x]), "none")[1]
    generator = torch.Generator().manual_seed(p.seed)
    there = g[0].expand_as(both)
    before = there.square().sum()
    worst = 0.0
    for skip, expected in ((False, p.variance / 2), (True, 1 + p.branch**2 * p.variance / 2)):
        after = torch.stack(
            [
                backward(there, w[None], gains[None], skip=skip, branch=p.branch)[0].square().sum() / before
                for w in draw_weights(200, p.variance, generator)
            ]
        )
        error = after.std() / math.sqrt(len(after))
        worst = max(worst, float((after.mean() - expected).abs() / (error + 1e-12)))
    return at_most(
        worst,
        5.0,
        why="means over 200 layers, in standard errors: right code fails at about one seed in a million",
        quantity="larger distance from the expected factor, standard errors",
    )


def _spread(skip: int, **settings: object) -> Tensor:
    """Ratio (5,) of the longest gradient to the shortest over the layers, at seeds 0 to 4."""
    lengths = torch.stack([run(Params(seed=seed).but(**settings)).length[skip] for seed in range(5)])
    return lengths.amax(-1) / lengths.amin(-1)


@finding(
    "Through 50 layers with skips and small branches (s = 0.2) the gradient keeps its length within a decade.",
    source="Balduzzi 2017, Sec. 3, for branches scaled down",
)
def skips_keep_the_length() -> Evidence:
    return at_most(
        torch.cat([_spread(SKIP, norm="none", branch=0.2, variance=v) for v in (1.0, 2.0)]).max(),
        10.0,
        why="50 layers without normalization, v of 1 and 2, seeds 0 to 4, each must show it; a decade is the claim",
        quantity="largest ratio of the longest to the shortest gradient",
    )


@finding(
    "Without skips it does not: it vanishes at v = 1, and with batch normalization it explodes.",
    source="Yang et al. 2019, arXiv:1902.08129, for the explosion",
)
def plain_does_not() -> Evidence:
    return more_than(
        torch.cat([_spread(PLAIN, norm="none", variance=1.0), _spread(PLAIN)]).min(),
        1_000.0,
        why="50 layers, seeds 0 to 4, each must show it in both settings; √2 a layer makes 3 · 10⁷, and √(π / (π − 1)) "
        "makes 10⁴",
        quantity="smallest ratio of the longest to the shortest gradient",
    )


@report(
    "With skips, branches of full scale and batch normalization the gradient stays within a decade too.", source="notes"
)
def full_branches() -> Evidence:
    return at_most(
        _spread(SKIP).max(),
        10.0,
        why="defaults, seeds 0 to 4; without skips the ratio is about 50,000 at the same weights",
        quantity="largest ratio of the longest to the shortest gradient",
    )


@finding(
    "With skips, gradients at neighboring inputs still agree after 50 layers; without, they do not.",
    source="Balduzzi 2017, Fig. 1",
)
def plain_gradients_shatter() -> Evidence:
    agreement = torch.stack([run(Params(seed=seed)).agreement[:, 0] for seed in range(5)])
    return more_than(
        (agreement[:, SKIP] - agreement[:, PLAIN].abs()).min(),
        0.3,
        why="defaults, inputs 6° apart, seeds 0 to 4, each must show it; 0 is noise, 1 full agreement",
        quantity="smallest mean cosine with skips, less that without",
    )


class Classifier(nn.Module):
    """Digits (N, 1, 8, 8) to logits (N, 10) through `depth` layers of 32 units, plain or with skips."""

    def __init__(self, depth: int, *, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        self.norms = nn.ModuleList(nn.BatchNorm1d(32) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            branch = layer(torch.relu(norm(h)))
            h = h + branch if self.skip else branch
        return self.last(h)


@cache
def _training_loss(depth: int, skip: bool, seed: int) -> float:
    """Mean loss, nats, over the last 20 of 120 updates of 64 digits each, at rate 0.02 and momentum 0.9."""
    images, labels, _, _ = digits_split()
    generator = torch.Generator().manual_seed(seed)
    network = build(lambda: Classifier(depth, skip=skip), generator)
    descent, losses = Descent(network.parameters()), []
    with one_thread():
        for batch in batches(len(images), 64, 120, generator):
            loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
            descent.step(loss, rate=0.02)
            losses.append(float(loss.detach()))
    return sum(losses[-20:]) / 20


@finding("A plain network of 30 layers trains worse than the same with skips.", source="He 2016, Fig. 4")
def skips_train_better() -> Evidence:
    return more_than(
        min(_training_loss(30, False, seed) - _training_loss(30, True, seed) for seed in range(3)),
        0.5,
        why="digits, batch normalization, 120 updates at one rate for both, seeds 0 to 2, each must show it; "
        "guessing is at 2.3 nats",
        quantity="smallest gap of the training loss, nats",
    )


@finding("A plain network of 30 layers trains worse than a plain one of 10: degradation.", source="He 2016, Fig. 1")
def depth_hurts_plain_networks() -> Evidence:
    return more_than(
        min(_training_loss(30, False, seed) - _training_loss(10, False, seed) for seed in range(3)),
        0.5,
        why="digits, batch normalization, 120 updates at one rate for both, seeds 0 to 2, each must show it; "
        "guessing is at 2.3 nats",
        quantity="smallest gap of the training loss, nats",
    )
