import torch

from demos.kit import style
from demos.kit.surface import border, plane, scatter, surface

ACROSS, UP = torch.linspace(-1, 3, 5), torch.linspace(0, 1, 3)


def test_the_plane_holds_x_and_y_of_every_point_of_the_grid():
    points = plane(ACROSS, UP)
    assert points.shape == (3, 5, 2)
    assert points[2, 1].tolist() == [ACROSS[1], UP[2]]


def test_a_surface_shows_each_value_at_its_point_within_its_span():
    values = plane(ACROSS, UP).sum(-1)
    fig = surface(ACROSS, UP, values, span=(-4, 4), height=200)
    heat = fig.data[0]
    assert heat.z[2][1] == ACROSS[1] + UP[2] and (heat.zmin, heat.zmax) == (-4, 4)
    assert list(heat.x) == ACROSS.tolist() and list(heat.y) == UP.tolist()
    assert fig.layout.xaxis.range == (-1, 3) and fig.layout.yaxis.range == (0, 1) and fig.layout.height == 200


def test_a_border_passes_all_its_levels_and_names_them_where_there_are_several():
    fig = style.figure()
    border(fig, ACROSS, UP, torch.zeros(3, 5))
    border(fig, ACROSS, UP, torch.zeros(3, 5), at=(0.1, 0.5, 0.9))
    one, three = (line.contours for line in fig.data)
    assert (one.start, one.end, one.showlabels) == (0.5, 0.5, False)
    assert (three.start, three.end, three.size, three.showlabels) == (0.1, 0.9, 0.4, True)


def test_points_are_listed_in_the_legend_where_there_are_any_and_they_have_a_name():
    fig = style.figure()
    for points, name in ((torch.ones(2, 2), "a"), (torch.ones(0, 2), "b"), (torch.ones(2, 2), "")):
        scatter(fig, points, name=name, color=style.RED, size=9)
    assert [trace.showlegend for trace in fig.data] == [True, False, False]
    assert fig.data[0].marker.size == 9 and fig.data[0].marker.line.color == style.PAPER
