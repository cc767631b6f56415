import pytest
import torch
from scipy import stats

from demos.kit.statistics import chi_square_p, kolmogorov_smirnov


@pytest.mark.parametrize("freedom", [1, 2, 99])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 3.0])
def test_a_p_value_agrees_with_scipys_chi_square_law(freedom, ratio):
    statistic = torch.tensor(ratio * freedom, dtype=torch.float64)
    assert float(chi_square_p(statistic, freedom)) == pytest.approx(stats.chi2.sf(float(statistic), freedom), rel=1e-9)


def test_the_distance_of_two_samples_with_ties_agrees_with_scipy():
    a, b = torch.randn(2, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    assert kolmogorov_smirnov(a, b[:200]) == pytest.approx(stats.ks_2samp(a.numpy(), b[:200].numpy()).statistic)
