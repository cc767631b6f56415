r"""Web data memory module: regions are weighted by how typical and how telling their cluster is.

Tu, Niu, Chen, Cheng and Zhang, "Learning from Web Data with Self-Organizing Memory Module", CVPR 2020,
arXiv:1906.12028. The two scores are counted here, which is a choice of this demo: the paper learns them.

    z(x) = \arg\max_l\,\cos(f(x), k_l) \qquad d_{lc} = \frac{n_{lc}}{\sum_{c'} n_{lc'}} \qquad
    r_{lc} = \frac{n_{lc}}{\max_{l'} n_{l'c}} \qquad
    \bar f_B = \frac{\sum_{x \in B} d_{z(x),y}\,r_{z(x),y}\,f(x)}{\sum_{x \in B} d_{z(x),y}\,r_{z(x),y}}

Symbols: $f(x)$ the feature of a region; $k_l$ the center in slot $l$ of the memory; $n_{lc}$ how many regions in the
slot come from a search for class $c$; $d$ the discriminative score, low for backgrounds; $r$ the representative score,
low for outliers; $B$ a bag of images found by one search, $y$ the class searched for. Here an "image" is a handwritten
digit, perhaps the wrong one, beside patches of a photograph.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional as F

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
    more_than,
    report,
    style,
)
from demos.kit.data import digits_split, photograph
from demos.kit.pictures import pictures
from demos.kit.training import Descent, History, accuracy, batches, frame_steps, one_thread, perceptron, twins

TOPIC = "losses"
CLASSES, IMAGES, FEATURES = 10, 1_000, 32
IN_BAG, BAGS = 4, 16  # images in a bag, bags in an update
RATE, PLAIN_SHARE, REFRESH = 0.03, 1 / 4, 20  # step size, share of the training on plain bags, updates between lookups
SWEEPS, MOVE, REACH = 10, 0.05, 0.7  # of the map: first sweeps, step size, reach to neighbors in slots
RIGHT, WRONG, BACKGROUND = 0, 1, 2
KINDS = ("right digit", "wrong digit", "background")
PLAIN, WEIGHTED = 0, 1
NAMES = ("plain mean", "weighted by the memory")


@dataclass(frozen=True)
class Params(Knobs):
    wrong: Annotated[float, Range(0, 0.8, step=0.05, doc="share of images that show another digit")] = 0.3
    shows: Annotated[str, Choice("any digit", "the next digit", doc="what wrong images show")] = "any digit"
    background: Annotated[int, Range(0, 4, doc="background regions beside each digit")] = 2
    scores: Annotated[str, Choice("both", "discriminative", "representative", doc="scores in the weight")] = "both"
    side: Annotated[int, Range(2, 10, doc="slots along a side of the square map")] = 6
    searched: Annotated[int, Range(0, 9, view=True, doc="class searched for, in the pictures")] = 3
    updates: Annotated[int, Range(40, 1_000, doc="updates of each network")] = 400
    seed: Seed = 0


PRESETS = {
    "Both noises": Params(),
    "A word mostly misread": Params(wrong=0.6, shows="the next digit"),
    "Without the discriminative score": Params(scores="representative"),
    "Background alone": Params(wrong=0.0, background=4),
}

LOOK_FOR = (
    "Slots next to each other hold similar regions; those of the class searched for light up, backgrounds stay dark.",
    "The weight sinks for wrong digits and for backgrounds, though nobody said which region is which.",
    "Where most images of a search show another digit, the memory trusts that one: it follows the majority.",
)


@dataclass(frozen=True)
class Regions:
    """All regions of all images: image i has the rows i R to (i + 1) R, its digit first."""

    pixels: Tensor  # (n, 64) in [0, 1]
    found: Tensor  # (n,) the class that was searched for
    kind: Tensor  # (n,) of KINDS


@dataclass(frozen=True)
class Result:
    regions: Regions
    slot: Tensor  # (n,) the slot of every region
    weight: Tensor  # (n,) its weight, over the mean
    tiles: Tensor  # (L, 64) mean region of each slot; gray where it is empty
    scores: Tensor  # (2, L, 10) discriminative and representative
    steps: Tensor  # (F,) updates so far
    by_kind: Tensor  # (F, 3) mean weight of each kind over that of all; nan where there is none
    accuracy: Tensor  # (F, 2) on 500 clean digits without background: plain mean, weighted
    start: int  # the update from which the weights are used


@dataclass(frozen=True)
class View:
    trained: Result
    shown: Tensor  # (12,) regions found by the search, evenly through the order of their weights, heaviest first
    lit: Tensor  # (side, side) product of the scores for the class searched for


def lookup(features: Tensor, keys: Tensor) -> Tensor:
    """The slot (n,) whose center (L, D) is nearest by cosine to each feature (n, D)."""
    return (F.normalize(features, dim=1) @ F.normalize(keys, dim=1).T).argmax(1)


def count_scores(slot: Tensor, found: Tensor, slots: int) -> Tensor:
    """Discriminative and representative scores (2, L, 10) of regions in slots (n,), found as classes (n,)."""
    counts = torch.zeros(slots, CLASSES).index_put_((slot, found), torch.ones(len(slot)), accumulate=True)
    discriminative = counts / counts.sum(1, keepdim=True).clamp(min=1)
    return torch.stack([discriminative, counts / counts.amax(0).clamp(min=1)])


def weigh(scores: Tensor, slot: Tensor, found: Tensor, used: str = "both") -> Tensor:
    """Weights (n,) of regions: the product of their slot's scores (2, L, 10) for their class, or one score alone."""
    discriminative, representative = scores[:, slot, found]
    return {
        "both": discriminative * representative,
        "discriminative": discriminative,
        "representative": representative,
    }[used]


def bag_features(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted means (..., D) of the features (..., R, D) of bags, weights (..., R)."""
    return (weights[..., None] * features).sum(-2) / weights.sum(-1, keepdim=True)


def neighborhood(side: int, reach: float) -> Tensor:
    """How much of the winner's step every slot takes, (L, L): 1 for itself, Gaussian in the distance on the map."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
    return (-torch.cdist(place, place).square() / (2 * reach**2)).exp().float()


def organize(keys: Tensor, features: Tensor, near: Tensor, step: float) -> Tensor:
    """Centers (L, D) moved towards features (n, D), winners most and neighbors `near` (L, L) less (Kohonen 1982).

    All features at once: a center goes the share `step` of the way to the mean of what reached it, where enough did.
    """
    toward = F.normalize(features, dim=1)
    pull = near[lookup(features, keys)]
    total = pull.sum(0)[:, None]
    return keys + step * total.clamp(max=1) * (pull.T @ toward / total.clamp(min=1e-12) - keys)


def new_map(features: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Centers (L, D) organized from scratch by sweeps over the features (n, D), whose reach shrinks."""
    keys = F.normalize(features[torch.randint(len(features), (side**2,), generator=generator)], dim=1)
    for sweep in range(SWEEPS):
        reach = REACH * (side / 2 / REACH) ** (1 - (sweep + 1) / SWEEPS)
        keys = organize(keys, features, neighborhood(side, reach), 1.0)
    return keys


def search(p: Params, images: Tensor, truth: Tensor, generator: torch.Generator) -> Regions:
    """What a search finds: for each of the digits (N, 1, 8, 8) a class searched for, and patches around it."""
    wrong = torch.arange(len(truth)) < round(p.wrong * len(truth))
    shift = torch.randint(1, CLASSES, truth.shape, generator=generator) if p.shows == "any digit" else CLASSES - 1
    found = torch.where(wrong, (truth + shift) % CLASSES, truth)
    photo = photograph("china").mean(0)
    count = len(truth) * p.background
    top, left = (torch.randint(size - 7, (count,), generator=generator) for size in photo.shape)
    offset = torch.arange(8)
    patches = photo[(top[:, None] + offset)[:, :, None], (left[:, None] + offset)[:, None]].reshape(len(truth), -1, 64)
    low, high = patches.amin(-1, keepdim=True), patches.amax(-1, keepdim=True)
    patches = (patches - low) / (high - low).clamp(min=1 / 255)  # as full of contrast as the digits are
    kinds = torch.cat([wrong.long()[:, None], torch.full((len(truth), p.background), BACKGROUND)], 1)
    pixels = torch.cat([images.reshape(-1, 1, 64), patches], 1)
    return Regions(pixels.flatten(0, 1), found.repeat_interleave(1 + p.background), kinds.flatten())


def run(p: Params) -> Iterator[Result]:
    generator = torch.Generator().manual_seed(p.seed)
    images, truth, test, test_truth = digits_split(seed=p.seed)
    regions = search(p, images[:IMAGES], truth[:IMAGES], generator)
    each, found = 1 + p.background, regions.found[:: 1 + p.background]
    by_class = found.argsort(stable=True)  # a bag is a run of this order
    networks = twins(perceptron((64, FEATURES, CLASSES), generator))
    trainers = [Descent(network.parameters()) for network in networks]
    extract, near, start = networks[WEIGHTED][:2], neighborhood(p.side, REACH), round(PLAIN_SHARE * p.updates)
    first_of_class = torch.searchsorted(found[by_class], torch.arange(CLASSES + 1))
    draws = batches(IMAGES, BAGS, p.updates, generator)
    shown, history = frame_steps(p.updates, 20), History()
    for update in range(p.updates + 1):
        with one_thread(), torch.no_grad():
            if update in (0, start):
                keys = new_map(extract(regions.pixels), p.side, generator)
            if update in shown or update in (0, start) or update % REFRESH == 0:
                slot = lookup(extract(regions.pixels), keys)
                scores = count_scores(slot, regions.found, p.side**2)
                weight = weigh(scores, slot, regions.found, p.scores)
        if update in shown:
            with torch.no_grad():
                right = torch.stack([accuracy(network(test.flatten(1)), test_truth) for network in networks])
            by_kind = torch.stack([weight[regions.kind == kind].mean() for kind in range(3)]) / weight.mean()
            history.add(steps=update, by_kind=by_kind, accuracy=right)
            yield Result(
                regions=regions,
                slot=slot,
                weight=weight / weight.mean(),
                tiles=mean_regions(regions.pixels, slot, p.side**2),
                scores=scores,
                **history.stacked(),
                start=start,
            )
        if update < p.updates:
            label = found[next(draws)]
            low, high = first_of_class[label], first_of_class[label + 1]
            within = (torch.rand(BAGS, IN_BAG, generator=generator) * (high - low)[:, None]).long() + low[:, None]
            rows = (by_class[within][..., None] * each + torch.arange(each)).flatten(1)
            used = weight[rows] if update >= start else torch.ones(rows.shape)
            with one_thread():
                for network, trainer, weights in zip(networks, trainers, (torch.ones(rows.shape), used), strict=True):
                    features = network[:2](regions.pixels[rows])
                    trainer.step(F.cross_entropy(network[2](bag_features(features, weights)), label), RATE)
                keys = organize(keys, features.detach().flatten(0, 1), near, MOVE)


def mean_regions(pixels: Tensor, slot: Tensor, slots: int) -> Tensor:
    """Mean (L, 64) of the regions (n, 64) in each slot (n,); middle gray where there is none."""
    total = torch.zeros(slots, 64).index_add_(0, slot, pixels)
    count = torch.bincount(slot, minlength=slots)[:, None]
    return torch.where(count > 0, total / count.clamp(min=1), 0.5)


def examine(p: Params, r: Result) -> View:
    found = (r.regions.found == p.searched).nonzero()[:, 0]
    order = found[r.weight[found].argsort(descending=True)]
    return View(
        trained=r,
        shown=order[torch.linspace(0, len(order) - 1, 12).long()],
        lit=r.scores[:, :, p.searched].prod(0).reshape(p.side, p.side),
    )


def readings(p: Params, r: View) -> dict[str, str | float]:
    weights, accuracy = r.trained.by_kind[-1].tolist(), r.trained.accuracy[-1].tolist()
    return {
        **{f"Weight, {kind}": w if w == w else "there is none" for kind, w in zip(KINDS, weights, strict=True)},
        **{f"Test accuracy, {name}": f"{share:.1%}" for name, share in zip(NAMES, accuracy, strict=True)},
    }


def figure(p: Params, r: View) -> dict[str, go.Figure]:
    weights = style.figure(x="updates", y="mean weight / that of all")
    _add_curves(weights, r, KINDS, r.trained.by_kind, (style.GREEN, style.RED, style.GRAY))
    weights.update_yaxes(rangemode="tozero")
    on_clean_digits = style.figure(x="updates", y="accuracy on clean digits")
    _add_curves(on_clean_digits, r, NAMES, r.trained.accuracy, (style.GRAY, style.BLUE))
    on_clean_digits.update_yaxes(range=[0, 1.02])
    return {
        f"The memory: each slot's mean region, and beside it its weight in a search for {p.searched}.": _map(r),
        f"Found by a search for {p.searched}, heaviest first, with weights; ✗: another digit, ▦: background.": _gallery(
            r
        ),
        "Weights by kind, which the method never sees; they are used from the red line on.": weights,
        "What it comes to on clean digits; both networks start alike and see the same bags.": on_clean_digits,
    }


def _map(r: View) -> go.Figure:
    side = len(r.lit)
    tiles = F.pad(r.trained.tiles.reshape(side, side, 8, 8), (0, 1, 0, 1), value=0.55)
    picture = (255 * tiles.permute(0, 2, 1, 3).reshape(9 * side, 9 * side)).byte()[..., None].expand(-1, -1, 3)
    fig = style.figure(height=280)
    size = 1 / 9  # one slot is one unit wide
    fig.add_image(z=picture.numpy(), x0=0, dx=size, y0=0, dy=size, hoverinfo="skip")
    fig.add_heatmap(
        z=r.lit.numpy(),
        x0=1.08 * side + 0.5,
        y0=0.5,
        zmin=0,
        colorscale=style.SEQUENTIAL,
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate="%{z:.2f}<extra></extra>",
    )
    return style.image_panel(fig)


def _gallery(r: View) -> go.Figure:
    t, shown = r.trained, r.shown
    marks = [("", "✗ ", "▦ ")[kind] for kind in t.regions.kind[shown].tolist()]
    names = [f"{mark}{weight:.2f}" for mark, weight in zip(marks, t.weight[shown].tolist(), strict=True)]
    return pictures(list(t.regions.pixels[shown].reshape(-1, 1, 8, 8)), names=names, columns=6, height=250)


def _add_curves(fig: go.Figure, r: View, names: tuple[str, ...], values: Tensor, colors: tuple[str, ...]) -> None:
    style.lines(fig, r.trained.steps.numpy(), names, values.T, colors=colors, widths=[2.5] * len(names))
    fig.add_vline(x=r.trained.start, line={"color": style.RED, "width": 1.5})


def _drawn(p: Params) -> tuple[Tensor, Tensor, Tensor]:
    """Features (500, D), classes (500,) and centers (L, D) that owe nothing to a training, from the seed."""
    generator = torch.Generator().manual_seed(p.seed)
    features = torch.randn(500, FEATURES, generator=generator)
    found = torch.randint(CLASSES, (500,), generator=generator)
    return features, found, torch.randn(p.side**2, FEATURES, generator=generator)


@law("With equal weights a bag is the plain mean of its regions.", source="definition")
def equal_weights_give_the_mean(p: Params) -> Evidence:
    features = _drawn(p)[0].reshape(20, 25, FEATURES)
    return at_most(
        (bag_features(features, torch.full((20, 25), 0.3)) - features.mean(1)).abs().max(),
        0.0,
        1e-5,
        why="float32 rounding of sums of 25 numbers of about 1",
        quantity="largest difference of a feature",
    )


@law("Only the direction of a feature decides on its slot, not its length.", source="Tu et al. 2020")
def lookup_ignores_length(p: Params) -> Evidence:
    features, _, keys = _drawn(p)
    longer = keys * 2.0 ** (torch.arange(len(keys)) % 5)[:, None]
    changed = lookup(features, keys) != lookup(8 * features, longer)
    return equal(changed.sum(), 0, 0, why="powers of two round nothing", quantity="regions in another slot, of 500")


@law(
    "In a slot the discriminative scores add up to 1; for a class the largest representative one is 1.",
    source="definition of this demo",
)
def scores_are_shares(p: Params) -> Evidence:
    features, found, keys = _drawn(p)
    slot = lookup(features, keys)
    discriminative, representative = count_scores(slot, found, len(keys))
    sums, largest = discriminative.sum(1)[slot], representative.amax(0)[found]
    return at_most(
        torch.maximum((sums - 1).abs(), (largest - 1).abs()).max(),
        0.0,
        1e-6,
        why="float32 rounding of a sum of ten shares",
        quantity="largest distance from 1",
    )


@law("The winner moves most, and the others less the farther they are on the map.", source="Kohonen 1982")
def neighbors_move_less(p: Params) -> Evidence:
    features, _, keys = _drawn(p)
    one, near = features[:1], neighborhood(p.side, REACH)
    goal, winner = F.normalize(one, dim=1), int(lookup(one, keys))
    moved = (organize(keys, one, near, 0.5) - keys).norm(dim=1) / (goal - keys).norm(dim=1)
    row, column = torch.arange(p.side**2) // p.side, torch.arange(p.side**2) % p.side
    distance = (row - row[winner]) ** 2 + (column - column[winner]) ** 2
    return falling(
        moved[distance.argsort(stable=True)],
        1e-5,
        why="float32 rounding of centers of length 6",
        quantity="largest step up of the share of the way that was gone, nearest slot first",
    )


@cache
def _last(seed: int, **changed: float | str) -> Result:
    *_, last = run(Params(seed=seed).but(**changed))
    return last


@finding("Right digits weigh more than twice what wrong ones do, and than backgrounds.", source="Tu et al. 2020")
def right_regions_weigh_more() -> Evidence:
    kinds = torch.stack([_last(seed).by_kind[-1] for seed in range(3)])
    return more_than(
        (kinds[:, :1] / kinds[:, 1:]).min(),
        2.0,
        why="30 % wrong digits, two backgrounds to a digit (the defaults), seeds 0 to 2, each must show both",
        quantity="smallest ratio of mean weights",
    )


@finding("Where 60 % of a search show one other digit, that digit weighs more.", source="measured here")
def the_majority_wins() -> Evidence:
    kinds = [_last(seed, wrong=0.6, shows="the next digit").by_kind[-1] for seed in range(3)]
    return more_than(
        min(float(kind[WRONG] / kind[RIGHT]) for kind in kinds),
        1.0,
        why="otherwise the defaults, seeds 0 to 2, each must show it",
        quantity="smallest ratio of the mean weights of wrong and of right digits",
    )


@report("Weighted bags give the better classifier.", source="Tu et al. 2020")
def weighted_bags_classify_better() -> Evidence:
    right = torch.stack([_last(seed).accuracy[-1] for seed in range(3)]).mean(0)
    return more_than(
        right[WEIGHTED],
        right[PLAIN],
        why="the defaults; means over seeds 0 to 2; the reference is the plain mean's",
        quantity="accuracy on 500 clean digits",
    )


@finding("Without the discriminative score backgrounds keep more of their weight.", source="measured here")
def discriminative_score_fades_backgrounds() -> Evidence:
    def share(result: Result) -> float:
        return float(result.by_kind[-1, BACKGROUND] / result.by_kind[-1, RIGHT])

    return more_than(
        min(share(_last(seed, scores="representative")) / share(_last(seed)) for seed in range(3)),
        1.0,
        why="otherwise the defaults, seeds 0 to 2, each must show it",
        quantity="smallest ratio of backgrounds' weight over right digits', without that score over with it",
    )
