"""The data that demos share: real digits and photographs that scikit-learn ships, and toy points. No network.

Files are read from scikit-learn's folder without importing it: its import takes longer than most demos.
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def _datasets() -> Path:
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets"


@cache
def digits() -> tuple[Tensor, Tensor]:
    """UCI handwritten digits: images (1797, 1, 8, 8) in [0, 1] and labels (1797,), int64."""
    table = np.loadtxt(_datasets() / "data" / "digits.csv.gz", delimiter=",", dtype=np.float32)
    return torch.from_numpy(table[:, :-1] / 16).reshape(-1, 1, 8, 8), torch.from_numpy(table[:, -1]).long()


def digits_split(held_out: int = 500, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits shuffled and split: training images and labels, then the `held_out` test images and labels."""
    images, labels = digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[held_out:], order[:held_out]
    return images[train], labels[train], images[test], labels[test]


@cache
def photograph(name: str, width: int = 240) -> Tensor:
    """scikit-learn's sample photograph "china" or "flower": (3, H, W) in [0, 1], scaled to `width` pixels."""
    with Image.open(_datasets() / "images" / f"{name}.jpg") as picture:
        small = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


@cache
def edge_maps(name: str, size: int) -> Tensor:
    """Features of the middle of a sample photograph, (4, size, size) in [0, 1], such as a first layer finds.

    Each answers where brightness rises one way: right, down, left, up (Sobel filters, ReLU, mean pooling).
    """
    whole = photograph(name)
    side, left = whole.shape[1], (whole.shape[2] - whole.shape[1]) // 2
    right = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    filters = torch.stack([right, right.T, -right, -right.T])[:, None]
    edges = functional.conv2d(whole[:, :, left : left + side].mean(0)[None, None], filters).relu()
    maps = functional.adaptive_avg_pool2d(edges, size)[0]
    return maps / maps.amax((-2, -1), keepdim=True)


def two_moons(n: int, *, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two interleaved half circles: points (n, 2) and labels (n,) in {0, 1}, half each."""
    half = n // 2
    angle = torch.rand(n, generator=generator) * torch.pi
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    labels = (torch.arange(n) >= half).long()
    points = torch.where(labels[:, None] == 0, upper, lower)
    return points + noise * torch.randn(n, 2, generator=generator), labels
