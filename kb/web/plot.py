"""The pictures of a demo, which keep their place: one small component around plotly.js, in the page's theme.

`st.plotly_chart` mounts anew whenever its data change, which loses zoom and flickers; this one calls `Plotly.react` on
one mount. All pictures travel in one message, and the first is on the screen before the second is drawn. Where its
script cannot be loaded it reports so, and `st.plotly_chart` takes over.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from kb.web.server import PLOTLY_SCRIPT

if TYPE_CHECKING:
    import plotly.graph_objects as go

SCRIPT = Path(__file__).with_name("plot.js")


@st.cache_resource
def _component():  # type: ignore[no-untyped-def]
    html = f"<div class='kb-plots' data-script='{PLOTLY_SCRIPT}'></div>"
    # Not isolated: plotly puts its own style sheet into the document, out of a shadow root's reach.
    return st.components.v2.component("kb.plot", html=html, js=SCRIPT.read_text(encoding="utf-8"), isolate_styles=False)


def load_ahead() -> None:
    """Lets the browser load plotly.js while it is idle, for a demo that is likely to be opened next."""
    _component()(key="ahead", data=[], on_failed_change=lambda: None)


def plot(pictures: Mapping[str, "go.Figure"], *, key: str) -> None:
    """Draws figures by caption, the first over the full width, the others side by side, each over its caption.

    A figure has its layout's height; where `layout.meta.aspect` gives that of its picture, no more than this fills.
    """
    drawings = [
        {"caption": caption, "figure": figure.to_json(), "height": _height(figure)}
        for caption, figure in pictures.items()
    ]
    if _component()(key=key, data=drawings, on_failed_change=lambda: None).failed:
        for number, (caption, figure) in enumerate(pictures.items()):
            st.plotly_chart(figure, key=f"{key}.fallback.{number}", config={"displayModeBar": False})
            st.caption(caption)


def _height(figure: "go.Figure") -> str:
    height = f"{figure.layout.height or 340}px"
    if not figure.layout.meta:
        return height
    beside, above = (sum(figure.layout.margin[side] for side in sides) for sides in ("lr", "tb"))
    return f"min({height}, {figure.layout.meta['aspect']:.4f} * (100cqw - {beside}px) + {above}px)"
