r"""Synchronized batch norm: workers exchange a few numbers and normalize as if they held one batch.

Peng et al., "MegDet: A Large Mini-Batch Object Detector", CVPR 2018, arXiv:1711.07240, Sec. 3.3; merging means and
variances: Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance", The American Statistician 1983.

    \mu = \frac{1}{n}\sum_d n_d m_d
    \qquad \sigma^2 = \frac{1}{n}\sum_d n_d \left(v_d + (m_d - \mu)^2\right)
    \qquad \sigma^2 = \frac{1}{n}\sum x^2 - \mu^2

Symbols: worker $d$ of $D$ holds $n_d$ values $x$ of one channel, with mean $m_d$ and biased variance $v_d$; $\mu$ and
$\sigma^2$ are those of all $n$ values. The two formulas for $\sigma^2$ are equal on paper and both need one exchange;
the second cancels in low precision. The values drawn here have variance 1 on each worker.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import (
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
    more_than,
    style,
)

TOPIC = "normalization"
EPS = 1e-5
MOST_WORKERS = 32
WORKERS = (1, 2, 4, 8, 16, 32)
REDRAWS = 200
LARGE = 4_096  # values in the batch of the precision test
SHOWN = 1_200  # as many values as the first figure draws
PATIENCE = 20.0  # seconds until the two real workers are given up


@dataclass(frozen=True)
class Params(Knobs):
    workers: Annotated[int, Range(1, MOST_WORKERS, doc="workers D")] = 8
    share: Annotated[int, Range(2, 64, log=True, doc="values that a worker holds, n_d")] = 4
    unequal: Annotated[bool, Toggle(doc="unequal shares: once, twice and three times as many, in turn")] = False
    apart: Annotated[float, Range(0, 3, step=0.1, doc="how far the workers' data are apart", unit="σ")] = 0.0
    mean: Annotated[float, Range(0.1, 1e6, log=True, doc="mean of the values", unit="σ")] = 10.0
    seed: Seed = 0


PRESETS = {
    "Two values a worker": Params(share=2),
    "A full share each: little to gain": Params(share=64),
    "Each worker its own kind of data": Params(share=16, apart=2.0),
    "A mean of 10⁴: sums cancel": Params(mean=1e4),
}

LOOK_FOR = (
    "With few values the local means and widths scatter around those of the whole batch, the gray band.",
    "Averaging the local variances stays too low however many workers join; merging moments does not.",
    "Sums of squares lose two digits for each digit of μ/σ; merged moments keep theirs.",
)


@dataclass(frozen=True)
class Result:
    values: tuple[Tensor, ...]  # D tensors (n_d,) less the true mean
    local: Tensor  # (D, 3) count, mean and variance of each worker, less the true mean
    whole: Tensor  # (3,) those of the whole batch, merged
    local_error: Tensor  # (W,) RMS distance of a local mean from the truth, in sigma, over WORKERS
    merged_error: Tensor  # (W,) that of the merged mean
    averaged: Tensor  # (W,) average of the local variances over the true variance, mean over redraws
    merged: Tensor  # (W,) merged variance over the true one
    offsets: Tensor  # (G,) means to try in float32, in sigma
    precision: Tensor  # (3, G) relative error of the variance: sums, merged moments, two rounds
    chosen: Tensor  # (3,) that at the chosen mean


def moments(x: Tensor) -> Tensor:
    """Count, mean and biased variance (..., 3) of the values (..., n) on one worker."""
    mean = x.mean(-1, keepdim=True)
    return _triple(x.shape[-1], mean[..., 0], (x - mean).square().mean(-1))


def merge_moments(parts: Tensor) -> Tensor:
    """Count, mean and biased variance (..., 3) of the union of D workers' moments (..., D, 3)."""
    count, mean, variance = parts.unbind(-1)
    n = count.sum(-1)
    mu = (count * mean).sum(-1) / n
    return _triple(n, mu, (count * (variance + (mean - mu[..., None]).square())).sum(-1) / n)


def sums(x: Tensor) -> Tensor:
    """Count, sum and sum of squares (..., 3) of the values (..., n) on one worker."""
    return _triple(x.shape[-1], x.sum(-1), x.square().sum(-1))


def merge_sums(parts: Tensor) -> Tensor:
    """Count, mean and biased variance (..., 3) from D workers' sums (..., D, 3): E[x^2] - E[x]^2."""
    count, first, second = parts.sum(-2).unbind(-1)
    return _triple(count, first / count, second / count - (first / count).square())


def average_variances(parts: Tensor) -> Tensor:
    """The weighted average (...) of the local variances of moments (..., D, 3): what is missing is between workers."""
    count, _, variance = parts.unbind(-1)
    return (count * variance).sum(-1) / count.sum(-1)


def normalize(x: Tensor, statistics: Tensor) -> Tensor:
    """Values (n,) less the mean, over the deviation, of the whole batch's moments (3,)."""
    return (x - statistics[1]) / (statistics[2] + EPS).sqrt()


def gradient_sums(gradient: Tensor, normalized: Tensor) -> Tensor:
    """What the backward pass exchanges: sum of g and of g x^ (2,), for a worker's g and x^ (n,)."""
    return torch.stack([gradient.sum(), (gradient * normalized).sum()])


def backward(gradient: Tensor, normalized: Tensor, statistics: Tensor, totals: Tensor) -> Tensor:
    """Gradient (n,) in a worker's values from that in its outputs (n,), and the `gradient_sums` of all workers (2,)."""
    mean_g, mean_gx = totals / statistics[0]
    return (gradient - mean_g - normalized * mean_gx) / (statistics[2] + EPS).sqrt()


def _triple(count: Tensor | int, second: Tensor, third: Tensor) -> Tensor:
    return torch.stack([torch.as_tensor(count, dtype=second.dtype).expand_as(second), second, third], -1)


def run(p: Params) -> Result:
    generator = torch.Generator().manual_seed(p.seed)
    values = draw(p, p.workers, 1, generator)
    local = torch.cat([moments(x) for x in values])
    redrawn = torch.stack([moments(x) for x in draw(p, MOST_WORKERS, REDRAWS, generator)], -2)
    merged = torch.stack([merge_moments(redrawn[:, :workers]) for workers in WORKERS], -2)
    averaged = torch.stack([average_variances(redrawn[:, :workers]) for workers in WORKERS], -1)
    truth = 1 + p.apart**2
    offsets = torch.logspace(-1, 6, 29, dtype=torch.float64)
    noise = torch.randn(LARGE, dtype=torch.float64, generator=generator)
    return Result(
        values=tuple(x[0] for x in values),
        local=local,
        whole=merge_moments(local),
        local_error=redrawn[..., 1].square().mean().sqrt().expand(len(WORKERS)) / truth**0.5,
        merged_error=merged[..., 1].square().mean(0).sqrt() / truth**0.5,
        averaged=averaged.mean(0) / truth,
        merged=merged[..., 2].mean(0) / truth,
        offsets=offsets,
        precision=torch.stack([variance_errors(noise + offset, p.workers) for offset in offsets], -1),
        chosen=variance_errors(noise + p.mean, p.workers),
    )


def draw(p: Params, workers: int, batches: int, generator: torch.Generator) -> list[Tensor]:
    """Values (batches, n_d), float64, less their true mean, of each worker."""
    drawn = []
    for d in range(workers):
        count = p.share * (1 + d % 3 if p.unequal else 1)
        center = p.apart * torch.randn(batches, 1, dtype=torch.float64, generator=generator)
        drawn.append(center + torch.randn(batches, count, dtype=torch.float64, generator=generator))
    return drawn


def variance_errors(x: Tensor, workers: int) -> Tensor:
    """Relative errors (3,) of the float32 variance of values (n,): by sums, by merged moments, and in two rounds.

    The truth is that of the same float32 values in float64.
    """
    single = x.float()
    parts = single.tensor_split(workers)
    mean = merge_moments(torch.stack([moments(part) for part in parts]))[1]
    found = torch.stack(
        [
            merge_sums(torch.stack([sums(part) for part in parts]))[2],
            merge_moments(torch.stack([moments(part) for part in parts]))[2],
            sum(((part - mean).square().sum() for part in parts), start=torch.tensor(0.0)) / len(x),
        ]
    )
    return (found.double() / single.double().var(unbiased=False) - 1).abs()


def worker(rank: int, folder: str) -> None:
    """One of the two processes of the real run: reads its shard from the folder, leaves its results there."""
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", timedelta(seconds=PATIENCE), world_size=2, rank=rank
    )
    x, gradient = torch.load(f"{folder}/shard{rank}.pt")
    parts = [torch.empty(3, dtype=x.dtype) for _ in range(2)]
    torch.distributed.all_gather(parts, moments(x))
    statistics = merge_moments(torch.stack(parts))
    output = normalize(x, statistics)
    totals = gradient_sums(gradient, output)
    torch.distributed.all_reduce(totals)
    torch.save((output, backward(gradient, output, statistics, totals)), f"{folder}/result{rank}.pt")
    torch.distributed.destroy_process_group()


def two_processes(shards: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Outputs and input gradients of two real workers, one process each, for their values and output gradients.

    RuntimeError with the workers' messages where one fails or both take too long; none outlives the call.
    """
    code = "import sys; from demos.sync_bn import worker; worker(int(sys.argv[1]), sys.argv[2])"
    with tempfile.TemporaryDirectory() as folder, Path(folder, "messages").open("w+") as messages:
        for rank, shard in enumerate(shards):
            torch.save(shard, f"{folder}/shard{rank}.pt")
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(rank), folder],
                cwd=Path(__file__).parent.parent,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=messages,
                stderr=messages,
            )
            for rank in range(2)
        ]
        try:
            deadline = time.monotonic() + PATIENCE
            # A worker whose partner has failed would wait for it in vain.
            while {process.poll() for process in processes} in ({None}, {None, 0}):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the two workers did not finish within {PATIENCE:g} s")
                time.sleep(0.01)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(process.returncode for process in processes):
            messages.seek(0)
            raise RuntimeError("a worker failed: " + messages.read())
        return [torch.load(f"{folder}/result{rank}.pt") for rank in range(2)]


def readings(p: Params, r: Result) -> dict[str, str | float]:
    return {
        "Values in the whole batch": int(r.whole[0]),
        "Std. dev. of the local means, σ": float(r.local[:, 1].std(unbiased=False)),
        "Variance of the whole batch, σ²": float(r.whole[2]),
        "Average of the local variances, σ²": float(average_variances(r.local)),
        "Relative error of σ² in float32, by sums": float(r.chosen[0]),
        "Relative error of σ² in float32, merged": float(r.chosen[1]),
    }


def figure(p: Params, r: Result) -> dict[str, go.Figure]:
    accuracy = style.figure(x="workers D (log)", y="RMS error of the mean, σ")
    bias = style.figure(x="workers D (log)", y="variance / true variance")
    for fig, pair in ((accuracy, (r.local_error, r.merged_error)), (bias, (r.averaged, r.merged))):
        names = ("each worker alone", "merged") if fig is accuracy else ("average of the local ones", "merged")
        for name, values, color, dash, symbol in zip(
            names, pair, (style.ORANGE, style.BLUE), ("dash", "solid"), style.SYMBOLS, strict=False
        ):
            fig.add_scatter(
                x=WORKERS,
                y=values.numpy(),
                name=name,
                mode="lines+markers",
                line={"color": color, "dash": dash},
                marker={"symbol": symbol, "size": 7},
            )
        fig.update_xaxes(type="log", tickvals=WORKERS)
        fig.update_yaxes(rangemode="tozero")
        style.here(fig, p.workers, "D")
    bias.add_hline(y=1, line={"color": style.GRAY, "dash": "dot", "width": 1})
    return {
        "Each row is a worker: its values, its mean ± its deviation. The band is the whole batch's.": _strips(p, r),
        "Alone, more workers do not help; merged, the error of the mean falls like 1/√D.": accuracy,
        "Averaging local variances leaves out the variance between the workers' means.": bias,
        f"Float32, {LARGE:,} values: how wrong the variance comes out when the mean is large.": _precision(p, r),
    }


def _strips(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="value less the true mean, σ", y="worker", height=200 + 12 * len(r.values))
    rows, each = list(range(1, len(r.values) + 1)), SHOWN // len(r.values)
    mean, deviation = float(r.whole[1]), float(r.whole[2].sqrt())
    fig.add_vrect(x0=mean - deviation, x1=mean + deviation, fillcolor=style.GRAY, opacity=0.25, line_width=0)
    fig.add_vline(x=mean, line={"color": style.GRAY, "width": 1.5})
    fig.add_scatter(
        x=torch.cat([x[:each] for x in r.values]).numpy(),
        y=[row for row, x in zip(rows, r.values, strict=True) for _ in x[:each]],
        name="values",
        mode="markers",
        marker={"color": style.BLUE, "size": 5, "opacity": 0.5},
        hoverinfo="skip",
    )
    fig.add_scatter(
        x=r.local[:, 1].numpy(),
        y=rows,
        name="local mean ± deviation",
        mode="markers",
        marker={"color": style.ORANGE, "symbol": "diamond", "size": 8},
        error_x={"array": r.local[:, 2].sqrt().numpy(), "color": style.ORANGE, "thickness": 1.5, "width": 3},
    )
    fig.update_yaxes(autorange="reversed", tickformat="d", nticks=9, showgrid=False)
    return fig


def _precision(p: Params, r: Result) -> go.Figure:
    fig = style.figure(x="mean / deviation, μ/σ (log)", y="relative error of σ² (log)", log_x=True, log_y=True)
    smallest = 1e-9  # stands for zero on the log axis
    for name, values, color, dash, symbol in zip(
        ("E[x²] − E[x]²", "merged moments", "two rounds"),
        r.precision,
        (style.ORANGE, style.BLUE, style.GREEN),
        ("dash", "solid", "dot"),
        style.SYMBOLS,
        strict=False,
    ):
        fig.add_scatter(
            x=r.offsets.numpy(),
            y=values.clamp(min=smallest).numpy(),
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 1.5},
            marker={"symbol": symbol, "size": 6},
        )
    line = {"color": style.GRAY, "dash": "dot", "width": 1}
    fig.add_hline(y=1, line=line, annotation_text="as wrong as σ² = 0", annotation_position="top left")
    fig.update_xaxes(exponentformat="power")
    fig.update_yaxes(exponentformat="power", dtick=3)
    return style.here(fig, p.mean, "μ/σ")


def _shards(p: Params) -> list[Tensor]:
    """The workers' values (n_d,), float64, mean and all."""
    drawn = draw(p, p.workers, 1, torch.Generator().manual_seed(p.seed))
    return [p.mean + x[0] for x in drawn]


@law("Merging counts, means and variances gives those of the whole batch.", source="Chan et al. 1983")
def merged_moments_are_the_whole_batch(p: Params) -> Evidence:
    shards = _shards(p)
    _, mean, variance = merge_moments(torch.stack([moments(x) for x in shards]))
    truth = torch.var_mean(torch.cat(shards), correction=0)
    return at_most(
        max(abs(float(mean - truth[1])), abs(float(variance / truth[0] - 1))),
        0.0,
        1e-13 * (10 + p.mean),
        why="float64 rounding of numbers as large as the mean",
        quantity="largest error of the mean, and relative error of the variance, against torch.var_mean",
    )


@law("So does one exchange of counts, sums and sums of squares, up to (μ/σ)² roundings.", source="MegDet, Sec. 3.3")
def exchanged_sums_are_the_whole_batch(p: Params) -> Evidence:
    shards = _shards(p)
    _, mean, variance = merge_sums(torch.stack([sums(x) for x in shards]))
    truth = torch.var_mean(torch.cat(shards), correction=0)
    return at_most(
        max(abs(float(mean - truth[1])), abs(float(variance - truth[0]))),
        0.0,
        1e-14 * (10 + p.mean) ** 2,
        why="the squares are (μ/σ)² as large as their difference: each of their float64 roundings counts so much more",
        quantity="largest error of the mean and of the variance against torch.var_mean",
    )


@law("Averaging the local variances is too low by exactly the variance of the local means.", source="total variance")
def what_averaging_leaves_out(p: Params) -> Evidence:
    shards = _shards(p)
    counts = torch.tensor([len(x) for x in shards], dtype=torch.float64)
    means = torch.stack([x.mean() for x in shards])
    whole = torch.cat(shards)
    between = (counts * (means - whole.mean()).square()).sum() / len(whole)
    averaged = average_variances(torch.stack([moments(x) for x in shards]))
    return equal(
        whole.var(correction=0) - averaged,
        between,
        1e-13 * (10 + p.mean) * (1 + p.apart**2),
        why="float64 rounding of numbers as large as the mean",
        quantity="variance that is missing, σ²; the reference is the weighted variance of the local means",
    )


@law("Outputs and gradients are those of plain batch norm on the whole batch.", source="MegDet, Sec. 3.3")
def passes_are_those_of_the_whole_batch(p: Params) -> Evidence:
    shards = _shards(p)
    whole = torch.cat(shards).requires_grad_()
    theirs = torch.nn.functional.batch_norm(whole[:, None], None, None, training=True, eps=EPS)[:, 0]
    generator = torch.Generator().manual_seed(p.seed)
    gradient = torch.randn(len(whole), dtype=torch.float64, generator=generator)
    (autograd,) = torch.autograd.grad(theirs, whole, gradient)
    statistics = merge_moments(torch.stack([moments(x) for x in shards]))
    outputs = [normalize(x, statistics) for x in shards]
    gradients = gradient.split([len(x) for x in shards])
    totals = torch.stack([gradient_sums(g, y) for g, y in zip(gradients, outputs, strict=True)]).sum(0)
    ours = [backward(g, y, statistics, totals) for g, y in zip(gradients, outputs, strict=True)]
    return at_most(
        max(float((torch.cat(outputs) - theirs.detach()).abs().max()), float((torch.cat(ours) - autograd).abs().max())),
        0.0,
        1e-11 * (10 + p.mean),
        why="float64 rounding of numbers as large as the mean, over deviations that small batches may make small",
        quantity="largest difference of an output or an input gradient to torch's",
    )


@finding("With two values a worker, averaging local variances misses half of σ².", source="variance of a mean")
def two_values_miss_half() -> Evidence:
    ratios = []
    for seed in range(3):
        drawn = draw(Params(share=2), MOST_WORKERS, 2_000, torch.Generator().manual_seed(seed))
        ratios.append(average_variances(torch.stack([moments(x) for x in drawn], -2)))
    ratio = torch.cat(ratios)
    return equal(
        ratio.mean(),
        0.5,
        5 * float(ratio.std()) / len(ratio) ** 0.5,
        why="five standard errors of 3 · 2,000 batches on 32 workers, seeds 0 to 2: right code fails at about one seed "
        "in a million",
        quantity="average of the local variances, σ²",
    )


def _trials() -> Tensor:
    """Signed relative errors (500, 2) of the float32 variance, by sums and by moments, at μ = 10⁴ and σ = 0.01."""
    generator, rows = torch.Generator().manual_seed(0), []
    for _ in range(500):
        x = (1e4 + 0.01 * torch.randn(LARGE, dtype=torch.float64, generator=generator)).float()
        parts = x.reshape(8, -1)
        found = torch.stack([merge_sums(sums(parts))[2], merge_moments(moments(parts))[2]])
        rows.append(found.double() / x.double().var(correction=0) - 1)
    return torch.stack(rows)


@finding(
    "In float32 E[x²] − E[x]² loses the variance to a large mean: it comes out zero or negative.",
    source="Chan et al. 1983, on the textbook formula",
)
def sums_cancel() -> Evidence:
    return more_than(
        (_trials()[:, 0] <= -1).double().mean(),
        0.5,
        why="most is more than half; μ = 10⁴, σ = 0.01, 500 batches of 4,096 values on 8 workers, seed 0",
        quantity="share of the batches with a variance of zero or less",
    )


@finding("Merged moments do not: they keep the variance in the same float32.", source="Chan et al. 1983")
def merged_moments_keep_their_digits() -> Evidence:
    return less_than(
        _trials()[:, 1].abs().max(),
        0.05,
        why="a float32 step at 10⁴ is 0.1 σ; local and merged means are off by about a step each, which adds squares "
        "of 0.01 σ² each; settings as for the sums",
        quantity="largest relative error of the variance over 500 batches",
    )


@finding("Two real processes that exchange moments by torch.distributed agree.", source="MegDet, Sec. 3.3")
def two_real_processes_agree() -> Evidence:
    generator = torch.Generator().manual_seed(0)
    x, gradient = 3 + torch.randn(2, 10, dtype=torch.float64, generator=generator)
    shards = [(x[:3], gradient[:3]), (x[3:], gradient[3:])]
    outputs, gradients = (torch.cat(pair) for pair in zip(*two_processes(shards), strict=True))
    whole = x.clone().requires_grad_()
    theirs = torch.nn.functional.batch_norm(whole[:, None], None, None, training=True, eps=EPS)[:, 0]
    (autograd,) = torch.autograd.grad(theirs, whole, gradient)
    return at_most(
        max(float((outputs - theirs.detach()).abs().max()), float((gradients - autograd).abs().max())),
        0.0,
        1e-13,
        why="float64 rounding of sums of ten values; gloo on the CPU, shares of 3 and 7 values, seed 0",
        quantity="largest difference of an output or an input gradient to batch norm on the whole batch",
    )
