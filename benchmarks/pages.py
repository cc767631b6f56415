"""How long from a key press to the painted answer, beside a bare Streamlit page in the same run.

`python -m benchmarks.pages [DEMO ...] [--presses N] [--soak N]` starts the app and a bare page, presses the arrow key
on the first slider of each in headless Chromium, and prints the median and the 95th percentile in milliseconds, and the
ratio to the bare page. With --soak it then moves the first slider N times and prints the server's memory, which must
stay flat: Streamlit's collection after every run is off.
Absolute times are noise on a shared machine; the ratio is what counts.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.web.running import browsing, serving

BARE = """
import streamlit as st

@st.fragment
def part():
    st.markdown(f"now {st.slider('x', 0, 1000, 500)}")

part()
"""
# Resolves at the first animation frame after one of the watched texts or drawings has changed.
CHANGE = """
([selector, attribute]) => {
    const text = element => attribute ? element.getAttribute(attribute) : element.textContent;
    const read = () => Array.from(document.querySelectorAll(selector), text).join();
    const before = read();
    window.pressed = performance.now();
    window.changed = new Promise((resolve, reject) => {
        const look = () => {
            if (read() !== before) resolve(performance.now());
            else if (performance.now() - window.pressed > 20_000) reject(new Error("the page does not answer"));
            else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
    });
}
"""


def presses(page: Page, count: int, selector: str, attribute: str | None) -> list[float]:
    """Milliseconds from each key press on the page's first slider to the painted change of what is watched."""
    slider = page.locator("input[type=range]").first
    slider.focus()
    times = []
    for i in range(count + 5):
        page.evaluate(CHANGE, [selector, attribute])
        slider.press("ArrowRight" if i % 2 else "ArrowLeft")
        times.append(page.evaluate("window.changed.then(painted => painted - window.pressed)"))
        page.wait_for_timeout(150)
    return times[5:]


def typing(page: Page, count: int) -> list[float]:
    """Milliseconds from each letter typed into the search box to the painted change of the number of cards."""
    box = page.get_by_label("Search the library")
    times = []
    for i in range(count):
        box.fill("")
        page.wait_for_timeout(600)
        page.evaluate(CHANGE, [".st-key-results", None])
        box.press_sequentially("sbcmg"[i % 5])
        times.append(page.evaluate("window.changed.then(painted => painted - window.pressed)"))
    return times


def soak(page: Page, moves: int, pid: int) -> None:
    """Moves the page's first slider to and fro, and prints the server's resident memory ten times on the way."""
    slider = page.locator("input[type=range]").first
    for i in range(moves):
        slider.press("ArrowRight" if (i // 20) % 2 else "ArrowLeft")
        page.wait_for_timeout(60)
        if (i + 1) % max(moves // 10, 1) == 0:
            print(f"{i + 1:>6} moves: {_resident(pid)} MiB")


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def row(name: str, times: list[float], bare: float | None = None) -> str:
    """One line of the table."""
    median, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    return f"{name:<44}{median:>8.0f}{high:>8.0f}" + (f"{median / bare:>9.2f}" if bare else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demos", nargs="*", default=["softmax_temperature"], metavar="DEMO")
    parser.add_argument("--presses", type=int, default=30)
    parser.add_argument("--soak", type=int, default=0)
    arguments = parser.parse_args()
    count = arguments.presses
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        script = Path(folder) / "bare.py"
        script.write_text(BARE, encoding="utf-8")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        print(f"{'key press to painted':<44}{'p50 ms':>8}{'p95 ms':>8}{'ratio':>9}")
        with serving(script=script) as server:
            page.goto(server.url)
            page.wait_for_selector("input[type=range]")
            page.wait_for_timeout(1000)
            times = presses(page, count, "[data-testid=stMarkdown]", None)
            bare = statistics.median(times)
            print(row("a bare page: slider to text", times))
        with serving() as server:
            for demo in arguments.demos:
                page.goto(f"{server.url}/demo?id={demo}")
                page.wait_for_selector(".kb-plot[data-drawn]", timeout=60_000)
                page.wait_for_timeout(3000)
                times = presses(page, count, ".kb-plot", "data-drawn")
                print(row(f"{demo}: slider to first figure", times, bare))
            soak(page, arguments.soak, server.pid)
            page.goto(server.url)
            page.wait_for_selector("[class*=st-key-tile-]")
            page.wait_for_timeout(1000)
            print(row("library: letter to results", typing(page, count), bare))


if __name__ == "__main__":
    main()
