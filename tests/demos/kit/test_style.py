import math

import pytest

from demos.kit import style


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.3, 40.0), (1e-19, 2.0), (5e-90, 3e120)])
def test_an_axis_of_decades_shows_all_values_and_labels_few_powers_of_ten(low, high):
    axis = style.decades(style.figure(log_y=True), low, high).layout.yaxis
    bottom, top = axis.range
    assert bottom < math.log10(low) and math.log10(high) < top
    assert float(bottom).is_integer() and float(top).is_integer() and isinstance(axis.dtick, int)
    assert 2 <= (top - bottom) // axis.dtick + 1 <= 10
