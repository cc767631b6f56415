"""Pictures in figures: photographs side by side or in rows, boxes drawn over them, and feature maps as a mosaic."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from demos.kit import style

# style.ORANGE as a pixel: no gray map shows it.
DROPPED = (0.851, 0.510, 0.169)


def pictures(
    images: Sequence[Tensor], *, names: Sequence[str] = (), columns: int | None = None, height: int = 300
) -> go.Figure:
    """Pictures (C, H, W) in [0, 1] of one size, in rows of `columns` (all in one row), each with its name below.

    A pixel of the first is at x = its column and y = its row.
    """
    rows, width = images[0].shape[-2:]
    columns = columns or len(images)
    # Room between rows for a line of text, which takes more of a picture the smaller that is drawn.
    across, down = 1.05 * width, rows + (max(0.22 * rows, 0.065 * columns * width) if names else 0.05 * rows)
    fig = style.figure(height=height)
    for number, image in enumerate(images):
        left, top = number % columns * across, number // columns * down
        pixels = (255 * image.expand(3, -1, -1).permute(1, 2, 0)).round().byte().numpy()
        name = names[number] if names else ""
        fig.add_image(z=pixels, x0=left, y0=top, name=name.replace("<br>", ", "), hoverinfo="name" if name else "skip")
    if names:
        # Not annotations: plotly makes room for those when it draws again, and the pictures would shrink.
        places = [(number % columns * across, number // columns * down) for number in range(len(names))]
        x, y = zip(*((left + (width - 1) / 2, top + 1.02 * rows - 0.5) for left, top in places), strict=True)
        text = {"text": names, "textposition": "bottom center", "mode": "text", "cliponaxis": False}
        fig.add_scatter(x=x, y=y, **text, hoverinfo="skip", showlegend=False)
    size = ((columns - 1) * across + width, (len(images) - 1) // columns * down + (1.02 if names else 1) * rows)
    return style.image_panel(fig, size=size, below=28 if names else 8)


def mosaic(maps: Tensor, kept: Tensor | None = None) -> Tensor:
    """Feature maps (C, H, W) in [0, 1], two in a row, as one gray picture (3, H', W'); orange where not kept (C, H, W).

    Their square root is shown, clipped at 1: most features are faint.
    """
    gray = maps.clamp(0, 1).sqrt()[:, None].expand(-1, 3, -1, -1)
    if kept is not None:
        gray = torch.where(kept[:, None], gray, torch.tensor(DROPPED)[:, None, None])
    count, _, height, width = gray.shape
    gap = max(1, height // 24)
    rows = -(-count // 2)
    # A gap of mid gray shows on a light page and on a dark one.
    picture = torch.full((3, rows * (height + gap) - gap, 2 * width + gap), 0.55)
    for number, tile in enumerate(gray):
        top, left = number // 2 * (height + gap), number % 2 * (width + gap)
        picture[:, top : top + height, left : left + width] = tile
    return picture


def outline(
    fig: go.Figure,
    left: float,
    top: float,
    right: float,
    bottom: float,
    *,
    color: str,
    name: str = "",
    dash: str = "solid",
) -> go.Figure:
    """Draws around the pixels from `left` to just before `right`, `top` to just before `bottom`; returns the figure.

    The legend, above the picture, lists it where it has a name.
    """
    x, y = [left - 0.5, right - 0.5, right - 0.5, left - 0.5, left - 0.5], [top - 0.5] * 2 + [bottom - 0.5] * 2
    around = {"x": x, "y": [*y, top - 0.5], "mode": "lines", "hoverinfo": "skip"}
    # On paper, so that it shows on any photograph.
    fig.add_scatter(**around, line={"color": style.PAPER, "width": 5}, showlegend=False)
    fig.add_scatter(**around, line={"color": color, "width": 2.5, "dash": dash}, name=name, showlegend=bool(name))
    fig.update_layout(margin={"t": 36})
    return fig
