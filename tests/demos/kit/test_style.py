import math

import pytest
import torch

from demos.kit import style


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.3, 40.0), (1e-19, 2.0), (5e-90, 3e120)])
def test_an_axis_of_decades_shows_all_values_and_labels_few_powers_of_ten(low, high):
    axis = style.decades(style.figure(log_y=True), low, high).layout.yaxis
    bottom, top = axis.range
    assert bottom < math.log10(low) and math.log10(high) < top
    assert float(bottom).is_integer() and float(top).is_integer() and isinstance(axis.dtick, int)
    assert 2 <= (top - bottom) // axis.dtick + 1 <= 10


def test_lines_are_told_apart_by_color_and_by_dash():
    fig = style.figure()
    style.lines(fig, [0, 1], ("a", "b"), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), widths=(1, 4))
    assert [(line.name, list(line.y), line.line.width) for line in fig.data] == [("a", [1, 2], 1), ("b", [3, 4], 4)]
    assert len({line.line.color for line in fig.data}) == len({line.line.dash for line in fig.data}) == 2


def test_a_band_goes_there_above_and_back_below():
    x, low, high = torch.tensor([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])
    area = style.band(style.figure(), x, low, high, color=style.BLUE).data[0]
    assert list(zip(area.x, area.y, strict=True)) == [(0, 5), (1, 6), (2, 7), (2, 3), (1, 2), (0, 1)]
    assert not area.showlegend and area.fill == "toself"


def test_a_plane_has_one_scale_on_both_axes():
    layout = style.equal_aspect(style.figure(), (-1, 0, 1), (0, 3), showgrid=False).layout
    assert layout.xaxis.range == (-1, 1) and layout.yaxis.range == (0, 3) and layout.yaxis.scaleanchor == "x"
    assert layout.xaxis.showgrid is False and layout.yaxis.showgrid is False
