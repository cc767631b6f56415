"""Takes the pictures of docs/ in headless Chromium: one small one of each demo for the gallery, and the README's.

`python docs/pictures.py [DEMO|pages ...]`; without names, every demo and the pages. Run it after a figure has changed.
"""

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import plotly.io as pio
from playwright.sync_api import Page, sync_playwright

from demos import kit
from demos.kit import style

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
PORT = 8599
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
    kb = [sys.executable, "-m", "kb.cli"]
    subprocess.run([*kb, "verify", "--unmeasured"], cwd=ROOT, stdout=subprocess.DEVNULL)
    serve = [*kb, "serve", "--no-measure", "--port", str(PORT)]
    app = subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://localhost:{PORT}/_stcore/health")
        page.set_viewport_size({"width": 1280, "height": 860})
        for name, path in PAGES.items():
            page.goto(f"http://localhost:{PORT}{path}")
            page.wait_for_timeout(6000)
            page.screenshot(path=PICTURES / f"page_{name}.png")
            print(f"took docs/pictures/page_{name}.png")
    finally:
        app.terminate()


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{url} did not answer")


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page()
        for name in sys.argv[1:] or [*kit.catalog(), "pages"]:
            if name == "pages":
                pages(tab)
            else:
                thumbnail(tab, name)
        browser.close()
