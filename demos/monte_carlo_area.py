r"""Monte Carlo area: scatter beans over a box, and the share that falls inside a shape measures it.

Scattering beans is folklore; two beans a cell are stratified sampling (Cochran, "Sampling Techniques", 1977, ch. 5);
random scrambles of Sobol's points: Owen, SIAM J. Numer. Anal. 34(5), 1997. The chain is another method, for points that
cannot be drawn directly: Metropolis et al., J. Chem. Phys. 21(6), 1953, doi:10.1063/1.1699114.

    \hat A = |B|\,\hat p, \qquad \hat p = \frac1N \sum_{i=1}^N \mathbf 1[x_i \in S],
    \qquad \mathrm{SE}(\hat A) = |B| \sqrt{\frac{\hat p\,(1-\hat p)}{N}}

    \text{by a chain:} \qquad \hat A = \frac{|R|}{\hat s}, \qquad N_{\mathrm{eff}} = \frac{N}{1 + 2\sum_{t\ge1}\rho_t}

Symbols: $S$ the shape, $B$ the square box around it, $x_i$ the $N$ beans; $R$ a square inside the shape, $\hat s$ the
share of the chain's points in it, $\rho_t$ their autocorrelation $t$ steps apart, $N_{\mathrm{eff}}$ the independent
points that they are worth; $|\cdot|$ an area. Of $10^7$ points a chain is 610 steps long, and 16,384 walk side by side.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from demos.kit import (
    Choice,
    Evidence,
    Knobs,
    Range,
    Seed,
    Text,
    at_least,
    at_most,
    equal,
    finding,
    law,
    less_than,
    more_than,
    style,
)
from demos.kit.inequality import LONGEST, parse
from demos.kit.statistics import kolmogorov_smirnov

TOPIC = "sampling"
SAMPLERS = ("uniform", "stratified", "Sobol", "Metropolis")
CHUNK = 2**14  # beans at a time: they stay in a core's cache, and memory does not grow with N
SCRAMBLES = 16  # independent copies of Sobol's points, whose disagreement is the standard error
FEWEST_CHAINS, LONGEST_WALK = 32, 1_000
NODES = 257  # a side, of the grid on which a shape is drawn and a square in it is found
REPEATS, ERRORS_AT = 16, [2**k for k in range(6, 13)]
SHOWN = 1_024


@dataclass(frozen=True)
class Params(Knobs):
    shape: Annotated[str, Choice("circle", "heart", "star", "typed", doc="shape S")] = "circle"
    inequality: Annotated[
        str,
        Text(
            kind="an inequality in x and y, such as x^2 + y^2 < 1,",
            parse=parse,
            legal=(
                "x^2 + (y - 0.6*sqrt(abs(x)))^2 < 1",
                "0.2 < x^2 + y^2 < 1",
                "x^2 + y^2 < (1 + cos(5*atan2(y, x))/3)^2",
            ),
            wrong=("x^2 + z < 1", "x + y", "__import__('os') < x"),
            longest=LONGEST,
            doc="the typed shape",
            when=("shape", ("typed",)),
        ),
    ] = "x^2 + (y - 0.6*sqrt(abs(x)))^2 < 1"
    reach: Annotated[
        float, Range(0.5, 10, log=True, doc="half a side of the typed shape's box", when=("shape", ("typed",)))
    ] = 1.5
    points: Annotated[int, Range(1_000, 10_000_000, log=True, doc="number of beans N")] = 100_000
    sampler: Annotated[str, Choice(*SAMPLERS, doc="how beans are thrown")] = "uniform"
    step: Annotated[
        float,
        Range(
            0.01, 10, log=True, doc="a chain's step: standard deviation in x and in y", when=("sampler", SAMPLERS[3:])
        ),
    ] = 0.8
    seed: Seed = 0


PRESETS = {
    "π from ten million beans": Params(points=10_000_000),
    "π from ten million Sobol points": Params(points=10_000_000, sampler="Sobol"),
    "A timid chain in a heart": Params(shape="heart", sampler="Metropolis", step=0.03),
    "Typed: a sheared disc, so π again": Params(shape="typed"),
}

LOOK_FOR = (
    "A digit more costs a hundred times the beans: the error falls like 1/√N, whatever the shape.",
    "Evenly spread beans, stratified or Sobol, gain faster: only the shape's edge is left to chance.",
    "Chains need a box no more but repeat themselves: too small a step, or too large, and most points add nothing.",
)


@dataclass(frozen=True)
class Result:
    inside: Tensor  # (NODES, NODES) whether the nodes of a grid over the box are in the shape, row y, column x
    square: "Shape | None"  # the square R in the shape; None where none fits
    beans: Tensor  # (2, W, M) x and y of about SHOWN beans: one row of them, or W chains of M points
    counted: Tensor  # (W, M) whether each is in the shape, or in the square where they are of chains
    running: tuple["Estimate", ...]  # at growing counts of beans, the last of all N
    reference: float  # the shape's area; where it is not known, the estimate of 131,072 Sobol points
    errors: Mapping[str, Tensor]  # of each sampler, (2, G): N, and the root mean square error of REPEATS runs
    steps: Tensor  # (S,) a log grid of steps
    by_step: "Estimate | None"  # of chains with each of these steps; None where no chain walks


@dataclass(frozen=True)
class Shape:
    """What lies in a region and in a square box: `contains` takes x and y of any one shape, and gives bools of it."""

    contains: Callable[[Tensor, Tensor], Tensor]
    left: float
    bottom: float
    side: float
    area: float | None = None  # where it is known

    @property
    def box(self) -> float:
        """Area of the box."""
        return self.side**2

    def place(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """x and y (...) in the box for points (2, ...) of the unit square."""
        return self.left + self.side * u[0], self.bottom + self.side * u[1]


def disc(x: Tensor, y: Tensor) -> Tensor:
    """x^2 + y^2 <= 1, of area pi."""
    return x * x + y * y <= 1


def heart(x: Tensor, y: Tensor) -> Tensor:
    """(x^2 + y^2 - 1)^3 <= x^2 y^3."""
    a = x * x + y * y - 1
    return a * a * a <= x * x * (y * y * y)


def pentagram(x: Tensor, y: Tensor) -> Tensor:
    """The star with five tips on the unit circle: all that is beyond at most one of its five long lines."""
    beyond = torch.zeros_like(x, dtype=torch.int8)
    for tip in range(5):
        angle = math.pi / 2 + 2 * math.pi / 5 * tip
        beyond += x * math.cos(angle) + y * math.sin(angle) > math.cos(2 * math.pi / 5)
    return beyond <= 1


SHAPES = {
    "circle": Shape(disc, -1, -1, 2, area=math.pi),
    "heart": Shape(heart, -1.2, -1.1, 2.4, area=3.66197272582),  # no closed form: quadrature, as in the tests
    "star": Shape(pentagram, -1, -1, 2, area=5 * math.tan(math.pi / 5) * math.cos(2 * math.pi / 5)),
}


def typed(text: str, reach: float) -> Shape:
    """The part of a typed inequality's region where neither |x| nor |y| exceeds `reach`."""
    region, box = parse(text), square(-reach, -reach, 2 * reach)
    return Shape(lambda x, y: region(x, y) & box.contains(x, y), box.left, box.bottom, box.side)


def square(left: float, bottom: float, side: float) -> Shape:
    """A square with sides along the axes, which is its own box."""
    return Shape(
        lambda x, y: (x >= left) & (x <= left + side) & (y >= bottom) & (y <= bottom + side),
        left,
        bottom,
        side,
        area=side**2,
    )


@dataclass(frozen=True)
class Estimate:
    """What N beans say of an area, in each of some independent runs."""

    n: int  # beans of one run
    area: Tensor  # (runs,)
    error: Tensor  # (runs,) its standard error
    worth: Tensor  # (runs,) independent points that would estimate the counted share as well
    quantile: float = 1.96  # standard errors to either side that make a 95% band
    accepted: Tensor | None = None  # (runs,) share of a chain's steps that were accepted

    @property
    def band(self) -> Tensor:
        """Half the width of the 95% band (runs,)."""
        return self.quantile * self.error


def share_error(variance: Tensor, n: int) -> Tensor:
    """Standard error (...) of a share of n beans, from the estimated variance (...) of that share.

    The count's variance gets two beans more, so that a hit never seen is not taken to be impossible; for independent
    beans that comes close to the interval of Agresti and Coull (The American Statistician 52, 1998).
    """
    return (variance + 2 / n**2).sqrt()


def from_box(shape: Shape, n: int, share: Tensor, variance: Tensor, quantile: float = 1.96) -> Estimate:
    """The area |B| p from the share p (runs,) of n beans inside, and its variance (runs,)."""
    error = share_error(variance, n)
    return Estimate(n, shape.box * share, shape.box * error, share * (1 - share) / error**2, quantile)


def uniform(shape: Shape, at: Iterable[int], runs: int, generator: torch.Generator) -> Iterator[Estimate]:
    """Independent beans: an estimate at each of the growing counts `at`, of the same beans and more."""
    hits, thrown = torch.zeros(runs, dtype=torch.float64), 0
    for n in at:
        for count in chunks(n - thrown, CHUNK // runs):
            u = torch.rand(2, runs, count, dtype=torch.float64, generator=generator)
            hits += shape.contains(*shape.place(u)).sum(-1)
        thrown, share = n, hits / n
        yield from_box(shape, n, share, share * (1 - share) / n)


def stratified(shape: Shape, at: Iterable[int], runs: int, generator: torch.Generator) -> Iterator[Estimate]:
    """Two beans in each cell of a grid: an estimate at each of the counts `at`, of a new grid that has no more beans.

    What differs from cell to cell is not left to chance: only cells whose two beans disagree add to the variance, and
    their number estimates that of the count without bias.
    """
    for most in at:
        grid = math.isqrt(most // 2)
        hits, disagreeing, row = torch.zeros(runs, dtype=torch.float64), torch.zeros(runs, dtype=torch.float64), 0
        for rows in chunks(grid, max(CHUNK // (2 * grid * runs), 1)):
            inside = shape.contains(*shape.place(in_cells(row, rows, grid, runs, generator)))
            hits += inside.sum((1, 2, 3))
            disagreeing += (inside[:, 0] ^ inside[:, 1]).sum((1, 2))
            row += rows
        n = 2 * grid**2
        yield from_box(shape, n, hits / n, disagreeing / n**2)


def in_cells(row: int, rows: int, grid: int, runs: int, generator: torch.Generator) -> Tensor:
    """Two points of the unit square, (2, runs, two, rows, grid), in each cell of some rows of a grid x grid grid."""
    u = torch.rand(2, runs, 2, rows, grid, dtype=torch.float64, generator=generator)
    u[0] += torch.arange(grid)
    u[1] += torch.arange(row, row + rows)[:, None]
    return u / grid


def sobol(shape: Shape, at: Iterable[int], runs: int, generator: torch.Generator) -> Iterator[Estimate]:
    """Sobol's points in independent scrambles: an estimate at each of the growing counts `at`, rounded down.

    The points of one scramble depend on each other, the scrambles do not: the mean of their shares varies by the
    variance between them over their number.
    """
    engines = scrambles(runs * SCRAMBLES, generator)
    hits, thrown = torch.zeros(runs, SCRAMBLES, dtype=torch.float64), 0
    for most in at:
        each = most // SCRAMBLES
        for count in chunks(each - thrown, max(CHUNK // len(engines), 1)):
            u = torch.stack([engine.draw(count, dtype=torch.float64) for engine in engines])
            hits += shape.contains(*shape.place(u.view(runs, SCRAMBLES, count, 2).movedim(-1, 0))).sum(-1)
        thrown, share = each, hits / each
        yield from_box(shape, SCRAMBLES * each, share.mean(-1), share.var(-1) / SCRAMBLES, student(SCRAMBLES - 1))


def scrambles(count: int, generator: torch.Generator) -> list[SobolEngine]:
    """Independently scrambled Sobol points of the unit square."""
    seeds = torch.randint(2**62, (count,), generator=generator).tolist()
    return [SobolEngine(2, scramble=True, seed=seed) for seed in seeds]


def student(freedom: int) -> float:
    """97.5% quantile of Student's t, to 0.1% from 15 degrees of freedom (Abramowitz and Stegun, 26.7.5)."""
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def metropolis(
    shape: Shape, at: Iterable[int], runs: int, generator: torch.Generator, *, chains: int, step: Tensor | float
) -> Iterator[Estimate]:
    """Chains that walk the shape side by side: an estimate at each of the growing counts `at`, rounded down.

    Each starts at a bean that fell inside, so it need not find home first. If a share s of their points is in a square
    of area |R| inside, the shape's area is |R| / s. `step` is a number, or one for each run, (runs, 1). All is NaN
    where no square fits, or too few beans fall inside to start from.
    """
    known = inscribed_square(shape)
    start = beans_inside(shape, runs * chains, generator) if known else None
    if known is None or start is None:
        nan = torch.full((runs,), math.nan, dtype=torch.float64)
        yield from (Estimate(n, nan, nan, nan, accepted=nan) for n in at)
        return
    x, y = start.view(2, runs, chains)
    hits, accepted, walked = torch.zeros_like(x), torch.zeros_like(x), 0
    for most in at:
        for _ in range(most // chains - walked):
            x, y, moved = metropolis_step(shape, x, y, step, generator)
            hits += known.contains(x, y)
            accepted += moved
        walked = most // chains
        n, share = chains * walked, hits.mean(-1) / walked
        error = share_error(share * (1 - share) / effective_points(hits, walked), n)
        yield Estimate(
            n,
            known.box / share,
            known.box / share**2 * error,
            share * (1 - share) / error**2,
            student(chains - 1),
            accepted.mean(-1) / walked,
        )


def metropolis_step(
    shape: Shape, x: Tensor, y: Tensor, step: Tensor | float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of every chain: x and y (...) after it, and whether it was accepted (...).

    The wanted density is uniform on the shape and the proposal symmetric, so the probability to accept is 1 for a step
    that stays inside and 0 for one that leaves: then the chain stays, and its place counts again.
    """
    dx, dy = step * torch.randn(2, *x.shape, generator=generator)  # single precision: quicker, and as symmetric
    to_x, to_y = x + dx, y + dy
    accepted = shape.contains(to_x, to_y)
    return torch.where(accepted, to_x, x), torch.where(accepted, to_y, y), accepted


def effective_points(hits: Tensor, steps: int) -> Tensor:
    """Independent points (...) that chains are worth, from how often each was in the square (..., chains).

    One chain's share varies by s (1 - s) / T, times 1 + 2 sum_t (1 - t/T) rho_t for its autocorrelation. The scatter of
    many chains shows that product as a whole, and no lag has to be cut off.
    """
    share = hits / steps
    mean = share.mean(-1)
    return hits.shape[-1] * mean * (1 - mean) / share.var(-1)


def beans_inside(shape: Shape, count: int, generator: torch.Generator) -> Tensor | None:
    """So many independent, uniform points (2, count) of the shape; None where 16 million beans give fewer."""
    found, missing = [], count
    for _ in range(2**24 // CHUNK):
        x, y = shape.place(torch.rand(2, CHUNK, dtype=torch.float64, generator=generator))
        found.append(torch.stack([x, y])[:, shape.contains(x, y)])
        missing -= found[-1].shape[1]
        if missing <= 0:
            return torch.cat(found, 1)[:, :count]
    return None


def inscribed_square(shape: Shape) -> Shape | None:
    """A large square in the shape; None where none fits.

    Of all squares whose nodes are all inside, the largest, less a cell all around: between nodes nothing was looked at.
    """
    below = torch.nn.functional.pad(nodes(shape).long().cumsum(0).cumsum(1), (1, 0, 1, 0))

    def full(size: int) -> Tensor:
        """Whether all of size x size nodes are inside, by the row and column of the lowest."""
        low, high = below[:-size], below[size:]
        return high[:, size:] - high[:, :-size] - low[:, size:] + low[:, :-size] == size**2

    size = 3 + bisect_left(range(4, NODES + 1), True, key=lambda size: not full(size).any())
    if size < 4:
        return None
    row, column = full(size).nonzero()[0].tolist()
    cell = shape.side / (NODES - 1)
    return square(shape.left + (column + 1) * cell, shape.bottom + (row + 1) * cell, (size - 3) * cell)


def nodes(shape: Shape) -> Tensor:
    """Whether the nodes of a grid over the box are in the shape, (NODES, NODES), row y, column x."""
    line = torch.linspace(0, 1, NODES, dtype=torch.float64)
    x, y = shape.place(torch.stack(torch.meshgrid(line, line, indexing="xy")))
    return torch.cat([shape.contains(*some) for some in zip(x.split(32), y.split(32), strict=True)])


def chunks(total: int, largest: int) -> Iterator[int]:
    """Counts that add up to the total, none above the largest."""
    return (min(largest, total - done) for done in range(0, total, largest))


def growing(first: int, last: int, ratio: float) -> list[int]:
    """Counts from the first to the last, each about `ratio` times the one before."""
    count = math.ceil(math.log(last / first) / math.log(ratio))
    return [*(round(first * ratio**k) for k in range(count)), last]


def root_mean_square_errors(estimates: Iterable[Estimate], area: float) -> Tensor:
    """Beans of one run, and the root mean square error of all runs, of G estimates of an area: (2, G)."""
    rows = [(e.n, float((e.area - area).square().mean().sqrt())) for e in estimates]
    return torch.tensor(rows, dtype=torch.float64).T


def some_beans(shape: Shape, sampler: str, step: float, generator: torch.Generator) -> Tensor:
    """About SHOWN beans thrown by a sampler, (2, W, M): W is 1, or 8 chains (0 where none finds a start)."""
    if sampler == "Metropolis":
        start, path = beans_inside(shape, 8, generator) if inscribed_square(shape) else None, []
        x, y = torch.empty(2, 0, dtype=torch.float64) if start is None else start
        for _ in range(SHOWN // 8):
            path.append(torch.stack([x, y]))
            x, y, _ = metropolis_step(shape, x, y, step, generator)
        return torch.stack(path, -1)
    if sampler == "stratified":
        grid = math.isqrt(SHOWN // 2)
        u = in_cells(0, grid, grid, 1, generator).flatten(2)
    elif sampler == "Sobol":
        u = scrambles(1, generator)[0].draw(SHOWN, dtype=torch.float64).T[:, None]
    else:
        u = torch.rand(2, 1, SHOWN, dtype=torch.float64, generator=generator)
    return torch.stack(shape.place(u))


def run(p: Params) -> Result:
    shape, known = _shape(p), inscribed_square(_shape(p))
    # A generator for each picture, so that turning N does not stir the others.
    of_running, of_errors, of_beans, of_steps = _generators(p.seed, 4)
    chains = _chains(p.points)
    # Three decades of N: of more, the band's end would be too thin to see.
    first = max(chains if p.sampler == "Metropolis" else 64, p.points // 1000)
    at = growing(first, p.points, 2 if p.sampler == "stratified" else 2**0.125)
    running = tuple(_thrower(p.sampler, p.step, chains)(shape, at, 1, of_running))

    area = shape.area or float(next(sobol(shape, [2**17], 1, of_errors)).area)
    errors = {
        name: root_mean_square_errors(_thrower(name, p.step)(shape, ERRORS_AT, REPEATS, of_errors), area)
        for name in SAMPLERS
    }

    beans = some_beans(shape, p.sampler, p.step, of_beans)
    counts_in = shape if p.sampler != "Metropolis" else known or square(0, 0, 0)
    steps, by_step = torch.logspace(-2, 1, 16, dtype=torch.float64), None
    if p.sampler == "Metropolis":
        by_step = next(metropolis(shape, [64 * 256], len(steps), of_steps, chains=64, step=steps[:, None]))
    return Result(
        inside=nodes(shape),
        square=known,
        beans=beans,
        counted=counts_in.contains(*beans),
        running=running,
        reference=area,
        errors=errors,
        steps=steps,
        by_step=by_step,
    )


def _shape(p: Params) -> Shape:
    return SHAPES[p.shape] if p.shape in SHAPES else typed(p.inequality, p.reach)


Thrower = Callable[[Shape, Iterable[int], int, torch.Generator], Iterator[Estimate]]


def _thrower(sampler: str, step: float, chains: int = FEWEST_CHAINS) -> Thrower:
    return {
        "uniform": uniform,
        "stratified": stratified,
        "Sobol": sobol,
        "Metropolis": partial(metropolis, chains=chains, step=step),
    }[sampler]


def _chains(points: int) -> int:
    """As many chains, a power of two, as let none walk longer than LONGEST_WALK."""
    return max(FEWEST_CHAINS, 2 ** math.ceil(math.log2(points / LONGEST_WALK)))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _generators(seed: int, count: int) -> list[torch.Generator]:
    return [_seeded(each) for each in torch.randint(2**62, (count,), generator=_seeded(seed)).tolist()]


def readings(p: Params, r: Result) -> dict[str, str | float]:
    last, truth = r.running[-1], _shape(p).area
    area, error, worth = last.area.item(), last.error.item(), last.worth.item()
    if not math.isfinite(area + error):
        return {"Area": "not known: no square fits inside, or no chain came by it"}
    decimals = max(0, 1 - math.floor(math.log10(error)))
    found: dict[str, str | float] = {
        "Area": f"{area:.{decimals}f} ± {error:.{decimals}f}",
        "Estimate": area,
        "Standard error": error,
    }
    if truth is not None:
        found |= {"True area": truth, "Distance in standard errors": abs(area - truth) / error}
    if p.sampler != "uniform":
        found |= {"Points": f"{last.n:,}", "Independent points they are worth": f"{worth:,.0f}"}
    if last.accepted is not None:
        chains = _chains(p.points)
        found |= {"Chains × steps": f"{chains:,} × {last.n // chains:,}", "Steps accepted": last.accepted.item()}
    return found


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    shown = f"{r.beans[0].numel():,} of the beans"
    thrown = {
        "uniform": f"{shown}: independent ones leave gaps and clumps.",
        "stratified": f"{r.beans[0].numel():,} beans of a coarser grid: two in each cell leave smaller gaps.",
        "Sobol": f"{shown}, of one scramble: each next one falls into the largest gap.",
        "Metropolis": "Eight chains walk inside the shape; the square's known area gives the scale.",
    }
    worth = {} if r.by_step is None else {"Between timid and rash steps, more of the points are news.": _by_step(p, r)}
    return {
        thrown[p.sampler]: _beans(p, r),
        "The estimate settles as beans fall; the truth stays in the band 95% of the time.": _running(p, r),
        "Steeper is cheaper: error of 16 runs of each, against two dotted power laws.": _errors(p, r),
        **worth,
    }


def _beans(p: Params, r: Result) -> go.Figure:
    shape, chains = _shape(p), p.sampler == "Metropolis"
    fig = style.figure(x="x", y="y", height=430)
    line = torch.linspace(0, 1, NODES)
    fig.add_contour(
        x=(shape.left + shape.side * line).numpy(),
        y=(shape.bottom + shape.side * line).numpy(),
        z=r.inside.byte().numpy(),
        contours={"start": 0.5, "end": 0.5, "size": 1, "coloring": "none"},
        line={"color": style.GRAY, "width": 2},
        showscale=False,
        showlegend=False,
        hoverinfo="skip",
    )
    if chains:
        broken = torch.cat([r.beans, torch.full((2, len(r.counted), 1), math.nan)], -1).flatten(1)
        path = {"color": style.GRAY, "width": 0.5}
        fig.add_scatter(x=broken[0].numpy(), y=broken[1].numpy(), mode="lines", line=path, showlegend=False)
        if r.square is not None:
            corners = r.square.place(torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]], dtype=torch.float64))
            side = {"color": style.BLUE, "dash": "dash"}
            fig.add_scatter(x=corners[0].numpy(), y=corners[1].numpy(), mode="lines", line=side, showlegend=False)
    names = ("in the square", "elsewhere in the shape") if chains else ("inside", "outside")
    for name, which, color, symbol in (
        (names[0], r.counted, style.BLUE, "circle"),
        (names[1], ~r.counted, style.ORANGE, "x-thin-open"),
    ):
        x, y = r.beans[:, which].numpy()
        marker = {"color": color, "symbol": symbol, "size": 4, "opacity": 0.7}
        fig.add_scatter(x=x, y=y, mode="markers", name=name, marker=marker, hoverinfo="skip")
    right, top = shape.left + shape.side, shape.bottom + shape.side
    return style.equal_aspect(fig, (shape.left, right), (shape.bottom, top))


def _running(p: Params, r: Result) -> go.Figure:
    n, area, band = (
        torch.tensor([float(value) for value in values])
        for values in zip(*((e.n, e.area, e.band) for e in r.running), strict=True)
    )
    fig = style.figure(x="beans N (log)", y="estimated area", log_x=True)
    style.band(fig, n, area - band, area + band, color=style.BLUE, name="95% band")
    fig.add_scatter(x=n.numpy(), y=area.numpy(), mode="lines", name="estimate", line={"color": style.BLUE})
    fig.update_xaxes(exponentformat="power")
    truth = _shape(p).area
    if truth is not None:
        known = {"color": style.RED, "dash": "dash", "width": 1.5}
        fig.add_scatter(x=n[[0, -1]].numpy(), y=[truth] * 2, mode="lines", name=f"truth {truth:.5f}", line=known)
    return fig


def _errors(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="beans N (log)", y="error of the area (log)", log_x=True, log_y=True)
    start = r.errors["uniform"][:, 0]
    for power, name in ((-1 / 2, "N<sup>−1/2</sup>"), (-3 / 4, "N<sup>−3/4</sup>")):
        n = torch.tensor([float(start[0]), max(p.points, ERRORS_AT[-1])])
        fig.add_scatter(
            x=n.numpy(),
            y=(start[1] * (n / start[0]) ** power).numpy(),
            mode="lines+text",
            text=["", name],
            textposition="bottom left",
            line={"color": style.GRAY, "width": 1, "dash": "dot"},
            showlegend=False,
        )
    looks = zip(SAMPLERS, style.SEQUENCE, style.DASHES, style.SYMBOLS, strict=False)
    for name, color, dash, symbol in looks:
        n, error = r.errors[name].numpy()
        fig.add_scatter(x=n, y=error, name=name, line={"color": color, "dash": dash}, marker={"symbol": symbol})
    last, marker = r.running[-1], {"color": style.RED, "symbol": "star", "size": 12}
    fig.add_scatter(x=[last.n], y=last.error.numpy(), mode="markers", name="this run's standard error", marker=marker)
    fig.update_yaxes(exponentformat="power")
    fig.update_xaxes(exponentformat="power")
    return fig


def _by_step(p: Params, r: Result) -> go.Figure:
    assert r.by_step is not None and r.by_step.accepted is not None
    fig = style.figure(x="standard deviation of a step (log)", y="share of the points", log_x=True)
    curves = (("worth, N_eff / N", r.by_step.worth / r.by_step.n), ("steps accepted", r.by_step.accepted))
    style.lines(fig, r.steps.numpy(), *zip(*curves, strict=True))
    fig.update_yaxes(range=[0, 1.02])
    return style.here(fig, p.step, "step")


def _area(shape: Shape) -> float:
    """The shape's area, by the midpoints of a grid of 1,024 x 1,024 cells where it is not known."""
    if shape.area is not None:
        return shape.area
    line = (torch.arange(1024, dtype=torch.float64) + 0.5) / 1024
    x, y = shape.place(torch.stack(torch.meshgrid(line, line, indexing="xy")))
    inside = sum(int(shape.contains(*some).sum()) for some in zip(x.split(16), y.split(16), strict=True))
    return shape.box * inside / 1024**2


def _roomy(p: Params) -> Shape:
    """The chosen shape; the circle where that is too thin for a square, or too small in its box, to test chains on."""
    shape, known, area = _shape(p), inscribed_square(_shape(p)), _area(_shape(p))
    roomy = known is not None and known.box > 0.01 * area and area > 0.003 * shape.box
    return shape if roomy else SHAPES["circle"]


@law("The circle gives π within four standard errors.", source="definition")
def circle_gives_pi(p: Params) -> Evidence:
    n = min(p.points, 100_000)
    estimate = next(_thrower(p.sampler, p.step, _chains(n))(SHAPES["circle"], [n], 1, _seeded(p.seed)))
    return at_most(
        (estimate.area - math.pi).abs() / estimate.error,
        4.0,
        why="four standard errors: right code fails at 1 seed in 16,000, at 1 in 900 with Sobol's 15 degrees of "
        "freedom, at 1 in 2,700 with the fewest chains",
        quantity=f"distance from π of {n:,} beans, standard errors",
    )


@law("The standard error of π from N independent beans is √(π (4 − π) / N) = 1.642 / √N.", source="binomial variance")
def standard_error_of_pi(p: Params) -> Evidence:
    n = 100_000
    estimate = next(uniform(SHAPES["circle"], [n], 1, _seeded(p.seed)))
    return equal(
        estimate.error * math.sqrt(n),
        math.sqrt(math.pi * (4 - math.pi)),
        0.02,
        why="it is taken from the share of hits, which puts it off by 0.0036 (one standard deviation): five of them",
        quantity="standard error · √N at N = 100,000",
    )


COVERAGE_NOISE = 4 * math.sqrt(0.95 * 0.05 / 400)
COVERAGE_WHY = "four standard deviations of a binomial share of 400: a right band fails at 1 seed in 16,000"


def _coverage(throw: Thrower, shape: Shape, generator: torch.Generator) -> float:
    """Share of 400 runs of 1,024 beans whose 95% band covers the area."""
    area, covered = _area(shape), 0
    for _ in range(8):
        estimate = next(throw(shape, [1024], 50, generator))
        covered += int(((estimate.area - area).abs() <= estimate.band).sum())
    return covered / 400


@law("The 95% band of independent beans covers the area in 95% of 400 repeats, or more.", source="binomial variance")
def band_covers_the_area(p: Params) -> Evidence:
    return at_least(
        _coverage(uniform, _shape(p), _seeded(p.seed)),
        0.95,
        COVERAGE_NOISE + 0.018,
        why=COVERAGE_WHY + "; 0.018 more, as counts are whole: at worst, at 4 hits of 1,024, bands cover 93.2%",
        quantity="share of bands of 1,024 beans that cover",
    )


@finding("The 95% band covers π in 95% of 400 repeats, whatever the sampler.", source="definition")
def every_band_covers() -> Evidence:
    shares = [_coverage(_thrower(name, 0.8), SHAPES["circle"], _seeded(0)) for name in SAMPLERS]
    return equal(
        max(shares, key=lambda share: abs(share - 0.95)),
        0.95,
        COVERAGE_NOISE,
        why=COVERAGE_WHY,
        quantity="coverage farthest from 95% among the four, 1,024 beans, step 0.8, seed 0",
    )


def _exponent(sampler: str) -> float:
    """Slope of log error over log N on the circle, N = 2^8 to 2^14; 192 runs, of seeds 0 to 11."""
    squares = []
    for seed in range(12):
        estimates = _thrower(sampler, 0.8)(SHAPES["circle"], [2**k for k in range(8, 15)], 16, _seeded(seed))
        n, error = root_mean_square_errors(estimates, math.pi)
        squares.append(error.square())
    x, y = n.log(), torch.stack(squares).mean(0).log() / 2
    return float(((x - x.mean()) * y).sum() / (x - x.mean()).square().sum())


EXPONENT_WHY = "five standard errors: of 192 runs each error is known to 5%, so their slope to about 0.02"


@finding("The error of independent beans falls like N^(−1/2).", source="binomial variance")
def uniform_error_falls_like_a_root() -> Evidence:
    return equal(_exponent("uniform"), -0.5, 0.1, why=EXPONENT_WHY, quantity="exponent of the error, N = 2⁸ to 2¹⁴")


@finding("The error of stratified beans falls faster than N^(−1/2).", source="Cochran, ch. 5")
def stratified_error_falls_faster() -> Evidence:
    return less_than(_exponent("stratified"), -0.5, 0.1, why=EXPONENT_WHY, quantity="exponent, N = 2⁸ to 2¹⁴")


@finding("The error of scrambled Sobol points falls faster than N^(−1/2).", source="Owen 1997")
def sobol_error_falls_faster() -> Evidence:
    return less_than(_exponent("Sobol"), -0.5, 0.1, why=EXPONENT_WHY, quantity="exponent, N = 2⁸ to 2¹⁴")


def _after_steps(shape: Shape, start: Tensor, steps: int, step: float, generator: torch.Generator) -> Tensor:
    """Where chains (2, chains) stand after some steps."""
    x, y = start
    for _ in range(steps):
        x, y, _ = metropolis_step(shape, x, y, step, generator)
    return torch.stack([x, y])


def _largest_gap(a: Tensor, b: Tensor) -> float:
    """Largest distance between the distribution functions of two samples of points (2, N), in x or in y."""
    return max(kolmogorov_smirnov(one, other) for one, other in zip(a, b, strict=True))


MARGINAL_WHY = "two-sample Kolmogorov-Smirnov tests of x and of y, each at a level of 0.0005"
CROWD = 2**14  # points of a sample
MARGINAL_LEVEL = math.sqrt(math.log(2 / 0.0005) / CROWD)


@law("Chains that start uniform on the shape stay so, at any step.", source="Metropolis et al. 1953, Sec. II")
def chain_stays_uniform(p: Params) -> Evidence:
    shape, generator = _roomy(p), _seeded(p.seed)
    start, beans = beans_inside(shape, 2 * CROWD, generator).split(CROWD, 1)
    points = _after_steps(shape, start, 16, p.step, generator)
    return at_most(
        _largest_gap(points, beans),
        MARGINAL_LEVEL,
        why=MARGINAL_WHY,
        quantity="largest gap between distribution functions, 16,384 chains after 16 steps",
    )


@finding("Chains that all start at one point forget it: x and y become those of uniform beans.", source="ergodicity")
def chain_forgets_its_start() -> Evidence:
    gaps = []
    for seed, shape in enumerate(SHAPES.values()):
        generator = _seeded(seed)
        beans = beans_inside(shape, CROWD, generator)
        points = _after_steps(shape, torch.zeros(2, CROWD, dtype=torch.float64), 200, 0.5, generator)
        gaps.append(_largest_gap(points, beans))
    return at_most(
        max(gaps),
        MARGINAL_LEVEL,
        why=MARGINAL_WHY,
        quantity="largest gap on circle, heart and star (seeds 0, 1, 2), 200 steps of 0.5 from the origin",
    )


@law("The area from the chain's share in a known square agrees with that of independent beans.", source="definition")
def chain_agrees_with_uniform(p: Params) -> Evidence:
    shape, generator = _roomy(p), _seeded(p.seed)
    chain = next(metropolis(shape, [16 * 4096], 1, generator, chains=4096, step=p.step))
    beans = next(uniform(shape, [100_000], 1, generator))
    # Compared as 1 / area, in which the chain's share is linear and its error symmetric.
    errors = [estimate.error / estimate.area**2 for estimate in (chain, beans)]
    return at_most(
        (1 / chain.area - 1 / beans.area).abs() / torch.hypot(*errors),
        4.0,
        why="four standard errors of the difference: right code fails at 1 seed in 16,000",
        quantity="distance of 1 / area from 4,096 chains of 16 steps and from 100,000 beans, standard errors",
    )


@law("A chain's points are worth fewer independent ones, at any step.", source="N_eff, with autocorrelations above 0")
def chain_is_worth_less(p: Params) -> Evidence:
    estimate = next(metropolis(_roomy(p), [64 * 256], 1, _seeded(p.seed), chains=256, step=p.step))
    return less_than(
        estimate.worth / estimate.n,
        1.0,
        0.25,
        why="independent points would show 1, give or take 0.09 with 256 chains; the best steps here show about 0.3",
        quantity="N_eff / N of 256 chains of 64 steps",
    )


@law("N_eff from the scatter of chains is N / (1 + 2 Σ ρ) from their autocorrelations.", source="definition of N_eff")
def worth_is_that_of_the_autocorrelation(p: Params) -> Evidence:
    shape, generator, steps = _roomy(p), _seeded(p.seed), 48
    known, (x, y), series = inscribed_square(shape), beans_inside(shape, 1024, generator), []
    for _ in range(steps):
        x, y, _ = metropolis_step(shape, x, y, p.step, generator)
        series.append(known.contains(x, y))
    hits = torch.stack(series).double()
    away = hits - hits.mean()
    products = [(away[: steps - lag] * away[lag:]).mean() for lag in range(steps)]
    correlations = sum((1 - lag / steps) * products[lag] / products[0] for lag in range(1, steps))
    return equal(
        effective_points(hits.sum(0), steps) * (1 + 2 * correlations) / hits.numel(),
        1023 / 1024,
        1e-9,
        why="the same sum in another order, in float64; the variance of 1,024 chains has 1,023 degrees of freedom",
        quantity="ratio of the two, 1,024 chains of 48 steps",
    )


@finding("N_eff peaks at a middling step: timid chains hardly move, rash ones hardly ever do.", source="measured here")
def worth_peaks_in_the_middle() -> Evidence:
    steps, ratios = torch.tensor([[0.05], [0.5], [5.0]], dtype=torch.float64), []
    for shape in SHAPES.values():
        for seed in range(3):
            estimate = next(metropolis(shape, [256 * 256], 3, _seeded(seed), chains=256, step=steps))
            timid, middling, rash = estimate.worth.tolist()
            ratios.append(middling / max(timid, rash))
    return more_than(
        min(ratios),
        1.0,
        0.5,
        why="256 chains of 256 steps give each N_eff to 9%, the ratio to 13%: four times that",
        quantity="smallest N_eff at step 0.5 over the larger of those at 0.05 and 5; three shapes, seeds 0 to 2",
    )
