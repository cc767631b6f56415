r"""Mixed precision: shift the gradients into the window of a 16-bit float, keep the weights in 32 bits.

Micikevicius et al., "Mixed Precision Training", ICLR 2018, arXiv:1710.03740, Sec. 3; formats: IEEE 754 and bfloat16.

    \nabla_w (S\,\mathcal L) = S\,\nabla_w \mathcal L
    \qquad w \leftarrow w - \frac{\eta}{S}\,\mathrm{FP16}\bigl(S\,\nabla_w \mathcal L\bigr)

Symbols: $\mathcal L$ the loss, $S = 2^k$ the loss scale, $w$ the weights in FP32, $\eta$ the learning rate. The
gradients are those of a network of three hidden layers on 128 digits, computed in FP32 and then rounded: of the loss
in the weights, or in the inputs of every activation function, which backpropagation passes from layer to layer.
Gradients that are exactly 0, as behind a closed ReLU, are left out.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
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
    at_most,
    equal,
    falling,
    finding,
    law,
    less_than,
    more_than,
    report,
    style,
)
from demos.kit.data import digits_split
from demos.kit.training import Descent, batches, build, one_thread

TOPIC = "training"
BATCH, HIDDEN, RATE = 128, 64, 0.05
MOST = 40  # the largest exponent of the loss scale
ADDITIONS, EVERY = 1_000, 10
SCALES = 2.0 ** torch.arange(MOST + 1, dtype=torch.float64)
LOWEST, HIGHEST = -70, 40  # ends of the histogram, as powers of two
FATES = ("flushed to 0", "subnormal", "normal", "infinite")


@dataclass(frozen=True)
class Params(Knobs):
    scale: Annotated[int, Range(0, MOST, view=True, doc="loss scale S = 2^k: k")] = 0
    format: Annotated[str, Choice("FP16", "BF16", view=True, doc="16-bit format")] = "FP16"
    of: Annotated[str, Choice("activations", "weights", view=True, doc="gradients of")] = "activations"
    updates: Annotated[int, Range(0, 200, doc="updates before the gradients are taken")] = 100
    change: Annotated[float, Range(1e-6, 1e-2, log=True, view=True, doc="update that is added to a weight of 1")] = 1e-4
    seed: Seed = 0


PRESETS = {
    "S = 2¹⁴: most are saved": Params(scale=14),
    "S = 2²⁶: the largest overflow": Params(scale=26),
    "BF16 needs no scale": Params(format="BF16", change=1e-3),
    "A new network: nothing is lost": Params(updates=0),
}

LOOK_FOR = (
    "Turning S slides the whole histogram to the right, out of the red and into the window.",
    "One infinite gradient spoils the update, so S may rise only until the largest gradient reaches the edge.",
    "A weight of 1 in FP16 does not notice an update of 0.0001, however often it comes; in FP32 it adds up.",
)


@dataclass(frozen=True)
class Result:
    activations: Tensor  # (N,) gradients in the inputs of the activation functions, FP32, none of them 0
    weights: Tensor  # (M,) gradients in the weights, FP32, none of them 0
    loss: float  # nats


@dataclass(frozen=True)
class View:
    binades: Tensor  # (B,) powers of two
    counts: Tensor  # (4, B) scaled gradients in [2^b, 2^(b+1)), by their fate, in the order of FATES
    shares: Tensor  # (4,) share of each fate
    flushed: Tensor  # (41,) share flushed to 0 in FP16 at S = 2^0, 2^1, ...
    infinite: Tensor  # (41,) share that overflows in FP16
    safe: int  # the largest k at which no gradient overflows in the chosen format
    additions: Tensor  # (A,) number of updates added
    sums: Tensor  # (3, A) the weight after them: kept in FP16, in BF16, in FP32


@dataclass(frozen=True)
class Format:
    """A binary floating-point format as IEEE 754 has it."""

    exponent_bits: int
    mantissa_bits: int

    @property
    def lowest_exponent(self) -> int:
        """Of normal numbers; subnormal ones share it."""
        return 2 - 2 ** (self.exponent_bits - 1)

    @property
    def smallest_normal(self) -> float:
        return 2.0**self.lowest_exponent

    @property
    def smallest(self) -> float:
        """Smallest positive number, subnormal."""
        return 2.0 ** (self.lowest_exponent - self.mantissa_bits)

    @property
    def largest(self) -> float:
        return 2.0 ** (1 - self.lowest_exponent) * (2 - 2.0**-self.mantissa_bits)

    @property
    def overflow(self) -> float:
        """From here on a number rounds to infinity: half a step beyond the largest."""
        return 2.0 ** (1 - self.lowest_exponent) * (2 - 2.0 ** -(self.mantissa_bits + 1))


FORMATS = {"FP16": Format(5, 10), "BF16": Format(8, 7)}
DTYPES = {"FP16": torch.float16, "BF16": torch.bfloat16, "FP32": torch.float32}


def round_to(x: Tensor, kind: Format) -> Tensor:
    """Numbers of any shape rounded to a format, ties to even, as float64; too large ones become infinite."""
    x = x.double()
    exponent = (torch.frexp(x).exponent - 1).clamp(min=kind.lowest_exponent)
    step = torch.ldexp(torch.ones_like(x), exponent - kind.mantissa_bits)
    rounded = (x / step).round() * step
    return torch.where(rounded.abs() > kind.largest, x.sign() * math.inf, rounded)


def share_flushed(x: Tensor, kind: Format, scales: Tensor) -> Tensor:
    """Share (K,) of numbers (N,) that round to 0 when scaled (K,): up to half the smallest one, the tie included."""
    ordered = x.abs().double().sort().values
    return torch.searchsorted(ordered, kind.smallest / 2 / scales, right=True).double() / len(x)


def share_infinite(x: Tensor, kind: Format, scales: Tensor) -> Tensor:
    """Share (K,) of numbers (N,) that round to infinity when scaled (K,)."""
    ordered = x.abs().double().sort().values
    return 1 - torch.searchsorted(ordered, kind.overflow / scales).double() / len(x)


def accumulate(update: float, count: int, dtype: torch.dtype) -> Tensor:
    """A weight of 1 (count + 1,), float64, to which an update is added again and again in the given format."""
    weight, update = torch.ones((), dtype=dtype), torch.tensor(update, dtype=dtype)
    course = [weight]
    for _ in range(count):
        course.append(course[-1] + update)
    return torch.stack(course).double()


def network(generator: torch.Generator) -> nn.ModuleList:
    """The linear layers of a classifier of digits; ReLU goes between them."""
    sizes = (64, HIDDEN, HIDDEN, HIDDEN, 10)
    return build(lambda: nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)), generator)


def forward(layers: nn.ModuleList, images: Tensor) -> list[Tensor]:
    """What every layer gives for images (N, 64), before its ReLU; the logits (N, 10) are last."""
    outputs = [layers[0](images)]
    for layer in layers[1:]:
        outputs.append(layer(outputs[-1].relu()))
    return outputs


def gradients(
    layers: nn.ModuleList, images: Tensor, labels: Tensor, scale: float = 1.0
) -> tuple[Tensor, Tensor, float]:
    """Gradients of the scaled loss in all activations (N,) and all weights (M,), and the loss, unscaled, in nats."""
    outputs, weights = forward(layers, images), list(layers.parameters())
    loss = nn.functional.cross_entropy(outputs[-1], labels)
    found = [gradient.flatten() for gradient in torch.autograd.grad(scale * loss, outputs + weights)]
    return torch.cat(found[: len(outputs)]), torch.cat(found[len(outputs) :]), loss.item()


def trained(updates: int, generator: torch.Generator) -> nn.ModuleList:
    """The network after some updates of gradient descent with momentum, in FP32."""
    images, labels, _, _ = digits_split()
    images, layers = images.flatten(1), network(generator)
    descent = Descent(layers.parameters())
    for chosen in batches(len(images), BATCH, updates, generator):
        descent.step(nn.functional.cross_entropy(forward(layers, images[chosen])[-1], labels[chosen]), RATE)
    return layers


def run(p: Params) -> Result:
    return _result(p.updates, p.seed)


@lru_cache(maxsize=8)
def _result(updates: int, seed: int) -> Result:
    images, labels, _, _ = digits_split()
    with one_thread():
        layers = trained(updates, torch.Generator().manual_seed(seed))
        activations, weights, loss = gradients(layers, images[:BATCH].flatten(1), labels[:BATCH])
    return Result(activations[activations != 0], weights[weights != 0], loss)


def _chosen(p: Params, r: Result) -> Tensor:
    return r.activations if p.of == "activations" else r.weights


def examine(p: Params, r: Result) -> View:
    plain, kind = _chosen(p, r).double(), FORMATS[p.format]
    scaled = (plain * 2.0**p.scale).abs()
    bounds = (scaled > kind.smallest / 2, scaled >= kind.smallest_normal, scaled >= kind.overflow)
    fate = torch.stack(bounds).sum(0)
    binade = (torch.frexp(scaled).exponent - 1).clamp(LOWEST, HIGHEST) - LOWEST
    width = HIGHEST - LOWEST + 1
    counts = torch.bincount(fate * width + binade, minlength=4 * width).reshape(4, width)
    sums = [accumulate(p.change, ADDITIONS, dtype)[::EVERY] for dtype in DTYPES.values()]
    return View(
        binades=torch.arange(LOWEST, HIGHEST + 1),
        counts=counts,
        shares=counts.sum(1) / counts.sum(),
        flushed=share_flushed(plain, FORMATS["FP16"], SCALES),
        infinite=share_infinite(plain, FORMATS["FP16"], SCALES),
        safe=math.ceil(math.log2(kind.overflow / float(plain.abs().max()))) - 1,
        additions=torch.arange(0, ADDITIONS + 1, EVERY),
        sums=torch.stack(sums),
    )


def readings(p: Params, r: View) -> dict[str, str | float]:
    return {
        "Flushed to 0": f"{r.shares[0]:.2%}",
        "Subnormal": f"{r.shares[1]:.2%}",
        "Infinite": f"{r.shares[3]:.2%}",
        "Largest S without overflow": f"2^{r.safe}",
        f"1 + {ADDITIONS:,} updates, in {p.format}": float(r.sums[list(DTYPES).index(p.format), -1]),
    }


def figure(p: Params, r: View) -> dict[str, go.Figure]:
    return {
        f"Gradients times S = 2^{p.scale} and the window of {p.format}: left of it all becomes 0.": _window(p, r),
        "What FP16 loses at either end: the best S is the last before the dashed line begins.": _losses(p, r),
        f"A weight of 1 and the update {p.change:.2g}, again and again: why it is kept in FP32.": _sums(p, r),
    }


def _window(p: Params, r: View) -> go.Figure:
    fig = style.figure(x="scaled gradient, as a power of two", y="gradients")
    looks = ((style.RED, "x"), (style.ORANGE, "/"), (style.BLUE, ""), (style.PURPLE, "\\"))
    for name, counts, (color, shape) in zip(FATES, r.counts, looks, strict=True):
        marker = {"color": color, "pattern": {"shape": shape}}
        fig.add_bar(x=(r.binades + 0.5).numpy(), y=counts.numpy(), name=name, marker=marker)
    kind = FORMATS[p.format]
    for at, name in ((kind.smallest / 2, "½ smallest"), (kind.overflow, "largest")):
        exponent = math.log2(at)
        if LOWEST <= exponent <= HIGHEST:
            style.here(fig, exponent, name)
    fig.update_layout(barmode="stack", bargap=0.1, legend={"traceorder": "normal"})
    fig.update_xaxes(range=[LOWEST, HIGHEST + 1], tickvals=list(range(LOWEST + 10, HIGHEST + 1, 20)))
    return fig


def _losses(p: Params, r: View) -> go.Figure:
    fig = style.figure(x="k of the loss scale S = 2^k", y="share of the gradients (log)", height=300, log_y=True)
    lines = (("flushed to 0", r.flushed, style.RED, "solid"), ("infinite", r.infinite, style.PURPLE, "dash"))
    for name, shares, color, dash in lines:
        line = {"color": color, "dash": dash}
        fig.add_scatter(x=SCALES.log2().numpy(), y=shares.numpy(), name=name, mode="lines", line=line)
    style.here(fig, p.scale, "S")
    fig.update_xaxes(range=[0, MOST])
    fig.update_yaxes(range=[-4.5, 0], tickformat="~%")
    return fig


def _sums(p: Params, r: View) -> go.Figure:
    fig = style.figure(x="updates added", y="weight", height=300)
    looks = zip(("FP16", "BF16", "FP32 master"), r.sums, (style.BLUE, style.ORANGE, style.GREEN), strict=True)
    for (name, weight, color), dash in zip(looks, ("solid", "dash", "dot"), strict=True):
        line = {"color": color, "dash": dash, "width": 2.5}
        fig.add_scatter(x=r.additions.numpy(), y=weight.numpy(), name=name, mode="lines", line=line)
    return fig


def _all_gradients(p: Params) -> Tensor:
    """All gradients (N + M,), FP32, times S."""
    r = run(p)
    return torch.cat([r.activations, r.weights]) * 2.0**p.scale


@law("FP16's smallest positive number is 2⁻²⁴, its largest 65,504.", source="IEEE 754; Sec. 3.2")
def ends_of_fp16(p: Params) -> Evidence:
    every = torch.arange(2**15, dtype=torch.int32).to(torch.int16).view(torch.float16).double()
    numbers = every[(every > 0) & every.isfinite()]
    ours = FORMATS["FP16"]
    return at_most(
        max(abs(ours.smallest / float(numbers.min()) - 1), abs(ours.largest / float(numbers.max()) - 1)),
        0.0,
        0.0,
        why="exact: the formula against the smallest and the largest of all 31,743 positive numbers",
        quantity="largest relative difference",
    )


@law("The rounding and both shares agree with torch's casts to FP16 and BF16, bit for bit.", source="IEEE 754")
def rounding_agrees_with_torch(p: Params) -> Evidence:
    x = _all_gradients(p)
    one = torch.ones(1, dtype=torch.float64)
    wrong = 0.0
    for name, kind in FORMATS.items():
        cast = x.to(DTYPES[name]).double()
        wrong += float((round_to(x, kind) != cast).sum())
        wrong += abs(float(share_flushed(x, kind, one) * len(x)) - float((cast == 0).sum()))
        wrong += abs(float(share_infinite(x, kind, one) * len(x)) - float(cast.isinf().sum()))
    return at_most(wrong, 0.0, 0.1, why="a count; the shares are rounded", quantity="numbers that differ")


@law("Scaling the loss scales every gradient alike: the chain rule.", source="Sec. 3.2")
def scaled_loss_scales_the_gradients(p: Params) -> Evidence:
    images, labels, _, _ = digits_split()
    with one_thread():
        layers = network(torch.Generator().manual_seed(p.seed))
        batch = (images[:BATCH].flatten(1), labels[:BATCH])
        plain, scaled = (torch.cat(gradients(layers, *batch, scale=s)[:2]) for s in (1.0, 2.0**p.scale))
    return at_most(
        (scaled / 2.0**p.scale - plain).abs().max(),
        0.0,
        0.0,
        why="exact: a power of two moves only exponents, and none leaves the range of FP32",
        quantity="largest difference after dividing by S, in FP32",
    )


@law("Multiplying by a power of two and dividing by it again is exact in FP32.", source="Sec. 3.2")
def unscaling_is_exact(p: Params) -> Evidence:
    plain = _chosen(p, run(p))
    return at_most(
        (plain * 2.0**p.scale / 2.0**p.scale != plain).sum(),
        0.0,
        0.0,
        why="a count; only exponents change, as nothing underflows or overflows here",
        quantity="gradients that come back changed",
    )


@law(
    "A gradient in the normal range of the format keeps its leading digits: its error is half a mantissa step.",
    source="Sec. 3.2",
)
def normal_gradients_stay_accurate(p: Params) -> Evidence:
    scaled, kind = _all_gradients(p).double(), FORMATS[p.format]
    normal = scaled[(scaled.abs() >= kind.smallest_normal) & (scaled.abs() < kind.overflow)]
    error = (round_to(normal, kind) / normal - 1).abs()
    return at_most(
        error.max() if len(error) else 0.0,
        2.0 ** -(kind.mantissa_bits + 1),
        why="exact: half a step of the mantissa, 2⁻¹¹ in FP16, 2⁻⁸ in BF16",
        quantity="largest relative error of rounding",
    )


@law("The larger the loss scale, the fewer gradients are flushed to zero.", source="Sec. 3.2, Fig. 3")
def flushed_share_falls(p: Params) -> Evidence:
    shares = share_flushed(_chosen(p, run(p)), FORMATS[p.format], SCALES)
    return falling(shares, why="exact: what is not flushed at S is not flushed at 2 S")


@law("The larger the loss scale, the more gradients overflow, in the end all of them.", source="Sec. 3.2")
def infinite_share_rises(p: Params) -> Evidence:
    gradient, kind = _chosen(p, run(p)), FORMATS["FP16"]
    beyond = 2 * kind.largest / float(gradient.abs().min())
    shares = share_infinite(gradient, kind, torch.cat([SCALES, torch.tensor([beyond], dtype=torch.float64)]))
    return at_most(
        max(-float(shares.diff().min()), 0.0) + float(1 - shares[-1]),
        0.0,
        why="exact: what overflows at S overflows at 2 S, and in the end all do",
        quantity="largest fall of the share that overflows in FP16, plus what does not overflow in the end",
    )


@law(
    "A weight of 1 in FP16 moves only by updates of more than 2⁻¹¹; smaller ones are lost every time.",
    source="Sec. 3.1",
)
def small_updates_are_lost(p: Params) -> Evidence:
    moved = accumulate(p.change, ADDITIONS, torch.float16)[-1] > 1
    return equal(
        moved,
        torch.tensor(p.change).half() > 2.0**-11,
        0.0,
        why="a yes or no; half a step at 1 is 2⁻¹¹, and a tie goes to the even mantissa of 1",
        quantity=f"whether {ADDITIONS:,} updates move the weight",
    )


@law("In an FP32 master copy they add up.", source="Sec. 3.1")
def master_weights_add_up(p: Params) -> Evidence:
    final, expected = accumulate(p.change, ADDITIONS, torch.float32)[-1], 1 + ADDITIONS * p.change
    return equal(
        final,
        expected,
        ADDITIONS * 2.0**-24 * expected,
        why="each of the additions rounds by half a step at most, 2⁻²⁴ of the weight",
        quantity=f"weight after {ADDITIONS:,} updates",
    )


def _flushed(name: str, of: str) -> Tensor:
    """Share (5, 41) of the gradients flushed to zero at the defaults, seeds 0 to 4, at every scale."""
    results = [run(Params(seed=seed)) for seed in range(5)]
    return torch.stack([share_flushed(getattr(r, of), FORMATS[name], SCALES) for r in results])


@finding("Without a loss scale FP16 loses part of the activations' gradients.", source="Sec. 3.2, Fig. 3")
def fp16_loses_gradients() -> Evidence:
    return more_than(
        _flushed("FP16", "activations")[:, 0].min(),
        0.0,
        0.05,
        why="defaults, seeds 0 to 4, each must lose more than a twentieth",
        quantity="smallest share flushed to zero over 5 seeds",
    )


@finding("BF16 loses none of them: it has the range of FP32.", source="bfloat16 has the exponent bits of FP32")
def bf16_loses_none() -> Evidence:
    worst = max(_flushed("BF16", of)[:, 0].max() for of in ("activations", "weights"))
    return at_most(
        worst, 0.0, why="a share of a count; defaults, seeds 0 to 4", quantity="largest share flushed to zero"
    )


@finding("The largest scale without overflow saves nearly all that FP16 would lose.", source="Sec. 3.2")
def the_right_scale_saves_nearly_all() -> Evidence:
    left = []
    for seed in range(5):
        p = Params(seed=seed)
        view = examine(p, run(p))
        left.append(float(view.flushed[min(view.safe, MOST)] / view.flushed[0]))
    return less_than(
        max(left), 0.05, why="defaults, seeds 0 to 4, each must save 19 in 20", quantity="largest share still lost"
    )


@report("About 5 % of the weight gradients vanish in FP16 without a loss scale.", source="Fig. 2b, a speech model")
def weight_gradients_that_vanish() -> Evidence:
    return equal(
        _flushed("FP16", "weights")[:, 0].mean(),
        0.05,
        0.02,
        why="the paper's figure is for another network and task; mean over seeds 0 to 4",
        quantity="mean share flushed to zero",
    )
