r"""Residual adapters: freeze the filters that all domains share, and give each domain a small remix of its own.

Rebuffi, Bilen and Vedaldi, "Learning multiple visual domains with residual adapters", NIPS 2017, arXiv:1705.08045,
Sec. 3; the order of normalization and adapter as in the released code.

    g(x; \alpha) = x + \alpha * x
    \qquad w'_o = w_o + \sum_{p} \alpha_{op}\, w_p
    \qquad \text{shared} = 2\,(h^2 C^2 + C), \quad \text{per domain} = 2\,(C^2 + 5C)

Symbols: $x$ a feature map of $C$ channels, $\alpha$ a bank of $1 \times 1$ filters, $C$ in and $C$ out; $w_o$ the
filter of size $h \times h$ that makes output channel $o$ of the convolution before; the counts are for a residual block
of two such convolutions with biases. A small residual network first learns digits, then three more domains one after
another, in three ways: with new adapters, with nothing new but normalization and classifier, or by fine-tuning.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from demos.kit import Evidence, Knobs, Range, Seed, at_least, at_most, equal, finding, law, more_than, report, style
from demos.kit.data import digits_split
from demos.kit.pictures import pictures
from demos.kit.training import Descent, History, accuracy, batches, build, frame_steps, one_thread

TOPIC = "architecture"
DOMAINS = ("digits", "inverted", "rotated", "noisy")
ADAPTERS, FROZEN, FINE_TUNED = 0, 1, 2
WAYS = ("adapters", "frozen filters", "fine-tuned filters")
COLORS, DASHES = (style.GREEN, style.GRAY, style.RED), ("solid", "dot", "dash")
PATTERNS = ("", ".", "/")
BATCH, CLASSES, TESTED = 64, 10, 300
FRAMES = 6  # of each domain's training


@dataclass(frozen=True)
class Params(Knobs):
    width: Annotated[int, Range(4, 32, doc="channels C of the network")] = 16
    samples: Annotated[int, Range(100, 1_000, doc="training images of each domain")] = 1_000
    first: Annotated[int, Range(20, 300, doc="updates on the first domain, filters included")] = 120
    updates: Annotated[int, Range(20, 200, doc="updates on each further domain")] = 60
    rate: Annotated[float, Range(0.001, 0.2, log=True, doc="learning rate")] = 0.05
    noise: Annotated[float, Range(0, 1, step=0.05, doc="noise of the noisy digits, standard deviation")] = 0.3
    seed: Seed = 0


PRESETS = {
    "Four domains": Params(),
    "A narrow network": Params(width=6),
    "Few images of each": Params(samples=150),
}

LOOK_FOR = (
    "With adapters the line of the digits stays exactly level; with fine-tuning it falls at the first new domain.",
    "Normalization and classifier alone forget nothing either, but learn the new domains worse.",
    "A new domain costs its adapters, not a copy of the network.",
)


@dataclass(frozen=True)
class Result:
    """What was seen at F moments, in the three WAYS and on the four DOMAINS."""

    examples: Tensor  # (4, 1, 8, 8) in [0, 1] one test digit as it looks in each domain
    begun: int  # how many domains have been begun
    steps: Tensor  # (F,) updates made in all
    accuracy: Tensor  # (F, 3, 4) share of 300 test images; 0 before a domain is begun
    fresh: Tensor  # (3, 4) the same just after a domain was learned; 0 before
    shared: int  # parameters that all domains share
    own: Tensor  # (3,) parameters of each further domain: its own, or, fine-tuned, a copy of all


def residual_adapter(x: Tensor, alpha: Tensor) -> Tensor:
    """x + alpha * x for maps (N, C, H, W) and 1 × 1 filters (C, C, 1, 1) (eq. 1)."""
    return x + F.conv2d(x, alpha)


def remix(w: Tensor, alpha: Tensor) -> Tensor:
    """The filters (C, D, h, h) that a convolution with w (C, D, h, h) and a residual adapter (C, C, 1, 1) amount to."""
    return w + torch.einsum("op,pdhw->odhw", alpha[..., 0, 0], w)


class Adapter(nn.Module):
    """Of one domain, after a convolution: normalization, residual adapter, normalization; at first a plain one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.remix = nn.Conv2d(width, width, 1)

    def forward(self, y: Tensor) -> Tensor:
        return self.after(y + self.remix(self.before(y)))


class Filters(nn.Module):
    """What all domains share: a first convolution, and the two of a residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.block = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))


class Domain(nn.Module):
    """What one domain has of its own: normalization, adapters where wanted, and a classifier."""

    def __init__(self, width: int, adapters: bool = True) -> None:
        super().__init__()
        # The classifier first: of one generator it then draws the same values with adapters as without.
        self.classifier = nn.Linear(width, CLASSES)
        self.first = nn.BatchNorm2d(width)
        self.block = nn.ModuleList((Adapter if adapters else nn.BatchNorm2d)(width) for _ in range(2))


def new_domain(width: int, generator: torch.Generator, adapters: bool = True) -> Domain:
    """A domain yet to be learned; its adapters are zero, so that it starts from the shared filters as they are."""
    domain = build(lambda: Domain(width, adapters), generator)
    for layer in domain.block:
        if isinstance(layer, Adapter):
            nn.init.zeros_(layer.remix.weight)
    return domain


def classify(filters: Filters, domain: Domain, x: Tensor) -> Tensor:
    """Logits (N, 10) of images (N, 1, H, W)."""
    x = F.max_pool2d(domain.first(filters.first(x)).relu(), 2)
    y = domain.block[0](filters.block[0](x)).relu()
    return domain.classifier((x + domain.block[1](filters.block[1](y))).relu().mean((-2, -1)))


class Learner:
    """One of the WAYS: its filters, the domains that it has begun, and what it trains."""

    def __init__(self, way: int, filters: Filters, first: Domain) -> None:
        self.way, self.filters, self.domains = way, copy.deepcopy(filters), [copy.deepcopy(first)]

    def begin(self, seed: int) -> None:
        """Adds a domain; of one seed all ways start from the same classifier."""
        width = self.filters.first.out_channels
        self.domains.append(new_domain(width, torch.Generator().manual_seed(seed), self.way == ADAPTERS))

    def trained(self) -> list[Tensor]:
        """The parameters that learning the newest domain changes: the filters too where it is the first."""
        whole = self.way == FINE_TUNED or len(self.domains) == 1
        return [*self.domains[-1].parameters(), *(self.filters.parameters() if whole else ())]

    def learn(self, x: Tensor, labels: Tensor, order: Iterator[Tensor], rate: float) -> Iterator[None]:
        """Trains on images (N, 1, H, W) of the newest domain, an update for every batch of the order."""
        descent = Descent(self.trained())
        for batch in order:
            loss = F.cross_entropy(classify(self.filters, self.domains[-1], x[batch]), labels[batch])
            descent.step(loss, rate)
            yield

    @torch.no_grad()
    def logits(self, domain: int, x: Tensor) -> Tensor:
        """Of images (N, 1, H, W) told to be of that domain, by its running statistics: (N, 10)."""
        self.domains[domain].eval()
        z = classify(self.filters, self.domains[domain], x)
        self.domains[domain].train()
        return z


def in_domain(name: str, x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Digits (N, 1, 8, 8) in [0, 1] as they look in a domain: same shape, same range."""
    if name == "inverted":
        return 1 - x
    if name == "rotated":
        return x.rot90(1, (-2, -1))
    if name == "noisy":
        return (x + noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return x


def count(make: Callable[[], nn.Module]) -> int:
    """How many parameters a module has, made without values."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make().parameters())


def run(p: Params) -> Iterator[Result]:
    generator = torch.Generator().manual_seed(p.seed)
    images, labels, test_images, test_labels = digits_split(TESTED, seed=p.seed)
    images, labels = images[: p.samples], labels[: p.samples]
    train, test = ([in_domain(d, x, p.noise, generator) for d in DOMAINS] for x in (images, test_images))
    filters, first = build(lambda: Filters(p.width), generator), new_domain(p.width, generator)
    learners = [Learner(ADAPTERS, filters, first)]
    with_adapters, plain = (count(lambda a=adapters: Domain(p.width, a)) for adapters in (True, False))
    fixed = {
        "examples": torch.stack([x[0] for x in test]),
        "shared": count(lambda: Filters(p.width)),
        "own": torch.tensor([with_adapters, plain, plain + count(lambda: Filters(p.width))]),
    }
    start, history, fresh = 0, History(), torch.zeros(3, 4)
    for number, x in enumerate(train):
        updates = p.updates if number else p.first
        if number:
            for learner in learners:
                learner.begin(p.seed + number)
        order = list(batches(len(x), BATCH, updates, generator))
        trainings = [learner.learn(x, labels, iter(order), p.rate) for learner in learners]
        shown = frame_steps(updates, FRAMES)
        for update in range(updates + 1):
            with one_thread():
                if update:
                    for training in trainings:
                        next(training)
                if update in shown:
                    history.add(steps=start + update, accuracy=_accuracies(learners, test, test_labels))
            if update == updates:
                fresh[:, number] = history.stacked()["accuracy"][-1, :, number]
            if update in shown:
                yield Result(begun=number + 1, **history.stacked(), fresh=fresh.clone(), **fixed)
        start += updates
        if number == 0:
            learners = [Learner(way, learners[0].filters, learners[0].domains[0]) for way in range(len(WAYS))]


def _accuracies(learners: Sequence[Learner], test: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Accuracy (3, 4) on every domain begun; until the ways part, theirs is one and the same."""
    result = torch.zeros(len(WAYS), len(DOMAINS))
    for way, learner in enumerate(learners):
        for domain in range(len(learner.domains)):
            right = accuracy(learner.logits(domain, test[domain]), labels)
            result[way if len(learners) > 1 else slice(None), domain] = right
    return result


def readings(p: Params, r: Result) -> dict[str, str | float]:
    digits = r.accuracy[-1, :, 0].tolist()
    further = r.fresh[:, 1 : r.begun].mean(1).tolist()
    return {
        **{f"Digits, {way}": f"{share:.1%}" for way, share in zip(WAYS, digits, strict=True)},
        "New domains when learned, in this order": ", ".join(f"{x:.0%}" for x in further)
        if r.begun > 1
        else "none yet",
        "Parameters shared": f"{r.shared:,}",
        "A domain's own": f"{int(r.own[ADAPTERS]):,}",
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    names = [
        f"{domain}<br>{share:.0%}" for domain, share in zip(DOMAINS, r.accuracy[-1, ADAPTERS].tolist(), strict=True)
    ]
    names[r.begun :] = [f"{domain}<br>not yet" for domain in DOMAINS[r.begun :]]
    return {
        "How well the digits are still known while further domains are learned.": _forgetting(p, r),
        "What each way knows of every domain now; a diamond: just after it was learned.": _now(r),
        "One digit in each domain, and what the network with adapters gets right.": _examples(r, names),
        "Parameters: a domain more costs its adapters, or a copy of the network.": _parameters(r),
    }


def _examples(r: Result, names: list[str]) -> go.Figure:
    fig = pictures(list(r.examples), names=names, height=210)
    fig.update_layout(margin={"b": 46})
    return fig


def _forgetting(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="updates", y="accuracy on the digits")
    for way in (FROZEN, ADAPTERS, FINE_TUNED):
        fig.add_scatter(
            x=r.steps.numpy(),
            y=r.accuracy[:, way, 0].numpy(),
            mode="lines",
            name=WAYS[way],
            line={"color": COLORS[way], "dash": DASHES[way], "width": 5 if way == FROZEN else 2},
        )
    ends = [*range(p.first, p.first + 4 * p.updates, p.updates)]
    for name, start, end in zip(DOMAINS, (0, *ends), ends, strict=False):
        fig.add_annotation(
            x=(start + end) / 2, y=0, yref="paper", yanchor="bottom", text=f"<i>{name}</i>", showarrow=False
        )
        fig.add_vline(x=end, line={"color": style.GRAY, "width": 1, "dash": "dot"})
    fig.update_xaxes(range=[0, p.first + 3 * p.updates])
    fig.update_yaxes(range=[-0.1, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1])
    return fig


def _now(r: Result) -> go.Figure:
    fig = style.figure(y="accuracy")
    positions = torch.arange(r.begun)
    for way, name in enumerate(WAYS):
        marker = {"color": COLORS[way], "pattern": {"shape": PATTERNS[way]}}
        x = (positions + 0.27 * (way - 1)).numpy()
        fig.add_bar(x=x, y=r.accuracy[-1, way, : r.begun].numpy(), width=0.24, name=name, marker=marker)
        learned = r.fresh[way, : r.begun] > 0
        diamond = {"color": COLORS[way], "symbol": "diamond", "size": 9, "line": {"width": 1, "color": style.GRAY}}
        fresh = r.fresh[way, : r.begun][learned].numpy()
        fig.add_scatter(x=x[learned.numpy()], y=fresh, mode="markers", marker=diamond, showlegend=False)
    fig.update_xaxes(tickvals=list(range(4)), ticktext=DOMAINS, range=[-0.5, 3.5])
    fig.update_yaxes(range=[0, 1.02])
    return fig


def _parameters(r: Result) -> go.Figure:
    fig = style.figure(x="domains", y="parameters", height=300)
    domains = torch.arange(1, 11)
    shared = {ADAPTERS: r.shared, FINE_TUNED: 0}
    names = {ADAPTERS: "shared filters and adapters", FINE_TUNED: "a fine-tuned copy each"}
    for way, base in shared.items():
        marker = {"color": COLORS[way], "pattern": {"shape": PATTERNS[way]}}
        fig.add_bar(x=domains.numpy(), y=(base + domains * r.own[way]).numpy(), name=names[way], marker=marker)
    fig.update_xaxes(tickvals=[1, 2, 4, 6, 8, 10])
    return fig


def _maps(p: Params) -> tuple[Tensor, Tensor, Tensor]:
    """A map (2, C, 8, 8), filters (C, C, 3, 3) and an adapter (C, C, 1, 1), standard normal, float64."""
    generator = torch.Generator().manual_seed(p.seed)
    shapes = ((2, p.width, 8, 8), (p.width, p.width, 3, 3), (p.width, p.width, 1, 1))
    x, w, alpha = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return x, w, alpha


@law("With α = 0 the adapter is the identity.", source="Sec. 3.1")
def zero_adapter_is_the_identity(p: Params) -> Evidence:
    x, _, alpha = _maps(p)
    return equal(
        (residual_adapter(x, 0 * alpha) - x).abs().max(),
        0.0,
        0.0,
        why="exact: zeros are added",
        quantity="largest difference",
    )


@law("A convolution and its adapter are one convolution with remixed filters.", source="Sec. 3.1")
def adapter_remixes_the_filters(p: Params) -> Evidence:
    x, w, alpha = _maps(p)
    two = residual_adapter(F.conv2d(x, w, padding=1), alpha)
    one = F.conv2d(x, remix(w, alpha), padding=1)
    return at_most(
        (two - one).abs().max() / two.abs().max(),
        0.0,
        1e-13,
        why="float64 rounding of sums of at most 32 · 9 · 32 products",
        quantity="largest difference, over the largest output",
    )


@law("A domain's own part of a block has 2(C² + 5C) parameters.", source="Sec. 3.3")
def parameters_of_a_domain(p: Params) -> Evidence:
    return equal(
        count(lambda: Domain(p.width).block),
        2 * (p.width**2 + 5 * p.width),
        0,
        why="exact: a count of the module, C² + C for the adapter with its bias, 2C for each normalization, twice",
        quantity="parameters",
    )


def _moved(p: Params, way: int) -> float:
    """How much the first domain's logits move, at most, as the learner makes three updates on inverted digits."""
    generator = torch.Generator().manual_seed(p.seed)
    images, labels, test, _ = digits_split(TESTED, seed=p.seed)
    learner = Learner(way, build(lambda: Filters(p.width), generator), new_domain(p.width, generator))
    before = learner.logits(0, test)
    learner.begin(p.seed)
    for _ in learner.learn(1 - images, labels, batches(len(images), BATCH, 3, generator), p.rate):
        pass
    return float((learner.logits(0, test) - before).abs().max())


@law("Learning a domain with adapters leaves the first domain's outputs exactly as they were.", source="Sec. 1, 3.2")
def adapters_forget_nothing(p: Params) -> Evidence:
    return equal(
        _moved(p, ADAPTERS),
        0.0,
        0.0,
        why="exact: nothing that the first domain uses is touched",
        quantity="largest change of a logit of 300 test digits, by three updates on inverted digits",
    )


@law("Fine-tuning the filters changes the first domain's outputs.", source="Sec. 1")
def fine_tuning_moves_the_first_domain(p: Params) -> Evidence:
    return more_than(
        _moved(p, FINE_TUNED),
        0.0,
        1e-5,
        why="above float32 rounding, which is 1e-6 for logits of some units",
        quantity="largest change of a logit of 300 test digits, by three updates on inverted digits",
    )


@report("The shared part of a block has 2(h²C² + hC) parameters, as an earlier note prints it.", source="Sec. 3.3")
def shared_parameters_as_printed() -> Evidence:
    width, h = 64, 3
    return equal(
        count(lambda: Filters(width).block),
        2 * (h**2 * width**2 + h * width),
        0,
        why="exact: a count of the module at C = 64, h = 3; the biases differ, C and not hC for each convolution, so "
        "that it has 2(h²C² + C)",
        quantity="parameters",
    )


@finding("At C = 64 the domain's own part is 10.7 % of a block.", source="Sec. 3.3")
def own_share_of_a_block() -> Evidence:
    own, shared = count(lambda: Domain(64).block), count(lambda: Filters(64).block)
    return equal(own / (own + shared), 0.107, 0.0005, why="the figure is rounded to 0.1 %", quantity="8,832 of 82,688")


@cache
def _trained(first: int, updates: int) -> list[Result]:
    """Last results of seeds 0 to 2 after so many updates on the first domain, and on each further one."""
    return [list(run(Params(first=first, updates=updates, seed=seed)))[-1] for seed in range(3)]


@finding("Fine-tuning forgets: after three more domains the digits are known far worse.", source="Sec. 1")
def fine_tuning_forgets() -> Evidence:
    lost = [r.fresh[FINE_TUNED, 0] - r.accuracy[-1, FINE_TUNED, 0] for r in _trained(80, 30)]
    return more_than(
        min(lost),
        0.3,
        why="80 and 30 updates, seeds 0 to 2, each must lose more than 30 points; an accuracy of 300 images has a "
        "standard error of 3 points at most",
        quantity="smallest loss of accuracy on the digits over 3 seeds",
    )


@finding("Adapters learn the new domains better than normalization and classifier alone.", source="Sec. 3, Tab. 1")
def adapters_beat_frozen_filters() -> Evidence:
    means = torch.stack([r.fresh[:, 1:].mean(1) for r in _trained(80, 30)]).mean(0)
    return more_than(
        means[ADAPTERS] - means[FROZEN],
        0.0,
        0.03,
        why="80 and 30 updates, mean over seeds 0 to 2 and three domains; two standard errors of the difference of two "
        "accuracies of 2,700 images are 2.7 points at most",
        quantity="gain of the mean accuracy on the new domains just after they were learned",
    )


@report("Adapters learn the new domains as well as fine-tuning does.", source="Sec. 5, Tab. 1, on the decathlon")
def adapters_match_fine_tuning() -> Evidence:
    means = torch.stack([r.fresh[:, 1:].mean(1) for r in _trained(120, 60)]).mean(0)
    return at_least(
        means[ADAPTERS],
        means[FINE_TUNED],
        why="the defaults, mean over seeds 0 to 2 and three domains; the reference is the fine-tuned "
        "networks', whose filters have been through the domains before",
        quantity="accuracy on the new domains just after they were learned",
    )
