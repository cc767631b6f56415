"""Takes the pictures of docs/ in headless Chromium: one small one of each demo for the gallery, and the README's.

`python -m docs.pictures [DEMO|pages ...]`; without names, every demo and the pages. Run it after a figure has changed.
"""

import subprocess
import sys
from pathlib import Path

import plotly.io as pio
from playwright.sync_api import Page

from demos import kit
from demos.kit import style
from tests.web.running import browsing, serving

PICTURES = Path(__file__).parent / "pictures"
THUMBNAIL = {"width": 440, "height": 300}
PAGES = {
    "library": "/",
    "demo": "/demo?id=softmax_temperature&temperature=2",
    "card": "/card?id=knowledge_distillation",
    "claims": "/claims",
}


def thumbnail(page: Page, slug: str) -> None:
    """The demo's first figure at its defaults, fully trained, without words."""
    demo = kit.load(slug)
    params = demo.params()
    figure = next(iter(demo.figures(params, demo.result(params)).values()))
    figure.update_layout(**THUMBNAIL, showlegend=False, margin={"l": 12, "r": 12, "t": 12, "b": 12}, template="none")
    # Transparent, with gray axes: one picture for light and dark.
    figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", annotations=[])
    bare = {"title": None, "showticklabels": False, "ticks": "", "showgrid": False, "linecolor": style.GRAY}
    figure.update_xaxes(**bare)
    figure.update_yaxes(**bare)
    page.set_viewport_size(THUMBNAIL)
    figure.update_layout(font={"color": style.GRAY})
    drawing = pio.to_html(figure, include_plotlyjs=True, full_html=False)
    page.set_content(f"<body style='margin:0;background:transparent'>{drawing}</body>")
    page.wait_for_selector(".main-svg")
    page.wait_for_timeout(300)
    page.screenshot(path=PICTURES / f"{slug}.png", omit_background=True)
    print(f"took docs/pictures/{slug}.png")


def pages(page: Page) -> None:
    """The README's pictures, from the running app with every claim measured."""
    subprocess.run([sys.executable, "-m", "kb.cli", "verify", "--unmeasured"], stdout=subprocess.DEVNULL)
    with serving() as server:
        page.set_viewport_size({"width": 1280, "height": 860})
        for name, path in PAGES.items():
            page.goto(f"{server.url}{path}")
            page.wait_for_timeout(6000)
            page.screenshot(path=PICTURES / f"page_{name}.png")
            print(f"took docs/pictures/page_{name}.png")


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    with browsing() as browser:
        tab = browser.new_page()
        for name in sys.argv[1:] or [*kit.catalog(), "pages"]:
            if name == "pages":
                pages(tab)
            else:
                thumbnail(tab, name)
