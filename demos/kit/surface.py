"""Decision surfaces: what a classifier says of every point of a plane, its borders, and the points it learned."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import style


def plane(across: Tensor, up: Tensor) -> Tensor:
    """The points (U, A, 2), as (x, y), of a grid of x (A,) and y (U,)."""
    return torch.stack(torch.meshgrid(across, up, indexing="xy"), -1)


def surface(
    across: Tensor,
    up: Tensor,
    values: Tensor,
    *,
    span: tuple[float, float] = (0.0, 1.0),
    height: int = 380,
    **heatmap: object,
) -> go.Figure:
    """Values (U, A) over the plane, blue at one end of their span, orange at the other and pale between."""
    fig = style.figure(height=height)
    fig.add_heatmap(
        x=across.numpy(),
        y=up.numpy(),
        z=values.numpy(),
        zmin=span[0],
        zmax=span[1],
        zsmooth="best",
        colorscale=style.DIVERGING,
        **({"showscale": False, "hoverinfo": "skip"} | heatmap),
    )
    return style.equal_aspect(fig, across.tolist(), up.tolist())


def border(
    fig: go.Figure,
    across: Tensor,
    up: Tensor,
    values: Tensor,
    *,
    at: Sequence[float] = (0.5,),
    width: float = 1.5,
    dash: str = "solid",
) -> go.Figure:
    """Draws where values (U, A) pass the levels `at`, evenly apart, each named where there are several."""
    levels = {"start": at[0], "end": at[-1], "size": at[1] - at[0] if len(at) > 1 else 1, "showlabels": len(at) > 1}
    fig.add_contour(
        x=across.numpy(),
        y=up.numpy(),
        z=values.numpy(),
        contours={**levels, "coloring": "none"},
        line={"color": style.INK, "width": width, "dash": dash},
        showscale=False,
        showlegend=False,
        hoverinfo="skip",
    )
    return fig


def scatter(fig: go.Figure, points: Tensor, *, name: str = "", edge: str = style.PAPER, **marker: object) -> go.Figure:
    """Draws points (N, 2) with an edge that sets them off the surface; the legend lists them where they have a name."""
    x, y = points.T.numpy()
    look = {"size": 6, "line": {"color": edge, "width": 1}} | marker
    listed = bool(name) and len(points) > 0
    fig.add_scatter(x=x, y=y, mode="markers", name=name, showlegend=listed, marker=look, hoverinfo="skip")
    return fig
