"""The look of the figures: the reading room's palette, readable on paper-white and on deep grey, and without color.

The page lays its theme over text, grid and ground; a figure names only the colors of its data.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

if TYPE_CHECKING:
    from torch import Tensor

BLUE, ORANGE, GREEN, PURPLE, RED, GRAY = "#3f7cc4", "#d9822b", "#2f9e84", "#9468c4", "#cb4b5b", "#8b9099"
SEQUENCE = (BLUE, ORANGE, GREEN, PURPLE, RED, GRAY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
# For what is drawn over a surface or a photograph, whose colors no theme changes.
INK, PAPER = "#23262b", "#fbfaf6"

# Perceptually even (cividis), so that it survives color blindness and print.
SEQUENTIAL = "Cividis"
DIVERGING = [[0.0, "#2b6ca8"], [0.5, "#f4f1ea"], [1.0, "#c05a2b"]]

HEIGHT = 340


def figure(*, x: str = "", y: str = "", height: int = HEIGHT, log_x: bool = False, log_y: bool = False) -> go.Figure:
    """An empty figure with named axes (write the unit in the name) and the legend above the plot."""
    # All at once: plotly validates every update anew, which costs more than drawing.
    return go.Figure(
        layout={
            # Plotly's own look would be built, copied and sent with every figure, under the page's.
            "template": "none",
            "height": height,
            "margin": {"l": 56, "r": 16, "t": 36, "b": 48},
            "colorway": SEQUENCE,
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
            "hovermode": "closest",
            "uirevision": "keep",
            "bargap": 0.25,
            "xaxis": {"title": {"text": x}, "zeroline": False, **_scale(log_x)},
            "yaxis": {"title": {"text": y}, "zeroline": False, **_scale(log_y)},
        }
    )


def _scale(log: bool) -> dict[str, object]:
    # Labels at the powers of ten alone: plotly's 2 and 5 between them read as numbers of their own.
    return {"type": "log", "dtick": 1} if log else {"type": "linear"}


def lines(
    fig: go.Figure,
    x: Any,
    names: Iterable[str],
    curves: Iterable["Tensor"],
    *,
    colors: Sequence[str] = SEQUENCE,
    dashes: Sequence[str] = DASHES,
    widths: Sequence[float] = (),
    mode: str = "lines",
) -> go.Figure:
    """Adds a line for each of the curves (N,) over x (N,), told apart by color and dash; returns the same figure."""
    for place, (name, curve) in enumerate(zip(names, curves, strict=False)):
        line = {"color": colors[place], "dash": dashes[place]} | ({"width": widths[place]} if widths else {})
        fig.add_scatter(x=x, y=curve.numpy(), mode=mode, name=name, line=line)
    return fig


def band(fig: go.Figure, x: "Tensor", low: "Tensor", high: "Tensor", *, color: str, name: str = "") -> go.Figure:
    """Shades what lies between two curves (N,) over x (N,), named in the legend if at all; returns the figure."""
    fig.add_scatter(
        x=[*x.tolist(), *x.flip(0).tolist()],
        y=[*high.tolist(), *low.flip(0).tolist()],
        fill="toself",
        fillcolor=color,
        opacity=0.2,
        mode="none",
        hoverinfo="skip",
        name=name,
        showlegend=bool(name),
    )
    return fig


def here(fig: go.Figure, x: float, name: str) -> go.Figure:
    """Marks where a knob stands on the x axis, with its name on top; returns the same figure."""
    line = {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": RED, "width": 1.5}}
    # add_shape and add_annotation look through every axis first, which costs more than all the rest of a figure.
    fig.layout.shapes += (line,)
    # plotly places an annotation on a log axis by the logarithm, a line by the value.
    at = math.log10(x) if fig.layout.xaxis.type == "log" else x
    word = {"x": at, "y": 1, "yref": "paper", "text": name, "xanchor": "left", "yanchor": "top", "xshift": 4}
    fig.layout.annotations += ({**word, "showarrow": False},)
    return fig


def decades(fig: go.Figure, low: float, high: float) -> go.Figure:
    """Lets the log y axis run over whole decades around two positive values, with few labels; returns the figure."""
    first, last = math.floor(math.log10(low) - 0.1), math.ceil(math.log10(high) + 0.1)
    fig.update_yaxes(range=[first, last], dtick=max(1, (last - first) // 5), exponentformat="power")
    return fig


def image_panel(fig: go.Figure, *, size: tuple[float, float] | None = None, below: int = 8) -> go.Figure:
    """Makes axes fit for a picture: square pixels, first row on top, no ticks, little margin; returns the figure.

    Where its `size` across and down is given, the figure is no higher than it fills (`layout.meta.aspect`).
    """
    fig.update_xaxes(visible=False, constrain="domain")
    fig.update_yaxes(visible=False, constrain="domain", autorange="reversed", scaleanchor="x")
    aspect = {"meta": {"aspect": size[1] / size[0]}} if size else {}
    fig.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": below}, **aspect)
    return fig


def equal_aspect(fig: go.Figure, x: Sequence[float], y: Sequence[float], **both: object) -> go.Figure:
    """Makes axes fit for a plane: from end to end of x and of y, on one scale; `both` axes take what else is given."""
    fig.update_xaxes(range=[float(x[0]), float(x[-1])], constrain="domain", **both)
    fig.update_yaxes(range=[float(y[0]), float(y[-1])], constrain="domain", scaleanchor="x", **both)
    return fig
