"""One figure that keeps its place: a small component around plotly.js, in the page's theme.

`st.plotly_chart` mounts anew whenever its data change, which loses zoom and flickers; this one calls `Plotly.react` on
one mount. Where its script cannot be loaded it reports so, and `st.plotly_chart` takes over.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    import plotly.graph_objects as go

SCRIPT = Path(__file__).with_name("plot.js")


@st.cache_resource
def _component():  # type: ignore[no-untyped-def]
    # Not isolated: plotly puts its own style sheet into the document, out of a shadow root's reach.
    return st.components.v2.component(
        "kb.plot", html="<div class='kb-plot'></div>", js=SCRIPT.read_text(encoding="utf-8"), isolate_styles=False
    )


def plot(figure: "go.Figure", *, key: str, caption: str = "") -> None:
    """Draws a figure under a key that is unique on the page, with one line under it that says what to see."""
    height = int(figure.layout.height or 340)
    mounted = _component()(
        key=key, data={"figure": figure.to_json(), "height": height}, height=height, on_failed_change=lambda: None
    )
    if mounted.failed:
        st.plotly_chart(figure, key=f"{key}.fallback", config={"displayModeBar": False})
    if caption:
        st.caption(caption)
