"""Tests of what was drawn: what scipy has under these names, without its import, which takes longer than most demos."""

import torch
from torch import Tensor


def chi_square_p(statistic: Tensor, freedom: int) -> Tensor:
    """p-value () of a statistic that follows the chi-square law of so many degrees of freedom."""
    p: Tensor = torch.special.gammaincc(torch.tensor(freedom / 2, dtype=torch.float64), statistic / 2)
    return p


def kolmogorov_smirnov(a: Tensor, b: Tensor) -> float:
    """Largest distance between the empirical distribution functions of two samples (N,) and (M,)."""
    at = torch.cat([a, b])
    below = [torch.searchsorted(sample.sort().values, at, right=True).double() / len(sample) for sample in (a, b)]
    return float((below[0] - below[1]).abs().max())
