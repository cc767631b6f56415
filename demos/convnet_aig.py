r"""Adaptive inference graphs: a gate before each residual block lets the image decide whether to run it.

Veit and Belongie, "Convolutional Networks with Adaptive Inference Graphs", ECCV 2018, arXiv:1711.11503, Sec. 3.

    x_l = x_{l-1} + z_l\,F_l(x_{l-1}) \qquad
    z_l = \mathbb 1[\beta_1 + g_1 > \beta_0 + g_0]

    \mathcal L = \mathcal L_{CE} + \lambda \sum_l (\bar z_l - t)^2

Symbols: $F_l$ the branch of block $l$; $\beta_0, \beta_1$ the logits of its gate to skip and to run it; $g$ Gumbel
noise, so that the gate is open with probability $\sigma(\beta_1 - \beta_0)$; backward, $z_l$ passes the gradient of
$\sigma((\beta_1 + g_1 - \beta_0 - g_0)/\tau)$; $\bar z_l$ its mean over the batch; $t$ the target rate. After training
the likelier state is taken. Blocks here are two linear layers on vectors of digits, so gates need no pooling, and no
batch norm is used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from demos.kit import Evidence, Knobs, Range, Seed, at_most, equal, finding, law, more_than, report, style
from demos.kit.data import digits_split
from demos.kit.pictures import pictures
from demos.kit.training import Descent, History, accuracy, batches, build, perceptron, train

TOPIC = "architecture"
WIDTH, INSIDE, GATE = 24, 24, 16
BATCH, RATE, FRAMES = 64, 0.03, 12
SHIFTS = torch.cat([torch.linspace(-2, 2, 9), torch.tensor([-1e6, 1e6])]).sort().values
EXAMPLES = 5


@dataclass(frozen=True)
class Params(Knobs):
    target: Annotated[float, Range(0, 1, step=0.05, doc="target rate t of every block")] = 0.5
    weight: Annotated[float, Range(0, 10, step=0.1, doc="λ, weight of the target")] = 2.0
    tau: Annotated[float, Range(0.1, 10, log=True, doc="temperature τ of the gradient")] = 1.0
    blocks: Annotated[int, Range(1, 12, doc="residual blocks")] = 8
    updates: Annotated[int, Range(40, 1_000, doc="updates of the network")] = 300
    seed: Seed = 0


PRESETS = {
    "Half of the blocks": Params(),
    "A fifth of the blocks": Params(target=0.2),
    "No target": Params(weight=0.0),
}

LOOK_FOR = (
    "The target fixes how often a block runs. For which digits it runs, training finds out alone.",
    "Read the map by columns: a block serves some classes and leaves out others.",
    "At the same cost another image's gates do hardly worse: these digits are easy, and skips forgive a lot.",
)


@dataclass(frozen=True)
class Result:
    steps: Tensor  # (F,) updates so far
    rates: Tensor  # (F, L) share of test images that run each block, gates drawn
    accuracy: Tensor  # (F,) on 500 test digits, likelier gates, as everything below
    by_class: Tensor  # (10, L) share of each class that runs each block
    executed: Tensor  # (S,) share of blocks run, all logits shifted by the SHIFTS
    swept: Tensor  # (2, S) accuracy there: own gates, those of another image
    images: Tensor  # (2 EXAMPLES, 1, 8, 8) test images that run the fewest blocks, then the most
    labels: Tensor  # (2 EXAMPLES,) their classes
    runs: Tensor  # (2 EXAMPLES,) how many blocks they run


def gate(logit: Tensor, noise: Tensor, tau: float) -> Tensor:
    """Open (1) or shut (0), (...), of logits beta_1 - beta_0 and noise g_1 - g_0 (...); its gradient is the sigmoid's.

    Straight-through Gumbel-Softmax for two classes (Sec. 3).
    """
    soft = ((logit + noise) / tau).sigmoid()
    return (logit + noise > 0).to(soft.dtype) + (soft - soft.detach())


def gumbel_difference(u: Tensor) -> Tensor:
    """The difference (...) of two Gumbel variables, which is logistic, at uniforms u (...) in (0, 1)."""
    return torch.logit(u, eps=1e-7)


def target_loss(rates: Tensor, target: float) -> Tensor:
    """Sum of the squared distances of the blocks' rates (L,) from their target (Sec. 3.3)."""
    return (rates - target).square().sum()


class AdaptiveGraph(nn.Module):
    """A classifier of digits (N, 64) whose residual blocks have a gate each."""

    def __init__(self, blocks: int, generator: torch.Generator) -> None:
        super().__init__()
        self.stem = build(lambda: nn.Linear(64, WIDTH), generator)
        self.branches = nn.ModuleList(perceptron((WIDTH, INSIDE, WIDTH), generator) for _ in range(blocks))
        self.gates = nn.ModuleList(perceptron((WIDTH, GATE, 2), generator) for _ in range(blocks))
        self.head = build(lambda: nn.Linear(WIDTH, 10), generator)
        with torch.no_grad():
            for layer in self.gates:  # as in the authors' code: open with probability 0.87, whatever the image
                layer[-1].weight.mul_(0.01)
                layer[-1].bias.copy_(torch.tensor([0.1, 2.0]))
            for branch in self.branches:
                branch[-1].weight.mul_(blocks**-0.5)

    def forward(self, x: Tensor, noise: Tensor, tau: float = 1.0, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (N, 10) and states of the gates (N, L), for noise (N, L); `given` states (N, L) replace the gates'."""
        h, states = self.stem(x), []
        for block, (branch, layer) in enumerate(zip(self.branches, self.gates, strict=True)):
            if given is None:
                skip, go_on = layer(h).unbind(1)
                states.append(gate(go_on - skip, noise[:, block], tau))
            else:
                states.append(given[:, block])
            h = h + states[-1][:, None] * branch(h)
        return self.head(h), torch.stack(states, 1)

    def skipping(self, x: Tensor, states: Tensor) -> Tensor:
        """Logits (N, 10) for states (N, L), a block's arithmetic done for the images that run it alone."""
        h = self.stem(x)
        for branch, state in zip(self.branches, states.T, strict=True):
            runs = state > 0
            h = h.index_put((runs,), h[runs] + branch(h[runs]))
        return self.head(h)


def run(p: Params) -> Iterator[Result]:
    generator = torch.Generator().manual_seed(p.seed)
    images, labels, test, truth = digits_split(seed=p.seed)
    x, test_x = images.flatten(1), test.flatten(1)
    network = AdaptiveGraph(p.blocks, generator)
    descent = Descent(network.parameters())
    noise = gumbel_difference(torch.rand(p.updates, BATCH, p.blocks, generator=generator))
    fresh = gumbel_difference(torch.rand(len(test), p.blocks, generator=generator))
    other = torch.randperm(len(test), generator=generator)
    order, history = batches(len(x), BATCH, p.updates, generator), History()

    def step(update: int) -> None:
        batch = next(order)
        logits, states = network(x[batch], noise[update], p.tau)
        loss = F.cross_entropy(logits, labels[batch]) + p.weight * target_loss(states.mean(0), p.target)
        descent.step(loss, RATE)

    @torch.no_grad()
    def look(update: int) -> Result:
        logits, states = network(test_x, torch.zeros_like(fresh))
        history.add(steps=update, rates=network(test_x, fresh)[1].mean(0), accuracy=accuracy(logits, truth))
        executed, swept = sweep(network, test_x, truth, other, p.blocks)
        by_cost = states.sum(1).argsort(stable=True)
        chosen = torch.cat([by_cost[:EXAMPLES], by_cost[-EXAMPLES:]])
        return Result(
            **history.stacked(),
            by_class=torch.stack([states[truth == label].mean(0) for label in range(10)]),
            executed=executed,
            swept=swept,
            images=test[chosen],
            labels=truth[chosen],
            runs=states[chosen].sum(1).long(),
        )

    yield from train(p.updates, FRAMES, step, look)


def sweep(network: AdaptiveGraph, x: Tensor, truth: Tensor, other: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Share of blocks run (S,) and accuracy (2, S) with the gates' logits shifted; then with the `other` images' gates.

    Exchanging whole paths keeps how often each block runs, and which run together.
    """
    executed, own, exchanged = [], [], []
    for shift in SHIFTS:
        logits, states = network(x, shift.expand(len(x), blocks))
        executed.append(states.mean())
        own.append(accuracy(logits, truth))
        exchanged.append(accuracy(network(x, states, given=states[other])[0], truth))
    return torch.stack(executed), torch.stack([torch.stack(own), torch.stack(exchanged)])


def readings(p: Params, r: Result) -> dict[str, str | float]:
    middle = len(SHIFTS) // 2
    return {
        "Blocks run, gates drawn": f"{float(r.rates[-1].mean()):.0%}",
        "Blocks run, likelier state": f"{float(r.executed[middle]):.0%}",
        "Test accuracy": f"{float(r.accuracy[-1]):.1%}",
        "With another image's gates": f"{float(r.swept[1, middle]):.1%}",
        "With all blocks run": f"{float(r.swept[0, -1]):.1%}",
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    return {
        "Share of each class that runs each block: blocks specialize, and nobody assigned them.": _by_class(r),
        "Top: digits that run the fewest blocks. Bottom: the most.": pictures(
            list(1 - r.images),
            names=[f"{label}: {count} of {p.blocks}" for label, count in zip(r.labels, r.runs, strict=True)],
            columns=EXAMPLES,
            height=270,
        ),
        "All gates shifted toward shut or open; ◆: as trained. Dashed, each image with another's gates.": _cost(r),
        f"How often each block runs while training; dotted, the target {p.target:.2g}.": _rates(p, r),
    }


def _by_class(r: Result) -> go.Figure:
    fig = style.figure(x="block", y="class", height=360)
    fig.add_heatmap(
        z=r.by_class.numpy(),
        x0=1,
        zmin=0,
        zmax=1,
        colorscale=style.SEQUENTIAL,
        colorbar={"title": {"text": "share"}, "thickness": 12},
        xgap=1,
        ygap=1,
        hovertemplate="block %{x}, class %{y}: %{z:.2f}<extra></extra>",
    )
    fig.update_xaxes(dtick=1, showgrid=False)
    fig.update_yaxes(dtick=1, autorange="reversed", showgrid=False)
    fig.update_layout(margin={"t": 16})
    return fig


def _cost(r: Result) -> go.Figure:
    fig = style.figure(x="share of blocks run", y="test accuracy")
    looks = (("own gates", style.BLUE, "solid"), ("another image's", style.ORANGE, "dash"))
    for curve, (name, color, dash) in zip(r.swept, looks, strict=True):
        line = {"color": color, "dash": dash, "width": 2.5}
        fig.add_scatter(x=r.executed.numpy(), y=curve.numpy(), mode="lines+markers", name=name, line=line)
    middle = len(SHIFTS) // 2
    fig.add_scatter(
        x=[float(r.executed[middle])] * 2,
        y=r.swept[:, middle].numpy(),
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": [style.BLUE, style.ORANGE]},
        showlegend=False,
    )
    fig.update_xaxes(range=[-0.03, 1.03])
    return fig


def _rates(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="updates", y="share of images")
    for block, curve in enumerate(r.rates.T):
        line = {"color": style.SEQUENCE[block % 6], "dash": style.DASHES[block // 6], "width": 2}
        fig.add_scatter(x=r.steps.numpy(), y=curve.numpy(), mode="lines", name=f"{block + 1}", line=line)
    fig.add_hline(y=p.target, line={"color": style.RED, "width": 1.5, "dash": "dot"})
    fig.update_yaxes(range=[-0.02, 1.02])
    return fig


def _start(p: Params) -> tuple[AdaptiveGraph, Tensor, Tensor]:
    """An untrained network, inputs (40, 64) and states of its gates (40, L), float64."""
    generator = torch.Generator().manual_seed(p.seed)
    network = AdaptiveGraph(p.blocks, generator).double()
    x = torch.rand(40, 64, dtype=torch.float64, generator=generator)
    return network, x, torch.randint(2, (40, p.blocks), generator=generator).double()


@law("With every gate shut only the shortcuts are left: the blocks change nothing.", source="Veit, Sec. 3.1")
@torch.no_grad()
def shut_gates_leave_the_shortcuts(p: Params) -> Evidence:
    network, x, states = _start(p)
    logits, _ = network(x, torch.full_like(states, -1e9))
    expected = network.head(network.stem(x))
    return equal((logits - expected).abs().max(), 0.0, 0.0, why="adding 0 rounds nothing", quantity="largest change")


@law("Skipping a block's arithmetic gives what its multiplication by 0 gives.", source="Veit, Sec. 3.1")
@torch.no_grad()
def skipping_saves_without_change(p: Params) -> Evidence:
    network, x, states = _start(p)
    logits, _ = network(x, states, given=states)
    return at_most(
        (network.skipping(x, states) - logits).abs().max() / logits.abs().max(),
        0.0,
        1e-12,
        why="float64 rounding, in another order for fewer rows",
        quantity="largest relative difference of a logit",
    )


@law("A gate is open with probability σ(β₁ − β₀).", source="Veit, Sec. 3; Jang et al. 2017")
def gates_open_by_their_probability(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    logits = 3 * torch.randn(20, 1, dtype=torch.float64, generator=generator)
    u = (torch.arange(2_000, dtype=torch.float64) + 0.5) / 2_000
    share = gate(logits, gumbel_difference(u), p.tau).mean(1)
    return at_most(
        (share - logits[:, 0].sigmoid()).abs().max(),
        0.0,
        1e-3,
        why="noise at 2,000 even quantiles instead of draws: shares are right to half of 1/2000",
        quantity="largest error of the share of open gates, 20 logits",
    )


@law("A gate passes 0 or 1 forward, and backward the slope of the sigmoid at τ.", source="Veit, Sec. 3")
def gate_is_straight_through(p: Params) -> Evidence:
    generator = torch.Generator().manual_seed(p.seed)
    logit = torch.randn(50, dtype=torch.float64, generator=generator).requires_grad_()
    noise = torch.randn(50, dtype=torch.float64, generator=generator)
    z = gate(logit, noise, p.tau)
    (gradient,) = torch.autograd.grad(z.sum(), logit)
    expected = 1 / (4 * p.tau * torch.cosh((logit + noise) / (2 * p.tau)) ** 2)
    hard = torch.where(logit + noise > 0, 1.0, 0.0)
    return at_most(
        torch.maximum((gradient - expected).abs(), (z - hard).abs()).max().detach(),
        0.0,
        1e-12,
        why="float64 rounding",
        quantity="largest error of a value or a gradient",
    )


@law("The target pulls a block's rate by 2(z̄ − t), whatever the other blocks do.", source="Veit, Sec. 3.3")
def target_pulls_in_proportion(p: Params) -> Evidence:
    rates = torch.rand(p.blocks, dtype=torch.float64, generator=torch.Generator().manual_seed(p.seed)).requires_grad_()
    (gradient,) = torch.autograd.grad(target_loss(rates, p.target), rates)
    return at_most(
        (gradient - 2 * (rates.detach() - p.target)).abs().max(),
        0.0,
        1e-12,
        why="float64 rounding",
        quantity="largest error of a gradient",
    )


@cache
def _trained() -> Sequence[Result]:
    """The last results of seeds 0 to 2 at the defaults."""
    return [list(run(Params(seed=seed)))[-1] for seed in range(3)]


@finding("The target drives the mean execution rate to t = 0.5.", source="Veit, Sec. 3.3")
def rate_meets_its_target() -> Evidence:
    return at_most(
        max(abs(float(r.rates[-1].mean()) - 0.5) for r in _trained()),
        0.0,
        0.05,
        why="defaults, gates drawn, seeds 0 to 2; 500 images by 8 blocks know a rate to 0.01",
        quantity="largest distance of the mean rate on test digits from 0.5",
    )


@finding("Classes run different blocks: some block serves one class and skips another.", source="Veit, Sec. 4")
def classes_get_different_graphs() -> Evidence:
    spread = [float((r.by_class.amax(0) - r.by_class.amin(0)).max()) for r in _trained()]
    return more_than(
        min(spread),
        0.5,
        why="half of a class of about 50 images is far more than chance (0.07 a class); defaults, seeds 0 to 2",
        quantity="smallest over seeds of the largest difference of two classes' rates in a block",
    )


@report("At the same cost, an image's own gates serve it better than another's.", source="measured here")
def own_gates_serve_better() -> Evidence:
    middle = len(SHIFTS) // 2
    return more_than(
        torch.stack([r.swept[0, middle] - r.swept[1, middle] for r in _trained()]).mean(),
        0.0,
        why="defaults, seeds 0 to 2; one standard error of the mean is about 0.005",
        quantity="mean difference of the accuracies on 500 digits",
    )


@report("The gated network is as good as with all its blocks run.", source="Veit, abstract, for ResNets of their own")
def gated_is_as_good_as_all_blocks() -> Evidence:
    middle, last = len(SHIFTS) // 2, len(SHIFTS) - 1
    return at_most(
        torch.stack([r.swept[0, last] - r.swept[0, middle] for r in _trained()]).mean(),
        0.0,
        why="the same trained network with every gate forced open, not another trained without gates; seeds 0 to 2",
        quantity="mean accuracy with all blocks run less that with half",
    )
