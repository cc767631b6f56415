r"""Normalization invariances: what each method does not see, as a table that is measured.

Ba, Kiros and Hinton, "Layer Normalization", 2016, arXiv:1607.06450, Table 1 and Sec. 5; Ioffe and Szegedy 2015,
arXiv:1502.03167, Sec. 3.3; Salimans and Kingma, "Weight Normalization", 2016, arXiv:1602.07868, Sec. 2; Luo et al.,
"Cosine Normalization", 2018, arXiv:1702.05870; Wu and He 2018, arXiv:1803.08494; Liao et al. 2016, arXiv:1610.06160.

    z_{ik} = w_k \cdot x_i
    \qquad y = \frac{z - \mu}{\sigma}
    \qquad y_{ik} = \frac{w_k}{\lVert w_k\rVert} \cdot x_i
    \qquad y_{ik} = \frac{w_k \cdot x_i}{\lVert w_k\rVert\,\lVert x_i\rVert}

Symbols: $x_i$ a sample, $w_k$ the weights of a unit; $\mu$ and $\sigma$ over the batch for each unit (batch norm), over
units for each sample (layer norm), over groups of units (group norm), fixed from earlier data (batch norm at
inference), or a blend of earlier and present ones (streaming); then weight norm and cosine norm, which take no
statistics. No $\epsilon$, gain or bias. A change is RMS(after − before) / RMS(before).
"""

from dataclasses import dataclass
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import Choice, Evidence, Knobs, Range, Seed, at_most, equal, law, more_than, style

TOPIC = "normalization"
METHODS = ("none", "batch", "batch, inference", "streaming", "layer", "group", "weight", "cosine")
CHANGES = {
    "all weights × a": "W·a",
    "each weight vector × its own": "wₖ·aₖ",
    "weights re-centered": "W+v",
    "all data × a": "X·a",
    "all data shifted": "X+b",
    "each sample × its own": "xᵢ·aᵢ",
    "other companions": "peers",
    "a batch of one": "N=1",
}
INPUTS, UNITS, GROUPS = 10, 12, 3
TINY = 1e-12  # a deviation below it counts as this
UNSEEN = 1e-9  # a change below it is rounding
STEPS = 40
REACH = 3.1  # half the width of the plane of weights


@dataclass(frozen=True)
class Params(Knobs):
    method: Annotated[str, Choice(*METHODS, doc="normalization, for the pictures below the table")] = "batch"
    change: Annotated[str, Choice(*CHANGES, view=True, doc="change, for the picture of outputs")] = "all data × a"
    scale: Annotated[float, Range(1.5, 100, log=True, doc="factor a; own factors lie between 1/a and a")] = 3.0
    shift: Annotated[float, Range(0.5, 10, log=True, doc="length of the shifts b and v")] = 2.0
    batch: Annotated[int, Range(4, 128, log=True, doc="samples in the batch")] = 32
    history: Annotated[float, Range(0, 1, step=0.05, doc="share of earlier statistics in the streaming blend, α₁")] = (
        0.5
    )
    rate: Annotated[float, Range(0.1, 10, log=True, doc="learning rate η on the plane of weights")] = 0.2
    seed: Seed = 0


PRESETS = {
    "Batch norm: blind to the data's scale": Params(),
    "The same at inference: sees everything": Params(method="batch, inference"),
    "Layer norm sees a single unit's scale": Params(method="layer", change="each weight vector × its own"),
    "Without: the scale of weights matters": Params(method="none", change="all weights × a"),
}

LOOK_FOR = (
    "Each “=” is an invariance. Batch norm gives up its four at inference and is rid of its companions instead.",
    "On the diagonal of the second picture outputs are unchanged; a fan of lines is a factor for each unit or sample.",
    "Where the scale of weights is unseen, the loss is the same along each ray, and descent can only drift outward.",
)


@dataclass(frozen=True)
class Result:
    table: Tensor  # (M, C) change of the outputs, by METHODS and CHANGES
    before: tuple[Tensor, ...]  # outputs of the chosen method by CHANGES, (N, K) each; (1, K) for the last two
    after: tuple[Tensor, ...]  # the same, changed
    orthogonality: float  # cosine of the angle between the chosen method's gradient and its weights
    axis: Tensor  # (G,) coordinates on the plane of weights
    loss: Tensor  # (G, G) loss there, second coordinate down
    path: Tensor  # (S, 2) gradient descent on the plane


@dataclass(frozen=True)
class Layer:
    """A linear layer followed by a normalization; `history` is what streaming and inference remember.

    Attributes:
        method: one of METHODS.
        history: mean and deviation (2, K) of each unit on earlier data.
        share: the earlier data's part in the blend of streaming.
    """

    method: str
    history: Tensor
    share: float = 0.5

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """Outputs (..., N, K) of samples (N, D) for weights (..., K, D)."""
        if self.method == "weight":
            return x @ directions(weight).mT
        if self.method == "cosine":
            return directions(x) @ directions(weight).mT
        z = x @ weight.mT
        if self.method == "none":
            return z
        if self.method == "layer":
            return standardize(z, *statistics(z, -1))
        if self.method == "group":
            grouped = z.unflatten(-1, (GROUPS, -1))
            return standardize(grouped, *statistics(grouped, -1)).flatten(-2)
        past = {"batch": 0.0, "streaming": self.share, "batch, inference": 1.0}[self.method]
        mean, deviation = statistics(z, -2)
        return standardize(
            z, past * self.history[0] + (1 - past) * mean, past * self.history[1] + (1 - past) * deviation
        )


def statistics(z: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and biased standard deviation over an axis, which is kept."""
    mean = z.mean(axis, keepdim=True)
    return mean, (z - mean).square().mean(axis, keepdim=True).clamp(min=TINY**2).sqrt()


def standardize(z: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """(z - mean) / deviation, broadcast."""
    return (z - mean) / deviation


def directions(vectors: Tensor) -> Tensor:
    """Vectors (..., D) scaled to length 1."""
    return vectors / vectors.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Setting:
    """Data, weights, and all that the changes put in their place: drawn once, the same for every method."""

    x: Tensor  # (N, D)
    weight: Tensor  # (K, D)
    history: Tensor  # (2, K) mean and deviation of each unit on earlier data
    target: Tensor  # (N, K) what outputs are multiplied with to make a loss
    second: Tensor  # (K, D) the other axis of the plane of weights
    changed: dict[str, tuple[Tensor, Tensor]]  # change -> data and weights after it


def setting(p: Params) -> Setting:
    """Gaussian data off center and Gaussian weights, float64."""
    generator = torch.Generator().manual_seed(p.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    weight, second = normal(UNITS, INPUTS), normal(UNITS, INPUTS)
    b, v = p.shift * directions(normal(2, INPUTS))
    target, earlier = normal(128, UNITS), normal(256, INPUTS)
    unit_powers, sample_powers = 2 * torch.rand(2, 128, dtype=torch.float64, generator=generator) - 1
    x, others = 0.5 + normal(2, p.batch, INPUTS)
    x_first, others = x[:1], others[1:]
    own_weights = weight * p.scale ** unit_powers[:UNITS, None]
    own_samples = x * p.scale ** sample_powers[: p.batch, None]
    changed = (
        (x, p.scale * weight),
        (x, own_weights),
        (x, weight + v),
        (p.scale * x, weight),
        (x + b, weight),
        (own_samples, weight),
        (torch.cat([x_first, others]), weight),
        (x_first, weight),
    )
    return Setting(
        x=x,
        weight=weight,
        history=torch.cat(statistics((0.5 + earlier) @ weight.mT, -2)),
        target=target[: p.batch],
        second=second,
        changed=dict(zip(CHANGES, changed, strict=True)),
    )


def layer(p: Params, s: Setting, method: str) -> Layer:
    return Layer(method, s.history, p.history)


def before_and_after(s: Setting, of: Layer, change: str) -> tuple[Tensor, Tensor]:
    """Outputs before and after a change: (N, K), or (1, K) of the first sample where its companions change."""
    before, after = of(s.x, s.weight), of(*s.changed[change])
    return (before[:1], after[:1]) if change in ("other companions", "a batch of one") else (before, after)


def relative_change(before: Tensor, after: Tensor) -> float:
    """RMS(after - before) / RMS(before)."""
    return float((after - before).norm() / before.norm())


def gradient(s: Setting, of: Layer, weight: Tensor) -> Tensor:
    """Gradient (K, D) in the weights (K, D) of the mean of outputs times targets."""
    leaf = weight.clone().requires_grad_()
    return torch.autograd.grad((s.target * of(s.x, leaf)).sum(-1).mean(), leaf)[0]


def alignment(weight: Tensor, slope: Tensor) -> Tensor:
    """Cosine (...) of the angle between weights and their gradient, vectors (..., D); 0 is orthogonal."""
    return (weight * slope).sum(-1) / (weight.norm(dim=-1) * slope.norm(dim=-1))


def run(p: Params) -> Result:
    s = setting(p)
    layers = [layer(p, s, method) for method in METHODS]
    pairs = [[before_and_after(s, of, change) for change in CHANGES] for of in layers]
    chosen = METHODS.index(p.method)
    before, after = zip(*pairs[chosen], strict=True)
    axis, loss, path = descent(s, layers[chosen], p.rate)
    return Result(
        table=torch.tensor([[relative_change(*pair) for pair in row] for row in pairs], dtype=torch.float64),
        before=before,
        after=after,
        orthogonality=float(alignment(s.weight.flatten(), gradient(s, layers[chosen], s.weight).flatten())),
        axis=axis,
        loss=loss,
        path=path,
    )


def descent(s: Setting, of: Layer, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss on the plane that two weight matrices span, and a descent there: axis (G,), loss (G, G), path (S, 2).

    The loss is the squared distance of the outputs to those of the second matrix, over their own mean square.
    """
    plane = torch.stack([s.weight, s.second])
    goal = of(s.x, s.second)

    def loss(at: Tensor) -> Tensor:
        outputs = of(s.x, (at @ plane.flatten(1)).unflatten(-1, plane.shape[1:]))
        return (outputs - goal).square().mean((-2, -1)) / goal.square().mean()

    axis = torch.linspace(-REACH, REACH, 32, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    at, path = torch.tensor([1.0, -0.4], dtype=torch.float64), []
    for _ in range(STEPS):
        path.append(at)
        leaf = at.clone().requires_grad_()
        at = at - rate * torch.autograd.grad(loss(leaf), leaf)[0]
        if at.norm() > 10 * REACH:
            break
    return axis, loss(grid), torch.stack(path)


def readings(p: Params, r: Result) -> dict[str, str | float]:
    first, last = r.path[0].norm(), r.path[-1].norm()
    return {
        "Invariances of the eight": int((r.table[METHODS.index(p.method)] < UNSEEN).sum()),
        "Change of the outputs": round(float(r.table[METHODS.index(p.method), list(CHANGES).index(p.change)]), 9),
        "|Cosine| of gradient and weights": round(abs(r.orthogonality), 12),
        "Weights grew by the factor": float(last / first),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "Change of the outputs, “=” for none. W: weights, X: data, index: own factors, peers: new companions.": _table(
            p, r
        ),
        f"The framed entry, {p.method} and {p.change}: on the diagonal outputs are unchanged.": _outputs(p, r),
        f"{p.method}: the loss (bright is low) on a plane of weights, and descent from the diamond.": _plane(r),
    }


def _table(p: Params, r: Result) -> go.Figure:
    fig = style.figure(height=390)
    unseen = r.table < UNSEEN
    fig.add_heatmap(
        z=torch.where(unseen, -2.0, r.table.clamp(min=1e-12).log10().clamp(-1.0, 1.5)).numpy(),
        text=[
            ["=" if change < UNSEEN else f"{change:.{2 if change < 9.995 else 0}f}" for change in row]
            for row in r.table.tolist()
        ],
        texttemplate="%{text}",
        textfont={"color": style.INK, "size": 11},
        colorscale=[[0, "#f4f1ea"], [0.25, "#f3dcc4"], [1, style.ORANGE]],
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    row, column = METHODS.index(p.method), list(CHANGES).index(p.change)
    frame = {"color": style.RED, "width": 2.5}
    fig.add_shape(type="rect", x0=column - 0.5, x1=column + 0.5, y0=row - 0.5, y1=row + 0.5, line=frame)
    fig.update_xaxes(tickvals=list(range(len(CHANGES))), ticktext=list(CHANGES.values()), side="top", showgrid=False)
    fig.update_xaxes(tickangle=0, tickfont={"size": 11})
    names = [method.replace(", ", ",<br>") for method in METHODS]
    fig.update_yaxes(tickvals=list(range(len(METHODS))), ticktext=names, autorange="reversed", showgrid=False)
    fig.update_layout(margin={"l": 72, "r": 8, "t": 36, "b": 8})
    return fig


def _outputs(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="output before", y="output after")
    index = list(CHANGES).index(p.change)
    before, after = r.before[index][:100], r.after[index][:100]
    reach = [float(before.min()), float(before.max())]
    fig.add_scatter(
        x=reach, y=reach, mode="lines", name="unchanged", line={"color": style.GRAY, "dash": "dot", "width": 1.5}
    )
    marker = {"color": style.BLUE, "size": 6, "opacity": 0.55}
    fig.add_scatter(
        x=before.flatten().numpy(), y=after.flatten().numpy(), mode="markers", name="an output", marker=marker
    )
    return fig


def _plane(r: Result) -> go.Figure:
    fig = style.figure(x="share of the first weights", y="share of the second weights", height=420)
    most = float(r.loss.quantile(0.9))
    fig.add_contour(
        x=r.axis.numpy(),
        y=r.axis.numpy(),
        z=r.loss.clamp(max=most).numpy(),
        colorscale=style.SEQUENTIAL,
        reversescale=True,
        ncontours=14,
        line={"width": 0.5},
        colorbar={"orientation": "h", "thickness": 10, "len": 0.6, "y": 1.02, "yanchor": "bottom"},
        hovertemplate="loss %{z:.2f}<extra></extra>",
    )
    x, y = r.path.T.numpy()
    ink = {"color": style.RED, "width": 2}
    marker = {"color": style.RED, "size": 5, "line": {"color": style.PAPER, "width": 1}}
    fig.add_scatter(x=x, y=y, mode="lines+markers", line=ink, marker=marker, hoverinfo="skip", showlegend=False)
    start = {**marker, "symbol": "diamond", "size": 12}
    fig.add_scatter(x=x[:1], y=y[:1], mode="markers", marker=start, hoverinfo="skip", showlegend=False)
    ticks = {"range": [-REACH, REACH], "constrain": "domain", "tickvals": [-3, -2, -1, 0, 1, 2, 3], "showgrid": False}
    fig.update_xaxes(**ticks)
    fig.update_yaxes(**ticks, scaleanchor="x")
    fig.update_layout(margin={"t": 70})
    return fig


def _largest_change(p: Params, method: str, *changes: str) -> float:
    s = setting(p)
    of = layer(p, s, method)
    return max(relative_change(*before_and_after(s, of, change)) for change in changes)


def _unseen(worst: float, *, quantity: str) -> Evidence:
    return at_most(worst, 0.0, 1e-10, why="float64 rounding, after shifts of up to 10 deviations", quantity=quantity)


@law(
    "In training batch norm sees neither scale nor shift of the data, nor the scale of any weight vector.",
    source="Ba et al. 2016, Table 1",
)
def batch_norm_does_not_see(p: Params) -> Evidence:
    changes = ("all weights × a", "each weight vector × its own", "all data × a", "all data shifted")
    return _unseen(_largest_change(p, "batch", *changes), quantity="largest change of the outputs over the four")


@law("At inference, with its constants fixed, batch norm sees all four of them.", source="Ioffe and Szegedy, Sec. 3.1")
def inference_sees_everything(p: Params) -> Evidence:
    changes = ("all weights × a", "each weight vector × its own", "all data × a", "all data shifted")
    return more_than(
        min(_largest_change(p, "batch, inference", change) for change in changes),
        0.01,
        why="one percent is far above rounding; factors of 1.5 and shifts of 0.5 make more of a change",
        quantity="smallest change of the outputs over the four",
    )


@law("Alone in its batch a sample gives batch norm the output 0, whatever it is.", source="definition")
def batch_of_one_is_zero(p: Params) -> Evidence:
    s = setting(p)
    alone = torch.stack([layer(p, s, "batch")(x[None], s.weight) for x in s.x])
    return at_most(alone.abs().max(), 0.0, why="exact: a value less itself", quantity="largest output")


@law(
    "Layer and group norm see neither the scale of data, of single samples or of all weights, nor a vector added to "
    "all weight vectors.",
    source="Ba et al. 2016, Table 1",
)
def layer_norm_does_not_see(p: Params) -> Evidence:
    changes = ("all weights × a", "weights re-centered", "all data × a", "each sample × its own")
    return _unseen(
        max(_largest_change(p, method, *changes) for method in ("layer", "group")),
        quantity="largest change of the outputs over the four, of both",
    )


@law("Weight norm does not see the scale of a weight vector.", source="Salimans and Kingma, Sec. 2")
def weight_norm_does_not_see(p: Params) -> Evidence:
    changes = ("all weights × a", "each weight vector × its own")
    return _unseen(_largest_change(p, "weight", *changes), quantity="largest change of the outputs over the two")


@law("Weight norm sees the scale of the data in full: twice the input, twice the output.", source="Ba et al., Table 1")
def weight_norm_sees_the_scale_of_data(p: Params) -> Evidence:
    return equal(
        _largest_change(p, "weight", "all data × a"),
        p.scale - 1,
        1e-12 * p.scale,
        why="float64 rounding; outputs a times as large differ by a − 1 times",
        quantity="change of the outputs; the reference is a − 1",
    )


@law("Cosine norm sees neither the scale of any sample nor of any weight vector.", source="Luo et al. 2018")
def cosine_norm_does_not_see(p: Params) -> Evidence:
    changes = ("all weights × a", "each weight vector × its own", "all data × a", "each sample × its own")
    return _unseen(_largest_change(p, "cosine", *changes), quantity="largest change of the outputs over the four")


@law(
    "Companions in the batch do not matter to layer, group, weight and cosine norm, nor to batch norm at inference.",
    source="definition",
)
def companions_do_not_matter(p: Params) -> Evidence:
    alone = ("layer", "group", "weight", "cosine", "batch, inference")
    return _unseen(
        max(_largest_change(p, method, "other companions", "a batch of one") for method in alone),
        quantity="largest change of the first sample's outputs, over the five",
    )


@law(
    "Streaming without memory (α₁ = 0) is batch norm; with memory alone (α₁ = 1) it is batch norm at inference.",
    source="Liao et al. 2016",
)
def streaming_spans_both(p: Params) -> Evidence:
    s = setting(p)
    z, (mean, deviation) = s.x @ s.weight.T, s.history
    training = torch.nn.functional.batch_norm(z, None, None, training=True, eps=1e-14)
    inference = torch.nn.functional.batch_norm(z, mean, deviation.square(), eps=1e-14)
    streamed = (Layer("streaming", s.history, share)(s.x, s.weight) for share in (0.0, 1.0))
    return at_most(
        max(float((ours - theirs).abs().max()) for ours, theirs in zip(streamed, (training, inference), strict=True)),
        0.0,
        1e-10,
        why="float64 rounding, and torch's ε of 1e-14 under variances that may be small in a batch of four",
        quantity="largest difference to torch's batch norm, training and inference",
    )


@law(
    "Every other entry of the table is a real change: the data's shift for layer norm, a unit's scale for layer norm, "
    "and so on.",
    source="Ba et al. 2016, Table 1",
)
def the_rest_is_seen(p: Params) -> Evidence:
    seen = {
        "batch": ("weights re-centered", "each sample × its own", "other companions"),
        "layer": ("each weight vector × its own", "all data shifted"),
        "group": ("each weight vector × its own", "all data shifted"),
        "weight": ("weights re-centered", "all data × a", "all data shifted", "each sample × its own"),
        "cosine": ("weights re-centered", "all data shifted"),
    }
    return more_than(
        min(_largest_change(p, method, change) for method, changes in seen.items() for change in changes),
        0.001,
        why="a thousandth is far above rounding; even factors near 1.5 and shifts of 0.5 make more of a change",
        quantity="smallest change of the outputs over the thirteen entries",
    )


@law(
    "Under batch, weight and cosine norm the gradient is orthogonal to each weight vector.",
    source="Salimans and Kingma, Sec. 2.1",
)
def gradient_is_orthogonal_to_each_vector(p: Params) -> Evidence:
    s = setting(p)
    angles = [alignment(s.weight, gradient(s, layer(p, s, m), s.weight)) for m in ("batch", "weight", "cosine")]
    return at_most(
        torch.stack(angles).abs().max(),
        0.0,
        1e-10,
        why="float64 rounding, over gradients that cancel to a small length in small batches",
        quantity="largest |cosine| of gradient and weight vector",
    )


@law(
    "Under layer and group norm it is orthogonal to the matrix of weights, not to each vector.",
    source="Ba et al. 2016, Sec. 5; the second half derived here",
)
def gradient_is_orthogonal_to_the_matrix(p: Params) -> Evidence:
    s = setting(p)
    slopes = [gradient(s, layer(p, s, method), s.weight) for method in ("layer", "group")]
    matrix = max(float(alignment(s.weight.flatten(), slope.flatten()).abs()) for slope in slopes)
    vector = min(float(alignment(s.weight, slope).abs().max()) for slope in slopes)
    return at_most(
        matrix / vector,
        0.0,
        1e-8,
        why="rounding over a cosine that is far from zero",
        quantity="|cosine| of gradient and matrix, over the largest of gradient and weight vector",
    )


@law(
    "With a times the weights the gradient is 1/a of what it was: updates fall as weights grow.",
    source="Ioffe and Szegedy, Sec. 3.3",
)
def gradient_falls_with_the_scale(p: Params) -> Evidence:
    s, worst = setting(p), 0.0
    for method in ("batch", "layer", "group", "weight", "cosine"):
        small, large = (gradient(s, layer(p, s, method), a * s.weight) for a in (1.0, p.scale))
        worst = max(worst, relative_change(small, p.scale * large))
    return at_most(
        worst,
        0.0,
        1e-10,
        why="float64 rounding, over gradients that cancel to a small length in small batches",
        quantity="largest relative difference of a · gradient at aW to that at W, over five methods",
    )


@law("Each plain step of weight norm lengthens v: |v'|² = |v|² + η² |gradient|².", source="Salimans and Kingma 2016")
def steps_lengthen_the_weights(p: Params) -> Evidence:
    s = setting(p)
    slope = gradient(s, layer(p, s, "weight"), s.weight)
    stepped = s.weight - p.rate * slope
    expected = s.weight.square().sum(-1) + p.rate**2 * slope.square().sum(-1)
    return at_most(
        (stepped.square().sum(-1) / expected - 1).abs().max(),
        0.0,
        1e-13,
        why="float64 rounding of sums of ten squares",
        quantity="largest relative difference of the squared length of a weight vector after a step",
    )
